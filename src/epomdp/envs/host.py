"""The contract of environments that are stepped on the host, in C++ or Python, outside JAX."""

from __future__ import annotations

import abc
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import numpy as np
from jaxtyping import Bool, Float, Int, PyTree

from epomdp.envs.base import Environment


class HostStep(NamedTuple):
    """What one step of N lanes shows. `observation` is the true successors', also where an episode ended.

    Attributes:
        observation: leaves (N, ...).
        solved: whether the goal was reached with this step; read where an episode ended.
    """

    observation: PyTree
    reward: Float[np.ndarray, " N"]
    terminated: Bool[np.ndarray, " N"]
    truncated: Bool[np.ndarray, " N"]
    solved: Bool[np.ndarray, " N"]


class Lanes(abc.ABC):
    """N places in which episodes run side by side, each in a context of its own. Nothing resets by itself.

    `send` may return before the steps are done, so that the caller can act in other lanes meanwhile; `receive`
    waits for them. A lane whose episode has ended ignores its action until it is started again: it repeats its last
    observation with zero reward and both flags as they were.
    """

    @abc.abstractmethod
    def start(self, lanes: Sequence[int], contexts: Sequence[Any]) -> PyTree:
        """Begin an episode in each of k lanes, in contexts (rows of a ContextSet's values).

        Whatever runs there is given up. An episode is determined by its context and its actions alone.

        Returns:
            First observations, leaves (k, ...).
        """

    @abc.abstractmethod
    def send(self, actions: Int[np.ndarray, " N"]) -> None:
        """Begin a step of every lane."""

    @abc.abstractmethod
    def receive(self) -> HostStep:
        """The step that was begun last. Its arrays may be written to by the next `start`: copy what is kept."""

    def close(self) -> None:  # noqa: B027 (nothing to free is common)
        """Free what the lanes hold."""


class HostEnvironment(abc.ABC):
    """A family of MDPs indexed by a context, stepped on the host.

    Attributes are those of `epomdp.envs.base.Environment`, and equal environments are equal and hash alike.

    Attributes:
        name: what the command line calls it.
        num_actions: A, actions are 0 .. A - 1.
        observation: shape and dtype of one observation.
        max_episode_steps: the step at which an unfinished episode is truncated.
        shortest_truncation: no episode is truncated before this step; 1 where that is not known.
    """

    name: str
    num_actions: int
    observation: jax.ShapeDtypeStruct
    max_episode_steps: int
    shortest_truncation: int

    @abc.abstractmethod
    def open(self, num_lanes: int) -> Lanes:
        """Places for `num_lanes` episodes."""


AnyEnvironment = Environment | HostEnvironment
"""What agents, training and evaluation take: they ask for nothing but the attributes that both have."""
