"""Evaluation: any policy on any set of contexts, one return an episode."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Int, PyTree

from epomdp import episodes as records
from epomdp import evaluate_host
from epomdp.agents.policies import Policy
from epomdp.contexts import ContextSet
from epomdp.envs.base import Environment
from epomdp.envs.host import AnyEnvironment, HostEnvironment
from epomdp.episodes import Episodes, Trace

LANES = (256, 1024)
"""Episodes played side by side: few sizes, so that few programs are compiled. More are played in turns."""


def evaluate(
    env: AnyEnvironment, policy: Policy, params: PyTree, contexts: ContextSet, *, episodes: int, seed: int
) -> Episodes:
    """Play `episodes` episodes in every context.

    Deterministic in the seed. A context's random numbers follow from the seed, its content and the episode's number
    alone, so that two policies meet the same luck and a context's episodes do not depend on its company.

    Args:
        params: what the policy acts with; () where it needs none.
    """
    # On the host an episode follows from its context and its actions: without chance in these, all are the first.
    different = episodes if policy.random or not isinstance(env, HostEnvironment) else 1
    rows = np.repeat(np.arange(len(contexts)), different)
    numbers = np.tile(np.arange(different), len(contexts))
    keys = records.keys(seed, [contexts.hashes[i] for i in rows], numbers)
    if isinstance(env, HostEnvironment):
        played = evaluate_host.play(env, policy, params, contexts, rows, keys)
    else:
        played = _play_in_turns(env, policy, params, contexts, rows, keys)
    played = jax.tree.map(
        lambda x: np.repeat(x.reshape(len(contexts), different), episodes // different, axis=1), played
    )
    # Doubles, as they are when read back from JSON, so that both give the same figures.
    return played._replace(returns=played.returns.astype(np.float64))


def _play_in_turns(
    env: Environment,
    policy: Policy,
    params: PyTree,
    contexts: ContextSet,
    rows: Int[np.ndarray, " R"],
    keys: Array,
) -> Episodes:
    """R episodes, the i-th in the context of `rows[i]` with the key of `keys[i]`; records (R,)."""
    lanes = next((size for size in LANES if rows.size <= size), LANES[-1])
    parts = []
    for first in range(0, rows.size, lanes):
        # The last turn is filled up with repeats.
        turn = np.minimum(np.arange(first, first + lanes), rows.size - 1)
        values = jax.tree.map(lambda x, turn=turn: jnp.asarray(x[rows[turn]]), contexts.values)
        played, marks = jax.tree.map(np.asarray, _play(env, policy, params, values, keys[turn]))
        returns, lengths, solved, first_mistake = played
        repeats, last_new = records.novelty(marks, lengths)
        parts.append(Episodes(returns, lengths, solved, repeats, first_mistake, last_new))
    return jax.tree.map(lambda *x: np.concatenate(x)[: rows.size], *parts)


@functools.partial(jax.jit, static_argnums=(0, 1))
def _play(env: Environment, policy: Policy, params: PyTree, contexts: PyTree, keys: Array):
    """One episode a lane; stops when the last has ended."""

    def begin(context, key):
        state, observation = env.reset(jax.random.fold_in(key, 0), context)
        return state, observation, policy.init()

    def advance(key, t, state, observation, memory, reward):
        key_act, key_step = records.step_keys(key, t)
        action, memory = policy.act(params, observation, reward, memory, key_act)
        state, step = env.step(key_step, state, action)
        return state, step, memory, action, env.solved(state, step)

    def body(carry):
        t, state, observation, memory, reward, recorded, marks, alive = carry
        before = state
        state, step, memory, action, reached = jax.vmap(advance, in_axes=(0, None, 0, 0, 0, 0))(
            keys, t, state, observation, memory, reward
        )
        marks = marks.at[t].set(jax.vmap(records.mark)(observation, action))
        wrong = jax.vmap(env.mistake)(before, action)
        ended = step.terminated | step.truncated
        returns, lengths, solved, first_mistake = recorded
        recorded = (
            returns + jnp.where(alive, step.reward, 0.0),
            lengths + alive,
            solved | (alive & ended & reached),
            jnp.where(alive & wrong & (first_mistake < 0), t, first_mistake),
        )
        return t + 1, state, step.observation, memory, step.reward, recorded, marks, alive & ~ended

    lanes, limit = keys.shape[0], env.max_episode_steps
    zeros, none = jnp.zeros(lanes), jnp.zeros(lanes, jnp.int32)
    recorded = (zeros, none, jnp.zeros(lanes, bool), none - 1)
    marks = jnp.zeros((limit, lanes, 2), jnp.uint32)
    state, observation, memory = jax.vmap(begin)(contexts, keys)
    carry = (none[0], state, observation, memory, zeros, recorded, marks, jnp.ones(lanes, bool))
    carry = jax.lax.while_loop(lambda c: jnp.any(c[-1]) & (c[0] < limit), body, carry)
    return carry[-3:-1]


def trace(
    env: AnyEnvironment,
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
        show: what to keep of each state, a picture for instance; host environments give it each observation.
    """
    key = records.keys(seed, [contexts.hashes[index]], np.zeros(1, np.int64))[0]
    if isinstance(env, HostEnvironment):
        return evaluate_host.trace(env, policy, params, contexts, index, key, show)
    state, observation = env.reset(
        jax.random.fold_in(key, 0), jax.tree.map(jnp.asarray, contexts.context(index))
    )
    memory, reward = policy.init(), jnp.zeros(())
    act, advance = _compiled(env, policy)
    actions, rewards, shown, solved = [], [], [], False
    if show is not None:
        shown.append(show(state))
    for t in range(env.max_episode_steps):
        key_act, key_step = records.step_keys(key, jnp.asarray(t))
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
