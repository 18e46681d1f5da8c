"""Policies for deployment: values that act, made from an action distribution.

A distribution maps `(params, observation)` to log-probabilities (A,). The makers below turn it into a `Policy`,
which acts on one observation at a time and carries a memory through an episode; evaluation maps it over
contexts and episodes.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, PyTree, UInt32

Distribution = Callable[[PyTree, PyTree], Float[Array, " A"]]
Select = Callable[[Float[Array, " A"], Array], Int[Array, ""]]


class Policy(NamedTuple):
    """How to act in an episode.

    Attributes:
        init: () -> memory at the start of an episode.
        act: (params, observation, last reward, memory, key) -> (action, memory).
        description: one plain sentence for tables.
        random: whether `act` makes use of its key.
    """

    init: Callable[[], PyTree]
    act: Callable[[PyTree, PyTree, Float[Array, ""], PyTree, Array], tuple[Int[Array, ""], PyTree]]
    description: str
    random: bool = True


def pick_greedy(log_p: Float[Array, " A"], key: Array) -> Int[Array, ""]:
    """The most probable action; the first of equals."""
    return jnp.argmax(log_p)


def pick_sampled(log_p: Float[Array, " A"], key: Array) -> Int[Array, ""]:
    """An action drawn from the probabilities exp(log_p), normalised."""
    return jax.random.categorical(key, log_p)


def memoryless(distribution: Distribution, select: Select, description: str) -> Policy:
    """Acts on the current observation alone."""

    def act(params, observation, reward, memory, key):
        return select(distribution(params, observation), key), memory

    return Policy(lambda: (), act, description, select is not pick_greedy)


def greedy(distribution: Distribution, description: str) -> Policy:
    """The most probable action, always."""
    return memoryless(distribution, pick_greedy, description)


def sampled(distribution: Distribution, description: str) -> Policy:
    """An action drawn from the distribution's probabilities."""
    return memoryless(distribution, pick_sampled, description)


class Tried(NamedTuple):
    """What an episode has shown to be of no use, for up to L distinct observations.

    `taken` is the action taken last on each of them, `last_slot` the place of the one acted on last.
    """

    fingerprints: UInt32[Array, "L 2"]
    useless: Bool[Array, "L A"]
    taken: Int[Array, " L"]
    seen: Int[Array, ""]
    last_slot: Int[Array, ""]


def fingerprint(observation: PyTree) -> UInt32[Array, 2]:
    """A 64-bit hash of an observation's bits, as two words."""
    words = jnp.concatenate([_as_words(x) for x in jax.tree.leaves(observation)])
    position = jnp.arange(words.size, dtype=jnp.uint32)

    def one(seed: int):
        mixed = (words ^ (position * jnp.uint32(0x9E3779B1) + jnp.uint32(seed))) * jnp.uint32(0x85EBCA6B)
        mixed = (mixed ^ (mixed >> 15)) * jnp.uint32(0xC2B2AE35)
        return jnp.sum(mixed ^ (mixed >> 13), dtype=jnp.uint32)

    return jnp.stack([one(0x2545F491), one(0x7F4A7C15)])


def _as_words(x: Array) -> UInt32[Array, " W"]:
    x = jnp.ravel(x)
    if x.dtype.itemsize == 4:
        return jax.lax.bitcast_convert_type(x, jnp.uint32)
    if x.dtype.itemsize == 1:
        # Four bytes a word, from the four quarters: to hash them one by one takes four times as long.
        quarters = jnp.pad(x.astype(jnp.uint8), (0, -x.size % 4)).reshape(4, -1).astype(jnp.uint32)
        return quarters[0] | quarters[1] << 8 | quarters[2] << 16 | quarters[3] << 24
    return x.astype(jnp.uint32)


def eliminating(
    distribution: Distribution,
    num_actions: int,
    max_episode_steps: int,
    description: str,
    select: Select = pick_greedy,
) -> Policy:
    """Process of elimination: never again an action that this episode has shown to change nothing.

    An action taken on an observation is shown to change nothing when the next observation equals it. It then has
    probability zero whenever that observation comes back, the rest is renormalised, and `select` picks. When
    every action has been shown useless, all are allowed again.
    """
    return _learning(
        distribution, num_actions, max_episode_steps, description, select, lambda slot, last: slot == last
    )


def backtracking(
    distribution: Distribution,
    num_actions: int,
    max_episode_steps: int,
    description: str,
    select: Select = pick_greedy,
) -> Policy:
    """Elimination of loops: never again an action after which the episode has come back to the observation.

    As `eliminating`, but what came back may have been away for any number of steps. In a maze this walks into
    a dead end, out of it and on, as a depth-first search does; a greedy policy would go in and out for ever.
    """
    return _learning(
        distribution, num_actions, max_episode_steps, description, select, lambda slot, last: True
    )


def _learning(
    distribution: Distribution,
    num_actions: int,
    max_episode_steps: int,
    description: str,
    select: Select,
    shown_useless: Callable[[Int[Array, ""], Int[Array, ""]], Any],
) -> Policy:
    """A policy that gives up the action last taken on an observation when it comes back and `shown_useless`.

    Args:
        shown_useless: (the observation's place in memory, that of the observation before) -> flag.
    """

    def init():
        return Tried(
            jnp.zeros((max_episode_steps, 2), jnp.uint32),
            jnp.zeros((max_episode_steps, num_actions), bool),
            jnp.zeros(max_episode_steps, jnp.int32),
            jnp.zeros((), jnp.int32),
            jnp.full((), -1, jnp.int32),
        )

    def act(params, observation, reward, memory: Tried, key):
        mark = fingerprint(observation)
        known = jnp.all(memory.fingerprints == mark, axis=-1) & (jnp.arange(max_episode_steps) < memory.seen)
        new = ~jnp.any(known)
        slot = jnp.where(new, memory.seen, jnp.argmax(known)).astype(jnp.int32)
        given_up = ~new & shown_useless(slot, memory.last_slot)
        useless = memory.useless.at[slot, memory.taken[slot]].max(given_up)
        useless = useless.at[slot].set(useless[slot] & ~jnp.all(useless[slot]))
        log_p = jnp.where(useless[slot], -jnp.inf, distribution(params, observation))
        action = select(log_p, key).astype(jnp.int32)
        fingerprints = memory.fingerprints.at[slot].set(mark)
        return action, Tried(
            fingerprints, useless, memory.taken.at[slot].set(action), memory.seen + new, slot
        )

    return Policy(init, act, description, select is not pick_greedy)


def uniform(num_actions: int) -> Distribution:
    """Every action alike, whatever is seen; takes no params."""
    return lambda params, observation: jnp.full(num_actions, -math.log(num_actions))


def standard(
    distribution: Distribution, num_actions: int, max_episode_steps: int, *, of: str, sampled_name: str
) -> dict[str, Policy]:
    """The ways to deploy a learned distribution: sampled (the default), greedy, by elimination, backtracking."""
    return {
        sampled_name: sampled(distribution, f"an action drawn from {of}"),
        "greedy": greedy(distribution, f"the most probable action of {of}, always"),
        "elimination": eliminating(
            distribution,
            num_actions,
            max_episode_steps,
            f"the most probable action of {of} not yet shown useless in this episode",
        ),
        "backtracking": backtracking(
            distribution,
            num_actions,
            max_episode_steps,
            f"the most probable action of {of} after which this episode has not come back here",
        ),
    }
