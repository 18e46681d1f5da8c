"""R(a, s, s', o) folded to R(s, a), without ever making the table of all four."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from typing import NamedTuple

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

# Cells (s, s', o) looked up at a time.
_BLOCK = 1 << 20

# Reward of each (a, s, s', o) given by four arrays (n,).
Reward = Callable[[NDArray, NDArray, NDArray, NDArray], NDArray[np.float64]]


class Depth(NamedTuple):
    """What a reward depends on besides action and state: the next state, the observation."""

    next_state: bool
    observation: bool


def expected_rewards(
    reward: Reward,
    depth: Depth,
    transitions: tuple[sp.csr_array, ...],
    observations: tuple[sp.csr_array, ...],
) -> NDArray[np.float64]:
    """(S, A) expectation of the reward over the next state and the observation.

    R(s, a) = sum_s' T(s' | s, a) sum_o O(o | s', a) R(a, s, s', o). Only cells of probability above zero
    are looked up, and only as deep as the reward depends on them.

    Args:
        reward: what each (a, s, s', o) brings.
        depth: what it depends on.
        transitions: A matrices (S, S).
        observations: A matrices (S, O).
    """
    S = len(transitions[0].indptr) - 1
    rewards = np.zeros((S, len(transitions)))
    for a, (T, O) in enumerate(zip(transitions, observations, strict=True)):  # noqa: E741
        if not any(depth):
            state = np.arange(S)
            rewards[:, a] = reward(np.full(S, a), state, state, np.zeros(S, np.int64))
            continue
        widths = np.diff(O.indptr) if depth.observation else np.ones(S, np.int64)
        for block in _blocks(T, widths):
            rewards[:, a] += _fold(reward, a, T, O if depth.observation else None, block)
    return rewards


def _blocks(T: sp.csr_array, widths: NDArray) -> list[slice]:
    """Stretches of T's cells that have about `_BLOCK` observations together."""
    ends = np.cumsum(widths[T.indices])
    count = int(ends[-1] // _BLOCK) + 1 if len(ends) else 0
    cuts = np.searchsorted(ends, np.arange(1, count) * _BLOCK)
    edges = [0, *cuts.tolist(), len(ends)]
    return [slice(first, last) for first, last in pairwise(edges) if last > first]


def _fold(reward: Reward, a: int, T: sp.csr_array, O: sp.csr_array | None, block: slice):  # noqa: E741
    """(S,) the part of R(., a) that the cells T.data[block] contribute."""
    state = np.searchsorted(T.indptr, np.arange(block.start, block.stop), side="right") - 1
    successor, weight = T.indices[block], T.data[block]
    observation = np.zeros(len(successor), np.int64)
    if O is not None:
        widths = np.diff(O.indptr)[successor]
        within = np.arange(widths.sum()) - np.repeat(np.cumsum(widths) - widths, widths)
        at = np.repeat(O.indptr[successor], widths) + within
        state, successor, weight = (np.repeat(x, widths) for x in (state, successor, weight))
        observation, weight = O.indices[at], weight * O.data[at]
    value = reward(np.full(len(state), a), state, successor, observation)
    return np.bincount(state, weights=weight * value, minlength=len(T.indptr) - 1)
