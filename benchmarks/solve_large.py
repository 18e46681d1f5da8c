"""Solve families of mazes whose walls differ, up to 1,000 environments of 10,000 states, and measure the growth.

    python benchmarks/solve_large.py                      1,000 environments x 10,000 states to a gap of 5 %
    python benchmarks/solve_large.py --growth             twice the environments, states, actions
    python benchmarks/solve_large.py --environments 100 --side 50 --json large.json

Every environment is a maze of its own on the same board: a random spanning tree of the passages, and a share of the
other walls open. The agent starts in one corner, knows where it is but not which maze it is in, and is paid 1 when
it reaches the opposite corner. Four actions, or eight (`--actions 8`: the same four, and four that try a second
direction where the first is blocked).
"""

from __future__ import annotations

import argparse
import resource
import time

import numba
import numpy as np

from epomdp.exact.family import Family
from epomdp.exact.solve import solve

MOVES = ((-1, 0), (0, 1), (1, 0), (0, -1))


@numba.njit(cache=True)
def carve(side, openness, seed):
    """Open passages of one maze, (cells, 2): to the right and downwards. Kruskal's algorithm on random walls."""
    np.random.seed(seed)
    cells = side * side
    walls = np.random.permutation(2 * cells)
    parent = np.arange(cells)
    passages = np.zeros((cells, 2), dtype=np.bool_)
    for wall in walls:
        cell, down = wall // 2, wall % 2
        row, column = cell // side, cell % side
        if (down == 1 and row == side - 1) or (down == 0 and column == side - 1):
            continue
        other = cell + side if down else cell + 1
        a, b = cell, other
        while parent[a] != a:
            parent[a] = parent[parent[a]]
            a = parent[a]
        while parent[b] != b:
            parent[b] = parent[parent[b]]
            b = parent[b]
        if a != b:
            parent[a] = b
            passages[cell, down] = True
        elif np.random.random() < openness:
            passages[cell, down] = True
    return passages


@numba.njit(cache=True)
def fill(passages, side, num_actions, successors, rewards):
    """Successors (S, A) and rewards (S, A) of one maze; the last cell is the goal, and absorbing."""
    cells = side * side
    for cell in range(cells - 1):
        for action in range(num_actions):
            target = cell
            for attempt in range(1 + action // 4):
                direction = (action + attempt) % 4
                if target != cell:
                    continue
                if direction == 0 and cell >= side and passages[cell - side, 1]:
                    target = cell - side
                elif direction == 1 and passages[cell, 0]:
                    target = cell + 1
                elif direction == 2 and passages[cell, 1]:
                    target = cell + side
                elif direction == 3 and cell % side > 0 and passages[cell - 1, 0]:
                    target = cell - 1
            successors[cell, action] = target
            rewards[cell, action] = 1.0 if target == cells - 1 else 0.0
    for action in range(num_actions):
        successors[cells - 1, action] = cells - 1


def mazes(
    environments: int, side: int, num_actions: int, openness: float, discount: float, seed: int
) -> Family:
    """The family, built in its sparse form."""
    states = side * side
    successors = np.zeros((environments, states, num_actions), dtype=np.int32)
    rewards = np.zeros((environments, states, num_actions))
    for m in range(environments):
        fill(carve(side, openness, seed * environments + m), side, num_actions, successors[m], rewards[m])
    return Family(
        np.arange(successors.size + 1, dtype=np.int64),
        successors.reshape(-1),
        np.ones(successors.size),
        rewards,
        np.eye(1, states)[0],
        np.full(environments, 1.0 / environments),
        discount,
    )


def measure(
    environments: int, side: int, num_actions: int, options: argparse.Namespace
) -> dict[str, float | str]:
    """Solve one family and say how it went."""
    family = mazes(environments, side, num_actions, options.openness, options.discount, options.seed)
    size = float(family.weights @ family.rewards.max(axis=(1, 2)))
    begin = time.perf_counter()
    first: list[float] = []
    solution = solve(
        family,
        observe_rewards=False,
        gap=options.gap * size * options.scale,
        time_limit=options.limit,
        callback=lambda progress: first.append(progress.seconds) if not first else None,
    )
    seconds = time.perf_counter() - begin
    return {
        "environments": environments,
        "states": side * side,
        "actions": num_actions,
        "preparation": first[0] if first else seconds,
        "seconds": seconds,
        "lower": solution.lower,
        "upper": solution.upper,
        "relative gap": solution.gap / abs(solution.upper),
        "trials": solution.iterations,
        "status": solution.status,
        "peak GB": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20,
    }
