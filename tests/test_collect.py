"""Rollouts: what a transition holds at an episode's end, and where contexts come from."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from epomdp import collect
from epomdp.agents import ops, ppo
from epomdp.agents.ppo import Config
from epomdp.envs.base import Environment, Step


class Counter(Environment):
    """Counts steps from the context's number; action 1 terminates, the fourth step truncates."""

    name = "counter"
    num_actions = 2
    observation = jax.ShapeDtypeStruct((2,), jnp.float32)
    max_episode_steps = 4

    def _observe(self, state):
        return jnp.stack([state[0], state[1]]).astype(jnp.float32)

    def reset(self, key, context):
        state = (context, jnp.zeros((), jnp.int32))
        return state, self._observe(state)

    def step(self, key, state, action):
        state = (state[0], state[1] + 1)
        terminated = action == 1
        truncated = ~terminated & (state[1] >= self.max_episode_steps)
        return state, Step(self._observe(state), state[1].astype(jnp.float32), terminated, truncated)


ENV = Counter()
CONFIG = Config(num_envs=6, num_steps=15, num_minibatches=2, hidden=(8,), gamma=0.9, gae_lambda=0.8)
CONTEXTS = jnp.asarray([100, 200, 300, 400], jnp.int32)


@functools.cache
def rolled_out(steps=15):
    agent = ppo.agent(Config(num_envs=6, num_steps=steps, num_minibatches=1, hidden=(8,)), ENV)
    learners = agent.init(jax.random.key(0))
    params = jax.tree.map(lambda x: x[0], learners.params)
    # A critic that sees the whole observation, so that values at different moments differ.
    resample = jnp.asarray([0, 2, 2], jnp.int32)

    @jax.jit
    def go(key):
        actors = collect.start(ENV, CONTEXTS, resample, key, agent.num_envs)
        return collect.rollout(ENV, agent, params, actors, CONTEXTS, resample, key)

    actors, rollout = go(jax.random.key(7))
    return params, actors, jax.tree.map(np.asarray, rollout)


def test_episodes_go_on_where_they_were_and_restart_after_an_end():
    _, actors, rollout = rolled_out()
    ended = rollout.terminated | rollout.truncated
    assert (
        rollout.terminated.any()
        and rollout.truncated.any()
        and not (rollout.terminated & rollout.truncated).any()
    )
    following = np.concatenate([rollout.observation[1:], np.asarray(actors.observation)[None]])
    for t in range(15):
        for n in range(6):
            if ended[t, n]:
                assert following[t, n, 1] == 0
            else:
                np.testing.assert_array_equal(following[t, n], rollout.next_observation[t, n])


def test_the_next_observation_never_crosses_an_episodes_end():
    _, _, rollout = rolled_out()
    np.testing.assert_array_equal(rollout.next_observation[..., 0], rollout.observation[..., 0])
    np.testing.assert_array_equal(rollout.next_observation[..., 1], rollout.observation[..., 1] + 1)


def test_contexts_come_from_the_resample_alone():
    _, _, rollout = rolled_out()
    assert set(np.unique(rollout.observation[..., 0])) == {100, 300}


def test_episode_returns_are_reported_where_episodes_end():
    _, _, rollout = rolled_out()
    ended = rollout.terminated | rollout.truncated
    reported = rollout.extras["episode_return"]
    np.testing.assert_array_equal(~np.isnan(reported), ended)
    lengths = rollout.next_observation[..., 1][ended]
    np.testing.assert_array_equal(reported[ended], lengths * (lengths + 1) / 2)


@pytest.mark.parametrize("steps", [1, 3, 4, 5, 15])
def test_next_values_ask_the_critic_for_the_true_successor(steps):
    params, _, rollout = rolled_out(steps)
    _, expected = jax.vmap(jax.vmap(params))(rollout.next_observation)
    found = ppo.next_values(params, rollout, ENV.max_episode_steps)
    # After a termination there is no successor: what is there is masked by `gae`.
    going = ~rollout.terminated
    np.testing.assert_allclose(np.asarray(found)[going], np.asarray(expected)[going], atol=1e-5)


def test_advantages_of_a_rollout_are_those_of_its_episodes():
    params, _, rollout = rolled_out()
    batch = ppo.prepare(CONFIG, params, rollout, ENV.max_episode_steps)
    _, value = jax.vmap(jax.vmap(params))(rollout.observation)
    _, following = jax.vmap(jax.vmap(params))(rollout.next_observation)
    expected = ops.gae(
        rollout.reward,
        value,
        following,
        rollout.terminated,
        rollout.truncated,
        CONFIG.gamma,
        CONFIG.gae_lambda,
    )
    np.testing.assert_allclose(batch.advantage, np.asarray(expected).ravel(), atol=1e-4)
    np.testing.assert_allclose(batch.target, np.asarray(expected + value).ravel(), atol=1e-4)
    np.testing.assert_array_equal(batch.action, rollout.action.ravel())


def test_log_probs_are_those_of_the_action_taken():
    params, _, rollout = rolled_out()
    logits, _ = jax.vmap(jax.vmap(params))(rollout.observation)
    np.testing.assert_allclose(rollout.extras["log_prob"], ops.log_prob(logits, rollout.action), atol=1e-6)
