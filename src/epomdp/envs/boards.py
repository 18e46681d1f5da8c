"""What the board games share: levels from seeds, planes, views, moves, and how an episode ends.

A board game is seen from above, whole, as a stack of at most nine planes of small numbers. Its context is the level
itself, a dictionary of small arrays that `generate` makes from a seed; `reset` only starts an episode in it.
"""

from __future__ import annotations

import abc
import functools
import zlib
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int, Int8, UInt, UInt8

from epomdp.contexts import ContextSet
from epomdp.envs.base import Environment, Key, Step
from epomdp.errors import BadInput, unknown_name

Level = dict[str, Array]
Position = Int8[Array, " 2"]

VIEWS = ("board", "centred")
MOVES = ("up", "down", "left", "right", "stay")
DELTAS = np.array([[-1, 0], [1, 0], [0, -1], [0, 1], [0, 0]], np.int8)  # (row, column), in the order of MOVES

_CHUNKS = (16, 128, 1024)  # levels made in one call: few sizes, since each is compiled
_LARGEST = 63  # a board's side; positions are int8


class Tile(NamedTuple):
    """How one thing on the board is drawn: its name, one character, and a colour "#rrggbb".

    heading: "<", ">", "^" or "v" for a thing that points to the left, to the right, up or down.
    """

    name: str
    glyph: str
    colour: str
    heading: str = ""


class BoardGame(Environment):
    """A game on a square board, every level of which follows from a seed.

    A game says what is its own: `level`, `begin`, `play`, `planes`, `picture` and `agent`; this class does the
    rest. States are NamedTuples with at least the fields `context`, `steps` (int32), `terminated` and
    `truncated`. Nothing is random once the level is made, so the keys of `reset` and `step` are not used.

    Args:
        size: H = W, the board's side in squares.
        view: "board" shows the board as it lies; "centred" rolls it, as a torus, so that the agent is in the
            middle. Either way all of it is seen.
        themes: add a plane "clutter", fixed by the level's seed, that means nothing.
        max_episode_steps: the step at which an unfinished episode is truncated.

    Attributes:
        action_names: A names, in the order of the actions.
        plane_names: C names, in the order of the observation's last axis.
        tiles: what `picture` points to.
    """

    action_names: tuple[str, ...]
    plane_names: tuple[str, ...]
    tiles: tuple[Tile, ...]

    def __init__(self, size: int, view: str, themes: bool, max_episode_steps: int) -> None:
        if not 5 <= size <= _LARGEST:
            raise BadInput(f"{self.name}: size must be from 5 to {_LARGEST}, got {size}")
        if view not in VIEWS:
            raise unknown_name("view", view, VIEWS)
        if max_episode_steps < 1:
            raise BadInput(f"{self.name}: max_episode_steps must be at least 1, got {max_episode_steps}")
        self.size = size
        self.view = view
        self.themes = themes
        self.max_episode_steps = max_episode_steps
        self.num_actions = len(self.action_names)
        if themes:
            self.plane_names = (*type(self).plane_names, "clutter")
        self.observation = jax.ShapeDtypeStruct((size, size, len(self.plane_names)), jnp.uint8)

    def __eq__(self, other: object) -> bool:
        return type(self) is type(other) and vars(self) == vars(other)

    def __hash__(self) -> int:
        return hash((type(self), *vars(self).values()))

    # ---- what each game says

    @abc.abstractmethod
    def level(self, key: Key) -> Level:
        """Make a level; pure JAX, the same for the same key under any batching.

        Each call of `jax.random` adds a second or so to compilation on a CPU: draw once, and take slices.
        """

    @abc.abstractmethod
    def begin(self, context: Level) -> Any:
        """The state in which an episode starts, with no step done."""

    @abc.abstractmethod
    def play(self, state: Any, action: Int[Array, ""]) -> tuple[Any, Float[Array, ""], Bool[Array, ""]]:
        """The rules: the next state (its steps and flags are set by `step`), the reward, and whether it ends."""

    @abc.abstractmethod
    def planes(self, state: Any) -> tuple[Array, ...]:
        """(H, W) binary planes in the order of the class's `plane_names`."""

    @abc.abstractmethod
    def picture(self, state: Any) -> Int8[Array, "H W"]:
        """The topmost thing on each square, an index into `tiles`; the board as it lies, for any view."""

    @abc.abstractmethod
    def agent(self, state: Any) -> Position:
        """The square in the middle of the centred view."""

    # ---- what follows from it

    def generate(self, seed: UInt[Array, ""]) -> Level:
        """The level of a seed (uint32): the same for any batch size, device and theme option."""
        level = self.level(seed_key(self.name, seed))
        if self.themes:
            level["clutter"] = clutter(seed_key(f"{self.name} clutter", seed), self.size)
        return level

    def reset(self, key: Key, context: Level) -> tuple[Any, UInt8[Array, "H W C"]]:
        state = self.begin({name: jnp.asarray(array) for name, array in context.items()})
        return state, self.observe(state)

    def step(self, key: Key, state: Any, action: Int[Array, ""]) -> tuple[Any, Step]:
        ended = state.terminated | state.truncated
        after, reward, done = self.play(state, action)
        steps = state.steps + 1
        truncated = ~done & (steps >= self.max_episode_steps)
        after = after._replace(steps=steps, terminated=done, truncated=truncated)
        # An ended episode stays as it ended. What the rules did not touch needs no choice.
        after = jax.tree.map(lambda new, old: old if new is old else jnp.where(ended, old, new), after, state)
        reward = jnp.where(ended, 0.0, reward).astype(jnp.float32)
        return after, Step(self.observe(after), reward, after.terminated, after.truncated)

    def observe(self, state: Any) -> UInt8[Array, "H W C"]:
        """What the agent sees of a state."""
        planes = self.planes(state)
        if self.themes:
            planes = (*planes, state.context["clutter"])
        return self._viewed(planes, state)

    def content(self, level: Level) -> Level:
        """What tells a level from others, for hashing: the first observation, since it shows all there is.

        Clutter is left out: one layout under two themes is the same content, so that `split` never puts it on both
        sides. And so is where on the board a maze lies when the view is centred: nobody sees it.
        """
        state = self.begin(level)
        return {"seen": self._viewed(self.planes(state), state)}

    def _viewed(self, planes: tuple[Array, ...], state: Any) -> UInt8[Array, "H W C"]:
        packed = pack(planes)
        if self.view == "centred":
            packed = roll(packed, self.size // 2 - self.agent(state))
        # Without the barrier, XLA makes every plane again for each plane of the result.
        return unpack(jax.lax.optimization_barrier(packed), len(planes))


def levels(game: BoardGame, seeds: Sequence[int]) -> ContextSet:
    """The levels of some seeds, named "maze-17" and so on.

    Hashes are of what `BoardGame.content` says, so what looks the same counts as the same content.

    Args:
        seeds: different integers in 0 .. 2**32 - 1.

    Raises:
        BadInput: no seeds, or some out of range or given twice.
    """
    numbers = np.asarray(seeds)
    if not numbers.size or numbers.dtype.kind not in "iu" or numbers.min() < 0 or numbers.max() >= 2**32:
        raise BadInput(f"{game.name}: seeds must be one or more integers in 0 .. 2**32 - 1")
    n = len(numbers)
    chunk = next((size for size in _CHUNKS if n <= size), _CHUNKS[-1])
    padded = np.resize(numbers.astype(np.uint32), (-(-n // chunk), chunk))
    made = [jax.tree.map(np.asarray, _generate(game, row)) for row in padded]
    values, content = jax.tree.map(lambda *parts: np.concatenate(parts)[:n], *made)
    return ContextSet.from_values(values, [f"{game.name}-{seed}" for seed in numbers], content)


@functools.partial(jax.jit, static_argnums=0)
def _generate(game: BoardGame, seeds: UInt[Array, " n"]) -> tuple[Level, Level]:
    made = jax.vmap(game.generate)(seeds)
    return made, jax.vmap(game.content)(made)


def seed_key(stream: str, seed: UInt[Array, ""]) -> Key:
    """The key of a seed (uint32) in a named stream: no two streams share their numbers."""
    words = jnp.stack([jnp.asarray(zlib.crc32(stream.encode()), jnp.uint32), jnp.asarray(seed, jnp.uint32)])
    return jax.random.wrap_key_data(words, impl="threefry2x32")


def clutter(key: Key, size: int) -> UInt8[Array, "H W"]:
    """Scattered marks, as dense as the level's theme has it: between a tenth and a half of the squares."""
    random = jax.random.uniform(key, (size**2 + 1,))
    return (random[1:] < 0.1 + 0.4 * random[0]).reshape(size, size).astype(jnp.uint8)


def at(position: Position, size: int) -> Bool[Array, "H W"]:
    """A plane with one square set, none if the position is off the board."""
    line = jnp.arange(size, dtype=jnp.int8)
    return (line == position[0])[:, None] & (line == position[1])


def moved(position: Position, action: Int[Array, ""]) -> Position:
    """Where a move leads, the board's edge not minded."""
    return position + jnp.asarray(DELTAS)[action]


def pack(planes: Sequence[Array]) -> UInt8[Array, "H W"]:
    """Up to eight binary planes in one byte a square, the first in the lowest bit."""
    packed = planes[0].astype(jnp.uint8)
    for bit, plane in enumerate(planes[1:], 1):
        packed = packed | (plane.astype(jnp.uint8) << bit)
    return packed


def unpack(packed: UInt8[Array, "H W"], count: int) -> UInt8[Array, "H W C"]:
    """The planes of `pack`, on the last axis."""
    return (packed[..., None] >> jnp.arange(count, dtype=jnp.uint8)) & 1


def roll(board: Array, shift: Int[Array, " 2"]) -> Array:
    """`jnp.roll` over both axes of a square board by traced shifts, cut from four boards laid side by side."""
    top, left = -shift % board.shape[0]
    return jax.lax.dynamic_slice(jnp.tile(board, (2, 2)), (top, left), board.shape)
