"""One iteration of training, a rollout and an update, for both kinds of environments."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, PyTree

from epomdp import collect, collect_host
from epomdp.agents.base import Agent
from epomdp.agents.members import for_each_member
from epomdp.contexts import ContextSet
from epomdp.envs.base import Environment, Transition
from epomdp.envs.host import AnyEnvironment, HostEnvironment

Metrics = dict[str, Float[Array, ""]]


class Loop(NamedTuple):
    """All that changes while training: the agent's state and the members' environments."""

    learners: PyTree
    actors: PyTree


@dataclass(frozen=True, eq=False)
class Driver:
    """What the training loop calls. The loop's state is in what is passed, whatever a driver keeps open.

    Attributes:
        initial: key -> fresh learners, and every member's environments at the start of an episode; pure.
        iterate: (loop, key) -> (the loop after a rollout of every member and an update, metrics). The loop that goes
            in is given away.
        close: frees what is open.
    """

    initial: Callable[[Array], Loop]
    iterate: Callable[[Loop, Array], tuple[Loop, Metrics]]
    close: Callable[[], None]


def make(
    env: AnyEnvironment, agent: Agent, contexts: ContextSet, resamples: Int[Array | np.ndarray, "n C"]
) -> Driver:
    """How to train `agent`, whose member i acts in the contexts of row i of `resamples` alone."""
    if isinstance(env, HostEnvironment):
        return _on_host(env, agent, contexts, jnp.asarray(resamples))
    return _in_jax(env, agent, jax.tree.map(jnp.asarray, contexts.values), jnp.asarray(resamples))


def _in_jax(env: Environment, agent: Agent, values: PyTree, resamples: Int[Array, "n C"]) -> Driver:
    """Acting, stepping and learning in one compiled program."""
    return Driver(
        lambda key: _initial(env, agent, values, resamples, key),
        lambda loop, key: _iterate(env, agent, loop, values, resamples, key),
        lambda: None,
    )


@functools.partial(jax.jit, static_argnums=(0, 1))
def _initial(env: Environment, agent: Agent, values: PyTree, resamples: Array, key: Array) -> Loop:
    key_agent, key_actors = jax.random.split(key)

    def begin(resample, key):
        return collect.start(env, values, resample, key, agent.num_envs)

    actors = jax.vmap(begin)(resamples, jax.random.split(key_actors, agent.members))
    return Loop(agent.init(key_agent), actors)


# The old loop is given away: a replay is written in place.
@functools.partial(jax.jit, static_argnums=(0, 1), donate_argnums=2)
def _iterate(
    env: Environment, agent: Agent, loop: Loop, values: PyTree, resamples: Array, key: Array
) -> tuple[Loop, Metrics]:
    key_collect, key_update = jax.random.split(key)

    def act(params, actors, resample, key):
        return collect.rollout(env, agent, params, actors, values, resample, key)

    actors, rollouts = for_each_member(act, agent.strategy)(
        agent.params(loop.learners), loop.actors, resamples, jax.random.split(key_collect, agent.members)
    )
    learners, metrics = _learn(agent, loop.learners, rollouts, key_update)
    return Loop(learners, actors), metrics


def _learn(agent: Agent, learners: PyTree, rollouts: Transition, key: Array) -> tuple[PyTree, Metrics]:
    """An update, and the mean return of the episodes that ended in the rollouts."""
    learners, metrics = agent.update(learners, rollouts, key)
    return learners, metrics | {"episode_return": jnp.nanmean(rollouts.extras["episode_return"])}


def _on_host(
    env: HostEnvironment, agent: Agent, contexts: ContextSet, resamples: Int[Array, "n C"]
) -> Driver:
    """Stepping between compiled programs that act and learn."""
    collector = collect_host.Collector(env, agent, contexts, resamples)

    def initial(key: Array) -> Loop:
        key_agent, key_actors = jax.random.split(key)
        actors = collect_host.begin(env, resamples, key_actors, agent.num_envs)
        return Loop(jax.jit(agent.init)(key_agent), actors)

    def iterate(loop: Loop, key: Array) -> tuple[Loop, Metrics]:
        key_collect, key_update = jax.random.split(key)
        actors, rollouts = collector.rollout(agent.params(loop.learners), loop.actors, key_collect)
        learners, metrics = _learn_jit(agent, loop.learners, rollouts, key_update)
        return Loop(learners, actors), metrics

    return Driver(initial, iterate, collector.close)


_learn_jit = jax.jit(_learn, static_argnums=0, donate_argnums=1)
