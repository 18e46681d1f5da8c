"""A bound on every stochastic memoryless policy's value: branch and bound over boxes of policies.

A box holds the policies with lower[s, a] <= pi(a|s) <= upper[s, a]. Three tests cut it down, each of them
interval analysis (Moore 1966; Hansen and Walster 2004) on the structure of the return:

* the informed bound: each environment by itself takes the best mixture that the box allows, in each state;
* monotonicity: dJ/dpi(a|s) - dJ/dpi(b|s) = sum_m w_m d_m(s) (Q_m(s, a) - Q_m(s, b)) lies in an interval, by
  the least and most visits d_m(s) and values V_m that policies of the box have. Where it is never negative,
  some best policy of the box gives b as little as it allows, provided that a can take all the rest;
* the mean-value bound: J at the centre plus the most that a slope within these intervals can add. Its error
  falls with the square of the box, that of the informed bound only in proportion.

Cost of a node: O(M S) value iterations. The number of nodes grows exponentially with the number of states in
which the environments disagree, so this is for small families.
"""

from __future__ import annotations

import heapq
import time

import numpy as np
from numpy.typing import NDArray

from epomdp.exact.family import Family
from epomdp.exact.memoryless.box_kernels import (
    box_values,
    centre_bound,
    contested,
    informed_bound,
    shrink,
    slopes,
)

# Numbers kept for a node, and memory that all open nodes may take.
_MOST_NUMBERS = 2**17
_MOST_BYTES = 2**30
# A contested probability is not split when that of another state of unknown slope is this much wider.
_NARROW = 4.0
# Value iteration stops at this share of what a box promises beyond the target.
_PRECISION = 0.01


def bound_stochastic(
    family: Family, policy: NDArray[np.float64], value: float, ceiling: float, slack: float, deadline: float
) -> float:
    """An upper bound on every memoryless policy's value, valid whenever the deadline comes.

    Args:
        family: M environments.
        policy, value: the best policy known (S, A) and its value; splits are made beside it, not through it.
        ceiling: an upper bound known already; returned where the family is too large or has a horizon.
        slack: boxes that promise no more than this above `value` are dropped.
        deadline: reading of `time.monotonic` at which to stop.
    """
    M, S, A = family.rewards.shape
    numbers = 2 * M * S * (S + 1) + 2 * S * A
    if family.horizon is not None or family.discount >= 1.0 or numbers > _MOST_NUMBERS:
        return ceiling
    search = _Boxes(family, policy, value, 0.9 * slack)
    while search.open and time.monotonic() < deadline and len(search.open) * 8 * numbers < _MOST_BYTES:
        search.expand()
    return min(ceiling, search.bound())


class _Box:
    """Policies between `lower` and `upper` (S, A), with valid bounds of their values and visits.

    Attributes:
        high, low: (M, S) bounds of V_m(s).
        most, least: (M, S, S) bounds of the discounted visits to the first state from the second.
    """

    __slots__ = ("bound", "high", "least", "low", "lower", "most", "upper")

    def __init__(self, lower, upper, high, low, most, least, bound):
        self.lower, self.upper = lower, upper
        self.high, self.low, self.most, self.least = high, low, most, least
        self.bound = bound

    def copy(self) -> _Box:
        bounds = (self.high.copy(), self.low.copy(), self.most.copy(), self.least.copy())
        return _Box(self.lower.copy(), self.upper.copy(), *bounds, self.bound)


class _Boxes:
    def __init__(self, family: Family, policy: NDArray[np.float64], value: float, slack: float):
        M, S, A = family.rewards.shape
        self.policy = policy
        self.target = value + slack
        self.dropped = value
        self.open: list[tuple[float, int, _Box, int, int, float]] = []
        self.count = 0
        arrays = (family.indptr, family.successors, family.probabilities)
        self.dynamics = (*arrays, family.rewards, family.discount)
        self.start = (family.initial, family.weights)
        longest = 1.0 / (1.0 - family.discount)
        self.discount = family.discount
        self.widest = longest * float(np.ptp(family.rewards)) + slack
        everything = _Box(
            np.zeros((S, A)),
            np.ones((S, A)),
            np.full((M, S), longest * family.rewards.max()),
            np.full((M, S), longest * family.rewards.min()),
            np.full((M, S, S), longest),
            np.zeros((M, S, S)),
            np.inf,
        )
        self._add(everything)

    def bound(self) -> float:
        """What no memoryless policy exceeds."""
        return max(self.dropped, -self.open[0][0]) if self.open else self.dropped

    def expand(self) -> None:
        """Cut the most promising box in two."""
        _, _, box, state, action, cut = heapq.heappop(self.open)
        for side in ("lower", "upper"):
            child = box.copy()
            getattr(child, side)[state, action] = cut
            self._add(child)

    def _add(self, box: _Box) -> None:
        """Shrink and bound a box; keep it if it promises more than the target."""
        slope_bounds = self._tighten(box)
        # What is cut off makes the bounds of the rest tighter, but less and less.
        for _ in range(2):
            if slope_bounds is not None and shrink(box.lower, box.upper, slope_bounds[1]):
                slope_bounds = self._tighten(box)
        if slope_bounds is None:
            self.dropped = max(self.dropped, box.bound)
            return
        problem = (*self.dynamics, *self.start, box.lower, box.upper)
        centre, added = centre_bound(*problem, *slope_bounds, box.low)
        box.bound = min(box.bound, centre + added.sum())
        if box.bound <= self.target:
            self.dropped = max(self.dropped, box.bound)
            return
        cost, variance = contested(*problem, box.high, box.most)
        state, action = _branch(box.upper - box.lower, cost, variance, added)
        heapq.heappush(self.open, (-box.bound, self.count, box, state, action, self._cut(box, state, action)))
        self.count += 1

    def _tighten(self, box: _Box) -> tuple[NDArray[np.float64], NDArray[np.float64]] | None:
        """Bounds of the slopes over a box, or None where it promises too little to need them."""
        sides = (box.lower, box.upper)
        # Sweeps that stop early leave valid bounds, only wider ones.
        tolerance = _PRECISION * (1.0 - self.discount) * min(box.bound - self.target, self.widest)
        box_values(*self.dynamics, *sides, 1.0, tolerance, box.high)
        box.bound = min(box.bound, informed_bound(*self.start, box.high))
        if box.bound <= self.target:
            return None
        box_values(*self.dynamics, *sides, -1.0, tolerance, box.low)
        bounds = (box.high, box.low, box.most, box.least)
        return slopes(*self.dynamics, *self.start, *sides, tolerance, *bounds)

    def _cut(self, box: _Box, state: int, action: int) -> float:
        """The middle, unless that is next to the best policy: a cut through it leaves it in both halves."""
        low, high = box.lower[state, action], box.upper[state, action]
        middle, best = 0.5 * (low + high), self.policy[state, action]
        if abs(middle - best) < 0.1 * (high - low):
            return best + 0.25 * (high - low) if best < middle else best - 0.25 * (high - low)
        return middle


def _branch(widths, cost, variance, added) -> tuple[int, int]:
    """The state and action to split: what the environments contest, as long as nothing else is far wider.

    `added` (S,) tells the states of unknown slope; left whole for ever they would spoil the mean-value bound.
    """
    unknown = int(added.argmax())
    state = int(cost.argmax())
    action = int(np.where(widths[state] > 0.0, variance[state], -1.0).argmax())
    if _NARROW * widths[state, action] < widths[unknown].max():
        state, action = unknown, int(widths[unknown].argmax())
    if widths[state, action] <= 0.0:
        state, action = divmod(int(widths.argmax()), widths.shape[1])
    return state, action
