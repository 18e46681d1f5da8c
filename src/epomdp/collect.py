"""Collecting rollouts from JAX environments; each member of an ensemble in its own training contexts."""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, PyTree

from epomdp.agents.base import Agent
from epomdp.envs.base import Environment, Transition

FEWEST_RESETS, RESET_SHARE = 4, 16
"""Resets made at once: a sixteenth of the environments, but four at least."""


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


def replace(
    env: Environment,
    contexts: PyTree,
    actors: Actors,
    ended: Bool[Array, " N"],
    chosen: Int[Array, " N"],
    keys: Array,
) -> Actors:
    """Fresh episodes in the chosen contexts where one has ended.

    Few end at a step, and a reset costs as much as a step or more: so a few are made at a time, until none is left.
    """
    N = ended.shape[0]
    at_once = min(N, max(FEWEST_RESETS, N // RESET_SHARE))

    def some(carry):
        actors, left = carry
        (rows,) = jnp.nonzero(left, size=at_once, fill_value=N)
        one = jnp.minimum(rows, N - 1)
        fresh = begin(env, contexts, chosen[one], keys[one])
        actors = jax.tree.map(lambda new, old: old.at[rows].set(new, mode="drop"), fresh, actors)
        return actors, left.at[rows].set(False, mode="drop")

    return jax.lax.while_loop(lambda carry: jnp.any(carry[1]), some, (actors, ended))[0]


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
        return replace(env, contexts, going_on, ended, chosen, keys_reset), transition

    # All random numbers are drawn before the loop: many small draws cost more than one large one.
    key_act, key_step, key_start = jax.random.split(key, 3)
    shape = (agent.num_steps, agent.num_envs)
    random = (
        jax.random.split(key_act, agent.num_steps),
        jax.random.split(key_step, shape),
        draw(resample, key_start, shape),
    )
    return jax.lax.scan(one_step, actors, random)
