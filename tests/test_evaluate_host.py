"""Evaluation on the host against the same environments in JAX, and what it depends on."""

import jax.numpy as jnp
import numpy as np
import pytest

import host_toys as toys
from epomdp import episodes, evaluate_host
from epomdp.agents import policies
from epomdp.contexts import ContextSet
from epomdp.envs.boards import levels
from epomdp.envs.guess import Guess
from epomdp.envs.maze import Maze
from epomdp.evaluate import evaluate, trace

RIGHT = policies.greedy(lambda params, observation: jnp.array([0.0, 0.0, 1.0]), "")
ANY = policies.sampled(policies.uniform(3), "")


def same(a, b):
    for name in ("returns", "lengths", "solved", "repeats", "last_new"):
        np.testing.assert_array_equal(getattr(a, name), getattr(b, name), err_msg=name)


def guesses(n):
    rng = np.random.default_rng(0)
    image = rng.random((n, 2)).astype(np.float32)
    values = {"image": image, "label": (np.arange(n) % 4).astype(np.int32)}
    return Guess((2,), 4, 6), ContextSet.from_values(values, content=image)


def mazes(n):
    env = Maze(size=7, max_episode_steps=25)
    return env, levels(env, range(n))


@pytest.mark.parametrize("make", [guesses, mazes])
@pytest.mark.parametrize("kind", ["sampled", "elimination", "backtracking"])
def test_episodes_are_those_of_the_environment_in_jax(make, kind):
    """More episodes than lanes, so that lanes go on with new ones while others are in the middle of theirs."""
    env, contexts = make(30)
    A, limit = env.num_actions, env.max_episode_steps

    def distribution(params, observation):
        """Differs between observations, without rounding."""
        word = policies.fingerprint(observation)[0]
        return params[(jnp.arange(A) + word % A) % A]

    policy = policies.standard(distribution, A, limit, of="", sampled_name="sampled")[kind]
    params = jnp.log(jnp.arange(1.0, A + 1))
    there = evaluate(env, policy, params, contexts, episodes=3, seed=4)
    here = evaluate(toys.StepByStep(env), policy, params, contexts, episodes=3, seed=4)
    same(here, there)
    assert here.returns.dtype == there.returns.dtype == np.float64
    assert here.solved.any() and len(np.unique(here.lengths)) > 1
    assert (here.first_mistake == -1).all()


@pytest.mark.parametrize("lanes", [1, 2, 7, 64])
def test_the_number_of_lanes_does_not_matter(lanes):
    env, contexts = toys.Corridor(), toys.corridors(9)
    rows = np.arange(27) % 9
    keys = episodes.keys(5, [contexts.hashes[row] for row in rows], np.arange(27) // 9)
    found = evaluate_host.play(env, ANY, (), contexts, rows, keys, lanes=lanes)
    same(found, evaluate_host.play(env, ANY, (), contexts, rows, keys, lanes=5))
    assert [len(opened.walks) for opened in env.opened] == [min(lanes, 27), 5]
    assert all(opened.closed and len(opened.started) == 27 for opened in env.opened)


def test_company_does_not_matter():
    env, contexts = toys.Corridor(), toys.corridors(40)
    first = evaluate(env, ANY, (), contexts, episodes=2, seed=3)
    some = np.random.default_rng(0).permutation(40)[:11]
    alone = evaluate(env, ANY, (), contexts[some], episodes=1, seed=3)
    np.testing.assert_array_equal(alone.returns, first.returns[some, :1])
    assert (evaluate(env, ANY, (), contexts, episodes=2, seed=4).returns != first.returns).any()


def test_a_policy_without_chance_plays_one_episode_for_all():
    env, contexts = toys.Corridor(), toys.corridors(8)
    found = evaluate(env, RIGHT, (), contexts, episodes=3, seed=3)
    assert [len(opened.started) for opened in env.opened] == [8]
    once = evaluate(env, RIGHT, (), contexts, episodes=1, seed=3)
    same(found, once._replace(**{name: np.repeat(x, 3, axis=1) for name, x in once._asdict().items()}))
    evaluate(env, ANY, (), contexts, episodes=3, seed=3)
    assert len(env.opened[-1].started) == 24


def test_records_are_those_of_a_walk_by_hand():
    env, contexts = toys.Corridor(), toys.corridors(8)
    found = evaluate(env, RIGHT, (), contexts, episodes=1, seed=0)
    for i in range(8):
        walk = toys.Walk(env, contexts.context(i))
        total, length = np.float32(0), 0
        while not any(walk.over):
            total, length = total + np.float32(walk.step(2)), length + 1
        assert found.returns[i, 0] == total and found.lengths[i, 0] == length
        assert found.solved[i, 0] == walk.over[0] and found.repeats[i, 0] == 0


@pytest.mark.parametrize("policy", [ANY, RIGHT])
def test_a_trace_is_the_first_episode(policy):
    env, contexts = toys.Corridor(), toys.corridors(6)
    found = evaluate(env, policy, (), contexts, episodes=2, seed=8)
    for i in range(6):
        played = trace(env, policy, (), contexts, i, seed=8, show=lambda seen: seen.tolist())
        assert np.float32(played.rewards).cumsum(dtype=np.float32)[-1] == found.returns[i, 0]
        assert len(played.actions) == found.lengths[i, 0] == len(played.shown) - 1
        assert played.solved == found.solved[i, 0]
        assert played.shown[0] == [0, contexts.context(i)["length"], 0, i]
    assert all(opened.closed for opened in env.opened)


def test_an_episode_that_goes_on_is_cut_at_the_limit():
    class Endless(toys.Corridor):
        def open(self, num_lanes):
            lanes = super().open(num_lanes)
            receive = lanes.receive

            def never_over():
                step = receive()
                return step._replace(terminated=step.terminated & False, truncated=step.truncated & False)

            lanes.receive = never_over
            return lanes

    found = evaluate(Endless(), ANY, (), toys.corridors(3), episodes=1, seed=0)
    assert (found.lengths == 9).all() and not found.solved.any()
