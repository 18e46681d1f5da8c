"""Dodgeball: hit every enemy with your ball, keep off the lava and out of the way of theirs, then leave."""

from __future__ import annotations

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, Int8, UInt32

from epomdp.envs import boards
from epomdp.envs.base import Key, Step
from epomdp.envs.boards import DELTAS, Level, Position, Tile
from epomdp.envs.moving import MovingGame, draw
from epomdp.errors import BadInput

ENEMIES = 4  # at most
FEWEST = 2
BALL_SPEED = 2  # squares in a step
STAY, THROW = 4, 5

_SIZES = (9, 25)  # smaller boards have no room, on larger ones the turns need more bits
_NOWHERE = -1  # both coordinates of what is not on the board
_LONGEST_WALL = 5


class DodgeballState(NamedTuple):
    """You, the enemies, and the balls in the air.

    Attributes:
        facing: where you throw: 0 .. 3, a move.
        enemies: (4, 2) squares, (-1, -1) for one that is not there.
        balls: (5, 2) squares likewise: each enemy's ball, then yours.
        headings: (5,) the moves 0 .. 3 that the balls make.
        won: whether you left through the exit.
    """

    context: Level
    position: Position
    facing: Int8[Array, ""]
    enemies: Int8[Array, "4 2"]
    balls: Int8[Array, "5 2"]
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
    plane_bits = (1, 2, 2, 4, 2, 2, 2, 2)
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
        Tile("your ball", "o", "#58a6ff"),
        Tile("an enemy's ball", "*", "#e0218a"),
    )

    def __init__(
        self, size: int = 11, view: str = "board", themes: bool = False, max_episode_steps: int = 150
    ) -> None:
        if not _SIZES[0] <= size <= _SIZES[1]:
            raise BadInput(f"dodgeball: size must be from {_SIZES[0]} to {_SIZES[1]}, got {size}")
        super().__init__(size, view, themes, max_episode_steps)

    # ---- levels

    def level(self, key: Key) -> Level:
        keys = jax.random.split(key, 9)
        lava = self._lava(keys[0])
        line = jnp.arange(self.size)

        def place(key: Key, *wishes: Array) -> Position:
            """A random free square; one on which more wishes hold comes before all others."""
            score = jax.random.uniform(key, lava.shape) + sum(wish.astype(jnp.float32) for wish in wishes)
            square = jnp.argmax(jnp.where(lava, -1.0, score))
            return jnp.stack([square // self.size, square % self.size]).astype(jnp.int8)

        start = place(keys[1])
        down, across = jnp.abs(line - start[0])[:, None], jnp.abs(line - start[1])
        exit_ = place(keys[2], down + across >= self.size // 2)
        taken = boards.at(start, self.size) | boards.at(exit_, self.size)
        number = jax.random.randint(keys[3], (), FEWEST, ENEMIES + 1)
        enemies = []
        for i, key_enemy in enumerate(jax.random.split(keys[4], ENEMIES)):
            # Not in your row or column, nor next to it: nobody throws at you at once.
            enemy = place(key_enemy, ~taken, ~taken, (down > 1) & (across > 1))
            taken |= boards.at(enemy, self.size)
            enemies.append(jnp.where(i < number, enemy, _NOWHERE))
        return {
            "lava": (lava.astype(jnp.uint32) << line.astype(jnp.uint32)).sum(1, dtype=jnp.uint32),
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
        nothing = jnp.full((ENEMIES + 1, 2), _NOWHERE, jnp.int8)
        return DodgeballState(
            context,
            context["start"],
            context["facing"],
            context["enemies"],
            nothing,
            jnp.zeros(ENEMIES + 1, jnp.int8),
            going,
            jnp.int32(0),
            going,
            going,
        )

    def play(
        self, state: DodgeballState, action: Int[Array, ""]
    ) -> tuple[DodgeballState, Float[Array, ""], Bool[Array, ""]]:
        context = state.context
        position = boards.moved(state.position, jnp.minimum(action, STAY))
        facing = jnp.where(action < STAY, action, state.facing).astype(jnp.int8)
        dead = _burns(context["lava"], position) | _same(state.enemies, position).any()
        throws = (action == THROW) & (state.balls[-1, 0] == _NOWHERE)
        new = throws & (jnp.arange(ENEMIES + 1) == ENEMIES)
        balls = jnp.where(new[:, None], position, state.balls)
        headings = jnp.where(new, facing, state.headings)

        turn = jnp.arange(ENEMIES) == state.steps % context["pace"]
        enemies, aims = _take_turn(state, turn, position)
        enemies, balls, hit = _fly(context["lava"], enemies, balls, headings, position)
        # The ball of an enemy that throws lies in its hand for one step, to be seen.
        aims = turn & aims & (enemies[:, 0] != _NOWHERE)
        balls = balls.at[:ENEMIES].set(jnp.where(aims[:, None], enemies, balls[:ENEMIES]))
        actor = jnp.where(turn[:, None], enemies, 0).sum(0, dtype=jnp.int8)
        headings = headings.at[:ENEMIES].set(jnp.where(aims, _towards(actor, position), headings[:ENEMIES]))

        dead |= hit
        left = enemies[:, 0] != _NOWHERE
        killed = (state.enemies[:, 0] != _NOWHERE).sum() - left.sum()
        won = ~dead & ~left.any() & (position == context["exit"]).all()
        after = state._replace(
            position=position, facing=facing, enemies=enemies, balls=balls, headings=headings, won=won
        )
        return after, 2.0 * killed + jnp.where(won, 10.0, 0.0), dead | won

    # ---- what is seen

    def planes(self, state: DodgeballState) -> tuple[Array, ...]:
        def at(square: Position) -> Bool[Array, "H W"]:
            return boards.at(square, self.size)

        context = state.context
        front = at(boards.moved(state.position, state.facing))
        turns = (jnp.arange(ENEMIES) - state.steps) % context["pace"] + 1
        enemies = jax.vmap(at)(state.enemies) * turns[:, None, None]
        squares = [at(ball) for ball in state.balls]

        def balls(heading: int) -> Array:
            """1 for yours, 2 for theirs, 3 for both."""
            theirs = sum(squares[i] & (state.headings[i] == heading) for i in range(ENEMIES)) > 0
            return 2 * theirs + (squares[-1] & (state.headings[-1] == heading))

        return (
            self._floor(context["lava"]),
            jnp.where(at(context["exit"]), jnp.where(_all_gone(state), 2, 1), 0),
            jnp.where(at(state.position), 2, front),
            enemies.sum(0),
            *(balls(heading) for heading in range(4)),
        )

    def picture(self, state: DodgeballState) -> Int8[Array, "H W"]:
        def at(square: Position) -> Bool[Array, "H W"]:
            return boards.at(square, self.size)

        board = self._floor(state.context["lava"])
        board = jnp.where(at(state.context["exit"]), jnp.where(_all_gone(state), 3, 2), board)
        for enemy in state.enemies:
            board = jnp.where(at(enemy), 8, board)
        board = jnp.where(at(state.balls[-1]), 9, board)
        for ball in state.balls[:ENEMIES]:
            board = jnp.where(at(ball), 10, board)
        return jnp.where(at(state.position), 4 + state.facing, board).astype(jnp.int8)

    def _floor(self, lava: UInt32[Array, " H"]) -> UInt32[Array, "H W"]:
        return (lava[:, None] >> jnp.arange(self.size, dtype=jnp.uint32)) & 1

    def agent(self, state: DodgeballState) -> Position:
        return state.position

    def solved(self, state: DodgeballState, step: Step) -> Bool[Array, ""]:
        return state.won


def _take_turn(
    state: DodgeballState, turn: Bool[Array, " 4"], position: Position
) -> tuple[Int8[Array, "4 2"], Bool[Array, ""]]:
    """The enemy whose turn it is walks a square, or aims if you are in its row or column."""
    enemy = jnp.where(turn[:, None], state.enemies, 0).sum(0, dtype=jnp.int8)
    there = (turn & (state.enemies[:, 0] != _NOWHERE)).any()
    aims = there & (enemy == position).any()
    direction = (draw(state.context["stream"], state.steps) >> 30).astype(jnp.int32)
    target = boards.moved(enemy, direction)
    blocked = (
        _burns(state.context["lava"], target)
        | _same(state.enemies, target).any()
        | (target == position).all()
    )
    walks = there & ~aims & ~blocked
    return jnp.where((turn & walks)[:, None], target, state.enemies), aims


def _fly(
    lava: UInt32[Array, " H"],
    enemies: Int8[Array, "4 2"],
    balls: Int8[Array, "5 2"],
    headings: Int8[Array, " 5"],
    position: Position,
) -> tuple[Int8[Array, "4 2"], Int8[Array, "5 2"], Bool[Array, ""]]:
    """Balls fly square by square until they hit; whether one hit you."""
    hit = _same(balls[:ENEMIES], position).any()
    enemies, balls = _strike(enemies, balls)
    deltas = jnp.asarray(DELTAS)[headings]
    for _ in range(BALL_SPEED):
        flies = balls[:, 0] != _NOWHERE
        ahead = balls + deltas
        stays = flies & ~_burns(lava, ahead.T)
        balls = jnp.where(stays[:, None], ahead, _NOWHERE)
        hit |= _same(balls[:ENEMIES], position).any()
        enemies, balls = _strike(enemies, balls)
    return enemies, balls, hit


def _strike(
    enemies: Int8[Array, "4 2"], balls: Int8[Array, "5 2"]
) -> tuple[Int8[Array, "4 2"], Int8[Array, "5 2"]]:
    """Your ball and the enemy on its square are gone."""
    struck = _same(enemies, balls[-1]) & (balls[-1, 0] != _NOWHERE)
    spent = struck.any() & (jnp.arange(ENEMIES + 1) == ENEMIES)
    return jnp.where(struck[:, None], _NOWHERE, enemies), jnp.where(spent[:, None], _NOWHERE, balls)


def _same(squares: Int8[Array, "n 2"], square: Position) -> Bool[Array, " n"]:
    return (squares == square).all(-1)


def _burns(lava: UInt32[Array, " H"], square: Int8[Array, "2 ..."]) -> Bool[Array, ...]:
    """Whether a square is lava: bit (column) of word (row), picked by a mask, since gathers are slow."""
    row, column = square.astype(jnp.int32)
    word = jnp.where(jnp.arange(lava.shape[0]) == row[..., None], lava, 0).sum(-1, dtype=jnp.uint32)
    return (word >> jnp.maximum(column, 0).astype(jnp.uint32)) & 1 == 1


def _towards(enemy: Position, you: Position) -> Int8[Array, ""]:
    """The move from an enemy to you, who are in its row or column."""
    up_down = jnp.where(you[0] < enemy[0], 0, 1)
    left_right = jnp.where(you[1] < enemy[1], 2, 3)
    return jnp.where(you[0] == enemy[0], left_right, up_down).astype(jnp.int8)


def _all_gone(state: DodgeballState) -> Bool[Array, ""]:
    return (state.enemies[:, 0] == _NOWHERE).all()


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
