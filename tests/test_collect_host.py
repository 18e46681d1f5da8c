"""Rollouts on the host: a plain loop's, whatever alternates; what a transition holds at an end; replays."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import host_toys as toys
from epomdp import collect, collect_host
from epomdp.agents import leep, ops, ppo
from epomdp.agents.members import for_each_member
from epomdp.collect_host import Collector, HostActors
from epomdp.envs.host import HostStep
from epomdp.errors import RunFailed

T = 12
RESAMPLES = jnp.asarray([[0, 2, 2, 7], [5, 1, 6, 1]], jnp.int32)


def make(num_envs=6, **changes):
    env = toys.Corridor(**changes)
    config = ppo.Config(num_envs=num_envs, num_steps=T, num_minibatches=1, hidden=(8,))
    agent = leep.agent(leep.Config(members=2, ppo=config), env)
    return env, agent, agent.params(jax.jit(agent.init)(jax.random.key(0)))


def collected(rollouts=1, num_envs=6, **changes):
    env, agent, params = make(num_envs, **changes)
    collector = Collector(env, agent, toys.corridors(8), RESAMPLES)
    actors = collect_host.begin(env, RESAMPLES, jax.random.key(1), num_envs)
    for i in range(rollouts):
        actors, rollout = collector.rollout(params, actors, jax.random.key(10 + i))
    return env, agent, params, collector, actors, rollout


def same(a, b):
    first, second = jax.tree.leaves(a), jax.tree.leaves(b)
    assert len(first) == len(second)
    for x, y in zip(first, second, strict=True):
        assert np.asarray(x).dtype == np.asarray(y).dtype
        np.testing.assert_array_equal(x, y)


@pytest.mark.parametrize("num_envs", [1, 3, 6])
def test_a_rollout_is_that_of_a_plain_loop(num_envs):
    """No halves at the same time and no lanes: every half from beginning to end, one episode object a place."""
    env, agent, params, _, _, rollout = collected(num_envs=num_envs)
    contexts, halves = toys.corridors(8), 2 if num_envs % 2 == 0 else 1
    width = num_envs // halves
    key_act, key_start = jax.random.split(jax.random.key(10))
    keys = jax.random.split(key_act, (T, halves, 2))
    keys_start = jax.random.split(key_start, 2)
    chosen = np.array([collect.draw(RESAMPLES[i], keys_start[i], (T, num_envs))[0] for i in range(2)])
    first = collect_host.begin(env, RESAMPLES, jax.random.key(1), num_envs).row
    act = jax.jit(for_each_member(agent.act, agent.strategy))
    for half in range(halves):
        columns = range(half * width, (half + 1) * width)
        walks = [[toys.Walk(env, contexts.context(int(first[i, j]))) for j in columns] for i in range(2)]
        returns = np.zeros((2, width), np.float32)
        for t in range(T):
            seen = np.array([[walk.observe() for walk in row] for row in walks])
            action, extras = jax.tree.map(np.asarray, act(params, seen, keys[t, half]))
            for i in range(2):
                for j, column in enumerate(columns):
                    walk, at = walks[i][j], (i, t, column)
                    reward = np.float32(walk.step(int(action[i, j])))
                    returns[i, j] += reward
                    np.testing.assert_array_equal(rollout.observation[at], seen[i, j])
                    assert rollout.action[at] == action[i, j] and rollout.reward[at] == reward
                    assert (rollout.terminated[at], rollout.truncated[at]) == walk.over
                    np.testing.assert_array_equal(rollout.next_observation[at], walk.observe())
                    assert rollout.extras["value"][at] == extras["value"][i, j]
                    assert rollout.extras["log_prob"][at] == extras["log_prob"][i, j]
                    if any(walk.over):
                        assert rollout.extras["episode_return"][at] == returns[i, j]
                        walks[i][j] = toys.Walk(env, contexts.context(int(chosen[i, t, column])))
                        returns[i, j] = 0
                    else:
                        assert np.isnan(rollout.extras["episode_return"][at])


def test_one_half_acts_while_the_other_steps():
    env, agent, params = make()
    events = []

    class Noted(toys.CorridorLanes):
        def send(self, actions):
            events.append(("send", env.opened.index(self)))
            super().send(actions)

        def receive(self):
            events.append(("receive", env.opened.index(self)))
            return super().receive()

    env.open = lambda num_lanes: Noted(env, num_lanes)
    actors = collect_host.begin(env, RESAMPLES, jax.random.key(1), 6)
    Collector(env, agent, toys.corridors(8), RESAMPLES).rollout(params, actors, jax.random.key(2))
    between = [("receive", 0), ("send", 0), ("receive", 1), ("send", 1)]
    assert events == [("send", 0), ("send", 1), *between * (T - 1), ("receive", 0), ("receive", 1)]


def test_nothing_crosses_an_episodes_end():
    _, _, _, _, _, rollout = collected()
    ended = rollout.terminated | rollout.truncated
    assert rollout.terminated.any() and rollout.truncated.any()
    same_episode = (rollout.next_observation[..., [1, 3]] == rollout.observation[..., [1, 3]]).all(axis=-1)
    assert same_episode.all()
    np.testing.assert_array_equal(rollout.next_observation[..., 2], rollout.observation[..., 2] + 1)
    first, following = rollout.observation[:, 1:], rollout.next_observation[:, :-1]
    going_on = ~ended[:, :-1]
    np.testing.assert_array_equal(first[going_on], following[going_on])
    assert (first[ended[:, :-1]][:, [0, 2]] == 0).all()


def test_advantages_are_those_of_the_true_successors():
    """PPO's targets of a rollout, against the critic asked about every successor."""
    env, _, params, _, _, rollout = collected()
    config = ppo.Config(num_envs=6, num_steps=T, num_minibatches=1, hidden=(8,))
    for i in range(2):
        member, one = jax.tree.map(lambda x, i=i: x[i], (params, rollout))
        _, value = jax.vmap(jax.vmap(member))(one.observation)
        _, following = jax.vmap(jax.vmap(member))(one.next_observation)
        flags = (one.terminated, one.truncated)
        expected = ops.gae(one.reward, value, following, *flags, config.gamma, config.gae_lambda)
        found = ppo.prepare(config, member, one, env.shortest_truncation)
        np.testing.assert_allclose(found.advantage, np.asarray(expected).ravel(), atol=1e-4)


def test_members_begin_in_their_own_contexts_alone():
    env, *_ = collected(rollouts=4)
    for lanes in env.opened:
        for lane, seed in lanes.started:
            assert seed in set(np.asarray(RESAMPLES)[lane // 3].tolist())


@pytest.mark.parametrize("num_envs", [1, 6])
def test_another_process_goes_on_from_the_same_actors(num_envs):
    _, agent, params, collector, actors, _ = collected(rollouts=2, num_envs=num_envs)
    assert actors.length.max() > 3 and actors.actions.dtype == np.uint8
    stored = HostActors(*(jnp.asarray(x) for x in actors))
    other = Collector(toys.Corridor(), agent, toys.corridors(8), RESAMPLES)
    key = jax.random.key(3)
    for _ in range(2):
        actors, going_on = collector.rollout(params, actors, key)
        stored, again = other.rollout(params, stored, key)
        same(going_on, again)
        same(actors, stored)


def test_a_collector_can_be_sent_back():
    """What it returns follows from the actors that it is given, wherever its lanes are."""
    _, _, params, collector, actors, _ = collected()
    first = collector.rollout(params, actors, jax.random.key(3))
    same(first, collector.rollout(params, actors, jax.random.key(3)))


def test_a_rollout_that_was_cut_off_can_be_done_again():
    env, _, params, collector, actors, _ = collected()
    wanted = collector.rollout(params, actors, jax.random.key(3))
    collector.rollout(params, actors, jax.random.key(4))
    env.fail_at = env.steps + 20
    with pytest.raises(RunFailed):
        collector.rollout(params, wanted[0], jax.random.key(5))
    same(wanted, collector.rollout(params, actors, jax.random.key(3)))


def changed(actors, **changes):
    return actors._replace(
        **{name: change(np.array(getattr(actors, name))) for name, change in changes.items()}
    )


@pytest.mark.parametrize(
    "changes",
    [
        {"mark": lambda mark: mark + np.uint32(1)},
        {"episode_return": lambda total: total + np.float32(1)},
        {"row": lambda row: row[::-1]},
    ],
)
def test_a_replay_that_shows_something_else_is_refused(changes):
    env, agent, params, _, actors, _ = collected()
    with pytest.raises(RunFailed, match=r"corridor: after \d+ replayed steps, context \d ") as failed:
        collector = Collector(env, agent, toys.corridors(8), RESAMPLES)
        collector.rollout(params, changed(actors, **changes), jax.random.key(3))
    assert "\n" not in str(failed.value)


def test_a_replay_in_which_an_episode_ends_is_refused():
    """Going right for nine steps ends every corridor, whatever the marks say."""
    env, agent, params, _, actors, _ = collected()
    too_long = changed(actors, length=lambda x: x * 0 + 8, actions=lambda x: x * 0 + 2, mark=lambda x: x * 0)
    with pytest.raises(RunFailed, match="replayed"):
        Collector(env, agent, toys.corridors(8), RESAMPLES).rollout(params, too_long, jax.random.key(3))


def test_an_episode_that_goes_on_after_the_limit_is_refused():
    env, agent, params = make()

    class Endless(toys.CorridorLanes):
        def receive(self):
            step = super().receive()
            none = np.zeros_like(step.terminated)
            return HostStep(step.observation, step.reward, none, none, none)

    env.open = lambda num_lanes: Endless(env, num_lanes)
    actors = collect_host.begin(env, RESAMPLES, jax.random.key(1), 6)
    with pytest.raises(
        RunFailed, match=r"context \d goes on after its 9 steps; let the environment truncate"
    ):
        Collector(env, agent, toys.corridors(8), RESAMPLES).rollout(params, actors, jax.random.key(2))


def test_closing_closes_every_lane():
    env, _, _, collector, _, _ = collected()
    assert len(env.opened) == 2 and not any(lanes.closed for lanes in env.opened)
    collector.close()
    assert all(lanes.closed for lanes in env.opened)
