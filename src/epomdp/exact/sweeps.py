"""Numba kernels over the environments of a family: which surely end, and Gauss-Seidel value iteration."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from epomdp.exact.compiled import compiled, share_out

if TYPE_CHECKING:
    from epomdp.exact.family import Family

_TOLERANCE = 1e-10
_MAX_SWEEPS = 3000
# States for which starting a thread pays.
_STATES_PER_THREAD = 2000


def ending_environments(family: Family, policy: NDArray[np.float64]) -> NDArray[np.int64]:
    """(M,) a state of each environment from which an episode can go on for ever, or -1 if it surely ends.

    An episode ends in an absorbing state: one that no action (of the policy) leaves and whose rewards are 0.
    With `policy` (0, 0) every choice of actions must end, else that of `policy` (S, A). In a finite
    environment this is so, with probability one, if and only if no set of other states can be kept for ever.
    """
    endless = np.empty(family.num_environments, dtype=np.int64)

    def kernel(first: int, last: int) -> None:
        _find_endless(
            first,
            last,
            family.indptr,
            family.successors,
            family.probabilities,
            family.rewards,
            policy,
            endless,
        )

    share_out(kernel, family.num_environments, _STATES_PER_THREAD // family.num_states + 1)
    return endless


def sweep_environments(
    family: Family, policy: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Values (M, S), optimal for `policy` (0, 0), else the policy's (S, A), and which of them converged (M,).

    Converged: within 1e-10 * max(1, |r|), or rounding, of the truth. At discount 1 every one must end.
    """
    M, S, _ = family.rewards.shape
    values, converged = np.zeros((M, S)), np.zeros(M, dtype=np.bool_)
    tolerance = _TOLERANCE * max(1.0, float(np.abs(family.rewards).max(initial=0.0)))

    def kernel(first: int, last: int) -> None:
        _sweep_range(
            first,
            last,
            family.indptr,
            family.successors,
            family.probabilities,
            family.rewards,
            policy,
            family.discount,
            tolerance,
            _MAX_SWEEPS,
            values,
            converged,
        )

    share_out(kernel, M, _STATES_PER_THREAD // S + 1)
    return values, converged


@compiled
def _absorbing(indptr, successors, rewards, policy):
    """Which states no allowed action leaves, and pay nothing."""
    S, A = rewards.shape
    absorbing = np.ones(S, dtype=np.bool_)
    for s in range(S):
        for a in range(A):
            if policy.shape[0] > 0 and policy[s, a] == 0.0:
                continue
            row = s * A + a
            stays = indptr[row + 1] - indptr[row] == 1 and successors[indptr[row]] == s
            if not stays or rewards[s, a] != 0.0:
                absorbing[s] = False
    return absorbing


@compiled
def _predecessors(indptr, successors, S, A):
    """Rows s * A + a that lead to each state, as start (S + 1,) and rows (nnz,)."""
    start = np.zeros(S + 1, dtype=np.int64)
    for k in range(indptr[0], indptr[S * A]):
        start[successors[k] + 1] += 1
    for s in range(S):
        start[s + 1] += start[s]
    place = start[:-1].copy()
    rows = np.empty(start[S], dtype=np.int32)
    for row in range(S * A):
        for k in range(indptr[row], indptr[row + 1]):
            rows[place[successors[k]]] = row
            place[successors[k]] += 1
    return start, rows


@compiled
def _find_endless(first, last, indptr, successors, probabilities, rewards, policy, endless):
    _, S, A = rewards.shape
    for m in range(first, last):
        part = indptr[m * S * A : (m + 1) * S * A + 1]
        ends = _absorbing(part, successors, rewards[m], policy)
        start, rows = _predecessors(part, successors, S, A)
        # An action stops counting when it may leave the set that could be kept; a policy's actions all count.
        left = np.full(S, A if policy.shape[0] == 0 else 1)
        counted = np.ones(S * A, dtype=np.bool_)
        stack = np.empty(S, dtype=np.int64)
        top = 0
        for s in range(S):
            if ends[s]:
                stack[top] = s
                top += 1
        while top > 0:
            top -= 1
            for i in range(start[stack[top]], start[stack[top] + 1]):
                row = rows[i]
                s = row // A
                if ends[s] or not counted[row] or (policy.shape[0] > 0 and policy[s, row % A] == 0.0):
                    continue
                counted[row] = False
                left[s] -= 1
                if left[s] == 0:
                    ends[s] = True
                    stack[top] = s
                    top += 1
        endless[m] = -1
        for s in range(S):
            if not ends[s]:
                endless[m] = s
                break


@compiled
def _backup(s, indptr, successors, probabilities, rewards, policy, discount, values):
    """Best (or the policy's) one-step look-ahead of state s, its self-loop solved for."""
    A = rewards.shape[1]
    optimise = policy.shape[0] == 0
    best = -np.inf
    mean = 0.0
    mean_stay = 0.0
    for a in range(A):
        weight = 1.0
        if not optimise:
            weight = policy[s, a]
            if weight == 0.0:
                continue
        total = rewards[s, a]
        stay = 0.0
        for k in range(indptr[s * A + a], indptr[s * A + a + 1]):
            if successors[k] == s:
                stay += discount * probabilities[k]
            else:
                total += discount * probabilities[k] * values[successors[k]]
        mean += weight * total
        mean_stay += weight * stay
        if optimise:
            best = max(best, total / (1.0 - stay) if stay < 1.0 else 0.0)
    if optimise:
        return best
    return mean / (1.0 - mean_stay) if mean_stay < 1.0 else 0.0


@compiled
def _backward_order(start, rows, absorbing, A):
    """All states, breadth first against the transitions: from the absorbing ones, then from the last."""
    S = absorbing.shape[0]
    order = np.empty(S, dtype=np.int64)
    seen = absorbing.copy()
    tail = 0
    for s in range(S):
        if absorbing[s]:
            order[tail] = s
            tail += 1
    head = 0
    fresh = S - 1
    while tail < S or head < tail:
        if head == tail:
            while seen[fresh]:
                fresh -= 1
            seen[fresh] = True
            order[tail] = fresh
            tail += 1
        for i in range(start[order[head]], start[order[head] + 1]):
            s = rows[i] // A
            if not seen[s]:
                seen[s] = True
                order[tail] = s
                tail += 1
        head += 1
    return order


@compiled
def _iterate(
    indptr,
    successors,
    probabilities,
    rewards,
    policy,
    discount,
    steps,
    tolerance,
    max_sweeps,
    order,
    start,
    rows,
    values,
):
    """Gauss-Seidel in place until residual * steps <= tolerance (true) or the sweeps are used up (false)."""
    S, A = rewards.shape
    dirty = np.ones(S, dtype=np.bool_)
    rounding = 2.0**-50
    threshold = 0.25 * tolerance / steps
    visited = 0
    while visited < max_sweeps * S:
        changed = False
        for s in order:
            if not dirty[s]:
                continue
            visited += 1
            dirty[s] = False
            new = _backup(s, indptr, successors, probabilities, rewards, policy, discount, values)
            change = abs(new - values[s])
            values[s] = new
            if change > threshold and change > rounding * abs(new):
                changed = True
                for i in range(start[s], start[s + 1]):
                    dirty[rows[i] // A] = True
        if changed:
            continue
        residual, largest = 0.0, 0.0
        for s in range(S):
            new = _backup(s, indptr, successors, probabilities, rewards, policy, discount, values)
            dirty[s] = True
            residual = max(residual, abs(new - values[s]))
            largest = max(largest, abs(new))
        if residual * steps <= tolerance or residual <= 4.0 * rounding * largest:
            return True
        threshold *= 0.25
        visited += S
    return False


@compiled
def _most_steps(indptr, successors, probabilities, absorbing, A, policy, max_sweeps, order, start, rows):
    """An upper bound on the expected steps to the end, whatever the actions (of the policy); 0 if not found.

    A solution W of W >= 1 + max_a P W - 1/2 bounds the steps by 2 W.
    """
    S = absorbing.shape[0]
    ones = np.ones((S, A))
    for s in range(S):
        if absorbing[s]:
            ones[s] = 0.0
    lengths = np.zeros(S)
    found = _iterate(
        indptr,
        successors,
        probabilities,
        ones,
        policy,
        1.0,
        1.0,
        0.5,
        max_sweeps,
        order,
        start,
        rows,
        lengths,
    )
    return 2.0 * lengths.max() + 1.0 if found else 0.0


@compiled
def _sweep_range(
    first,
    last,
    indptr,
    successors,
    probabilities,
    rewards,
    policy,
    discount,
    tolerance,
    max_sweeps,
    values,
    converged,
):
    _, S, A = rewards.shape
    for m in range(first, last):
        part = indptr[m * S * A : (m + 1) * S * A + 1]
        absorbing = _absorbing(part, successors, rewards[m], policy)
        start, rows = _predecessors(part, successors, S, A)
        order = _backward_order(start, rows, absorbing, A)
        if discount < 1.0:
            steps = 1.0 / (1.0 - discount)
        else:
            steps = _most_steps(
                part, successors, probabilities, absorbing, A, policy, max_sweeps, order, start, rows
            )
        converged[m] = steps > 0.0 and _iterate(
            part,
            successors,
            probabilities,
            rewards[m],
            policy,
            discount,
            steps,
            tolerance,
            max_sweeps,
            order,
            start,
            rows,
            values[m],
        )
