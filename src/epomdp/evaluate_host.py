"""Evaluation in host environments: the episodes that `evaluate` and `trace` record, played in a few lanes."""

from __future__ import annotations

import functools
from collections.abc import Callable
from contextlib import closing
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, PyTree, UInt32

from epomdp import episodes
from epomdp.agents.policies import Policy
from epomdp.contexts import ContextSet
from epomdp.envs.host import HostEnvironment, HostStep
from epomdp.episodes import Episodes, Trace

LANES = 64
"""Episodes played side by side at most, and how many observations a policy is always asked about."""


def play(
    env: HostEnvironment,
    policy: Policy,
    params: PyTree,
    contexts: ContextSet,
    rows: Int[np.ndarray, " R"],
    keys: Array,
    lanes: int = LANES,
) -> Episodes:
    """R episodes, the i-th in the context of `rows[i]` with the key of `keys[i]`; records (R,).

    A lane whose episode has ended begins the next one at once. What an episode shows does not depend on its
    company: the policy is asked about LANES observations at a time, however many of them are of use.

    Raises:
        RunFailed: an environment has failed.
    """
    lanes = min(lanes, LANES, rows.size)
    begun, free = 0, np.arange(lanes)
    with closing(env.open(lanes)) as places:
        table = _Table(env, policy, rows.size, np.asarray(jax.random.key_data(keys)))
        while True:
            used = free[: rows.size - begun]
            if used.size:
                numbers = np.arange(begun, begun + used.size)
                first = places.start(used.tolist(), [contexts.context(row) for row in rows[numbers]])
                table.begin(used, numbers, first)
                begun += used.size
            if not table.playing.any():
                return table.records
            places.send(table.act(policy, params)[:lanes])
            free = table.record(places.receive())


class _Table:
    """What stands in each of LANES lanes, of which the first few are open, and what is recorded of R episodes."""

    def __init__(self, env: HostEnvironment, policy: Policy, count: int, key_data: UInt32[np.ndarray, "R k"]):
        self.limit, self.key_data = env.max_episode_steps, key_data
        self.observation = jax.tree.map(lambda x: np.zeros((LANES, *x.shape), x.dtype), env.observation)
        self.reward = np.zeros(LANES, np.float32)
        self.memory = jax.tree.map(lambda x: jnp.stack([x] * LANES), policy.init())
        self.playing = np.zeros(LANES, bool)
        self.episode, self.time = np.zeros((2, LANES), np.int32)
        self.marks = np.zeros((self.limit, LANES, 2), np.uint32)
        self.repeats, self.last_new = np.zeros((2, count), np.int64)
        self.records = Episodes(
            np.zeros(count, np.float32),
            np.zeros(count, np.int32),
            np.zeros(count, bool),
            self.repeats,
            np.full(count, -1, np.int32),
            self.last_new,
        )

    def begin(self, lanes: Int[np.ndarray, " k"], numbers: Int[np.ndarray, " k"], first: PyTree) -> None:
        """Episodes of these numbers have begun in these lanes."""
        self._see(lanes, first)
        self.episode[lanes], self.time[lanes], self.reward[lanes], self.playing[lanes] = numbers, 0, 0, True

    def act(self, policy: Policy, params: PyTree) -> Int[np.ndarray, " L"]:
        keys = self.key_data[self.episode]
        action, self.memory, mark = _act(
            policy, params, self.observation, self.reward, self.memory, keys, self.time
        )
        lanes = np.flatnonzero(self.playing)
        self.marks[self.time[lanes], lanes] = np.asarray(mark)[lanes]
        return np.asarray(action)

    def record(self, step: HostStep) -> Int[np.ndarray, " k"]:
        """Add a step of the open lanes to the records; returns the lanes whose episodes have ended with it."""
        opened = np.arange(len(step.reward))
        self._see(opened, step.observation)
        self.reward[opened] = step.reward
        self.time[self.playing] += 1
        lanes = np.flatnonzero(self.playing)
        over = np.asarray(step.terminated | step.truncated)[lanes]
        self.records.returns[self.episode[lanes]] += self.reward[lanes]
        self.records.solved[self.episode[lanes]] = over & np.asarray(step.solved)[lanes]
        ended = lanes[over | (self.time[lanes] >= self.limit)]
        self.records.lengths[self.episode[ended]] = self.time[ended]
        numbers = self.episode[ended]
        self.repeats[numbers], self.last_new[numbers] = episodes.novelty(
            self.marks[:, ended], self.time[ended]
        )
        self.playing[ended] = False
        return ended

    def _see(self, lanes: Int[np.ndarray, " k"], observation: PyTree) -> None:
        for own, new in zip(jax.tree.leaves(self.observation), jax.tree.leaves(observation), strict=True):
            own[lanes] = new


@functools.partial(jax.jit, static_argnums=0)
def _act(
    policy: Policy,
    params: PyTree,
    observation: PyTree,
    reward: Float[Array, " L"],
    memory: PyTree,
    keys: UInt32[Array, "L k"],
    time: Int[Array, " L"],
) -> tuple[Int[Array, " L"], PyTree, UInt32[Array, "L 2"]]:
    """Actions in L lanes, memories after them, and marks; an episode begins with a fresh memory."""

    def one(observation, reward, memory, key, t):
        memory = jax.tree.map(lambda new, old: jnp.where(t == 0, new, old), policy.init(), memory)
        key_act, _ = episodes.step_keys(jax.random.wrap_key_data(key), t)
        action, memory = policy.act(params, observation, reward, memory, key_act)
        return action, memory, episodes.mark(observation, action)

    return jax.vmap(one)(observation, reward, memory, keys, time)


def trace(
    env: HostEnvironment,
    policy: Policy,
    params: PyTree,
    contexts: ContextSet,
    index: int,
    key: Array,
    show: Callable[[PyTree], Any] | None,
) -> Trace:
    """One episode with every action kept, and what `show` makes of each observation."""
    memory, reward = policy.init(), jnp.zeros(())
    actions, rewards, shown, solved = [], [], [], False

    def see(observation: PyTree) -> PyTree:
        own = jax.tree.map(lambda x, seen: np.array(seen[0], x.dtype), env.observation, observation)
        if show is not None:
            shown.append(show(own))
        return own

    with closing(env.open(1)) as places:
        observation = see(places.start([0], [contexts.context(index)]))
        for t in range(env.max_episode_steps):
            key_act, _ = episodes.step_keys(key, jnp.asarray(t))
            action, memory = _act_once(policy, params, observation, reward, memory, key_act)
            places.send(np.asarray(action)[None])
            step = places.receive()
            observation, reward = see(step.observation), jnp.float32(step.reward[0])
            actions.append(int(action))
            rewards.append(float(reward))
            if step.terminated[0] or step.truncated[0]:
                solved = bool(step.solved[0])
                break
    return Trace(np.array(actions), np.array(rewards), solved, shown)


_act_once = jax.jit(lambda policy, *given: policy.act(*given), static_argnums=0)
