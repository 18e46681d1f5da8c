"""Return normalisation against a twin of baselines' VecNormalize, and Gymnasium's wrapper where both agree."""

import gymnasium
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from gymnasium.wrappers.vector import NormalizeReward
from hypothesis import given, settings
from hypothesis import strategies as st

from epomdp import train as training
from epomdp.agents import leep, ppo, returns
from epomdp.envs.base import Transition
from epomdp.envs.guess import Guess
from epomdp.train import Settings, train


class VecNormalize:
    """What baselines does after each step, in doubles."""

    def __init__(self, num_envs):
        self.ret, self.mean, self.var, self.count = np.zeros(num_envs), 0.0, 1.0, 1e-4

    def step(self, reward, ended):
        self.ret = self.ret * 0.99 + reward
        delta, total = np.mean(self.ret) - self.mean, self.count + self.ret.size
        m2 = self.var * self.count + np.var(self.ret) * self.ret.size
        m2 += delta**2 * self.count * self.ret.size / total
        self.mean, self.var, self.count = self.mean + delta * self.ret.size / total, m2 / total, total
        scaled = np.clip(reward / np.sqrt(self.var + 1e-8), -10.0, 10.0)
        self.ret[ended] = 0.0
        return scaled


@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 2**31), scale=st.sampled_from([1e-3, 1.0, 30.0]), ends=st.floats(0.0, 0.5))
def test_rewards_are_those_of_baselines_over_several_rollouts(seed, scale, ends):
    rng = np.random.default_rng(seed)
    twin, ours = VecNormalize(5), returns.init(5)
    for _ in range(3):
        reward = (scale * rng.normal(size=(8, 5)) * (rng.random((8, 5)) < 0.5)).astype(np.float32)
        ended = rng.random((8, 5)) < ends
        ours, found = returns.normalise(ours, jnp.asarray(reward), jnp.asarray(ended))
        expected = np.array([twin.step(r.astype(np.float64), e) for r, e in zip(reward, ended, strict=True)])
        np.testing.assert_allclose(found, expected, rtol=2e-3, atol=1e-4)
    np.testing.assert_allclose(ours.returns, twin.ret, rtol=1e-4, atol=1e-5 * scale)
    assert float(ours.seen) == pytest.approx(twin.count)


def test_large_rewards_are_clipped_and_an_end_forgets_the_return():
    scale = returns.init(2)
    # A million small returns fix the scale.
    scale = scale._replace(seen=jnp.asarray(1e6), variance=jnp.asarray(4.0))
    reward = jnp.asarray([[1.0, -50.0], [1.0, 0.0]])
    ended = jnp.asarray([[True, False], [False, False]])
    scale, scaled = returns.normalise(scale, reward, ended)
    np.testing.assert_allclose(scaled, [[0.5, -10.0], [0.5, 0.0]], rtol=1e-2)
    np.testing.assert_allclose(scale.returns, [1.0, -49.5])


class Rewards(gymnasium.vector.VectorEnv):
    """Given rewards, and episodes that never end."""

    num_envs = 3

    def __init__(self, rewards):
        self.rewards = iter(rewards)
        self.single_observation_space = gymnasium.spaces.Discrete(1)
        self.single_action_space = gymnasium.spaces.Discrete(1)

    def step(self, actions):
        no = np.zeros(3, bool)
        return np.zeros(3), next(self.rewards), no, no, {}


def test_within_an_episode_it_is_gymnasiums_wrapper():
    rewards = np.random.default_rng(0).normal(size=(30, 3))
    wrapped = NormalizeReward(Rewards(rewards), gamma=0.99, epsilon=1e-8)
    expected = np.array([wrapped.step(np.zeros(3, int))[1] for _ in rewards])
    ended = jnp.zeros((30, 3), bool)
    _, found = returns.normalise(returns.init(3), jnp.asarray(rewards, jnp.float32), ended)
    np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-4)


TINY = {"num_envs": 4, "num_steps": 8, "num_minibatches": 2, "hidden": (8,)}


def test_learners_keep_a_scale_only_if_asked_and_each_member_its_own():
    env = Guess((3,), 4, 5)
    plain = ppo.agent(ppo.Config(**TINY), env).init(jax.random.key(0))
    assert plain.scale == ()
    config = leep.Config(members=3, ppo=ppo.Config(**TINY, normalise_returns=True))
    learners = leep.agent(config, env).init(jax.random.key(0))
    assert learners.scale.returns.shape == (3, 4) and learners.scale.variance.shape == (3,)


def test_an_update_learns_from_scaled_rewards_and_takes_up_their_returns():
    """The values' targets are sums of rewards: with rewards ten times as large they stay what they are."""
    env = Guess((3,), 4, 5)
    agent = ppo.agent(ppo.Config(**TINY, normalise_returns=True), env)
    learners = agent.init(jax.random.key(0))
    rng = np.random.default_rng(0)
    none, flags = jnp.zeros((1, 8, 4)), jnp.asarray(rng.random((1, 8, 4)) < 0.2)
    seen = jnp.asarray(rng.random((1, 8, 4, 3)), jnp.float32)
    action = jnp.asarray(rng.integers(0, 4, (1, 8, 4)), jnp.int32)
    reward = jnp.asarray(rng.normal(size=(1, 8, 4)), jnp.float32)
    update = jax.jit(agent.update)

    def after(factor):
        extras = {"value": none, "log_prob": none - 1.4}
        rollout = Transition(seen, action, factor * reward, flags, flags & False, seen, extras)
        return update(learners, rollout, jax.random.key(1))

    (one, losses), (ten, others) = after(100.0), after(1000.0)
    np.testing.assert_allclose(losses["value_loss"], others["value_loss"], rtol=0.05)
    np.testing.assert_allclose(ten.scale.returns, 10 * one.scale.returns, rtol=1e-4)
    expected, _ = returns.normalise(jax.tree.map(lambda x: x[0], learners.scale), 100 * reward[0], flags[0])
    np.testing.assert_allclose(one.scale.variance[0], expected.variance, rtol=1e-5)
    plain = ppo.agent(ppo.Config(**TINY), env)
    rollout = Transition(
        seen, action, 100 * reward, flags, flags & False, seen, {"value": none, "log_prob": none}
    )
    _, unscaled = jax.jit(plain.update)(plain.init(jax.random.key(0)), rollout, jax.random.key(1))
    assert unscaled["value_loss"] > 100 * losses["value_loss"]


def test_a_stopped_run_keeps_its_scale(tmp_path):
    """One straight run, and one stopped after every update, end with the same bits."""
    options = TINY | {"normalise_returns": True, "members": 2}
    chosen = Settings(
        "guess",
        "leep",
        agent_options=options,
        train_contexts=6,
        validation_contexts=0,
        test_contexts=4,
        steps=320,
    )
    straight = train(chosen, tmp_path / "a")

    def stop(progress):
        raise KeyboardInterrupt

    stopped = tmp_path / "b"
    with pytest.raises(KeyboardInterrupt):
        train(
            chosen, stopped, on_progress=lambda p: stop(p) if p.update == 2 else None, checkpoint_seconds=0.0
        )
    training.resume(stopped)
    states = []
    for path in (tmp_path / "a", stopped):
        run, setup, settings_ = training.load(path)
        states.append(training.restore(run, setup, settings_).state.learners)
    assert straight.config["updates"] == 5
    for a, b in zip(*map(jax.tree.leaves, states), strict=True):
        np.testing.assert_array_equal(a, b)
    assert float(states[0].scale.seen[0]) == pytest.approx(5 * 32, rel=1e-3)
