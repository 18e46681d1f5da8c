"""The epistemic POMDP of a family: each episode is in one environment, hidden; the belief is over which."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from epomdp.errors import BadInput
from epomdp.exact.family import Family, gather_rows
from epomdp.exact.layered import LayeredFamily

# Rewards seen in single precision are matched to the environments' own; see `same_reward`.
REWARD_TOLERANCE = 1e-6


class AdaptivePolicy(Protocol):
    """A policy that may use all that its episode has shown, through a memory of any kind.

    A policy that randomises can also have `probabilities(state, memory) -> (A,)`, its action probabilities, which
    lets it be evaluated exactly. Memories must then be hashable, or arrays, or tuples of such.
    """

    def start(self, state: int) -> Any:
        """The memory at the start of an episode in `state`."""
        ...

    def act(self, state: int, memory: Any, rng: np.random.Generator) -> int:
        """The action in `state`."""
        ...

    def update(self, memory: Any, state: int, action: int, reward: float, next_state: int) -> Any:
        """The memory after a step; a new one, the old stays as it is. `reward` is NaN where it is not observed."""
        ...


class Outcomes(NamedTuple):
    """What an action can show: C different observations, and how likely each environment makes them.

    Attributes:
        successors: (C,) int64, next state.
        rewards: (C,) float64, observed reward; NaN where rewards are not observed.
        likelihoods: (C, M) float64, probability of the observation in each environment; columns sum to one.
    """

    successors: NDArray[np.int64]
    rewards: NDArray[np.float64]
    likelihoods: NDArray[np.float64]


class Episode(NamedTuple):
    """A simulated episode of T steps.

    Attributes:
        environment: the hidden one.
        states: (T + 1,) int64.
        actions: (T,) int64.
        rewards: (T,) float64.
        beliefs: (T + 1, M) float64, over the environments, before each step and at last.
        value: discounted return.
        ended: whether an absorbing state without reward was reached; else the episode was cut.
    """

    environment: int
    states: NDArray[np.int64]
    actions: NDArray[np.int64]
    rewards: NDArray[np.float64]
    beliefs: NDArray[np.float64]
    value: float
    ended: bool

    def transitions(self) -> list[tuple[int, int, float, int]]:
        """The steps as (state, action, reward, next state), the form in which posteriors take evidence."""
        columns = (self.states[:-1], self.actions, self.rewards, self.states[1:])
        return list(zip(*(column.tolist() for column in columns), strict=True))


@dataclass(frozen=True, eq=False)
class EpistemicPOMDP:
    """The POMDP in which an episode draws environment m with probability `family.weights[m]` and hides it.

    The hidden state is (m, s); s is observed, and so is the reward unless `observe_rewards` is false. All that
    is to be remembered of an episode is thus s and a belief over the M environments (Ghosh et al. 2021,
    https://arxiv.org/abs/2107.06277). As m never changes, a belief's support only shrinks.

    Attributes:
        family: the environments. One with a horizon is replaced by `family.layered()`: states have the time in
            them, and policies act on those; of the solver's policies, which take the family's own states, `on_layers`
            does.
        observe_rewards: whether the reward of a step, taken to be exactly `family.rewards`, is seen.
    """

    family: Family
    observe_rewards: bool = True

    def __post_init__(self) -> None:
        if self.family.horizon is not None:
            object.__setattr__(self, "family", self.family.layered())

    @property
    def prior(self) -> NDArray[np.float64]:
        """(M,) the belief at the start of an episode; the first state says nothing, as it is drawn alike."""
        return self.family.weights

    @cached_property
    def ended(self) -> NDArray[np.bool_]:
        """(M, S) whether a state is absorbing and without reward: where an episode is over."""
        family = self.family
        M, S, A = family.rewards.shape
        first = family.successors[family.indptr[:-1]].reshape(M, S, A)
        stays = (np.diff(family.indptr).reshape(M, S, A) == 1) & (first == np.arange(S)[:, None])
        return (stays & (family.rewards == 0.0)).all(axis=2)

    def likelihood(self, state: int, action: int, reward: float, next_state: int) -> NDArray[np.float64]:
        """(M,) probability of what a step showed in each environment. `reward` counts only where observed."""
        self._check(state, action, next_state)
        environment, successor, probability = self._entries(state, action)
        found = successor == next_state
        likelihood = np.zeros(self.family.num_environments)
        likelihood[environment[found]] = probability[found]
        if self.observe_rewards:
            likelihood[~same_reward(self.family.rewards[:, state, action], reward)] = 0.0
        return likelihood

    def outcomes(self, state: int, action: int) -> Outcomes:
        """All that an action in a state can show, in order of next state and reward."""
        self._check(state, action, 0)
        environment, successor, probability = self._entries(state, action)
        reward = np.zeros(environment.size)
        if self.observe_rewards:
            # Adding 0 makes -0.0 and 0.0 one number.
            reward = self.family.rewards[environment, state, action] + 0.0
        pairs = np.stack([successor.astype(np.float64), reward], axis=1)
        cells, cell = np.unique(pairs, axis=0, return_inverse=True)
        likelihoods = np.zeros((len(cells), self.family.num_environments))
        likelihoods[cell.reshape(-1), environment] = probability
        seen = cells[:, 1] if self.observe_rewards else np.full(len(cells), np.nan)
        return Outcomes(cells[:, 0].astype(np.int64), seen, likelihoods)

    def update(
        self, belief: NDArray[np.float64], state: int, action: int, reward: float, next_state: int
    ) -> NDArray[np.float64]:
        """Bayes' rule: the belief (M,) after a step, proportional to belief times likelihood.

        Raises:
            BadInput: no environment with a positive belief allows the step.
        """
        joint = belief * self.likelihood(state, action, reward, next_state)
        total = joint.sum()
        if not total > 0.0:
            seen = f" with reward {reward}" if self.observe_rewards else ""
            raise BadInput(
                f"belief: no environment left goes from state {state} by action {action} to state {next_state}"
                f"{seen}; check the step, or give the environment that does a positive weight"
            )
        return joint / total

    def simulate(
        self,
        policy: AdaptivePolicy,
        rng: np.random.Generator,
        environment: int | None = None,
        max_steps: int | None = None,
    ) -> Episode:
        """Play an episode, in the environment given or in one drawn from the weights.

        It ends in an absorbing state without reward, or after `max_steps`. Only draws from `rng` are random.
        """
        family = self.family
        policy = self.playable(policy)
        m = _draw(family.weights, rng) if environment is None else int(environment)
        ended = self.ended[m]
        state = _draw(family.initial, rng)
        memory = policy.start(state)
        states, actions, rewards, beliefs = [state], [], [], [self.prior]
        while not ended[state] and (max_steps is None or len(actions) < max_steps):
            action = int(policy.act(state, memory, rng))
            self._check(state, action, 0)
            successors, probabilities = family.row(m, state, action)
            next_state = int(successors[_draw(probabilities, rng)])
            reward = float(family.rewards[m, state, action])
            seen = reward if self.observe_rewards else math.nan
            memory = policy.update(memory, state, action, seen, next_state)
            # An environment that the prior holds impossible can be played too; the belief is then of no use.
            beliefs.append(
                self.update(beliefs[-1], state, action, seen, next_state) if self.prior[m] else self.prior
            )
            states.append(next_state)
            actions.append(action)
            rewards.append(reward)
            state = next_state
        value = float(np.dot(rewards, family.discount ** np.arange(len(rewards))))
        return Episode(
            m,
            np.array(states, dtype=np.int64),
            np.array(actions, dtype=np.int64),
            np.array(rewards, dtype=np.float64),
            np.array(beliefs),
            value,
            bool(ended[state]),
        )

    def playable(self, policy: AdaptivePolicy) -> AdaptivePolicy:
        """The policy for this family's states: where they have the time in them, its `on_layers` if it has one."""
        return getattr(policy, "on_layers", policy) if isinstance(self.family, LayeredFamily) else policy

    def _entries(self, state: int, action: int) -> tuple[NDArray, NDArray, NDArray]:
        """Environment, successor and probability of every transition of an action, in order of environment."""
        family = self.family
        M, S, A = family.rewards.shape
        rows = (np.arange(M) * S + state) * A + action
        starts, entries = gather_rows(family.indptr, rows)
        environment = np.repeat(np.arange(M), np.diff(starts))
        return environment, family.successors[entries], family.probabilities[entries]

    def _check(self, state: int, action: int, next_state: int) -> None:
        S, A = self.family.num_states, self.family.num_actions
        if not (0 <= state < S and 0 <= next_state < S):
            raise BadInput(f"step: from state {state} to state {next_state}; states are 0 to {S - 1}")
        if not 0 <= action < A:
            raise BadInput(f"step: action {action} in state {state}; actions are 0 to {A - 1}")


def same_reward(rewards: NDArray[np.float64], reward: float) -> NDArray[np.bool_]:
    """Which of the rewards an observed one is: the nearest, and no further off than single precision is.

    Two rewards that differ by less than that are thus still told apart if the observed one equals one of them.
    """
    distance = np.abs(rewards - reward)
    return (distance <= REWARD_TOLERANCE * max(1.0, abs(reward))) & (distance == distance.min())


def _draw(probabilities: NDArray[np.float64], rng: np.random.Generator) -> int:
    """An index, drawn; one of probability 0 never is."""
    cumulative = np.cumsum(probabilities)
    drawn = np.searchsorted(cumulative, rng.random() * cumulative[-1], side="right")
    # The product may round up to the sum.
    return min(int(drawn), int(np.flatnonzero(probabilities)[-1]))
