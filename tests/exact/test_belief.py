"""Beliefs by Bayes' rule, what is observed and what is not, and simulated episodes."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from epomdp.errors import BadInput
from epomdp.exact.belief import EpistemicPOMDP, same_reward
from epomdp.exact.controllers import Memoryless
from epomdp.exact.family import Family
from epomdp.exact.guessing import guessing_family


def random_family(seed, M=3, S=3, A=2, horizon=None):
    """Sparse rows and few different rewards, so that steps tell something and rule out environments."""
    rng = np.random.default_rng(seed)
    transitions = rng.dirichlet(np.ones(S), (M, S, A))
    transitions[rng.random((M, S, A)) < 0.4] = np.eye(S)[1]
    rewards = rng.integers(-1, 2, (M, S, A)).astype(float)
    return Family.from_arrays(
        transitions, rewards, rng.dirichlet(np.ones(S)), rng.dirichlet(np.ones(M)), 0.8, horizon
    )


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10**6), st.booleans())
def test_update_is_bayes_rule(seed, observe_rewards):
    family = random_family(seed)
    pomdp = EpistemicPOMDP(family, observe_rewards)
    P, r = family.dense_transitions(), family.rewards
    rng = np.random.default_rng(seed)
    belief = rng.dirichlet(np.ones(3)) * (rng.random(3) < 0.8)
    belief = pomdp.prior if belief.sum() == 0 else belief / belief.sum()
    for s, a, t in np.ndindex(3, 2, 3):
        for reward in (-1.0, 0.0, 1.0):
            joint = belief * P[:, s, a, t] * ((r[:, s, a] == reward) if observe_rewards else 1)
            if joint.sum() > 0:
                found = pomdp.update(belief, s, a, reward, t)
                np.testing.assert_allclose(found, joint / joint.sum(), atol=1e-14)
            else:
                with pytest.raises(BadInput, match=f"from state {s} by action {a} to state {t}"):
                    pomdp.update(belief, s, a, reward, t)


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 10**6), st.booleans())
def test_outcomes_are_all_that_can_be_seen(seed, observe_rewards):
    family = random_family(seed)
    pomdp = EpistemicPOMDP(family, observe_rewards)
    for s, a in np.ndindex(3, 2):
        seen = pomdp.outcomes(s, a)
        np.testing.assert_allclose(seen.likelihoods.sum(axis=0), 1.0)
        assert (seen.likelihoods.max(axis=1) > 0).all()
        cells = list(zip(seen.successors, seen.rewards, strict=True))
        assert len({(t, None if math.isnan(r) else r) for t, r in cells}) == len(cells)
        for (t, r), likelihood in zip(cells, seen.likelihoods, strict=True):
            assert math.isnan(r) is not observe_rewards
            np.testing.assert_array_equal(likelihood, pomdp.likelihood(s, a, r, t))


def test_hidden_rewards_do_not_change_the_belief():
    """Environments that differ in rewards alone: seen, one step tells; hidden, nothing ever does."""
    transitions = np.ones((2, 1, 1, 1))
    family = Family.from_arrays(transitions, [[[1.0]], [[2.0]]], [1.0], [0.3, 0.7], 0.9)
    assert EpistemicPOMDP(family).update(family.weights, 0, 0, 2.0, 0).tolist() == [0.0, 1.0]
    hidden = EpistemicPOMDP(family, observe_rewards=False)
    for reward in (1.0, 2.0, 5.0, math.nan):
        assert hidden.update(family.weights, 0, 0, reward, 0).tolist() == [0.3, 0.7]
    told = []

    class Listener(Memoryless):
        def update(self, memory, state, action, reward, next_state):
            told.append(reward)

    listener = Listener(np.array([[1.0]]))
    hidden.simulate(listener, np.random.default_rng(0), max_steps=3)
    assert all(math.isnan(reward) for reward in told)
    EpistemicPOMDP(family).simulate(listener, np.random.default_rng(0), environment=1, max_steps=2)
    assert told[3:] == [2.0, 2.0]


def test_support_only_shrinks_and_the_truth_stays_in_it():
    for seed in range(30):
        pomdp = EpistemicPOMDP(random_family(seed))
        policy = Memoryless(np.full((3, 2), 0.5))
        episode = pomdp.simulate(policy, np.random.default_rng(seed), max_steps=20)
        assert (episode.beliefs[:, episode.environment] > 0).all()
        support = episode.beliefs > 0
        assert not (support[1:] & ~support[:-1]).any()
        belief = pomdp.prior
        for step, expected in zip(episode.transitions(), episode.beliefs[1:], strict=True):
            belief = pomdp.update(belief, *step)
            np.testing.assert_array_equal(belief, expected)
        assert episode.value == pytest.approx(sum(0.8**t * r for t, r in enumerate(episode.rewards)))


def test_episodes_end_in_ends_and_are_reproducible():
    pomdp = EpistemicPOMDP(guessing_family([0.2, 0.3, 0.5], limit=4))
    policy = Memoryless(np.full((pomdp.family.num_states, 3), 1 / 3))
    episodes = [pomdp.simulate(policy, np.random.default_rng(seed)) for seed in range(200)]
    for episode in episodes:
        assert episode.ended and 1 <= len(episode.actions) <= 4
        found = episode.actions[-1] == episode.environment
        assert found or len(episode.actions) == 4
        assert episode.value == -(len(episode.actions) - found)
    again = pomdp.simulate(policy, np.random.default_rng(7))
    np.testing.assert_array_equal(again.actions, episodes[7].actions)
    drawn = np.bincount([episode.environment for episode in episodes], minlength=3) / 200
    np.testing.assert_allclose(drawn, [0.2, 0.3, 0.5], atol=0.12)
    chosen = pomdp.simulate(policy, np.random.default_rng(0), environment=2)
    assert chosen.environment == 2
    cut = pomdp.simulate(
        Memoryless(np.zeros((5, 3)) + np.eye(3)[0]), np.random.default_rng(0), 2, max_steps=1
    )
    assert not cut.ended and cut.rewards.tolist() == [-1.0]


def test_transitions_are_drawn_with_their_probabilities():
    family = Family.from_arrays(
        np.array([[[[0.1, 0.0, 0.9]], [[0, 1.0, 0]], [[0, 0, 1.0]]]]), np.ones((1, 3, 1)), [1, 0, 0], [1], 0.9
    )
    pomdp, policy = EpistemicPOMDP(family), Memoryless(np.zeros(3, dtype=int))
    rng = np.random.default_rng(0)
    first = [pomdp.simulate(policy, rng, max_steps=1).states[1] for _ in range(3000)]
    counts = np.bincount(first, minlength=3)
    assert counts[1] == 0 and counts[0] == pytest.approx(300, abs=60)


def test_a_horizon_is_put_into_the_state():
    pomdp = EpistemicPOMDP(random_family(0, horizon=4))
    assert pomdp.family.horizon is None
    policy = Memoryless(np.full((pomdp.family.num_states, 2), 0.5))
    episode = pomdp.simulate(policy, np.random.default_rng(0))
    assert len(episode.actions) == 4 and episode.ended


def test_ended_is_absorbing_and_without_reward():
    transitions = np.zeros((2, 3, 2, 3))
    transitions[:, 0, :, 1] = 1.0
    transitions[:, 1:, :, 1:] = np.eye(2)[:, None]
    transitions[1, 2, 1] = [1, 0, 0]
    rewards = np.zeros((2, 3, 2))
    rewards[0, 1, 1] = 1.0
    ended = EpistemicPOMDP(Family.from_arrays(transitions, rewards, [1, 0, 0], [0.5, 0.5], 0.9)).ended
    assert ended.tolist() == [[False, False, True], [False, True, False]]


def test_the_nearest_reward_is_the_one_seen():
    rewards = np.array([0.1, 0.1 + 1e-9, 0.2])
    assert same_reward(rewards, 0.1).tolist() == [True, False, False]
    assert same_reward(rewards, float(np.float32(0.2))).tolist() == [False, False, True]
    assert same_reward(rewards, 0.15).tolist() == [False, False, False]
    assert same_reward(rewards, math.nan).tolist() == [False, False, False]


@pytest.mark.parametrize(
    "step, message",
    [((3, 0, 0.0, 0), "state 3"), ((0, 2, 0.0, 0), "action 2"), ((0, 0, 0.0, -1), "state -1")],
)
def test_steps_out_of_range_are_named(step, message):
    pomdp = EpistemicPOMDP(random_family(0))
    with pytest.raises(BadInput, match=message):
        pomdp.update(pomdp.prior, *step)
