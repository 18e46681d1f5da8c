"""Returns of memoryless policies, their visits and gradients, against direct solves and finite differences."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from epomdp.errors import BadInput
from epomdp.exact import occupancy
from epomdp.exact.family import Family
from epomdp.exact.mdp import policy_values
from epomdp.exact.occupancy import MemorylessReturn, OutOfTime


def make_family(seed, M=3, S=4, A=3, discount=0.9, horizon=None):
    rng = np.random.default_rng(seed)
    return Family.from_arrays(
        rng.dirichlet(np.full(S, 0.5), (M, S, A)),
        rng.normal(size=(M, S, A)),
        rng.dirichlet(np.ones(S)),
        rng.dirichlet(np.ones(M)),
        discount,
        horizon,
    )


def finite_horizon_return(family, policy):
    """(M,) by stepping the state distribution forward."""
    transitions = family.dense_transitions()
    chain = np.einsum("sa,msat->mst", policy, transitions)
    reward = np.einsum("sa,msa->ms", policy, family.rewards)
    now = np.tile(family.initial, (family.num_environments, 1))
    total = np.zeros(family.num_environments)
    for t in range(family.horizon):
        total += family.discount**t * (now * reward).sum(axis=1)
        now = np.einsum("ms,mst->mt", now, chain)
    return total


@pytest.fixture(params=["dense", "sparse"])
def solver(request, monkeypatch):
    if request.param == "sparse":
        monkeypatch.setattr(occupancy, "_DENSE_STATES", 0)
    return request.param


@pytest.mark.parametrize(("discount", "horizon"), [(0.9, None), (0.9, 5), (1.0, 4), (0.0, None)])
def test_gradient_is_the_finite_difference(solver, discount, horizon):
    family = make_family(1, discount=discount, horizon=horizon)
    returns = MemorylessReturn(family)
    rng = np.random.default_rng(2)
    policy = rng.dirichlet(np.ones(3), 4)
    weights = rng.dirichlet(np.ones(3))
    bonus = rng.normal(size=4)
    now = returns.evaluate(policy, weights, bonus)
    for _ in range(5):
        direction = rng.normal(size=policy.shape)
        direction -= direction.mean(axis=1, keepdims=True)
        up = returns.evaluate(policy + 1e-6 * direction, weights, bonus).value
        down = returns.evaluate(policy - 1e-6 * direction, weights, bonus).value
        assert (now.gradient * direction).sum() == pytest.approx((up - down) / 2e-6, abs=1e-6)


def test_value_agrees_with_policy_values_and_visits_price_a_bonus(solver):
    family = make_family(3)
    returns = MemorylessReturn(family)
    policy = np.random.default_rng(0).dirichlet(np.ones(3), 4)
    now = returns.evaluate(policy)
    assert now.value == pytest.approx(
        family.weights @ policy_values(family, policy) @ family.initial, abs=1e-9
    )
    assert returns.value(policy) == pytest.approx(now.value, abs=1e-9)
    assert now.occupancy.sum() == pytest.approx(10.0)
    bonus = np.array([1.0, -2.0, 0.5, 3.0])
    assert returns.evaluate(policy, bonus=bonus).value == pytest.approx(now.value + bonus @ now.occupancy)


def test_horizon_against_stepping_forward(solver):
    family = make_family(4, discount=1.0, horizon=6)
    returns = MemorylessReturn(family)
    policy = np.random.default_rng(0).dirichlet(np.ones(3), 4)
    np.testing.assert_allclose(returns.returns(policy), finite_horizon_return(family, policy), atol=1e-10)
    assert returns.evaluate(policy).occupancy.sum() == pytest.approx(6.0)


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10**6), st.integers(1, 4), st.integers(1, 4), st.integers(1, 3))
def test_single_changes_are_exact(seed, M, S, A):
    family = make_family(seed, M, S, A)
    returns = MemorylessReturn(family)
    policy = np.random.default_rng(seed).dirichlet(np.ones(A), S)
    promised = returns.single_changes(policy)
    for s in range(S):
        for a in range(A):
            changed = policy.copy()
            changed[s] = np.eye(A)[a]
            assert promised[s, a] == pytest.approx(returns.value(changed), abs=1e-9)


def test_undiscounted_families_must_end():
    # State 1 ends; action 1 of state 0 stays there, or goes.
    stays = [[[0.0, 1.0], [1.0, 0.0]], [[0.0, 1.0], [0.0, 1.0]]]
    goes = [[[0.0, 1.0], [0.5, 0.5]], [[0.0, 1.0], [0.0, 1.0]]]
    rewards = [[[-1.0, -1.0], [0.0, 0.0]]]
    with pytest.raises(BadInput, match="go on for ever"):
        MemorylessReturn(Family.from_arrays([stays], rewards, [1.0, 0.0], [1.0], 1.0))
    returns = MemorylessReturn(Family.from_arrays([goes], rewards, [1.0, 0.0], [1.0], 1.0))
    now = returns.evaluate(np.array([[0.0, 1.0], [1.0, 0.0]]))
    assert now.value == pytest.approx(-2.0)
    assert now.occupancy[0] == pytest.approx(2.0)


def test_a_deadline_stops_a_large_evaluation(monkeypatch):
    monkeypatch.setattr(occupancy, "_DENSE_STATES", 0)
    returns = MemorylessReturn(make_family(0), deadline=0.0)
    with pytest.raises(OutOfTime):
        returns.evaluate(np.full((4, 3), 1 / 3))
