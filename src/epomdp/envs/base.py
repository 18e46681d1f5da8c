"""The environment contract: pure functions of a key, a state and an action, with the context traced."""

from __future__ import annotations

import abc
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, PyTree

Key = Array
Context = PyTree
State = PyTree

LARGEST_BOARD = 32
"""Sides up to which a picture of whole numbers is taken for the planes of a board, whose values count as they are."""


class Step(NamedTuple):
    """What one step shows. `observation` is the true successor's, also when the episode ended with it."""

    observation: PyTree
    reward: Float[Array, ""]
    terminated: Bool[Array, ""]
    truncated: Bool[Array, ""]


class Transition(NamedTuple):
    """One recorded step, the same for JAX and host environments; leaves (T, N, ...) in a batch.

    `next_observation` never crosses an episode's end: it is the final observation of an episode that ended,
    not the first of the next one.
    """

    observation: PyTree
    action: Int[Array, "*batch"]
    reward: Float[Array, "*batch"]
    terminated: Bool[Array, "*batch"]
    truncated: Bool[Array, "*batch"]
    next_observation: PyTree
    extras: dict[str, Any]


class Environment(abc.ABC):
    """A family of MDPs indexed by a context.

    Sizes that shape arrays are attributes of the object, fixed and hashable; everything that varies between
    contexts is in the traced `context`, and the state carries what it needs of it. `reset` and `step` are pure,
    deterministic in their arguments, and safe under `jit` and `vmap`. Nothing resets by itself: stepping an
    ended episode is the caller's mistake and changes nothing (the state stays, the reward is zero, the flags
    are repeated).

    Attributes:
        name: what the command line calls it.
        num_actions: A, actions are 0 .. A - 1.
        observation: shape and dtype of one observation.
        max_episode_steps: the step at which an unfinished episode is truncated.
    """

    name: str
    num_actions: int
    observation: jax.ShapeDtypeStruct
    max_episode_steps: int

    @property
    def shortest_truncation(self) -> int:
        """No episode is truncated before this step; an environment with limits of several lengths says the least."""
        return self.max_episode_steps

    @abc.abstractmethod
    def reset(self, key: Key, context: Context) -> tuple[State, PyTree]:
        """Start an episode in `context`: its state and first observation."""

    @abc.abstractmethod
    def step(self, key: Key, state: State, action: Int[Array, ""]) -> tuple[State, Step]:
        """Act once."""

    def solved(self, state: State, step: Step) -> Bool[Array, ""]:
        """Whether an episode that ended with `step` in `state` reached the task's goal."""
        return jnp.asarray(step.terminated)

    def mistake(self, before: State, action: Int[Array, ""]) -> Bool[Array, ""]:
        """Whether a player who knows the context, and plays it optimally, would not take `action` in `before`.

        False where the environment cannot tell.
        """
        return jnp.asarray(False)
