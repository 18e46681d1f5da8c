"""Families: finite sets of MDPs over shared states and actions, one of which is the true one."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, eq=False)
class Family:
    """M MDPs that share S states and A actions, with a weight (prior or posterior) on each.

    Transitions are kept in one compressed sparse row form: row `(m * S + s) * A + a` holds the successor
    distribution of action a in state s of environment m. Successors within a row are sorted and unique.

    Attributes:
        indptr: (M * S * A + 1,) int64, start of each row in `successors` and `probabilities`.
        successors: (nnz,) int32, successor states.
        probabilities: (nnz,) float64, each row sums to one.
        rewards: (M, S, A) float64, expected reward of an action.
        initial: (S,) float64, start-state distribution, shared by the environments.
        weights: (M,) float64, probability of each environment, sums to one.
        discount: discount factor in [0, 1), or 1 where `horizon` is given.
        horizon: number of steps after which an episode stops, or None.
    """

    indptr: NDArray[np.int64]
    successors: NDArray[np.int32]
    probabilities: NDArray[np.float64]
    rewards: NDArray[np.float64]
    initial: NDArray[np.float64]
    weights: NDArray[np.float64]
    discount: float
    horizon: int | None = None

    @property
    def num_environments(self) -> int:
        """M, the number of environments."""
        return self.rewards.shape[0]

    @property
    def num_states(self) -> int:
        """S, the number of states."""
        return self.rewards.shape[1]

    @property
    def num_actions(self) -> int:
        """A, the number of actions."""
        return self.rewards.shape[2]

    @classmethod
    def from_arrays(cls, transitions, rewards, initial, weights, discount, horizon=None) -> Family:
        """Family from dense arrays: transitions (M, S, A, S), rewards (M, S, A), initial (S,), weights (M,)."""
        transitions = np.asarray(transitions, dtype=np.float64)
        M, S, A, _ = transitions.shape
        rows = transitions.reshape(M * S * A, S)
        row, successor = np.nonzero(rows)
        indptr = np.searchsorted(row, np.arange(M * S * A + 1)).astype(np.int64)
        return cls(
            indptr,
            successor.astype(np.int32),
            rows[row, successor],
            np.asarray(rewards, dtype=np.float64),
            np.asarray(initial, dtype=np.float64),
            np.asarray(weights, dtype=np.float64),
            float(discount),
            horizon,
        )

    def dense_transitions(self) -> NDArray[np.float64]:
        """(M, S, A, S) dense transition probabilities; for small families."""
        M, S, A = self.rewards.shape
        dense = np.zeros((M * S * A, S))
        dense[np.repeat(np.arange(M * S * A), np.diff(self.indptr)), self.successors] = self.probabilities
        return dense.reshape(M, S, A, S)
