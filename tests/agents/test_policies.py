"""Deployment: greedy, sampled, linked, and process of elimination."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from epomdp.agents import policies
from epomdp.contexts import ContextSet
from epomdp.envs.base import Environment, Step
from epomdp.envs.boards import levels
from epomdp.envs.guess import Guess
from epomdp.envs.maze import Maze
from epomdp.evaluate import evaluate, trace


class Corridor(Environment):
    """Positions 0 to 4; action 0 goes right past 2 only after 3 did, 1 and 2 do nothing, 3 goes right."""

    name = "corridor"
    num_actions = 4
    observation = jax.ShapeDtypeStruct((), jnp.int32)
    max_episode_steps = 20

    def reset(self, key, context):
        return (context, jnp.zeros((), jnp.int32)), context

    def step(self, key, state, action):
        position, steps = state
        ended = (position == 4) | (steps >= self.max_episode_steps)
        position = jnp.where(~ended & (action == 3), position + 1, position)
        steps = jnp.where(ended, steps, steps + 1)
        reward = jnp.where(ended, 0.0, -1.0)
        done = position == 4
        return (position, steps), Step(position, reward, done, ~done & (steps >= self.max_episode_steps))


def fixed(p):
    log_p = jnp.log(jnp.asarray(p, jnp.float32))
    return lambda params, observation: log_p


GIVEN = policies.eliminating(
    lambda params, observation: jnp.log(params), 6, 6, "the params are the probabilities"
)


@given(st.integers(0, 10_000))
@settings(max_examples=20, deadline=None)
def test_elimination_guesses_in_descending_order_without_repeats(seed):
    p = np.random.default_rng(seed).dirichlet(np.ones(6)).astype(np.float32)
    env = Guess((1,), 6, 6)
    rank = np.argsort(-p, kind="stable")
    contexts = ContextSet.from_values(
        {
            "image": np.zeros((6, 1), np.float32) + np.arange(6, dtype=np.float32)[:, None],
            "label": rank.astype(np.int32),
        }
    )
    episodes = evaluate(env, GIVEN, jnp.asarray(p), contexts, episodes=1, seed=0)
    np.testing.assert_array_equal(episodes.returns[:, 0], -np.arange(6))
    assert episodes.solved.all()


def test_greedy_repeats_its_mistake_for_ever_and_elimination_does_not():
    env = Guess((1,), 3, 10)
    contexts = ContextSet.from_values(
        {"image": np.zeros((1, 1), np.float32), "label": np.array([2], np.int32)}
    )
    p = [0.5, 0.3, 0.2]
    stuck = trace(env, policies.greedy(fixed(p), ""), (), contexts, 0, seed=0)
    assert stuck.actions.tolist() == [0] * 10 and not stuck.solved
    saved = trace(env, policies.eliminating(fixed(p), 3, 10, ""), (), contexts, 0, seed=0)
    assert saved.actions.tolist() == [0, 1, 2] and saved.solved


def test_elimination_remembers_each_observation_apart():
    """What is useless in one place is tried again in another, and remembered when a place comes back."""
    contexts = ContextSet.from_values(np.zeros(1, np.int32))
    policy = policies.eliminating(fixed([0.1, 0.4, 0.3, 0.2]), 4, 20, "")
    played = trace(Corridor(), policy, (), contexts, 0, seed=0)
    assert played.actions.tolist() == [1, 2, 3] * 4
    assert played.solved


def test_when_all_actions_are_useless_all_are_allowed_again():
    policy = policies.eliminating(fixed([0.5, 0.3, 0.2]), 3, 8, "")
    memory, observation = policy.init(), jnp.zeros(2)
    actions = []
    for _ in range(7):
        action, memory = policy.act((), observation, jnp.zeros(()), memory, jax.random.key(0))
        actions.append(int(action))
    assert actions == [0, 1, 2, 0, 1, 2, 0]


def test_backtracking_tries_another_way_whenever_it_comes_back():
    """On every visit to a square the next action of a fixed order: the twin, which sees the whole walk."""
    env = Maze(size=7, max_episode_steps=1000)
    contexts = levels(env, range(4))
    order = [2, 0, 3, 1]
    policy = policies.backtracking(fixed([0.3, 0.1, 0.4, 0.2]), 4, env.max_episode_steps, "")
    for index in range(len(contexts)):
        played = trace(env, policy, (), contexts, index, seed=0, show=lambda state: state.agent)
        visits = {}
        for square, action in zip(played.shown, played.actions, strict=False):
            count = visits.setdefault(tuple(np.asarray(square)), [0])
            assert action == order[count[0] % 4]
            count[0] += 1
        assert played.solved
    greedy = evaluate(env, policies.greedy(fixed([0.3, 0.1, 0.4, 0.2]), ""), (), contexts, episodes=1, seed=0)
    assert not greedy.solved.all()


def test_backtracking_is_elimination_where_nothing_ever_changes():
    env = Guess((1,), 6, 6)
    image = np.zeros((6, 1), np.float32)
    contexts = ContextSet.from_values({"image": image, "label": np.arange(6, dtype=np.int32)})
    p = fixed([0.1, 0.3, 0.2, 0.15, 0.05, 0.2])
    pair = (policies.eliminating(p, 6, 6, ""), policies.backtracking(p, 6, 6, ""))
    first, second = (evaluate(env, policy, (), contexts, episodes=1, seed=0).returns for policy in pair)
    np.testing.assert_array_equal(first, second)


def test_sampled_follows_the_probabilities():
    p = np.array([0.6, 0.3, 0.1])
    policy = policies.sampled(fixed(p), "")
    keys = jax.random.split(jax.random.key(0), 20_000)
    actions = jax.vmap(lambda key: policy.act((), jnp.zeros(1), 0.0, (), key)[0])(keys)
    found = np.bincount(actions, minlength=3) / 20_000
    np.testing.assert_allclose(found, p, atol=4 * np.sqrt(0.25 / 20_000))


@pytest.mark.parametrize("dtype", [np.float32, np.int32, np.uint8, np.bool_])
def test_fingerprints_tell_observations_apart(dtype):
    rng = np.random.default_rng(0)
    observations = np.unique(rng.integers(0, 2, size=(400, 12)), axis=0).astype(dtype)
    marks = np.asarray(jax.vmap(policies.fingerprint)(observations))
    assert len(np.unique(marks, axis=0)) == len(observations)
    np.testing.assert_array_equal(marks[3], policies.fingerprint(observations[3]))
