"""The best memoryless policy of a family: stochastic by its exact gradient, deterministic by branch and bound."""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import minimize

from epomdp.exact.certainty import own_policy
from epomdp.exact.family import Family
from epomdp.exact.mdp import optimal_values, policy_probabilities
from epomdp.exact.memoryless.boxes import bound_stochastic
from epomdp.exact.memoryless.branch import bound_deterministic
from epomdp.exact.occupancy import MemorylessReturn, OutOfTime

# A value counts as proved best when the bound is within this of it (absolute; relative above one).
TOLERANCE = 1e-6
# Starts of the two searches. Each start of the stochastic one is a full ascent.
_ASCENTS = 24
_KICKS = 200
# Environments whose own optimal policies are tried as starts.
_OWN_POLICIES = 16
# Below this a probability is rounding left by the ascent.
_DUST = 1e-12
# Most times that a stalled ascent is taken up again.
_RESTARTS = 6


@dataclass(frozen=True, eq=False)
class MemorylessPolicy:
    """A policy that sees the current state only, and how good it is.

    Attributes:
        policy: (S, A) action probabilities.
        value: its expected return in the epistemic POMDP; attained, not estimated.
        bound: no policy of its class (deterministic or stochastic) has a value above this.
        certified: whether value >= bound - 1e-6 (times |value| where that is above one).
    """

    policy: NDArray[np.float64]
    value: float
    bound: float
    certified: bool


def best_deterministic(
    family: Family,
    *,
    starts: Sequence[ArrayLike] = (),
    upper: float = np.inf,
    time_limit: float | None = 10.0,
    seed: int = 0,
) -> MemorylessPolicy:
    """The best deterministic memoryless policy found, proved the best by branch and bound where that ends in time.

    First a local search: change the action of one state while that helps (all single changes are valued
    exactly with one inverse an environment), from the environments' own optimal policies, the given starts and
    random kicks of the best. Then branch and bound (`memoryless.branch`), within what is left of the time.

    Args:
        family: M environments.
        starts: memoryless policies to try, (S,) actions or (S, A) probabilities (rounded).
        upper: a bound on any policy's value that is known already, such as the Bayes-optimal upper bound;
            the informed value is worked out if there is none.
        time_limit: seconds; None for none. The best policy among the starts is returned in any case.
        seed: of the random kicks.

    Finding the best is NP-hard even for a single start (Littman 1994).
    """
    clock = _Clock(time_limit)
    returns = MemorylessReturn(family, clock.deadline)
    search = _DeterministicSearch(returns, clock)
    search.run(_starts(family, starts), np.random.default_rng(seed))
    ceiling = upper if np.isfinite(upper) else _informed(returns.inner)
    actions, value = search.actions, search.value
    if ceiling > value + _slack(value):
        ceiling, better = bound_deterministic(returns, actions, ceiling, _slack(value), clock.deadline)
        if better is not None:
            actions = better
    policy = np.eye(family.num_actions)[actions]
    return _result(policy, returns.value(policy), ceiling)


def best_stochastic(
    family: Family,
    *,
    deterministic: MemorylessPolicy | None = None,
    starts: Sequence[ArrayLike] = (),
    upper: float = np.inf,
    time_limit: float | None = 10.0,
    seed: int = 0,
) -> MemorylessPolicy:
    """The best memoryless policy found that may draw its actions; never below the deterministic one.

    Ascents with the exact gradient (`epomdp.exact.occupancy`) from the deterministic policy, the uniform one,
    the given starts and random policies. Then a bound: `upper`, the informed value, or branch and bound over
    boxes of policies (`epomdp.exact.memoryless.boxes`), whichever is the least in what is left of the time.

    Args:
        family: M environments.
        deterministic: result of `best_deterministic`; searched for in half of the time if not given.
        starts: memoryless policies to start from as well, (S,) actions or (S, A) probabilities.
        upper: a bound on any policy's value that is known already, such as the Bayes-optimal upper bound;
            the informed value is worked out if there is none.
        time_limit: seconds; None for none.
        seed: of the random starts.
    """
    clock = _Clock(time_limit)
    if deterministic is None:
        half = None if time_limit is None else time_limit / 2
        deterministic = best_deterministic(family, starts=starts, upper=upper, time_limit=half, seed=seed)
    returns = MemorylessReturn(family, clock.deadline)
    shape = family.rewards.shape[1:]
    rng = np.random.default_rng(seed)
    given = [policy_probabilities(start, *shape) for start in starts]
    random = [rng.dirichlet(np.ones(shape[1]), shape[0]) for _ in range(_ASCENTS)]
    uniform = np.full(shape, 1.0 / shape[1])
    blend = 0.5 * (deterministic.policy + uniform)
    policy, value = deterministic.policy, deterministic.value
    for start in [blend, deterministic.policy, *given, uniform, *random]:
        if clock.past(0.5):
            break
        found, reached = ascend(returns, start)
        if reached > value:
            policy, value = found, reached
    ceiling = upper if np.isfinite(upper) else _informed(returns.inner)
    if ceiling > value + _slack(value):
        ceiling = bound_stochastic(family, policy, value, ceiling, _slack(value), clock.deadline)
    return _result(policy, value, ceiling)


def ascend(returns: MemorylessReturn, start: NDArray[np.float64]) -> tuple[NDArray[np.float64], float]:
    """A stationary point of the return reached from the policy `start` (S, A), never worse, and its value.

    The policy is x / sum_a x with 0 <= x <= 1, so that an active-set method (L-BFGS-B, Byrd et al. 1995) can
    set probabilities to exactly zero; the return does not change with the length of a row of x. Where the
    deadline of `returns` passes, the best policy seen so far.
    """
    shape = start.shape
    best: tuple[NDArray[np.float64], float] = (start, -np.inf)

    def loss(flat: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        nonlocal best
        policy, total = _normalised(flat.reshape(shape))
        now = returns.evaluate(policy)
        if now.value > best[1]:
            best = (policy, now.value)
        slope = (now.gradient - (policy * now.gradient).sum(axis=1, keepdims=True)) / total
        return -now.value, -slope.ravel()

    options = {"maxiter": 3000, "maxfun": 10000, "ftol": 1e-15, "gtol": 1e-10, "maxcor": 20}
    try:
        for _ in range(_RESTARTS):
            policy, before = best
            # Rows of x shrink where probabilities run into zero; scaled up again, a stalled ascent goes on.
            x = policy / policy.max(axis=1, keepdims=True)
            minimize(loss, x.ravel(), jac=True, method="L-BFGS-B", bounds=[(0, 1)] * x.size, options=options)
            if best[1] <= before + 1e-12 * max(1.0, abs(before)):
                break
        policy = np.where(best[0] < _DUST, 0.0, best[0])
        policy /= policy.sum(axis=1, keepdims=True)
        return policy, returns.evaluate(policy).value
    except OutOfTime:
        return best


def _normalised(x: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Rows of x scaled to sum to one, and their sums; a row of (nearly) zeros stands for the uniform distribution."""
    total = x.sum(axis=1, keepdims=True)
    alive = total > 1e-30
    x = np.where(alive, x, 1.0)
    return x / x.sum(axis=1, keepdims=True), np.where(alive, total, 1.0)


class _DeterministicSearch:
    """Local search over deterministic policies: single changes, and kicks of the best policy found so far."""

    def __init__(self, returns: MemorylessReturn, clock: _Clock):
        self.returns = returns
        self.clock = clock
        self.actions = np.zeros(returns.family.num_states, dtype=np.int64)
        self.value = -np.inf

    def run(self, starts: Iterable[NDArray[np.int64]], rng: np.random.Generator) -> None:
        """Use at most half of the time; the best start is kept even if there is none."""
        tried = []
        for actions in starts:
            tried.append((self._keep(actions), actions))
            if self.clock.past(0.2):
                break
        try:
            self._climb(self._rounded())
            for _, actions in sorted(tried, key=lambda pair: -pair[0]):
                self._climb(actions)
            self._kick(rng)
        except OutOfTime:
            return

    def _rounded(self) -> NDArray[np.int64]:
        """The likeliest actions of the stochastic policy that an ascent from the best start comes to."""
        uniform = 1.0 / self.returns.family.num_actions
        deadline, self.returns.deadline = self.returns.deadline, self.clock.at(0.35)
        policy, _ = ascend(
            self.returns, 0.5 * (np.eye(self.returns.family.num_actions)[self.actions] + uniform)
        )
        self.returns.deadline = deadline
        return policy.argmax(axis=1)

    def _kick(self, rng: np.random.Generator) -> None:
        A = self.returns.family.num_actions
        if A == 1:
            return
        for _ in range(_KICKS):
            visited = np.flatnonzero(self.returns.evaluate(np.eye(A)[self.actions]).occupancy > 0)
            count = min(visited.size, int(rng.integers(2, 6)))
            states = rng.choice(visited, count, replace=False)
            kicked = self.actions.copy()
            kicked[states] = (kicked[states] + rng.integers(1, A, count)) % A
            self._climb(kicked)

    def _climb(self, actions: NDArray[np.int64]) -> None:
        value = self._keep(actions)
        while True:
            promised = self.returns.single_changes(np.eye(self.returns.family.num_actions)[actions])
            better = promised.argmax(axis=1)
            gain = promised.max(axis=1) - value
            order = np.argsort(-gain, kind="stable")[: max(1, np.count_nonzero(gain > 0.0))]
            # One change where its value is exact; where it is a guess for many states, many at a time.
            size = 1 if self.returns.changes_are_exact else order.size
            changed, reached = self._try(actions, better, order[:size])
            while reached <= value + 1e-12 * max(1.0, abs(value)):
                if size == 1:
                    return
                size = max(1, size // 4)
                changed, reached = self._try(actions, better, order[:size])
            actions, value = changed, reached

    def _try(self, actions, better, states) -> tuple[NDArray[np.int64], float]:
        """Take the better actions in some states."""
        if self.clock.past(0.5):
            raise OutOfTime
        changed = actions.copy()
        changed[states] = better[states]
        return changed, self._keep(changed)

    def _keep(self, actions: NDArray[np.int64]) -> float:
        value = self.returns.value(np.eye(self.returns.family.num_actions)[actions])
        if value > self.value:
            self.actions, self.value = actions, value
        return value


class _Clock:
    """A time limit in seconds from now."""

    def __init__(self, time_limit: float | None):
        self.start = time.monotonic()
        self.deadline = np.inf if time_limit is None else self.start + time_limit

    def at(self, share: float) -> float:
        """The reading of `time.monotonic` when this share of the time is used up."""
        return self.start + share * (self.deadline - self.start)

    def past(self, share: float) -> bool:
        """Whether this share of the time is used up."""
        return time.monotonic() > self.at(share)


def _starts(family: Family, given: Sequence[ArrayLike]) -> Iterable[NDArray[np.int64]]:
    """Deterministic policies to begin with: the given ones, then each likely environment's own."""
    for start in given:
        yield policy_probabilities(start, family.num_states, family.num_actions).argmax(axis=1)
    likely = np.argsort(-family.weights, kind="stable")[:_OWN_POLICIES]
    for m in likely[family.weights[likely] > 0]:
        yield own_policy(family.select([m], [1.0]))


def _informed(family: Family) -> float:
    return float(family.weights @ optimal_values(family) @ family.initial)


def _slack(value: float) -> float:
    return TOLERANCE * max(1.0, abs(value))


def _result(policy: NDArray[np.float64], value: float, ceiling: float) -> MemorylessPolicy:
    bound = float(max(value, ceiling))
    return MemorylessPolicy(policy, value, bound, bool(bound <= value + _slack(value)))
