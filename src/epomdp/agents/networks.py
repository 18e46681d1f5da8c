"""Networks: from one observation to action logits and a value, and which of them suits an observation."""

from __future__ import annotations

import itertools
import math
from typing import Any, Literal, get_args

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PyTree

from epomdp.agents.layers import Convolution, ImpalaBlock, Linear, Patches, positions
from epomdp.envs.base import LARGEST_BOARD
from epomdp.errors import BadInput

Params = Any
"""A network: a pytree of arrays that is called with one observation and gives (logits, value)."""

Network = Literal["auto", "mlp", "board", "small", "impala"]
Compute = Literal["float32", "bfloat16"]

MEANING = "mlp, board (planes), small or impala (pixels), or auto: by the observation"
CHANNELS_MEANING = "widths of the convolutions; none: the network's own"
HIDDEN_MEANING = "widths of the hidden layers; none: the network's own"

STRIDE = 2
"""The first convolution of a board goes on by two cells, the others by one."""

CHANNELS = {"mlp": (), "board": (16, 32), "small": (16, 32, 32), "impala": (16, 32, 32)}
HIDDEN = {"mlp": (128, 128), "board": (128, 128), "small": (256,), "impala": (256,)}
"""Widths of each kind's own."""

PIXELS = ("small", "impala")
AT_ONCE = {Patches: 32, ImpalaBlock: 4}
"""Pictures that a network that begins so is best shown at a time on a CPU, whose caches they still fit."""


def _sides(network: Network, side: int, count: int) -> list[int]:
    """A side of the picture before and after each of `count` stages; below 1 where it is too short for them."""
    if network == "impala":
        steps = [lambda side: math.ceil(side / 2)] * count
    elif network == "small":
        steps = [lambda side: math.ceil(side / Patches.SIDE)] + [lambda side: positions(side, 2)] * (
            count - 1
        )
    else:
        steps = [lambda side: positions(side, STRIDE)] + [lambda side: positions(side, 1)] * (count - 1)
    return list(itertools.accumulate(steps[:count], lambda side, step: step(side), initial=side))


def choose(network: Network, observation: jax.ShapeDtypeStruct, channels: tuple[int, ...] = ()) -> Network:
    """The kind of network for an observation.

    "auto" goes by the observation alone, so that a run may move between machines. Pictures (H, W, C) of whole
    numbers with sides up to 32 are taken for the planes of a board ("board"), larger ones of bytes for pixels
    ("small"), if their sides are long enough for the convolutions; everything else is flattened ("mlp").

    Raises:
        BadInput: a network is wanted for an observation that it cannot see.
    """

    def fits(kind: Network) -> bool:
        count = len(channels or CHANNELS[kind])
        sides = [side for length in shape[:2] for side in _sides(kind, length, count)]
        return len(shape) == 3 and min(sides) >= 1

    shape = observation.shape
    if network in ("board", *PIXELS) and not fits(network):
        raise BadInput(
            f"network '{network}' with {len(channels or CHANNELS[network])} convolutions cannot see an "
            f"observation of shape {shape}; it wants (height, width, channels) with longer sides: choose mlp, or "
            "fewer channels"
        )
    if network != "auto":
        return network
    if len(shape) == 3 and max(shape[:2]) <= LARGEST_BOARD:
        found, fitting = "board", jnp.issubdtype(observation.dtype, jnp.integer)
    else:
        found, fitting = "small", observation.dtype == jnp.uint8
    return found if fitting and fits(found) else "mlp"


def check(
    network: Network, channels: tuple[int, ...], hidden: tuple[int, ...], compute: Compute = "float32"
) -> None:
    """Raise BadInput unless these shape a network; no widths at all stand for the network's own."""
    for name, value, kinds in (("network", network, Network), ("compute", compute, Compute)):
        if value not in get_args(kinds):
            raise BadInput(f"{name} is '{value}'; choose one of {', '.join(get_args(kinds))}")
    for name, widths in (("channels", channels), ("hidden", hidden)):
        if widths and min(widths) < 1:
            raise BadInput(f"{name} is {widths}; give the width of each layer, at least 1, like 128,128")


def make(
    network: Network,
    observation: jax.ShapeDtypeStruct,
    num_actions: int,
    channels: tuple[int, ...],
    hidden: tuple[int, ...],
    key: Array,
    compute: Compute = "float32",
) -> ActorCritic:
    """A fresh network of a kind for an observation.

    Args:
        channels, hidden: widths of the convolutions and of the dense layers; () for the kind's own.
        compute: the precision of all but the two heads; weights and outputs are single.

    Raises:
        BadInput: as `choose`.
    """
    kind = choose(network, observation, channels)
    channels = () if kind == "mlp" else channels or CHANNELS[kind]
    return ActorCritic(kind, observation, num_actions, channels, hidden or HIDDEN[kind], key, compute)


class ActorCritic(eqx.Module):
    """Torso with ReLU, shared by an actor and a critic head: fully connected layers, after convolutions if any.

    Call it with one observation; without convolutions it may have any shape and is flattened.
    """

    convolutions: tuple[Convolution | Patches | ImpalaBlock, ...]
    torso: tuple[Linear, ...]
    actor: Linear
    critic: Linear
    compute: Compute = eqx.field(static=True)

    def __init__(
        self,
        kind: Network,
        observation: jax.ShapeDtypeStruct,
        num_actions: int,
        channels: tuple[int, ...],
        hidden: tuple[int, ...],
        key: Array,
        compute: Compute = "float32",
    ):
        key_actor, key_critic, *keys = jax.random.split(key, len(hidden) + len(channels) + 2)
        keys_torso, keys_convolutions = keys[: len(hidden)], keys[len(hidden) :]
        size = math.prod(observation.shape)
        self.convolutions = ()
        if channels:
            self.convolutions = _convolutions(kind, observation.shape[-1], channels, keys_convolutions)
            ends = [_sides(kind, side, len(channels))[-1] for side in observation.shape[:2]]
            size = channels[-1] * math.prod(ends)
        sizes = (size, *hidden)
        self.torso = tuple(map(Linear, sizes, hidden, [math.sqrt(2.0)] * len(hidden), keys_torso))
        self.actor = Linear(sizes[-1], num_actions, 0.01, key_actor)
        self.critic = Linear(sizes[-1], 1, 1.0, key_critic)
        self.compute = compute

    def __call__(self, observation: Float[Array, ...]) -> tuple[Float[Array, " A"], Float[Array, ""]]:
        dtype = jnp.dtype(self.compute)
        x = observation
        for convolution in self.convolutions:
            x = convolution(x, dtype)
        x = jnp.ravel(x).astype(dtype)
        for layer in self.torso:
            x = jax.nn.relu(layer(x))
        x = x.astype(jnp.float32)
        return self.actor(x), self.critic(x)[0]


def _convolutions(
    kind: Network, planes: int, channels: tuple[int, ...], keys: list[Array]
) -> tuple[Convolution | Patches | ImpalaBlock, ...]:
    sizes = list(zip(itertools.pairwise((planes, *channels)), keys, strict=True))
    if kind == "impala":
        last = len(sizes) - 1
        return tuple(ImpalaBlock(*size, key, relu=i == last) for i, (size, key) in enumerate(sizes))
    if kind == "small":
        (size, key), *others = sizes
        return (Patches(*size, key), *(Convolution(*size, 2, key, relu=True) for size, key in others))
    strides = (STRIDE, *[1] * (len(channels) - 1))
    return tuple(
        Convolution(*size, stride, key, relu=True) for (size, key), stride in zip(sizes, strides, strict=True)
    )


def sees_pixels(params: Params) -> bool:
    """Whether this is a network for pixels."""
    return bool(params.convolutions) and type(params.convolutions[0]) in AT_ONCE


def at_once(params: Params, size: int) -> int:
    """How many of `size` observations to learn from at a time: all, or for pixels on a CPU a divisor of `size`.

    There what the convolutions keep for the gradient should fit the caches, and the memory.
    """
    if not sees_pixels(params) or jax.default_backend() != "cpu":
        return size
    most = AT_ONCE[type(params.convolutions[0])]
    return next(count for count in range(min(size, most), 0, -1) if size % count == 0)


def outputs(params: Params, observation: PyTree) -> tuple[Float[Array, "T N A"], Float[Array, "T N"]]:
    """Logits and values of observations (T, N, ...); of pixels one step's at a time, as a matter of memory."""
    each_step = jax.vmap(params)
    if sees_pixels(params):
        return jax.lax.map(each_step, observation)
    return jax.vmap(each_step)(observation)


def describe(network: Network, observation: jax.ShapeDtypeStruct, params: PyTree) -> str:
    """A line that says what "auto" came to, like "small (64 x 64 x 3 pixels), 150k weights".

    Args:
        params: what acts, or its shapes; leaves have a leading axis of members.
    """
    weights = [math.prod(x.shape[1:]) for x in jax.tree.leaves(params) if x.ndim > 1]
    members = jax.tree.leaves(params)[0].shape[0]
    seen = " x ".join(map(str, observation.shape))
    kind = {"mlp": "numbers", "board": "planes"}.get(network, "pixels")
    count = f"{sum(weights) / 1000:,.0f}k" if sum(weights) >= 1000 else str(sum(weights))
    each = f" in each of {members} members" if members > 1 else ""
    return f"{network} ({seen} {kind}), {count} weights{each}"
