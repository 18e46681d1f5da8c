"""Evaluation: any policy on any set of contexts, one return an episode."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int, PyTree, UInt32

from epomdp.agents.policies import Policy, fingerprint
from epomdp.contexts import ContextSet
from epomdp.envs.base import Environment

LANES = (256, 1024)
"""Episodes played side by side: few sizes, so that few programs are compiled. More are played in turns."""


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
    """

    returns: Float[np.ndarray, "C E"]
    lengths: Int[np.ndarray, "C E"]
    solved: Bool[np.ndarray, "C E"]
    repeats: Int[np.ndarray, "C E"] | None = None
    first_mistake: Int[np.ndarray, "C E"] | None = None


class Trace(NamedTuple):
    """One episode of L steps: what was done, received, and shown of the L + 1 states, if anything was."""

    actions: Int[np.ndarray, " L"]
    rewards: Float[np.ndarray, " L"]
    solved: bool
    shown: list[Any]


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
        played, marks = jax.tree.map(np.asarray, _play(env, policy, params, values, keys[turn]))
        returns, lengths, solved, first_mistake = played
        parts.append(Episodes(returns, lengths, solved, _repeats(marks, lengths), first_mistake))
    joined = jax.tree.map(lambda *x: np.concatenate(x)[: rows.size], *parts)
    played = Episodes(*(x.reshape(len(contexts), episodes) for x in joined))
    # Doubles, as they are when read back from JSON, so that both give the same figures.
    return played._replace(returns=played.returns.astype(np.float64))


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
        return state, step, memory, action, env.solved(state, step)

    def body(carry):
        t, state, observation, memory, reward, records, marks, alive = carry
        before = state
        state, step, memory, action, reached = jax.vmap(advance, in_axes=(0, None, 0, 0, 0, 0))(
            keys, t, state, observation, memory, reward
        )
        marks = marks.at[t].set(jax.vmap(_mark)(observation, action))
        wrong = jax.vmap(env.mistake)(before, action)
        ended = step.terminated | step.truncated
        returns, lengths, solved, first_mistake = records
        records = (
            returns + jnp.where(alive, step.reward, 0.0),
            lengths + alive,
            solved | (alive & ended & reached),
            jnp.where(alive & wrong & (first_mistake < 0), t, first_mistake),
        )
        return t + 1, state, step.observation, memory, step.reward, records, marks, alive & ~ended

    lanes, limit = keys.shape[0], env.max_episode_steps
    zeros, none = jnp.zeros(lanes), jnp.zeros(lanes, jnp.int32)
    records = (zeros, none, jnp.zeros(lanes, bool), none - 1)
    marks = jnp.zeros((limit, lanes, 2), jnp.uint32)
    state, observation, memory = jax.vmap(begin)(contexts, keys)
    carry = (none[0], state, observation, memory, zeros, records, marks, jnp.ones(lanes, bool))
    carry = jax.lax.while_loop(lambda c: jnp.any(c[-1]) & (c[0] < limit), body, carry)
    return carry[-3:-1]


def _repeats(marks: UInt32[np.ndarray, "T N 2"], lengths: Int[np.ndarray, " N"]) -> Int[np.ndarray, " N"]:
    """How many of an episode's marks are copies of earlier ones: all but one of each kind."""
    words = (marks[..., 0].astype(np.uint64) << 32 | marks[..., 1]).T
    in_episode = np.arange(words.shape[1]) < lengths[:, None]
    order = np.sort(np.where(in_episode, words, ~np.uint64(0)), axis=1)
    copies = np.count_nonzero(order[:, 1:] == order[:, :-1], axis=1)
    return copies - np.maximum(words.shape[1] - lengths - 1, 0)


def _mark(observation: PyTree, action: Int[Array, ""]) -> UInt32[Array, 2]:
    """A fingerprint of what was seen and done together."""
    return fingerprint(observation) + action.astype(jnp.uint32) * jnp.uint32(0x9E3779B1)


def trace(
    env: Environment,
    policy: Policy,
    params: PyTree,
    contexts: ContextSet,
    index: int,
    *,
    seed: int,
    show: Callable[[Any], Any] | None = None,
) -> Trace:
    """Play one episode in one context, the first that `evaluate` plays there, and keep every action.

    Args:
        show: what to keep of each state, a picture for instance.
    """
    key = _keys(seed, [contexts.hashes[index]], np.zeros(1, np.int64))[0]
    state, observation = env.reset(
        jax.random.fold_in(key, 0), jax.tree.map(jnp.asarray, contexts.context(index))
    )
    memory, reward = policy.init(), jnp.zeros(())
    act, advance = _compiled(env, policy)
    actions, rewards, shown, solved = [], [], [], False
    if show is not None:
        shown.append(show(state))
    for t in range(env.max_episode_steps):
        key_act, key_step = jax.random.split(jax.random.fold_in(key, t + 1))
        action, memory = act(params, observation, reward, memory, key_act)
        state, step = advance(key_step, state, action)
        observation, reward = step.observation, step.reward
        actions.append(int(action))
        rewards.append(float(reward))
        if show is not None:
            shown.append(show(state))
        if step.terminated or step.truncated:
            solved = bool(env.solved(state, step))
            break
    return Trace(np.array(actions), np.array(rewards), solved, shown)


@functools.lru_cache(maxsize=64)
def _compiled(env: Environment, policy: Policy) -> tuple[Callable, Callable]:
    return jax.jit(policy.act), jax.jit(env.step)
