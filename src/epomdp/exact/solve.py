"""Solve an epistemic POMDP, or a flat one, with certified bounds, at any time, and get the policy."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import replace
from numbers import Real
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from epomdp.errors import BadInput
from epomdp.exact.family import Family
from epomdp.exact.family_checks import check_returns
from epomdp.exact.pomdp import Pomdp
from epomdp.exact.solving.bounds import ROUNDING, family_bounds, pomdp_bounds
from epomdp.exact.solving.engine import Engine, OutOfMemory
from epomdp.exact.solving.finite import finish, finite_beliefs
from epomdp.exact.solving.flat_model import pomdp_problem
from epomdp.exact.solving.model import family_problem
from epomdp.exact.solving.records import BACKUPS
from epomdp.exact.solving.solution import Progress, Solution, extrapolate

__all__ = ["Progress", "Solution", "solve", "solve_pomdp"]

# Improvements below this share of the gap are passed over.
NEGLIGIBLE = 1e-6
# The exact mode stops at this gap, times the size of the values.
_EXACT = 1e-9
# So many beliefs are always tried exactly. Where there surely are finitely many, more are after so many backups, and
# again whenever there have been this many times as many.
_FEW_BELIEFS = 128
_FIRST_ATTEMPT, _NEXT_ATTEMPT = 5_000, 4
# A gap of so many times what rounding adds up to, that shrinks by less than a hundredth in so many backups, is left.
_ROUNDINGS, _STALLED = 16.0, 10_000
# Trials were seen to need 10^(1/2) times the backups for a tenth of the gap; the exact mode may take a third of that.
_ATTEMPT_SHARE = 1 / 3
# Seconds between looks at the clock.
_SLICE = 0.05


def solve(
    problem: Family | Pomdp,
    *,
    observe_rewards: bool = True,
    gap: float = 1e-3,
    time_limit: float | None = None,
    callback: Callable[[Progress], Any] | None = None,
    prior: ArrayLike | None = None,
) -> Solution:
    """Bounds on the value of the best adaptive policy, and a policy that attains the lower one.

    The search is trial-based with two bounds, as in HSVI2 (Smith and Simmons 2005) and SARSOP (Kurniawati et al.
    2008), on a mixed-observability model (Ong et al. 2010); see docs/exact/solver.md. Where few beliefs can come
    up, they are enumerated and the answer is exact, to about 1e-9. Without a time limit it is deterministic.

    Args:
        problem: a family with weights, or a flat POMDP. One with a horizon is solved with the time in its states;
            the policy keeps the time in its memory and is asked and told about the family's own states.
        observe_rewards: families: whether the reward of a step is seen.
        gap: upper minus lower bound at the start at which to stop, absolute.
        time_limit: seconds after which to stop with the bounds reached; of the preparation, the informed values are
            not cut short.
        callback: called with a `Progress` about twenty times a second.
        prior: families: (M,) weights to use in place of the family's.

    Raises:
        BadInput: a number is out of range, or a discount of 1 where episodes may go on for ever.
    """
    check_limits(gap, time_limit)
    check_problem(problem)
    start = time.monotonic()
    late = deadline(start, time_limit)
    if isinstance(problem, Pomdp):
        if prior is not None:
            raise BadInput("prior: a flat POMDP has a start belief instead; change `initial`")
        check_returns(problem.rewards, problem.discount, None)
        flat = pomdp_problem(problem)
        engine = Engine(flat, pomdp_bounds(flat, problem, gap, late), NEGLIGIBLE * gap)
    else:
        layers = problem.layered() if problem.horizon is not None else None
        family = layers or problem
        family = family if prior is None else family.with_weights(prior)
        mixed = family_problem(family, observe_rewards, family.weights)
        if layers is not None:
            mixed = replace(mixed, layer_states=layers.states)
        engine = Engine(mixed, family_bounds(mixed, family, gap, late), NEGLIGIBLE * gap)
    search = Run(engine, gap, start, late, callback)
    status = search.to_the_end()
    backups = int(engine.search.counts[BACKUPS])
    seconds = time.monotonic() - start
    return Solution(*engine.bounds, status, seconds, backups, np.array(search.history), engine)


def solve_pomdp(
    pomdp: Pomdp,
    *,
    gap: float = 1e-3,
    time_limit: float | None = None,
    callback: Callable[[Progress], Any] | None = None,
) -> Solution:
    """`solve` for a flat POMDP."""
    return solve(pomdp, gap=gap, time_limit=time_limit, callback=callback)


def check_limits(gap: float, time_limit: float | None) -> None:
    """Raise BadInput if a gap or a time limit is out of range."""
    if not (isinstance(gap, Real) and math.isfinite(gap) and gap > 0):
        raise BadInput(f"gap: is {gap!r}; give a number above 0")
    if time_limit is not None and not (isinstance(time_limit, Real) and time_limit >= 0):
        raise BadInput(f"time_limit: is {time_limit!r}; give seconds, at least 0, or None")


def check_problem(problem: Any) -> None:
    """Raise BadInput for what is neither a family nor a POMDP."""
    if not isinstance(problem, Family | Pomdp):
        raise BadInput(f"problem: is a {type(problem).__name__}; give a Family or a Pomdp")


def deadline(start: float, time_limit: float | None) -> Callable[[], bool]:
    """Whether the time is up: a function, of a start on the clock `time.monotonic`."""
    end = math.inf if time_limit is None else start + time_limit
    return lambda: time.monotonic() >= end


class Run:
    """One engine driven to a gap, with a clock."""

    def __init__(
        self,
        engine: Engine,
        gap: float,
        start: float,
        late: Callable[[], bool],
        callback: Callable[[Progress], Any] | None,
    ) -> None:
        self.engine = engine
        values = float(np.abs(engine.search.informed).max(initial=1.0))
        self.exact = _EXACT * max(1.0, values)
        discount = engine.problem.model.discount
        steps = 1.0 / (1.0 - discount) if discount < 1.0 else 1.0
        self.rounding = max(self.exact, _ROUNDINGS * ROUNDING * values * steps)
        self.gap = gap
        self.start, self.late, self.callback = start, late, callback
        self.history: list[tuple[float, float, float]] = []

    def to_the_end(self, exactly: bool = True) -> str:
        """Search until the gap is closed or time or memory is up: the status of the solution.

        Args:
            exactly: whether the exact mode may be used; what it attains is no alpha vector.
        """
        try:
            done = (exactly and self._finish(_FEW_BELIEFS)) or self._search(exactly)
        except OutOfMemory:
            self._record()
            return "memory-limit"
        lower, upper = self.engine.bounds
        if done or upper - lower <= self.gap + ROUNDING * max(abs(lower), abs(upper)):
            return "solved"
        return "time-limit" if self.late() else "rounding-limit"

    def _finish(self, most_nodes: int) -> bool:
        done = finish(self.engine, min(self.gap, self.exact), most_nodes, self.late)
        if done:
            self._record()
        return done

    def _search(self, exactly: bool) -> bool:
        engine, problem = self.engine, self.engine.problem
        attempt = _FIRST_ATTEMPT if exactly else 2**62
        size, check = 16, _STALLED
        done = engine.run(self.gap, 0)
        before = self._ahead()
        self._record()
        while not done and not self.late():
            begin = time.monotonic()
            limit = min(attempt, check) - int(engine.search.counts[BACKUPS])
            done = engine.run(self.gap, min(size, limit))
            size = _resize(size, time.monotonic() - begin)
            self._record()
            if not done and engine.search.counts[BACKUPS] >= attempt:
                few = finite_beliefs(problem)
                if few and self._finish(int(_ATTEMPT_SHARE * attempt * math.sqrt(self._ahead()))):
                    return True
                attempt = attempt * _NEXT_ATTEMPT if few else 2**62
            if engine.search.counts[BACKUPS] >= check:
                if 0.99 * before < self._ahead() and self._ahead() * self.gap <= self.rounding:
                    break
                before, check = self._ahead(), int(engine.search.counts[BACKUPS]) + _STALLED
        return done

    def _ahead(self) -> float:
        """How many times the gap asked for the gap now is."""
        lower, upper = self.engine.bounds
        return (upper - lower) / self.gap

    def _record(self) -> None:
        lower, upper = self.engine.bounds
        self.history.append((time.monotonic() - self.start, lower, upper))
        if self.callback is not None:
            self.callback(Progress(lower, upper, self.history[-1][0], extrapolate(self.history, self.gap)))


def _resize(size: int, seconds: float) -> int:
    """Backups for the next slice; how many there are changes when the clock is looked at, and nothing else."""
    return int(np.clip(size * _SLICE / max(seconds, 1e-6), 1 + size // 4, 4 * size))
