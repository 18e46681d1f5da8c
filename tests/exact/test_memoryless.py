"""Best memoryless policies against enumeration, closed forms and their own bounds."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import linprog

from epomdp.exact.family import Family
from epomdp.exact.guessing import argmax as guess_argmax
from epomdp.exact.guessing import best_memoryless, guessing_family
from epomdp.exact.mdp import action_values, optimal_values, policy_values
from epomdp.exact.memoryless import ascend, best_deterministic, best_stochastic, boxes, branch
from epomdp.exact.occupancy import MemorylessReturn

SEEDS = st.integers(0, 10**6)


def make_family(seed, M, S, A, discount=0.9, sparse=False):
    """Random; with `sparse`, deterministic transitions and few different rewards, so that there are ties."""
    rng = np.random.default_rng(seed)
    if sparse:
        transitions = np.eye(S)[rng.integers(0, S, (M, S, A))]
        rewards = rng.integers(-1, 2, (M, S, A)).astype(float)
    else:
        transitions = rng.dirichlet(np.full(S, 0.3), (M, S, A))
        rewards = rng.normal(size=(M, S, A))
    initial = np.eye(S)[0] if sparse else rng.dirichlet(np.ones(S))
    return Family.from_arrays(transitions, rewards, initial, rng.dirichlet(np.ones(M)), discount)


def value_of(family, policy):
    """Mean return of policies (..., S, A), by solving every environment here."""
    transitions = family.dense_transitions()
    chain = np.einsum("...sa,msat->...mst", policy, transitions)
    reward = np.einsum("...sa,msa->...ms", policy, family.rewards)
    system = np.eye(family.num_states) - family.discount * chain
    values = np.linalg.solve(system, reward[..., None])[..., 0]
    return values @ family.initial @ family.weights


def enumerated(family):
    """The best deterministic value, all policies looked at."""
    S, A = family.rewards.shape[1:]
    actions = np.array(list(itertools.product(range(A), repeat=S)))
    return value_of(family, np.eye(A)[actions]).max()


def finely_enumerated(family):
    """The best stochastic value of a family with 2 states and 2 actions: a grid, then finer ones about its best."""
    centres, width = np.array([[0.5, 0.5]]), 0.5
    for round_ in range(9):
        steps = np.linspace(-width, width, 41 if round_ == 0 else 9)
        grid = np.array(list(itertools.product(steps, steps)))
        p = np.clip((centres[:, None] + grid).reshape(-1, 2), 0.0, 1.0)
        values = value_of(family, np.stack([p, 1.0 - p], axis=-1))
        # Several of the best points are followed, as there may be several hills.
        centres = p[np.argsort(-values)[:60]]
        width = 2.0 * (steps[1] - steps[0])
    return values.max()


@settings(max_examples=40, deadline=None)
@given(SEEDS, st.integers(1, 4), st.integers(1, 4), st.integers(1, 3), st.booleans())
def test_deterministic_is_the_best_of_all(seed, M, S, A, sparse):
    family = make_family(seed, M, S, A, sparse=sparse)
    found = best_deterministic(family)
    assert found.certified
    assert found.value == pytest.approx(enumerated(family), abs=1e-6)
    assert found.value == pytest.approx(value_of(family, found.policy), abs=1e-9)
    assert set(np.unique(found.policy)) <= {0.0, 1.0}


@settings(max_examples=25, deadline=None)
@given(SEEDS, st.integers(1, 4), st.booleans())
def test_stochastic_against_fine_enumeration(seed, M, sparse):
    family = make_family(seed, M, 2, 2, discount=0.8, sparse=sparse)
    found = best_stochastic(family, time_limit=3.0)
    best = finely_enumerated(family)
    assert found.value == pytest.approx(best, abs=1e-6)
    assert found.value == pytest.approx(value_of(family, found.policy), abs=1e-9)
    assert found.bound >= best - 1e-9


@settings(max_examples=25, deadline=None)
@given(SEEDS, st.integers(2, 4), st.integers(2, 4), st.integers(2, 3))
def test_every_bound_on_the_way_is_valid(seed, M, S, A):
    """Of both trees, and the value of no policy is above the bound, whenever the search is stopped."""
    family = make_family(seed, M, S, A)
    best = enumerated(family)
    returns = MemorylessReturn(family)
    tree = branch._Tree(returns, np.zeros(S, dtype=np.int64), 1e-6)
    bounds = [tree.bound()]
    while tree.open and len(bounds) < 200:
        tree.expand()
        bounds.append(tree.bound())
    assert min(bounds) >= best - 1e-9
    assert (np.diff(bounds) <= 1e-9).all()

    found, value = ascend(returns, np.full((S, A), 1.0 / A))
    assert value == pytest.approx(returns.value(found), abs=1e-9)
    search = boxes._Boxes(family, found, value, 1e-6)
    tried = value_of(family, np.random.default_rng(seed).dirichlet(np.full(A, 0.5), (2000, S))).max()
    for _ in range(30):
        if search.open:
            search.expand()
        assert search.bound() >= max(value, tried, best) - 1e-9


def test_boxes_prove_a_mixed_optimum():
    """Two environments that want opposite actions where nothing can be learned: the best policy mixes."""
    found = best_stochastic(opposites(0.6), time_limit=20.0)
    # Leave in environment 0 by action 0, in 1 by action 1, at 1 a step until then; 1 / (1 - 0.9 (1 - q)) each.
    q = np.linspace(0, 1, 200001)
    best = (-0.6 / (1 - 0.9 * (1 - q)) - 0.4 / (1 - 0.9 * q)).max()
    assert found.certified
    assert found.value == pytest.approx(best, abs=1e-6)
    assert best_deterministic(opposites(0.6)).value == pytest.approx(-0.6 * 1 - 0.4 * 10)


def opposites(weight):
    leave, stay = [0.0, 1.0], [1.0, 0.0]
    end = [[0.0, 1.0], [0.0, 1.0]]
    rewards = [[-1.0, -1.0], [0.0, 0.0]]
    return Family.from_arrays(
        [[[leave, stay], end], [[stay, leave], end]], [rewards] * 2, [1.0, 0.0], [weight, 1 - weight], 0.9
    )


@pytest.mark.parametrize(("limit", "discount"), [(None, 0.9), (6, 1.0), (4, 0.8)])
@pytest.mark.parametrize("p", [[0.5, 0.3, 0.2], [0.25, 0.25, 0.25, 0.25], [0.7, 0.2, 0.1]])
def test_guessing_game_closed_forms(p, limit, discount):
    family = guessing_family(p, limit, discount)
    policy, value = best_memoryless(p, limit, discount)
    found = best_stochastic(family, time_limit=2.0)
    assert found.value == pytest.approx(value, abs=1e-6)
    assert found.bound >= value - 1e-9
    start = int(np.argmax(family.initial))
    np.testing.assert_allclose(found.policy[start], policy, atol=1e-3)
    deterministic = best_deterministic(family)
    assert deterministic.certified
    assert deterministic.value == pytest.approx(guess_argmax(p, limit, discount), abs=1e-6)


@settings(max_examples=30, deadline=None)
@given(SEEDS, st.integers(1, 3), st.integers(3, 5))
def test_as_many_actions_as_environments_are_enough(seed, M, A):
    """At an optimum, some policy with at most M actions a state has the same values in every environment.

    Keeping all V_m asks sum_a pi(a|s) (Q_m(s, a) - V_m(s)) = 0 of pi(.|s) for each m. At an optimum the sum of
    these by w_m d_m(s) is 0 for each action in use, so one of them is implied by the others; with the sum of
    the probabilities they are M equations, and a vertex of their solutions has at most M positive entries.
    """
    family = make_family(seed, M, 3, A)
    returns = MemorylessReturn(family)
    policy, value = ascend(returns, np.random.default_rng(seed).dirichlet(np.ones(A), 3))
    values = policy_values(family, policy)
    sparse = np.zeros_like(policy)
    for s in range(3):
        support = np.flatnonzero(policy[s] > 1e-6)
        q = np.stack([action_values(family, m, values[m])[s, support] for m in range(M)])
        visits = [returns.evaluate(policy, np.eye(M)[m]).occupancy[s] for m in range(M)]
        kept = np.argsort(family.weights * visits)[: M - 1]
        equations = np.vstack([(q - values[:, s, None])[kept], np.ones(support.size)])
        right = equations @ policy[s, support] / policy[s, support].sum()
        vertex = linprog(np.arange(support.size), A_eq=equations, b_eq=right, method="highs-ds")
        sparse[s, support] = vertex.x
    assert (sparse > 1e-9).sum(axis=1).max() <= M
    assert value_of(family, sparse) == pytest.approx(value, abs=1e-6)


@settings(max_examples=15, deadline=None)
@given(SEEDS)
def test_stochastic_is_never_below_deterministic_and_bounds_order(seed):
    family = make_family(seed, 3, 4, 3)
    deterministic = best_deterministic(family)
    stochastic = best_stochastic(family, deterministic=deterministic, time_limit=0.5)
    informed = family.weights @ optimal_values(family) @ family.initial
    assert deterministic.value <= stochastic.value <= stochastic.bound <= informed + 1e-9


def test_same_seed_same_policy_and_no_time_is_no_trouble():
    family = make_family(5, 4, 6, 3)
    first, second = (best_stochastic(family, time_limit=1.0, seed=3) for _ in range(2))
    np.testing.assert_array_equal(first.policy, second.policy)
    hurried = best_deterministic(family, starts=[np.zeros(6, dtype=int)], time_limit=0.0)
    assert hurried.value <= hurried.bound
    assert hurried.value >= value_of(family, np.eye(3)[np.zeros(6, dtype=int)]) - 1e-12
    none = best_stochastic(family, deterministic=hurried, time_limit=0.0)
    assert hurried.value <= none.value <= none.bound


def test_a_known_upper_bound_is_a_certificate():
    family = make_family(5, 4, 6, 3)
    deterministic = best_deterministic(family)
    found = best_deterministic(family, upper=deterministic.value)
    assert found.certified and found.bound == deterministic.value
