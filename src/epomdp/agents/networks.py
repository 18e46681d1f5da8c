"""Networks: from one observation to action logits and a value."""

from __future__ import annotations

import math
from typing import Any, Literal, get_args

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from epomdp.errors import BadInput

Params = Any
"""A network: a pytree of arrays that is called with one observation and gives (logits, value)."""

Network = Literal["auto", "mlp", "board"]

KERNEL, STRIDE = 3, 2
"""Every convolution looks at 3 x 3 cells; the first goes on by two cells, the others by one."""

LARGEST_BOARD = 32
"""Sides up to which a picture of whole numbers is taken for the planes of a board."""


def _linear(size_in: int, size_out: int, scale: float, key: Array) -> eqx.nn.Linear:
    """Linear layer with orthogonal weights of the given gain and zero biases."""
    layer = eqx.nn.Linear(size_in, size_out, key=key)
    weight = scale * orthogonal(key, size_out, size_in)
    return eqx.tree_at(lambda x: (x.weight, x.bias), layer, (weight, jnp.zeros(size_out)))


def orthogonal(key: Array, rows: int, columns: int) -> Float[Array, "rows columns"]:
    """A uniformly random matrix of orthonormal rows, or columns where these are fewer (Saxe et al. 2014).

    By Gram and Schmidt, each vector twice ("twice is enough", Giraud, Langou and Rozloznik 2005). Not by
    `jnp.linalg.qr`: under `vmap` over members LAPACK's batches wait, in threads of XLA's pool, for threads of
    the same pool, and on a machine of two cores two such calls at a time wait for ever.
    """
    few, many = sorted((rows, columns))
    gaussian = jax.random.normal(key, (few, many))

    def add(i, basis):
        vector = gaussian[i]
        for _ in range(2):
            vector = vector - basis.T @ (basis @ vector)
        return basis.at[i].set(vector / jnp.linalg.norm(vector))

    basis = jax.lax.fori_loop(0, few, add, jnp.zeros_like(gaussian))
    return basis if rows == few else basis.T


class Convolution(eqx.Module):
    """3 x 3 convolution of an (H, W, C) picture without padding, as patches and one matrix product.

    On a CPU this is several times faster than XLA's own convolution, whose gradients are slow inside a loop.
    Where the stride would leave a last row or column out, one of zeros is added.
    """

    weight: Float[Array, "out K"]
    bias: Float[Array, " out"]
    stride: int = eqx.field(static=True)

    def __init__(self, channels_in: int, channels_out: int, stride: int, key: Array):
        self.weight = math.sqrt(2.0) * orthogonal(key, channels_out, KERNEL**2 * channels_in)
        self.bias = jnp.zeros(channels_out)
        self.stride = stride

    def __call__(self, x: Float[Array, "H W C"]) -> Float[Array, "h w out"]:
        spans = [(_positions(side, self.stride) - 1) * self.stride + 1 for side in x.shape[:2]]
        missing = [(0, span + KERNEL - 1 - side) for span, side in zip(spans, x.shape, strict=False)]
        x = jnp.pad(x, (*missing, (0, 0)))
        rows, columns = spans
        shifted = [
            x[i : i + rows : self.stride, j : j + columns : self.stride]
            for i in range(KERNEL)
            for j in range(KERNEL)
        ]
        # Planes are bytes: they are gathered as such and become floats at the last moment.
        patches = jnp.concatenate(shifted, axis=-1).astype(jnp.float32)
        return patches @ self.weight.T + self.bias


def _positions(side: int, stride: int) -> int:
    """How often a window of 3 cells fits along a side, every cell being in one at least."""
    return math.ceil((side - KERNEL) / stride) + 1


def _convolved(side: int, count: int) -> int:
    """A side after `count` convolutions; below 1 where it is too short for them."""
    return _positions(side, STRIDE) - (KERNEL - 1) * (count - 1)


def choose(network: Network, observation: jax.ShapeDtypeStruct, channels: tuple[int, ...]) -> Network:
    """The kind of network for an observation.

    "auto" is "board" for planes of whole numbers (H, W, C) whose sides are long enough for the convolutions and
    at most 32, and "mlp" for everything else.

    Raises:
        BadInput: a board network is wanted for an observation that it cannot see.
    """
    shape = observation.shape
    fits = len(shape) == 3 and all(_convolved(side, len(channels)) >= 1 for side in shape[:2])
    if network == "board" and not fits:
        raise BadInput(
            f"network 'board' with {len(channels)} convolutions cannot see an observation of shape {shape}; "
            "it wants (height, width, planes) with longer sides: choose mlp, or fewer channels"
        )
    if network != "auto":
        return network
    whole = jnp.issubdtype(observation.dtype, jnp.integer)
    return "board" if fits and whole and max(shape[:2]) <= LARGEST_BOARD else "mlp"


def check(network: Network, channels: tuple[int, ...], hidden: tuple[int, ...]) -> None:
    """Raise BadInput unless these shape a network."""
    if network not in get_args(Network):
        raise BadInput(f"network is '{network}'; choose one of {', '.join(get_args(Network))}")
    for name, widths in (("channels", channels), ("hidden", hidden)):
        if not widths or min(widths) < 1:
            raise BadInput(f"{name} is {widths}; give the width of each layer, at least 1, like 128,128")


class ActorCritic(eqx.Module):
    """Torso with ReLU, shared by an actor and a critic head: fully connected layers, after convolutions if any.

    Call it with one observation; without convolutions it may have any shape and is flattened.
    """

    convolutions: tuple[Convolution, ...]
    torso: tuple[eqx.nn.Linear, ...]
    actor: eqx.nn.Linear
    critic: eqx.nn.Linear

    def __init__(
        self,
        observation: jax.ShapeDtypeStruct,
        num_actions: int,
        channels: tuple[int, ...],
        hidden: tuple[int, ...],
        key: Array,
    ):
        key_actor, key_critic, *keys = jax.random.split(key, len(hidden) + len(channels) + 2)
        keys_torso, keys_convolutions = keys[: len(hidden)], keys[len(hidden) :]
        size = math.prod(observation.shape)
        self.convolutions = ()
        if channels:
            strides = (STRIDE, *[1] * (len(channels) - 1))
            planes = (observation.shape[-1], *channels)
            self.convolutions = tuple(map(Convolution, planes, channels, strides, keys_convolutions))
            size = channels[-1] * math.prod(_convolved(side, len(channels)) for side in observation.shape[:2])
        sizes = (size, *hidden)
        self.torso = tuple(map(_linear, sizes, hidden, [math.sqrt(2.0)] * len(hidden), keys_torso))
        self.actor = _linear(sizes[-1], num_actions, 0.01, key_actor)
        self.critic = _linear(sizes[-1], 1, 1.0, key_critic)

    def __call__(self, observation: Float[Array, ...]) -> tuple[Float[Array, " A"], Float[Array, ""]]:
        x = observation
        for convolution in self.convolutions:
            x = jax.nn.relu(convolution(x))
        x = jnp.ravel(x).astype(jnp.float32)
        for layer in self.torso:
            x = jax.nn.relu(layer(x))
        return self.actor(x), self.critic(x)[0]
