"""The published tasks of Bayes-adaptive reinforcement learning, as arrays.

Rewards belong to the state that is left, and no task ends: each one returns to its start from the goal.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

MOVES = np.array([[0, -1], [1, 0], [0, 1], [-1, 0]])  # up, right, down, left as (x, y)


@dataclass(frozen=True)
class Task:
    """A true environment that the agent does not know; it starts in state 0.

    Attributes:
        transitions: (S, A, S) probabilities.
        rewards: (S, A) expected rewards, which the agent is told.
        steps: length of the published experiment.
        published: mean sum of rewards of BAMCP in Guez, Silver and Dayan (2012), table 1.
    """

    transitions: NDArray[np.float64]
    rewards: NDArray[np.float64]
    steps: int
    published: float


def double_loop() -> Task:
    """Two loops of five states through state 0 (Dearden, Friedman, Russell 1998).

    Action 0 enters the right loop (states 1 to 4), which either action follows, for a reward of 1.
    Action 1 enters the left loop (states 5 to 8), which it must keep following, for a reward of 2.
    """
    transitions, rewards = np.zeros((9, 2, 9)), np.zeros((9, 2))
    transitions[0, 0, 1] = transitions[0, 1, 5] = 1
    for state in (1, 2, 3):
        transitions[state, :, state + 1] = 1
    for state in (5, 6, 7):
        transitions[state, 0, 0] = transitions[state, 1, state + 1] = 1
    transitions[[4, 8], :, 0] = 1
    rewards[4], rewards[8] = 1, 2
    return Task(transitions, rewards, 1000, 387.6)


def grid(side: int) -> Task:
    """A square grid from one corner to the opposite one, where the reward of 1 is; moves slip with 0.2."""
    cells = [(x, y) for x in range(side) for y in range(side)]
    index = {cell: i for i, cell in enumerate(cells)}
    S = len(cells)
    transitions, rewards = np.zeros((S, 4, S)), np.zeros((S, 4))
    for cell, action, direction, chance in _slips(cells, 0.2):
        arrival = tuple(int(c) for c in np.add(cell, MOVES[direction]))
        transitions[index[cell], action, index.get(arrival, index[cell])] += chance
    transitions[-1] = np.eye(S)[0]
    rewards[-1] = 1
    return Task(transitions, rewards, 1000 if side == 5 else 2000, 72.9 if side == 5 else 32.7)


MAZE = ["S#F.#.G", ".#..#..", ".......", "##...##", "......F", "F.....#"]


def maze() -> Task:
    """Dearden's maze: collect up to three flags F, a reward of 1 each at the goal G; moves slip with 0.1.

    A state is a free cell and the set of flags held; the goal leads back to the start without flags.
    """
    cells = [(x, y) for x in range(7) for y in range(6) if MAZE[y][x] != "#"]
    flags = {cell: 1 << i for i, cell in enumerate([(0, 5), (2, 0), (6, 4)])}
    index = {(cell, held): 8 * i + held for i, cell in enumerate(cells) for held in range(8)}
    goal, S = (6, 0), len(index)
    transitions, rewards = np.zeros((S, 4, S)), np.zeros((S, 4))
    for cell, action, direction, chance in _slips(cells, 0.1):
        arrival = tuple(int(c) for c in np.add(cell, MOVES[direction]))
        arrival = arrival if arrival in cells else cell
        for held in range(8):
            after = index[arrival, held | flags.get(arrival, 0)]
            transitions[index[cell, held], action, after] += chance
    for held in range(8):
        transitions[index[goal, held]] = np.eye(S)[0]
        rewards[index[goal, held]] = held.bit_count()
    return Task(transitions, rewards, 20_000, 965.2)


def _slips(cells, slip):
    """(cell, action, direction really moved, its probability): a slip turns the move by a right angle."""
    for cell in cells:
        for action in range(4):
            yield cell, action, action, 1 - slip
            yield cell, action, (action + 1) % 4, slip / 2
            yield cell, action, (action - 1) % 4, slip / 2


TASKS = {"double-loop": double_loop, "grid5": lambda: grid(5), "grid10": lambda: grid(10), "maze": maze}
