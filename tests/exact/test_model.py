"""The solver's flat arrays hold exactly the family, or the POMDP, that they were made of."""

import numpy as np
import pytest
import scipy.sparse as sp
from hypothesis import given, settings
from hypothesis import strategies as st

from epomdp.exact.belief import EpistemicPOMDP
from epomdp.exact.family import Family
from epomdp.exact.formats import flatten
from epomdp.exact.pomdp import Pomdp
from epomdp.exact.solving.flat_model import pomdp_problem
from epomdp.exact.solving.model import family_problem


def random_family(seed, M=3, S=4, A=2):
    rng = np.random.default_rng(seed)
    transitions = np.zeros((M, S, A, S))
    for index in np.ndindex(M, S, A):
        transitions[index][rng.choice(S, 2, replace=False)] = rng.dirichlet(np.ones(2))
    weights = rng.dirichlet(np.ones(M))
    initial = np.zeros(S)
    initial[rng.choice(S, 2, replace=False)] = [0.3, 0.7]
    return (
        Family.from_arrays(
            transitions, rng.integers(0, 2, (M, S, A)) / 2, initial, weights * (weights > 0.1), 0.9
        )
        if (weights > 0.1).all()
        else random_family(seed + 1, M, S, A)
    )


def rows(problem, x, a):
    """(hidden here, outcome) -> (hidden there, probability), and the rewards, by the documented layout."""
    model, A = problem.model, problem.num_actions
    size = model.pair_start[x + 1] - model.pair_start[x]
    first = A * model.pair_start[x] + a * size
    cells, rewards = {}, {}
    for y, hidden in enumerate(problem.hidden(x)):
        begin, end = model.rows["entry"][first + y : first + y + 2]
        rewards[int(hidden)] = model.rows["reward"][first + y]
        for entry in model.entries[begin:end]:
            o = model.outcome_start[x * A + a] + entry["outcome"]
            there = problem.hidden(model.successors[o])[entry["hidden"]]
            cells[int(hidden), int(o), int(there)] = entry["probability"]
    return cells, rewards


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 10**6), st.booleans())
def test_a_familys_rows_are_its_likelihoods(seed, observed):
    family = random_family(seed)
    pomdp = EpistemicPOMDP(family, observed)
    problem = family_problem(family, observed, family.weights)
    for x in range(family.num_states):
        for a in range(family.num_actions):
            cells, rewards = rows(problem, x, a)
            for (m, o, there), probability in cells.items():
                assert there == m
                seen = problem.outcome_reward[o]
                assert np.isnan(seen) != observed
                likelihood = pomdp.likelihood(x, a, seen, problem.outcome_label[o])
                assert probability == likelihood[m]
                assert problem.model.successors[o] == problem.outcome_label[o]
            for m, reward in rewards.items():
                assert reward == family.rewards[m, x, a]
                assert sum(p for (h, _, _), p in cells.items() if h == m) == pytest.approx(1.0)
            outcomes = problem.model.outcome_start[x * family.num_actions + a :][:2]
            labels = list(
                zip(
                    problem.outcome_label[slice(*outcomes)],
                    np.nan_to_num(problem.outcome_reward[slice(*outcomes)]),
                    strict=True,
                )
            )
            assert len(set(labels)) == len(labels)


def test_only_what_can_be_reached_is_kept():
    # Environment 0 stays in state 0, environment 1 goes to 1; state 2 is out of reach; environment 2 has no weight.
    transitions = np.zeros((3, 3, 1, 3))
    transitions[0, :, 0, 0] = transitions[1, :, 0, 1] = transitions[2, :, 0, 2] = 1.0
    family = Family.from_arrays(transitions, np.zeros((3, 3, 1)), [1.0, 0.0, 0.0], [0.5, 0.5, 0.0], 0.9)
    problem = family_problem(family, True, family.weights)
    assert [problem.hidden(x).tolist() for x in range(3)] == [[0, 1], [1], []]
    assert problem.start_states.tolist() == [0]
    np.testing.assert_array_equal(problem.start_beliefs[0], [0.5, 0.5])


def test_rewards_that_differ_are_different_outcomes():
    rewards = np.array([0.0, 1.0, 0.0, 2.0]).reshape(4, 1, 1)
    family = Family.from_arrays(np.ones((4, 1, 1, 1)), rewards, [1.0], np.full(4, 0.25), 0.9)
    assert sorted(family_problem(family, True, family.weights).outcome_reward) == [0.0, 1.0, 2.0]
    assert len(family_problem(family, False, family.weights).outcome_label) == 1


def test_more_rewards_than_the_first_guess_has_room_for():
    M = 200
    rewards = np.arange(M, dtype=float).reshape(M, 1, 1)
    family = Family.from_arrays(np.ones((M, 1, 1, 1)), rewards, [1.0], np.full(M, 1 / M), 0.9)
    problem = family_problem(family, True, family.weights)
    np.testing.assert_array_equal(problem.outcome_reward, np.arange(M))


def corridor():
    """Four states in two rooms; the room is always seen, where in it is seen with noise."""
    move = np.array([[0, 0.5, 0.5, 0], [0.5, 0, 0, 0.5], [1, 0, 0, 0], [0, 0, 0.3, 0.7]])
    see = np.array([[0.8, 0.2, 0, 0], [0.2, 0.8, 0, 0], [0, 0, 0.6, 0.4], [0, 0, 0.5, 0.5]])
    rewards = np.arange(4.0)[:, None]
    return move, see, rewards


def test_what_observations_always_tell_becomes_observed():
    move, see, rewards = corridor()
    pomdp = Pomdp((sp.csr_array(move),), (sp.csr_array(see),), rewards, np.array([0.5, 0.5, 0, 0]), 0.9)
    problem = pomdp_problem(pomdp)
    assert [problem.hidden(x).tolist() for x in range(2)] == [[0, 1], [2, 3]]
    assert problem.start_states.tolist() == [0]
    cells, found = rows(problem, 0, 0)
    for (s, o, t), probability in cells.items():
        assert probability == pytest.approx(move[s, t] * see[t, problem.outcome_label[o]])
    assert found == {0: 0.0, 1: 1.0}


def test_a_start_belief_over_several_rooms_gets_a_state_of_its_own():
    move, see, rewards = corridor()
    pomdp = Pomdp((sp.csr_array(move),), (sp.csr_array(see),), rewards, np.array([0.5, 0, 0.5, 0]), 0.9)
    problem = pomdp_problem(pomdp)
    assert problem.hidden(int(problem.start_states[0])).tolist() == [0, 2]
    assert int(problem.start_states[0]) not in problem.model.successors


def test_states_that_cannot_be_reached_are_left_out():
    move, see, rewards = corridor()
    move[:2] = move[:2, ::-1][:, [0, 1, 2, 3]]
    move = np.eye(4)
    pomdp = Pomdp((sp.csr_array(move),), (sp.csr_array(see),), rewards, np.array([1.0, 0, 0, 0]), 0.9)
    assert pomdp_problem(pomdp).pair_hidden.tolist() == [0]


@settings(max_examples=10, deadline=None)
@given(st.integers(0, 10**6), st.booleans())
def test_a_flattened_family_falls_apart_into_its_states(seed, observed):
    family = random_family(seed)
    problem = pomdp_problem(flatten(family, observed))
    # States and, with rewards, the cells they came with are always seen: no class mixes two states.
    names = np.array(flatten(family, observed).states)
    for x in range(len(problem.model.pair_start) - 1):
        if x in problem.model.successors:
            assert len({name.split("_")[1] for name in names[problem.hidden(x)]}) == 1
