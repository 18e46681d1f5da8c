"""Families: finite sets of MDPs over shared states and actions, one of which is the true one."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Self, TypeVar

import numpy as np
import scipy.sparse as sp
from numpy.typing import ArrayLike, NDArray

from epomdp.errors import BadInput
from epomdp.exact import family_checks as checks
from epomdp.exact.memory import require_memory

if TYPE_CHECKING:
    from epomdp.exact.layered import LayeredFamily

# Entries handled at a time where a whole family's would need several times its memory.
_BLOCK = 2**22

AnyFamily = TypeVar("AnyFamily", bound="Family")


@dataclass(frozen=True, eq=False)
class Family:
    """M MDPs that share S states and A actions, with a weight (prior or posterior) on each.

    Transitions are kept in one compressed sparse row form: row `(m * S + s) * A + a` holds the successor
    distribution of action a in state s of environment m. Successors within a row are sorted and unique, and
    their probabilities are positive. The constructor takes arrays that are so as they are, without a copy or
    a check; `from_arrays`, `from_sparse`, `load` and `checked` check everything.

    Attributes:
        indptr: (M * S * A + 1,) int64, start of each row in `successors` and `probabilities`.
        successors: (nnz,) int32, successor states.
        probabilities: (nnz,) float64, each row sums to one.
        rewards: (M, S, A) float64, expected reward of an action.
        initial: (S,) float64, start-state distribution, shared by the environments.
        weights: (M,) float64, probability of each environment, sums to one.
        discount: discount factor in [0, 1); or 1 where there is a horizon, or every environment surely ends
            in absorbing states without reward.
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

    @staticmethod
    def from_arrays(
        transitions: ArrayLike,
        rewards: ArrayLike,
        initial: ArrayLike,
        weights: ArrayLike,
        discount: float,
        horizon: int | None = None,
    ) -> Family:
        """Family from dense arrays: transitions (M, S, A, S), rewards (M, S, A), initial (S,), weights (M,).

        Rows, `initial` and `weights` must sum to one within 1e-6 and are scaled to do so exactly.

        Raises:
            BadInput: naming the array, the environment, state and action, and what is wrong there.
        """
        dense = checks.as_floats("transitions", transitions)
        rewards = checks.as_floats("rewards", rewards)
        checks.check_dense_shapes(dense, rewards)
        M, S, A, _ = dense.shape
        rows = dense.reshape(M * S * A, S)
        row, successor = np.nonzero(rows)
        indptr = np.zeros(M * S * A + 1, dtype=np.int64)
        np.cumsum(np.bincount(row, minlength=M * S * A), out=indptr[1:])
        return Family.from_sparse(
            indptr, successor, rows[row, successor], rewards, initial, weights, discount, horizon
        )

    @staticmethod
    def from_sparse(
        indptr: ArrayLike,
        successors: ArrayLike,
        probabilities: ArrayLike,
        rewards: ArrayLike,
        initial: ArrayLike,
        weights: ArrayLike,
        discount: float,
        horizon: int | None = None,
    ) -> Family:
        """Family from the sparse parts named as the attributes; arrays of the right type are not copied.

        Successors of a row may come in any order; repeated ones are added up, those of probability 0 dropped.

        Raises:
            BadInput: naming the array, the environment, state and action, and what is wrong there.
        """
        family = Family(
            checks.as_integers("transitions_indptr", indptr, np.int64),
            checks.as_integers("transitions_successors", successors, np.int32),
            checks.as_floats("transitions_probabilities", probabilities),
            checks.as_floats("rewards", rewards),
            checks.as_floats("initial", initial),
            checks.as_floats("weights", weights),
            checks.as_discount(discount),
            checks.as_horizon(horizon),
        )
        return family.checked()

    @staticmethod
    def load(path: str | os.PathLike[str]) -> Family:
        """Read a family file; see `epomdp.exact.family_io.load_family`."""
        from epomdp.exact.family_io import load_family

        return load_family(path)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write a family file; see `epomdp.exact.family_io.save_family`."""
        from epomdp.exact.family_io import save_family

        save_family(self, path)

    def checked(self) -> Self:
        """This family with sorted rows that sum to one exactly.

        Raises:
            BadInput: naming the array, the environment, state and action, and what is wrong there.
        """
        checks.check_sparse_shapes(self)
        checks.check_numbers(self)
        family = canonical(self)
        checks.check_rows(family)
        initial = checks.as_distribution("initial", "state", family.initial)
        weights = checks.as_distribution("weights", "environment", family.weights)
        probabilities = checks.scaled_rows(family)
        family = replace(family, probabilities=probabilities, initial=initial, weights=weights)
        checks.check_discount(family)
        return family

    def dense_transitions(self) -> NDArray[np.float64]:
        """(M, S, A, S) dense transition probabilities; for small families."""
        M, S, A = self.rewards.shape
        require_memory(8.0 * M * S * A * S, "dense transitions", "use the sparse rows")
        dense = np.zeros((M * S * A, S))
        dense[np.repeat(np.arange(M * S * A), np.diff(self.indptr)), self.successors] = self.probabilities
        return dense.reshape(M, S, A, S)

    def row(self, environment: int, state: int, action: int) -> tuple[NDArray[np.int32], NDArray[np.float64]]:
        """Successors and their probabilities of one action; views, not copies."""
        row = (environment * self.num_states + state) * self.num_actions + action
        part = slice(self.indptr[row], self.indptr[row + 1])
        return self.successors[part], self.probabilities[part]

    def matrix(self, environment: int) -> sp.csr_array:
        """(S * A, S) sparse transitions of one environment, row s * A + a; shares this family's memory."""
        size = self.num_states * self.num_actions
        indptr = self.indptr[environment * size : (environment + 1) * size + 1]
        part = slice(indptr[0], indptr[-1])
        data = (self.probabilities[part], self.successors[part], indptr - indptr[0])
        return sp.csr_array(data, shape=(size, self.num_states))

    def with_weights(self, weights: ArrayLike) -> Self:
        """The same environments with other weights (M,), a distribution."""
        weights = checks.as_floats("weights", weights)
        if weights.shape != self.weights.shape:
            raise BadInput(
                f"weights: has shape {weights.shape}; give one number for each of {self.weights.size}"
            )
        return replace(self, weights=checks.as_distribution("weights", "environment", weights))

    def select(self, environments: Sequence[int] | NDArray[np.integer], weights: ArrayLike) -> Self:
        """The family of some of the environments (repeats allowed), with new weights of the same length."""
        chosen = checks.as_integers("environments", environments, np.int64)
        if chosen.ndim != 1 or chosen.size == 0 or chosen.max() >= self.num_environments:
            raise BadInput(
                f"environments: are {checks.short(environments)}; give some of 0 to {self.num_environments - 1}"
            )
        size = self.num_states * self.num_actions
        rows = (chosen[:, None] * size + np.arange(size)).ravel()
        indptr, entries = gather_rows(self.indptr, rows)
        return replace(
            self,
            indptr=indptr,
            successors=self.successors[entries],
            probabilities=self.probabilities[entries],
            rewards=self.rewards[chosen],
            weights=np.ones(chosen.size),
        ).with_weights(weights)

    def mean(self) -> Self:
        """The family of one MDP: the weighted mean of the transitions and rewards of this one's.

        Not what the agent meets (it meets one environment a whole episode long), but what
        certainty-equivalent planning takes for it.
        """
        size = self.num_states * self.num_actions
        total = sp.csr_array((size, self.num_states))
        block = max(1, _BLOCK * self.num_environments // max(1, self.probabilities.size))
        for first in range(0, self.num_environments, block):
            chosen = np.arange(first, min(first + block, self.num_environments))
            chosen = chosen[self.weights[chosen] > 0]
            parts = [self.weights[m] * self.matrix(m) for m in chosen]
            total = sp.csr_array(sum(parts, start=total))
        total.sum_duplicates()
        return replace(
            self,
            indptr=total.indptr.astype(np.int64),
            successors=total.indices.astype(np.int32),
            probabilities=total.data,
            rewards=np.tensordot(self.weights, self.rewards, axes=1)[None],
            weights=np.ones(1),
        ).checked()

    def layered(self) -> LayeredFamily:
        """The family with time in the state, whose horizon is None; see `epomdp.exact.layered.layered`."""
        from epomdp.exact.layered import layered

        return layered(self)


def gather_rows(
    indptr: NDArray[np.int64], rows: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Row starts of the selected rows set one after the other, and the indices of their entries."""
    lengths = indptr[rows + 1] - indptr[rows]
    starts = np.zeros(rows.size + 1, dtype=np.int64)
    np.cumsum(lengths, out=starts[1:])
    entries = np.arange(starts[-1]) + np.repeat(indptr[rows] - starts[:-1], lengths)
    return starts, entries


def canonical(family: AnyFamily) -> AnyFamily:
    """Rows sorted, repeated successors added up, zeros dropped; the same object where that is so already."""
    steps = np.diff(family.successors)
    inner = family.indptr[(family.indptr > 0) & (family.indptr < family.successors.size)] - 1
    steps[inner] = 1
    if (steps > 0).all() and (family.probabilities > 0).all():
        return family
    shape = (family.rewards.size, family.num_states)
    data = (family.probabilities.copy(), family.successors.copy(), family.indptr.copy())
    rows = sp.csr_array(data, shape=shape)
    rows.sum_duplicates()
    rows.eliminate_zeros()
    return replace(
        family,
        indptr=rows.indptr.astype(np.int64),
        successors=rows.indices.astype(np.int32),
        probabilities=rows.data,
    )
