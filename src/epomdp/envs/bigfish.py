"""Bigfish: eat the fish that are smaller than you, keep out of the way of all others, and grow."""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, Int8, UInt32

from epomdp.envs import boards
from epomdp.envs.base import Key, Step
from epomdp.envs.boards import Level, Position, Tile
from epomdp.envs.moving import MovingGame, draw, in_plane, put

LARGEST = 5  # the largest fish but you
START_SIZE = 2
MEALS_A_SIZE = 2  # fish to eat before you grow by one
QUOTA = (LARGEST + 1 - START_SIZE) * MEALS_A_SIZE  # fish to eat until you are the largest
SLOWEST = 3  # steps for one square

# Every level has prey for each size that you can have; its other species are its own.
_SURE_SPECIES = (1, 1, 2, 3, 4)
_SPECIES = 8
_CLEAR = 1  # no fish comes in this near to you, in squares
_SIXTEENTHS = 16  # chances are multiples of 1/16

_SMALL_COLOURS = ("#9ad0c2", "#7fc97f", "#e6c229", "#f17105", "#d11149")
_DEEP_COLOURS = ("#6fb3a2", "#5aa85a", "#c2a011", "#c95a00", "#a50a37")
_YOU_COLOURS = ("#f7f7ff", "#e8d7ff", "#d9b8ff", "#ca99ff", "#bb7aff")


class BigfishState(NamedTuple):
    """You and, for each row of the board, the one fish that swims in it.

    Attributes:
        fish: (H,) sizes of the fish, 0 where a row has none.
        column: (H,) where they are.
        heading: (H,) +1 to the right, -1 to the left.
        period: (H,) steps that a fish needs for one square.
        wait: (H,) steps until it moves, 1 if with the next one.
    """

    context: Level
    position: Position
    meals: Int8[Array, ""]
    fish: Int8[Array, " H"]
    column: Int8[Array, " H"]
    heading: Int8[Array, " H"]
    period: Int8[Array, " H"]
    wait: Int8[Array, " H"]
    steps: Int[Array, ""]
    terminated: Bool[Array, ""]
    truncated: Bool[Array, ""]


class Bigfish(MovingGame):
    """Eat smaller fish, grow by one size for every two, and become the largest: after Procgen's bigfish.

    One point for a fish eaten, ten more for the one that makes you the largest, which solves the level. To
    touch a fish of your size or a larger one is the end. See docs/games/bigfish.md.

    Args:
        size, view, themes: see `BoardGame`.
        max_episode_steps: the step at which an unfinished episode is truncated.
    """

    name = "bigfish"
    action_names = boards.MOVES
    plane_names = ("you", "your size", "meals", "edge", "leftward", "rightward", "period", "wait")
    # Letters are sizes: a capital letter, which is you, may eat the small ones before it.
    tiles = (
        Tile("water", "·", "#1b3a57"),
        *(Tile(f"you, size {i + 2}", "BCDEF"[i], _YOU_COLOURS[i]) for i in range(5)),
        *(Tile(f"fish of size {i + 1} to the left", "abcde"[i], _SMALL_COLOURS[i], "<") for i in range(5)),
        *(Tile(f"fish of size {i + 1} to the right", "abcde"[i], _DEEP_COLOURS[i], ">") for i in range(5)),
    )

    def __init__(
        self, size: int = 11, view: str = "board", themes: bool = False, max_episode_steps: int = 150
    ) -> None:
        super().__init__(size, view, themes, max_episode_steps)

    def level(self, key: Key) -> Level:
        keys = iter(jax.random.split(key, 12))
        size = self.size

        def integers(low: int, high: int, shape: tuple[int, ...] = ()) -> Array:
            return jax.random.randint(next(keys), shape, low, high + 1, jnp.int8)

        margin = min(3, (size - 1) // 2)
        start = jnp.stack([integers(0, size - 1), integers(margin, size - 1 - margin)])
        own = integers(1, LARGEST, (_SPECIES - len(_SURE_SPECIES),))
        species = jnp.concatenate([jnp.asarray(_SURE_SPECIES, jnp.int8), own])
        periods = integers(1, SLOWEST, (_SPECIES,))
        rightward, rate = integers(4, 12), integers(5, 12)
        kind = integers(0, _SPECIES - 1, (size,))
        # The rows next to you are empty at first: nothing can reach you in the first two steps.
        near = jnp.abs(jnp.arange(size) - start[0]) <= 1
        there = jax.random.bernoulli(next(keys), 0.5, (size,)) & ~near
        period = periods[kind]
        return {
            "start": start,
            "species": species,
            "periods": periods,
            "rightward": rightward,
            "rate": rate,
            "fish": jnp.where(there, species[kind], 0).astype(jnp.int8),
            "column": integers(0, size - 1, (size,)),
            "heading": jnp.where(integers(0, _SIXTEENTHS - 1, (size,)) < rightward, 1, -1).astype(jnp.int8),
            "period": period,
            "wait": integers(1, 6, (size,)) % period + 1,
            "stream": jax.random.bits(next(keys), (), jnp.uint32),
        }

    def begin(self, context: Level) -> BigfishState:
        going = jnp.asarray(False)
        return BigfishState(
            context=context,
            position=context["start"],
            meals=jnp.int8(0),
            **{name: context[name] for name in ("fish", "column", "heading", "period", "wait")},
            steps=jnp.int32(0),
            terminated=going,
            truncated=going,
        )

    def play(
        self, state: BigfishState, action: Int[Array, ""]
    ) -> tuple[BigfishState, Float[Array, ""], Bool[Array, ""]]:
        position = jnp.clip(boards.moved(state.position, action), 0, self.size - 1)
        swims = state.wait <= 1
        column = jnp.where(swims, state.column + state.heading, state.column)
        wait = jnp.where(swims, state.period, state.wait - 1)
        # A fish is met where it was and where it goes, so that nobody swims through anybody.
        here = jnp.arange(self.size) == position[0]
        met = here & (state.fish > 0) & ((state.column == position[1]) | (column == position[1]))
        eaten = met & (state.fish < _your_size(state.meals))
        meals = state.meals + eaten.any()
        gone = eaten | (column < 0) | (column >= self.size)
        after = state._replace(
            position=position, meals=meals, fish=jnp.where(gone, 0, state.fish), column=column, wait=wait
        )
        largest = meals >= QUOTA
        reward = eaten.any() + jnp.where(largest, 10.0, 0.0)
        return self._arrive(after), reward, (met & ~eaten).any() | largest

    def _arrive(self, state: BigfishState) -> BigfishState:
        """Perhaps a fish comes in, in a row that has none, and not beside you."""
        context = state.context
        bits = draw(context["stream"], state.steps)
        comes = (bits & 15) < context["rate"].astype(jnp.uint32)
        rightward = ((bits >> 4) & 15) < context["rightward"].astype(jnp.uint32)
        kind = jnp.arange(_SPECIES) == ((bits >> 8) & (_SPECIES - 1)).astype(jnp.int32)
        row = jnp.arange(self.size) == (((bits >> 16) * self.size) >> 16).astype(jnp.int32)
        column = jnp.where(rightward, 0, self.size - 1).astype(jnp.int8)
        beside = (jnp.arange(self.size) == state.position[0]) & (
            jnp.abs(state.position[1] - column) <= _CLEAR
        )
        new = comes & row & (state.fish == 0) & ~beside
        period = _chosen(kind, context["periods"])
        return state._replace(
            fish=jnp.where(new, _chosen(kind, context["species"]), state.fish),
            column=jnp.where(new, column, state.column),
            heading=jnp.where(new, jnp.where(rightward, 1, -1).astype(jnp.int8), state.heading),
            period=jnp.where(new, period, state.period),
            wait=jnp.where(new, period, state.wait),
        )

    def words(self, state: BigfishState) -> tuple[UInt32[Array, "H W"], UInt32[Array, "H W"]]:
        line = jnp.arange(self.size)
        rim = (line == 0) | (line == self.size - 1)
        everywhere = in_plane(1, _your_size(state.meals)) | in_plane(2, state.meals % MEALS_A_SIZE)
        you = in_plane(0, boards.at(state.position, self.size))
        left = state.heading < 0
        fish = in_plane(4, jnp.where(left, state.fish, 0)) | in_plane(5, jnp.where(left, 0, state.fish))
        fish |= in_plane(6, state.period) | in_plane(7, state.wait)
        swims = jnp.where(state.fish > 0, line * self.size + state.column, -1)
        return you | everywhere | in_plane(3, rim[:, None] | rim), put(self.size, swims, fish)

    def picture(self, state: BigfishState) -> Array:
        square = (jnp.arange(self.size) == state.column[:, None]) & (state.fish > 0)[:, None]
        you = jnp.where(boards.at(state.position, self.size), _your_size(state.meals) - START_SIZE + 1, 0)
        sort = state.fish + jnp.where(state.heading < 0, LARGEST, 2 * LARGEST)
        return jnp.where(square, sort[:, None], you).astype(jnp.int8)

    def agent(self, state: BigfishState) -> Position:
        return state.position

    def solved(self, state: BigfishState, step: Step) -> Bool[Array, ""]:
        return step.terminated & (state.meals >= QUOTA)


def _your_size(meals: Int8[Array, ""]) -> Int8[Array, ""]:
    return START_SIZE + meals // MEALS_A_SIZE


def _chosen(kind: Bool[Array, " K"], table: Int8[Array, " K"]) -> Int8[Array, ""]:
    """The entry of a table that a mask marks; no gather, which is slow under `vmap`."""
    return jnp.where(kind, table, 0).sum(dtype=jnp.int8)
