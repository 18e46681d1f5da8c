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


def draw(
    resample: Int[Array, " C"], key: Array, shape: tuple[int, ...]
) -> tuple[Int[Array, "*shape"], Array]:
    """Where episodes start: indices drawn uniformly from a member's resample, and a key for each reset."""
    key_context, key_reset = jax.random.split(key)
    chosen = resample[jax.random.randint(key_context, shape, 0, resample.shape[0])]
    return chosen, jax.random.split(key_reset, shape)


def begin(env: Environment, contexts: PyTree, chosen: Int[Array, " N"], keys: Array) -> Actors:
    """N environments at the start of an episode in the chosen contexts."""
    state, observation = jax.vmap(env.reset)(keys, jax.tree.map(lambda x: x[chosen], contexts))
    return Actors(state, observation, jnp.zeros(chosen.shape))


def start(
    env: Environment, contexts: PyTree, resample: Int[Array, " C"], key: Array, num_envs: int
) -> Actors:
    """N environments at the start of an episode in contexts drawn from a member's resample."""
    return begin(env, contexts, *draw(resample, key, (num_envs,)))


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

    def one_step(actors: Actors, random):
        key_act, keys_step, (chosen, keys_reset) = random
        action, extras = agent.act(params, actors.observation, key_act)
        state, step = jax.vmap(env.step)(keys_step, actors.state, action)
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
        fresh = begin(env, contexts, chosen, keys_reset)

        def choose(new, old):
            return jnp.where(ended.reshape(-1, *[1] * (new.ndim - 1)), new, old)

        return jax.tree.map(choose, fresh, going_on), transition

    # All random numbers are drawn before the loop: many small draws cost more than one large one.
    key_act, key_step, key_start = jax.random.split(key, 3)
    shape = (agent.num_steps, agent.num_envs)
    random = (
        jax.random.split(key_act, agent.num_steps),
        jax.random.split(key_step, shape),
        draw(resample, key_start, shape),
    )
    return jax.lax.scan(one_step, actors, random)
