"""Families of our own environments: every state is found by trying every action in every context."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, fields
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import PyTree
from numpy.typing import ArrayLike, NDArray

from epomdp.contexts import ContextSet
from epomdp.envs.base import Environment
from epomdp.errors import BadInput
from epomdp.exact.family import Family
from epomdp.exact.starts import prepend_start

# Random keys that each step is made with; chance that shows in one step of twenty is found in most families.
_KEYS = 8


@dataclass(frozen=True, eq=False)
class EnumeratedFamily(Family):
    """A family whose states are what an agent can see: K observations, the end, and the shared start if needed.

    Attributes:
        observations: pytree of arrays with leading axis K, what states 0 to K - 1 look like; state K is the end,
            and state K + 1, where first observations differ between contexts, the start.
    """

    observations: PyTree = field(kw_only=True)

    @property
    def end(self) -> int:
        """The state in which an episode has terminated."""
        return len(jax.tree.leaves(self.observations)[0])


def enumerate_family(
    env: Environment,
    contexts: ContextSet | PyTree,
    discount: float,
    weights: ArrayLike | None = None,
    step_limit: bool = True,
    observe: Callable[[Any, Any], PyTree] | None = None,
    max_states: int = 100_000,
) -> EnumeratedFamily:
    """The family of an environment's contexts, found by breadth-first search.

    A state is an observation, so that contexts share a state if and only if they look the same in it, and an
    agent that sees the state sees no more than the observation. Steps must follow from the observation and the
    context alone: they are made with several keys, and again from every other inner state that is found, in one
    step, behind an observation already known. (An inner state that differs only many steps later goes unseen.)

    States that a context never reaches are absorbing there and without reward. Contexts that first look
    different get a shared start, see `epomdp.exact.starts.prepend_start`.

    Args:
        env: deterministic but for its context; fully observed.
        contexts: a `ContextSet`, or a pytree of arrays with leading axis M.
        discount: in [0, 1), or 1 with a step limit.
        weights: (M,) probability of each context; equal by default.
        step_limit: whether `env.max_episode_steps` is the family's horizon; else the search must end before it.
        observe: what identifies a state, from the environment's state and observation; the observation by
            default.
        max_states: where to give up.

    Raises:
        BadInput: chance or a hidden state decides a step (the context, observation and action are named), or
            there are more states than `max_states`.
    """
    values = contexts.values if isinstance(contexts, ContextSet) else contexts
    M = len(jax.tree.leaves(values)[0])
    search = _Search(env, observe or (lambda state, observation: observation), M, max_states)
    search.run(values)
    K, A = len(search.observations), env.num_actions
    if not step_limit and search.unexplored():
        raise BadInput(
            f"{env.name}: some states are reached only at max_episode_steps = {env.max_episode_steps}; "
            f"keep the step limit, or enumerate an environment with a longer one"
        )
    successors, rewards = search.tables()
    starts = np.zeros((M, K + 1))
    starts[np.arange(M), search.first] = 1.0
    family = Family.from_sparse(
        np.arange(M * (K + 1) * A + 1),
        successors.ravel(),
        np.ones(successors.size),
        rewards,
        starts[0],
        np.full(M, 1.0 / M) if weights is None else weights,
        discount,
        env.max_episode_steps if step_limit else None,
    )
    if (starts != starts[0]).any():
        family = prepend_start(family, starts)
    observations = jax.tree.map(lambda *leaves: np.stack(leaves), *search.observations)
    return EnumeratedFamily(
        **{item.name: getattr(family, item.name) for item in fields(Family)}, observations=observations
    )


class _Search:
    """Breadth-first search in all contexts together, a wave of states at a time.

    `rows[m, k]` is what the actions do in observation k of context m: (A,) successors (the end is -1) and
    rewards. `inner` holds the inner states already met behind each (m, k).
    """

    def __init__(self, env: Environment, observe: Callable, M: int, max_states: int) -> None:
        self.env, self.M, self.max_states = env, M, max_states
        self.index: dict[bytes, int] = {}
        self.observations: list[PyTree] = []
        self.rows: dict[tuple[int, int], tuple[NDArray, NDArray]] = {}
        self.inner: dict[tuple[int, int], set[bytes]] = {}
        self.first: list[int] = []
        actions = jnp.arange(env.num_actions)

        def reset(key, context):
            state, observation = env.reset(key, context)
            return state, observe(state, observation)

        def step(key, state, action):
            state, shown = env.step(key, state, action)
            return state, observe(state, shown.observation), shown.reward, shown.terminated, shown.truncated

        acts = jax.vmap(step, in_axes=(None, None, 0))
        self._reset = jax.jit(jax.vmap(reset))
        self._step = jax.jit(jax.vmap(lambda key, state: acts(key, state, actions)))
        self.calls = 0

    def run(self, contexts: PyTree) -> None:
        """Search until every observation that can be acted in was expanded."""
        states, seen = self._alike(self._reset, contexts, lambda row: f"reset of context {row}")
        names = self._name(seen)
        self.first = names
        wave = [(m, k, True) for m, k in enumerate(names)]
        for (m, k, _), inner in zip(wave, _row_bytes(states), strict=True):
            self.inner[m, k] = {inner}
        while wave:
            states, wave = self._expand(states, wave)

    def unexplored(self) -> bool:
        """Whether some observation was met only as an episode was cut."""
        return any(pair not in self.rows for pair in self.inner)

    def tables(self) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        """(M, K + 1, A) successors and rewards; what was not reached is absorbing, and the end is state K."""
        K, A = len(self.observations), self.env.num_actions
        successors = np.tile(np.arange(K + 1)[:, None], (self.M, 1, A))
        rewards = np.zeros((self.M, K + 1, A))
        for (m, k), (following, paid) in self.rows.items():
            successors[m, k] = np.where(following < 0, K, following)
            rewards[m, k] = paid
        return successors, rewards

    def _expand(self, states: PyTree, wave: list[tuple[int, int, bool]]):
        """Act in every state of the wave; the states and names of the next one."""
        A = self.env.num_actions
        padded = _pad(states, len(wave))
        after, seen, reward, terminated, truncated = self._alike(
            self._step, padded, lambda row: self._where(wave[min(row // A, len(wave) - 1)], row % A), inner=A
        )
        count = len(wave) * A
        flat = jax.tree.map(lambda leaf: leaf.reshape(-1, *leaf.shape[2:])[:count], (after, seen))
        terminated, truncated = (np.asarray(x).ravel()[:count] for x in (terminated, truncated))
        names = np.where(terminated, -1, self._name(flat[1], ~terminated)).reshape(-1, A)
        paid = np.asarray(reward, dtype=np.float64)[: len(wave)]
        for n in sorted(range(len(wave)), key=lambda n: not wave[n][2]):
            self._record(wave[n], names[n], paid[n])
        inner = _row_bytes(flat[0])
        chosen, following = [], []
        for i in np.flatnonzero(~terminated):
            m, _, first = wave[i // A]
            pair = (m, int(names[i // A, i % A]))
            known = self.inner.setdefault(pair, set())
            # Inner states behind a second one are not followed: counters would never come to an end.
            if truncated[i] or inner[i] in known or not (first or not known):
                continue
            following.append((*pair, not known))
            known.add(inner[i])
            chosen.append(i)
        rows = np.array(chosen, dtype=np.int64)
        return jax.tree.map(lambda leaf: leaf[rows], flat[0]), following

    def _record(self, place: tuple[int, int, bool], names: NDArray, paid: NDArray) -> None:
        m, k, _ = place
        known = self.rows.setdefault((m, k), (names, paid))
        differs = np.flatnonzero((known[0] != names) | (known[1] != paid))
        if differs.size:
            raise BadInput(
                f"{self.env.name}: {self._where(place, differs[0])} leads to different things: something that is "
                f"not in the observation decides; give `observe` to show it"
            )

    def _name(self, seen: PyTree, wanted: NDArray[np.bool_] | None = None) -> Any:
        """Indices of observations, new ones added where wanted."""
        host = jax.tree.map(np.asarray, seen)
        rows = _row_bytes(host)
        names = []
        for i, row in enumerate(rows):
            if wanted is not None and not wanted[i]:
                names.append(-1)
                continue
            if row not in self.index:
                self.index[row] = len(self.observations)
                self.observations.append(jax.tree.map(lambda leaf, i=i: leaf[i], host))
            names.append(self.index[row])
        if len(self.observations) > self.max_states:
            raise BadInput(
                f"{self.env.name}: has more than {self.max_states} states; raise max_states, or give `observe`"
            )
        return names

    def _alike(
        self, function: Callable, argument: PyTree, where: Callable[[int], str], inner: int = 1
    ) -> Any:
        """The function's result, after making sure that keys do not matter: every call and row has its own."""
        count = len(jax.tree.leaves(argument)[0])
        result, expected = None, []
        for _ in range(_KEYS):
            self.calls += 1
            keys = jax.random.split(jax.random.fold_in(jax.random.key(0), self.calls), count)
            again = function(keys, argument)
            rows = _row_bytes(again, inner)
            if result is None:
                result, expected = again, rows
            for row, (one, other) in enumerate(zip(expected, rows, strict=True)):
                if one != other:
                    raise BadInput(
                        f"{self.env.name}: {where(row)} depends on the random key; make it deterministic"
                    )
        return result

    def _where(self, place: tuple[int, int, bool], action: int) -> str:
        return f"context {place[0]}, observation {place[1]}, action {action}"


def _pad(states: PyTree, count: int) -> PyTree:
    """Repeat the first row up to a power of two, so that few shapes are compiled."""
    size = 1 << (count - 1).bit_length()
    rows = np.concatenate([np.arange(count), np.zeros(size - count, dtype=np.int64)])
    return jax.tree.map(lambda leaf: leaf[rows], states)


def _row_bytes(tree: PyTree, inner: int = 1) -> list[bytes]:
    """The content of each row (of each of `inner` parts of it) of the leaves, -0.0 as 0.0."""
    parts = []
    for leaf in jax.tree.leaves(tree):
        if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
            leaf = jax.random.key_data(leaf)
        array = np.asarray(leaf)
        if array.size == 0:
            continue
        if array.dtype.kind == "f":
            array = array + array.dtype.type(0)
        flat = np.ascontiguousarray(array).reshape(array.shape[0] * inner, -1)
        parts.append(flat.view(np.uint8).reshape(flat.shape[0], -1))
    return [row.tobytes() for row in np.concatenate(parts, axis=1)]
