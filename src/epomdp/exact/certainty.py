"""Certainty-equivalent planning: take one MDP for the truth, solve it, and run its policy as it is; and QMDP."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from epomdp.exact.belief import EpistemicPOMDP
from epomdp.exact.family import Family
from epomdp.exact.mdp import action_values, optimal_policies, optimal_values
from epomdp.exact.occupancy import MemorylessReturn

# Weights and values that differ by no more than rounding count as equal.
_ROUNDING = 1e-12


class CertaintyEquivalent(NamedTuple):
    """The two certainty-equivalent policies of a family and what they come to in the epistemic POMDP.

    Attributes:
        map_actions, mean_actions: (S,) policies.
        map_value, mean_value: their expected returns.
    """

    map_actions: NDArray[np.int64]
    mean_actions: NDArray[np.int64]
    map_value: float
    mean_value: float


def certainty_equivalent(family: Family) -> CertaintyEquivalent:
    """Solve the most likely environment, and the posterior-mean MDP, and run each policy as it is."""
    returns = MemorylessReturn(family)
    most_likely, mean = map_policy(family), mean_policy(family)
    values = [returns.value(np.eye(family.num_actions)[actions]) for actions in (most_likely, mean)]
    return CertaintyEquivalent(most_likely, mean, *values)


def map_policy(family: Family) -> NDArray[np.int64]:
    """(S,) the optimal deterministic policy of the most likely environment.

    Ties: of equally likely environments the first, of equally good actions the first (but for rounding).
    """
    likeliest = int(np.argmax(family.weights >= family.weights.max() - _ROUNDING))
    return own_policy(family.select([likeliest], [1.0]))


def mean_policy(family: Family) -> NDArray[np.int64]:
    """(S,) the optimal deterministic policy of the MDP with the mean transitions and rewards; ties as above."""
    return own_policy(family.mean())


def own_policy(single: Family) -> NDArray[np.int64]:
    """(S,) an optimal policy of a family of one environment, the first action of those equally good.

    With a horizon the optimum depends on the time: each state's action is the one for the first time at which
    the state can occur, and 0 where it cannot.
    """
    if single.horizon is None:
        return optimal_policies(single)[0]
    layers = single.layered()
    timed = optimal_policies(layers)[0]
    actions = np.zeros(single.num_states, dtype=np.int64)
    for n in range(layers.num_states - 2, -1, -1):
        actions[layers.states[n]] = timed[n]
    return actions


def canonical_update(
    pomdp: EpistemicPOMDP,
    belief: NDArray[np.float64],
    state: int,
    action: int,
    reward: float,
    next_state: int,
) -> NDArray[np.float64]:
    """Bayes' rule; a belief that is the prior but for environments ruled out is so to the last bit.

    Where observations only rule out, histories in another order thus meet in the same belief, and the reachable
    beliefs are as few as they are.
    """
    belief = pomdp.update(belief, state, action, reward, next_state)
    left = np.where(belief > 0.0, pomdp.prior, 0.0)
    left = left / left.sum()
    return left if np.allclose(belief, left, rtol=1e-9, atol=0.0) else belief


@dataclass(frozen=True, eq=False)
class Qmdp:
    """Act as if all were revealed after this step: argmax_a sum_m b(m) Q*_m(s, a), the first of equals.

    It plans over the belief, but never to learn something (Littman, Cassandra and Kaelbling 1995). An
    `AdaptivePolicy`; its memory is the belief (M,).

    Attributes:
        pomdp: the epistemic POMDP; the policy acts on the states of its family (with the time in them where
            there is a horizon).
        q: (M, S, A) optimal action values of each environment.
    """

    pomdp: EpistemicPOMDP
    q: NDArray[np.float64]

    @classmethod
    def of(cls, pomdp: EpistemicPOMDP) -> Qmdp:
        """The QMDP policy of an epistemic POMDP."""
        values = optimal_values(pomdp.family)
        q = [action_values(pomdp.family, m, values[m]) for m in range(pomdp.family.num_environments)]
        return cls(pomdp, np.stack(q))

    def start(self, state: int) -> NDArray[np.float64]:
        """The prior."""
        return self.pomdp.prior

    def act(self, state: int, memory: NDArray[np.float64], rng: np.random.Generator) -> int:
        """The action with the best mean value; `rng` is not used."""
        mean = memory @ self.q[:, state]
        # Values come within 1e-10: of two actions that are equally good the first must win every time.
        return int(np.argmax(mean >= mean.max() - 1e-9 * max(1.0, float(np.abs(mean).max()))))

    def update(
        self, memory: NDArray[np.float64], state: int, action: int, reward: float, next_state: int
    ) -> NDArray[np.float64]:
        """Bayes' rule."""
        return canonical_update(self.pomdp, memory, state, action, reward, next_state)
