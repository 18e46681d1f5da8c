"""The words of a `.pomdp` file, and its names: what the preamble and the entries share."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from epomdp.exact.compiled import compiled

# The kinds of names.
STATE, ACTION, OBSERVATION = 0, 1, 2

_CLASS = np.zeros(256, np.uint8)
WORD, SPACE, COLON, STAR, COMMENT, END = range(6)
_CLASS[[9, 10, 11, 12, 13, 32]] = SPACE
_CLASS[ord(":")], _CLASS[ord("*")], _CLASS[ord("#")] = COLON, STAR, COMMENT


@compiled
def token_at(text, at):
    """Class, start and end of the token at or after `at`; blanks and comments are skipped."""
    n = len(text)
    while at < n:
        kind = _CLASS[text[at]]
        if kind == COMMENT:
            while at < n and text[at] != 10 and text[at] != 13:
                at += 1
        elif kind == SPACE:
            at += 1
        elif kind == WORD:
            start = at
            while at < n and _CLASS[text[at]] == WORD:
                at += 1
            return WORD, start, at
        else:
            return kind, at, at + 1
    return END, n, n


@compiled
def same(text, start, end, other):
    """Whether text[start:end] spells `other`."""
    if end - start != len(other):
        return False
    for i in range(len(other)):  # noqa: SIM110 - compiled, where generators are slow
        if text[start + i] != other[i]:
            return False
    return True


@compiled
def _hash(text, start, end, kind):
    """A hash of a name and its kind (FNV-1a)."""
    h = np.uint64(14695981039346656037) ^ np.uint64(kind)
    for i in range(start, end):
        h = (h ^ np.uint64(text[i])) * np.uint64(1099511628211)
    return h ^ (h >> np.uint64(29))


@compiled
def find(text, start, end, kind, known):
    """Index of the name text[start:end] among its kind, or -1 and the slot where it would go: (index, slot)."""
    names, spans, slots, first = known
    mask = np.uint64(len(slots) - 1)
    slot = _hash(text, start, end, kind) & mask
    while slots[slot] >= 0:
        name = slots[slot]
        of_kind = first[kind] <= name < first[kind + 1]
        if of_kind and same(text, start, end, names[spans[name, 0] : spans[name, 1]]):
            return name - first[kind], slot
        slot = (slot + np.uint64(1)) & mask
    return -1, slot


@compiled
def _enter(known):
    """Fill the hash table with all names; the position of a name that its kind has already, or -1."""
    names, spans, slots, first = known
    for kind in range(len(first) - 1):
        for name in range(first[kind], first[kind + 1]):
            index, slot = find(names, spans[name, 0], spans[name, 1], kind, known)
            if index >= 0:
                return name
            slots[slot] = name
    return -1


@compiled
def _words(text, spans):
    """Number of words up to the ':' of the first T:, O: or R:, written to `spans` as far as there is room."""
    n, at, letter = 0, 0, False
    while True:
        token, start, end = token_at(text, at)
        if token == END:
            return n
        if n < len(spans):
            spans[n, 0], spans[n, 1] = start, end
        n, at = n + 1, end
        if token == COLON and letter:
            return n
        letter = end - start == 1 and (text[start] == 84 or text[start] == 79 or text[start] == 82)


def words_before_entries(text: NDArray[np.uint8]) -> NDArray[np.int64]:
    """(n, 2) start and end of each word (':' and '*' are words too) up to and with the first entry's ':'."""
    spans = np.empty((_words(text, np.empty((0, 2), np.int64)), 2), np.int64)
    _words(text, spans)
    return spans


@dataclass
class Names:
    """Names of several kinds of things, to be found by their bytes; a kind may have none.

    Attributes:
        text: what the names stand in.
        spans: (N, 2) start and end of each name there, kind by kind.
        first: (kinds + 1,) where each kind starts in `spans`.
        repeated: the position in `spans` of a name that its kind has already, or -1.
    """

    text: NDArray[np.uint8]
    spans: NDArray[np.int64]
    first: NDArray[np.int64]
    repeated: int = field(init=False)
    _slots: NDArray[np.int64] = field(init=False)

    def __post_init__(self) -> None:
        self._slots = np.full(1 << int(2 * len(self.spans) + 1).bit_length(), -1, np.int64)
        self.repeated = _enter(self.known)

    @property
    def known(self) -> tuple:
        """What `find` takes."""
        return self.text, self.spans, self._slots, self.first

    def find(self, start: int, end: int, kind: int) -> int:
        """Index of the name text[start:end] among its kind, or -1."""
        return find(self.text, start, end, kind, self.known)[0]
