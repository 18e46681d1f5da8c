"""The solver against brute force over belief trees, closed forms, finite beliefs, its own policy, and itself."""

from itertools import pairwise

import numpy as np
import pytest
import scipy.sparse as sp
from hypothesis import given, settings
from hypothesis import strategies as st

from epomdp.errors import BadInput
from epomdp.exact import guessing
from epomdp.exact import solve as solver
from epomdp.exact.belief import EpistemicPOMDP
from epomdp.exact.family import Family
from epomdp.exact.formats import flatten
from epomdp.exact.ladder import best_deterministic, best_stochastic, certainty_equivalent
from epomdp.exact.mdp import optimal_values
from epomdp.exact.policy_evaluation import evaluate
from epomdp.exact.pomdp import Pomdp
from epomdp.exact.solve import solve, solve_pomdp
from epomdp.exact.solving import engine

SLOW = settings(max_examples=12, deadline=None)


def random_family(rng, M=2, S=2, A=2, discount=0.3, kind="dense", starts=1):
    """Transitions dense, sparse (two successors) or deterministic; rewards with ties between environments."""
    if kind == "dense":
        transitions = rng.dirichlet(np.ones(S), (M, S, A))
    elif kind == "sparse":
        transitions = np.zeros((M, S, A, S))
        for index in np.ndindex(M, S, A):
            transitions[index][rng.choice(S, 2, replace=False)] = rng.dirichlet(np.ones(2))
    else:
        transitions = np.eye(S)[rng.integers(S, size=(M, S, A))]
    rewards = rng.integers(-2, 3, (M, S, A)) / 2.0
    initial = np.zeros(S)
    initial[rng.choice(S, starts, replace=False)] = rng.dirichlet(np.ones(starts))
    return Family.from_arrays(transitions, rewards, initial, rng.dirichlet(np.ones(M)), discount)


def outcomes(family, T, belief, x, a, observed):
    """Unnormalised beliefs after (x, a), by successor and reward seen."""
    cells = {}
    for m in np.flatnonzero(belief):
        for s in np.flatnonzero(T[m, x, a]):
            key = (s, family.rewards[m, x, a] if observed else 0.0)
            cells.setdefault(key, np.zeros(len(belief)))[m] += belief[m] * T[m, x, a, s]
    return cells


def brute_force(family, observed, depth):
    """Bounds by recursion over unnormalised beliefs; at the leaves stand the best and the worst conceivable.

    The belief depends on how often each transition was seen only, so memoising keeps the tree small.
    """
    T = family.dense_transitions()
    best = optimal_values(family)
    worst = -optimal_values(
        Family.from_arrays(T, -family.rewards, family.initial, family.weights, family.discount)
    )
    known = {}

    def value(belief, x, left):
        if left == 0:
            return np.array([belief @ worst[:, x], belief @ best[:, x]])
        mass = belief.sum()
        key = (x, left, *np.round(belief / mass, 12))
        if key not in known:
            options = []
            for a in range(T.shape[2]):
                total = np.full(2, belief @ family.rewards[:, x, a])
                for (s, _), after in outcomes(family, T, belief, x, a, observed).items():
                    total += family.discount * value(after, s, left - 1)
                options.append(total)
            known[key] = np.max(options, axis=0) / mass
        return known[key] * mass

    starts = np.flatnonzero(family.initial)
    return sum(family.initial[x] * value(family.weights, x, depth) for x in starts)


def enumerate_beliefs(family, observed):
    """Exact value where beliefs are few: all of them, then value iteration."""
    T = family.dense_transitions()
    index, edges = {}, []

    def find(belief, x):
        key = (x, *np.round(belief / belief.sum(), 10))
        if key not in index:
            index[key] = len(edges)
            edges.append((belief / belief.sum(), x))
        return index[key]

    starts = [(w, find(family.weights, x)) for x, w in enumerate(family.initial) if w]
    plans, n = [], 0
    while n < len(edges):
        belief, x = edges[n]
        plan = []
        for a in range(T.shape[2]):
            cells = outcomes(family, T, belief, x, a, observed)
            plan.append(
                (
                    belief @ family.rewards[:, x, a],
                    [(after.sum(), find(after, s)) for (s, _), after in cells.items()],
                )
            )
        plans.append(plan)
        n += 1
        assert n < 5000
    values = np.zeros(n)
    for _ in range(int(np.log(1e-13) / np.log(family.discount)) + 1):
        values = np.array(
            [
                max(r + family.discount * sum(p * values[j] for p, j in after) for r, after in plan)
                for plan in plans
            ]
        )
    return sum(w * values[j] for w, j in starts)


def check(family, observed, lo, hi, gap):
    """Solve; at every look the truth is between the bounds, which never part; the policy keeps its promise."""
    seen = []
    solution = solve(family, observe_rewards=observed, gap=gap, callback=seen.append)
    assert solution.status == "solved" and solution.gap <= gap
    for progress in seen:
        assert progress.lower <= hi + 1e-9 and progress.upper >= lo - 1e-9
    history = solution.history
    assert (np.diff(history[:, 1]) >= -1e-12).all() and (np.diff(history[:, 2]) <= 1e-12).all()
    found = evaluate(EpistemicPOMDP(family, observed), solution)
    assert found.exact
    assert found.lower >= solution.lower - 1e-9
    assert found.lower <= solution.upper + 1e-9
    known = family.weights > 0
    np.testing.assert_allclose(
        solution.environment_returns()[known], found.environment_lower[known], atol=1e-9
    )
    return solution


@SLOW
@given(
    st.integers(0, 10**6),
    st.booleans(),
    st.sampled_from([(2, 2, "dense"), (3, 2, "dense"), (2, 3, "sparse")]),
)
def test_stochastic_families_against_the_belief_tree(seed, observed, form):
    M, S, kind = form
    rng = np.random.default_rng(seed)
    family = random_family(rng, M, S, kind=kind, discount=0.15, starts=int(rng.integers(1, S + 1)))
    lo, hi = brute_force(family, observed, 8)
    assert hi - lo < 1e-6
    check(family, observed, lo, hi, 1e-6)


@SLOW
@given(st.integers(0, 10**6), st.booleans())
def test_deterministic_families_against_all_beliefs(seed, observed):
    rng = np.random.default_rng(seed)
    family = random_family(rng, 4, 5, 2, discount=0.9, kind="deterministic", starts=int(rng.integers(1, 4)))
    value = enumerate_beliefs(family, observed)
    solution = check(family, observed, value, value, 1e-6)
    # Few beliefs: the exact mode answers.
    assert solution.gap <= 1e-7 and solution.iterations == 0


@settings(max_examples=6, deadline=None)
@given(st.integers(0, 10**6), st.booleans())
def test_trials_find_what_the_exact_mode_finds(seed, observed):
    rng = np.random.default_rng(seed)
    family = random_family(rng, 4, 5, 2, discount=0.9, kind="deterministic", starts=2)
    exact = solve(family, observe_rewards=observed, gap=1e-6)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(solver, "_FEW_BELIEFS", 0)
        trials = solve(family, observe_rewards=observed, gap=1e-6)
    assert trials.iterations > 0 or trials.gap <= 1e-6
    assert trials.lower <= exact.upper + 1e-9 and exact.lower <= trials.upper + 1e-9
    assert evaluate(EpistemicPOMDP(family, observed), trials).lower >= trials.lower - 1e-9


@settings(max_examples=5, deadline=None)
@given(st.integers(0, 10**6), st.booleans())
def test_the_ladder_is_in_order(seed, observed):
    family = random_family(np.random.default_rng(seed), 3, 3, 2, discount=0.6, kind="sparse", starts=2)
    solution = solve(family, observe_rewards=observed, gap=1e-4)
    informed = family.weights @ optimal_values(family) @ family.initial
    stochastic, deterministic = best_stochastic(family), best_deterministic(family)
    certain = certainty_equivalent(family)
    rungs = [informed, solution.upper, stochastic.value, deterministic.value, certain.map_value]
    assert (np.diff(rungs) <= 1e-9).all()
    assert solution.upper <= informed + 1e-9


@pytest.mark.parametrize("discount", [1.0, 0.9])
@pytest.mark.parametrize("limit", [2, 5])
def test_guessing_is_by_elimination(discount, limit):
    p = np.array([0.1, 0.4, 0.2, 0.3])
    family = guessing.guessing_family(p, limit, discount)
    solution = solve(family, gap=1e-6)
    truth = float(guessing.elimination(p, limit, discount))
    assert solution.lower - 1e-9 <= truth <= solution.upper + 1e-9
    assert solution.gap <= 1e-6


@settings(max_examples=10, deadline=None)
@given(st.lists(st.floats(0.05, 1.0), min_size=2, max_size=7), st.floats(0.5, 0.99))
def test_guessing_without_a_limit(masses, discount):
    p = np.array(masses) / np.sum(masses)
    solution = solve(guessing.guessing_family(p, None, discount), gap=1e-6)
    truth = float(guessing.elimination(p, None, discount))
    assert solution.lower - 1e-8 <= truth <= solution.upper + 1e-8
    assert solution.gap <= 1e-6


@pytest.mark.parametrize("form", [(1, 1, 1), (1, 3, 2), (3, 1, 2), (4, 2, 1)])
@pytest.mark.parametrize("discount", [0.0, 0.5])
def test_the_smallest_of_families(form, discount):
    M, S, A = form
    rng = np.random.default_rng(0)
    transitions = rng.dirichlet(np.ones(S), (M, S, A))
    rewards = rng.normal(size=(M, S, A))
    family = Family.from_arrays(transitions, rewards, np.full(S, 1 / S), np.full(M, 1 / M), discount)
    lo, hi = brute_force(family, True, 1 if discount == 0.0 else 20 if S == 1 else 10)
    check(family, True, lo, hi, 1e-3)


def test_hidden_rewards_teach_nothing():
    # Two arms; which pays is told by the reward alone.
    rewards = np.array([[[1.0, 0.0]], [[0.0, 1.0]]])
    family = Family.from_arrays(np.ones((2, 1, 2, 1)), rewards, [1.0], [0.5, 0.5], 0.5)
    seen, hidden = solve(family, gap=1e-6), solve(family, observe_rewards=False, gap=1e-6)
    assert seen.lower == pytest.approx(0.5 + 0.5 * 2.0, abs=1e-6)
    assert hidden.lower == pytest.approx(0.5 * 2.0, abs=1e-6)


def test_a_prior_takes_the_place_of_the_weights():
    rng = np.random.default_rng(5)
    family = random_family(rng, 3, 3, kind="sparse", discount=0.8)
    prior = np.array([0.7, 0.0, 0.3])
    one, other = solve(family, prior=prior, gap=1e-4), solve(family.with_weights(prior), gap=1e-4)
    assert (one.lower, one.upper) == (other.lower, other.upper)
    assert np.isnan(one.environment_returns()[1])
    with pytest.raises(BadInput, match="weights"):
        solve(family, prior=[1.0, 1.0, 1.0])


def random_pomdp(rng, S=3, A=2, Z=2, discount=0.3):
    transitions = rng.dirichlet(np.ones(S), (A, S))
    observations = rng.dirichlet(np.ones(Z), (A, S))
    rewards = rng.normal(size=(S, A))
    return Pomdp(
        tuple(sp.csr_array(t) for t in transitions),
        tuple(sp.csr_array(o) for o in observations),
        rewards,
        rng.dirichlet(np.ones(S)),
        discount,
    )


def pomdp_bounds(pomdp, depth):
    """Value of a flat POMDP by the plain belief recursion, from below and above."""
    T = [t.toarray() for t in pomdp.transitions]
    Z = [o.toarray() for o in pomdp.observations]
    most = np.abs(pomdp.rewards).max() / (1 - pomdp.discount)

    def value(belief, left):
        if left == 0:
            return belief.sum() * np.array([-most, most])
        options = []
        for a in range(len(T)):
            after = (belief @ T[a])[:, None] * Z[a]
            total = sum(value(after[:, o], left - 1) for o in range(after.shape[1]))
            options.append(belief @ pomdp.rewards[:, a] + pomdp.discount * total)
        return np.max(options, axis=0)

    return value(pomdp.initial, depth)


@settings(max_examples=8, deadline=None)
@given(st.integers(0, 10**6))
def test_flat_pomdps_against_the_belief_tree(seed):
    pomdp = random_pomdp(np.random.default_rng(seed), discount=0.15)
    lo, hi = pomdp_bounds(pomdp, 6)
    seen = []
    solution = solve_pomdp(pomdp, gap=1e-5, callback=seen.append)
    assert solution.gap <= 1e-5
    for progress in seen:
        assert progress.lower <= hi + 1e-9 and progress.upper >= lo - 1e-9


@settings(max_examples=8, deadline=None)
@given(st.integers(0, 10**6), st.booleans(), st.sampled_from(["dense", "sparse", "deterministic"]))
def test_a_flattened_family_has_the_same_value(seed, observed, kind):
    rng = np.random.default_rng(seed)
    family = random_family(rng, 3, 3, kind=kind, discount=0.6, starts=int(rng.integers(1, 4)))
    one = solve(family, observe_rewards=observed, gap=1e-4)
    flat = solve(flatten(family, observed), gap=1e-4)
    assert one.lower <= flat.upper + 1e-9 and flat.lower <= one.upper + 1e-9


def test_a_horizon_is_put_into_the_states():
    family = random_family(np.random.default_rng(1), 2, 3, kind="sparse", discount=0.9)
    short = Family.from_arrays(
        family.dense_transitions(), family.rewards, family.initial, family.weights, 1.0, horizon=3
    )
    solution = solve(short, gap=1e-6)
    lo, hi = brute_force_finite(short, 3)
    assert hi == lo
    assert solution.lower - 1e-9 <= lo <= solution.upper + 1e-9


def brute_force_finite(family, depth):
    T = family.dense_transitions()

    def value(belief, x, left):
        if left == 0:
            return 0.0
        return max(
            belief @ family.rewards[:, x, a]
            + sum(
                value(after, s, left - 1) for (s, _), after in outcomes(family, T, belief, x, a, True).items()
            )
            for a in range(T.shape[2])
        )

    total = sum(w * value(family.weights, x, depth) for x, w in enumerate(family.initial) if w)
    return total, total


def hard_family(M=8, S=6):
    """Pays in one state only, and which actions lead there must be found out."""
    rng = np.random.default_rng(0)
    transitions = rng.dirichlet(0.3 * np.ones(S), (M, S, 3))
    rewards = np.zeros((M, S, 3))
    rewards[:, -1] = 1.0
    return Family.from_arrays(transitions, rewards, np.eye(S)[0], np.full(M, 1 / M), 0.95)


def test_it_is_deterministic_however_often_it_looks_at_the_clock(monkeypatch):
    family = hard_family(M=4)
    first = solve(family, gap=0.03)
    monkeypatch.setattr(solver, "_SLICE", 1e-9)
    again = solve(family, gap=0.03)
    assert (first.lower, first.upper, first.iterations) == (again.lower, again.upper, again.iterations)
    assert len(again.history) > len(first.history)
    np.testing.assert_array_equal(first.policy.links, again.policy.links)
    np.testing.assert_array_equal(first.policy.cases, again.policy.cases)


def test_a_time_limit_returns_what_was_reached():
    solution = solve(hard_family(), gap=1e-9, time_limit=0.0)
    assert solution.status == "time-limit" and solution.gap > 1e-3
    truth = solve(hard_family(), gap=0.3)
    assert solution.lower <= truth.upper and truth.lower <= solution.upper
    returns = solution.environment_returns()
    assert returns.mean() >= solution.lower - 1e-9


def test_memory_that_runs_out_stops_the_search(monkeypatch):
    monkeypatch.setattr(engine, "available_bytes", lambda: 3.0e6)
    solution = solve(hard_family(), gap=1e-9)
    assert solution.status == "memory-limit"
    assert solution.lower < solution.upper
    assert solution.environment_returns().mean() >= solution.lower - 1e-9


def test_progress_tells_bounds_and_the_time_left():
    seen = []
    solve(hard_family(), gap=0.05, callback=seen.append)
    assert all(progress.gap == progress.upper - progress.lower for progress in seen)
    assert all(b.seconds >= a.seconds for a, b in pairwise(seen))
    left = [progress.seconds_left for progress in seen if progress.seconds_left is not None]
    assert left and min(left) >= 0.0


@pytest.mark.parametrize("gap", [0.0, -1.0, np.nan, np.inf])
def test_a_gap_must_be_a_positive_number(gap):
    with pytest.raises(BadInput, match="gap"):
        solve(hard_family(), gap=gap)


@pytest.mark.parametrize("limit", [-1.0, np.nan])
def test_a_time_limit_must_not_be_negative(limit):
    with pytest.raises(BadInput, match="time_limit"):
        solve(hard_family(), gap=0.1, time_limit=limit)


def test_a_flat_pomdp_has_no_prior():
    with pytest.raises(BadInput, match="prior"):
        solve(random_pomdp(np.random.default_rng(0)), prior=[1.0])


def test_discount_one_needs_an_end():
    family = random_family(np.random.default_rng(0), kind="dense")
    endless = Family(
        family.indptr,
        family.successors,
        family.probabilities,
        family.rewards,
        family.initial,
        family.weights,
        1.0,
    )
    with pytest.raises(BadInput, match="discount is 1"):
        solve(endless)
