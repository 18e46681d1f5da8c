"""A posterior over infinitely many environments, solved through a finite sample, and the error that this incurs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import scipy.special
from numpy.typing import NDArray

from epomdp.errors import BadInput
from epomdp.exact.belief import AdaptivePolicy, EpistemicPOMDP
from epomdp.exact.mdp import optimal_policies
from epomdp.exact.policy_evaluation import Estimate
from epomdp.exact.posterior import BootstrapPosterior, DirichletPosterior
from epomdp.exact.solve import Solution, solve

# Fresh environments held at a time.
_BLOCK = 64


@dataclass(frozen=True, eq=False)
class SampledSolution:
    """The solution of a sample of n environments, and its policy's worth on others.

    With V the Bayes-optimal value of the posterior itself, the policy's true value is at most V, and the
    sample's optimal value is at least V in expectation: the best policy for a sample is fitted to it, as
    E[max_pi mean_i J_i(pi)] >= max_pi E[mean_i J_i(pi)] = V. So `achieved` and the sample's value stand on
    either side of V, and `error` is what closing the distance could at most be worth.

    Attributes:
        solution: of the epistemic POMDP of the sample.
        promised: the value that its policy has on the sample (the lower bound of the solution).
        achieved: the value of its policy on environments drawn afresh, one an episode, with its interval. In
            an environment where something happens that is impossible in the whole sample, the policy goes on
            with the optimum of the posterior mean.
    """

    solution: Solution
    promised: float
    achieved: Estimate

    @property
    def error(self) -> tuple[float, float, float]:
        """Promised minus achieved: the mean, and the ends of its confidence interval."""
        a = self.achieved
        return self.promised - a.mean, self.promised - a.upper, self.promised - a.lower


def sample_and_solve(
    posterior: DirichletPosterior | BootstrapPosterior,
    n: int,
    *,
    episodes: int = 1000,
    seed: int = 0,
    observe_rewards: bool = True,
    gap: float = 1e-2,
    time_limit: float | None = None,
    confidence: float = 0.95,
) -> SampledSolution:
    """Solve the epistemic POMDP of n environments drawn from the posterior, and measure the error on others.

    Args:
        posterior: with a discount below 1 and no horizon.
        n: environments in the sample; the error falls as it grows, and the cost of solving rises.
        episodes: to measure with, each in an environment of its own that is not in the sample; at least 2.
        seed: of the sample and of the episodes, which are independent.
        observe_rewards: as for `solve`; with Gaussian rewards give False.
        gap, time_limit: as for `solve`.
        confidence: coverage of the intervals.

    Raises:
        BadInput: for numbers out of range, or a posterior with a horizon.
    """
    base = posterior if isinstance(posterior, DirichletPosterior) else posterior.base
    if base.horizon is not None or not 0 < base.discount < 1:
        raise BadInput(
            f"sample_and_solve: the posterior has discount {base.discount} and horizon {base.horizon}; give a "
            f"discount above 0 and below 1, and no horizon"
        )
    if episodes < 2 or not 0 < confidence < 1:
        raise BadInput(
            f"sample_and_solve: {episodes} episodes, confidence {confidence}; give at least 2, and one in (0, 1)"
        )
    drawing, playing = np.random.default_rng(seed).spawn(2)
    family = posterior.sample(drawing, n)
    solution = solve(family, observe_rewards=observe_rewards, gap=gap, time_limit=time_limit)
    achieved = _play_fresh(posterior, solution, episodes, observe_rewards, confidence, playing)
    return SampledSolution(solution, solution.lower, achieved)


def _play_fresh(posterior, policy, episodes, observe_rewards, confidence, rng) -> Estimate:
    """One episode in each of `episodes` new environments, cut where what is left is worth little."""
    returns, cut = np.zeros(episodes), 0.0
    policy = _WithFallback(policy, optimal_policies(posterior.mean())[0])
    for first in range(0, episodes, _BLOCK):
        size = min(_BLOCK, episodes - first)
        fresh = posterior.sample(rng, size)
        pomdp = EpistemicPOMDP(fresh, observe_rewards)
        steps = int(np.ceil(np.log(1e-4) / np.log(fresh.discount)))
        most = float(np.abs(fresh.rewards).max()) / (1 - fresh.discount)
        for environment in range(size):
            episode = pomdp.simulate(policy, rng, environment=environment, max_steps=steps)
            returns[first + environment] = episode.value
            if not episode.ended:
                cut = max(cut, most * fresh.discount ** len(episode.actions))
    quantile = scipy.special.stdtrit(episodes - 1, 0.5 + confidence / 2)
    half = float(quantile * returns.std(ddof=1) / np.sqrt(episodes)) + cut
    mean = float(returns.mean())
    return Estimate(mean, mean - half, mean + half, returns, np.arange(episodes), cut)


@dataclass(frozen=True, eq=False)
class _WithFallback:
    """The policy; once none of its environments allows what is seen, the optimum of the posterior mean."""

    policy: AdaptivePolicy
    fallback: NDArray[np.int64]

    def start(self, state: int) -> Any:
        return self.policy.start(state)

    def act(self, state: int, memory: Any, rng: np.random.Generator) -> int:
        return int(self.fallback[state]) if memory is None else self.policy.act(state, memory, rng)

    def update(self, memory: Any, state: int, action: int, reward: float, next_state: int) -> Any:
        if memory is None:
            return None
        try:
            return self.policy.update(memory, state, action, reward, next_state)
        except BadInput:
            return None
