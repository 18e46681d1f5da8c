"""Tables of entries with wildcards, against dense arrays filled entry by entry."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from epomdp.errors import BadInput
from epomdp.exact.formats.cells import Cells


@st.composite
def entries(draw):
    shape = draw(st.lists(st.integers(1, 4), min_size=2, max_size=4))
    cell = st.tuples(*(st.integers(-1, size - 1) for size in shape))
    index = draw(st.lists(cell, max_size=12))
    value = draw(st.lists(st.sampled_from([0.0, 0.5, 1.0, -3.0]), min_size=len(index), max_size=len(index)))
    return shape, np.array(index, np.int32).reshape(-1, len(shape)), np.array(value, float)


def filled(shape, index, value):
    dense = np.full(shape, np.nan)
    for cell, v in zip(index, value, strict=True):
        dense[tuple(slice(None) if i < 0 else i for i in cell)] = v
    return dense


@settings(deadline=None)
@given(entries())
def test_the_last_entry_that_covers_a_cell_counts(case):
    shape, index, value = case
    cells = Cells("a table", shape, index, value)
    dense = filled(*case)
    grid = [c.ravel() for c in np.indices(shape)]
    order, found = cells.look_up(grid)
    np.testing.assert_array_equal(order >= 0, ~np.isnan(dense.ravel()))
    np.testing.assert_array_equal(found, np.nan_to_num(dense.ravel()))


@settings(deadline=None)
@given(entries())
def test_rows_hold_the_cells_that_are_not_zero(case):
    shape, index, value = case
    rows = Cells("a table", shape, index, value).rows()
    dense = np.nan_to_num(filled(*case)).reshape(-1, shape[-1])
    made = np.zeros_like(dense)
    made[rows.row, rows.column] = rows.value
    np.testing.assert_array_equal(made, dense)
    assert (rows.value != 0).all()
    assert len(set(zip(rows.row.tolist(), rows.column.tolist(), strict=True))) == len(rows.row)
    np.testing.assert_allclose(rows.sums(), dense.sum(axis=1))
    np.testing.assert_array_equal(np.diff(rows.indptr()), (dense != 0).sum(axis=1))


@settings(deadline=None)
@given(entries())
def test_an_uncovered_row_is_one(case):
    shape, index, value = case
    row = Cells("a table", shape, index, value).uncovered_row()
    touched = ~np.isnan(filled(*case)).all(axis=-1)
    if row is not None:
        assert not touched[row]
    elif len(index) < np.prod(shape[:-1]) and not (index < 0).any():
        pytest.fail("fewer entries than rows, and no row is said to be uncovered")


def test_a_huge_table_with_few_entries_is_found_incomplete_at_no_cost():
    cells = Cells(
        "a table", (1 << 20, 1 << 20, 1 << 20), np.array([[0, 0, 0], [0, 1, 5]], np.int32), np.ones(2)
    )
    assert cells.uncovered_row() == (0, 2)


def test_a_table_too_large_to_number_is_refused():
    with pytest.raises(BadInput, match=r"the table: .* too many to number"):
        Cells("the table", (1 << 30, 1 << 30, 1 << 30), np.zeros((1, 3), np.int32), np.ones(1))


def test_a_table_too_large_for_memory_is_refused_before_it_is_made(monkeypatch):
    monkeypatch.setattr("epomdp.exact.memory.available_bytes", lambda: 1e6)
    cells = Cells("the table", (100, 100, 100), np.array([[-1, -1, -1]], np.int32), np.ones(1))
    with pytest.raises(BadInput, match=r"the table.*GB of memory"):
        cells.rows()
