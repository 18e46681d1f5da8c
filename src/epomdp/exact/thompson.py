"""Posterior (Thompson) sampling: believe in one drawn environment, for an episode or for a step."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from epomdp.exact.belief import AdaptivePolicy, EpistemicPOMDP
from epomdp.exact.certainty import canonical_update
from epomdp.exact.mdp import optimal_policies, policy_values
from epomdp.exact.policy_evaluation import evaluate, roll_out


@dataclass(frozen=True, eq=False)
class StepSampling:
    """Draw an environment from the belief at every step and take its optimal action (Thompson 1933).

    An `AdaptivePolicy`; its memory is the belief (M,).

    Attributes:
        pomdp: the epistemic POMDP, whose family's states the policy acts on.
        actions: (M, S) an optimal policy of each environment.
    """

    pomdp: EpistemicPOMDP
    actions: NDArray[np.int64]

    @classmethod
    def of(cls, pomdp: EpistemicPOMDP) -> StepSampling:
        """Per-step posterior sampling in an epistemic POMDP."""
        return cls(pomdp, optimal_policies(pomdp.family))

    def start(self, state: int) -> NDArray[np.float64]:
        """The prior."""
        return self.pomdp.prior

    def probabilities(self, state: int, memory: NDArray[np.float64]) -> NDArray[np.float64]:
        """(A,) how much belief each action's environments have."""
        return _shares(self.actions[:, state], memory, self.pomdp.family.num_actions)

    def act(self, state: int, memory: NDArray[np.float64], rng: np.random.Generator) -> int:
        """The optimal action of a drawn environment."""
        return int(self.actions[rng.choice(memory.size, p=memory), state])

    def update(
        self, memory: NDArray[np.float64], state: int, action: int, reward: float, next_state: int
    ) -> NDArray[np.float64]:
        """Bayes' rule."""
        return canonical_update(self.pomdp, memory, state, action, reward, next_state)


@dataclass(frozen=True, eq=False)
class EpisodeSampling:
    """Draw an environment at the start and follow its optimal policy to the end (Strens 2000; PSRL).

    As a policy that draws anew at every step, which is the same to an observer (Kuhn 1953): the memory holds
    the weights of the environments whose policies have chosen all actions so far. What the episode shows is
    not used, so this is a mixture of memoryless policies and worth no more than the best of them.

    Attributes:
        pomdp, actions: as for `StepSampling`.
    """

    pomdp: EpistemicPOMDP
    actions: NDArray[np.int64]

    @classmethod
    def of(cls, pomdp: EpistemicPOMDP) -> EpisodeSampling:
        """Per-episode posterior sampling in an epistemic POMDP."""
        return cls(pomdp, optimal_policies(pomdp.family))

    def value(self) -> float:
        """Expected return: the mean over the drawn environment of its policy's value in all of them."""
        family = self.pomdp.family
        policies, which = np.unique(self.actions, axis=0, return_inverse=True)
        drawn = np.bincount(which.reshape(-1), weights=family.weights, minlength=len(policies))
        values = [family.weights @ policy_values(family, policy) @ family.initial for policy in policies]
        return float(drawn @ values)

    def start(self, state: int) -> NDArray[np.float64]:
        """The prior, over the environment that is believed in."""
        return self.pomdp.prior

    def probabilities(self, state: int, memory: NDArray[np.float64]) -> NDArray[np.float64]:
        """(A,) the share of each action among the policies that may have been drawn."""
        return _shares(self.actions[:, state], memory, self.pomdp.family.num_actions)

    def act(self, state: int, memory: NDArray[np.float64], rng: np.random.Generator) -> int:
        """The action of one of the policies that may have been drawn."""
        return int(self.actions[rng.choice(memory.size, p=memory), state])

    def update(
        self, memory: NDArray[np.float64], state: int, action: int, reward: float, next_state: int
    ) -> NDArray[np.float64]:
        """Drop the policies that would have acted otherwise."""
        left = np.where(self.actions[:, state] == action, memory, 0.0)
        return left / left.sum()


class Appraisal(NamedTuple):
    """What an adaptive policy is worth.

    Attributes:
        value: exact, or the mean of sampled episodes.
        lower, upper: the value itself, or a 95 % confidence interval.
        exact: which of the two.
    """

    value: float
    lower: float
    upper: float
    exact: bool


def appraise(
    pomdp: EpistemicPOMDP,
    policy: AdaptivePolicy,
    rng: np.random.Generator,
    *,
    max_nodes: int = 20_000,
    episodes: int = 2_000,
) -> Appraisal:
    """The value of an adaptive policy: exact where its reachable memories are few, else by simulation.

    Args:
        pomdp: M environments.
        policy: one with `probabilities`, or deterministic.
        rng: for the simulation.
        max_nodes: pairs of memory and state up to which all of them are looked at.
        episodes: number of simulated episodes otherwise.
    """
    found = evaluate(pomdp, policy, max_nodes)
    if found.exact:
        return Appraisal(found.lower, found.lower, found.upper, True)
    sampled = roll_out(pomdp, policy, episodes, rng)
    return Appraisal(sampled.mean, sampled.lower, sampled.upper, False)


def _shares(
    actions: NDArray[np.int64], weights: NDArray[np.float64], num_actions: int
) -> NDArray[np.float64]:
    shares = np.zeros(num_actions)
    np.add.at(shares, actions, weights)
    return shares
