"""Dodgeball: hit every enemy with your ball, keep off the lava and out of the way of theirs, then leave."""

from __future__ import annotations

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int, Int8, Int16, UInt8, UInt32

from epomdp.envs import boards
from epomdp.envs.base import Key, Step
from epomdp.envs.boards import Level, Position, Tile
from epomdp.envs.moving import MovingGame, draw, in_plane, put
from epomdp.errors import BadInput

ENEMIES = 4  # at most
FEWEST = 2
BALL_SPEED = 2  # squares in a step
UP, DOWN, LEFT, RIGHT, STAY, THROW = range(6)

_SIZES = (9, 25)  # smaller boards have no room, on larger ones the turns need more bits
_NOWHERE = -1  # the square of what is not on the board
_LONGEST_WALL = 5
_YOURS = np.arange(ENEMIES + 1) == ENEMIES  # which of the balls


class DodgeballState(NamedTuple):
    """You, the enemies, and the balls in the air. A square is a number, row * W + column.

    Attributes:
        facing: where you throw: 0 .. 3, a move.
        enemies: (4,) squares, -1 for one that is not there.
        balls: (5,) squares likewise: each enemy's ball, then yours.
        headings: (5,) the moves 0 .. 3 that the balls make.
        won: whether you left through the exit.
    """

    context: Level
    square: Int16[Array, ""]
    facing: Int8[Array, ""]
    enemies: Int16[Array, " 4"]
    balls: Int16[Array, " 5"]
    headings: Int8[Array, " 5"]
    won: Bool[Array, ""]
    steps: Int[Array, ""]
    terminated: Bool[Array, ""]
    truncated: Bool[Array, ""]


class Dodgeball(MovingGame):
    """Throw at enemies, dodge their balls and the lava, and reach the exit: after Procgen's dodgeball.

    Two points for an enemy hit. When the last one is gone the exit opens: ten points, and the level is solved. A
    ball that hits you, lava, or running into an enemy is the end. See docs/games/dodgeball.md.

    Args:
        size: H = W, from 9 to 25.
        view, themes: see `BoardGame`.
        max_episode_steps: the step at which an unfinished episode is truncated.

    Raises:
        BadInput: another size.
    """

    name = "dodgeball"
    action_names = (*boards.MOVES, "throw")
    plane_names = ("lava", "exit", "you", "enemies", "balls up", "balls down", "balls left", "balls right")
    tiles = (
        Tile("floor", "·", "#d8d2c4"),
        Tile("lava", "#", "#c8401f"),
        Tile("closed exit", "x", "#7d7468"),
        Tile("open exit", "O", "#2e9e4f"),
        *(
            Tile(f"you, facing {name}", glyph, "#2257b8")
            for name, glyph in zip(boards.MOVES, "^v<>", strict=False)
        ),
        Tile("enemy", "E", "#6b2a86"),
        *(
            Tile(f"{whose} ball, flying {name}", glyph, colour, heading)
            for whose, glyph, colour in (("your", "o", "#58a6ff"), ("an enemy's", "*", "#e0218a"))
            for name, heading in zip(boards.MOVES, "^v<>", strict=False)
        ),
    )

    def __init__(
        self, size: int = 11, view: str = "board", themes: bool = False, max_episode_steps: int = 150
    ) -> None:
        if not _SIZES[0] <= size <= _SIZES[1]:
            raise BadInput(f"dodgeball: size must be from {_SIZES[0]} to {_SIZES[1]}, got {size}")
        super().__init__(size, view, themes, max_episode_steps)

    # ---- levels

    def level(self, key: Key) -> Level:
        keys = jax.random.split(key, 8)
        lava = self._lava(keys[0])
        row, column = jnp.divmod(jnp.arange(self.size**2), self.size)

        def place(key: Key, *wishes: Array) -> Array:
            """A random free square; one on which more wishes hold comes before all others."""
            score = jax.random.uniform(key, row.shape) + sum(wish.astype(jnp.float32) for wish in wishes)
            return jnp.argmax(jnp.where(lava.ravel(), -1.0, score)).astype(jnp.int16)

        start = place(keys[1])
        down, across = jnp.abs(row - row[start]), jnp.abs(column - column[start])
        exit_ = place(keys[2], down + across >= self.size // 2)
        taken = (jnp.arange(self.size**2) == start) | (jnp.arange(self.size**2) == exit_)
        number = jax.random.randint(keys[3], (), FEWEST, ENEMIES + 1)
        enemies = []
        for i, key_enemy in enumerate(jax.random.split(keys[4], ENEMIES)):
            # Not in your row or column, nor next to it: nobody throws at you at once.
            enemy = place(key_enemy, ~taken, ~taken, (down > 1) & (across > 1))
            taken |= jnp.arange(self.size**2) == enemy
            enemies.append(jnp.where(i < number, enemy, _NOWHERE))
        return {
            "lava": lava.astype(jnp.uint8),
            "start": start,
            "facing": jax.random.randint(keys[5], (), 0, 4, jnp.int8),
            "exit": exit_,
            "enemies": jnp.stack(enemies),
            "pace": jax.random.randint(keys[6], (), 0, 3, jnp.int8) + self._flight() + 1,
            "stream": jax.random.bits(keys[7], (), jnp.uint32),
        }

    def _flight(self) -> int:
        """Steps after which a ball has hit lava wherever it was thrown."""
        return -(-(self.size - 2) // BALL_SPEED)

    def _lava(self, key: Key) -> Bool[Array, "H W"]:
        """The rim, and walls inside that leave the floor in one piece."""
        line = jnp.arange(self.size)
        rim = (line == 0) | (line == self.size - 1)

        def wall(lava: Array, key: Key) -> tuple[Array, None]:
            key_corner, key_length, key_along = jax.random.split(key, 3)
            row, column = jax.random.randint(key_corner, (2,), 1, self.size - 1)
            length = jax.random.randint(key_length, (), 2, _LONGEST_WALL + 1)
            tall = jax.random.bernoulli(key_along)
            down, across = jnp.where(tall, length, 1), jnp.where(tall, 1, length)
            rows = (line >= row) & (line < row + down)
            more = lava | (rows[:, None] & (line >= column) & (line < column + across))
            return jnp.where(_in_one_piece(~more), more, lava), None

        return jax.lax.scan(wall, rim[:, None] | rim, jax.random.split(key, self.size // 2 + 1))[0]

    # ---- rules

    def begin(self, context: Level) -> DodgeballState:
        going = jnp.asarray(False)
        return DodgeballState(
            context=context,
            square=context["start"],
            facing=context["facing"],
            enemies=context["enemies"],
            balls=jnp.full(ENEMIES + 1, _NOWHERE, jnp.int16),
            headings=jnp.zeros(ENEMIES + 1, jnp.int8),
            won=going,
            steps=jnp.int32(0),
            terminated=going,
            truncated=going,
        )

    def play(
        self, state: DodgeballState, action: Int[Array, ""]
    ) -> tuple[DodgeballState, Float[Array, ""], Bool[Array, ""]]:
        lava = state.context["lava"].ravel()
        walks = action < STAY
        square = jnp.where(walks, self._next(state.square, action), state.square)
        facing = jnp.where(walks, action, state.facing).astype(jnp.int8)
        dead = (lava[square] > 0) | (state.enemies == square).any()
        new = (action == THROW) & _YOURS & (state.balls == _NOWHERE)
        balls = jnp.where(new, square, state.balls)
        headings = jnp.where(new, facing, state.headings)

        turn = jnp.arange(ENEMIES) == state.steps % state.context["pace"]
        enemies, aims, heading = self._take_turn(state, turn, square)
        enemies, balls, hit = self._fly(lava, enemies, balls, headings, square)
        # A ball lies in the hand of the enemy that throws it for one step, to be seen.
        held = jnp.append(turn & aims & (enemies != _NOWHERE), False)
        balls = jnp.where(held, jnp.append(enemies, jnp.int16(_NOWHERE)), balls)
        headings = jnp.where(held, heading, headings)

        dead |= hit
        killed = ((state.enemies != _NOWHERE) & (enemies == _NOWHERE)).sum()
        won = ~dead & (enemies == _NOWHERE).all() & (square == state.context["exit"])
        after = state._replace(
            square=square, facing=facing, enemies=enemies, balls=balls, headings=headings, won=won
        )
        return after, 2.0 * killed + jnp.where(won, 10.0, 0.0), dead | won

    def _next(self, square: Int16[Array, "*n"], move: Int[Array, "*n"]) -> Int16[Array, "*n"]:
        """The square that a move 0 .. 3 leads to. There is lava on the rim: nothing leaves the board."""
        length = jnp.where(move < 2, self.size, 1).astype(jnp.int16)
        return jnp.where(move % 2 == 0, square - length, square + length)

    def _take_turn(
        self, state: DodgeballState, turn: Bool[Array, " 4"], square: Int16[Array, ""]
    ) -> tuple[Int16[Array, " 4"], Bool[Array, ""], Int8[Array, ""]]:
        """Whose turn it is walks a square, or aims if you are in the same row or column; where to."""
        enemy = jnp.where(turn, state.enemies, 0).sum(dtype=jnp.int16)
        row, column = enemy // self.size, enemy % self.size
        your_row, your_column = square // self.size, square % self.size
        aims = (row == your_row) | (column == your_column)
        across = jnp.where(your_column < column, LEFT, RIGHT)
        heading = jnp.where(row == your_row, across, jnp.where(your_row < row, UP, DOWN))
        way = draw(state.context["stream"], state.steps) >> 30
        target = self._next(enemy, way.astype(jnp.int32))
        lava = state.context["lava"].ravel()[jnp.clip(target, 0, self.size**2 - 1)] > 0
        blocked = lava | (state.enemies == target).any() | (target == square)
        walks = turn & (state.enemies != _NOWHERE) & ~aims & ~blocked
        return jnp.where(walks, target, state.enemies), aims, heading.astype(jnp.int8)

    def _fly(
        self,
        lava: UInt8[Array, " H*W"],
        enemies: Int16[Array, " 4"],
        balls: Int16[Array, " 5"],
        headings: Int8[Array, " 5"],
        square: Int16[Array, ""],
    ) -> tuple[Int16[Array, " 4"], Int16[Array, " 5"], Bool[Array, ""]]:
        """Balls fly square by square until they meet lava, yours an enemy, or theirs you: whether one did."""
        hit = (balls == square) & ~_YOURS
        enemies, balls = _strike(enemies, balls)
        for _ in range(BALL_SPEED):
            ahead = self._next(balls, headings)
            stops = (balls == _NOWHERE) | (lava[jnp.maximum(ahead, 0)] > 0)
            balls = jnp.where(stops, jnp.int16(_NOWHERE), ahead)
            hit |= (balls == square) & ~_YOURS
            enemies, balls = _strike(enemies, balls)
        return enemies, balls, hit.any()

    # ---- what is seen

    def words(self, state: DodgeballState) -> tuple[UInt32[Array, "H W"], UInt32[Array, "H W"]]:
        context = state.context
        turns = (jnp.arange(ENEMIES) - state.steps) % context["pace"] + 1
        front = self._next(state.square, state.facing)
        things = jnp.stack([state.square, front, context["exit"], *state.enemies])
        seen = [in_plane(2, 2), in_plane(2, 1), in_plane(1, jnp.where(_all_gone(state), 2, 1))]
        seen = jnp.concatenate([jnp.stack(seen), in_plane(3, turns)])
        fixed = in_plane(0, context["lava"])
        balls = jnp.where(_YOURS, 1, 2) << 8 * state.headings.astype(jnp.int32)
        flying = put(self.size, state.balls, balls.astype(jnp.uint32))
        return fixed | put(self.size, things, seen), flying

    def picture(self, state: DodgeballState) -> Int8[Array, "H W"]:
        squares = jnp.arange(self.size**2)
        board = state.context["lava"].ravel()
        board = jnp.where(squares == state.context["exit"], jnp.where(_all_gone(state), 3, 2), board)
        board = jnp.where((squares[:, None] == state.enemies).any(1), 8, board)
        board = jnp.where(squares == state.balls[-1], 9 + state.headings[-1], board)
        for ball, heading in zip(state.balls[:-1], state.headings[:-1], strict=True):
            board = jnp.where(squares == ball, 13 + heading, board)
        board = jnp.where(squares == state.square, 4 + state.facing, board)
        return board.reshape(self.size, self.size).astype(jnp.int8)

    def agent(self, state: DodgeballState) -> Position:
        return jnp.stack(jnp.divmod(state.square, self.size)).astype(jnp.int8)

    def solved(self, state: DodgeballState, step: Step) -> Bool[Array, ""]:
        return state.won


def _strike(
    enemies: Int16[Array, " 4"], balls: Int16[Array, " 5"]
) -> tuple[Int16[Array, " 4"], Int16[Array, " 5"]]:
    """Your ball and the enemy on its square are gone."""
    struck = (enemies == balls[-1]) & (enemies != _NOWHERE)
    spent = struck.any() & _YOURS
    nowhere = jnp.int16(_NOWHERE)
    return jnp.where(struck, nowhere, enemies), jnp.where(spent, nowhere, balls)


def _all_gone(state: DodgeballState) -> Bool[Array, ""]:
    return (state.enemies == _NOWHERE).all()


def _in_one_piece(floor: Bool[Array, "H W"]) -> Bool[Array, ""]:
    """Whether every free square of a board with a rim can be reached from every other, by flooding."""
    first = jnp.arange(floor.size).reshape(floor.shape) == jnp.argmax(floor)

    def spread(carry: tuple[Array, Array]) -> tuple[Array, Array]:
        wet, _ = carry
        beside = [jnp.roll(wet, way, axis) for axis in (0, 1) for way in (-1, 1)]
        wider = floor & functools.reduce(jnp.logical_or, beside, wet)
        return wider, (wider != wet).any()

    wet, _ = jax.lax.while_loop(lambda carry: carry[1], spread, (first & floor, jnp.asarray(True)))
    return (wet == floor).all()
