"""What board games with a course of their own share: numbers from the level's stream, planes of small numbers."""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp
from jaxtyping import Array, Int, UInt8, UInt32

from epomdp.envs import boards

WORD = 32  # bits for one square of all planes


class MovingGame(boards.BoardGame):
    """A board game on which things move by themselves.

    What they do follows from the level's `stream`, the number of steps and the actions, as in Procgen: the same
    actions always meet the same course. The board shows what is on it, and never what the stream has in store.

    Attributes:
        plane_bits: how many bits each of the class's planes needs; together fewer than 32.
    """

    plane_bits: tuple[int, ...]

    def observe(self, state: Any) -> UInt8[Array, "H W C"]:
        """What the agent sees of a state: planes of small numbers, where those of `BoardGame` are binary."""
        planes, bits = self.planes(state), self.plane_bits
        if self.themes:
            planes, bits = (*planes, state.context["clutter"]), (*bits, 1)
        shifts = [sum(bits[:i]) for i in range(len(bits))]
        packed = jnp.zeros((self.size, self.size), jnp.uint32)
        for plane, shift in zip(planes, shifts, strict=True):
            packed = packed | (plane.astype(jnp.uint32) << shift)
        if self.view == "centred":
            packed = boards.roll(packed, self.size // 2 - self.agent(state))
        masks = jnp.asarray([(1 << width) - 1 for width in bits], jnp.uint32)
        return ((packed[..., None] >> jnp.asarray(shifts, jnp.uint32)) & masks).astype(jnp.uint8)


def draw(stream: UInt32[Array, ""], step: Int[Array, ""]) -> UInt32[Array, ""]:
    """The stream's 32 random bits for a step: a Weyl sequence through a mixer, as in SplitMix.

    The mixer is lowbias32 of https://nullprogram.com/blog/2018/07/31/, the sequence that of Steele, Lea and Flood
    2014. Raw integers, since a state with JAX's typed keys could not be saved in a checkpoint.
    """
    x = stream + step.astype(jnp.uint32) * jnp.uint32(0x9E3779B9)
    x = (x ^ (x >> 16)) * jnp.uint32(0x7FEB352D)
    x = (x ^ (x >> 15)) * jnp.uint32(0x846CA68B)
    return x ^ (x >> 16)
