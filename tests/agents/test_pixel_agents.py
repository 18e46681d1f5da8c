"""Pixels in slices and over members, which network and strategy are chosen, and agents that learn from pixels."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from epomdp.agents import dqn, leep, networks, ppo
from epomdp.agents.members import choose_strategy, for_each_member
from epomdp.envs.base import Transition
from epomdp.envs.guess import Guess
from epomdp.errors import BadInput
from pixels import frames, picture

PIXELS = ("small", "impala")


@functools.cache
def made(kind):
    build = jax.jit(lambda key: networks.make(kind, picture(14, 13, 3), 6, (3, 4), (7,), key))
    return build(jax.random.key(2))


# Slices and members


def batch(size, shape=(14, 13, 3)):
    rng = np.random.default_rng(0)
    action = jnp.asarray(rng.integers(0, 6, size), jnp.int32)
    numbers = jnp.asarray(rng.normal(size=(4, size)), jnp.float32)
    return ppo.Batch(
        jnp.asarray(frames(8, size, *shape)), action, -1.8 + 0.1 * numbers[0], *numbers[1:], None
    )


@pytest.mark.parametrize("kind", PIXELS)
def test_a_gradient_in_slices_is_the_whole_one(kind, monkeypatch):
    network, data, config = made(kind), batch(24), ppo.Config()
    rows = jnp.asarray(np.random.default_rng(1).permutation(24)[:18])
    monkeypatch.setattr(networks, "AT_ONCE", dict.fromkeys(networks.AT_ONCE, 7))
    assert networks.at_once(network, 18) == 6

    def go():
        return jax.jit(lambda network: ppo.gradient(network, config, data, rows, ppo.no_penalty))(network)

    found, metrics = go()
    monkeypatch.setattr(networks, "AT_ONCE", dict.fromkeys(networks.AT_ONCE, 100))
    assert networks.at_once(network, 18) == 18
    expected, expected_metrics = go()
    for a, b in zip(
        jax.tree.leaves((found, metrics)), jax.tree.leaves((expected, expected_metrics)), strict=True
    ):
        np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-5)


def test_only_pixels_are_cut_into_slices():
    board = networks.make("board", picture(11, 11, 2), 4, (), (), jax.random.key(0))
    assert networks.at_once(board, 256) == 256
    assert networks.at_once(made("small"), 256) == 32 and networks.at_once(made("small"), 1) == 1


@pytest.mark.parametrize(
    ("kind", "strategy"), [("small", "map"), ("small", "unroll"), ("small", "vmap"), ("impala", "vmap")]
)
def test_members_are_the_same_networks_however_they_are_run(kind, strategy):
    keys = jax.random.split(jax.random.key(4), 2)
    build = functools.partial(networks.make, kind, picture(14, 13, 3), 4, (3, 4), (8,))
    members = jax.jit(jax.vmap(lambda key: build(key)))(keys)
    x = jnp.asarray(frames(3, 2, 3, 2, 14, 13, 3))
    found, _ = jax.jit(for_each_member(networks.outputs, strategy))(members, x)
    for i in range(2):
        alone, _ = jax.jit(networks.outputs)(jax.tree.map(lambda leaf, i=i: leaf[i], members), x[i])
        np.testing.assert_allclose(found[i], alone, atol=1e-5)


def test_peers_of_pixels_never_make_a_rollout_of_floats():
    T, N = 40, 8
    small = functools.partial(networks.make, "small", picture(64, 64, 3), 15, (), ())
    params = jax.eval_shape(jax.vmap(lambda key: small(key)), jax.random.split(jax.random.key(0), 2))
    rollout = jax.ShapeDtypeStruct((2, T, N, 64, 64, 3), jnp.uint8)
    peers = jax.jit(leep.peer_log_probs, static_argnums=2)
    needed = peers.lower(params, rollout, "map").compile().memory_analysis()
    one_step, whole = (4 * 64 * 64 * 3 * n for n in (N, T * N))
    assert needed.temp_size_in_bytes < 6 * one_step + whole / 4 + 4 * 2**20


# Choice


@pytest.mark.parametrize(
    ("observation", "chosen"),
    [
        (picture(64, 64, 3), "small"),
        (picture(33, 20, 1), "small"),
        (picture(84, 84, 4), "small"),
        (picture(32, 32, 3), "board"),
        (picture(64, 64, 3, dtype=jnp.float32), "mlp"),
        (picture(64, 64, 3, dtype=jnp.int32), "mlp"),
        (picture(64, 64), "mlp"),
    ],
)
def test_auto_takes_large_pictures_of_bytes_for_pixels_on_any_backend(observation, chosen, monkeypatch):
    assert networks.choose("auto", observation) == chosen
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    assert networks.choose("auto", observation) == chosen


def test_networks_that_cannot_see_are_refused_in_one_line():
    for kind, shape in [("small", (64, 3)), ("small", (8, 8, 3)), ("impala", (64,))]:
        with pytest.raises(BadInput, match=f"network '{kind}' with 3 convolutions cannot see") as refused:
            networks.choose(kind, picture(*shape))
        assert "\n" not in str(refused.value)


@pytest.mark.parametrize("network", ["mlp", "board", "small", "impala"])
def test_auto_runs_members_one_after_the_other_on_a_cpu(network, monkeypatch):
    assert choose_strategy("auto", network) == "map"
    assert choose_strategy("vmap", network) == "vmap"
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    assert choose_strategy("auto", network) == ("vmap" if network == "mlp" else "map")


def test_the_line_that_says_what_was_chosen():
    def shapes(kind, observation, members, hidden=()):
        keys = jax.random.split(jax.random.key(0), members)
        build = jax.vmap(lambda key: networks.make(kind, observation, 15, (), hidden, key))
        return kind, observation, jax.eval_shape(build, keys)

    line = "small (64 x 64 x 3 pixels), 150k weights in each of 4 members"
    assert networks.describe(*shapes("small", picture(64, 64, 3), 4)) == line
    assert networks.describe(*shapes("mlp", picture(5), 1, (2,))) == "mlp (5 numbers), 60 weights"


# Agents


def rollouts(members, T=6, N=4, shape=(14, 13, 3)):
    rng = np.random.default_rng(9)
    seen = frames(10, members, T + 1, N, *shape)
    truncated = jnp.zeros((members, T, N), bool).at[:, 2, 1].set(True)
    action = jnp.asarray(rng.integers(0, 6, truncated.shape), jnp.int32)
    reward, log_prob, value = jnp.asarray(rng.normal(size=(3, *truncated.shape)), jnp.float32)
    extras = {"log_prob": log_prob - 2.0, "value": value}
    return Transition(
        jnp.asarray(seen[:, :-1]),
        action,
        reward,
        jnp.zeros_like(truncated),
        truncated,
        jnp.asarray(seen[:, 1:]),
        extras,
    )


def game():
    env = Guess((3,), 6, 6)
    env.observation = picture(14, 13, 3)
    return env


def test_leep_learns_from_pixels_alike_by_any_strategy():
    config = ppo.Config(
        num_envs=4,
        num_steps=6,
        num_minibatches=2,
        network="small",
        channels=(3, 4),
        hidden=(8,),
        update_epochs=1,
    )
    found = {}
    for strategy in ("auto", "unroll"):
        agent = leep.agent(leep.Config(members=2, strategy=strategy, ppo=config), game())
        learners = jax.jit(agent.init)(jax.random.key(0))
        found[agent.strategy], metrics = jax.jit(agent.update)(learners, rollouts(2), jax.random.key(1))
        assert agent.network == "small" and float(metrics["link_kl"]) >= 0
        pairs = map(jax.tree.leaves, (learners.params, found[agent.strategy].params))
        assert all(np.any(a != b) for a, b in zip(*pairs, strict=True))
    for a, b in zip(jax.tree.leaves(found["map"]), jax.tree.leaves(found["unroll"]), strict=True):
        np.testing.assert_allclose(a, b, atol=3e-4, rtol=2e-3)


def test_dqn_learns_from_pixels():
    config = dqn.Config(
        num_envs=4,
        num_steps=6,
        batch_size=8,
        replay_size=48,
        network="small",
        channels=(3, 4),
        hidden=(8,),
        exploration_steps=10,
    )
    agent = dqn.agent(config, game())
    learners = jax.jit(agent.init)(jax.random.key(0))
    assert agent.network == "small"
    action, _ = agent.act(
        jax.tree.map(lambda x: x[0], agent.params(learners)), rollouts(1).observation[0, 0], jax.random.key(1)
    )
    assert action.shape == (4,)
    after, metrics = jax.jit(agent.update)(learners, rollouts(1), jax.random.key(2))
    assert np.isfinite(metrics["loss"])
    weights = (x.convolutions[0].weight for x in (learners.online, after.online))
    assert np.abs(np.subtract(*weights)).max() > 0
