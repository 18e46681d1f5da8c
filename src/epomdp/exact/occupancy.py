"""A memoryless policy in every environment at once: its return, its visits, and the gradient of its return."""

from __future__ import annotations

import time
from dataclasses import dataclass

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

from epomdp.exact.family import Family
from epomdp.exact.layered import LayeredFamily
from epomdp.exact.mdp import optimal_values, policy_values

# Up to here all environments are solved together by dense linear algebra.
_DENSE_STATES = 128
_DENSE_NUMBERS = 2**24


class OutOfTime(Exception):
    """The deadline passed in the middle of an evaluation."""


@dataclass(frozen=True, eq=False)
class Evaluation:
    """One policy under weights w over the environments.

    Attributes:
        value: sum_m w_m J_m, the expected return from the start.
        gradient: (S, A) derivative of `value` by the probability of each action, all of them taken as free:
            sum_m w_m sum_t discount^t P_m(s_t = s) Q_m(s, a).
        occupancy: (S,) expected discounted visits, sum_m w_m sum_t discount^t P_m(s_t = s).
    """

    value: float
    gradient: NDArray[np.float64]
    occupancy: NDArray[np.float64]


class MemorylessReturn:
    """J(pi) = sum_m w_m d0' (I - discount P_m^pi)^-1 r_m^pi as a function of pi (S, A), with its gradient.

    The gradient takes one more solve an environment, with the transposed matrix (the adjoint): that gives the
    discounted visits d_m, and dJ/dpi(a|s) = sum_m w_m d_m(s) Q_m(s, a), the policy gradient theorem of Sutton
    et al. (2000). A family with a horizon is solved with time in the state and one policy row for all times.

    O(M S^2 (S + A)) for few states; one sparse factorisation an environment for many.

    Args:
        family: M environments.
        deadline: reading of `time.monotonic` after which `evaluate` raises `OutOfTime`; for large families.

    Raises:
        BadInput: the discount is 1 and some environment can go on for ever.
    """

    def __init__(self, family: Family, deadline: float = np.inf):
        self.family = family
        self.deadline = deadline
        inner: Family = family
        self.rows = np.arange(family.num_states)
        if family.horizon is not None:
            inner = family.layered()
            # The end is nobody's state; its row does not matter, for nothing can be gained there.
            self.rows = np.maximum(inner.states, 0)
        self.inner = inner
        if inner.discount == 1.0:
            optimal_values(inner)
        M, S, A = inner.rewards.shape
        self._ended = _ended(inner)
        self._dense = None
        if S <= _DENSE_STATES and M * S * A * S <= _DENSE_NUMBERS:
            self._dense = np.ascontiguousarray(inner.dense_transitions().transpose(1, 0, 3, 2))

    def value(self, policy: NDArray[np.float64], weights: NDArray[np.float64] | None = None) -> float:
        """Expected return of the policy (S, A) under `weights` (M,), by default the family's own."""
        return float(self._weights(weights) @ self.returns(policy))

    def returns(self, policy: NDArray[np.float64]) -> NDArray[np.float64]:
        """(M,) expected return of the policy (S, A) in every environment."""
        if self._dense is None:
            return policy_values(self.inner, policy[self.rows]) @ self.inner.initial
        system, reward = self._system(policy[self.rows], np.zeros(self.inner.num_states))
        return np.linalg.solve(system, reward[..., None])[..., 0] @ self.inner.initial

    def evaluate(
        self,
        policy: NDArray[np.float64],
        weights: NDArray[np.float64] | None = None,
        bonus: NDArray[np.float64] | None = None,
    ) -> Evaluation:
        """Value, gradient and visits of the policy (S, A) under `weights` (M,), by default the family's own.

        `bonus` (S,) is a reward for being in a state, whatever is done there.
        """
        weights = self._weights(weights)
        lifted = policy[self.rows]
        extra = (
            np.zeros(self.inner.num_states) if bonus is None else np.where(self._idle(), 0, bonus[self.rows])
        )
        solve = self._sparse_parts if self._dense is None else self._dense_parts
        value, gradient, occupancy = solve(lifted, weights, extra)
        shape = self.family.rewards.shape[1:]
        tied = np.zeros(shape)
        np.add.at(tied, self.rows, gradient)
        visits = np.zeros(shape[0])
        np.add.at(visits, self.rows, np.where(self._idle(), 0.0, occupancy))
        return Evaluation(float(value), tied, visits)

    @property
    def changes_are_exact(self) -> bool:
        """Whether `single_changes` gives values rather than first-order estimates."""
        return self._dense is not None and self.inner is self.family

    def single_changes(self, policy: NDArray[np.float64]) -> NDArray[np.float64]:
        """(S, A) value of the policy if it took action a in state s for sure, and was as before elsewhere.

        Exact where all environments are solved together and there is no horizon: with G = (I - discount P)^-1
        a changed row is an update of rank one (Sherman and Morrison 1950), and
        J' - J = sum_m w_m d_m(s) A_m(s, a) / (1 - discount (P_m(s, a) - P_m^pi(s)) G_m[:, s]),
        with A the advantage. Otherwise the first-order estimate: the denominator taken as one.
        """
        if not self.changes_are_exact:
            now = self.evaluate(policy)
            mean = (policy * now.gradient).sum(axis=1, keepdims=True)
            return now.value + now.gradient - mean
        N = self.inner.num_states
        system, reward = self._system(policy, np.zeros(N))
        inverse = np.linalg.inv(system)
        values = (inverse @ reward[..., None])[..., 0]
        visits = self.inner.initial @ inverse
        assert self._dense is not None
        transitions = self._dense.transpose(1, 0, 3, 2)
        q = self.inner.rewards + self.inner.discount * (transitions @ values[:, None, :, None])[..., 0]
        # Row s of the chain is e_s - its row of the system, so P_m^pi(s) G_m[:, s] is known from G itself.
        back = self.inner.discount * np.einsum("msat,mts->msa", transitions, inverse)
        back -= np.einsum("msa,sa->ms", back, policy)[..., None]
        gains = visits[..., None] * (q - values[..., None]) / (1.0 - back)
        return self.family.weights @ (values @ self.inner.initial) + np.tensordot(
            self.family.weights, gains, axes=1
        )

    def _weights(self, weights: NDArray[np.float64] | None) -> NDArray[np.float64]:
        return self.family.weights if weights is None else weights

    def _idle(self) -> NDArray[np.bool_]:
        """(N,) the end of a family with a horizon: time spent there is no time of the episode."""
        idle = np.zeros(self.inner.num_states, dtype=np.bool_)
        if isinstance(self.inner, LayeredFamily):
            idle[self.inner.end] = True
        return idle

    def _system(self, policy, extra):
        """I - discount P^pi (M, N, N) and r^pi (M, N)."""
        assert self._dense is not None
        M, N, _ = self.inner.rewards.shape
        chain = (self._dense.reshape(N, M * N, -1) @ policy[:, :, None]).reshape(N, M, N).transpose(1, 0, 2)
        if self.inner.discount == 1.0:
            chain = np.where(self._ended[:, :, None], 0.0, chain)
        return np.eye(N) - self.inner.discount * chain, (self.inner.rewards * policy).sum(axis=2) + extra

    def _dense_parts(self, policy, weights, extra):
        assert self._dense is not None
        M, N, A = self.inner.rewards.shape
        system, reward = self._system(policy, extra)
        start = np.broadcast_to(self.inner.initial[:, None], (M, N, 1))
        values = np.linalg.solve(system, reward[..., None])[..., 0]
        visits = np.linalg.solve(system.transpose(0, 2, 1), start)[..., 0]
        visits *= weights[:, None]
        # sum_m w_m d_m(s) (r_m(s, a) + discount sum_t P_m(s, a, t) V_m(t)), contracted over (m, t) at once.
        carried = (visits.T[:, :, None] * values).reshape(N, 1, M * N)
        ahead = (carried @ self._dense.reshape(N, M * N, A))[:, 0]
        gradient = np.einsum("ms,msa->sa", visits, self.inner.rewards) + self.inner.discount * ahead
        return weights @ (values @ self.inner.initial), gradient, visits.sum(axis=0)

    def _sparse_parts(self, policy, weights, extra):
        inner = self.inner
        N, A = policy.shape
        gradient, occupancy, value = np.zeros((N, A)), np.zeros(N), 0.0
        select = (policy.ravel(), np.arange(N * A), np.arange(0, N * A + 1, A))
        choose = sp.csr_array(select, shape=(N, N * A))
        for m in np.flatnonzero(weights):
            if time.monotonic() > self.deadline:
                raise OutOfTime
            transitions = inner.matrix(int(m))
            chain = choose @ transitions
            if inner.discount == 1.0:
                chain = sp.diags_array(np.where(self._ended[m], 0.0, 1.0)) @ chain
            factors = sp.linalg.splu((sp.eye_array(N) - inner.discount * chain).tocsc())
            values = factors.solve((inner.rewards[m] * policy).sum(axis=1) + extra)
            visits = weights[m] * factors.solve(inner.initial, trans="T")
            ahead = (transitions @ values).reshape(N, A)
            gradient += visits[:, None] * (inner.rewards[m] + inner.discount * ahead)
            occupancy += visits
            value += weights[m] * (inner.initial @ values)
        return value, gradient, occupancy


def _ended(family: Family) -> NDArray[np.bool_]:
    """(M, S) states that no action leaves and that pay nothing."""
    M, S, A = family.rewards.shape
    first = family.successors[family.indptr[:-1]].reshape(M, S, A)
    stays = (np.diff(family.indptr).reshape(M, S, A) == 1) & (first == np.arange(S)[:, None])
    return (stays & (family.rewards == 0.0)).all(axis=2)
