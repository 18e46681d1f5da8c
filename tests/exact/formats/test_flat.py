"""The flat form of a family: the same optimal value, by two brute forces written here; and the way back."""

from dataclasses import replace

import numpy as np
import pytest
import scipy.sparse as sp
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from epomdp.errors import BadInput
from epomdp.exact.family import Family
from epomdp.exact.formats.flat import flatten, reward_cells, seen_start
from epomdp.exact.formats.unflat import unflatten
from epomdp.exact.pomdp import Pomdp


@st.composite
def families(draw, starts=(1, 2, 3)):
    """Small families, dense or sparse, whose environments share some of their rewards."""
    M, S, A = (draw(st.integers(1, 3)) for _ in range(3))
    rng = np.random.default_rng(draw(st.integers(0, 10**6)))
    transitions = rng.dirichlet(np.full(S, 0.7), (M, S, A))
    if draw(st.booleans()):
        transitions = np.eye(S)[rng.integers(0, S, (M, S, A))]
    rewards = rng.choice([-1.0, 0.0, 0.1 + 0.2, 2.5], (M, S, A))
    if draw(st.booleans()):
        rewards[:] = rewards[0]
    initial = np.zeros(S)
    chosen = rng.permutation(S)[: draw(st.sampled_from(starts))]
    initial[chosen] = rng.dirichlet(np.ones(len(chosen)))
    discount = draw(st.sampled_from([0.5, 0.95]))
    return Family.from_arrays(transitions, rewards, initial, rng.dirichlet(np.ones(M)), discount)


def epistemic_value(family: Family, observe_rewards: bool, horizon: int) -> float:
    """Optimal value of `horizon` steps: state seen, belief over environments, by going through all histories."""
    T, R = family.dense_transitions(), family.rewards

    def value(s, weights, steps):
        if steps == 0:
            return 0.0
        best = -np.inf
        for a in range(family.num_actions):
            total = weights @ R[:, s, a]
            for s2 in range(family.num_states):
                joint = weights * T[:, s, a, s2]
                seen = (
                    [R[:, s, a] == r for r in set(R[:, s, a])] if observe_rewards else [np.ones(len(R), bool)]
                )
                for group in seen:
                    if joint[group].sum() > 0:
                        total += family.discount * value(s2, np.where(group, joint, 0.0), steps - 1)
            best = max(best, total)
        return best

    return sum(p * value(s, family.weights, horizon) for s, p in enumerate(family.initial) if p > 0)


def flat_value(pomdp: Pomdp, horizon: int) -> float:
    """Optimal value of `horizon` steps of a POMDP, nothing seen at first, by going through all histories."""
    T, shows = ([m.toarray() for m in part] for part in (pomdp.transitions, pomdp.observations))

    def value(belief, steps):
        if steps == 0:
            return 0.0
        best = -np.inf
        for a in range(pomdp.num_actions):
            total, after = belief @ pomdp.rewards[:, a], belief @ T[a]
            for o in range(pomdp.num_observations):
                joint = after * shows[a][:, o]
                if joint.sum() > 0:
                    total += pomdp.discount * value(joint, steps - 1)
            best = max(best, total)
        return best

    return value(pomdp.initial, horizon)


@settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.too_slow])
@given(family=families(), observe_rewards=st.booleans())
def test_the_flat_form_has_the_same_value(family, observe_rewards):
    pomdp = flatten(family, observe_rewards)
    extra = int(np.count_nonzero(family.initial) > 1)
    exact = epistemic_value(family, observe_rewards, 3)
    assert flat_value(pomdp, 3 + extra) == pytest.approx(exact, abs=1e-9)


@settings(deadline=None, max_examples=60)
@given(family=families(), observe_rewards=st.booleans())
def test_the_flat_form_is_a_pomdp_whose_names_say_what_is_what(family, observe_rewards):
    pomdp = flatten(family, observe_rewards)
    for matrix in pomdp.transitions + pomdp.observations:
        np.testing.assert_allclose(matrix.sum(axis=1), 1, atol=1e-12)
    assert pomdp.initial.sum() == pytest.approx(1)
    shows = [pomdp.observation_names[o] for o in pomdp.observations[0].indices]
    assert [name.split("_", 1)[1] for name in pomdp.states] == shows
    if not observe_rewards or (family.rewards == family.rewards[0]).all():
        assert not any("_r" in name for name in pomdp.states)


@settings(deadline=None, max_examples=80)
@given(family=families(), observe_rewards=st.booleans())
def test_there_and_back_is_the_same_family(family, observe_rewards):
    back = unflatten(flatten(family, observe_rewards))
    assert_close(back, family)


@settings(deadline=None, max_examples=30)
@given(family=families(), seed=st.integers(0, 100))
def test_states_may_be_in_any_order_and_stay_so(family, seed):
    pomdp = flatten(family)
    order = np.random.default_rng(seed).permutation(pomdp.num_states)
    mixed = replace(
        pomdp,
        transitions=tuple(T[order][:, order].sorted_indices() for T in pomdp.transitions),
        observations=tuple(shows[order] for shows in pomdp.observations),
        rewards=pomdp.rewards[order],
        initial=pomdp.initial[order],
        states=tuple(pomdp.states[i] for i in order),
    )
    before = [T.toarray() for T in mixed.transitions]
    assert_close(unflatten(mixed), family)
    np.testing.assert_array_equal([T.toarray() for T in mixed.transitions], before)


def assert_close(a: Family, b: Family):
    np.testing.assert_allclose(a.dense_transitions(), b.dense_transitions(), atol=1e-12)
    np.testing.assert_allclose(a.rewards, b.rewards, atol=1e-12)
    np.testing.assert_allclose(a.initial, b.initial, atol=1e-12)
    np.testing.assert_allclose(a.weights, b.weights, atol=1e-12)
    assert a.discount == b.discount


def two_ways(discount=0.9, initial=(1.0, 0.0), horizon=None) -> Family:
    """Two environments in which the actions' rewards are swapped; the second state ends the episode."""
    transitions = np.zeros((2, 2, 2, 2))
    transitions[:, 0, :, 0], transitions[:, 0, :, 1], transitions[:, 1, :, 1] = 0.5, 0.5, 1.0
    rewards = np.array([[[1.0, 0.0], [0.0, 0.0]], [[0.0, 1.0], [0.0, 0.0]]])
    return Family.from_arrays(transitions, rewards, initial, [0.25, 0.75], discount, horizon)


def test_reward_cells_are_the_first_environment_with_the_reward():
    rewards = np.array([[[3.0, 1.0]], [[2.0, 1.0]], [[3.0, 1.0]], [[2.0, 5.0]]])
    family = Family.from_arrays(np.ones((4, 1, 2, 1)), rewards, [1.0], np.full(4, 0.25), 0.9)
    np.testing.assert_array_equal(reward_cells(family), [[[0, 0]], [[1, 0]], [[0, 0]], [[1, 3]]])


def test_several_starts_begin_in_an_extra_state_before_anything_is_seen():
    pomdp = flatten(two_ways(initial=(0.5, 0.5)), observe_rewards=False)
    assert pomdp.states == ("m0_s0", "m0_s1", "m0_start", "m1_s0", "m1_s1", "m1_start")
    np.testing.assert_array_equal(pomdp.initial, [0, 0, 0.25, 0, 0, 0.75])
    np.testing.assert_allclose(pomdp.transitions[0].toarray()[2], [0.5, 0.5, 0, 0, 0, 0])
    np.testing.assert_allclose(pomdp.rewards[0], [1 / 0.9, 0])


def test_a_horizon_goes_into_the_states():
    pomdp = flatten(two_ways(horizon=2), observe_rewards=False)
    # One step: half the better of .25 and .75; a second one where the state stayed, with probability 1/2.
    assert flat_value(pomdp, 5) == pytest.approx(0.75 + 0.9 * 0.5 * 0.75)


def test_what_cannot_be_flattened():
    with pytest.raises(BadInput, match="discount: is 1"):
        flatten(two_ways(discount=1.0))
    with pytest.raises(BadInput, match="discount: is 0"):
        flatten(two_ways(discount=0.0, initial=(0.5, 0.5)))


def test_a_family_too_large_for_memory_is_refused(monkeypatch):
    monkeypatch.setattr("epomdp.exact.memory.available_bytes", lambda: 100.0)
    with pytest.raises(BadInput, match=r"flattening the family.*GB of memory"):
        flatten(two_ways())


def changed(matrix, row, column, value):
    dense = matrix.toarray()
    dense[row] = 0
    dense[row, column] = value
    if value < 1:
        dense[row, (column + 1) % dense.shape[1]] = 1 - value
    return sp.csr_array(dense)


# m0_s0_r0, m0_s1_r0, m1_s0_r0, m1_s0_r1, m1_s1_r0, m1_s1_r1
FLAT = flatten(two_ways())


@pytest.mark.parametrize(
    ("pomdp", "why"),
    [
        (replace(FLAT, states=()), "its states have no names"),
        (replace(FLAT, states=("left", *FLAT.states[1:])), "'left' has no name such as 'm0_s0'"),
        (replace(FLAT, states=("m0_s7_r0", *FLAT.states[1:])), "what is observed is not the state"),
        (replace(FLAT, states=("m9_s0_r0", *FLAT.states[1:])), "not all 10 x 2 states"),
        (
            replace(FLAT, observations=(sp.csr_array(np.full((6, 4), 0.25)),) * 2),
            "not one for each hidden state",
        ),
        (
            replace(FLAT, observations=(FLAT.observations[0], changed(FLAT.observations[1], 0, 1, 1))),
            "the same for all actions",
        ),
        (
            replace(FLAT, observations=(changed(FLAT.observations[0], 0, 2, 1),) * 2),
            "what is observed is not",
        ),
        (
            replace(FLAT, transitions=(FLAT.transitions[0], changed(FLAT.transitions[1], 3, 3, 1))),
            "copies of one hidden state go on differently",
        ),
        (
            replace(FLAT, rewards=FLAT.rewards + np.eye(6, 2, -3)),
            "copies of one hidden state have different rewards",
        ),
        (replace(FLAT, initial=np.array([0.5, 0, 0, 0, 0.5, 0])), "start state depends on the environment"),
        (replace(FLAT, rewards=FLAT.rewards * 0), "reward cells in the names are not those of the rewards"),
    ],
)
def test_a_pomdp_that_is_no_family_says_why(pomdp, why):
    with pytest.raises(BadInput, match=rf"not that of a family: .*{why}"):
        unflatten(pomdp)


def test_an_environment_without_a_state_is_no_family():
    plain = flatten(two_ways(), observe_rewards=False)
    shows = changed(plain.observations[0], 1, 0, 1)
    with pytest.raises(BadInput, match="some environment lacks a state that another has"):
        unflatten(replace(plain, states=("m0_s0", "m0_s0", "m1_s0", "m1_s1"), observations=(shows, shows)))


def test_environments_that_mix_are_no_family():
    plain = flatten(two_ways(), observe_rewards=False)
    with pytest.raises(BadInput, match="from one environment to another"):
        unflatten(replace(plain, transitions=(changed(plain.transitions[0], 0, 3, 1), plain.transitions[1])))


def test_a_start_that_comes_again_is_no_family():
    plain = flatten(two_ways(initial=(0.5, 0.5)), observe_rewards=False)
    with pytest.raises(BadInput, match="where every episode begins, once"):
        unflatten(replace(plain, transitions=(changed(plain.transitions[0], 0, 2, 1), plain.transitions[1])))


@settings(deadline=None, max_examples=40)
@given(seed=st.integers(0, 10**6), starts=st.integers(1, 3), kinds=st.integers(1, 3))
def test_a_start_that_is_seen_is_worth_what_seeing_it_is_worth(seed, starts, kinds):
    rng = np.random.default_rng(seed)
    S, A, count = 3, 2, 2
    initial = np.zeros(S)
    initial[rng.permutation(S)[:starts]] = rng.dirichlet(np.ones(starts))
    pomdp = Pomdp(
        tuple(sp.csr_array(rng.dirichlet(np.ones(S), S)) for _ in range(A)),
        tuple(sp.csr_array(rng.dirichlet(np.ones(count), S)) for _ in range(A)),
        rng.normal(size=(S, A)),
        initial,
        0.8,
        ("a", "b", "c"),
    )
    shown = rng.integers(0, kinds, S)
    exact = 0.0
    for kind in range(kinds):
        belief = np.where(shown == kind, initial, 0.0)
        if belief.sum() > 0:
            # The value is linear in the scale of the belief, so that it need not be normalised.
            exact += flat_value(replace(pomdp, initial=belief), 2)
    assert flat_value(seen_start(pomdp, shown), 3) == pytest.approx(exact, abs=1e-12)
