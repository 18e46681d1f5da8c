"""Sparse tables given by entries with wildcards, of which the last one that covers a cell counts.

An entry is a row of indices, -1 for every index of that dimension, and a value. Entries are grouped by
pattern (which of their dimensions are open), so that a cell is looked up once in each pattern, and only
cells that can be different from zero are ever made: a table costs what it holds, not what it spans.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from epomdp.errors import BadInput
from epomdp.exact.memory import require_memory

Indices = NDArray[np.int64]
_MEND = "use a smaller model or a larger machine"
# Bytes that a cell costs on its way from entries to a matrix: keys, values, order, copies.
_BYTES_PER_CELL = 60


@dataclass
class Rows:
    """A sparse table by rows: all dimensions but the last form a row, as one running number.

    Attributes:
        row: (nnz,) running row numbers, ascending.
        column: (nnz,) index in the last dimension, ascending within a row.
        value: (nnz,) values, none of them zero.
        num_rows: number of rows.
        num_columns: size of the last dimension.
    """

    row: Indices
    column: Indices
    value: NDArray[np.float64]
    num_rows: int
    num_columns: int

    def indptr(self) -> Indices:
        """(num_rows + 1,) where each row starts."""
        ends = np.cumsum(np.bincount(self.row, minlength=self.num_rows))
        return np.concatenate(([0], ends))

    def sums(self) -> NDArray[np.float64]:
        """(num_rows,) sum of each row."""
        return np.bincount(self.row, self.value, self.num_rows).astype(np.float64)


@dataclass
class _Pattern:
    """The entries open in the same dimensions: distinct keys, ascending, and for each its last entry."""

    fixed: tuple[int, ...]
    keys: Indices
    order: Indices
    value: NDArray[np.float64]


class Cells:
    """Entries over a grid of the given shape, in the order in which they were written."""

    def __init__(
        self, what: str, shape: Sequence[int], index: NDArray[np.int32], value: NDArray[np.float64]
    ) -> None:
        """
        Args:
            what: names the table in errors.
            shape: sizes of the d dimensions.
            index: (n, d) indices within the shape, -1 for every index of a dimension.
            value: (n,) values; a later entry overrides the earlier ones.
        """
        self.what = what
        self.shape = tuple(shape)
        self.patterns: list[_Pattern] = []
        open_code = np.zeros(len(value), np.int8)
        for d in range(len(self.shape)):
            open_code |= (index[:, d] < 0).astype(np.int8) << d
        for code in np.flatnonzero(np.bincount(open_code)):
            fixed = tuple(d for d in range(len(self.shape)) if not code >> d & 1)
            order = np.flatnonzero(open_code == code)
            keys = self._keys(fixed, list(index.T if len(order) == len(index) else index[order].T))
            keys, order = _last_of_each(keys, order)
            self.patterns.append(_Pattern(fixed, keys, order, value[order]))

    def _keys(self, dimensions: Sequence[int], columns: Sequence[NDArray]) -> Indices:
        """Running number of each row of `columns`, over some of the dimensions."""
        total = 1
        for d in dimensions:
            total *= self.shape[d]
        if total >= 1 << 63:
            raise BadInput(f"{self.what}: {total:.3g} cells are too many to number; use a smaller model")
        keys = np.zeros(len(columns[0]), np.int64)
        for d in dimensions:
            keys = keys * self.shape[d] + columns[d]
        return keys

    def look_up(self, columns: Sequence[NDArray], dimensions: Sequence[int] | None = None):
        """Value of each cell and the position of the entry it comes from: (order, value); -1 and 0 where none.

        Args:
            columns: for each dimension (n,) indices; those of dimensions left out are not looked at.
            dimensions: only patterns closed in these dimensions alone count; all of them by default.
        """
        order, value = np.full(len(columns[0]), -1), np.zeros(len(columns[0]))
        for pattern in self.patterns:
            if dimensions is not None and not set(pattern.fixed) <= set(dimensions):
                continue
            keys = self._keys(pattern.fixed, columns)
            at = np.minimum(np.searchsorted(pattern.keys, keys), len(pattern.keys) - 1)
            later = (pattern.keys[at] == keys) & (pattern.order[at] > order)
            order[later], value[later] = pattern.order[at[later]], pattern.value[at[later]]
        return order, value

    def closed_in(self, dimension: int) -> bool:
        """Whether any entry tells the indices of this dimension apart."""
        return any(dimension in pattern.fixed for pattern in self.patterns)

    def uncovered_row(self) -> tuple[int, ...] | None:
        """A row (all dimensions but the last) that no entry covers, if the entries are too few for all rows.

        This finds out at little cost that a table much larger than its entries is not complete; None does
        not mean that it is.
        """
        rows = self.shape[:-1]
        spans = [_product([n for d, n in enumerate(rows) if d not in p.fixed]) for p in self.patterns]
        covered = sum(len(p.keys) * span for p, span in zip(self.patterns, spans, strict=True))
        if covered >= _product(rows):
            return None
        # Of more rows than the entries can cover, one is not covered: no need to look further than that.
        columns = np.unravel_index(np.arange(covered + 1), rows)
        missing = np.ones(covered + 1, bool)
        for pattern in self.patterns:
            fixed = [d for d in pattern.fixed if d < len(rows)]
            known = pattern.keys if len(fixed) == len(pattern.fixed) else pattern.keys // self.shape[-1]
            missing &= ~np.isin(self._keys(fixed, columns), known)
        first = np.argmax(missing)
        return tuple(int(column[first]) for column in columns)

    def rows(self) -> Rows:
        """All cells that are not zero."""
        shape, last = self.shape, len(self.shape) - 1
        num_rows, num_columns = _product(shape[:-1]), shape[-1]
        narrow = [pattern for pattern in self.patterns if last in pattern.fixed]
        wide = [pattern for pattern in self.patterns if last not in pattern.fixed]
        row_order = row_value = None
        dense = np.zeros(0, np.int64)
        if wide:
            require_memory(_BYTES_PER_CELL * num_rows, self.what, _MEND)
            columns = np.unravel_index(np.arange(num_rows), shape[:-1])
            row_order, row_value = self.look_up(columns, range(last))
            dense = np.flatnonzero(row_value)
        spans = [_product([size for d, size in enumerate(shape) if d not in p.fixed]) for p in narrow]
        count = sum(len(p.keys) * span for p, span in zip(narrow, spans, strict=True))
        require_memory(_BYTES_PER_CELL * (count + len(dense) * num_columns + num_rows), self.what, _MEND)
        keys, orders, values = [], [], []
        if len(dense) and row_order is not None and row_value is not None:
            keys.append((dense[:, None] * num_columns + np.arange(num_columns)).ravel())
            orders.append(np.repeat(row_order[dense], num_columns))
            values.append(np.repeat(row_value[dense], num_columns))
        for pattern, span in zip(narrow, spans, strict=True):
            keys.append(self._spread(pattern, span))
            orders.append(np.repeat(pattern.order, span))
            values.append(np.repeat(pattern.value, span))
        if not keys:
            empty = np.zeros(0, np.int64)
            return Rows(empty, empty, np.zeros(0), num_rows, num_columns)
        key, order, value = (
            np.concatenate(parts) if len(parts) > 1 else parts[0] for parts in (keys, orders, values)
        )
        if row_order is not None:
            valid = order >= row_order[key // num_columns]
            key, order, value = key[valid], order[valid], value[valid]
        key, value = _latest(key, order, value)
        return Rows(key // num_columns, key % num_columns, value, num_rows, num_columns)

    def _spread(self, pattern: _Pattern, span: int) -> Indices:
        """Cell numbers of every cell that the pattern's entries cover, entry by entry."""
        if span == 1:
            return pattern.keys
        columns: list[NDArray] = [np.zeros(0)] * len(self.shape)
        rest = np.repeat(pattern.keys, span)
        for d in reversed(pattern.fixed):
            rest, columns[d] = np.divmod(rest, self.shape[d])
        free = np.tile(np.arange(span), len(pattern.keys))
        for d in range(len(self.shape) - 1, -1, -1):
            if d not in pattern.fixed:
                free, columns[d] = np.divmod(free, self.shape[d])
        return self._keys(range(len(self.shape)), columns)


def _product(sizes: Sequence[int]) -> int:
    """Product in Python integers, which do not overflow."""
    total = 1
    for size in sizes:
        total *= int(size)
    return total


def _last_of_each(keys: Indices, order: Indices) -> tuple[Indices, Indices]:
    """Distinct keys, ascending, and for each the position of its last entry."""
    if np.all(keys[1:] > keys[:-1]):
        return keys, order
    by_key = np.argsort(keys, kind="stable")
    keys = keys[by_key]
    last = np.append(keys[1:] != keys[:-1], True)
    return keys[last], order[by_key[last]]


def _latest(key: Indices, order: Indices, value: NDArray[np.float64]) -> tuple[Indices, NDArray[np.float64]]:
    """Cells by ascending key, each with its latest value, those that are zero left out."""
    if not np.all(key[1:] > key[:-1]):
        by_key = np.lexsort((order, key))
        key, value = key[by_key], value[by_key]
        last = np.append(key[1:] != key[:-1], True)
        key, value = key[last], value[last]
    kept = value != 0.0
    return (key, value) if kept.all() else (key[kept], value[kept])
