"""Solve families of mazes whose walls differ, up to 1,000 environments of 10,000 states, and measure the growth.

    python benchmarks/solve_large.py                   1,000 environments x 10,000 states to a gap of 5 %
    python benchmarks/solve_large.py --growth          twice the environments, states, actions
    python benchmarks/solve_large.py --environments 100 --side 50 --json large.json

Every environment is a maze of its own on the same board: a random spanning tree of passages, and a share of the other
walls left out. The agent starts in one corner, sees where it is but not which maze it is in (a wall is noticed by
running into it), and is paid 1 when it reaches the opposite corner. Four actions, or eight: four more that try the
next direction where their own is blocked. The gap is relative to the informed value. Times are without compilation,
which a tiny family pays for before.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import resource
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import numba
import numpy as np

from epomdp.exact.family import Family
from epomdp.exact.mdp import optimal_values
from epomdp.exact.solve import solve

COLUMNS = (
    "environments", "states", "actions", "preparation s", "seconds", "backups", "ms / backup", "lower", "upper",
    "relative gap", "status", "peak GB",
)  # fmt: skip


@numba.njit(cache=True)
def carve(side, walls, chances, openness):
    """Open passages of one maze, (cells, 2): to the right and downwards. Kruskal's algorithm on walls in any order."""
    cells = side * side
    parent = np.arange(cells)
    passages = np.zeros((cells, 2), dtype=np.bool_)
    for wall in walls:
        cell, down = wall // 2, wall % 2
        if (down == 1 and cell // side == side - 1) or (down == 0 and cell % side == side - 1):
            continue
        a, b = cell, cell + side if down else cell + 1
        while parent[a] != a:
            parent[a] = parent[parent[a]]
            a = parent[a]
        while parent[b] != b:
            parent[b] = parent[parent[b]]
            b = parent[b]
        parent[a] = b
        passages[cell, down] = a != b or chances[wall] < openness
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
    rng = np.random.default_rng(seed)
    for m in range(environments):
        passages = carve(side, rng.permutation(2 * states), rng.random(2 * states), openness)
        fill(passages, side, num_actions, successors[m], rewards[m])
    return Family(
        np.arange(successors.size + 1, dtype=np.int64),
        successors.reshape(-1),
        np.ones(successors.size),
        rewards,
        np.eye(1, states)[0],
        np.full(environments, 1.0 / environments),
        discount,
    )


def measure(environments: int, side: int, num_actions: int, options: argparse.Namespace) -> dict[str, Any]:
    """Solve one family and say how it went."""
    solve(mazes(4, 12, num_actions, options.openness, options.discount, 0), observe_rewards=False, gap=1e-6)
    family = mazes(environments, side, num_actions, options.openness, options.discount, options.seed)
    informed = float(family.weights @ optimal_values(family) @ family.initial)
    begin = time.perf_counter()
    solution = solve(family, observe_rewards=False, gap=options.gap * informed, time_limit=options.limit)
    seconds = time.perf_counter() - begin
    preparation = float(solution.history[0, 0])
    values = (
        environments, side * side, num_actions, preparation, seconds, solution.iterations,
        1e3 * (seconds - preparation) / max(1, solution.iterations), solution.lower, solution.upper,
        solution.gap / informed, solution.status, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20,
    )  # fmt: skip
    return dict(zip(COLUMNS, values, strict=True))


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--environments", type=int, default=1000)
    parser.add_argument("--side", type=int, default=100, help="of the board: side^2 states")
    parser.add_argument("--actions", type=int, choices=(4, 8), default=4)
    parser.add_argument("--openness", type=float, default=0.1, help="share of walls left out of the tree's")
    parser.add_argument("--discount", type=float, default=0.99)
    parser.add_argument("--gap", type=float, default=0.05, help="relative to the informed value")
    parser.add_argument("--limit", type=float, default=600.0, help="seconds for each family")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--growth", action="store_true", help="a family, and twice of each of its sizes")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    sizes = [(options.environments, options.side, options.actions)]
    if options.growth:
        sizes = [(200, 50, 4), (400, 50, 4), (800, 50, 4), (200, 71, 4), (200, 100, 4), (200, 50, 8)]
    print("| " + " | ".join(COLUMNS) + " |")
    print("| " + " | ".join("---" for _ in COLUMNS) + " |")
    rows = []
    for size in sizes:
        # A process of its own for each, so that its peak of memory is its own.
        context = multiprocessing.get_context("spawn")
        with ProcessPoolExecutor(1, mp_context=context) as pool:
            rows.append(pool.submit(measure, *size, options).result())
        cells = [f"{value:.4g}" if isinstance(value, float) else str(value) for value in rows[-1].values()]
        print("| " + " | ".join(cells) + " |", flush=True)
    if options.json:
        options.json.write_text(json.dumps(rows, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
