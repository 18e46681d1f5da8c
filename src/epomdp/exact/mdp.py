"""Each environment of a family by itself: optimal values and policies, and any memoryless policy's values."""

from __future__ import annotations

import numpy as np
import scipy.sparse as sp
from numpy.typing import ArrayLike, NDArray

from epomdp.errors import BadInput
from epomdp.exact.family import Family
from epomdp.exact.sweeps import ending_environments, sweep_environments

# Below this many states all environments are solved at once by dense linear algebra.
_DENSE_STATES = 128
_DENSE_BYTES = 2**28
_NO_POLICY = np.zeros((0, 0))


def optimal_values(family: Family) -> NDArray[np.float64]:
    """(M, S) float64 optimal values V*_m(s), each environment known, within 1e-10 times max(1, |r|).

    Few states: policy iteration (Howard 1960) with dense solves. Many: Gauss-Seidel value iteration, in an
    order that runs backwards from the absorbing states and skips states whose successors did not change,
    O(nonzeros) a sweep, stopped by the bound |V - V*| <= residual * (most expected discounted steps);
    environments that converge too slowly for it end in policy iteration with sparse LU.

    Raises:
        BadInput: the family has a horizon (solve `family.layered()`), or the discount is 1 and some
            environment can go on for ever.
    """
    _check_endings(family, _NO_POLICY)
    if family.num_states <= _DENSE_STATES:
        return _dense(family, _dense_optimal)
    return _sweep(family, _NO_POLICY)


def optimal_policies(family: Family) -> NDArray[np.int64]:
    """(M, S) an optimal action of each state in each environment, the first of those equally good."""
    return greedy_actions(family, optimal_values(family))


def greedy_actions(family: Family, values: NDArray[np.float64]) -> NDArray[np.int64]:
    """(M, S) the first action whose one-step look-ahead on `values` (M, S) is the best but for rounding."""
    actions = np.empty(values.shape, dtype=np.int64)
    slack = 1e-11 * max(1.0, float(np.abs(values).max(initial=0.0)))
    for m in range(family.num_environments):
        q = action_values(family, m, values[m])
        actions[m] = np.argmax(q >= q.max(axis=1, keepdims=True) - slack, axis=1)
    return actions


def action_values(family: Family, environment: int, values: NDArray[np.float64]) -> NDArray[np.float64]:
    """(S, A) one-step look-ahead r + discount * P V of one environment, for `values` (S,)."""
    expected = family.matrix(environment) @ values
    return family.rewards[environment] + family.discount * expected.reshape(family.rewards.shape[1:])


def policy_values(family: Family, policy: ArrayLike) -> NDArray[np.float64]:
    """(M, S) float64 values of one memoryless policy in every environment, the expectation exact.

    Args:
        family: M environments.
        policy: (S, A) floats, action probabilities; or (S,) integers, one action a state.

    Dense solves for few states; for many, Gauss-Seidel with a certified error of 1e-10 times max(1, |r|).

    Raises:
        BadInput: the policy has a wrong shape, an action out of range or a row that does not sum to one; the
            family has a horizon; or the discount is 1 and the policy can go on for ever in some environment.
    """
    probabilities = policy_probabilities(policy, family.num_states, family.num_actions)
    _check_endings(family, probabilities)
    if family.num_states <= _DENSE_STATES:
        return _dense(family, lambda P, r, discount: _dense_evaluate(P, r, discount, probabilities))
    return _sweep(family, probabilities)


def policy_probabilities(policy: ArrayLike, num_states: int, num_actions: int) -> NDArray[np.float64]:
    """(S, A) action probabilities of a policy given as such, or as (S,) integer actions; checked."""
    given = np.asarray(policy)
    if given.shape == (num_states,) and np.issubdtype(given.dtype, np.integer):
        wrong = np.flatnonzero((given < 0) | (given >= num_actions))
        if wrong.size:
            raise BadInput(
                f"policy: state {wrong[0]} has action {given[wrong[0]]}; actions are 0 to {num_actions - 1}"
            )
        return np.eye(num_actions)[given]
    if given.shape != (num_states, num_actions) or not np.issubdtype(given.dtype, np.number):
        raise BadInput(
            f"policy: has shape {given.shape} and type {given.dtype}; "
            f"give ({num_states},) integer actions or ({num_states}, {num_actions}) probabilities"
        )
    given = np.ascontiguousarray(given, dtype=np.float64)
    sums = given.sum(axis=1)
    wrong = np.flatnonzero(~((np.abs(sums - 1.0) <= 1e-9) & (given >= 0).all(axis=1)))
    if wrong.size:
        raise BadInput(
            f"policy: state {wrong[0]} has probabilities {given[wrong[0]].tolist()}; "
            f"give numbers of at least 0 that sum to one"
        )
    return given


def _check_endings(family: Family, policy: NDArray[np.float64]) -> None:
    if family.horizon is not None:
        raise BadInput(
            f"family: has a horizon of {family.horizon} steps; solve family.layered(), with time in it"
        )
    if family.discount < 1.0:
        return
    endless = ending_environments(family, policy)
    wrong = np.flatnonzero(endless >= 0)
    if wrong.size:
        m = int(wrong[0])
        raise BadInput(
            f"family: discount is 1 but environment {m} can go on for ever from state {endless[m]}; "
            f"set a horizon or a discount below 1"
        )


def _dense(family: Family, solve) -> NDArray[np.float64]:
    """Apply `solve(transitions, rewards, discount)` to as many environments at a time as fit the memory."""
    M, S, A = family.rewards.shape
    chunk = max(1, _DENSE_BYTES // (8 * S * S * (A + 2)))
    values = np.empty((M, S))
    for first in range(0, M, chunk):
        last = min(first + chunk, M)
        rows = family.indptr[first * S * A : last * S * A + 1]
        entries = slice(rows[0], rows[-1])
        transitions = np.zeros(((last - first) * S * A, S))
        row = np.repeat(np.arange(len(transitions)), np.diff(rows))
        transitions[row, family.successors[entries]] = family.probabilities[entries]
        transitions = transitions.reshape(last - first, S, A, S)
        values[first:last] = solve(transitions, family.rewards[first:last], family.discount)
    return values


def _dense_evaluate(P, r, discount, policy) -> NDArray[np.float64]:
    """Solve V = r_pi + discount P_pi V; policy (S, A) for all environments or (M, S, A)."""
    weights = np.broadcast_to(policy, r.shape)
    chain = np.einsum("msa,msat->mst", weights, P)
    reward = np.einsum("msa,msa->ms", weights, r)
    states = np.arange(r.shape[1])
    # A state that the policy never leaves and that pays nothing is worth 0; at discount 1 it is singular.
    still = (chain[:, states, states] >= 1.0 - 1e-12) & (reward == 0.0)
    chain[still] = 0.0
    return np.linalg.solve(np.eye(r.shape[1]) - discount * chain, reward[..., None])[..., 0]


def _dense_optimal(P, r, discount) -> NDArray[np.float64]:
    """Howard's policy iteration in all environments together."""
    actions = r.argmax(axis=2)
    while True:
        values = _dense_evaluate(P, r, discount, np.eye(r.shape[2])[actions])
        q = r + discount * np.einsum("msat,mt->msa", P, values)
        current = np.take_along_axis(q, actions[..., None], axis=2)[..., 0]
        # Rounding must not make two equally good policies take turns for ever.
        better = q.max(axis=2) > current + 1e-13 * np.maximum(1.0, np.abs(values).max(axis=1, keepdims=True))
        if not better.any():
            return values
        actions = np.where(better, q.argmax(axis=2), actions)


def _sweep(family: Family, policy: NDArray[np.float64]) -> NDArray[np.float64]:
    """Gauss-Seidel in every environment, then sparse policy iteration where it has not converged."""
    values, converged = sweep_environments(family, policy)
    for m in np.flatnonzero(~converged):
        values[m] = _sparse_solve(family, int(m), policy, values[m])
    return values


def _sparse_solve(family: Family, m: int, policy, values) -> NDArray[np.float64]:
    """Policy iteration in environment m with sparse LU, from the greedy policy of nearly converged values."""
    S, A = family.num_states, family.num_actions
    states = np.arange(S)
    actions = None
    while True:
        if policy.size:
            weights = policy
        else:
            q = action_values(family, m, values)
            slack = 1e-13 * max(1.0, float(np.abs(values).max()))
            best = q.argmax(axis=1)
            if actions is not None:
                keep = q[states, actions] >= q.max(axis=1) - slack
                if keep.all():
                    return values
                best = np.where(keep, actions, best)
            actions = best
            weights = np.eye(A)[actions]
        values = _sparse_evaluate(family, m, weights)
        if policy.size:
            return values


def _sparse_evaluate(family: Family, m: int, weights: NDArray[np.float64]) -> NDArray[np.float64]:
    S, A = family.num_states, family.num_actions
    choose = sp.csr_array((weights.ravel(), (np.repeat(np.arange(S), A), np.arange(S * A))), shape=(S, S * A))
    chain = choose @ family.matrix(m)
    reward = (weights * family.rewards[m]).sum(axis=1)
    still = (chain.diagonal() >= 1.0 - 1e-12) & (reward == 0.0)
    chain = sp.diags_array(np.where(still, 0.0, 1.0)) @ chain
    system = (sp.eye_array(S) - family.discount * chain).tocsc()
    factors = sp.linalg.splu(system)
    values = factors.solve(reward)
    return values + factors.solve(reward - system @ values)
