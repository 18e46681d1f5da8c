"""Cassandra's `.pomdp` files: the whole grammar read, and POMDPs written.

Source: A. R. Cassandra, "POMDP file format" and "POMDP file grammar", pomdp.org.
"""

from __future__ import annotations

import os
from collections.abc import Iterator

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

from epomdp.errors import BadInput
from epomdp.exact.formats import numbers, scan
from epomdp.exact.formats.cells import Cells, Rows
from epomdp.exact.formats.files import Source, replacing, suggestion
from epomdp.exact.formats.preamble import KIND_NAMES, TOLERANCE, Preamble, normalised, read_preamble
from epomdp.exact.formats.rewards import Depth, expected_rewards
from epomdp.exact.formats.scan import ACTION, DIAGONAL, OBSERVATION, RESET, STATE, Chunk, Failure
from epomdp.exact.memory import require_memory
from epomdp.exact.pomdp import Pomdp

_LETTERS = "TOR"
_MEND = "use a smaller model or a larger machine"


def read(path: str | os.PathLike[str]) -> Pomdp:
    """Read a `.pomdp` file.

    All of the grammar is understood: names or numbers, wildcards, single entries, rows and matrices,
    `uniform`, `identity` and `reset`, `start include` and `start exclude`, costs. Of two entries for a cell
    the later one counts. R(a, s, s', o) becomes its expectation R(s, a). Rows that sum to one within 1e-4
    are normalised. A file without a start begins in any state with equal probability.

    Raises:
        BadInput: the file cannot be read; the message names line and column, what is wrong, and the mend.
    """
    source = Source(path)
    preamble = read_preamble(source)
    transitions, observations, rewards = _entries(source, preamble)
    T = _matrices(source, preamble, scan.T, transitions)
    O = _matrices(source, preamble, scan.O, observations)  # noqa: E741
    S, A = preamble.sizes[STATE], preamble.sizes[ACTION]
    shape = (A, S, S, preamble.sizes[OBSERVATION])
    cells = Cells(f"{source.path}: R", shape, *rewards)
    depth = Depth(cells.closed_in(2), cells.closed_in(3))
    reward = preamble.sign * expected_rewards(lambda *at: cells.look_up(at)[1], depth, T, O)
    return Pomdp(T, O, reward + 0.0, preamble.start, preamble.discount, *_ordered(preamble.names))


def _ordered(names: list[tuple[str, ...]]) -> tuple[tuple[str, ...], ...]:
    return names[STATE], names[ACTION], names[OBSERVATION]


Records = tuple[NDArray[np.int32], NDArray[np.float64]]


def _entries(source: Source, preamble: Preamble) -> tuple[Records, Records, Records]:
    """The records of T, O and R: for each function (n, 3 or 4) indices and (n,) values, in file order."""
    parts: list[list[Records]] = [[], [], []]
    # A record takes about three bytes for each byte that the shortest entry has in the file.
    require_memory(6 * (len(source.data) - preamble.entries), f"{source.path}: reading its entries", _MEND)
    for chunk in scan.chunks(source.data, preamble.entries, np.array(preamble.sizes), preamble.known):
        if isinstance(chunk, Failure):
            raise _failed(source, preamble, chunk)
        functions = chunk.functions[: chunk.size]
        for function, records in enumerate(parts):
            mine = np.flatnonzero(functions == function)
            if len(mine):
                records.append((chunk.indices[mine, : len(scan.POSITIONS[function])], chunk.values[mine]))
    joint = []
    for function, records in enumerate(parts):
        width = len(scan.POSITIONS[function])
        index = np.concatenate([r[0] for r in records] or [np.zeros((0, width), np.int32)])
        joint.append(
            _spelled_out(source, preamble, index, np.concatenate([r[1] for r in records] or [np.zeros(0)]))
        )
        records.clear()
    return joint[0], joint[1], joint[2]


def _spelled_out(source: Source, preamble: Preamble, index: NDArray, value: NDArray) -> Records:
    """The records with `identity` and `reset` written as the single entries that they stand for."""
    marked = np.flatnonzero(index[:, 2] < scan.EVERY)
    if not len(marked):
        return index, value
    S, support = preamble.sizes[STATE], np.flatnonzero(preamble.start)
    counts = np.ones(len(index), np.int64)
    counts[marked] = np.where(index[marked, 2] == DIAGONAL, S, len(support))
    require_memory(
        60 * int(counts.sum()), f"{source.path}: writing out its identity and reset entries", _MEND
    )
    marks = index[:, 2].repeat(counts)
    index, value = index.repeat(counts, axis=0), value.repeat(counts)
    within = np.arange(len(index)) - np.repeat(np.cumsum(counts) - counts, counts)
    diagonal, reset = marks == DIAGONAL, marks == RESET
    index[diagonal, 1] = index[diagonal, 2] = within[diagonal]
    index[reset, 2] = support[within[reset]]
    value[reset] = preamble.start[index[reset, 2]]
    return index, value


def _matrices(
    source: Source, preamble: Preamble, function: int, records: Records
) -> tuple[sp.csr_array, ...]:
    """The A matrices of T or O, their rows checked and normalised."""
    A, S = preamble.sizes[ACTION], preamble.sizes[STATE]
    columns = preamble.sizes[scan.POSITIONS[function][2]]
    cells = Cells(f"{source.path}: {_LETTERS[function]}", (A, S, columns), *records)
    missing = cells.uncovered_row()
    if missing is not None:
        raise _row_error(source, preamble, function, missing, 0.0, records)
    rows = cells.rows()
    sums = rows.sums()
    wrong = np.flatnonzero(~(np.abs(sums - 1.0) <= TOLERANCE))
    if len(wrong):
        row = divmod(int(wrong[0]), S)
        raise _row_error(source, preamble, function, row, float(sums[wrong[0]]), records)
    rows.value = normalised(rows.value, sums[rows.row])
    return split_by_action(rows, A)


def split_by_action(rows: Rows, A: int) -> tuple[sp.csr_array, ...]:
    """The matrix of each action, from a table whose running rows are (action, state)."""
    S, indptr = rows.num_rows // A, rows.indptr()
    column = rows.column.astype(np.int32)
    result = []
    for a in range(A):
        ends = indptr[a * S : (a + 1) * S + 1]
        block = slice(ends[0], ends[-1])
        matrix = sp.csr_array((rows.value[block], column[block], ends - ends[0]), shape=(S, rows.num_columns))
        matrix.has_sorted_indices = matrix.has_canonical_format = True
        result.append(matrix)
    return tuple(result)


def _named(preamble: Preamble, kind: int, index: int) -> str:
    names = preamble.names[kind]
    return f"{KIND_NAMES[kind]} '{names[index]}'" if names else f"{KIND_NAMES[kind]} {index}"


def _row_error(
    source: Source, preamble: Preamble, function: int, row: tuple[int, ...], total: float, records: Records
) -> BadInput:
    """The error for a row (action, state) that does not sum to one, placed at the last entry about it."""
    letter = _LETTERS[function]
    where = f"{_named(preamble, ACTION, row[0])} in {_named(preamble, STATE, row[1])}"
    index = records[0]
    about = np.all([(index[:, d] == row[d]) | (index[:, d] < 0) for d in range(2)], axis=0)
    if not about.any():
        return source.error(
            len(source.data),
            f"no {letter}: entry covers {where}; add '{letter}: ...' for it, or the file is cut off",
        )
    place = _place(source, preamble, function, int(np.flatnonzero(about)[-1]), len(index))
    return source.error(place, f"the {letter}: probabilities of {where} sum to {total:.6g}; make it 1")


def _place(source: Source, preamble: Preamble, function: int, position: int, total: int) -> int:
    """Where in the file the record at `position` among those of `function` was read, by reading it again."""
    seen = 0
    for chunk in scan.chunks(source.data, preamble.entries, np.array(preamble.sizes), preamble.known):
        assert isinstance(chunk, Chunk)
        for i in np.flatnonzero(chunk.functions[: chunk.size] == function):
            weight = _weight(preamble, int(chunk.indices[i, 2])) if function != scan.R else 1
            if seen <= position < seen + weight:
                return int(chunk.places[i, 0])
            seen += weight
    raise AssertionError(f"record {position} of {total} is not there")


def _weight(preamble: Preamble, mark: int) -> int:
    """How many single entries a record was written out as."""
    if mark == DIAGONAL:
        return preamble.sizes[STATE]
    return int(np.count_nonzero(preamble.start)) if mark == RESET else 1


def _failed(source: Source, preamble: Preamble, failure: Failure) -> BadInput:
    """The error for a scan that stopped."""
    shown, letter = source.word(failure.start, failure.end), _LETTERS[failure.function]
    kind, ended = KIND_NAMES[failure.kind], failure.start >= len(source.data)
    found = "the file ends" if ended else f"found '{shown}'"
    match failure.code:
        case scan.NOT_AN_ENTRY:
            mend = _mend_entry(failure, shown)
            what = f"expected an entry 'T:', 'O:' or 'R:', found '{shown}'; {mend}"
        case scan.NO_COLON:
            what = f"expected ':' after '{letter}', {found}; write for example '{letter}: * : * ...'"
        case scan.NO_INDEX:
            what = f"expected a name, a number or * for the {kind}, {found}; complete the '{letter}:' entry"
        case scan.UNKNOWN:
            what = f"unknown {kind} '{shown}'; {_mend_name(preamble, failure.kind, shown)}"
        case scan.OUT_OF_RANGE:
            last = preamble.sizes[failure.kind] - 1
            what = f"there is no {kind} {shown}; {kind}s are numbered from 0 to {last}"
        case scan.NOT_A_NUMBER:
            which = f"{failure.done + 1} of the {failure.count} of this '{letter}:' entry"
            mend = "the file is cut off here" if ended else f"give the entry {failure.count} in all"
            what = f"expected a number ({which}), {found}; {mend}"
        case scan.TOO_LARGE:
            what = f"the number {shown} is too large; write one below 1.8e308"
        case scan.NO_PROBABILITY:
            what = f"probability {shown} is outside [0, 1]; correct it"
        case scan.NO_WHOLE_MATRIX:
            what = "'R: action' takes a start state at least; write 'R: action : *' for every one"
        case _:
            what = f"'{shown}' cannot stand here; {_allowed_keywords(failure)}"
    return source.error(failure.start, what)


def _mend_entry(failure: Failure, shown: str) -> str:
    if failure.count and shown[:1] in "+-.0123456789":
        return f"the entry before takes {failure.count} number{'s' * (failure.count != 1)} only"
    if shown in ("states", "actions", "observations", "discount", "values", "start"):
        return f"move '{shown}:' before the first entry"
    return "check the spelling"


def _mend_name(preamble: Preamble, kind: int, shown: str) -> str:
    names = preamble.names[kind]
    if not names:
        return f"the {KIND_NAMES[kind]}s have no names; number them from 0 to {preamble.sizes[kind] - 1}"
    return suggestion(shown, names, f"the names are those after '{KIND_NAMES[kind]}s:'")


def _allowed_keywords(failure: Failure) -> str:
    if failure.function == scan.R:
        return "rewards are given as numbers"
    if failure.function == scan.O:
        return "observations may be 'uniform' or numbers"
    return "'identity' stands for the whole matrix of an action only"


def write(pomdp: Pomdp, path: str | os.PathLike[str]) -> None:
    """Write a `.pomdp` file that `read` turns into the same POMDP, to the bit.

    Names are written where the grammar allows all of a kind (unique, beginning with a letter, without
    blanks, ':', '*' or '#'); otherwise that kind is numbered. An existing file is replaced as a whole.

    Raises:
        BadInput: the target cannot be written.
        RunFailed: writing failed on the way, as on a full disk.
    """
    with replacing(path) as out:
        for block in _text(pomdp):
            out.write(block)


def _text(pomdp: Pomdp) -> Iterator[bytes | memoryview]:
    yield f"discount: {pomdp.discount!r}\nvalues: reward\n".encode()
    for section, names, size in (
        ("states", pomdp.states, pomdp.num_states),
        ("actions", pomdp.actions, pomdp.num_actions),
        ("observations", pomdp.observation_names, pomdp.num_observations),
    ):
        yield f"{section}: {' '.join(names) if _writable(names) else size}\n".encode()
    yield f"start: {numbers.joined(pomdp.initial)}\n\n".encode()
    for a, matrix in enumerate(pomdp.transitions):
        yield from _single_entries(f"T: {a} : ", matrix)
    first = pomdp.observations[0]
    same = all(matrix is first or _equal(matrix, first) for matrix in pomdp.observations)
    for a, matrix in enumerate(pomdp.observations[:1] if same else pomdp.observations):
        yield from _single_entries(f"O: {'*' if same else a} : ", matrix)
    states, actions = np.nonzero(pomdp.rewards)
    yield from numbers.lines(
        ("R: ", " : ", " : * : * ", "\n"),
        (actions, states),
        np.asarray(pomdp.rewards[states, actions], np.float64),
    )


def _single_entries(head: str, matrix: sp.csr_array) -> Iterator[memoryview]:
    rows = np.repeat(np.arange(len(matrix.indptr) - 1), np.diff(matrix.indptr))
    return numbers.lines(
        (head, " : ", " ", "\n"), (rows, matrix.indices), np.asarray(matrix.data, np.float64)
    )


def _equal(a: sp.csr_array, b: sp.csr_array) -> bool:
    parts = ((a.indptr, b.indptr), (a.indices, b.indices), (a.data, b.data))
    return all(np.array_equal(x, y) for x, y in parts)


def _writable(names: tuple[str, ...]) -> bool:
    """Whether these names can stand in a file."""
    fit = all(
        name and name[0] not in "0123456789+-." and not set(name) & set(" \t\n\r\f\v\0:#*") for name in names
    )
    return bool(names) and fit and len(set(names)) == len(names)
