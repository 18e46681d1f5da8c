"""Collecting rollouts from JAX environments; each member of an ensemble in its own training contexts."""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, PyTree

from epomdp.agents.base import Agent
from epomdp.envs.base import Environment, Transition


class Actors(NamedTuple):
    """N environments in the middle of their episodes, and the returns so far."""

    state: PyTree
    observation: PyTree
    episode_return: Float[Array, " N"]


def draw(contexts: PyTree, resample: Int[Array, " C"], key: Array, count: int) -> PyTree:
    """`count` contexts drawn uniformly from a member's resample (indices into `contexts`)."""
    chosen = resample[jax.random.randint(key, (count,), 0, resample.shape[0])]
    return jax.tree.map(lambda x: x[chosen], contexts)


def start(
    env: Environment, contexts: PyTree, resample: Int[Array, " C"], key: Array, num_envs: int
) -> Actors:
    """Every environment at the start of an episode."""
    key_draw, key_reset = jax.random.split(key)
    chosen = draw(contexts, resample, key_draw, num_envs)
    state, observation = jax.vmap(env.reset)(jax.random.split(key_reset, num_envs), chosen)
    return Actors(state, observation, jnp.zeros(num_envs))


def rollout(
    env: Environment,
    agent: Agent,
    params: PyTree,
    actors: Actors,
    contexts: PyTree,
    resample: Int[Array, " C"],
    key: Array,
) -> tuple[Actors, Transition]:
    """`num_steps` steps of one member; ended episodes are replaced at once by fresh ones.

    Returns transitions with leaves (T, N, ...). The extras hold what the agent adds, and "episode_return" where an
    episode ended (NaN elsewhere).
    """

    def one_step(actors: Actors, key: Array):
        key_act, key_step, key_start = jax.random.split(key, 3)
        action, extras = agent.act(params, actors.observation, key_act)
        state, step = jax.vmap(env.step)(jax.random.split(key_step, agent.num_envs), actors.state, action)
        ended = step.terminated | step.truncated
        episode_return = actors.episode_return + step.reward
        transition = Transition(
            actors.observation,
            action,
            step.reward,
            step.terminated,
            step.truncated,
            step.observation,
            extras | {"episode_return": jnp.where(ended, episode_return, jnp.nan)},
        )
        going_on = Actors(state, step.observation, episode_return)
        fresh = start(env, contexts, resample, key_start, agent.num_envs)

        def choose(new, old):
            return jnp.where(ended.reshape(-1, *[1] * (new.ndim - 1)), new, old)

        return jax.tree.map(choose, fresh, going_on), transition

    return jax.lax.scan(one_step, actors, jax.random.split(key, agent.num_steps))
