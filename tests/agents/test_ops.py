"""Shared maths against NumPy twins and closed forms."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import log_softmax, logsumexp
from scipy.stats import chisquare

from epomdp.agents import ops


def random_log_probs(seed, *shape, scale=3.0):
    return log_softmax(np.random.default_rng(seed).normal(size=shape) * scale, axis=-1).astype(np.float32)


def gae_by_definition(reward, value, next_value, terminated, truncated, gamma, lam):
    """Sum of discounted deltas until the episode or the rollout ends, term by term."""
    T, N = reward.shape
    advantage = np.zeros((T, N))
    for n in range(N):
        for t in range(T):
            weight = 1.0
            for k in range(t, T):
                bootstrap = 0.0 if terminated[k, n] else next_value[k, n]
                advantage[t, n] += weight * (reward[k, n] + gamma * bootstrap - value[k, n])
                if terminated[k, n] or truncated[k, n]:
                    break
                weight *= gamma * lam
    return advantage


@given(st.integers(0, 10_000), st.floats(0.0, 1.0), st.floats(0.0, 1.0))
@settings(max_examples=30, deadline=None)
def test_gae_is_the_sum_of_deltas_within_the_episode(seed, gamma, lam):
    rng = np.random.default_rng(seed)
    T, N = 7, 3
    reward, value, next_value = rng.normal(size=(3, T, N)).astype(np.float32)
    ends = rng.integers(0, 3, size=(T, N))
    terminated, truncated = ends == 1, ends == 2
    found = ops.gae(reward, value, next_value, terminated, truncated, gamma, lam)
    expected = gae_by_definition(reward, value, next_value, terminated, truncated, gamma, lam)
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_gae_crosses_no_episode_end():
    """Whatever happens after an end, the advantages before it stay the same."""
    rng = np.random.default_rng(0)
    reward, value, next_value = rng.normal(size=(3, 6, 1)).astype(np.float32)
    for which in ("terminated", "truncated"):
        flags = {"terminated": np.zeros((6, 1), bool), "truncated": np.zeros((6, 1), bool)}
        flags[which][2] = True
        before = ops.gae(reward, value, next_value, gamma=0.9, gae_lambda=0.9, **flags)
        later = reward.copy()
        later[3:] += 100.0
        after = ops.gae(later, value, next_value, gamma=0.9, gae_lambda=0.9, **flags)
        np.testing.assert_array_equal(before[:3], after[:3])
        assert not np.allclose(before[3:], after[3:])


def test_truncation_bootstraps_and_termination_does_not():
    one = np.ones((1, 1), np.float32)
    yes, no = np.ones((1, 1), bool), np.zeros((1, 1), bool)
    assert ops.gae(one, 0 * one, 10 * one, yes, no, 0.5, 0.9)[0, 0] == 1.0
    assert ops.gae(one, 0 * one, 10 * one, no, yes, 0.5, 0.9)[0, 0] == 6.0


SHAPES = st.sampled_from([(2, 2), (3, 5), (6, 4)])


@given(st.integers(0, 10_000), SHAPES, st.sampled_from(["max", "mean"]))
@settings(max_examples=40, deadline=None)
def test_link_is_normalised_and_is_its_definition(seed, shape, kind):
    n, A = shape
    log_p = random_log_probs(seed, n, A)
    found = np.asarray(ops.link(log_p, kind))
    p = np.exp(log_p.astype(np.float64))
    joined = p.max(axis=0) if kind == "max" else p.mean(axis=0)
    np.testing.assert_allclose(np.exp(found), joined / joined.sum(), rtol=2e-4, atol=1e-6)
    assert abs(logsumexp(found)) < 1e-5


@given(st.integers(0, 10_000), SHAPES, st.floats(0.1, 30))
@settings(max_examples=60, deadline=None)
def test_kl_to_the_max_link_is_at_most_log_z_at_most_log_n(seed, shape, scale):
    n, A = shape
    log_p = random_log_probs(seed, n, A, scale=scale)
    z = np.exp(log_p.astype(np.float64)).max(axis=0).sum()
    divergence = np.asarray(ops.kl(log_p, ops.link(log_p)[None]))
    assert 1 - 1e-5 <= z <= n + 1e-5
    assert (divergence >= -1e-5).all()
    assert (divergence <= np.log(z) + 1e-5).all()
    assert np.log(z) <= np.log(n) + 1e-6


def test_equal_members_link_to_themselves():
    log_p = np.tile(random_log_probs(1, 1, 5), (4, 1))
    for kind in ("max", "mean"):
        np.testing.assert_allclose(ops.link(log_p, kind), log_p[0], atol=1e-6)
        np.testing.assert_allclose(ops.kl(log_p, ops.link(log_p, kind)[None]), 0, atol=1e-6)


def test_disjoint_members_reach_log_n():
    """n members sure of n different actions: KL(member || max link) = log n."""
    log_p = jax.nn.log_softmax(200.0 * jnp.eye(4))
    np.testing.assert_allclose(ops.kl(log_p, ops.link(log_p)[None]), np.log(4), atol=1e-5)


def test_kl_has_the_direction_of_the_paper():
    p, q = np.log([0.9, 0.1]), np.log([0.5, 0.5])
    expected = 0.9 * np.log(0.9 / 0.5) + 0.1 * np.log(0.1 / 0.5)
    reverse = 0.5 * np.log(0.5 / 0.9) + 0.5 * np.log(0.5 / 0.1)
    assert ops.kl(p, q) == pytest.approx(expected, rel=1e-6)
    assert abs(expected - reverse) > 0.1


def test_clipped_policy_loss_by_hand():
    ratio = np.array([0.5, 1.1, 1.5, 0.5, 1.5])
    advantage = np.array([1.0, 1.0, 1.0, -1.0, -1.0])
    expected = -np.mean([0.5, 1.1, 1.2, -0.8, -1.5])
    assert ops.clipped_policy_loss(np.log(ratio), advantage, 0.2) == pytest.approx(expected, rel=1e-5)


def test_clipped_value_loss_by_hand():
    value, old, target = np.array([1.0, 1.0, -1.0]), np.zeros(3), np.array([2.0, 0.1, 0.0])
    worse = [max(1.0, 1.8**2), max(0.9**2, 0.1**2), max(1.0, 0.2**2)]
    assert ops.clipped_value_loss(value, old, target, 0.2) == pytest.approx(0.5 * np.mean(worse), rel=1e-5)


def test_log_prob_and_entropy():
    logits = np.random.default_rng(3).normal(size=(5, 4)).astype(np.float32)
    log_p = log_softmax(logits, axis=-1)
    action = np.array([0, 3, 1, 2, 2])
    np.testing.assert_allclose(ops.log_prob(logits, action), log_p[np.arange(5), action], rtol=1e-5)
    np.testing.assert_allclose(ops.entropy(logits), -(np.exp(log_p) * log_p).sum(-1), rtol=1e-5)


def test_samples_have_the_distributions_frequencies_and_never_a_zero():
    log_p = np.log(np.array([0.0, 0.5, 0.0, 0.3, 0.2, 0.0]) + 1e-30)
    log_p[[0, 2, 5]] = -np.inf
    n = 40_000
    logits = np.tile(log_p + 7.0, (n, 1)).astype(np.float32)
    drawn = np.asarray(ops.sample(jax.random.key(0), jnp.asarray(logits)))
    counts = np.bincount(drawn, minlength=6)
    assert counts.shape == (6,) and (counts[[0, 2, 5]] == 0).all()
    expected = n * np.array([0.5, 0.3, 0.2])
    assert chisquare(counts[[1, 3, 4]], expected).pvalue > 1e-3


@pytest.mark.parametrize("certain", [0, 3])
def test_a_certain_action_is_always_sampled(certain):
    logits = jnp.where(jnp.arange(4) == certain, 0.0, -jnp.inf)
    drawn = ops.sample(jax.random.key(1), jnp.tile(logits, (10_000, 1)))
    assert (drawn == certain).all()


@given(st.integers(0, 10_000), st.sampled_from([1, 2, 3, 64, 100]))
@settings(max_examples=20, deadline=None)
def test_shuffles_are_permutations(seed, size):
    orders = np.asarray(ops.shuffles(jax.random.key(seed), 3, size))
    assert (np.sort(orders, axis=1) == np.arange(size)).all()


def test_shuffles_put_every_element_everywhere_and_differ():
    count, size = 6000, 5
    orders = np.asarray(ops.shuffles(jax.random.key(2), count, size))
    codes = orders @ size ** np.arange(size)
    _, counts = np.unique(codes, return_counts=True)
    assert counts.size == 120, "all orders occur"
    assert chisquare(counts).pvalue > 1e-3
