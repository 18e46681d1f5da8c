"""Evaluation: any policy on any set of contexts, one return an episode."""

from __future__ import annotations

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int, PyTree

from epomdp.agents.policies import Policy
from epomdp.contexts import ContextSet
from epomdp.envs.base import Environment

LANES = (256, 1024)
"""Episodes played side by side: few sizes, so that few programs are compiled. More are played in turns."""


class Episodes(NamedTuple):
    """C contexts, E episodes in each: undiscounted returns, steps, and whether the goal was reached."""

    returns: Float[np.ndarray, "C E"]
    lengths: Int[np.ndarray, "C E"]
    solved: Bool[np.ndarray, "C E"]


class Trace(NamedTuple):
    """One episode of L steps: what was done and received."""

    actions: Int[np.ndarray, " L"]
    rewards: Float[np.ndarray, " L"]
    solved: bool


def evaluate(
    env: Environment, policy: Policy, params: PyTree, contexts: ContextSet, *, episodes: int, seed: int
) -> Episodes:
    """Play `episodes` episodes in every context.

    Deterministic in the seed. A context's random numbers follow from the seed, its content and the episode's number
    alone, so that two policies meet the same luck and a context's episodes do not depend on its company.

    Args:
        params: what the policy acts with; () where it needs none.
    """
    rows = np.repeat(np.arange(len(contexts)), episodes)
    lanes = next((size for size in LANES if rows.size <= size), LANES[-1])
    keys = _keys(seed, [contexts.hashes[i] for i in rows], np.tile(np.arange(episodes), len(contexts)))
    parts = []
    for first in range(0, rows.size, lanes):
        # The last turn is filled up with repeats.
        turn = np.minimum(np.arange(first, first + lanes), rows.size - 1)
        values = jax.tree.map(lambda x, turn=turn: jnp.asarray(x[rows[turn]]), contexts.values)
        parts.append(jax.tree.map(np.asarray, _play(env, policy, params, values, keys[turn])))
    joined = jax.tree.map(lambda *x: np.concatenate(x)[: rows.size], *parts)
    returns, lengths, solved = (x.reshape(len(contexts), episodes) for x in joined)
    # Doubles, as they are when read back from JSON, so that both give the same figures.
    return Episodes(returns.astype(np.float64), lengths, solved)


def _keys(seed: int, hashes: list[str], episode: np.ndarray) -> Array:
    content = jnp.asarray([int(digest[:8], 16) for digest in hashes], jnp.uint32)
    fold = jax.vmap(jax.random.fold_in)
    return fold(
        jax.vmap(jax.random.fold_in, in_axes=(None, 0))(jax.random.key(seed), content), jnp.asarray(episode)
    )


@functools.partial(jax.jit, static_argnums=(0, 1))
def _play(env: Environment, policy: Policy, params: PyTree, contexts: PyTree, keys: Array):
    """One episode a lane; stops when the last has ended."""

    def begin(context, key):
        state, observation = env.reset(jax.random.fold_in(key, 0), context)
        return state, observation, policy.init()

    def advance(key, t, state, observation, memory, reward):
        key_act, key_step = jax.random.split(jax.random.fold_in(key, t + 1))
        action, memory = policy.act(params, observation, reward, memory, key_act)
        state, step = env.step(key_step, state, action)
        return state, step, memory, env.solved(state, step)

    def body(carry):
        t, state, observation, memory, reward, (returns, lengths, solved), alive = carry
        state, step, memory, reached = jax.vmap(advance, in_axes=(0, None, 0, 0, 0, 0))(
            keys, t, state, observation, memory, reward
        )
        ended = step.terminated | step.truncated
        records = (
            returns + jnp.where(alive, step.reward, 0.0),
            lengths + alive,
            solved | (alive & ended & reached),
        )
        return t + 1, state, step.observation, memory, step.reward, records, alive & ~ended

    lanes = keys.shape[0]
    zeros = jnp.zeros(lanes)
    records = (zeros, jnp.zeros(lanes, jnp.int32), jnp.zeros(lanes, bool))
    state, observation, memory = jax.vmap(begin)(contexts, keys)
    carry = (jnp.zeros((), jnp.int32), state, observation, memory, zeros, records, jnp.ones(lanes, bool))
    carry = jax.lax.while_loop(lambda c: jnp.any(c[-1]) & (c[0] < env.max_episode_steps), body, carry)
    return carry[-2]


def trace(
    env: Environment, policy: Policy, params: PyTree, contexts: ContextSet, index: int, *, seed: int
) -> Trace:
    """Play one episode in one context and keep every action."""
    key = _keys(seed, [contexts.hashes[index]], np.zeros(1, np.int64))[0]
    state, observation = env.reset(
        jax.random.fold_in(key, 0), jax.tree.map(jnp.asarray, contexts.context(index))
    )
    memory, reward = policy.init(), jnp.zeros(())
    act, advance = jax.jit(policy.act), jax.jit(env.step)
    actions, rewards = [], []
    for t in range(env.max_episode_steps):
        key_act, key_step = jax.random.split(jax.random.fold_in(key, t + 1))
        action, memory = act(params, observation, reward, memory, key_act)
        state, step = advance(key_step, state, action)
        observation, reward = step.observation, step.reward
        actions.append(int(action))
        rewards.append(float(reward))
        if step.terminated or step.truncated:
            return Trace(np.array(actions), np.array(rewards), bool(env.solved(state, step)))
    return Trace(np.array(actions), np.array(rewards), False)
