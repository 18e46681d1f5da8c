"""Replay: the last steps of every environment, kept on the device, and n-step transitions drawn from them.

L is the number of rows, one for each time, N the number of environments, B the size of a draw. A row is
overwritten L steps later. Each observation is stored once: that of the next step is the next row's, except where an
episode was truncated, whose own last observations are kept apart.
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, PyTree

from epomdp.agents import ops
from epomdp.envs.base import Transition


class Replay(NamedTuple):
    """Steps of N environments; leaves (L, N, ...) but for the last two.

    Attributes:
        final: (F, N, ...) last observations of truncated episodes, by time // shortest_truncation modulo F. An
            environment truncates at most once in that long, so that none is overwritten that may still be drawn.
        time: steps of each environment so far.
    """

    observation: PyTree
    action: Int[Array, "L N"]
    reward: Float[Array, "L N"]
    terminated: Bool[Array, "L N"]
    truncated: Bool[Array, "L N"]
    final: PyTree
    time: Int[Array, ""]


class Drawn(NamedTuple):
    """B n-step transitions: from `observation`, `action` led to `reward` and, discounted, to `successor`."""

    observation: PyTree
    action: Int[Array, " B"]
    reward: Float[Array, " B"]
    discount: Float[Array, " B"]
    successor: PyTree


def init(rows: int, num_envs: int, shortest_truncation: int, observation: jax.ShapeDtypeStruct) -> Replay:
    """An empty replay of `rows` steps of each environment."""

    def frames(count: int) -> PyTree:
        return jax.tree.map(lambda x: jnp.zeros((count, num_envs, *x.shape), x.dtype), observation)

    flags = jnp.zeros((rows, num_envs), bool)
    return Replay(
        frames(rows),
        jnp.zeros((rows, num_envs), jnp.int32),
        jnp.zeros((rows, num_envs)),
        flags,
        flags,
        frames((rows - 1) // shortest_truncation + 2),
        jnp.zeros((), jnp.int32),
    )


def add(replay: Replay, rollout: Transition, shortest_truncation: int) -> Replay:
    """Append a rollout (T, N, ...); T must divide the number of rows."""
    T = rollout.reward.shape[0]
    first = replay.time % replay.reward.shape[0]

    def write(old, new):
        return jax.lax.dynamic_update_slice_in_dim(old, new.astype(old.dtype), first, axis=0)

    old = (replay.observation, replay.action, replay.reward, replay.terminated, replay.truncated)
    new = (rollout.observation, rollout.action, rollout.reward, rollout.terminated, rollout.truncated)
    observation, action, reward, terminated, truncated = jax.tree.map(write, old, new)
    final = _add_final(replay, rollout, shortest_truncation)
    return Replay(observation, action, reward, terminated, truncated, final, replay.time + T)


def _add_final(replay: Replay, rollout: Transition, shortest_truncation: int) -> PyTree:
    t, n = ops.truncations(rollout.truncated, shortest_truncation)
    count = jax.tree.leaves(replay.final)[0].shape[0]
    slot = (replay.time + t) // shortest_truncation % count
    # What is no truncation is written beyond the end, that is, nowhere.
    slot = jnp.where(rollout.truncated[t, n], slot, count)
    return jax.tree.map(
        lambda old, new: old.at[slot, n].set(new[t, n], mode="drop"), replay.final, rollout.next_observation
    )


def draw(replay: Replay, key: Array, size: int, n_step: int, shortest_truncation: int, gamma: float) -> Drawn:
    """Draw n-step transitions uniformly, with replacement, from all whose successors are known.

    The replay must hold more than `n_step` steps of each environment.
    """
    L, N = replay.reward.shape
    key_time, key_env = jax.random.split(key)
    env = jax.random.randint(key_env, (size,), 0, N)
    oldest = jnp.maximum(replay.time - L, 0)
    time = jax.random.randint(key_time, (size,), oldest, replay.time - n_step)
    return at(replay, time, env, n_step, shortest_truncation, gamma)


def at(
    replay: Replay,
    time: Int[Array, " B"],
    env: Int[Array, " B"],
    n_step: int,
    shortest_truncation: int,
    gamma: float,
) -> Drawn:
    """The n-step transitions that start at the given times; none goes beyond its episode's end.

    An episode that ends within n steps ends the transition: terminated with discount 0, truncated with the
    episode's own last observation for successor.
    """
    L = replay.reward.shape[0]
    row = (time + jnp.arange(n_step)[:, None]) % L
    terminated, truncated = replay.terminated[row, env], replay.truncated[row, env]
    reward, discount, taken = ops.n_step_return(replay.reward[row, env], terminated, truncated, gamma)
    cut = jnp.take_along_axis(truncated, taken[None] - 1, axis=0)[0]
    last, following = time + taken - 1, (time + n_step) % L

    def successor(observation, final):
        own = final[last // shortest_truncation % final.shape[0], env]
        return jnp.where(cut.reshape(-1, *[1] * (own.ndim - 1)), own, observation[following, env])

    return Drawn(
        jax.tree.map(lambda x: x[row[0], env], replay.observation),
        replay.action[row[0], env],
        reward,
        discount,
        jax.tree.map(successor, replay.observation, replay.final),
    )
