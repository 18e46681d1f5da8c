"""First bounds: informed and fast-informed values from above, memoryless policies' values from below."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import NamedTuple

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

from epomdp.exact import mdp
from epomdp.exact.compiled import compiled, share_out
from epomdp.exact.family import Family, gather_rows
from epomdp.exact.pomdp import Pomdp
from epomdp.exact.solving.model import Problem

# Pairs of observed and hidden for which starting a thread pays.
_PAIRS_PER_THREAD = 20_000
# Most values of memoryless policies to keep, and most entries to pass over in finding those of one policy.
_MOST_VALUES = 2**22
_MOST_ENTRIES = 2**29
# Entries to pass over, of all policies together, between looks at the clock.
_SLICE = 2**24
# Sweeps of the fast informed bound at most, and between looks at the clock.
_MOST_INFORMED_SWEEPS, _INFORMED_SLICE = 1000, 20
# Relative rounding of one step of look-ahead. It adds up over an episode as any other error does.
ROUNDING = 2.0**-50
# Up to so many pairs, policies whose values settle slowly are solved for instead.
_MOST_SOLVED_PAIRS = 1000


class FirstBounds(NamedTuple):
    """What is known before the search. The rows' own upper bounds are in the model.

    Attributes:
        informed: (pairs,) upper bounds where the hidden value is told.
        corner: (pairs,) values that being sure of the hidden value and acting best there attains; empty where
            the hidden part can change.
        policies: (K, X) int64, actions of memoryless policies.
        values: (K, pairs) float64, values that these attain.
        floor: least value of any policy.
    """

    informed: NDArray[np.float64]
    corner: NDArray[np.float64]
    policies: NDArray[np.int64]
    values: NDArray[np.float64]
    floor: float


def never() -> bool:
    """No time limit."""
    return False


def family_bounds(
    problem: Problem, family: Family, accuracy: float, late: Callable[[], bool] = never
) -> FirstBounds:
    """Informed values, and those of the environments' optimal policies (Peron et al. 2017) and blind ones.

    Args:
        problem: the family's own.
        family: without a horizon.
        accuracy: error below that the memoryless values may have; the informed ones are solved for.
        late: whether the time is up; the memoryless values are then as good as they have become.
    """
    M, S, A = family.rewards.shape
    pair_start = problem.model.pair_start
    state = np.repeat(np.arange(S), np.diff(pair_start))
    steps = _most_steps(family)
    values = mdp.optimal_values(family)[problem.pair_hidden, state]
    weights = family.weights[problem.pair_hidden]
    best, mean_policy, over, short = _look_ahead(problem, values, weights)
    rounding = ROUNDING * float(np.abs(values).max())
    over, short = over + rounding, short + rounding
    problem.model.rows["bound"] += over * steps
    table = np.repeat(mean_policy[None], M, axis=0)
    table[problem.pair_hidden, state] = best
    likely = np.argsort(-family.weights, kind="stable")
    policies = np.concatenate([mean_policy[None], table[likely], _blind(A, S)])
    floor = steps * min(0.0, float(family.rewards.min()))
    corner = values - short * steps
    owners = np.concatenate([[-1], likely, np.full(A, -1)])
    policies, attained = _memoryless(problem, policies, owners, corner, steps, floor, accuracy, late)
    return FirstBounds(values + over * steps, corner, policies, attained, floor)


def pomdp_bounds(
    problem: Problem, pomdp: Pomdp, accuracy: float, late: Callable[[], bool] = never
) -> FirstBounds:
    """The fast informed bound (Hauskrecht 2000) from that of seeing the state, and blind policies' values."""
    steps = 1.0 / (1.0 - pomdp.discount)
    values = mdp.optimal_values(_seen_states(pomdp))[0][problem.pair_hidden]
    _, mean_policy, over, _ = _look_ahead(problem, values, np.ones(len(values)))
    over += ROUNDING * float(np.abs(values).max())
    problem.model.rows["bound"] += over * steps
    widest = int(np.diff(problem.model.outcome_start).max())
    totals = np.zeros((widest, problem.num_actions))
    for _ in range(0, _MOST_INFORMED_SWEEPS, _INFORMED_SLICE):
        args = (problem.model, problem.num_actions, 0.01 * accuracy, _INFORMED_SLICE, totals)
        if _fast_informed(*args) or late():
            break
    informed = np.empty(len(values))
    _best_bounds(problem.model, problem.num_actions, informed)
    policies = np.concatenate([mean_policy[None], _blind(problem.num_actions, len(mean_policy))])
    floor = steps * min(0.0, float(pomdp.rewards.min()))
    owners = np.full(len(policies), -1)
    policies, attained = _memoryless(problem, policies, owners, values, steps, floor, accuracy, late)
    return FirstBounds(informed, np.empty(0), policies, attained, floor)


def _blind(num_actions: int, num_states: int) -> NDArray[np.int64]:
    return np.repeat(np.arange(num_actions)[:, None], num_states, axis=1)


def _most_steps(family: Family) -> float:
    """Most expected discounted steps of an episode; how much an error of 1 in each step can add up to."""
    if family.discount < 1.0:
        return 1.0 / (1.0 - family.discount)
    M, S, A = family.rewards.shape
    first = family.successors[family.indptr[:-1]].reshape(M, S, A)
    stays = (np.diff(family.indptr).reshape(M, S, A) == 1) & (first == np.arange(S)[:, None])
    ended = (stays & (family.rewards == 0.0)).all(axis=2, keepdims=True)
    counted = replace(family, rewards=np.where(ended, 0.0, np.ones((M, S, A))))
    return float(mdp.optimal_values(counted).max()) + 1.0


def _seen_states(pomdp: Pomdp) -> Family:
    """The MDP of a POMDP whose states are seen, as a family of one."""
    S, A = pomdp.rewards.shape
    lengths = np.stack([np.diff(T.indptr) for T in pomdp.transitions], axis=1).ravel()
    indptr = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    successors = np.empty(indptr[-1], dtype=np.int32)
    probabilities = np.empty(indptr[-1])
    for a, T in enumerate(pomdp.transitions):
        row = np.repeat(np.arange(S), np.diff(T.indptr))
        place = indptr[row * A + a] + np.arange(T.nnz) - T.indptr[row]
        successors[place] = T.indices
        probabilities[place] = T.data
    return Family(
        indptr,
        successors,
        probabilities,
        pomdp.rewards[None],
        pomdp.initial,
        np.ones(1),
        pomdp.discount,
    )


def _look_ahead(problem: Problem, values, weights):
    """Set the rows' bounds by one step of look-ahead on pair values: act, then be told the hidden value.

    Returns:
        The best action of each pair, that of each observed state on weighted mean, and by how much the look-ahead
        is above and below the values at most: times the most steps, it bounds their error.
    """
    pair_start, A = problem.model.pair_start, problem.num_actions
    X = len(pair_start) - 1
    best = np.zeros(len(values), dtype=np.int64)
    mean = np.zeros(X, dtype=np.int64)
    error = np.zeros((X, 2))

    def kernel(first: int, last: int) -> None:
        _look_ahead_range(problem.model, A, values, weights, first, last, best, mean, error)

    share_out(kernel, X, 1 + _PAIRS_PER_THREAD * X // max(1, len(values)))
    return best, mean, float(error[:, 0].max()), float(error[:, 1].max())


@compiled
def _look_ahead_range(model, num_actions, values, weights, first_state, last_state, best, mean, error):
    rows, entries, pair_start = model.rows, model.entries, model.pair_start
    for x in range(first_state, last_state):
        size = pair_start[x + 1] - pair_start[x]
        most = -np.inf
        for a in range(num_actions):
            row0 = num_actions * pair_start[x] + a * size
            first = model.outcome_start[x * num_actions + a]
            total = 0.0
            for y in range(size):
                ahead = 0.0
                for e in range(rows[row0 + y].entry, rows[row0 + y + 1].entry):
                    successor = model.successors[first + entries[e].outcome]
                    ahead += entries[e].probability * values[pair_start[successor] + entries[e].hidden]
                rows[row0 + y].bound = rows[row0 + y].reward + model.discount * ahead
                total += weights[pair_start[x] + y] * rows[row0 + y].bound
            if total > most:
                most = total
                mean[x] = a
        for y in range(size):
            row = num_actions * pair_start[x] + y
            most = -np.inf
            for a in range(num_actions):
                if rows[row + a * size].bound > most:
                    most = rows[row + a * size].bound
                    best[pair_start[x] + y] = a
            error[x, 0] = max(error[x, 0], most - values[pair_start[x] + y])
            error[x, 1] = max(error[x, 1], values[pair_start[x] + y] - most)


@compiled
def _fast_informed(model, num_actions, tolerance, max_sweeps, totals):
    """Lower the rows' bounds in place towards the fast informed bound; whether they moved by the tolerance at most.

    Valid after any sweep from a valid bound.

    alpha_a(x, y) = R(x, a, y) + discount sum_o max_a' sum_y' L_o(y, y') alpha_a'(x_o, y').
    """
    rows, entries, pair_start = model.rows, model.entries, model.pair_start
    for _ in range(max_sweeps):
        change = 0.0
        for x in range(pair_start.shape[0] - 2, -1, -1):
            size = pair_start[x + 1] - pair_start[x]
            for a in range(num_actions):
                row0 = num_actions * pair_start[x] + a * size
                first = model.outcome_start[x * num_actions + a]
                count = model.outcome_start[x * num_actions + a + 1] - first
                for row in range(row0, row0 + size):
                    for o in range(count):
                        for b in range(num_actions):
                            totals[o, b] = 0.0
                    for e in range(rows[row].entry, rows[row + 1].entry):
                        successor = model.successors[first + entries[e].outcome]
                        at = num_actions * pair_start[successor] + entries[e].hidden
                        for b in range(num_actions):
                            totals[entries[e].outcome, b] += entries[e].probability * rows[at].bound
                            at += pair_start[successor + 1] - pair_start[successor]
                    total = 0.0
                    for o in range(count):
                        most = totals[o, 0]
                        for b in range(1, num_actions):
                            most = max(most, totals[o, b])
                        total += most
                    new = min(rows[row].bound, rows[row].reward + model.discount * total)
                    change = max(change, rows[row].bound - new)
                    rows[row].bound = new
        if change <= tolerance:
            return True
    return False


@compiled
def _best_bounds(model, num_actions, values):
    """Pair values max_a of the rows' bounds."""
    for x in range(model.pair_start.shape[0] - 1):
        size = model.pair_start[x + 1] - model.pair_start[x]
        for y in range(size):
            row = num_actions * model.pair_start[x] + y
            values[model.pair_start[x] + y] = -np.inf
            for a in range(num_actions):
                values[model.pair_start[x] + y] = max(
                    values[model.pair_start[x] + y], model.rows[row + a * size].bound
                )


def _memoryless(
    problem: Problem, policies, owners, values, steps: float, floor: float, accuracy: float, late
):
    """As many of the policies (K, X) as there is room for, and values (K, pairs) that they attain.

    A policy is the best one of environment `owners[k]`, where that is not -1, and has its `values` (pairs,) there.
    """
    model, A = problem.model, problem.num_actions
    pairs = len(values)
    policies = policies[: max(1, _MOST_VALUES // pairs)]
    attained = np.zeros((len(policies), pairs))
    own = owners[: len(policies), None] == problem.pair_hidden
    np.copyto(attained, values, where=own)
    # Backwards from where most can be had; the states' order matters for the number of sweeps only.
    sums = np.concatenate([[0.0], np.cumsum(values)])[model.pair_start]
    order = np.argsort(-np.diff(sums) / np.maximum(1, np.diff(model.pair_start)), kind="stable")
    rise, fall = 5.0 * accuracy / steps, 0.01 * accuracy / steps
    settled = np.zeros(len(policies), dtype=np.bool_)
    sweeps = 1 + _SLICE * A // (len(policies) * len(model.entries))
    least = 1 + _PAIRS_PER_THREAD // pairs

    def sweep(first: int, last: int) -> None:
        _sweep(model, A, policies, order, rise, fall, sweeps, first, last, attained, settled)

    def finish(first: int, last: int) -> None:
        _take_off(model, A, policies, steps, floor, first, last, attained)

    for _ in range(0, max(10, _MOST_ENTRIES * A // len(model.entries)), sweeps):
        share_out(sweep, len(policies), least)
        if settled.all() or late():
            break
        if pairs <= _MOST_SOLVED_PAIRS and model.discount < 1.0:
            for k in np.flatnonzero(~settled):
                if not late():
                    attained[k] = _solved(problem, policies[k], attained[k])
            break
    share_out(finish, len(policies), least)
    np.copyto(attained, values, where=own)
    return policies, attained


def _solved(problem: Problem, policy: NDArray[np.int64], values: NDArray[np.float64]) -> NDArray[np.float64]:
    """(pairs,) values of a memoryless policy (X,) by sparse LU; `values` where doubles cannot tell them."""
    model, A = problem.model, problem.num_actions
    sizes = np.diff(model.pair_start)
    state = np.repeat(np.arange(len(sizes)), sizes)
    pairs = np.arange(len(values))
    rows = (A - 1) * model.pair_start[state] + policy[state] * sizes[state] + pairs
    entry_start, entry = gather_rows(model.rows["entry"], rows)
    entries = model.entries[entry]
    source = np.repeat(pairs, np.diff(entry_start))
    successor = model.successors[model.outcome_start[state * A + policy[state]][source] + entries["outcome"]]
    target = model.pair_start[successor] + entries["hidden"]
    chain = sp.csc_array((entries["probability"], (source, target)), shape=(len(pairs), len(pairs)))
    try:
        factors = sp.linalg.splu((sp.eye_array(len(pairs)) - model.discount * chain).tocsc())
    except RuntimeError:
        return values
    found = factors.solve(model.rows["reward"][rows])
    return found if np.isfinite(found).all() else values


@compiled
def _policy_lookahead(model, num_actions, action, x, y, values):
    rows, entries, pair_start = model.rows, model.entries, model.pair_start
    row = num_actions * pair_start[x] + action * (pair_start[x + 1] - pair_start[x]) + y
    first = model.outcome_start[x * num_actions + action]
    mean = 0.0
    for e in range(rows[row].entry, rows[row + 1].entry):
        successor = model.successors[first + entries[e].outcome]
        mean += entries[e].probability * values[pair_start[successor] + entries[e].hidden]
    return rows[row].reward + model.discount * mean


@compiled
def _sweep(
    model, num_actions, policies, order, most_rise, most_fall, max_sweeps, first, last, attained, settled
):
    """Gauss-Seidel until the values rise and fall no more, which `settled` tells, or the sweeps are used up."""
    pair_start = model.pair_start
    for k in range(first, last):
        values = attained[k]
        for _ in range(max_sweeps):
            if settled[k]:
                break
            rise, fall = 0.0, 0.0
            for x in order:
                for y in range(pair_start[x + 1] - pair_start[x]):
                    new = _policy_lookahead(model, num_actions, policies[k, x], x, y, values)
                    rise = max(rise, new - values[pair_start[x] + y])
                    fall = max(fall, values[pair_start[x] + y] - new)
                    values[pair_start[x] + y] = new
            settled[k] = rise <= most_rise and fall <= most_fall


@compiled
def _take_off(model, num_actions, policies, steps, floor, first, last, attained):
    """Take off what the values may still fall.

    If T v >= v - d, then V >= v - d * steps: what is left is attained, converged or not.
    """
    pair_start = model.pair_start
    for k in range(first, last):
        values = attained[k]
        short, largest = 0.0, 0.0
        for x in range(pair_start.shape[0] - 1):
            for y in range(pair_start[x + 1] - pair_start[x]):
                new = _policy_lookahead(model, num_actions, policies[k, x], x, y, values)
                short = max(short, values[pair_start[x] + y] - new)
                largest = max(largest, abs(new))
        for pair in range(values.shape[0]):
            values[pair] = max(floor, values[pair] - (short + ROUNDING * largest) * steps)
