"""What a family must be: each fault is one line with the array, the index, what is there, and the mend."""

from __future__ import annotations

import math
import operator
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from epomdp.errors import BadInput

if TYPE_CHECKING:
    from epomdp.exact.family import Family

# Single-precision probabilities are welcome: sums this close to one are scaled, others refused.
SUM_TOLERANCE = 1e-6
# Sums closer than this are left as they are, so that a saved family loads to the same bits.
_EXACT = 1e-12
_BLOCK_ROWS = 2**20
# Values are known to a relative 1e-16 / (1 - discount); nearer to 1 no digit of them would be right.
_NEAREST = 1e-13
# Larger returns leave no room for their squares.
_LARGEST = 1e150


def as_floats(name: str, value: Any) -> NDArray[np.float64]:
    """The value as a C-contiguous float64 array; refuses what does not hold real numbers."""
    try:
        array = np.asarray(value)
    except ValueError:
        raise BadInput(f"{name}: rows have different lengths; give a rectangular array") from None
    if array.dtype.kind not in "biuf":
        raise BadInput(f"{name}: holds {array.dtype} values; give real numbers")
    return np.ascontiguousarray(array, dtype=np.float64).reshape(array.shape)


def as_integers(name: str, value: Any, dtype: type[np.integer]) -> NDArray[Any]:
    """The value as a C-contiguous array of the integer type; refuses fractions and what does not fit."""
    array = np.asarray(value)
    if array.dtype.kind not in "iu":
        raise BadInput(f"{name}: holds {array.dtype} values; give integers")
    limits = np.iinfo(dtype)
    if array.size and (array.min() < 0 or array.max() > limits.max):
        place = int(np.flatnonzero((array.ravel() < 0) | (array.ravel() > limits.max))[0])
        raise BadInput(
            f"{name}: entry {place} is {array.ravel()[place]}; give integers from 0 to {limits.max}"
        )
    return np.ascontiguousarray(array, dtype=dtype)


def as_discount(value: Any) -> float:
    """The discount as a float, finite or not; its range is judged together with the horizon."""
    array = np.asarray(value)
    if array.shape != () or array.dtype.kind not in "iuf":
        raise BadInput(f"discount: is {short(value)}; give one number in [0, 1)")
    return float(array)


def as_horizon(value: Any) -> int | None:
    """The horizon as a positive int, or None."""
    if value is None:
        return None
    try:
        horizon = operator.index(value)
    except TypeError:
        horizon = 0
    if horizon < 1 or isinstance(value, (bool, np.bool_)):
        raise BadInput(f"horizon: is {short(value)}; give a number of steps, an integer of at least 1")
    return horizon


def as_distribution(name: str, what: str, values: NDArray[np.float64]) -> NDArray[np.float64]:
    """The values, scaled to sum to one exactly where they nearly do."""
    wrong = np.flatnonzero(~(np.isfinite(values) & (values >= 0)))
    if wrong.size:
        raise BadInput(f"{name}: {what} {wrong[0]} has {values[wrong[0]]}; give probabilities of at least 0")
    with np.errstate(over="ignore"):
        total = float(values.sum())
    if total == 0.0:
        mend = "no start state has a probability" if name == "initial" else "they are all zero"
        raise BadInput(f"{name}: {mend}; give probabilities that sum to 1")
    if not abs(total - 1.0) <= SUM_TOLERANCE:
        raise BadInput(f"{name}: sum to {total:.9g}; divide by the sum so that they sum to 1")
    return values if abs(total - 1.0) <= _EXACT else values / total


def check_dense_shapes(transitions: NDArray[np.float64], rewards: NDArray[np.float64]) -> None:
    """Transitions (M, S, A, S) that go with rewards (M, S, A)."""
    shape = transitions.shape
    if len(shape) != 4 or shape[1] != shape[3]:
        raise BadInput(f"transitions: have shape {shape}; give (environments, states, actions, states)")
    if rewards.shape != shape[:3]:
        raise BadInput(f"rewards: have shape {rewards.shape}; transitions {shape} need {shape[:3]}")


def check_sparse_shapes(family: Family) -> None:
    """The parts fit each other, and row starts rise from 0 to the number of entries."""
    rewards = family.rewards
    if rewards.ndim != 3 or 0 in rewards.shape:
        raise BadInput(
            f"rewards: have shape {rewards.shape}; give (environments, states, actions), none of them 0"
        )
    M, S, _ = rewards.shape
    entries = family.successors.shape
    wanted = [
        ("initial", family.initial.shape, (S,)),
        ("weights", family.weights.shape, (M,)),
        ("transitions_indptr", family.indptr.shape, (rewards.size + 1,)),
        ("transitions_probabilities", family.probabilities.shape, entries if len(entries) == 1 else (-1,)),
    ]
    for name, shape, right in wanted:
        if shape != right:
            raise BadInput(f"{name}: has shape {shape}; rewards {rewards.shape} and the rest need {right}")
    ends = (int(family.indptr[0]), int(family.indptr[-1]))
    if ends != (0, entries[0]):
        raise BadInput(
            f"transitions_indptr: runs from {ends[0]} to {ends[1]}; it must run from 0 to {entries[0]}"
        )
    falling = np.flatnonzero(np.diff(family.indptr) < 0)
    if falling.size:
        raise BadInput(
            f"transitions_indptr: falls after {_where(family, int(falling[0]))}; row starts must rise"
        )


def check_numbers(family: Family) -> None:
    """Successors are states; probabilities are finite and not negative; rewards are finite."""
    for part in _blocks(family.successors.size):
        bad = (family.successors[part] < 0) | (family.successors[part] >= family.num_states)
        if bad.any():
            k = part.start + int(np.flatnonzero(bad)[0])
            raise BadInput(
                f"transitions: {_where_entry(family, k)} leads to state {family.successors[k]}; "
                f"states are 0 to {family.num_states - 1}"
            )
        values = family.probabilities[part]
        bad = ~(np.isfinite(values) & (values >= 0))
        if bad.any():
            k = part.start + int(np.flatnonzero(bad)[0])
            raise BadInput(
                f"transitions: {_where_entry(family, k)} leads to state {family.successors[k]} with probability "
                f"{family.probabilities[k]}; give probabilities of at least 0"
            )
    if not np.isfinite(family.rewards).all():
        row = int(np.flatnonzero(~np.isfinite(family.rewards))[0])
        raise BadInput(
            f"rewards: {_where(family, row)} has {family.rewards.ravel()[row]}; give finite numbers"
        )


def check_rows(family: Family) -> None:
    """Every row sums to one within the tolerance."""
    empty = np.flatnonzero(np.diff(family.indptr) == 0)
    if empty.size:
        raise BadInput(
            f"transitions: {_where(family, int(empty[0]))} sums to 0; make the row sum to 1 "
            f"(a state that ends the episode leads to itself)"
        )
    for rows, sums in _row_sums(family):
        bad = np.flatnonzero(np.abs(sums - 1.0) > SUM_TOLERANCE)
        if bad.size:
            where = _where(family, rows.start + int(bad[0]))
            raise BadInput(f"transitions: {where} sums to {sums[bad[0]]:.9g}; make the row sum to 1")


def scaled_rows(family: Family) -> NDArray[np.float64]:
    """The probabilities with every row that is off by more than rounding divided by its sum."""
    scaled = family.probabilities
    for rows, sums in _row_sums(family):
        off = np.flatnonzero(np.abs(sums - 1.0) > _EXACT)
        if off.size == 0:
            continue
        if scaled is family.probabilities:
            scaled = scaled.copy()
        divisor = np.ones(sums.size)
        divisor[off] = sums[off]
        lengths = np.diff(family.indptr[rows.start : rows.stop + 1])
        scaled[family.indptr[rows.start] : family.indptr[rows.stop]] /= np.repeat(divisor, lengths)
    return scaled


def check_discount(family: Family) -> None:
    """In [0, 1); or 1 with a horizon, or where every environment surely ends."""
    discount = check_range(family.discount)
    check_returns(family.rewards, discount, family.horizon)
    if discount < 1.0 or family.horizon is not None:
        return
    # Loading Numba takes a while, and only this rare case needs it.
    from epomdp.exact.sweeps import ending_environments

    endless = ending_environments(family, np.zeros((0, 0)))
    wrong = np.flatnonzero(endless >= 0)
    if wrong.size:
        raise BadInput(
            f"discount: is 1 without a horizon, but environment {wrong[0]} can go on for ever from state "
            f"{endless[wrong[0]]}; set a horizon, or a discount below 1"
        )


def check_range(discount: float) -> float:
    """The discount, which is in [0, 1]."""
    if not (math.isfinite(discount) and 0.0 <= discount <= 1.0):
        raise BadInput(f"discount: is {discount}; give a number in [0, 1), or 1 with a horizon")
    return discount


def check_returns(rewards: NDArray[np.float64], discount: float, horizon: int | None) -> None:
    """Returns are numbers that doubles can tell apart; the discount is in [0, 1]."""
    if horizon is None and 0.0 < 1.0 - discount < _NEAREST:
        raise BadInput(
            f"discount: is {discount!r}, nearer to 1 than doubles can tell values apart; give at most "
            f"{1.0 - _NEAREST!r}, or a horizon"
        )
    most = float(np.abs(rewards).max(initial=0.0))
    steps = min(
        1.0 / (1.0 - discount) if discount < 1.0 else math.inf, math.inf if horizon is None else horizon
    )
    # Where neither limits the steps, every episode ends by itself.
    if not most * (steps if math.isfinite(steps) else 1.0) <= _LARGEST:
        raise BadInput(
            f"rewards: are as large as {most:.3g}, too large for the returns they add up to; divide all by a "
            f"common number so that returns stay below {_LARGEST:g}"
        )


def _blocks(size: int) -> Iterator[slice]:
    for first in range(0, size, _BLOCK_ROWS):
        yield slice(first, min(first + _BLOCK_ROWS, size))


def _row_sums(family: Family) -> Iterator[tuple[slice, NDArray[np.float64]]]:
    """Blocks of rows and their sums; no row may be empty."""
    for rows in _blocks(family.rewards.size):
        starts = family.indptr[rows.start : rows.stop + 1]
        part = family.probabilities[starts[0] : starts[-1]]
        with np.errstate(over="ignore"):
            sums = np.add.reduceat(part, starts[:-1] - starts[0])
        yield rows, sums


def _where(family: Family, row: int) -> str:
    environment, state, action = np.unravel_index(row, family.rewards.shape)
    return f"environment {environment}, state {state}, action {action}"


def _where_entry(family: Family, entry: int) -> str:
    return _where(family, int(np.searchsorted(family.indptr, entry, side="right")) - 1)


def short(value: Any) -> str:
    """The value as one line of at most 60 characters, for a message."""
    text = " ".join(repr(value).split())
    return text if len(text) <= 60 else text[:57] + "..."
