"""What the solver returns: bounds with their history, and the policy."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from epomdp.errors import BadInput
from epomdp.exact.formats.files import replacing
from epomdp.exact.solving.engine import Engine
from epomdp.exact.solving.extract import extract_policy
from epomdp.exact.solving.policy import SolvedPolicy, read_arrays
from epomdp.exact.solving.tree import DecisionNode, decision_tree


@dataclass(frozen=True, eq=False)
class Solution:
    """Bounds on the Bayes-optimal value of a problem at the start, and a policy that attains the lower one.

    It is itself a policy, the one in `policy`: see `epomdp.exact.belief.AdaptivePolicy`. Its states are those of the
    family; with a horizon too, where the memory keeps the time.

    Attributes:
        lower, upper: certified bounds.
        status: "solved" if the gap asked for was reached; else "time-limit", "memory-limit" where the arrays
            would not have fitted into the memory, or "rounding-limit" where doubles let the bounds come no closer.
        seconds: taken, preparation included.
        iterations: beliefs backed up by the search.
        history: (n, 3) float64: seconds, lower, upper.
    """

    lower: float
    upper: float
    status: str
    seconds: float
    iterations: int
    history: NDArray[np.float64]
    _source: SolvedPolicy | Engine = field(repr=False)

    @property
    def policy(self) -> SolvedPolicy:
        """The controller, which attains at least `lower` but for rounding; made on first use.

        Until then the arrays of the search are kept in memory.
        """
        if isinstance(self._source, Engine):
            object.__setattr__(self, "_source", extract_policy(self._source))
        return cast(SolvedPolicy, self._source)

    @property
    def on_layers(self) -> SolvedPolicy:
        """The policy for the states of `family.layered()`: see `SolvedPolicy.on_layers`."""
        return self.policy.on_layers

    @property
    def gap(self) -> float:
        """Upper minus lower bound."""
        return self.upper - self.lower

    def start(self, state: int = -1) -> int:
        """The policy's memory at the start of an episode in `state`."""
        return self.policy.start(state)

    def act(self, state: int, memory: int, rng: np.random.Generator | None = None) -> int:
        """The policy's action."""
        return self.policy.act(state, memory, rng)

    def update(self, memory: int, state: int, action: int, reward: float, next_state: int) -> int:
        """The policy's memory after a step; for a flat POMDP `next_state` is the observation."""
        return self.policy.update(memory, state, action, reward, next_state)

    def environment_returns(self) -> NDArray[np.float64]:
        """(M,) value of the policy in each environment of a family; NaN for those of weight 0.

        For a flat POMDP: by start state, NaN where no episode starts.
        """
        policy = self.policy
        total = np.full(policy.num_hidden, np.nan)
        for n, weight in zip(policy.start_nodes, policy.start_weights, strict=True):
            hidden = policy.hidden_of(int(n))
            total[hidden] = np.nan_to_num(total[hidden]) + weight * policy.values_of(int(n))
        return total

    def simulate(
        self, episodes: int, rng: np.random.Generator, max_steps: int | None = None
    ) -> NDArray[np.float64]:
        """(episodes,) discounted returns of the policy with hidden values drawn from the start beliefs.

        An episode is cut after `max_steps`; by default where a discount below 1 has shrunk what comes to 1e-9,
        and never without a discount.
        """
        if episodes < 1:
            raise BadInput(f"simulate: {episodes} episodes; give at least 1")
        policy = self.policy
        if max_steps is None and policy.discount < 1.0:
            max_steps = 1 + int(np.log(1e-9) / np.log(max(policy.discount, 1e-9)))
        beliefs = policy.start_beliefs()
        returns = np.zeros(episodes)
        for i in range(episodes):
            start = rng.choice(len(beliefs), p=policy.start_weights)
            memory = int(policy.start_nodes[start])
            hidden = int(rng.choice(len(beliefs[start]), p=beliefs[start]))
            weight, step = 1.0, 0
            while (max_steps is None or step < max_steps) and not policy.ends(memory):
                reward, memory, hidden = policy.draw(memory, hidden, rng)
                returns[i] += weight * reward
                weight *= policy.discount
                step += 1
        return returns

    def tree(self, depth: int = 5, least_probability: float = 0.01) -> list[DecisionNode]:
        """The policy as a decision tree for each start; `str()` of one is its picture in text.

        With a horizon its states are those of `family.layered()`, which tell the time.

        Args:
            depth: decisions.
            least_probability: of branches to show, from the start.
        """
        if depth < 1:
            raise BadInput(f"tree: a depth of {depth}; give at least 1")
        return decision_tree(self.policy, depth, least_probability)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write all of it to an `.npz` file without pickled objects.

        Raises:
            BadInput: the folder is missing or not writable.
            RunFailed: writing failed; what stood there before is untouched.
        """
        with replacing(path) as file:
            np.savez_compressed(
                file,
                allow_pickle=False,
                bounds=np.array([self.lower, self.upper, self.seconds]),
                status=np.array(self.status),
                iterations=np.array(self.iterations),
                history=self.history,
                **self.policy.arrays(),
            )

    @staticmethod
    def load(path: str | os.PathLike[str]) -> Solution:
        """Read what `save` wrote.

        Raises:
            BadInput: it is not such a file, or damaged.
        """
        plain = read_arrays(path)
        try:
            policy = SolvedPolicy.from_arrays(plain)
            lower, upper, seconds = (float(value) for value in plain["bounds"])
            status, iterations = str(plain["status"]), int(plain["iterations"])
            return Solution(lower, upper, status, seconds, iterations, plain["history"], policy)
        except (KeyError, ValueError, TypeError, IndexError) as error:
            raise BadInput(f"{path}: is no saved solution ({error}); save it again") from None


@dataclass(frozen=True)
class Progress:
    """Where a search stands.

    Attributes:
        lower, upper: bounds at the start.
        seconds: since the beginning.
        seconds_left: until the gap asked for, extrapolated; None while that cannot be said.
    """

    lower: float
    upper: float
    seconds: float
    seconds_left: float | None

    @property
    def gap(self) -> float:
        """Upper minus lower bound."""
        return self.upper - self.lower


def extrapolate(history: list[Any], gap: float) -> float | None:
    """Seconds until the gap falls to `gap`, if it goes on as a power of time as it has since half the time."""
    now, lower, upper = history[-1]
    early = next((entry for entry in reversed(history) if entry[0] <= 0.5 * now), None)
    if early is None or upper - lower <= gap:
        return None if early is None else 0.0
    fall = np.log((early[2] - early[1]) / (upper - lower))
    if not fall > 1e-6:
        return None
    factor = np.log((upper - lower) / gap) * np.log(now / early[0]) / fall
    return float(now * np.expm1(factor)) if factor < 50.0 else None
