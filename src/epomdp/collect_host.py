"""Collecting rollouts from host environments; each member of an ensemble in its own training contexts.

An episode is determined by its context and its actions alone. So episodes under way can be written down, as
`HostActors`, and be reached again in another process: each is started in its context, and its actions are replayed.

n is the number of members, N the environments of each, T the steps of a rollout.
"""

from __future__ import annotations

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int, PyTree, UInt32

from epomdp import collect
from epomdp.agents.base import Agent
from epomdp.agents.members import for_each_member
from epomdp.agents.policies import fingerprint
from epomdp.contexts import ContextSet
from epomdp.envs.base import Transition
from epomdp.envs.host import HostEnvironment, HostStep
from epomdp.errors import RunFailed


class HostActors(NamedTuple):
    """n x N episodes under way: enough to reach them again, and to see whether that has worked.

    Attributes:
        row: the context's place in the training set.
        length: steps so far.
        actions: what was done in them; zeros after that. L is the longest that an episode can be.
        episode_return: sum of the rewards so far.
        mark: fingerprint of the current observation; zeros where nothing has been seen yet.
    """

    row: Int[Array | np.ndarray, "n N"]
    length: Int[Array | np.ndarray, "n N"]
    actions: Int[Array | np.ndarray, "n N L"]
    episode_return: Float[Array | np.ndarray, "n N"]
    mark: UInt32[Array | np.ndarray, "n N 2"]


def begin(env: HostEnvironment, resamples: Int[Array, "n C"], key: Array, num_envs: int) -> HostActors:
    """Episodes about to begin, in contexts drawn from each member's resample. Nothing is started yet."""
    row = _draw(resamples, key, (num_envs,))
    dtype = np.min_scalar_type(env.num_actions - 1)
    return HostActors(
        row,
        jnp.zeros(row.shape, jnp.int32),
        jnp.zeros((*row.shape, env.max_episode_steps), dtype),
        jnp.zeros(row.shape, jnp.float32),
        jnp.zeros((*row.shape, 2), jnp.uint32),
    )


def _draw(resamples: Int[Array, "n C"], key: Array, shape: tuple[int, ...]) -> Int[Array, " ..."]:
    keys = jax.random.split(key, resamples.shape[0])
    return jax.vmap(lambda resample, key: collect.draw(resample, key, shape)[0])(resamples, keys)


class Collector:
    """Acts for all members of an ensemble; its `rollout` is the twin of `collect.rollout`.

    The environments are in two halves where N is even: while one half steps, the other acts. They are opened by the
    first rollout and kept until `close`.
    """

    def __init__(
        self, env: HostEnvironment, agent: Agent, contexts: ContextSet, resamples: Int[Array, "n C"]
    ):
        self.env, self.agent = env, agent
        self._contexts, self._resamples = contexts, resamples
        self._width = agent.num_envs if agent.num_envs % 2 else agent.num_envs // 2
        self._halves: list[_Half] = []
        self._reached: HostActors | None = None
        self._room: Transition | None = None

    def rollout(self, params: PyTree, actors: HostActors, key: Array) -> tuple[HostActors, Transition]:
        """`num_steps` steps of every member from `actors`; ended episodes are replaced at once by fresh ones.

        Where `actors` are not those that the last rollout has returned, their episodes are replayed first.

        The arrays of the transitions are used again by the next rollout: new memory for hundreds of megabytes of
        frames costs more than copying them. `params` are what was learned from the last rollout, so that whoever
        read it has finished before anything is written.

        Returns:
            The actors after it, and transitions with leaves (n, T, N, ...): the extras hold what the agent adds, and
            "episode_return" where an episode ended (NaN elsewhere).

        Raises:
            RunFailed: an environment has failed, or a replay has not shown what was seen before.
        """
        if actors is not self._reached:
            self._replay(actors)
        # Only a rollout that comes to its end can be gone on from.
        self._reached = None
        keys, chosen = _random(self.agent, self._resamples, key, len(self._halves))
        if self._room is None:
            self._room = self._empty(params, keys[0, 0])
        rollout = self._room
        for t in range(self.agent.num_steps):
            for half, key_act in zip(self._halves, keys[t], strict=True):
                if t:
                    self._receive(half, half.part(rollout, t - 1), half.part(chosen, t - 1))
                self._send(half, half.part(rollout, t), params, key_act)
        for half in self._halves:
            self._receive(half, half.part(rollout, -1), half.part(chosen, -1))
        self._reached = _joined([half.actors() for half in self._halves], self.agent.members)
        return self._reached, rollout

    def close(self) -> None:
        """Free the environments."""
        for half in self._halves:
            half.lanes.close()
        self._halves, self._reached, self._room = [], None, None

    def _replay(self, actors: HostActors) -> None:
        if not self._halves:
            columns = [slice(i, i + self._width) for i in range(0, self.agent.num_envs, self._width)]
            self._halves = [_Half(self.env, self._contexts, self.agent.members, c) for c in columns]
        for half in self._halves:
            half.replay(HostActors(*(half.flat(np.asarray(x)[:, half.columns]) for x in actors)))

    def _empty(self, params: PyTree, keys: UInt32[np.ndarray, "n k"]) -> Transition:
        """Room for a rollout."""
        n, T, N = self.agent.members, self.agent.num_steps, self.agent.num_envs

        def room(shape: tuple[int, ...], dtype: Any) -> Any:
            return np.empty((n, T, N, *shape), dtype)

        def frames() -> PyTree:
            return jax.tree.map(lambda x: room(x.shape, x.dtype), self.env.observation)

        action, extras = jax.eval_shape(
            functools.partial(_act, self.agent), params, self._halves[0].seen(), keys
        )
        added = {name: room(x.shape[2:], x.dtype) for name, x in extras.items()}
        return Transition(
            frames(),
            room((), action.dtype),
            room((), np.float32),
            room((), bool),
            room((), bool),
            frames(),
            added | {"episode_return": room((), np.float32)},
        )

    def _send(self, half: _Half, into: Transition, params: PyTree, keys: UInt32[np.ndarray, "n k"]) -> None:
        """Act on what a half of the environments shows, and let it step."""
        action, extras = jax.tree.map(np.asarray, _act(self.agent, params, half.seen(), keys))
        _write(into.observation, half.observation)
        _write(into.action, action)
        for name, value in extras.items():
            _write(into.extras[name], value)
        half.send(half.flat(action))

    def _receive(self, half: _Half, into: Transition, chosen: Int[np.ndarray, "n w"]) -> None:
        """Record what the step has led to, and start what has ended afresh, in the chosen contexts."""
        step, ended = half.receive()
        _write(into.reward, step.reward)
        _write(into.terminated, step.terminated)
        _write(into.truncated, step.truncated)
        _write(into.next_observation, step.observation)
        _write(into.extras["episode_return"], np.where(ended, half.episode_return, np.nan))
        late = np.flatnonzero(~ended & (half.length >= self.env.max_episode_steps))
        if late.size:
            raise RunFailed(
                f"{self.env.name}: the episode in context {half.context_id(late[0])} goes on after its "
                f"{self.env.max_episode_steps} steps; let the environment truncate it there"
            )
        if ended.any():
            half.start(np.flatnonzero(ended), half.flat(chosen)[ended])


class _Half:
    """Columns of each member's environments, side by side: lane i w + j is environment j of member i's w."""

    def __init__(self, env: HostEnvironment, contexts: ContextSet, members: int, columns: slice):
        self.columns, self._env, self._contexts = columns, env, contexts
        self._shape = (members, columns.stop - columns.start)
        count = self._shape[0] * self._shape[1]
        self.lanes = env.open(count)
        self.observation = jax.tree.map(lambda x: np.zeros((count, *x.shape), x.dtype), env.observation)
        self.row, self.length = np.zeros((2, count), np.int32)
        self.actions = np.zeros((count, env.max_episode_steps), np.min_scalar_type(env.num_actions - 1))
        self.episode_return = np.zeros(count, np.float32)

    def part(self, rollout: PyTree, t: int) -> PyTree:
        """Where step t of these environments is in arrays (n, T, N, ...)."""
        return jax.tree.map(lambda x: x[:, t, self.columns], rollout)

    def flat(self, x: np.ndarray) -> np.ndarray:
        """From (n, w, ...) to lanes."""
        return x.reshape(-1, *x.shape[2:])

    def seen(self) -> PyTree:
        """Current observations (n, w, ...)."""
        return jax.tree.map(lambda x: x.reshape(*self._shape, *x.shape[1:]), self.observation)

    def context_id(self, lane: int) -> str:
        return self._contexts.ids[self.row[lane]]

    def actors(self) -> HostActors:
        mark = np.asarray(_marks(self.observation))
        return HostActors(self.row, self.length, self.actions, self.episode_return, mark)

    def start(self, lanes: Int[np.ndarray, " k"], rows: Int[Array | np.ndarray, " k"]) -> None:
        first = self.lanes.start(lanes.tolist(), [self._contexts.context(row) for row in rows])
        for own, new in zip(jax.tree.leaves(self.observation), jax.tree.leaves(first), strict=True):
            own[lanes] = new
        self.row[lanes], self.length[lanes], self.actions[lanes], self.episode_return[lanes] = rows, 0, 0, 0

    def send(self, action: Int[np.ndarray, " k"]) -> None:
        self.actions[np.arange(len(action)), self.length] = action
        self.lanes.send(action)

    def receive(self) -> tuple[HostStep, Bool[np.ndarray, " k"]]:
        """The step, and in which lanes the episode has ended with it."""
        step = self.lanes.receive()
        self.length += 1
        self.episode_return += np.asarray(step.reward, np.float32)
        _write(self.observation, step.observation)
        return step, np.asarray(step.terminated | step.truncated)

    def replay(self, actors: HostActors) -> None:
        """Reach `actors` (lanes first): every episode starts so late that all are there at the same time."""
        count, longest = len(actors.length), int(np.max(actors.length))
        wait = longest - actors.length
        # Until then a lane plays anything, in its own context.
        self.start(np.arange(count), actors.row)
        over = np.zeros(count, bool)
        for t in range(longest):
            playing = wait <= t
            self.send(np.where(playing, actors.actions[np.arange(count), np.maximum(t - wait, 0)], 0))
            over |= self.receive()[1] & playing
            due = np.flatnonzero(wait == t + 1)
            if due.size:
                self.start(due, actors.row[due])
        found = self.actors()
        seen = actors.mark.any(axis=-1)
        other = (found.mark != actors.mark).any(axis=-1) | (found.episode_return != actors.episode_return)
        wrong = np.flatnonzero(over | (seen & other))
        if wrong.size:
            lane = int(wrong[0])
            raise RunFailed(
                f"{self._env.name}: after {actors.length[lane]} replayed steps, context {self.context_id(lane)} does "
                "not show what it did before, so the run cannot be continued to the same bits; make its reset seed "
                "whatever is random in an episode, then train again in another directory"
            )


def _write(into: PyTree, values: PyTree) -> None:
    """Copy into arrays of the same sizes, whatever their axes."""
    for own, new in zip(jax.tree.leaves(into), jax.tree.leaves(values), strict=True):
        np.copyto(own, np.asarray(new).reshape(own.shape), casting="same_kind")


def _joined(halves: list[HostActors], members: int) -> HostActors:
    parts = zip(*([x.reshape(members, -1, *x.shape[1:]) for x in half] for half in halves), strict=True)
    return HostActors(*(np.concatenate(part, axis=1) for part in parts))


_marks = jax.jit(jax.vmap(fingerprint))


def _random(
    agent: Agent, resamples: Int[Array, "n C"], key: Array, halves: int
) -> tuple[UInt32[np.ndarray, "T h n k"], Int[np.ndarray, "n T N"]]:
    """All random numbers of a rollout: keys to act with, and where an episode starts if one ends."""
    key_act, key_start = jax.random.split(key)
    keys = jax.random.split(key_act, (agent.num_steps, halves, agent.members))
    chosen = _draw_jit(resamples, key_start, (agent.num_steps, agent.num_envs))
    return np.asarray(jax.random.key_data(keys)), np.asarray(chosen)


_draw_jit = jax.jit(_draw, static_argnums=2)


@functools.partial(jax.jit, static_argnums=0)
def _act(
    agent: Agent, params: PyTree, observation: PyTree, keys: UInt32[Array, "n k"]
) -> tuple[Int[Array, "n w"], dict[str, PyTree]]:
    act = for_each_member(agent.act, agent.strategy)
    return act(params, observation, jax.random.wrap_key_data(keys))
