"""Numba kernels of `epomdp.exact.memoryless.boxes`: what policies within a box can be worth, visit and gain."""

from __future__ import annotations

import numpy as np

from epomdp.exact.compiled import compiled

# Sweeps move bounds towards the truth, so they may stop at any time; near a discount of 1 they must.
MOST_SWEEPS = 10_000


@compiled
def informed_bound(initial, weights, high):
    """Mean over the environments of the value at the start."""
    bound = 0.0
    for m in range(weights.size):
        for s in range(initial.size):
            bound += weights[m] * initial[s] * high[m, s]
    return bound


@compiled
def best_mixture(q, lower, upper):
    """The most that sum_a pi_a q_a comes to with lower <= pi <= upper and sum_a pi_a = 1."""
    total, rest = 0.0, 1.0
    for a in range(q.size):
        total += lower[a] * q[a]
        rest -= lower[a]
    last = -1
    while rest > 0.0:
        # The next best action; no sorted copy, for this is the innermost loop of everything.
        best = -1
        for a in range(q.size):
            after = last < 0 or q[a] < q[last] or (q[a] == q[last] and a > last)
            if after and (best < 0 or q[a] > q[best]):
                best = a
        if best < 0:
            break
        share = min(rest, upper[best] - lower[best])
        total += share * q[best]
        rest -= share
        last = best
    return total


@compiled
def _sweeps(
    base, indptr, successors, probabilities, rewards, discount, lower, upper, sign, tolerance, values
):
    """Gauss-Seidel to the best (sign 1, from above) or worst (-1, from below) values (S,) of a box."""
    S, A = rewards.shape
    q = np.empty(A)
    for _ in range(MOST_SWEEPS):
        change = 0.0
        for s in range(S - 1, -1, -1):
            for a in range(A):
                row = base + s * A + a
                total = rewards[s, a]
                for k in range(indptr[row], indptr[row + 1]):
                    total += discount * probabilities[k] * values[successors[k]]
                q[a] = sign * total
            new = sign * best_mixture(q, lower[s], upper[s])
            # Only ever towards the truth: what was a bound stays one.
            if sign * new < sign * values[s]:
                change = max(change, abs(new - values[s]))
                values[s] = new
        if change <= tolerance:
            break


@compiled
def box_values(indptr, successors, probabilities, rewards, discount, lower, upper, sign, tolerance, values):
    """Tighten bounds of the values (M, S) of the policies of a box: upper ones (sign 1) or lower ones (-1)."""
    M, S, A = rewards.shape
    for m in range(M):
        _sweeps(
            m * S * A,
            indptr,
            successors,
            probabilities,
            rewards[m],
            discount,
            lower,
            upper,
            sign,
            tolerance,
            values[m],
        )


@compiled
def slopes(
    indptr,
    successors,
    probabilities,
    rewards,
    discount,
    initial,
    weights,
    lower,
    upper,
    tolerance,
    high,
    low,
    most,
    least,
):
    """Bounds (S, A, A) of dJ/dpi(a|s) - dJ/dpi(b|s) over a box: the highest and the lowest at [s, a, b].

    `most` and `least` (M, S, S), bounds of the discounted visits to the first state from the second, are
    tightened on the way: the visits to a state are the value of a reward for being there.
    """
    M, S, A = rewards.shape
    rise, fall = np.zeros((S, A, A)), np.zeros((S, A, A))
    there = np.zeros((S, A))
    change = np.zeros(S)
    for m in range(M):
        base = m * S * A
        for s in range(S):
            there[s] = 1.0
            for sign, visits in ((1.0, most[m, s]), (-1.0, least[m, s])):
                _sweeps(
                    base,
                    indptr,
                    successors,
                    probabilities,
                    there,
                    discount,
                    lower,
                    upper,
                    sign,
                    tolerance,
                    visits,
                )
            there[s] = 0.0
            up, down = weights[m] * (initial @ most[m, s]), weights[m] * (initial @ least[m, s])
            for a in range(A):
                for b in range(A):
                    if a == b:
                        continue
                    first, second = base + s * A + a, base + s * A + b
                    for k in range(indptr[first], indptr[first + 1]):
                        change[successors[k]] += discount * probabilities[k]
                    for k in range(indptr[second], indptr[second + 1]):
                        change[successors[k]] -= discount * probabilities[k]
                    best = rewards[m, s, a] - rewards[m, s, b]
                    worst = best
                    for row in (first, second):
                        for k in range(indptr[row], indptr[row + 1]):
                            t = successors[k]
                            best += change[t] * (high[m, t] if change[t] > 0.0 else low[m, t])
                            worst += change[t] * (low[m, t] if change[t] > 0.0 else high[m, t])
                            change[t] = 0.0
                    rise[s, a, b] += best * (up if best > 0.0 else down)
                    fall[s, a, b] += worst * (down if worst > 0.0 else up)
    return rise, fall


@compiled
def shrink(lower, upper, fall):
    """Cut a box to where a best policy of it must lie, in place; whether anything was cut.

    Where moving probability from b to a never hurts (fall[s, a, b] >= 0) and a can take all that the others
    need not have, b has no more than it must.
    """
    S, A = lower.shape
    cut = False
    for s in range(S):
        for b in range(A):
            for a in range(A):
                # Of two actions that are the same everywhere the first one stays.
                better = fall[s, a, b] > 0.0 or (fall[s, a, b] == 0.0 and a < b)
                takes_all = upper[s, a] >= 1.0 - (lower[s].sum() - lower[s, a]) - 1e-12
                if a != b and upper[s, b] > lower[s, b] and better and takes_all:
                    upper[s, b] = lower[s, b]
                    cut = True
        for a in range(A):
            lower[s, a] = min(upper[s, a], max(lower[s, a], 1.0 - (upper[s].sum() - upper[s, a])))
            upper[s, a] = max(lower[s, a], min(upper[s, a], 1.0 - (lower[s].sum() - lower[s, a])))
    return cut


@compiled
def _centre(lower, upper):
    """(S, A) the policy of a box that lies the same part of the way from lower to upper everywhere in a row."""
    policy = lower.copy()
    for s in range(lower.shape[0]):
        room = (upper[s] - lower[s]).sum()
        if room > 0.0:
            policy[s] += (1.0 - lower[s].sum()) / room * (upper[s] - lower[s])
    return policy


@compiled
def centre_bound(
    indptr,
    successors,
    probabilities,
    rewards,
    discount,
    initial,
    weights,
    lower,
    upper,
    rise,
    fall,
    low,
):
    """Value of the centre of a box, and for each state (S,) the most that the box can add to it there."""
    M, S, A = rewards.shape
    centre = _centre(lower, upper)
    value = 0.0
    longest = 1.0 / (1.0 - discount)
    for m in range(M):
        values = low[m].copy()
        change = 0.0
        for _ in range(MOST_SWEEPS):
            change = 0.0
            for s in range(S - 1, -1, -1):
                total = 0.0
                for a in range(A):
                    row = (m * S + s) * A + a
                    total += centre[s, a] * rewards[m, s, a]
                    for k in range(indptr[row], indptr[row + 1]):
                        total += centre[s, a] * discount * probabilities[k] * values[successors[k]]
                change = max(change, abs(total - values[s]))
                values[s] = total
            if change <= 1e-11:
                break
        # The sweeps stop within change * longest of the truth.
        value += weights[m] * (initial @ values + max(change, 1e-11) * longest)
    added = np.zeros(S)
    for s in range(S):
        added[s] = np.inf
        for reference in range(A):
            gain = _best_exchange(
                rise[s, :, reference], fall[s, :, reference], upper[s] - centre[s], centre[s] - lower[s]
            )
            added[s] = min(added[s], gain)
    return value, added


@compiled
def _best_exchange(rise, fall, more, less):
    """The most that moving probability can gain, at slopes up to `rise` where it grows, from `fall` where not.

    `more` and `less` (A,) say how far each action's probability can go up and down.
    """
    more, less = more.copy(), less.copy()
    gain = 0.0
    while True:
        a, b = -1, -1
        for c in range(rise.size):
            if more[c] > 0.0 and (a < 0 or rise[c] > rise[a]):
                a = c
            if less[c] > 0.0 and (b < 0 or fall[c] < fall[b]):
                b = c
        if a < 0 or b < 0 or rise[a] <= fall[b]:
            return gain
        step = min(more[a], less[b])
        gain += step * (rise[a] - fall[b])
        more[a] = 0.0 if step == more[a] else more[a] - step
        less[b] = 0.0 if step == less[b] else less[b] - step


@compiled
def _fill(q, lower, upper, mixture):
    """The mixture that `best_mixture` values."""
    mixture[:] = lower
    rest = 1.0 - lower.sum()
    for a in np.argsort(-q):
        share = max(0.0, min(rest, upper[a] - lower[a]))
        mixture[a] += share
        rest -= share


@compiled
def contested(
    indptr, successors, probabilities, rewards, discount, initial, weights, lower, upper, high, most
):
    """How much the environments' own best mixtures disagree: (S,) what a common one costs, (S, A) variances.

    Both are weighted by visits; the cost is that of the mean of the mixtures, to first order.
    """
    M, S, A = rewards.shape
    cost, variance = np.zeros(S), np.zeros((S, A))
    q, own = np.empty((M, A)), np.empty((M, A))
    visits = np.empty(M)
    for s in range(S):
        for m in range(M):
            visits[m] = weights[m] * (initial @ most[m, s])
            for a in range(A):
                row = (m * S + s) * A + a
                q[m, a] = rewards[m, s, a]
                for k in range(indptr[row], indptr[row + 1]):
                    q[m, a] += discount * probabilities[k] * high[m, successors[k]]
            _fill(q[m], lower[s], upper[s], own[m])
        if visits.sum() <= 0.0:
            continue
        mean = visits @ own / visits.sum()
        for m in range(M):
            cost[s] += visits[m] * (q[m] @ (own[m] - mean))
            variance[s] += visits[m] * (own[m] - mean) ** 2
    return cost, variance
