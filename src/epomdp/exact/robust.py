"""The worst prior over the environments: the least Bayes-optimal value, by cutting planes over the solver's bounds."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from epomdp.exact.family import Family
from epomdp.exact.solve import NEGLIGIBLE, Run, check_limits, deadline
from epomdp.exact.solving.bounds import family_bounds
from epomdp.exact.solving.engine import Engine, OutOfMemory
from epomdp.exact.solving.extract import extract_policy
from epomdp.exact.solving.model import family_problem
from epomdp.exact.solving.policy import SolvedPolicy
from epomdp.exact.solving.records import FLOOR
from epomdp.exact.solving.solution import Progress, extrapolate

# Part of the gap to which the value is bounded at each prior; the cutting planes have the rest.
_SHARE = 0.4
# A prior is asked about this far from the planes' own, towards the best one known: vertices make poor planes.
_INWARD = 0.1


class Mixture(NamedTuple):
    """Policies to draw one from at the start of an episode.

    Attributes:
        probabilities: (n,) of each policy.
        policies: n policies.
        returns: (M,) value that drawing attains in each environment.
    """

    probabilities: NDArray[np.float64]
    policies: tuple[SolvedPolicy, ...]
    returns: NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class RobustSolution:
    """The robust value, min over priors w of the Bayes-optimal value V(w), and what proves it.

    By the minimax theorem it is also the most that a randomised policy can be sure of in every environment.

    Attributes:
        lower: no prior makes the Bayes-optimal value less: `mixture` attains it in every environment.
        upper: the Bayes-optimal value under `prior` is at most this.
        prior: (M,) the worst prior found.
        status: "solved", "time-limit", "memory-limit" or "rounding-limit", as of `Solution`.
        seconds: taken.
        iterations: priors asked about.
        history: (n, 3) float64: seconds, lower, upper.
        mixture: a randomised policy that attains `lower` whatever the environment.
    """

    lower: float
    upper: float
    prior: NDArray[np.float64]
    status: str
    seconds: float
    iterations: int
    history: NDArray[np.float64]
    mixture: Mixture

    @property
    def gap(self) -> float:
        """Upper minus lower bound."""
        return self.upper - self.lower


def robust_value(
    family: Family,
    *,
    observe_rewards: bool = True,
    gap: float = 1e-2,
    time_limit: float | None = None,
    callback: Callable[[Progress], Any] | None = None,
) -> RobustSolution:
    """Minimum over all priors of the Bayes-optimal value, with a certificate on either side.

    V(w) is the largest of w . J(pi) over policies pi, J(pi) their returns in the M environments, so it is convex
    and every policy gives a plane below it. The least of the largest of the planes found is a linear programme
    (Kelley 1960); its value is a lower bound, the bound of V at any prior an upper one. What the search learns
    under one prior holds under all, so each next prior costs less.

    Args:
        family: its own weights do not matter.
        observe_rewards: whether the reward of a step is seen.
        gap: upper minus lower bound at which to stop, absolute.
        time_limit: seconds after which to stop with the bounds reached.
        callback: called with a `Progress` after each prior.

    Raises:
        BadInput: as `solve`.
    """
    check_limits(gap, time_limit)
    begin = time.monotonic()
    layers = family.layered() if family.horizon is not None else None
    family = layers or family
    uniform = np.full(family.num_environments, 1.0 / family.num_environments)
    family = family.with_weights(uniform)
    late = deadline(begin, time_limit)
    problem = family_problem(family, observe_rewards, uniform)
    if layers is not None:
        problem = replace(problem, layer_states=layers.states)
    engine = Engine(problem, family_bounds(problem, family, _SHARE * gap, late), NEGLIGIBLE * gap)
    planes = _Planes(engine)
    best, upper, ask = uniform, math.inf, uniform
    history: list[tuple[float, float, float]] = []
    status = "time-limit"
    run = Run(engine, _SHARE * gap, begin, late, None)
    while True:
        try:
            engine.set_starts([ask] * len(problem.start_states))
            status = run.to_the_end(exactly=False)
        except OutOfMemory:
            status = "memory-limit"
        planes.add()
        if engine.bounds[1] < upper:
            best, upper = ask, engine.bounds[1]
        lower, lowest, chances = planes.lowest()
        history.append((time.monotonic() - begin, lower, upper))
        if callback is not None:
            callback(Progress(lower, upper, history[-1][0], extrapolate(history, gap)))
        if upper - lower <= gap or status != "solved":
            break
        ask = _INWARD * best + (1.0 - _INWARD) * lowest
    return RobustSolution(
        lower,
        upper,
        best,
        status,
        time.monotonic() - begin,
        len(history),
        np.array(history),
        planes.mixture(chances),
    )


class _Planes:
    """Returns in every environment of the policies found so far, and what attains them."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self.returns: list[NDArray[np.float64]] = []
        self.alphas: list[NDArray[np.int32]] = []

    def add(self) -> None:
        """Take the policy that is best at the start as it now is."""
        search, problem = self.engine.search, self.engine.problem
        roots = search.nodes[search.roots]
        total = np.zeros(len(problem.start_beliefs[0]))
        for root, weight in zip(roots, problem.start_weights, strict=True):
            total += weight * self._vector(int(root["alpha"]), int(root["state"]))
        self.returns.append(total)
        self.alphas.append(roots["alpha"].copy())

    def _vector(self, alpha: int, state: int) -> NDArray[np.float64]:
        search, start = self.engine.search, self.engine.problem.model.pair_start
        size = int(start[state + 1] - start[state])
        if alpha >= 0:
            first = int(search.alphas["begin"][alpha])
            return search.alpha_value[first : first + size]
        vector = np.full(size, search.bounds[FLOOR])
        vector[-1 - alpha] = search.corner[start[state] - 1 - alpha]
        return vector

    def lowest(self) -> tuple[float, NDArray[np.float64], NDArray[np.float64]]:
        """Least of the largest plane, the prior where it is, and the chances of the policies (the dual)."""
        from scipy.optimize import linprog

        planes = np.array(self.returns)
        count, M = planes.shape
        found = linprog(
            np.append(np.zeros(M), 1.0),
            A_ub=np.hstack([planes, -np.ones((count, 1))]),
            b_ub=np.zeros(count),
            A_eq=np.append(np.ones(M), 0.0)[None],
            b_eq=[1.0],
            bounds=[(0.0, None)] * M + [(None, None)],
        )
        prior = np.maximum(0.0, found.x[:M])
        chances = np.maximum(0.0, -found.ineqlin.marginals)
        chances /= chances.sum()
        # The mixture's own worst case is the bound, whatever the programme's rounding.
        return float((chances @ planes).min()), prior / prior.sum(), chances

    def mixture(self, chances: NDArray[np.float64]) -> Mixture:
        """The policies of positive chance."""
        used = np.flatnonzero(chances > 1e-12)
        share = chances[used] / chances[used].sum()
        policies = tuple(extract_policy(self.engine, self.alphas[i]) for i in used)
        return Mixture(share, policies, share @ np.array(self.returns)[used])
