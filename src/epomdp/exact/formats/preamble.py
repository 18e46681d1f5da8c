"""What stands in a `.pomdp` file before its entries: discount, values, the names, the start."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from epomdp.errors import BadInput
from epomdp.exact.formats.files import Source, suggestion
from epomdp.exact.formats.numbers import NEARLY, NO_NUMBER, parse_numbers
from epomdp.exact.formats.tokens import ACTION, OBSERVATION, STATE, Names, words_before_entries
from epomdp.exact.memory import require_memory

_KINDS = {"states": STATE, "actions": ACTION, "observations": OBSERVATION}
_STARTS = ("start", "start include", "start exclude")
_SECTIONS = ("discount", "values", *_KINDS, *_STARTS)
KIND_NAMES = ("state", "action", "observation")
# How far off one the numbers of a row may be together: files round theirs to a few decimals.
TOLERANCE = 1e-4
# Indices are 32 bits wide, and every size is checked against memory besides.
_LARGEST = (1 << 31) - 1


@dataclass
class Section:
    """A section: where its name stands, and (n, 2) start and end of the words after its colon."""

    name: str
    offset: int
    words: NDArray[np.int64]


@dataclass
class Preamble:
    """The declarations of a `.pomdp` file.

    Attributes:
        sizes: numbers of states, actions and observations.
        known: their names, as the scan of the entries takes them.
        names: the names of states, actions and observations; empty where a kind was given by its number.
        discount: in [0, 1).
        sign: 1 for rewards, -1 for costs.
        start: (S,) start distribution.
        entries: where the first entry begins.
    """

    sizes: tuple[int, int, int]
    known: Names
    names: list[tuple[str, ...]]
    discount: float
    sign: float
    start: NDArray[np.float64]
    entries: int


def read_preamble(source: Source) -> Preamble:
    """Read everything before the first T:, O: or R: entry."""
    text = np.frombuffer(source.data, np.uint8)
    sections, entries = _sections(source, words_before_entries(text))
    for name in ("discount", "values", *_KINDS):
        if name not in sections:
            raise source.error(entries, f"the line '{name}:' is missing; add it before the first entry")
    discount, sign = _discount(source, sections["discount"]), _sign(source, sections["values"])
    declared = [_declared(source, sections[name], kind) for name, kind in _KINDS.items()]
    S, A, O = (size for size, _ in declared)  # noqa: E741
    require_memory(
        32 * S * A + 16 * S + 16 * O, f"{source.path}: a model of {S} states, {A} actions", "make it smaller"
    )
    first = np.cumsum([0] + [len(spans) for _, spans in declared])
    known = Names(text, np.concatenate([spans for _, spans in declared]), first)
    if known.repeated >= 0:
        place = known.spans[known.repeated]
        raise source.error(place[0], f"'{source.word(*place)}' is named twice; give each a name of its own")
    names = [_decoded(source, spans) for _, spans in declared]
    start = _start(source, sections, S, known, names[STATE])
    return Preamble((S, A, O), known, names, discount, sign, start, entries)


def _sections(source: Source, words: NDArray[np.int64]) -> tuple[dict[str, Section], int]:
    """The sections by name, and where the entries begin."""
    sections: dict[str, Section] = {}
    colons = np.flatnonzero(words[:, 1] - words[:, 0] == 1)
    colons = [int(c) for c in colons if source.data[words[c, 0]] == 58]
    # The word before a colon opens a section, or the two before it do; what stands before that belongs to
    # the section before.
    begun = 0
    current: Section | None = None
    for colon in colons:
        if colon == begun:
            raise source.error(
                words[colon, 0], "a ':' with no name before it; write for example 'discount: 0.95'"
            )
        opens = colon - 1
        name = _text(source, words[opens])
        if name in ("include", "exclude") and opens > begun and _text(source, words[opens - 1]) == "start":
            opens, name = opens - 1, f"start {name}"
        if current is None and opens > begun:
            raise _unexpected(source, words[begun])
        if current is not None:
            current.words = words[begun:opens]
        if name in ("T", "O", "R"):
            return sections, int(words[opens, 0])
        if name not in _SECTIONS:
            raise _unexpected(source, words[opens])
        if name in sections:
            raise source.error(words[opens, 0], f"'{name}:' is given twice; leave one of them out")
        current = sections[name] = Section(name, int(words[opens, 0]), words[:0])
        begun = colon + 1
    if current is None:
        where = words[0, 0] if len(words) else 0
        raise source.error(where, "this is no .pomdp file: no section such as 'discount: 0.95' was found")
    current.words = words[begun:]
    return sections, len(source.data)


def _text(source: Source, span: NDArray[np.int64]) -> str:
    """A short word."""
    return source.data[span[0] : min(span[1], span[0] + 40)].decode(errors="replace")


def _unexpected(source: Source, span: NDArray[np.int64]) -> BadInput:
    known = [*_SECTIONS, "T", "O", "R"]
    mend = suggestion(_text(source, span), known, f"sections are {', '.join(known)}")
    return source.error(span[0], f"unknown section '{source.word(*span)}'; {mend}")


def _numbers(source: Source, words: NDArray[np.int64], what: str) -> NDArray[np.float64]:
    """The words as numbers."""
    values, how = np.empty(len(words)), np.empty(len(words), np.int8)
    parse_numbers(np.frombuffer(source.data, np.uint8), words, values, how)
    wrong = np.flatnonzero(how == NO_NUMBER)
    if len(wrong):
        span = words[wrong[0]]
        raise source.error(
            span[0], f"expected {what}, found '{source.word(*span)}'; write a number such as 0.5"
        )
    for i in np.flatnonzero(how == NEARLY):
        values[i] = float(source.data[slice(*words[i])])
    return values


def _only(source: Source, section: Section, what: str) -> NDArray[np.int64]:
    if len(section.words) != 1:
        place = section.words[1, 0] if len(section.words) else section.offset
        raise source.error(
            place,
            f"'{section.name}:' takes {what} and nothing else, found {len(section.words)} words; give one",
        )
    return section.words[0]


def _discount(source: Source, section: Section) -> float:
    span = _only(source, section, "one number")
    value = float(_numbers(source, section.words, "the discount")[0])
    if not 0.0 <= value < 1.0:
        raise source.error(
            span[0],
            f"the discount {value:g} is outside [0, 1); without discounting there is no bound to find",
        )
    return value


def _sign(source: Source, section: Section) -> float:
    span = _only(source, section, "'reward' or 'cost'")
    word = _text(source, span)
    if word not in ("reward", "cost"):
        raise source.error(span[0], f"unknown values '{source.word(*span)}'; write reward or cost")
    return 1.0 if word == "reward" else -1.0


def _declared(source: Source, section: Section, kind: int) -> tuple[int, NDArray[np.int64]]:
    """Number of one kind, and where its names stand."""
    words = section.words
    if not len(words):
        raise source.error(section.offset, f"'{section.name}:' is empty; give their number or their names")
    number = _whole(source, words[0])
    if len(words) == 1 and number >= 0:
        if not 1 <= number <= _LARGEST:
            shown = source.word(*words[0])
            raise source.error(words[0, 0], f"{shown} {section.name} are not possible; give 1 to {_LARGEST}")
        return number, words[:0]
    opening = np.frombuffer(source.data, np.uint8)[words[:, 0]]
    wrong = np.flatnonzero(np.isin(opening, np.frombuffer(b"0123456789+-.*", np.uint8)))
    if len(wrong):
        span = words[wrong[0]]
        raise source.error(
            span[0], f"'{source.word(*span)}' cannot name a {KIND_NAMES[kind]}; begin names with a letter"
        )
    return len(words), words


def _whole(source: Source, span: NDArray[np.int64]) -> int:
    """A word as a whole number, or -1."""
    word = source.data[slice(*span)]
    return int(word[:20]) if word.isdigit() else -1


def _decoded(source: Source, spans: NDArray[np.int64]) -> tuple[str, ...]:
    data = source.data
    try:
        return tuple([data[start:end].decode() for start, end in spans.tolist()])
    except UnicodeDecodeError as error:
        start = next(start for start, end in spans.tolist() if data[start:end] == error.object)
        raise source.error(start + error.start, "this is not UTF-8; save the file as UTF-8") from None


def _start(
    source: Source, sections: dict[str, Section], S: int, known: Names, names: tuple[str, ...]
) -> NDArray[np.float64]:
    """Start distribution from `start:`, `start include:` or `start exclude:`; uniform where there is none."""
    given = [sections[name] for name in _STARTS if name in sections]
    if not given:
        return np.full(S, 1.0 / S)
    section = given[-1]
    if len(given) > 1:
        raise source.error(section.offset, "the start is given twice; leave one of them out")
    if not len(section.words):
        raise source.error(section.offset, f"'{section.name}:' is empty; leave it out for a uniform start")
    if section.name == "start":
        return _belief(source, section, S, known, names)
    chosen = np.zeros(S, bool)
    for span in section.words:
        everywhere = source.data[slice(*span)] == b"*"
        chosen[slice(None) if everywhere else _state(source, span, S, known, names)] = True
    if section.name == "start exclude":
        chosen = ~chosen
    if not chosen.any():
        raise source.error(section.offset, "every state is excluded from the start; leave one to start in")
    return chosen / chosen.sum()


def _belief(
    source: Source, section: Section, S: int, known: Names, names: tuple[str, ...]
) -> NDArray[np.float64]:
    """What follows `start:`: uniform, one state, or a probability for each state."""
    words = section.words
    only = source.data[slice(*words[0])] if len(words) == 1 else b""
    if only == b"uniform":
        return np.full(S, 1.0 / S)
    # Of a single state, 1 is the probability and 0 the number.
    if only and (only[0] not in b"0123456789+-." or (only.isdigit() and (S > 1 or int(only) == 0))):
        belief = np.zeros(S)
        belief[_state(source, words[0], S, known, names)] = 1.0
        return belief
    if len(words) != S:
        raise source.error(
            words[-1, 0],
            f"'start:' takes {S} probabilities, one for each state, or one state, or uniform; found {len(words)}",
        )
    belief = _numbers(source, words, "a probability")
    outside = np.flatnonzero(~((belief >= 0.0) & (belief <= 1.0)))
    if len(outside):
        at = outside[0]
        raise source.error(words[at, 0], f"probability {belief[at]:g} is outside [0, 1]; correct it")
    if abs(belief.sum() - 1.0) > TOLERANCE:
        raise source.error(section.offset, f"the start probabilities sum to {belief.sum():.6g}; make it 1")
    return normalised(belief, belief.sum())


def normalised(values: NDArray[np.float64], total: NDArray[np.float64] | float) -> NDArray[np.float64]:
    """values / total, but the very values where they differ from it by rounding only."""
    return np.where(np.abs(total - 1.0) <= 1e-12, values, values / total)


def _state(source: Source, span: NDArray[np.int64], S: int, known: Names, names: tuple[str, ...]) -> int:
    number = _whole(source, span)
    if 0 <= number < S:
        return number
    if number >= 0:
        raise source.error(
            span[0], f"there is no state {source.word(*span)}; states are numbered from 0 to {S - 1}"
        )
    index = known.find(span[0], span[1], STATE)
    if index < 0:
        otherwise = "the names are those after 'states:'" if names else f"number it, 0 to {S - 1}"
        mend = suggestion(_text(source, span), names, otherwise)
        raise source.error(span[0], f"unknown state '{source.word(*span)}'; {mend}")
    return index
