"""The network for boards: its convolutions against the definition, what it sees, and when it is chosen."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from epomdp.agents import leep, networks, ppo
from epomdp.agents.layers import Convolution
from epomdp.agents.members import for_each_member
from epomdp.envs.guess import Guess
from epomdp.errors import BadInput


def planes(*shape, dtype=jnp.uint8):
    return jax.ShapeDtypeStruct(shape, dtype)


def board(seed, *shape):
    return np.random.default_rng(seed).integers(0, 4, shape).astype(np.uint8)


def convolved_by_definition(layer, x):
    """Windows of 3 x 3 cells until every cell was in one, on a board continued by zeros."""
    H, W, C = x.shape
    padded = np.zeros((H + 2, W + 2, C))
    padded[:H, :W] = x
    weight = np.asarray(layer.weight, np.float64).reshape(-1, 3, 3, C)
    starts = [[0], [0]]
    for side, found in zip((H, W), starts, strict=True):
        while found[-1] + 3 < side:
            found.append(found[-1] + layer.stride)
    return np.array(
        [
            [np.sum(weight * padded[i : i + 3, j : j + 3], axis=(1, 2, 3)) + layer.bias for j in starts[1]]
            for i in starts[0]
        ]
    )


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("shape", [(3, 3, 1), (11, 11, 6), (10, 7, 2), (4, 9, 3)])
def test_convolutions_are_their_definition(stride, shape):
    layer = Convolution(shape[-1], 5, stride, jax.random.key(1))
    layer = jax.tree.map(lambda leaf: leaf + 0.1, layer)
    x = board(0, *shape)
    np.testing.assert_allclose(layer(jnp.asarray(x)), convolved_by_definition(layer, x), atol=1e-4)


@pytest.mark.parametrize("stride", [1, 2])
def test_their_gradients_are_those_of_xlas_convolution(stride):
    layer = Convolution(4, 5, stride, jax.random.key(2))
    x = jax.random.normal(jax.random.key(3), (9, 7, 4))

    def ours(weight, x):
        return eqx.tree_at(lambda c: c.weight, layer, weight)(x)

    def theirs(weight, x):
        kernel = jnp.moveaxis(weight.reshape(5, 3, 3, 4), 0, -1)
        order = ("NHWC", "HWIO", "NHWC")
        return jax.lax.conv_general_dilated(
            x[None], kernel, (stride, stride), "VALID", dimension_numbers=order
        )[0]

    found, expected = (
        jax.grad(lambda w, x, f=f: jnp.sum(f(w, x) ** 3), (0, 1))(layer.weight, x) for f in (ours, theirs)
    )
    for a, b in zip(found, expected, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("sides", [(11, 11), (10, 12), (7, 32)])
def test_every_cell_of_every_plane_can_be_seen(sides):
    network = networks.make("board", planes(*sides, 3), 4, (16, 32), (32,), jax.random.key(0))
    x = jnp.asarray(board(1, *sides, 3), jnp.float32)
    gradient = jax.jacobian(lambda x: network(x)[0])(x)
    assert np.all(np.any(gradient != 0, axis=0))


def test_bytes_and_floats_of_equal_value_are_the_same_observation():
    network = networks.make("board", planes(11, 11, 6), 4, (16, 32), (32,), jax.random.key(0))
    x = board(2, 11, 11, 6)
    for a, b in zip(network(jnp.asarray(x)), network(jnp.asarray(x, jnp.float32)), strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("strategy", ["vmap", "unroll", "map"])
def test_members_are_the_same_networks_however_they_are_run(strategy):
    keys = jax.random.split(jax.random.key(4), 3)
    members = jax.vmap(lambda key: networks.make("board", planes(9, 9, 2), 4, (8,), (16,), key))(keys)
    x = jnp.asarray(board(3, 3, 5, 9, 9, 2))
    found, _ = for_each_member(lambda network, x: jax.vmap(network)(x), strategy)(members, x)
    for i in range(3):
        alone, _ = jax.vmap(jax.tree.map(lambda leaf, i=i: leaf[i], members))(x[i])
        np.testing.assert_allclose(found[i], alone, atol=1e-5)


@pytest.mark.parametrize(
    ("observation", "chosen"),
    [
        (planes(11, 11, 6), "board"),
        (planes(7, 32, 1, dtype=jnp.int32), "board"),
        (planes(8, 8, dtype=jnp.uint8), "mlp"),
        (planes(11, 11, 6, dtype=jnp.float32), "mlp"),
        (planes(64, 64, 3, dtype=jnp.int32), "mlp"),
        (planes(6, 6, 3), "board"),
        (planes(5, 11, 3), "mlp"),
        (planes(5), "mlp"),
    ],
)
def test_auto_takes_planes_of_whole_numbers_for_boards(observation, chosen):
    assert networks.choose("auto", observation, (16, 32)) == chosen
    assert networks.choose("mlp", observation, (16, 32)) == "mlp"


def test_a_board_network_is_refused_where_it_cannot_see():
    assert networks.choose("board", planes(64, 64, 3), (16, 32)) == "board"
    for shape in [(8, 8), (2, 9, 1), (5, 9, 1)]:
        with pytest.raises(BadInput, match="network 'board' with 2 convolutions cannot see"):
            networks.choose("board", planes(*shape), (16, 32))


@pytest.mark.parametrize("changes", [{"network": "cnn"}, {"channels": (16, 0)}])
def test_bad_shapes_of_networks_are_refused(changes):
    with pytest.raises(BadInput) as refused:
        ppo.Config(**changes)
    assert "\n" not in str(refused.value) and str(next(iter(changes.values()))) in str(refused.value)


def test_agents_build_the_network_they_say():
    config = ppo.Config(num_envs=4, num_steps=4, num_minibatches=2, channels=(4, 8), hidden=(8,))
    game = Guess((3,), 4)
    game.observation = planes(11, 11, 2)
    for agent in (ppo.agent(config, game), leep.agent(leep.Config(ppo=config), game)):
        assert agent.network == "board"
        params = agent.params(agent.init(jax.random.key(0)))
        assert [c.weight.shape[1:] for c in params.convolutions] == [(4, 18), (8, 36)]
        assert params.torso[0].weight.shape[1:] == (8, 3 * 3 * 8)
    assert ppo.agent(config, Guess((3,), 4)).network == "mlp"
