"""First bounds: certainly on their side of the truth, and close to it."""

from dataclasses import replace

import numpy as np
import pytest
import scipy.sparse as sp
from hypothesis import given, settings
from hypothesis import strategies as st

from epomdp.exact.family import Family
from epomdp.exact.mdp import optimal_values, policy_values
from epomdp.exact.pomdp import Pomdp
from epomdp.exact.solve import solve
from epomdp.exact.solving.bounds import family_bounds, pomdp_bounds
from epomdp.exact.solving.flat_model import pomdp_problem
from epomdp.exact.solving.model import family_problem

ACCURACY = 1e-3


def random_family(seed, M=3, S=4, A=2, discount=0.9, low=-1.0, high=1.0):
    rng = np.random.default_rng(seed)
    transitions = rng.dirichlet(0.5 * np.ones(S), (M, S, A))
    rewards = rng.uniform(low, high, (M, S, A))
    return Family.from_arrays(transitions, rewards, np.eye(S)[0], rng.dirichlet(np.ones(M)), discount)


def by_environment(problem, values, M):
    """(M, S) from (pairs,); NaN where a state is out of reach."""
    start = problem.model.pair_start
    table = np.full((M, len(start) - 1), np.nan)
    table[problem.pair_hidden, np.repeat(np.arange(len(start) - 1), np.diff(start))] = values
    return table


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 10**6), st.sampled_from([(-1.0, 0.0), (0.0, 1.0), (-1.0, 1.0)]))
def test_informed_values_are_bounds_and_tight(seed, rewards):
    family = random_family(seed, low=rewards[0], high=rewards[1])
    problem = family_problem(family, True, family.weights)
    first = family_bounds(problem, family, ACCURACY)
    truth = optimal_values(family)
    informed = by_environment(problem, first.informed, 3)
    corner = by_environment(problem, first.corner, 3)
    assert (informed >= truth - 1e-12).all() and (corner <= truth + 1e-12).all()
    np.testing.assert_allclose(informed, corner, atol=1e-8)
    worst = -optimal_values(replace(family, rewards=-family.rewards))
    assert first.floor <= worst.min() + 1e-9


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 10**6), st.sampled_from([(-1.0, 0.0), (0.0, 1.0), (-1.0, 1.0)]))
def test_memoryless_values_are_attained_and_close(seed, rewards):
    family = random_family(seed, low=rewards[0], high=rewards[1])
    problem = family_problem(family, True, family.weights)
    first = family_bounds(problem, family, ACCURACY)
    assert len(first.policies) == 1 + 3 + 2
    for policy, values in zip(first.policies, first.values, strict=True):
        truth = policy_values(family, policy)
        found = by_environment(problem, values, 3)
        assert (found <= truth + 1e-9).all()
        assert (found >= truth - 30 * ACCURACY).all()


def test_each_environments_own_policy_is_among_them():
    family = random_family(1)
    problem = family_problem(family, True, family.weights)
    first = family_bounds(problem, family, ACCURACY)
    best = np.max([by_environment(problem, values, 3) for values in first.values], axis=0)
    np.testing.assert_allclose(best, optimal_values(family), atol=1e-8)


def test_undiscounted_families_that_end():
    # A corridor of three steps, each of which costs one; the other action slips back now and then.
    transitions = np.zeros((2, 4, 2, 4))
    for m, slip in enumerate((0.5, 0.25)):
        for s in range(3):
            transitions[m, s, 0, s + 1] = 1.0
            transitions[m, s, 1, [s + 1, 0]] = [1 - slip, slip]
        transitions[m, 3, :, 3] = 1.0
    rewards = np.full((2, 4, 2), -1.0)
    rewards[:, 3] = 0.0
    family = Family.from_arrays(transitions, rewards, np.eye(4)[0], [0.5, 0.5], 1.0)
    problem = family_problem(family, True, family.weights)
    first = family_bounds(problem, family, ACCURACY)
    np.testing.assert_allclose(first.informed[problem.model.pair_start[:-1]], [-3, -2, -1, 0], atol=1e-8)
    solution = solve(family, gap=1e-6)
    assert solution.lower == pytest.approx(-3.0, abs=1e-6)


def random_pomdp(seed, S=4, A=2, Z=3, discount=0.8):
    rng = np.random.default_rng(seed)
    return Pomdp(
        tuple(sp.csr_array(rng.dirichlet(0.5 * np.ones(S), S)) for _ in range(A)),
        tuple(sp.csr_array(rng.dirichlet(0.5 * np.ones(Z), S)) for _ in range(A)),
        rng.normal(size=(S, A)),
        rng.dirichlet(np.ones(S)),
        discount,
    )


def fast_informed_twin(pomdp, sweeps):
    """alpha_a = R_a + discount sum_o max_a' P_a,o alpha_a', in NumPy, from the MDP bound."""
    T = np.array([t.toarray() for t in pomdp.transitions])
    Z = np.array([o.toarray() for o in pomdp.observations])
    q = np.full((len(T), len(pomdp.initial)), np.abs(pomdp.rewards).max() / (1 - pomdp.discount))
    for _ in range(sweeps):
        q = pomdp.rewards.T + pomdp.discount * np.einsum("ast,t->as", T, q.max(axis=0))
    for _ in range(sweeps):
        ahead = np.einsum("ast,ato,bt->asob", T, Z, q)
        q = pomdp.rewards.T + pomdp.discount * ahead.max(axis=3).sum(axis=2)
    return q


@settings(max_examples=10, deadline=None)
@given(st.integers(0, 10**6))
def test_the_fast_informed_bound(seed):
    pomdp = random_pomdp(seed)
    problem = pomdp_problem(pomdp)
    first = pomdp_bounds(problem, pomdp, 1e-9)
    twin = fast_informed_twin(pomdp, 300)
    assert len(problem.model.pair_start) == 2
    bound = problem.model.rows["bound"][:-1].reshape(2, 4)
    np.testing.assert_allclose(bound, twin, atol=1e-7)
    np.testing.assert_allclose(first.informed, twin.max(axis=0), atol=1e-7)
    truth = solve(pomdp, gap=1e-3)
    assert (twin @ pomdp.initial).max() >= truth.lower - 1e-9


@settings(max_examples=10, deadline=None)
@given(st.integers(0, 10**6))
def test_blind_policies_of_a_flat_pomdp(seed):
    pomdp = random_pomdp(seed)
    problem = pomdp_problem(pomdp)
    first = pomdp_bounds(problem, pomdp, ACCURACY)
    for policy, values in zip(first.policies[1:], first.values[1:], strict=True):
        T = pomdp.transitions[policy[0]].toarray()
        truth = np.linalg.solve(np.eye(4) - pomdp.discount * T, pomdp.rewards[:, policy[0]])
        assert (values <= truth[problem.pair_hidden] + 1e-9).all()
        assert (values >= truth[problem.pair_hidden] - 0.05).all()
