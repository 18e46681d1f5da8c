"""LEEP: the paper's equations, and a regression test for each mistake seen in public code."""

import functools

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.special import log_softmax

from epomdp import collect
from epomdp.agents import leep, ops, ppo
from epomdp.agents.members import for_each_member
from epomdp.contexts import bootstrap
from epomdp.envs.base import Transition
from epomdp.envs.guess import Guess
from epomdp.errors import BadInput

SMALL = ppo.Config(num_envs=4, num_steps=8, num_minibatches=2, hidden=(8,))
ENV = Guess((3,), 4, 5)


def contexts(n=6, seed=0):
    rng = np.random.default_rng(seed)
    return {
        "image": jnp.asarray(rng.random((n, 3)), jnp.float32),
        "label": jnp.asarray(rng.integers(0, 4, n), jnp.int32),
    }


@functools.partial(jax.jit, static_argnums=0)
def update(agent, learners, data, key):
    return agent.update(learners, data, key)


@functools.partial(jax.jit, static_argnums=0)
def rollouts(agent, learners, resamples, values, seed=0):
    keys = jax.random.split(jax.random.key(seed), agent.members)

    def one(params, resample, key):
        actors = collect.start(ENV, values, resample, key, agent.num_envs)
        return collect.rollout(ENV, agent, params, actors, values, resample, key)[1]

    return for_each_member(one, "unroll")(agent.params(learners), resamples, keys)


@functools.cache
def setup(**changes):
    config = leep.Config(ppo=SMALL, **changes)
    agent = leep.agent(config, ENV)
    learners = jax.jit(agent.init)(jax.random.key(1))
    # A fresh actor is all but uniform; scaled up, the members disagree.
    apart = eqx.tree_at(lambda p: p.actor.weight, learners.params, replace_fn=lambda w: 1000 * w)
    learners = learners._replace(params=apart)
    resamples = jnp.asarray(bootstrap(0, 6, config.members))
    return config, agent, learners, resamples


def member_log_probs(params, observation):
    logits = [jax.tree.map(lambda x, i=i: x[i], params)(observation)[0] for i in range(4)]
    return log_softmax(np.asarray(logits, np.float64), axis=-1)


def test_the_deployed_distribution_is_the_link_and_no_single_member():
    _, agent, learners, _ = setup()
    observation = jnp.asarray([0.2, 0.9, 0.4])
    members = np.exp(member_log_probs(learners.params, observation))
    expected = members.max(axis=0) / members.max(axis=0).sum()
    deployed = np.exp(agent.distribution(learners.params, observation))
    np.testing.assert_allclose(deployed, expected, atol=1e-5)
    assert all(np.abs(deployed - member).max() > 1e-3 for member in members)


def test_the_deployed_policy_samples_from_probabilities_not_from_probabilities_as_logits():
    _, agent, learners, _ = setup()
    observation = jnp.asarray([0.2, 0.9, 0.4])
    linked = np.exp(agent.distribution(learners.params, observation))
    mistaken = np.exp(linked) / np.exp(linked).sum()
    assert np.abs(linked - mistaken).max() > 0.05
    policy = agent.policies["linked"]
    keys = jax.random.split(jax.random.key(0), 20_000)
    actions = jax.vmap(lambda k: policy.act(learners.params, observation, 0.0, policy.init(), k)[0])(keys)
    found = np.bincount(actions, minlength=4) / 20_000
    np.testing.assert_allclose(found, linked, atol=0.015)


def test_the_penalty_is_alpha_kl_from_member_to_link():
    rng = np.random.default_rng(0)
    logits = jnp.asarray(rng.normal(size=(5, 4)), jnp.float32)
    peers = log_softmax(rng.normal(size=(3, 5, 4)), axis=-1)
    own = log_softmax(np.asarray(logits, np.float64), axis=-1)
    joined = np.exp(np.concatenate([own[None], peers])).max(axis=0)
    link = joined / joined.sum(axis=-1, keepdims=True)
    expected = np.mean(np.sum(np.exp(own) * (own - np.log(link)), axis=-1))
    loss, metrics = leep.penalty(logits, jnp.asarray(peers, jnp.float32), 0.7, "max")
    assert float(metrics["link_kl"]) == pytest.approx(expected, rel=1e-4)
    assert float(loss) == pytest.approx(0.7 * expected, rel=1e-4)
    assert float(loss) <= 0.7 * np.log(4)


def test_peers_are_the_other_members_in_each_members_own_states():
    _, agent, learners, resamples = setup()
    found = leep.peer_log_probs(
        learners.params, rollouts(agent, learners, resamples, contexts()).observation, "map"
    )
    observation = rollouts(agent, learners, resamples, contexts()).observation
    for i in range(4):
        expected = member_log_probs(learners.params, observation[i, 2, 1])
        others = np.delete(expected, i, axis=0)
        shown = np.asarray(found[i, 2, 1])
        assert shown.shape == (3, 4)
        np.testing.assert_allclose(shown[np.lexsort(shown.T)], others[np.lexsort(others.T)], atol=1e-4)


@pytest.mark.parametrize("strategy", ["unroll", "vmap"])
def test_strategies_agree(strategy):
    _, agent, learners, resamples = setup(strategy="map")
    _, other, _, _ = setup(strategy=strategy)
    assert (agent.strategy, other.strategy) == ("map", strategy)
    data = rollouts(agent, learners, resamples, contexts())
    key = jax.random.key(3)
    first, second = update(agent, learners, data, key), update(other, learners, data, key)
    for a, b in zip(jax.tree.leaves(first), jax.tree.leaves(second), strict=True):
        np.testing.assert_allclose(a, b, atol=2e-4, rtol=2e-3)


def test_each_member_acts_in_its_own_resample_only():
    _, agent, learners, resamples = setup()
    values = contexts()
    seen = np.asarray(rollouts(agent, learners, resamples, values).observation)
    for i in range(4):
        allowed = {row.tobytes() for row in np.asarray(values["image"])[np.asarray(resamples[i])]}
        visited = {row.tobytes() for row in seen[i].reshape(-1, 3)}
        assert visited <= allowed
        assert len(allowed) < 6, "the resample leaves something out, so that the test can fail"


def test_members_start_different_and_share_nothing():
    _, agent, learners, _ = setup(alpha=0.0)
    data = rollouts(agent, learners, jnp.tile(jnp.arange(6), (4, 1)), contexts())
    weights = np.asarray(learners.params.actor.weight)
    assert all(np.abs(weights[i] - weights[j]).max() > 1e-3 for i in range(4) for j in range(i))
    changed = jax.tree.map(lambda x: x.at[0].add(1.0), data.reward)
    other = data._replace(reward=changed)
    a, _ = update(agent, learners, data, jax.random.key(0))
    b, _ = update(agent, learners, other, jax.random.key(0))
    for x, y in zip(jax.tree.leaves(a.params), jax.tree.leaves(b.params), strict=True):
        np.testing.assert_array_equal(x[1:], y[1:])


def test_alpha_zero_is_independent_ppo_learners():
    config, agent, learners, resamples = setup(alpha=0.0)
    data = rollouts(agent, learners, resamples, contexts())
    key = jax.random.key(5)
    together, _ = update(agent, learners, data, key)
    keys = jax.random.split(key, 4)
    for i in range(4):
        learner, rollout = jax.tree.map(lambda x, i=i: x[i], (learners, data))
        batch = ppo.prepare(config.ppo, learner.params, rollout, ENV.max_episode_steps)
        alone, _ = ppo.learn(config.ppo, learner, batch, keys[i])
        for x, y in zip(jax.tree.leaves(together), jax.tree.leaves(alone), strict=True):
            np.testing.assert_allclose(x[i], y, atol=1e-5)


def test_alpha_is_above_zero_by_default_and_changes_the_update():
    assert leep.Config().alpha > 0
    assert leep.Config().members == 4
    _, agent, learners, resamples = setup()
    _, unlinked, _, _ = setup(alpha=0.0)
    data = rollouts(agent, learners, resamples, contexts())
    a, metrics = update(agent, learners, data, jax.random.key(0))
    b, _ = update(unlinked, learners, data, jax.random.key(0))
    assert float(metrics["link_kl"]) > 0
    assert np.abs(a.params.actor.weight - b.params.actor.weight).max() > 1e-6


def test_a_strong_penalty_brings_members_together():
    _, agent, learners, resamples = setup(alpha=30.0)
    kls = []
    for i in range(30):
        data = rollouts(agent, learners, resamples, contexts(), seed=i)
        learners, metrics = update(agent, learners, data, jax.random.key(i))
        kls.append(float(metrics["link_kl"]))
    assert kls[-1] < 0.5 * kls[0]


def test_equal_members_have_no_penalty_and_link_to_themselves():
    _, agent, learners, _ = setup()
    equal = jax.tree.map(lambda x: jnp.tile(x[:1], (4,) + (1,) * (x.ndim - 1)), learners.params)
    observation = jnp.asarray([0.2, 0.9, 0.4])
    linked = np.asarray(agent.distribution(equal, observation))
    own = member_log_probs(equal, observation)[0]
    np.testing.assert_allclose(linked, own, atol=1e-5)
    _, metrics = leep.penalty(jnp.asarray(own)[None], jnp.tile(jnp.asarray(own), (3, 1, 1)), 1.0, "max")
    assert float(metrics["link_kl"]) == pytest.approx(0.0, abs=1e-6)


def test_steps_are_counted_over_the_ensemble():
    _, agent, _, _ = setup()
    assert agent.steps_per_update == 4 * 4 * 8
    assert ppo.agent(SMALL, ENV).steps_per_update == 4 * 8


def test_the_link_kind_reaches_the_deployed_policy():
    _, agent, learners, _ = setup(link="mean")
    observation = jnp.asarray([0.2, 0.9, 0.4])
    mean = np.exp(member_log_probs(learners.params, observation)).mean(axis=0)
    np.testing.assert_allclose(np.exp(agent.distribution(learners.params, observation)), mean, atol=1e-5)


@pytest.mark.parametrize(
    "changes",
    [
        {"members": 0},
        {"alpha": -1.0},
        {"alpha": float("nan")},
        {"alpha": float("inf")},
        {"link": "min"},
        {"strategy": "foo"},
    ],
)
def test_bad_hyperparameters_are_refused(changes):
    with pytest.raises(BadInput):
        leep.Config(**changes)


def test_rollouts_are_transitions_with_member_axis():
    _, agent, learners, resamples = setup()
    data = rollouts(agent, learners, resamples, contexts())
    assert isinstance(data, Transition)
    assert data.reward.shape == (4, 8, 4)
    assert ops.link(data.extras["log_prob"][..., None]).shape == (8, 4, 1)
