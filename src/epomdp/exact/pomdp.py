"""Flat POMDPs: what `.pomdp` files hold, and what an epistemic POMDP becomes when it is flattened."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray


@dataclass(frozen=True, eq=False)
class Pomdp:
    """A POMDP with S hidden states, A actions and O observations.

    Attributes:
        transitions: A matrices (S, S) in CSR form, `transitions[a][s, s']`, rows sum to one.
        observations: A matrices (S, O) in CSR form, `observations[a][s', o]`, rows sum to one.
        rewards: (S, A) float64, expected immediate reward.
        initial: (S,) float64, start belief.
        discount: discount factor in [0, 1).
        states, actions, observation_names: names, in index order; empty where the file numbers them.
    """

    transitions: tuple[sp.csr_array, ...]
    observations: tuple[sp.csr_array, ...]
    rewards: NDArray[np.float64]
    initial: NDArray[np.float64]
    discount: float
    states: tuple[str, ...] = field(default=())
    actions: tuple[str, ...] = field(default=())
    observation_names: tuple[str, ...] = field(default=())

    @property
    def num_states(self) -> int:
        """S, the number of hidden states."""
        return self.rewards.shape[0]

    @property
    def num_actions(self) -> int:
        """A, the number of actions."""
        return self.rewards.shape[1]

    @property
    def num_observations(self) -> int:
        """O, the number of observations."""
        return int(self.observations[0].shape[1])  # type: ignore[index]
