"""What board games with a course of their own share: numbers from the level's stream, planes of small numbers."""

from __future__ import annotations

import abc
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Int, UInt8, UInt32

from epomdp.envs import boards

_PLANES_A_WORD = 4


class MovingGame(boards.BoardGame):
    """A board game on which things move by themselves.

    What they do follows from the level's `stream`, the number of steps and the actions, as in Procgen: the same
    actions always meet the same course. The board shows what is on it, and never what the stream has in store.

    Planes hold small numbers, where those of other board games are binary. A game has eight of them, and makes
    them as two boards of words, four planes a word, of which `observe` only takes the bytes.
    """

    @abc.abstractmethod
    def words(self, state: Any) -> tuple[UInt32[Array, "H W"], UInt32[Array, "H W"]]:
        """Planes 0 to 3 and planes 4 to 7, one byte each, the first in the lowest; square by square."""

    def planes(self, state: Any) -> tuple[Array, ...]:
        return tuple((word >> 8 * i) & 255 for word in self.words(state) for i in range(_PLANES_A_WORD))

    def content(self, level: boards.Level) -> boards.Level:
        """All of a level but its clutter: the course is not seen at the start."""
        return {name: array for name, array in level.items() if name != "clutter"}

    def observe(self, state: Any) -> UInt8[Array, "H W C"]:
        """What the agent sees of a state."""
        words = self.words(state)
        if self.themes:
            words = (*words, state.context["clutter"].astype(jnp.uint32))
        if self.view == "centred":
            shift = self.size // 2 - self.agent(state)
            words = [boards.roll(word, shift) for word in words]
        seen = jax.lax.bitcast_convert_type(jnp.stack(words, -1), jnp.uint8)
        return seen.reshape(self.size, self.size, -1)[..., : len(self.plane_names)]


def in_plane(plane: int, values: Array | int) -> UInt32[Array, "*n"]:
    """Values as they stand in a word."""
    return jnp.asarray(values).astype(jnp.uint32) << 8 * (plane % _PLANES_A_WORD)


def put(size: int, squares: Int[Array, " n"], words: UInt32[Array, " n"]) -> UInt32[Array, "H W"]:
    """A board with the sum of the words on each square, row * size + column; others are left out."""
    # A scatter, since XLA computes its arguments once; of a sum over masks, anew for every square.
    squares = jnp.where(squares < 0, size**2, squares.astype(jnp.int32))
    board = jnp.zeros(size**2, jnp.uint32).at[squares].add(words, mode="drop")
    return board.reshape(size, size)


def draw(stream: UInt32[Array, ""], step: Int[Array, ""]) -> UInt32[Array, ""]:
    """The stream's 32 random bits for a step: a Weyl sequence through a mixer, as in SplitMix.

    The mixer is lowbias32 of https://nullprogram.com/blog/2018/07/31/, the sequence that of Steele, Lea and Flood
    2014. Raw integers, since a state with JAX's typed keys could not be saved in a checkpoint.
    """
    x = stream + step.astype(jnp.uint32) * jnp.uint32(0x9E3779B9)
    x = (x ^ (x >> 16)) * jnp.uint32(0x7FEB352D)
    x = (x ^ (x >> 15)) * jnp.uint32(0x846CA68B)
    return x ^ (x >> 16)
