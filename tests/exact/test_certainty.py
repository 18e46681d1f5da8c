"""Certainty-equivalent policies and QMDP against direct calculation."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from epomdp.exact.belief import EpistemicPOMDP
from epomdp.exact.certainty import Qmdp, certainty_equivalent, map_policy, mean_policy, own_policy
from epomdp.exact.family import Family
from epomdp.exact.guessing import argmax, guessing_family
from epomdp.exact.policy_evaluation import evaluate, evaluate_memoryless


def make_family(seed, M=3, S=3, A=2, discount=0.9, horizon=None):
    rng = np.random.default_rng(seed)
    return Family.from_arrays(
        rng.dirichlet(np.full(S, 0.5), (M, S, A)),
        rng.normal(size=(M, S, A)),
        rng.dirichlet(np.ones(S)),
        rng.dirichlet(np.ones(M)),
        discount,
        horizon,
    )


def value_in(transitions, rewards, initial, discount, actions):
    S = len(initial)
    rows = np.arange(S), np.asarray(actions)
    return initial @ np.linalg.solve(np.eye(S) - discount * transitions[rows], rewards[rows])


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10**6), st.integers(1, 4), st.integers(1, 3), st.integers(1, 3))
def test_against_enumeration_in_the_mdp_taken_for_the_truth(seed, M, S, A):
    family = make_family(seed, M, S, A)
    transitions = family.dense_transitions()
    likeliest = int(family.weights.argmax())
    mean_rewards = np.tensordot(family.weights, family.rewards, axes=1)
    mean_transitions = np.tensordot(family.weights, transitions, axes=1)
    taken = [
        (transitions[likeliest], family.rewards[likeliest], map_policy(family)),
        (mean_transitions, mean_rewards, mean_policy(family)),
    ]
    for P, r, actions in taken:
        every = itertools.product(range(A), repeat=S)
        best = max(value_in(P, r, family.initial, 0.9, policy) for policy in every)
        assert value_in(P, r, family.initial, 0.9, actions) == pytest.approx(best, abs=1e-9)
    found = certainty_equivalent(family)
    for value, actions in ((found.map_value, found.map_actions), (found.mean_value, found.mean_actions)):
        run = [value_in(transitions[m], family.rewards[m], family.initial, 0.9, actions) for m in range(M)]
        assert value == pytest.approx(family.weights @ run, abs=1e-9)


def test_ties_go_to_the_first_environment_and_the_first_action():
    # Environment 0 pays action 1, environment 1 action 2; actions 1 and 3 are twins.
    rewards = [[[0.0, 1.0, 0.0, 1.0]], [[0.0, 0.0, 1.0, 0.0]]]
    family = Family.from_arrays(np.ones((2, 1, 4, 1)), rewards, [1.0], [0.5, 0.5], 0.5)
    assert map_policy(family).tolist() == [1]
    assert mean_policy(family).tolist() == [1]
    assert map_policy(family.with_weights([0.4, 0.6])).tolist() == [2]


@pytest.mark.parametrize(("limit", "discount"), [(7, 1.0), (None, 0.9)])
def test_guessing_the_likeliest_label_for_ever(limit, discount):
    p = [0.2, 0.5, 0.3]
    found = certainty_equivalent(guessing_family(p, limit, discount))
    assert found.map_value == pytest.approx(float(argmax(p, limit, discount)), abs=1e-9)


def test_with_a_horizon_a_state_keeps_the_action_of_its_first_time():
    # Going on (action 0) pays 1 in two steps, stopping (action 1) pays 0.6 at once.
    go = [[[0, 1, 0], [0, 0, 1]], [[0, 0, 1], [0, 0, 1]], [[0, 0, 1], [0, 0, 1]]]
    rewards = [[0.0, 0.6], [1.0, 0.6], [0.0, 0.0]]
    for horizon, action in ((1, 1), (2, 0)):
        family = Family.from_arrays([go], [rewards], [1.0, 0, 0], [1.0], 1.0, horizon)
        assert own_policy(family)[0] == action


def test_qmdp_knows_at_once_in_a_family_of_one():
    family = make_family(0, M=1)
    pomdp = EpistemicPOMDP(family)
    found = evaluate(pomdp, Qmdp.of(pomdp))
    assert found.exact
    assert found.lower == pytest.approx(certainty_equivalent(family).map_value, abs=1e-9)


def test_qmdp_eliminates_labels_in_the_guessing_game():
    """In this game every step informs, so planning as if all were revealed next is optimal."""
    p = np.array([0.5, 0.3, 0.2])
    pomdp = EpistemicPOMDP(guessing_family(p, None, 0.9))
    found = evaluate(pomdp, Qmdp.of(pomdp))
    assert found.exact
    assert found.lower == pytest.approx(-(0.3 + 0.2 * (1 + 0.9)), abs=1e-9)


def test_qmdp_waits_for_a_revelation_that_never_comes():
    """A signpost tells which door is good for 0.1; waiting costs 0.05 and tells nothing: QMDP waits for ever."""
    # States: start, told 0, told 1, end. Actions: door 0, door 1, signpost, wait.
    end, start = [0.0, 0.0, 0.0, 1.0], [1.0, 0.0, 0.0, 0.0]
    rewards, transitions = [], []
    for good in (0, 1):
        told = [0.0, 1.0, 0.0, 0.0] if good == 0 else [0.0, 0.0, 1.0, 0.0]
        transitions.append([[end, end, told, start], [end] * 4, [end] * 4, [end] * 4])
        doors = [1.0 if door == good else -1.0 for door in (0, 1)]
        rewards.append([[*doors, -0.1, -0.05], [*doors, -1.0, -1.0], [*doors, -1.0, -1.0], [0.0] * 4])
    family = Family.from_arrays(transitions, rewards, [1.0, 0, 0, 0], [0.5, 0.5], 0.95)
    pomdp = EpistemicPOMDP(family)
    assert evaluate(pomdp, Qmdp.of(pomdp)).lower == pytest.approx(-0.05 / (1 - 0.95))
    assert evaluate_memoryless(pomdp, np.array([2, 0, 1, 0])).lower == pytest.approx(-0.1 + 0.95)
