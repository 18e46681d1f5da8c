"""Policies with a small memory of their own: none at all, or the node of a finite-state controller."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from epomdp.errors import BadInput
from epomdp.exact.mdp import policy_probabilities


@dataclass(frozen=True, eq=False)
class Memoryless:
    """A policy that sees the current state only.

    Attributes:
        table: (S, A) action probabilities, or (S,) integer actions.
    """

    table: NDArray

    def __post_init__(self) -> None:
        table = np.asarray(self.table)
        num_actions = (
            int(table.max(initial=0)) + 1 if table.ndim == 1 else table.shape[-1] if table.ndim else 0
        )
        object.__setattr__(
            self, "table", policy_probabilities(table, len(table) if table.ndim else 0, num_actions)
        )

    def start(self, state: int) -> None:
        """Nothing is remembered."""

    def probabilities(self, state: int, memory: None) -> NDArray[np.float64]:
        """(A,) action probabilities."""
        return self.table[state]

    def act(self, state: int, memory: None, rng: np.random.Generator) -> int:
        """An action, drawn."""
        return int(rng.choice(self.table.shape[1], p=self.table[state]))

    def update(self, memory: None, state: int, action: int, reward: float, next_state: int) -> None:
        """Nothing is remembered."""


@dataclass(frozen=True, eq=False)
class FiniteStateController:
    """A policy whose memory is one of N nodes; it reads states and its own actions, and no rewards.

    A controller that reads rewards too is any adaptive policy with a finite memory.

    Attributes:
        first: (S,) integers, the node at the start of an episode in each state.
        actions: (N, S, A) action probabilities in each node and state.
        following: (N, A, S) integers, the next node after an action that led to a state.
    """

    first: NDArray[np.int64]
    actions: NDArray[np.float64]
    following: NDArray[np.int64]

    def __post_init__(self) -> None:
        actions = np.asarray(self.actions, dtype=np.float64)
        if actions.ndim != 3:
            raise BadInput(f"controller: actions have shape {actions.shape}; give (nodes, states, actions)")
        N, S, A = actions.shape
        for name, right in (("first", (S,)), ("following", (N, A, S))):
            nodes = np.asarray(getattr(self, name))
            if nodes.shape != right or nodes.dtype.kind not in "iu":
                raise BadInput(
                    f"controller: {name} has shape {nodes.shape}, {nodes.dtype}; give {right} integers"
                )
            if nodes.size and (nodes.min() < 0 or nodes.max() >= N):
                raise BadInput(
                    f"controller: {name} names node {nodes.min()} or {nodes.max()}; nodes are 0 to {N - 1}"
                )
            object.__setattr__(self, name, nodes)
        object.__setattr__(
            self, "actions", policy_probabilities(actions.reshape(N * S, A), N * S, A).reshape(N, S, A)
        )

    def start(self, state: int) -> int:
        """The first node."""
        return int(self.first[state])

    def probabilities(self, state: int, memory: int) -> NDArray[np.float64]:
        """(A,) action probabilities."""
        return self.actions[memory, state]

    def act(self, state: int, memory: int, rng: np.random.Generator) -> int:
        """An action, drawn."""
        return int(rng.choice(self.actions.shape[2], p=self.actions[memory, state]))

    def update(self, memory: int, state: int, action: int, reward: float, next_state: int) -> int:
        """The next node."""
        return int(self.following[memory, action, next_state])
