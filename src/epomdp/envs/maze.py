"""Maze: find the goal in a perfect maze; and how perfect mazes are made, which Heist uses as well."""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import numpy.typing as npt
from jaxtyping import Array, Bool, Float, Int, Int8, Int16, UInt8

from epomdp.envs.base import Key
from epomdp.envs.boards import MOVES, BoardGame, Level, Position, Tile, at, moved
from epomdp.errors import BadInput

FAR = 10_000  # further than any way on a board; twice as far still fits into int16
_SMALLEST = 3  # cells on a side of the smallest maze


class MazeState(NamedTuple):
    """The level, where the agent is, and how the episode stands."""

    context: Level
    agent: Position
    steps: Int[Array, ""]
    terminated: Bool[Array, ""]
    truncated: Bool[Array, ""]


class Maze(BoardGame):
    """Walk to the goal of a perfect maze: 10 and the end there, nothing on the way.

    A level varies the maze's side (3 cells up to all that fit), where it lies on the board, its passages, the
    start and the goal. After Procgen's Maze (Cobbe et al. 2020, https://arxiv.org/abs/1912.01588).

    Args:
        size: the board's side in squares, odd; mazes have up to (size - 1) / 2 cells on a side.
        view, themes: see `BoardGame`.
        max_episode_steps: by default size ** 2, which is more than any level needs.
    """

    name = "maze"
    action_names = MOVES[:4]
    plane_names = ("wall", "goal", "agent")
    tiles = (
        Tile("floor", " ", "#f4efe6"),
        Tile("wall", "#", "#4a4e69"),
        Tile("goal", "*", "#e9a23b"),
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
        edges, squares = edge_count(self.size), self.size**2
        random = jax.random.uniform(key, (3 + edges + 2 * squares,))
        walls, cells = carve(random[: 3 + edges], self.size)
        start, goal, _ = far_apart(random[3 + edges :], walls, cells)
        return {"walls": walls, "start": start, "goal": goal, "way": way(distances(walls, goal))}

    def begin(self, context: Level) -> MazeState:
        going = jnp.asarray(False)
        return MazeState(context, context["start"], jnp.asarray(0, jnp.int32), going, going)

    def play(
        self, state: MazeState, action: Int[Array, ""]
    ) -> tuple[MazeState, Float[Array, ""], Bool[Array, ""]]:
        target = moved(state.agent, action)
        wall = state.context["walls"][target[0], target[1]] == 1
        agent = jnp.where(wall, state.agent, target)
        found = (agent == state.context["goal"]).all()
        return state._replace(agent=agent), jnp.where(found, 10.0, 0.0), found

    def planes(self, state: MazeState) -> tuple[Array, ...]:
        goal = at(state.context["goal"], self.size)
        return state.context["walls"], goal, at(state.agent, self.size)

    def picture(self, state: MazeState) -> Int8[Array, "H W"]:
        walls, goal, agent = self.planes(state)
        return jnp.where(agent, 3, jnp.where(goal, 2, walls)).astype(jnp.int8)

    def agent(self, state: MazeState) -> Position:
        return state.agent

    def optimal(self, state: MazeState) -> Int[Array, ""]:
        """The first move of the shortest way to the goal."""
        return state.context["way"][state.agent[0], state.agent[1]].astype(jnp.int32)

    def mistake(self, before: MazeState, action: Int[Array, ""]) -> Bool[Array, ""]:
        """Exact: in a perfect maze there is one best move on every square."""
        return action != self.optimal(before)


# ---- perfect mazes


def check_size(name: str, size: int) -> None:
    """Refuse a board on which a maze of 3 x 3 cells does not fit, or walls would not close."""
    if size < 2 * _SMALLEST + 1 or size % 2 == 0:
        raise BadInput(f"{name}: size must be odd and at least {2 * _SMALLEST + 1}, got {size}")


def carve(random: Float[Array, " n"], size: int) -> tuple[UInt8[Array, "H W"], Bool[Array, "H W"]]:
    """A perfect maze of random side, somewhere on a board that is wall elsewhere.

    Cells are the squares with odd coordinates. The passages are the minimum spanning tree of the grid of cells
    under independent random weights: the maze that Kruskal's algorithm makes when it meets the walls in random
    order, as Procgen's does. It is grown here by Prim's algorithm, whose steps have a fixed shape.

    Args:
        random: 3 + `edge_count(size)` numbers, uniform in [0, 1): for the side, for the row and column of the
            corner, and the weights, row by row, first of the passages across, then of those down.

    Returns:
        walls, 1 on wall squares; and which squares are cells of the maze.
    """
    most = (size - 1) // 2
    side = _SMALLEST + scaled(random[0], most - _SMALLEST + 1)
    corner = scaled(random[1:3], most - side + 1)
    line = jnp.arange(most)
    rows, columns = ((line >= first) & (line < first + side) for first in corner)
    inside = (rows[:, None] & columns).reshape(-1)

    ends = _edges(most)
    usable = inside[ends[:, 0]] & inside[ends[:, 1]]
    weights = jnp.where(usable, random[3:], jnp.inf)
    passages = _spanning_tree(ends, weights, inside)

    square = 2 * (np.arange(most**2) // most) + 1, 2 * (np.arange(most**2) % most) + 1
    between = (square[0][ends].sum(1) // 2, square[1][ends].sum(1) // 2)
    nothing = jnp.zeros((size, size), bool)
    cells = nothing.at[square].set(inside)
    floor = cells.at[between].set(passages)
    return (~floor).astype(jnp.uint8), cells


def edge_count(size: int) -> int:
    """Pairs of neighbouring cells on a board."""
    return len(_edges((size - 1) // 2))


def scaled(random: Float[Array, "*n"], count: int | Int[Array, ""]) -> Int[Array, "*n"]:
    """Integers 0 .. count - 1 from numbers in [0, 1)."""
    return jnp.floor(random * count).astype(jnp.int32)


def _edges(most: int) -> npt.NDArray[np.int64]:
    """(E, 2) pairs of neighbours among most x most cells, numbered row by row."""
    number = np.arange(most**2).reshape(most, most)
    across = np.stack([number[:, :-1].ravel(), number[:, 1:].ravel()], 1)
    down = np.stack([number[:-1].ravel(), number[1:].ravel()], 1)
    return np.concatenate([across, down])


def _spanning_tree(
    ends: npt.NDArray[np.int64], weights: Float[Array, " E"], inside: Bool[Array, " K"]
) -> Bool[Array, " E"]:
    """Prim: from one cell, take the lightest edge that leaves what is reached until all cells inside are."""
    numbers = jnp.arange(len(ends))
    cells = jnp.arange(inside.shape[0])

    def grow(_, grown):
        reached, tree = grown
        leaving = jnp.where(reached[ends[:, 0]] ^ reached[ends[:, 1]], weights, jnp.inf)
        lightest = jnp.argmin(leaving)
        more = jnp.isfinite(leaving[lightest])
        tree = tree | ((numbers == lightest) & more)
        new = (cells == jnp.asarray(ends)[lightest, 0]) | (cells == jnp.asarray(ends)[lightest, 1])
        return reached | (new & more), tree

    first = cells == jnp.argmax(inside)
    return jax.lax.fori_loop(0, inside.shape[0] - 1, grow, (first, jnp.zeros(len(ends), bool)))[1]


def distances(walls: UInt8[Array, "H W"], target: Position) -> Int16[Array, "H W"]:
    """Moves from every square to `target`; 10,000 on walls and wherever no way leads."""
    size = walls.shape[0]
    start = jnp.where(at(target, size), 0, FAR).astype(jnp.int16)

    def closer(field):
        return jnp.where(walls == 1, FAR, jnp.minimum(field, 1 + _beside(field).min(0))).astype(jnp.int16)

    def relax(carry):
        field, _ = carry
        nearer = closer(field)
        return nearer, (nearer != field).any()

    return jax.lax.while_loop(lambda carry: carry[1], relax, (start, jnp.asarray(True)))[0]


def way(field: Int16[Array, "H W"]) -> UInt8[Array, "H W"]:
    """The move that leads closer, on every square of a field of distances."""
    return jnp.argmin(_beside(field), 0).astype(jnp.uint8)


def _beside(field: Int16[Array, "H W"]) -> Int16[Array, "4 H W"]:
    """The field's value one move away, in the order of MOVES; the board's rim is wall, so nothing wraps."""
    return jnp.stack([jnp.roll(field, shift, axis) for shift, axis in ((1, 0), (-1, 0), (1, 1), (-1, 1))])


def choose(random: Float[Array, " n"], among: Bool[Array, "H W"]) -> Position:
    """One of the squares marked, all equally likely, by a number in [0, 1) for every square."""
    score = jnp.where(among.reshape(-1), random, -1.0)
    return jnp.stack(jnp.divmod(jnp.argmax(score), among.shape[1])).astype(jnp.int8)


def far_apart(
    random: Float[Array, " n"], walls: UInt8[Array, "H W"], cells: Bool[Array, "H W"]
) -> tuple[Position, Position, Int16[Array, "H W"]]:
    """A start in any cell, and a goal in any other at least a third as far away as the furthest.

    Args:
        random: two numbers in [0, 1) for every square.

    Returns:
        start, goal, and the distances from the start.
    """
    for_start, for_goal = random.reshape(2, -1)
    start = choose(for_start, cells)
    field = distances(walls, start)
    away = jnp.where(cells, field, 0)
    return start, choose(for_goal, (away > 0) & (3 * away >= away.max())), field
