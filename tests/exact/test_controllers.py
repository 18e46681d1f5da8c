"""Finite-state controllers: chains of node and state, and closed forms."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from epomdp.errors import BadInput
from epomdp.exact.belief import EpistemicPOMDP
from epomdp.exact.controllers import FiniteStateController
from epomdp.exact.family import Family
from epomdp.exact.guessing import elimination, guessing_family, memoryless
from epomdp.exact.policy_evaluation import evaluate, evaluate_memoryless


def random_family(seed, M=3, S=3, A=2):
    rng = np.random.default_rng(seed)
    transitions = rng.dirichlet(np.ones(S), (M, S, A))
    rewards = rng.integers(-1, 2, (M, S, A)).astype(float)
    return Family.from_arrays(transitions, rewards, rng.dirichlet(np.ones(S)), rng.dirichlet(np.ones(M)), 0.9)


def eliminating(p, limit):
    """Elimination in the guessing game as a controller: node k guesses the k-th most likely label."""
    pomdp = EpistemicPOMDP(guessing_family(p, limit=limit))
    K, S = len(p), pomdp.family.num_states
    order = np.argsort(-np.asarray(p), kind="stable")
    actions = np.repeat(np.eye(K)[order][:, None], S, axis=1)
    following = np.repeat(np.minimum(np.arange(K) + 1, K - 1), K * S).reshape(K, K, S)
    return pomdp, FiniteStateController(np.zeros(S, dtype=int), actions, following)


@pytest.mark.parametrize("limit", [1, 2, 4, 9])
def test_controllers_have_the_closed_forms_of_the_guessing_game(limit):
    p = [0.1, 0.4, 0.2, 0.3]
    pomdp, controller = eliminating(p, limit)
    found = evaluate(pomdp, controller)
    assert found.exact and found.lower == pytest.approx(float(elimination(p, limit)), abs=1e-12)
    q = np.array([0.4, 0.3, 0.2, 0.1])
    table = np.tile(q, (pomdp.family.num_states, 1))
    assert evaluate_memoryless(pomdp, table).lower == pytest.approx(float(memoryless(q, p, limit)), abs=1e-12)


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 10**6))
def test_controllers_are_chains_of_node_and_state(seed):
    pomdp = EpistemicPOMDP(random_family(seed))
    rng = np.random.default_rng(seed)
    N, S, A = 2, 3, 2
    first, following = rng.integers(N, size=S), rng.integers(N, size=(N, A, S))
    actions = rng.dirichlet(np.ones(A), (N, S))
    family, expected = pomdp.family, []
    for P, r in zip(family.dense_transitions(), family.rewards, strict=True):
        chain, reward = np.zeros((N, S, N, S)), np.zeros((N, S))
        for n, s, a, t in np.ndindex(N, S, A, S):
            chain[n, s, following[n, a, t], t] += actions[n, s, a] * P[s, a, t]
            reward[n, s] += actions[n, s, a] * r[s, a] / S
        values = np.linalg.solve(np.eye(N * S) - 0.9 * chain.reshape(N * S, N * S), reward.ravel()).reshape(
            N, S
        )
        expected.append(family.initial @ values[first, np.arange(S)])
    found = evaluate(pomdp, FiniteStateController(first, actions, following))
    assert found.exact
    np.testing.assert_allclose(found.environment_lower, expected, atol=1e-9)


@pytest.mark.parametrize(
    "change, message",
    [
        ({"first": np.array([0, 2, 0])}, "first names node 0 or 2; nodes are 0 to 1"),
        ({"first": np.array([0, 1])}, r"first has shape \(2,\)"),
        ({"following": np.zeros((2, 2, 3))}, "following has shape .* float64"),
        ({"actions": np.full((2, 3, 2), 0.4)}, "policy: state 0 has probabilities"),
        ({"actions": np.ones((2, 3))}, r"actions have shape \(2, 3\)"),
    ],
)
def test_bad_controllers_are_named(change, message):
    parts = {
        "first": np.zeros(3, dtype=int),
        "actions": np.full((2, 3, 2), 0.5),
        "following": np.zeros((2, 2, 3), dtype=int),
    }
    FiniteStateController(**parts)
    with pytest.raises(BadInput, match=message):
        FiniteStateController(**(parts | change))
