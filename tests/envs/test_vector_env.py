"""Rollouts of vector environments that reset by themselves: what a transition holds at an episode's end."""

import gymnasium
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from gymnasium.vector import AutoresetMode, SyncVectorEnv

from epomdp.agents import ppo
from epomdp.agents.ppo import Config
from epomdp.envs.vector_env import begin, record
from epomdp.errors import BadInput

MODES = list(AutoresetMode)
ENDS = ((3, "terminated"), (1, "truncated"), (2, "truncated"), (1, "terminated"))
"""Lengths and ends of the episodes of every environment, over and over."""


class Count(gymnasium.Env):
    """Shows (episode, step), beginning with one of the episodes above; a reward is the step's number."""

    observation_space = gymnasium.spaces.Box(-1, 1000, (2,), np.float32)
    action_space = gymnasium.spaces.Discrete(2)

    def __init__(self, first):
        self.episode = first - 1

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.episode, self.at = self.episode + 1, 0
        return self._observe(), {}

    def _observe(self):
        return np.array([self.episode, self.at], np.float32)

    def step(self, action):
        self.at += 1
        length, end = ENDS[self.episode % len(ENDS)]
        ended = self.at == length
        return (
            self._observe(),
            float(self.at),
            ended and end == "terminated",
            ended and end == "truncated",
            {},
        )


def vector(mode, num_envs=3):
    return SyncVectorEnv([lambda i=i: Count(i) for i in range(num_envs)], autoreset_mode=mode)


class Reusing(gymnasium.vector.VectorWrapper):
    """Gives out the same arrays at every step."""

    def step(self, actions):
        fresh = self.env.step(actions)[:4]
        if not hasattr(self, "kept"):
            self.kept = [np.array(x, np.float32 if x.dtype == float else x.dtype) for x in fresh]
        for own, new in zip(self.kept, fresh, strict=True):
            own[:] = new
        return *self.kept, {}


def expected(first, skipped, num_steps):
    """By hand: (episode, step before, terminated, truncated) of an environment's steps, from the one `skipped`."""
    rows, episode = [], first
    while len(rows) < skipped + num_steps:
        length, end = ENDS[episode % len(ENDS)]
        for step in range(length):
            last = step == length - 1
            rows.append((episode, step, last and end == "terminated", last and end == "truncated"))
        episode += 1
    return np.array(rows[skipped : skipped + num_steps])


def act(observation):
    return np.zeros(len(observation), int), {"seen": observation[:, 0] * 10 + observation[:, 1]}


def check(rollout, n, first, skipped, num_steps):
    episode, step, terminated, truncated = expected(first, skipped, num_steps).T
    np.testing.assert_array_equal(rollout.observation[:, n], np.stack([episode, step], axis=1))
    np.testing.assert_array_equal(rollout.next_observation[:, n], np.stack([episode, step + 1], axis=1))
    np.testing.assert_array_equal(rollout.reward[:, n], step + 1)
    np.testing.assert_array_equal(rollout.terminated[:, n], terminated)
    np.testing.assert_array_equal(rollout.truncated[:, n], truncated)
    np.testing.assert_array_equal(rollout.extras["seen"][:, n], episode * 10 + step)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("num_steps", [1, 2, 9])
def test_steps_are_true_ones_and_successors_those_of_their_own_episode(mode, num_steps):
    env = vector(mode)
    _, rollout = record(env, act, begin(env), num_steps)
    assert rollout.reward.shape == (num_steps, 3) and rollout.observation.shape == (num_steps, 3, 2)
    for n in range(3):
        check(rollout, n, n, 0, num_steps)


def test_arrays_may_be_used_again():
    env, seen = Reusing(vector(AutoresetMode.NEXT_STEP)), np.zeros(3, np.float32)

    def act_in_place(observation):
        seen[:] = act(observation)[1]["seen"]
        return np.zeros(3, int), {"seen": seen}

    _, rollout = record(env, act_in_place, begin(env), 9)
    for n in range(3):
        check(rollout, n, n, 0, 9)


@pytest.mark.parametrize("mode", MODES)
def test_the_next_rollout_goes_on_where_the_last_one_stopped(mode):
    env, cursor = vector(mode, 1), None
    cursor = begin(env)
    for i, num_steps in enumerate([1, 2, 1, 3, 5, 1, 1]):
        cursor, rollout = record(env, act, cursor, num_steps)
        check(rollout, 0, 0, sum([1, 2, 1, 3, 5, 1, 1][:i]), num_steps)


def test_only_steps_beyond_the_rollout_are_dropped_where_others_have_reset_more_often():
    env = vector(AutoresetMode.NEXT_STEP)
    cursor = begin(env)
    stepped = 0

    def counting(observation):
        nonlocal stepped
        stepped += 1
        return act(observation)

    _, rollout = record(env, counting, cursor, 6)
    resets = [int((rollout.terminated | rollout.truncated)[:-1, n].sum()) for n in range(3)]
    assert stepped == 6 + max(resets) and len(set(resets)) > 1


@pytest.mark.parametrize("mode", MODES)
def test_advantages_of_ppo_do_not_cross_an_end_and_bootstrap_where_truncated(mode):
    """Against sums over each episode by hand, with the critic asked about every observation one by one."""
    gamma, lam = 0.9, 0.8
    config = Config(num_envs=3, num_steps=9, num_minibatches=1, hidden=(8,), gamma=gamma, gae_lambda=lam)
    env = vector(mode)
    params = ppo.init(config, jax.ShapeDtypeStruct((2,), jnp.float32), 2, jax.random.key(0)).params
    keys = iter(jax.random.split(jax.random.key(1), 100))
    _, rollout = record(env, lambda seen: ppo.act(params, jnp.asarray(seen), next(keys)), begin(env), 9)
    found = np.asarray(ppo.prepare(config, params, rollout, 1).advantage).reshape(9, 3)

    def value(observation):
        return float(params(jnp.asarray(observation, jnp.float32))[1])

    for n in range(3):
        rows, advantage = expected(n, 0, 9), 0.0
        for t in reversed(range(9)):
            episode, step, terminated, truncated = rows[t]
            following = 0.0 if terminated else value([episode, step + 1])
            delta = step + 1 + gamma * following - value([episode, step])
            advantage = delta + (0.0 if terminated or truncated else gamma * lam * advantage)
            assert found[t, n] == pytest.approx(advantage, abs=2e-4)


def test_dictionaries_of_observations_are_recorded_leaf_by_leaf():
    class Both(gymnasium.ObservationWrapper):
        observation_space = gymnasium.spaces.Dict(
            {"count": Count.observation_space, "step": gymnasium.spaces.Box(0, 9, (1,), np.float32)}
        )

        def observation(self, observation):
            return {"count": observation, "step": observation[1:]}

    env = SyncVectorEnv([lambda: Both(Count(0))] * 2, autoreset_mode=AutoresetMode.SAME_STEP)
    _, rollout = record(env, lambda seen: (np.zeros(2, int), {}), begin(env), 6)
    _, step, _, _ = expected(0, 0, 6).T
    for n in range(2):
        np.testing.assert_array_equal(rollout.next_observation["step"][:, n, 0], step + 1)
        np.testing.assert_array_equal(rollout.next_observation["count"][:, n, 1], step + 1)


def test_an_environment_that_does_not_say_how_it_resets_is_refused():
    env = vector(AutoresetMode.SAME_STEP)
    env.metadata = {}
    with pytest.raises(BadInput, match="no autoreset_mode; give `mode`"):
        record(env, act, begin(env), 1)
    _, rollout = record(env, act, begin(env), 2, AutoresetMode.SAME_STEP)
    assert rollout.reward.shape == (2, 3)
