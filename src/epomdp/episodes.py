"""What is recorded of episodes that were played to see how good a policy is."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int, PyTree, UInt32

from epomdp.agents.policies import fingerprint


class Episodes(NamedTuple):
    """What C contexts gave, E episodes in each.

    Attributes:
        returns: undiscounted sums of rewards.
        lengths: steps.
        solved: whether the goal was reached.
        repeats: steps that did again what the same episode had done before: the same action on an observation
            with the same fingerprint. None in records made before this was kept.
        first_mistake: the step, from 0, of the first action that `Environment.mistake` calls one; -1 where there
            was none, or where the environment does not say. None as above.
        last_new: the last step, from 0, that was no such repeat. None as above.
    """

    returns: Float[np.ndarray, "C E"]
    lengths: Int[np.ndarray, "C E"]
    solved: Bool[np.ndarray, "C E"]
    repeats: Int[np.ndarray, "C E"] | None = None
    first_mistake: Int[np.ndarray, "C E"] | None = None
    last_new: Int[np.ndarray, "C E"] | None = None

    @property
    def looped(self) -> Bool[np.ndarray, "C E"] | None:
        """Which episodes failed in a loop: their second half, at least, did nothing that was new."""
        return None if self.last_new is None else ~self.solved & (2 * (self.last_new + 1) <= self.lengths)


class Trace(NamedTuple):
    """One episode of L steps: what was done, received, and shown of the L + 1 states, if anything was."""

    actions: Int[np.ndarray, " L"]
    rewards: Float[np.ndarray, " L"]
    solved: bool
    shown: list[Any]


def keys(seed: int, hashes: list[str], episode: Int[np.ndarray, " k"]) -> Array:
    """The key of each of k episodes, from the seed, its context's content and its number alone."""
    content = jnp.asarray([int(digest[:8], 16) for digest in hashes], jnp.uint32)
    fold = jax.vmap(jax.random.fold_in)
    return fold(
        jax.vmap(jax.random.fold_in, in_axes=(None, 0))(jax.random.key(seed), content), jnp.asarray(episode)
    )


def step_keys(key: Array, t: Int[Array, ""]) -> Array:
    """Of an episode's step t, from 0: a key to act with, and one for the environment."""
    return jax.random.split(jax.random.fold_in(key, t + 1))


def mark(observation: PyTree, action: Int[Array, ""]) -> UInt32[Array, 2]:
    """A fingerprint of what was seen and done together."""
    return fingerprint(observation) + action.astype(jnp.uint32) * jnp.uint32(0x9E3779B1)


def novelty(
    marks: UInt32[np.ndarray, "T N 2"], lengths: Int[np.ndarray, " N"]
) -> tuple[Int[np.ndarray, " N"], Int[np.ndarray, " N"]]:
    """How many of an episode's marks are copies of earlier ones, and the place of the last that is none."""
    words = (marks[..., 0].astype(np.uint64) << 32 | marks[..., 1]).T
    in_episode = np.arange(words.shape[1]) < lengths[:, None]
    words = np.where(in_episode, words, ~np.uint64(0))  # what is no part of the episode comes last
    order = np.argsort(words, axis=1, kind="stable")
    in_order = np.take_along_axis(words, order, axis=1)
    first = np.diff(in_order, axis=1, prepend=~in_order[:, :1]) != 0
    first &= order < lengths[:, None]
    return lengths - np.count_nonzero(first, axis=1), np.where(first, order, -1).max(axis=1)
