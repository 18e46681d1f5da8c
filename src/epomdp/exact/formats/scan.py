"""The entries of a `.pomdp` file as records: one pass over the bytes, in machine code.

A record says "cell (a, x, y, z) is v", where -1 stands for every index. Every form of Cassandra's grammar
becomes records in file order, of which the last one that covers a cell counts:

    T: a : x : y p        (a, x, y) = p
    T: a : x  p0 p1 ..    (a, x, *) = 0, then (a, x, j) = pj for each pj that is not zero
    T: a  matrix          (a, *, *) = 0, then (a, i, j) = p for each p that is not zero
    .. uniform            (.., *) = 1 / size
    T: a identity         (a, *, *) = 0, then (a, *, DIAGONAL) = 1
    .. reset              (.., *) = 0, then (.., RESET) = 1

and the same for O with (a, x, o) and R with (a, x, y, o).
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from epomdp.exact.compiled import compiled
from epomdp.exact.formats.numbers import NEARLY, NO_NUMBER, parse_number
from epomdp.exact.formats.tokens import (
    ACTION,
    COLON,
    END,
    OBSERVATION,
    STAR,
    STATE,
    WORD,
    Names,
    find,
    same,
    token_at,
)

EVERY, DIAGONAL, RESET = -1, -2, -3
# The functions of a file.
T, O, R = 0, 1, 2  # noqa: E741
# What each position of an entry names.
POSITIONS = ((ACTION, STATE, STATE), (ACTION, STATE, OBSERVATION), (ACTION, STATE, STATE, OBSERVATION))
_POSITIONS = np.array([[1, 0, 0, 0], [1, 0, 2, 0], [1, 0, 0, 2]])
_DEPTHS = np.array([3, 3, 4])

# How a scan ended.
FULL, DONE = 0, 1
NOT_AN_ENTRY, NO_COLON, NO_INDEX, UNKNOWN, OUT_OF_RANGE, NOT_A_NUMBER, TOO_LARGE, NO_PROBABILITY = range(
    2, 10
)
NO_WHOLE_MATRIX, NO_KEYWORD = 10, 11

# Fields of the scan's state. MARK and MARK_END hold the token that an error is about.
_AT, _FUNCTION, _COUNT, _DONE, _COLUMNS, _DEPTH, _MARK, _MARK_END, _KIND, _ENTRY = range(10)
_INDEX = 10  # and the three after it

_UNIFORM, _IDENTITY, _RESET = (np.frombuffer(w, np.uint8) for w in (b"uniform", b"identity", b"reset"))
_CHUNK = 1 << 18


@compiled
def _index(text, state, kind, sizes, known):
    """Read one index (a number, a name or *) into `state`; 0, or the code of what is wrong."""
    token, start, end = token_at(text, state[_AT])
    state[_MARK], state[_MARK_END], state[_KIND] = start, end, kind
    if token != WORD and token != STAR:
        return NO_INDEX
    index = -1
    if token == WORD and 48 <= text[start] <= 57:
        index = 0
        for i in range(start, end):
            if not 48 <= text[i] <= 57:
                return UNKNOWN
            index = min(index * 10 + (text[i] - 48), 1 << 40)
        if index >= sizes[kind]:
            return OUT_OF_RANGE
    elif token == WORD:
        index = find(text, start, end, kind, known)[0]
        if index < 0:
            return UNKNOWN
    state[_INDEX + state[_DEPTH]] = index
    state[_DEPTH] += 1
    state[_AT] = end
    return 0


@compiled
def _header(text, state, sizes, known):
    """Read an entry up to its numbers: function and indices into `state`; 0, or how the scan ends."""
    token, start, end = token_at(text, state[_AT])
    state[_MARK], state[_MARK_END] = start, end
    if token == END:
        return DONE
    letter = text[start] if end - start == 1 else 0
    if letter == 84:
        function = T
    elif letter == 79:
        function = O
    elif letter == 82:
        function = R
    else:
        return NOT_AN_ENTRY
    state[_ENTRY], state[_FUNCTION], state[_DEPTH], state[_AT] = start, function, 0, end
    state[_INDEX : _INDEX + 4] = EVERY
    token, start, end = token_at(text, end)
    if token != COLON:
        state[_MARK], state[_MARK_END] = start, end
        return NO_COLON
    while token == COLON and state[_DEPTH] < _DEPTHS[function]:
        state[_AT] = end
        code = _index(text, state, _POSITIONS[function, state[_DEPTH]], sizes, known)
        if code != 0:
            return code
        token, start, end = token_at(text, state[_AT])
    state[_MARK], state[_MARK_END] = start, end
    return NO_WHOLE_MATRIX if function == R and state[_DEPTH] == 1 else 0


@compiled
def _number(text, state):
    """Read one number, its sign perhaps apart: (value, how it was read, code)."""
    token, start, end = token_at(text, state[_AT])
    state[_MARK], state[_MARK_END] = start, end
    if token != WORD:
        return 0.0, NO_NUMBER, NOT_A_NUMBER
    sign = 1.0
    if end - start == 1 and (text[start] == 43 or text[start] == 45):
        sign = -1.0 if text[start] == 45 else 1.0
        token, start, end = token_at(text, end)
    value, how = parse_number(text, start, end)
    value *= sign
    if how == NO_NUMBER:
        return 0.0, how, NOT_A_NUMBER
    state[_MARK], state[_MARK_END], state[_AT] = start, end, end
    if state[_FUNCTION] != R and not 0.0 <= value <= 1.0:
        return value, how, NO_PROBABILITY
    return value, how, 0


@compiled
def _put(records, n, state, y, value):
    """Write the record of the current entry whose last given index is `y`, and everything after it open."""
    functions, indices, values, places, how = records
    functions[n] = state[_FUNCTION]
    for j in range(4):
        indices[n, j] = state[_INDEX + j]
    if state[_DEPTH] < _DEPTHS[state[_FUNCTION]]:
        indices[n, _DEPTHS[state[_FUNCTION]] - 1] = y
    values[n], how[n] = value, 0
    places[n, 0], places[n, 1] = state[_MARK], state[_MARK_END]


@compiled
def _begin(text, state, sizes, records, n):
    """Start the numbers of an entry whose header was read: (records written so far, 0 or an error code)."""
    function, depth = state[_FUNCTION], state[_DEPTH]
    last = _DEPTHS[function] - 1
    state[_COUNT], state[_DONE], state[_COLUMNS] = 1, 0, 1
    if depth > last:
        return n, 0
    columns = sizes[_POSITIONS[function, last]]
    start, end = state[_MARK], state[_MARK_END]
    uniform = same(text, start, end, _UNIFORM)
    identity, reset = same(text, start, end, _IDENTITY), same(text, start, end, _RESET)
    if uniform or identity or reset:
        state[_COUNT], state[_AT] = 0, end
        if function == R or (reset and function == O) or (identity and (function == O or depth > 1)):
            return n, NO_KEYWORD
        _put(records, n, state, EVERY, 1.0 / columns if uniform else 0.0)
        if not uniform:
            _put(records, n + 1, state, DIAGONAL if identity else RESET, 1.0)
        return n + (1 if uniform else 2), 0
    state[_COLUMNS], state[_COUNT] = columns, columns
    if depth < last:
        state[_COUNT] *= sizes[_POSITIONS[function, last - 1]]
    _put(records, n, state, EVERY, 0.0)
    return n + 1, 0


@compiled
def _scan(text, state, sizes, known, records):
    """Fill `records` from where `state` stands: (number written, FULL, DONE or an error code)."""
    n, room = 0, len(records[0]) - 2
    while n < room:
        if state[_DONE] == state[_COUNT]:
            code = _header(text, state, sizes, known)
            if code != 0:
                return n, code
            n, code = _begin(text, state, sizes, records, n)
            if code != 0:
                return n, code
            continue
        value, how, code = _number(text, state)
        if code != 0:
            return n, code
        done, depth, last = state[_DONE], state[_DEPTH], _DEPTHS[state[_FUNCTION]] - 1
        if value != 0.0 or how == NEARLY or depth > last:
            if depth < last:
                state[_INDEX + last - 1] = done // state[_COLUMNS]
            _put(records, n, state, done % state[_COLUMNS], value)
            records[4][n] = how
            n += 1
        state[_DONE] = done + 1
    return n, FULL


@dataclass
class Failure:
    """Where and why a scan stopped: the code, the token, and the entry it is in."""

    code: int
    start: int
    end: int
    kind: int
    function: int
    depth: int
    entry: int
    done: int
    count: int


class Chunk:
    """Up to `_CHUNK` records: functions (n,), indices (n, 4), values (n,), places (n, 2) in the text."""

    def __init__(self) -> None:
        self.functions = np.empty(_CHUNK, np.int8)
        self.indices = np.empty((_CHUNK, 4), np.int32)
        self.values = np.empty(_CHUNK)
        self.places = np.empty((_CHUNK, 2), np.int64)
        self.how = np.empty(_CHUNK, np.int8)
        self.size = 0

    @property
    def records(self) -> tuple:
        """The arrays, as the kernels take them."""
        return self.functions, self.indices, self.values, self.places, self.how


def chunks(data: bytes, start: int, sizes: NDArray[np.int64], names: Names) -> Iterator[Chunk | Failure]:
    """Yield the records of data[start:] a chunk at a time (the same object, filled anew); an error comes last.

    Args:
        data: the file.
        start: where the first entry begins.
        sizes: (3,) numbers of states, actions and observations.
        names: their names in `data`.
    """
    state = np.zeros(14, np.int64)
    state[_AT] = start
    chunk, code = Chunk(), FULL
    while code == FULL:
        n, code = _scan(names.text, state, sizes, names.known, chunk.records)
        chunk.size = n
        for i in np.flatnonzero(chunk.how[:n] == NEARLY):
            # The sign may stand apart from the digits; the scan has it right.
            digits = float(data[slice(*chunk.places[i])])
            chunk.values[i] = math.copysign(digits, chunk.values[i])
            if math.isinf(digits):
                state[_MARK], state[_MARK_END], code = *chunk.places[i], TOO_LARGE
                break
        yield chunk
    if code != DONE:
        fields = (_MARK, _MARK_END, _KIND, _FUNCTION, _DEPTH, _ENTRY, _DONE, _COUNT)
        yield Failure(int(code), *(int(state[f]) for f in fields))
