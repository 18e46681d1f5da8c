"""Values of each environment by itself, dense and swept, against enumeration and closed forms."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from epomdp.errors import BadInput
from epomdp.exact import mdp
from epomdp.exact.family import Family


def random_family(seed, M=2, S=3, A=2, discount=0.9):
    """A random family; with discount 1 one whose states are left downwards, if not at once, for state 0."""
    rng = np.random.default_rng(seed)
    transitions = rng.dirichlet(np.full(S, 0.5), (M, S, A))
    rewards = rng.normal(size=(M, S, A))
    if discount == 1.0:
        transitions = np.tril(np.moveaxis(transitions, 2, 1)) + 1e-2 * np.eye(S)[0]
        transitions = np.moveaxis(transitions / transitions.sum(axis=-1, keepdims=True), 1, 2)
        transitions[:, 0] = np.eye(S)[0]
        rewards[:, 0] = 0.0
    return Family.from_arrays(transitions, rewards, np.full(S, 1 / S), np.full(M, 1 / M), discount)


def enumerated_values(family):
    """(M, S) best over all deterministic policies, each evaluated by summing up its rewards for long enough."""
    P, r = family.dense_transitions(), family.rewards
    M, S, A = r.shape
    best = np.full((M, S), -np.inf)
    for actions in itertools.product(range(A), repeat=S):
        chain = P[:, np.arange(S), actions]
        reward = r[:, np.arange(S), actions]
        # Squaring: after k rounds `total` holds the discounted rewards of 2^k steps.
        total, power, discount = reward, chain, family.discount
        for _ in range(14):
            total = total + discount * np.einsum("mst,mt->ms", power, total)
            power, discount = power @ power, discount**2
        best = np.maximum(best, total)
    return best


@pytest.fixture(params=["dense", "swept"])
def solver(request, monkeypatch):
    if request.param == "swept":
        monkeypatch.setattr(mdp, "_DENSE_STATES", 0)
    return request.param


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 10**6), st.sampled_from([0.0, 0.5, 0.95, 1.0]))
def test_optimal_values_are_the_best_of_all_policies(seed, discount):
    family = random_family(seed, discount=discount)
    expected = enumerated_values(family)
    swept, converged = mdp.sweep_environments(family, np.zeros((0, 0)))
    assert converged.all()
    np.testing.assert_allclose(mdp.optimal_values(family), expected, atol=1e-9)
    np.testing.assert_allclose(swept, expected, atol=1e-9)


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 10**6), st.sampled_from([0.0, 0.9, 0.999, 1.0]))
def test_policy_values_solve_their_equation(seed, discount):
    family = random_family(seed, S=5, A=3, discount=discount)
    policy = np.random.default_rng(seed).dirichlet(np.ones(3), 5)
    for values in (mdp.policy_values(family, policy), mdp._sweep(family, policy)):
        future = np.einsum("msat,mt->msa", family.dense_transitions(), values)
        expected = np.einsum("sa,msa->ms", policy, family.rewards + discount * future)
        np.testing.assert_allclose(values, expected, atol=1e-10)


def test_deterministic_policies_are_one_hot_rows(solver):
    family = random_family(3, S=5, A=3)
    actions = np.array([2, 0, 1, 1, 2])
    np.testing.assert_array_equal(
        mdp.policy_values(family, actions), mdp.policy_values(family, np.eye(3)[actions])
    )


def test_optimal_policies_attain_the_values_and_take_the_first_of_equals(solver):
    family = random_family(5, M=3, S=6, A=3)
    values, policies = mdp.optimal_values(family), mdp.optimal_policies(family)
    for m in range(3):
        np.testing.assert_allclose(mdp.policy_values(family, policies[m])[m], values[m], atol=1e-9)
    # A copy of every action changes neither the values nor, being second, the policies.
    parts = (np.repeat(family.dense_transitions(), 2, axis=2), np.repeat(family.rewards, 2, axis=2))
    twice = Family.from_arrays(*parts, family.initial, family.weights, 0.9)
    np.testing.assert_array_equal(mdp.optimal_policies(twice), 2 * policies)


def corridor(length, pays, discount, slip=0.0):
    """Forward or stay; forward slips (stays) sometimes; the last state is the end, and reaching it pays."""
    rows, successors, probabilities = [0], [], []
    for s in range(length):
        ways = [[(s, 1.0)], [(s + 1, 1 - slip), (s, slip)]] if s < length - 1 else [[(s, 1.0)]] * 2
        for way in ways:
            successors += [t for t, p in way if p > 0]
            probabilities += [p for _, p in way if p > 0]
            rows.append(len(successors))
    rewards = np.zeros((1, length, 2))
    rewards[0, length - 2, 1] = pays
    start = (np.arange(length) == 0).astype(float)
    return Family.from_sparse(rows, successors, probabilities, rewards, start, [1.0], discount)


def test_a_long_corridor_in_closed_form():
    family = corridor(5000, 1.0, 0.999)
    expected = 0.999 ** np.arange(4998, -1, -1)
    np.testing.assert_allclose(mdp.optimal_values(family)[0], [*expected, 0.0], atol=1e-12)
    assert mdp.optimal_policies(family)[0, :4999].tolist() == [1] * 4999
    # A slip multiplies each step's factor by (1 - slip) / (1 - slip * discount).
    slippery = corridor(300, 0.5, 0.999, slip=0.5)
    factor = 0.999 * 0.5 / (1 - 0.999 * 0.5)
    last = 0.5 / (1 - 0.999 * 0.5)
    np.testing.assert_allclose(
        mdp.optimal_values(slippery)[0, :-1], last * factor ** np.arange(298, -1, -1), atol=1e-10
    )


def test_slow_environments_fall_back_on_sparse_factors(monkeypatch):
    """A ring with a discount so near one that sweeps would not finish."""
    S, discount = 400, 1 - 1e-7
    rng = np.random.default_rng(0)
    rewards = rng.random((2, S, 2))
    states = np.arange(S)
    successors = np.stack([(states + 1) % S, (states - 1) % S], axis=1)
    family = Family.from_sparse(
        np.arange(2 * S * 2 + 1),
        np.tile(successors.ravel(), 2),
        np.ones(4 * S),
        rewards,
        np.full(S, 1 / S),
        [0.5, 0.5],
        discount,
    )
    monkeypatch.setattr("epomdp.exact.sweeps._MAX_SWEEPS", 20)
    forward = mdp.policy_values(family, np.zeros(S, dtype=int))
    # Once around the ring, then for ever: a geometric series.
    around = sum(discount**k * np.roll(rewards[:, :, 0], -k, axis=1) for k in range(S)) / -np.expm1(
        S * np.log1p(-1e-7)
    )
    np.testing.assert_allclose(forward, around, rtol=1e-9)
    values = mdp.optimal_values(family)
    best = (rewards + discount * values[:, successors]).max(axis=2)
    np.testing.assert_allclose(values, best, rtol=1e-13)
    # To and fro over the best pair of neighbours is the best average.
    pair = (rewards[:, :, 0] + np.roll(rewards[:, :, 1], -1, axis=1)).max(axis=1) / 2
    np.testing.assert_allclose(values.max(axis=1) * 1e-7, pair, rtol=1e-4)


def test_threads_change_nothing(monkeypatch):
    family = Family.from_arrays(
        *(lambda f: (f.dense_transitions(), f.rewards, f.initial, f.weights))(random_family(1, M=7, S=40)),
        0.95,
    )
    monkeypatch.setattr(mdp, "_DENSE_STATES", 0)
    monkeypatch.setattr("epomdp.exact.sweeps._STATES_PER_THREAD", 1)
    monkeypatch.setattr("numba.config.NUMBA_NUM_THREADS", 1)
    alone = mdp.optimal_values(family)
    monkeypatch.setattr("numba.config.NUMBA_NUM_THREADS", 3)
    np.testing.assert_array_equal(mdp.optimal_values(family), alone)


def test_undiscounted_environments_must_end(solver):
    # Action 0 stays, action 1 ends: a policy that ends is fine, the family is not.
    P = np.zeros((1, 2, 2, 2))
    P[0, 0, 0, 0] = P[0, 0, 1, 1] = 1.0
    P[0, 1, :, 1] = 1.0
    r = np.array([[[-1.0, -3.0], [0.0, 0.0]]])
    family = Family.from_arrays(P, r, [1, 0], [1], 0.5)
    endless = Family(
        family.indptr, family.successors, family.probabilities, r, family.initial, family.weights, 1.0
    )
    with pytest.raises(BadInput, match="environment 0 can go on for ever from state 0"):
        mdp.optimal_values(endless)
    with pytest.raises(BadInput, match="environment 0 can go on for ever from state 0"):
        mdp.policy_values(endless, np.array([0, 0]))
    # Staying with probability 1 - q costs -1 a step, 1/q - 1 steps in the mean.
    q = 0.25
    values = mdp.policy_values(endless, np.array([[1 - q, q], [0.5, 0.5]]))
    np.testing.assert_allclose(values, [[-(1 / q - 1) - 3.0, 0.0]], atol=1e-9)


BAD_POLICIES = [
    (np.array([0, 2, 0]), "policy: state 1 has action 2"),
    (np.array([0, -1, 0]), "policy: state 1 has action -1"),
    (np.array([0.0, 1.0, 0.0]), r"policy: has shape \(3,\) and type float64"),
    (np.full((3, 2), 0.6), "policy: state 0 has probabilities"),
    (np.array([[1.0, 0], [1.5, -0.5], [1, 0]]), "policy: state 1 has probabilities"),
    (np.full((3, 2), np.nan), "policy: state 0 has probabilities"),
    (np.ones((2, 2)) / 2, r"policy: has shape \(2, 2\)"),
]


@pytest.mark.parametrize("policy, message", BAD_POLICIES)
def test_bad_policies_are_named(policy, message):
    with pytest.raises(BadInput, match=message):
        mdp.policy_values(random_family(0), policy)


def test_a_horizon_must_be_layered_first():
    family = random_family(0)
    limited = Family.from_arrays(
        family.dense_transitions(), family.rewards, family.initial, family.weights, 1.0, 4
    )
    with pytest.raises(BadInput, match=r"has a horizon of 4 steps; solve family.layered\(\)"):
        mdp.optimal_values(limited)
