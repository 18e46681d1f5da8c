"""The entries of a `.pomdpx` parameter table as records with wildcards.

An instance names a value of each variable, or `*` for all of them alike, or `-` for each in turn: the table
then holds a number for every combination of those, the last `-` fastest. `identity` is for two `-` of one
size, `uniform` for a `-` of the variable itself.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from epomdp.exact.compiled import compiled
from epomdp.exact.formats.markup import Document, Table
from epomdp.exact.formats.numbers import NEARLY, NO_NUMBER, parse_number
from epomdp.exact.formats.tokens import Names, find, same
from epomdp.exact.memory import require_memory

_FINE, _SHORT, _LONG, _UNKNOWN, _KEYWORD, _NOT_A_NUMBER, _TOO_FEW, _TOO_MANY, _RANGE = range(9)
_EACH = -2
_IDENTITY, _UNIFORM = (np.frombuffer(word, np.uint8) for word in (b"identity", b"uniform"))
_WIDEST = 32


@compiled
def _word(text, at, end):
    """Start and end of the next word before `end`; both are `end` if there is none."""
    while at < end and (text[at] == 32 or 9 <= text[at] <= 13):
        at += 1
    start = at
    while at < end and not (text[at] == 32 or 9 <= text[at] <= 13):
        at += 1
    return start, at


@compiled
def _instance(text, at, end, kinds, known, cell, mark):
    """Read an instance into `cell`; a code, and in `mark` the word that it is about."""
    for j in range(len(kinds)):
        start, at = _word(text, at, end)
        mark[0], mark[1], mark[2] = start, at, j
        if start == end:
            return _SHORT
        if at - start == 1 and (text[start] == 42 or text[start] == 45):
            cell[j] = -1 if text[start] == 42 else _EACH
            continue
        cell[j] = find(text, start, at, kinds[j], known)[0]
        if cell[j] < 0:
            return _UNKNOWN
    mark[0], mark[1] = _word(text, at, end)
    return _FINE if mark[0] == end else _LONG


@compiled
def _room(text, spans, last):
    """An upper bound on the number of records of a table whose last variable has `last` values."""
    room = 0
    for i in range(len(spans)):
        start, end = _word(text, spans[i, 2], spans[i, 3])
        room += 2 + (last if same(text, start, end, _IDENTITY) else (spans[i, 3] - spans[i, 2]) // 2)
    return room


@compiled
def _put(records, n, cell, value, how, start, end):
    index, values, hows, places = records
    for j in range(len(cell)):
        index[n, j] = max(cell[j], -1)
    values[n], hows[n], places[n, 0], places[n, 1] = value, how, start, end
    return n + 1


@compiled
def _numbers(text, at, end, cell, sizes, probable, records, n, mark):
    """Write the numbers of one entry: (records so far, a code)."""
    each = np.flatnonzero(cell == _EACH)
    count = 1
    for j in each:
        count *= sizes[j]
    if len(each):
        n = _put(records, n, cell, 0.0, 0, at, at)
    for k in range(count):
        start, at = _word(text, at, end)
        mark[0], mark[1], mark[2] = start, at, k
        if start == end:
            return n, _TOO_FEW
        value, how = parse_number(text, start, at)
        if how == NO_NUMBER:
            return n, _NOT_A_NUMBER
        if probable and not 0.0 <= value <= 1.0:
            return n, _RANGE
        if len(each) and value == 0.0 and how != NEARLY:
            continue
        rest = k
        for j in each[::-1]:
            cell[j] = rest % sizes[j]
            rest //= sizes[j]
        n = _put(records, n, cell, value, how, start, at)
    mark[0], mark[1] = _word(text, at, end)
    return n, _FINE if mark[0] == end else _TOO_MANY


@compiled
def _keyword(text, start, end, cell, sizes, records, n):
    """Write the entry `identity` or `uniform`: (records so far, a code)."""
    each = np.flatnonzero(cell == _EACH)
    last = len(cell) - 1
    if len(each) == 0 or each[-1] != last:
        return n, _KEYWORD
    if same(text, start, end, _UNIFORM):
        return _put(records, n, cell, 1.0 / sizes[last], 0, start, end), _FINE
    if len(each) != 2 or sizes[each[0]] != sizes[last]:
        return n, _KEYWORD
    n = _put(records, n, cell, 0.0, 0, start, end)
    for i in range(sizes[last]):
        cell[each[0]] = cell[last] = i
        n = _put(records, n, cell, 1.0, 0, start, end)
    return n, _FINE


@compiled
def _read(text, spans, kinds, sizes, known, probable, records, mark):
    """Read all entries: (records, a code, the entry it is about)."""
    n = 0
    cell = np.empty(len(kinds), np.int64)
    for i in range(len(spans)):
        code = _instance(text, spans[i, 0], spans[i, 1], kinds, known, cell, mark)
        if code != _FINE:
            return n, code, i
        start, end = _word(text, spans[i, 2], spans[i, 3])
        if probable and (same(text, start, end, _IDENTITY) or same(text, start, end, _UNIFORM)):
            n, code = _keyword(text, start, end, cell, sizes, records, n)
            mark[0], mark[1] = start, end
            rest = _word(text, end, spans[i, 3])[0]
            code = _TOO_MANY if code == _FINE and rest != spans[i, 3] else code
        else:
            n, code = _numbers(text, spans[i, 2], spans[i, 3], cell, sizes, probable, records, n, mark)
        if code != _FINE:
            return n, code, i
    return n, _FINE, -1


def read_table(
    document: Document,
    table: Table,
    variables: list[str],
    kinds: list[int],
    sizes: list[int],
    known: Names,
    probable: bool,
) -> tuple[NDArray[np.int32], NDArray[np.float64]]:
    """Records of a table: (n, d) indices, -1 for every value of a variable, and (n,) values.

    Args:
        document: for errors.
        table: its entries.
        variables: the d variables of an instance, for errors.
        kinds: for each of them its kind in `known`.
        sizes: for each of them its number of values.
        known: the values' names.
        probable: whether the numbers are probabilities.
    """
    room = int(_room(table.text, table.spans, sizes[-1]))
    require_memory(
        (4 * len(kinds) + 30) * room, f"{document.source.path}: reading a table", "use a smaller model"
    )
    index, value = np.empty((room, len(kinds)), np.int32), np.empty(room)
    how, places = np.empty(room, np.int8), np.empty((room, 2), np.int64)
    records = (index, value, how, places)
    mark = np.zeros(3, np.int64)
    n, code, entry = _read(
        table.text, table.spans, np.array(kinds), np.array(sizes), known.known, probable, records, mark
    )
    if code != _FINE:
        shown = _shown(table, mark)
        what = _complaint(code, shown, int(mark[2]), variables, sizes)
        raise document.entry_error(table, int(entry), int(mark[0]), what)
    for i in np.flatnonzero(how[:n] == NEARLY):
        digits = float(table.text[slice(*places[i])].tobytes())
        value[i] = math.copysign(digits, value[i])
        if math.isinf(digits):
            entry = np.searchsorted(table.spans[:, 2], places[i, 0], side="right") - 1
            what = f"the number {_shown(table, places[i])} is too large; write one below 1.8e308"
            raise document.entry_error(table, int(entry), int(places[i, 0]), what)
    return index[:n], value[:n]


def _shown(table: Table, mark: NDArray[np.int64]) -> str:
    return table.text[mark[0] : min(mark[1], mark[0] + 40)].tobytes().decode(errors="replace")


def _complaint(code: int, shown: str, position: int, variables: list[str], sizes: list[int]) -> str:
    """What is wrong with an entry, and the mend."""
    wanted = " ".join(variables)
    if code in (_SHORT, _LONG):
        many = "too few" if code == _SHORT else "too many"
        return f"the instance has {many} values; give one, * or - for each of: {wanted}"
    if code == _UNKNOWN:
        return f"unknown value '{shown}' of {variables[position]}; use one of its values, * or -"
    if code == _KEYWORD:
        mend = f"uniform needs - for {variables[-1]}, identity one more - of its size"
        return f"'{shown}' does not fit the instance; {mend}"
    if code == _NOT_A_NUMBER:
        return f"expected a number, found '{shown}'; write a number such as 0.5"
    if code == _RANGE:
        return f"probability {shown} is outside [0, 1]; correct it"
    few = "too few" if code == _TOO_FEW else "too many"
    return f"the table has {few} numbers; give one for each combination of the values at -"
