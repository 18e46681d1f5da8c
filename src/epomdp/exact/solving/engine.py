"""The search at work: its arrays, allocated and grown, and trials in slices short enough to be stopped."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from epomdp.exact.memory import available_bytes
from epomdp.exact.solving import records, search, upkeep
from epomdp.exact.solving.bounds import FirstBounds
from epomdp.exact.solving.model import Problem
from epomdp.exact.solving.records import LIVE_ALPHAS, LIVE_EVENTS, MOST_ALPHAS, MOST_EVENTS, NODES, Search

# Arrays that grow together when the place in `counts` is full.
_GROUPS = (
    ("nodes",),
    ("actions",),
    ("children",),
    ("belief_index", "belief_value"),
    ("alpha_value",),
    ("alphas",),
    ("links",),
    ("active",),
    ("events",),
)
# Part of the free memory that the search may take.
_MEMORY_SHARE = 0.7
# Vectors and events are weeded when there are this many times as many as were kept last, and a few more.
_WEED = 1.5
_WEED_MORE = 250
_LONGEST_PATH = 4096


class OutOfMemory(Exception):
    """The arrays would not fit into the memory any more; the bounds stand."""


class Engine:
    """One search over one problem. `search` is replaced when its arrays grow, so hold on to the engine only."""

    def __init__(self, problem: Problem, first: FirstBounds, tolerance: float) -> None:
        """Allocate for `problem`; improvements of less than `tolerance` are passed over."""
        self.problem = problem
        self.num_base = first.policies.size
        self._budget = _MEMORY_SHARE * available_bytes()
        self.search = _allocate(problem, first, tolerance)
        self.set_starts(problem.start_beliefs)

    @property
    def bounds(self) -> tuple[float, float]:
        """Lower and upper bound at the start."""
        return float(self.search.bounds[records.LOWER]), float(self.search.bounds[records.UPPER])

    def set_starts(self, beliefs) -> None:
        """Start from other beliefs over the hidden values of the start states; all that is known stays valid."""
        for i, (x, belief) in enumerate(zip(self.problem.start_states, beliefs, strict=True)):
            node = -1
            while node < 0:
                self.search.counts[records.FULL] = 0
                node = upkeep.add_root(self.problem.model, self.search, self.problem.num_actions, x, belief)
                if node < 0:
                    self.grow()
            self.search.roots[i] = node

    def run(self, gap: float, max_backups: int) -> bool:
        """Search for at most about `max_backups` backups; whether the gap at the start is closed.

        Raises:
            OutOfMemory: there is no room for what the search needs next.
        """
        limit = self.search.counts[records.BACKUPS] + max_backups
        while True:
            left = limit - self.search.counts[records.BACKUPS]
            code = search.run(self.problem.model, self.search, self.problem.num_actions, gap, left)
            if code == search.GROW:
                self.grow()
            elif code == search.COMPACT:
                self.compact()
            else:
                return code == search.SOLVED

    def compact(self) -> None:
        """Weed alpha vectors and sawtooth points."""
        upkeep.compact(self.problem.model, self.search, self.num_base)
        counts = self.search.counts
        counts[MOST_ALPHAS] = _WEED * counts[LIVE_ALPHAS] + _WEED_MORE
        counts[MOST_EVENTS] = _WEED * counts[LIVE_EVENTS] + _WEED_MORE

    def grow(self) -> None:
        """Double the arrays that were found full."""
        old = self.search
        names = _GROUPS[int(old.counts[records.FULL]) - 1]
        more = sum(2 * getattr(old, name).nbytes for name in names)
        if sum(array.nbytes for array in old) + more > self._budget:
            raise OutOfMemory
        grown = {}
        for name in names:
            array = getattr(old, name)
            grown[name] = np.zeros(2 * len(array), dtype=array.dtype)
            grown[name][: len(array)] = array
        if "nodes" in grown:
            grown["table"] = np.full(2 * len(old.table), -1, dtype=np.int32)
            upkeep.rehash(grown["nodes"], old.counts[NODES], grown["table"])
        self.search = old._replace(**grown)


def _allocate(problem: Problem, first: FirstBounds, tolerance: float) -> Search:
    model, A = problem.model, problem.num_actions
    K, X = first.policies.shape
    sizes = np.diff(model.pair_start)
    pairs = int(model.pair_start[-1])
    outcomes = np.diff(model.outcome_start)
    width = np.concatenate([[0], np.cumsum(sizes[model.successors])])
    width = np.diff(width[model.outcome_start])
    counts = np.zeros(records.NUM_COUNTS, dtype=np.int64)
    counts[[records.VALUES, records.ALPHAS, records.ACTIVE, LIVE_ALPHAS]] = [K * pairs, K * X, K * X, K * X]
    counts[MOST_ALPHAS] = _WEED * K * X + _WEED_MORE
    counts[MOST_EVENTS] = _WEED_MORE
    alpha_value = np.zeros(K * pairs + max(2**14, 64 * int(sizes.max())))
    alpha_value[: K * pairs] = first.values.ravel()
    alphas = np.zeros(K * X + 2**10, dtype=records.ALPHA)
    states = np.zeros(X, dtype=records.STATE)
    active = np.zeros(K * X + 2**11, dtype=np.int32)
    _fill_base(first, model.pair_start, alphas[: K * X].reshape(K, X), states, active)
    return Search(
        counts=counts,
        bounds=np.array([-np.inf, np.inf, first.floor, tolerance]),
        informed=first.informed,
        corner=first.corner,
        table=np.full(2**12, -1, dtype=np.int32),
        roots=np.zeros(len(problem.start_states), dtype=np.int32),
        root_weights=problem.start_weights,
        states=states,
        nodes=np.zeros(2**11, dtype=records.NODE),
        actions=np.zeros(max(2**11, 2 * A), dtype=records.ACTION),
        children=np.zeros(max(2**12, 2 * int(outcomes.max())), dtype=records.CHILD),
        belief_index=np.zeros(max(2**13, 2 * int(sizes.max())), dtype=np.int32),
        belief_value=np.zeros(max(2**13, 2 * int(sizes.max()))),
        alphas=alphas,
        alpha_value=alpha_value,
        links=np.zeros(max(2**12, 2 * int(outcomes.max())), dtype=np.int32),
        active=active,
        events=np.zeros(2**10, dtype=records.EVENT),
        work=np.zeros(int(outcomes.max()), dtype=records.WORK),
        work_value=np.zeros(int(width.max())),
        fresh_index=np.zeros(int(sizes.max()), dtype=np.int32),
        fresh_value=np.zeros(int(sizes.max())),
        path=np.zeros(_LONGEST_PATH, dtype=np.int32),
    )


def _fill_base(first: FirstBounds, pair_start: NDArray, alphas, states, active) -> None:
    """Enter the values of the memoryless policies as the first vectors: policy k in state x is vector k X + x."""
    K, X = first.policies.shape
    alphas["begin"] = np.arange(K)[:, None] * pair_start[-1] + pair_start[:-1]
    alphas["links"] = -1
    alphas["state"] = np.arange(X)
    alphas["action"] = first.policies
    vectors = np.arange(K * X).reshape(K, X)
    active[: K * X] = vectors.T.ravel()
    states["alpha_begin"] = np.arange(X) * K
    states["alpha_capacity"] = K
    states["alpha_count"] = K
    # The mean over the hidden values says which vector is best where nothing is known.
    sums = np.concatenate([np.zeros((K, 1)), np.cumsum(first.values, axis=1)], axis=1)
    totals = np.diff(sums[:, pair_start], axis=1)
    best = totals.argmax(axis=0)
    states["default"] = vectors[best, np.arange(X)]
    states["default_total"] = totals[best, np.arange(X)]
