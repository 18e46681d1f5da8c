"""Heist: coloured keys open coloured locks on the way to the gem, in a perfect maze."""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int, Int8, Int16, UInt8

from epomdp.envs.base import Key
from epomdp.envs.boards import MOVES, BoardGame, Level, Position, Tile, at, moved, pack
from epomdp.envs.maze import FAR, carve, check_size, choose, distances, edge_count, far_apart, scaled, way

LOCKS = 3  # the most there are in a level
_COLOURS = ("red", "green", "blue")
# What a square holds is a byte: a bit for the wall, the gem, each key and each lock.
WALL = 1
GEM = 1 << 1
KEYS = tuple(1 << (2 + colour) for colour in range(LOCKS))
LOCK_OVER_KEY = 3  # bits from a key's to its lock's
_ALL_KEYS = sum(KEYS)
_ALL_LOCKS = _ALL_KEYS << LOCK_OVER_KEY


class HeistState(NamedTuple):
    """The level, where the agent is, the bits of keys taken and locks opened, and how the episode stands."""

    context: Level
    agent: Position
    cleared: UInt8[Array, ""]
    steps: Int[Array, ""]
    terminated: Bool[Array, ""]
    truncated: Bool[Array, ""]


class Heist(BoardGame):
    """Take the keys, pass the locks, reach the gem: 10 and the end there, nothing on the way.

    The way from the start to the gem is barred by 0 to 3 locks: red, then green, then blue. Walking over a key
    takes it; a lock lets nobody through who has not its key, and vanishes when it is passed. Each key lies before
    its own lock and behind the one before. After Procgen's Heist (Cobbe et al. 2020,
    https://arxiv.org/abs/1912.01588).

    A coloured square of the observation is a key where the plane "key" is set, and a lock elsewhere. A key that
    is not on the board any more is in hand.

    Args:
        size: the board's side in squares, odd; mazes have up to (size - 1) / 2 cells on a side.
        view, themes: see `BoardGame`.
        max_episode_steps: by default size ** 2, which is more than any level needs.
    """

    name = "heist"
    action_names = MOVES[:4]
    plane_names = ("wall", "key", *_COLOURS, "gem", "agent")
    tiles = (
        Tile("floor", " ", "#f4efe6"),
        Tile("wall", "#", "#4a4e69"),
        Tile("gem", "*", "#e9a23b"),
        Tile("red key", "r", "#e34948"),
        Tile("green key", "g", "#3f9b45"),
        Tile("blue key", "b", "#5b50c9"),
        Tile("red lock", "R", "#e34948"),
        Tile("green lock", "G", "#3f9b45"),
        Tile("blue lock", "B", "#5b50c9"),
        Tile("agent", "@", "#2a78d6"),
    )

    def __init__(
        self,
        size: int = 11,
        view: str = "board",
        themes: bool = False,
        max_episode_steps: int | None = None,
    ) -> None:
        check_size(self.name, size)
        limit = size**2 if max_episode_steps is None else max_episode_steps
        super().__init__(size, view, themes, limit)

    def level(self, key: Key) -> Level:
        edges, squares, passages = edge_count(self.size), self.size**2, (self.size // 2) ** 2
        random = jax.random.uniform(key, (4 + edges + passages + (2 + LOCKS) * squares,))
        number, for_maze, for_locks, for_ends, for_keys = jnp.split(
            random, np.cumsum([1, 3 + edges, passages, 2 * squares])
        )
        walls, cells = carve(for_maze, self.size)
        start, gem, from_start = far_apart(for_ends, walls, cells)
        from_gem = distances(walls, gem)
        length = from_start[gem[0], gem[1]]
        barred = _barred(for_locks, length, scaled(number[0], LOCKS + 1))
        there = (barred < length)[:, None, None]
        locks = there & (from_start == barred[:, None, None]) & (from_start + from_gem == length)
        free = cells & ~at(start, self.size) & _parts(from_start, from_gem, length, barred)
        keys = jax.vmap(choose)(for_keys.reshape(LOCKS, squares), free)
        lying = there & jax.vmap(at, (0, None))(keys, self.size)
        board = pack((walls, at(gem, self.size), *lying, *locks))
        targets = jnp.where(there[..., 0], keys, gem)
        return {"board": board, "start": start, "way": _ways(walls, jnp.concatenate([targets, gem[None]]))}

    def begin(self, context: Level) -> HeistState:
        going = jnp.asarray(False)
        nothing = jnp.asarray(0, jnp.uint8)
        return HeistState(context, context["start"], nothing, jnp.asarray(0, jnp.int32), going, going)

    def play(
        self, state: HeistState, action: Int[Array, ""]
    ) -> tuple[HeistState, Float[Array, ""], Bool[Array, ""]]:
        target = moved(state.agent, action)
        square = state.context["board"][target[0], target[1]]
        shut = (square >> LOCK_OVER_KEY) & _ALL_KEYS & ~state.cleared
        enters = ((square & WALL) | shut) == 0
        taken = jnp.where(enters, square & (_ALL_KEYS | _ALL_LOCKS), 0).astype(jnp.uint8)
        agent = jnp.where(enters, target, state.agent)
        found = enters & (square & GEM != 0)
        state = state._replace(agent=agent, cleared=state.cleared | taken)
        return state, jnp.where(found, 10.0, 0.0), found

    def planes(self, state: HeistState) -> tuple[Array, ...]:
        board = state.context["board"] & ~state.cleared
        coloured = [board & (key | key << LOCK_OVER_KEY) != 0 for key in KEYS]
        lying = board & _ALL_KEYS != 0
        return board & WALL, lying, *coloured, board & GEM != 0, at(state.agent, self.size)

    def picture(self, state: HeistState) -> Int8[Array, "H W"]:
        board = state.context["board"] & ~state.cleared
        # Tiles are in the order of the bits, with the floor before them and the agent after.
        things = jnp.where(board == 0, 0, 8 - jax.lax.clz(board).astype(jnp.int8))
        return jnp.where(at(state.agent, self.size), len(self.tiles) - 1, things).astype(jnp.int8)

    def agent(self, state: HeistState) -> Position:
        return state.agent

    def optimal(self, state: HeistState) -> Int[Array, ""]:
        """The first move of the shortest way to the next key, or to the gem with all of them in hand."""
        moves = state.context["way"][state.agent[0], state.agent[1]].astype(jnp.int32)
        held = jax.lax.population_count(state.cleared & _ALL_KEYS).astype(jnp.int32)
        return (moves >> 2 * held) & 3

    def mistake(self, before: HeistState, action: Int[Array, ""]) -> Bool[Array, ""]:
        """Exact: with the keys in their order on a tree of passages, there is one best move at any time."""
        return action != self.optimal(before)


# ---- where locks and keys go


def _barred(
    random: Float[Array, " n"], length: Int[Array, ""], number: Int[Array, ""]
) -> Int16[Array, " locks"]:
    """How far from the start, on the way to the gem, each lock is; FAR where there is none.

    Locks are on different passages of the way, all choices equally likely; never on the first, before which a
    key would not fit. A way too short for `number` locks has fewer.
    """
    along = 2 * jnp.arange(random.shape[0], dtype=jnp.int16) + 1  # cells lie at even distances
    usable = (along > 1) & (along < length)
    score = jnp.where(usable, random, 1.0)
    chosen = usable & ((score < score[:, None]).sum(1) < number)
    place = jnp.cumsum(chosen) == jnp.arange(1, LOCKS + 1)[:, None]
    barred = jnp.where(chosen & place, along, FAR).min(1)
    return jnp.where(jnp.arange(LOCKS) < number, barred, FAR).astype(jnp.int16)


def _parts(
    from_start: Int16[Array, "H W"],
    from_gem: Int16[Array, "H W"],
    length: Int[Array, ""],
    barred: Int16[Array, " locks"],
) -> Bool[Array, "locks H W"]:
    """For each lock, the squares before it and behind the lock before.

    In a tree, x leaves the way from start to gem at (d(start, x) - d(gem, x) + length) / 2 from the start, and
    is behind every lock nearer than that.
    """
    behind = from_start - from_gem + length > 2 * barred[:, None, None]
    return behind.sum(0) == jnp.arange(LOCKS)[:, None, None]


def _ways(walls: UInt8[Array, "H W"], targets: Int8[Array, "stages 2"]) -> UInt8[Array, "H W"]:
    """The moves towards each target in one byte, two bits each, the first target in the lowest."""
    ways = jax.vmap(lambda target: way(distances(walls, target)))(targets)
    return (ways << (2 * jnp.arange(LOCKS + 1, dtype=jnp.uint8))[:, None, None]).sum(0, dtype=jnp.uint8)
