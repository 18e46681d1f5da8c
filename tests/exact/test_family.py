"""Families: construction, every fault named where it is, and time in the state."""

import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from epomdp.errors import BadInput
from epomdp.exact import mdp, memory
from epomdp.exact.family import Family


def random_parts(seed, M=3, S=4, A=2, density=0.6):
    rng = np.random.default_rng(seed)
    transitions = rng.dirichlet(np.ones(S), (M, S, A)) * (rng.random((M, S, A, S)) < density)
    transitions[..., 0] += 1e-3
    transitions /= transitions.sum(axis=-1, keepdims=True)
    return {
        "transitions": transitions,
        "rewards": rng.normal(size=(M, S, A)),
        "initial": rng.dirichlet(np.ones(S)),
        "weights": rng.dirichlet(np.ones(M)),
        "discount": 0.9,
    }


@pytest.fixture
def parts():
    return random_parts(0)


def test_dense_arrays_come_back(parts):
    family = Family.from_arrays(**parts)
    np.testing.assert_allclose(family.dense_transitions(), parts["transitions"], atol=1e-15)
    assert (family.num_environments, family.num_states, family.num_actions) == (3, 4, 2)
    for m, s, a in np.ndindex(3, 4, 2):
        successors, probabilities = family.row(m, s, a)
        assert successors.tolist() == np.flatnonzero(parts["transitions"][m, s, a]).tolist()
        np.testing.assert_allclose(probabilities, parts["transitions"][m, s, a][successors])
        np.testing.assert_allclose(family.matrix(m).toarray()[s * 2 + a], parts["transitions"][m, s, a])


def test_sparse_rows_are_sorted_added_up_and_rid_of_zeros():
    family = Family.from_sparse(
        [0, 4, 5],
        [1, 0, 1, 0, 1],
        [0.25, 0.5, 0.25, 0.0, 1.0],
        np.zeros((1, 2, 1)),
        [1.0, 0.0],
        [1.0],
        0.5,
    )
    assert family.indptr.tolist() == [0, 2, 3]
    assert family.successors.tolist() == [0, 1, 1]
    assert family.probabilities.tolist() == [0.5, 0.5, 1.0]


def test_single_precision_is_scaled_and_exact_rows_keep_their_bits(parts):
    single = dict(
        parts, transitions=parts["transitions"].astype(np.float32), weights=np.float32([0.3, 0.3, 0.4])
    )
    family = Family.from_arrays(**single)
    np.testing.assert_allclose(family.dense_transitions().sum(axis=-1), 1.0, atol=1e-15)
    np.testing.assert_allclose(family.weights.sum(), 1.0, atol=1e-15)
    exact = Family.from_arrays(**parts)
    again = Family.from_arrays(**dict(parts, transitions=exact.dense_transitions()))
    assert np.array_equal(again.probabilities, exact.probabilities)


def spoil(name, index, value):
    def change(parts):
        array = np.array(parts[name], dtype=float)
        array[index] = value
        return parts | {name: array}

    return change


FAULTS = [
    (lambda p: p | {"transitions": 0.9 * p["transitions"]}, "environment 0, state 0, action 0 sums to 0.9"),
    (spoil("transitions", (2, 3, 1), 0.0), "environment 2, state 3, action 1 sums to 0"),
    (spoil("transitions", (1, 2, 0, 3), -0.1), "environment 1, state 2, action 0 leads to state 3 with .* -0.1"),
    (spoil("transitions", (1, 2, 0, 3), np.nan), "environment 1, state 2, action 0 leads to state 3 with .* nan"),
    (spoil("rewards", (2, 1, 1), np.inf), "rewards: environment 2, state 1, action 1 has inf"),
    (spoil("rewards", (0, 3, 0), np.nan), "rewards: environment 0, state 3, action 0 has nan"),
    (spoil("initial", 1, -0.5), "initial: state 1 has -0.5"),
    (lambda p: p | {"initial": np.zeros(4)}, "initial: no start state"),
    (lambda p: p | {"initial": np.ones(4)}, "initial: sum to 4"),
    (lambda p: p | {"initial": np.ones(3) / 3}, r"initial: has shape \(3,\)"),
    (lambda p: p | {"weights": np.zeros(3)}, "weights: they are all zero"),
    (spoil("weights", 2, np.nan), "weights: environment 2 has nan"),
    (lambda p: p | {"weights": np.ones(2) / 2}, r"weights: has shape \(2,\)"),
    (lambda p: p | {"rewards": np.zeros((3, 4))}, r"rewards: have shape \(3, 4\)"),
    (lambda p: p | {"transitions": np.zeros((3, 4, 2, 5))}, r"transitions: have shape \(3, 4, 2, 5\)"),
    (lambda p: p | {"transitions": [[1.0], [1.0, 2.0]]}, "transitions: rows have different lengths"),
    (lambda p: p | {"rewards": np.full((3, 4, 2), "x")}, "rewards: holds .* values; give real numbers"),
    (lambda p: p | {"transitions": p["transitions"].astype(complex)}, "transitions: holds complex128"),
    (lambda p: p | {"transitions": np.zeros((0, 4, 2, 4)), "rewards": np.zeros((0, 4, 2))}, "rewards: have shape"),
    (lambda p: p | {"discount": 1.5}, "discount: is 1.5"),
    (lambda p: p | {"discount": -0.1}, "discount: is -0.1"),
    (lambda p: p | {"discount": np.nan}, "discount: is nan"),
    (lambda p: p | {"discount": [0.9]}, r"discount: is \[0.9\]"),
    (lambda p: p | {"discount": 1.0}, "discount: is 1 without a horizon, but environment 0 can go on for ever"),
    (lambda p: p | {"discount": 1.5, "horizon": 3}, "discount: is 1.5"),
    (lambda p: p | {"horizon": 0}, "horizon: is 0"),
    (lambda p: p | {"horizon": 2.5}, "horizon: is 2.5"),
    (lambda p: p | {"horizon": True}, "horizon: is True"),
]  # fmt: skip


@pytest.mark.parametrize("change, message", FAULTS)
def test_faults_are_named(parts, change, message):
    with pytest.raises(BadInput, match=message) as raised:
        Family.from_arrays(**change(parts))
    assert "\n" not in str(raised.value)


SPARSE_FAULTS = [
    ({"indptr": [0, 1]}, r"transitions_indptr: has shape \(2,\)"),
    ({"indptr": [0, 1, 1]}, "transitions_indptr: runs from 0 to 1; it must run from 0 to 2"),
    ({"indptr": [0, 3, 2]}, "transitions_indptr: falls after environment 0, state 1, action 0"),
    ({"indptr": [0.0, 1.0, 2.0]}, "transitions_indptr: holds float64"),
    ({"indptr": [-1, 1, 2]}, "transitions_indptr: entry 0 is -1"),
    ({"indptr": [0, 0, 2]}, "environment 0, state 0, action 0 sums to 0"),
    ({"successors": [0, 2]}, "environment 0, state 1, action 0 leads to state 2; states are 0 to 1"),
    ({"successors": [0, 2**40]}, "transitions_successors: entry 1 is 1099511627776"),
    ({"probabilities": [1.0]}, r"transitions_probabilities: has shape \(1,\)"),
    ({"probabilities": [1.0, 0.5]}, "environment 0, state 1, action 0 sums to 0.5"),
]


@pytest.mark.parametrize("change, message", SPARSE_FAULTS)
def test_sparse_faults_are_named(change, message):
    parts = {
        "indptr": [0, 1, 2],
        "successors": [0, 1],
        "probabilities": [1.0, 1.0],
        "rewards": np.zeros((1, 2, 1)),
        "initial": [1.0, 0.0],
        "weights": [1.0],
        "discount": 0.5,
    }
    Family.from_sparse(**parts)
    with pytest.raises(BadInput, match=message):
        Family.from_sparse(**(parts | change))


def test_discount_one_is_fine_where_every_environment_surely_ends(parts):
    transitions = np.zeros((1, 3, 2, 3))
    transitions[0, 0, :, 1] = transitions[0, 1, :, 2] = transitions[0, 2, :, 2] = 1.0
    rewards = np.zeros((1, 3, 2))
    rewards[0, :2] = 1.0
    assert Family.from_arrays(transitions, rewards, [1, 0, 0], [1], 1.0).discount == 1.0
    # An end that pays is no end.
    rewards[0, 2, 1] = 1.0
    with pytest.raises(BadInput, match="environment 0 can go on for ever from state 0"):
        Family.from_arrays(transitions, rewards, [1, 0, 0], [1], 1.0)
    assert Family.from_arrays(**(parts | {"discount": 1.0, "horizon": 3})).horizon == 3


def test_select_weights_and_mean(parts):
    family = Family.from_arrays(**parts)
    chosen = family.select([2, 0, 2], [0.2, 0.5, 0.3])
    np.testing.assert_array_equal(chosen.dense_transitions(), family.dense_transitions()[[2, 0, 2]])
    np.testing.assert_array_equal(chosen.rewards, family.rewards[[2, 0, 2]])
    assert chosen.weights.tolist() == [0.2, 0.5, 0.3]
    mean = family.mean()
    assert mean.num_environments == 1
    expected = np.einsum("m,msat->sat", parts["weights"], parts["transitions"])
    np.testing.assert_allclose(mean.dense_transitions()[0], expected, atol=1e-14)
    np.testing.assert_allclose(mean.rewards[0], np.einsum("m,msa->sa", parts["weights"], parts["rewards"]))
    with pytest.raises(BadInput, match="weights: sum to 2"):
        family.with_weights([1.0, 1.0, 0.0])


def brute_force(parts, horizon):
    """(M,) best value within the horizon: backward induction written down once more."""
    value = np.zeros(parts["rewards"].shape[:2])
    for _ in range(horizon):
        future = np.einsum("msat,mt->msa", parts["transitions"], value)
        value = (parts["rewards"] + parts["discount"] * future).max(axis=2)
    return value @ parts["initial"]


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10**6), st.integers(1, 5), st.sampled_from([0.0, 0.7, 1.0]))
def test_layers_keep_the_values_of_the_horizon(seed, horizon, discount):
    parts = random_parts(seed, S=3) | {"discount": discount}
    family = Family.from_arrays(**parts, horizon=horizon)
    layered = family.layered()
    layered.checked()
    assert layered.horizon is None and layered.num_states <= 3 * horizon + 1
    np.testing.assert_allclose(
        mdp.optimal_values(layered) @ layered.initial, brute_force(parts, horizon), atol=1e-9
    )
    for m, n, a in np.ndindex(3, layered.num_states - 1, 2):
        successors, probabilities = layered.row(m, n, a)
        original = family.row(m, int(layered.states[n]), a)
        if layered.times[n] == horizon - 1:
            assert successors.tolist() == [layered.end]
        else:
            assert layered.states[successors].tolist() == original[0].tolist()
            assert set(layered.times[successors]) == {layered.times[n] + 1}
            np.testing.assert_array_equal(probabilities, original[1])
        assert layered.rewards[m, n, a] == family.rewards[m, layered.states[n], a]


def test_layers_leave_out_what_is_not_reached_and_merge_ends():
    # 0 -> 1 -> (2 or 3); 2 and 3 are ends; 4 is never reached.
    transitions = np.zeros((2, 5, 1, 5))
    transitions[:, 0, 0, 1] = 1.0
    transitions[:, 1, 0, 2:4] = 0.5
    transitions[:, [2, 3, 4], 0, [2, 3, 4]] = 1.0
    rewards = np.zeros((2, 5, 1))
    rewards[:, 1] = 3.0
    layered = Family.from_arrays(transitions, rewards, np.eye(5)[0], [0.5, 0.5], 1.0, 10).layered()
    assert layered.states.tolist() == [0, 1, -1]
    assert layered.times.tolist() == [0, 1, 10]
    assert layered.row(1, 1, 0)[0].tolist() == [2] and layered.row(1, 1, 0)[1].tolist() == [1.0]
    assert (mdp.optimal_values(layered) @ layered.initial).tolist() == [3.0, 3.0]


def test_dense_transitions_and_layers_too_large_for_memory_are_refused(parts, monkeypatch):
    family = Family.from_arrays(**parts, horizon=5)
    monkeypatch.setattr(memory, "available_bytes", lambda: 500.0)
    with pytest.raises(BadInput, match="dense transitions: needs about"):
        family.dense_transitions()
    with pytest.raises(BadInput, match="21 states with time in them: needs about"):
        family.layered()


def test_a_start_in_an_end_and_no_horizon():
    family = Family.from_arrays(np.ones((1, 1, 1, 1)), np.zeros((1, 1, 1)), [1.0], [1.0], 1.0, 4)
    layered = family.layered()
    assert layered.num_states == 1 and layered.initial.tolist() == [1.0]
    with pytest.raises(BadInput, match="has no horizon"):
        dataclasses.replace(family, horizon=None).layered()


def test_lifted_policies_ignore_time(parts):
    layered = Family.from_arrays(**parts, horizon=3).layered()
    lifted = layered.lift(np.array([1, 0, 1, 0]))
    assert all(lifted[n] == (layered.states[n] + 1) % 2 for n in range(layered.num_states - 1))
    with pytest.raises(BadInput, match=r"policy: has shape \(2,\)"):
        layered.lift(np.array([1, 0]))


@pytest.mark.parametrize("chosen", [[5], [-1], [], [0.5], "a", [[0]]])
def test_only_environments_that_there_are_can_be_selected(chosen):
    family = Family.from_arrays(np.ones((2, 1, 1, 1)), np.zeros((2, 1, 1)), [1.0], [0.5, 0.5], 0.9)
    with pytest.raises(BadInput, match="environments"):
        family.select(chosen, [1.0])


def test_weights_that_overflow_are_refused_in_one_line():
    with pytest.raises(BadInput, match="weights: sum to inf"):
        Family.from_arrays(np.ones((2, 1, 1, 1)), np.zeros((2, 1, 1)), [1.0], [1e308, 1e308], 0.9)
    with pytest.raises(BadInput, match=r"transitions: .* sums to inf"):
        Family.from_arrays(np.full((1, 2, 1, 2), 1e308), np.zeros((1, 2, 1)), [1.0, 0.0], [1.0], 0.9)


def test_a_horizon_too_long_for_the_memory_is_refused_before_it_is_laid_out():
    chain = np.eye(3)[[1, 2, 0]][None, :, None]
    family = Family.from_arrays(chain, np.ones((1, 3, 1)), [1.0, 0, 0], [1.0], 1.0, horizon=10**12)
    with pytest.raises(BadInput, match=r"1e\+12 states with time in them: needs about .* shorter horizon"):
        family.layered()
    # Where every episode ends before, the horizon may be as long as it likes.
    ends = np.eye(3)[[1, 2, 2]][None, :, None]
    rewards = np.array([1.0, 1.0, 0.0]).reshape(1, 3, 1)
    short = Family.from_arrays(ends, rewards, [1.0, 0, 0], [1.0], 1.0, horizon=10**12)
    assert short.layered().num_states == 3
