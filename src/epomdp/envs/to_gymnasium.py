"""Our JAX environments as Gymnasium environments, one at a time or many at once."""

from __future__ import annotations

import functools
import re
from collections.abc import Callable
from typing import Any, NamedTuple

import gymnasium
import jax
import jax.numpy as jnp
import numpy as np
import numpy.typing as npt
from gymnasium.envs.registration import EnvSpec
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import batch_space
from jaxtyping import Array, Bool, Int, PyTree, UInt8

from epomdp.contexts import ContextSet
from epomdp.envs import render
from epomdp.envs.base import Environment, Key, State
from epomdp.envs.boards import BoardGame
from epomdp.envs.moving import MovingGame
from epomdp.errors import BadInput

RENDERING = {"render_modes": ["rgb_array"], "render_fps": 8}
"""What board games can show; other environments show nothing."""


class GymnasiumEnv(gymnasium.Env[npt.NDArray, Any]):
    """One episode at a time, each in a context drawn at random, or in the one asked for.

    `reset(options={"context": i})` starts in context i. After a reset, `info["context"]` is the context's
    index; at the end of an episode `info["is_success"]` says whether it was solved.

    Args:
        env: the environment.
        contexts: what to draw from, uniformly.
        seed: of the first reset; later resets go on from there unless they bring their own.
        observation_range: bounds of the observation space; by default [0, 1] for floats and for the binary
            planes of maze and heist, otherwise the whole range of the integer type.
        render_mode: "rgb_array" for frames from `render()` (board games), or None.
    """

    metadata = RENDERING

    def __init__(
        self,
        env: Environment,
        contexts: ContextSet,
        seed: int | None = None,
        observation_range: tuple[float, float] | None = None,
        render_mode: str | None = None,
    ) -> None:
        self.metadata = _rendering(env, render_mode)
        self.render_mode = render_mode
        self.env = env
        self.contexts = contexts
        self.observation_space = _observation_space(env, observation_range)
        self.action_space = gymnasium.spaces.Discrete(env.num_actions)
        self.spec = _spec(env, contexts, seed, observation_range)
        self._reset_jit, self._step_jit = _single(env)
        self._values = jax.tree.map(jnp.asarray, contexts.values)
        self._carry: tuple[Key, State] | None = None
        if seed is not None:
            super().reset(seed=seed)

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[npt.NDArray, dict[str, Any]]:
        super().reset(seed=seed)
        n = len(self.contexts)
        index = int(_asked((options or {}).get("context", self.np_random.integers(n)), (), n))
        self._carry, observation = self._reset_jit(self._values, index, int(self.np_random.integers(2**31)))
        return np.array(observation), {"context": index}

    def step(self, action: Any) -> tuple[npt.NDArray, float, bool, bool, dict[str, Any]]:
        if self._carry is None:
            raise gymnasium.error.ResetNeeded("Cannot call env.step() before calling env.reset()")
        action = int(action)
        if not 0 <= action < self.env.num_actions:
            raise BadInput(f"step: action {action} is not in 0 .. {self.env.num_actions - 1}")
        self._carry, observation, shown = self._step_jit(self._carry, action)
        reward, terminated, truncated, solved = np.asarray(shown).tolist()
        info = {"is_success": bool(solved)} if terminated or truncated else {}
        return np.array(observation), reward, bool(terminated), bool(truncated), info

    def render(self) -> UInt8[np.ndarray, "Hc Wc 3"] | None:
        """A frame of the board, 16 pixels a square; None without a render mode."""
        frames = _frames(self, None if self._carry is None else self._carry[1])
        return None if frames is None else frames[0]


class GymnasiumVectorEnv(VectorEnv[npt.NDArray, npt.NDArray, npt.NDArray]):
    """N episodes side by side in one compiled call; each new episode draws a context.

    `reset(options={"context": i})` starts all of them in context i, or in N contexts where i is a sequence; later
    episodes draw theirs again. Infos have the form of Gymnasium's own vector environments: `context` at a reset,
    `is_success` at the end of an episode, each with its mask `_context`, `_is_success`; in SAME_STEP mode
    `final_obs`, `final_info`.

    Args:
        env: the environment.
        contexts: what to draw from, uniformly.
        num_envs: N.
        seed: of the first reset; later resets go on from there unless they bring their own.
        autoreset_mode: NEXT_STEP (an ended episode's next step is its reset: the action is ignored and the
            reward is zero) or SAME_STEP (the ending step already shows the next episode's first observation).
        observation_range: as for GymnasiumEnv.
        render_mode: "rgb_array" for a tuple of N frames from `render()` (board games), or None.
    """

    def __init__(
        self,
        env: Environment,
        contexts: ContextSet,
        num_envs: int,
        seed: int | None = None,
        autoreset_mode: AutoresetMode = AutoresetMode.NEXT_STEP,
        observation_range: tuple[float, float] | None = None,
        render_mode: str | None = None,
    ) -> None:
        if num_envs < 1:
            raise BadInput(f"num_envs: must be at least 1, got {num_envs}")
        if autoreset_mode not in (AutoresetMode.NEXT_STEP, AutoresetMode.SAME_STEP):
            raise BadInput(f"autoreset_mode: must be NEXT_STEP or SAME_STEP, got {autoreset_mode}")
        self.env = env
        self.contexts = contexts
        self.num_envs = num_envs
        self.metadata = {"autoreset_mode": autoreset_mode, **_rendering(env, render_mode)}
        self.render_mode = render_mode
        self.single_observation_space = _observation_space(env, observation_range)
        self.single_action_space = gymnasium.spaces.Discrete(env.num_actions)
        self.observation_space = batch_space(self.single_observation_space, num_envs)
        self.action_space = batch_space(self.single_action_space, num_envs)
        self._same_step = autoreset_mode is AutoresetMode.SAME_STEP
        self._reset_jit, self._step_jit = _vector(env, num_envs, self._same_step)
        self._values = jax.tree.map(jnp.asarray, contexts.values)
        self._carry: _Carry | None = None
        if seed is not None:
            super().reset(seed=seed)

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[npt.NDArray, dict[str, Any]]:
        super().reset(seed=seed)
        seed = int(self.np_random.integers(2**31))
        asked = (options or {}).get("context")
        chosen = None if asked is None else _asked(asked, (self.num_envs,), len(self.contexts))
        self._carry, context, observation = self._reset_jit(self._values, seed, chosen)
        return np.array(observation), _masked({}, "context", np.array(context), np.ones(self.num_envs, bool))

    def step(
        self, actions: npt.NDArray
    ) -> tuple[npt.NDArray, npt.NDArray, npt.NDArray, npt.NDArray, dict[str, Any]]:
        if self._carry is None:
            raise gymnasium.error.ResetNeeded("Cannot call env.step() before calling env.reset()")
        actions = np.asarray(actions, dtype=np.int32)
        if actions.shape != (self.num_envs,) or actions.min() < 0 or actions.max() >= self.env.num_actions:
            raise BadInput(f"step: needs {self.num_envs} actions in 0 .. {self.env.num_actions - 1}")
        self._carry, shown = self._step_jit(self._values, self._carry, actions)
        shown = jax.tree.map(np.array, shown)
        infos: dict[str, Any] = {}
        if shown.ended.any():
            outcome = _masked({}, "is_success", shown.solved, shown.ended)
            if self._same_step:
                _masked(infos, "final_obs", _objects(shown.final_observation, shown.ended), shown.ended)
                _masked(infos, "final_info", outcome, shown.ended)
            else:
                infos = outcome
        if shown.restarted.any():
            _masked(infos, "context", shown.context, shown.restarted)
        rewards = shown.reward.astype(np.float64)
        return shown.observation, rewards, shown.terminated, shown.truncated, infos

    def render(self) -> tuple[UInt8[np.ndarray, "Hc Wc 3"], ...] | None:
        """A frame of each board, 16 pixels a square; None without a render mode."""
        frames = _frames(self, None if self._carry is None else self._carry.state)
        return None if frames is None else tuple(frames)


def _asked(context: Any, shape: tuple[int, ...], count: int) -> Int[np.ndarray, "*shape"]:
    """Indices of contexts from the one index, or the index for each episode, that a reset asks for."""
    try:
        index = np.asarray(context)
    except ValueError:  # rows of several lengths
        index = np.asarray(None)
    if index.dtype.kind not in "iu" or index.shape not in ((), shape):
        wanted = f"one index or {shape[0]} of them" if shape else "one index"
        raise BadInput(f"reset: context is {context}; it must be {wanted}")
    if not ((index >= 0) & (index < count)).all():
        raise BadInput(f"reset: context {context} is not in 0 .. {count - 1}")
    return np.broadcast_to(index, shape).astype(np.int32)


def _rendering(env: Environment, mode: str | None) -> dict[str, Any]:
    """The metadata of an environment; BadInput for a mode that it does not have."""
    metadata = RENDERING if isinstance(env, BoardGame) else RENDERING | {"render_modes": []}
    if mode is not None and mode not in metadata["render_modes"]:
        raise BadInput(f"{env.name}: render_mode '{mode}' is not one of {metadata['render_modes'] or 'none'}")
    return metadata


def _frames(shown: GymnasiumEnv | GymnasiumVectorEnv, state: State | None) -> npt.NDArray | None:
    """Frames (N, Hc, Wc, 3) of one state or of a batch of states."""
    if shown.render_mode is None:
        gymnasium.logger.warn("render() shows nothing: make the environment with render_mode='rgb_array'")
        return None
    if state is None:
        raise gymnasium.error.ResetNeeded("Cannot call env.render() before calling env.reset()")
    assert isinstance(shown.env, BoardGame)
    pictures = np.asarray(_pictures(shown.env, isinstance(shown, GymnasiumVectorEnv))(state))
    return render.frames(shown.env.tiles, pictures.reshape(-1, *pictures.shape[-2:]))


@functools.lru_cache
def _pictures(env: BoardGame, many: bool) -> Callable:
    return jax.jit(jax.vmap(env.picture) if many else env.picture)


def _spec(
    env: Environment, contexts: ContextSet, seed: int | None, bounds: tuple[float, float] | None
) -> EnvSpec:
    """What `gymnasium.make` needs to make the same environment again."""
    name = re.sub(r"\W", "-", env.name)
    arguments = {"env": env, "contexts": contexts, "seed": seed, "observation_range": bounds}
    return EnvSpec(f"epomdp/{name}-v0", "epomdp.envs.to_gymnasium:GymnasiumEnv", kwargs=arguments)


def _observation_space(env: Environment, bounds: tuple[float, float] | None) -> gymnasium.spaces.Box:
    dtype = np.dtype(env.observation.dtype)
    if bounds is None:
        binary = isinstance(env, BoardGame) and not isinstance(env, MovingGame)
        whole = dtype.kind in "iu" and not binary
        bounds = (np.iinfo(dtype).min, np.iinfo(dtype).max) if whole else (0, 1)
    return gymnasium.spaces.Box(*bounds, shape=env.observation.shape, dtype=dtype.type)


def _masked(infos: dict[str, Any], name: str, value: Any, mask: npt.NDArray[np.bool_]) -> dict[str, Any]:
    """Add one entry in Gymnasium's form: the value, blank where it does not apply, and where it applies."""
    if isinstance(value, np.ndarray) and value.dtype != object:
        value = np.where(mask, value, np.zeros_like(value))
    infos.update({name: value, f"_{name}": mask.copy()})
    return infos


def _objects(rows: npt.NDArray, mask: npt.NDArray[np.bool_]) -> npt.NDArray[np.object_]:
    """One object for each row where `mask` holds, None elsewhere."""
    objects = np.full(len(rows), None, dtype=object)
    for i in np.flatnonzero(mask):
        objects[i] = rows[i]
    return objects


@functools.lru_cache
def _single(env: Environment) -> tuple[Callable, Callable]:
    """Compiled reset and step, shared by all equal environments; the state stays on the device."""

    def reset(values: PyTree, index: Int[Array, ""], seed: Int[Array, ""]):
        key, first = jax.random.split(jax.random.key(seed))
        state, observation = env.reset(first, jax.tree.map(lambda leaf: leaf[index], values))
        return (key, state), observation

    def step(carry: tuple[Key, State], action: Int[Array, ""]):
        key, now = jax.random.split(carry[0])
        state, shown = env.step(now, carry[1], jnp.asarray(action, jnp.int32))
        # One small array crosses to the host in a fraction of the time of four scalars.
        outcome = (shown.reward, shown.terminated, shown.truncated, env.solved(state, shown))
        return (key, state), shown.observation, jnp.stack([jnp.asarray(x, jnp.float32) for x in outcome])

    return jax.jit(reset), jax.jit(step)


class _Carry(NamedTuple):
    """What N episodes carry from step to step. `ended`: the next step is a reset (never, in SAME_STEP)."""

    key: Key
    context: Int[Array, " N"]
    state: State
    ended: Bool[Array, " N"]


class _Shown(NamedTuple):
    """What a batched step tells the host; leaves (N, ...)."""

    observation: PyTree
    reward: PyTree
    terminated: PyTree
    truncated: PyTree
    solved: PyTree
    ended: PyTree
    final_observation: PyTree
    restarted: PyTree
    context: PyTree


@functools.lru_cache
def _vector(env: Environment, n: int, same_step: bool) -> tuple[Callable, Callable]:
    """Compiled reset and step of n episodes."""

    def begin(values: PyTree, key: Key, index: Int[Array, " N"] | None = None):
        draw, first = jax.random.split(key)
        if index is None:
            index = jax.random.randint(draw, (n,), 0, jax.tree.leaves(values)[0].shape[0])
        contexts = jax.tree.map(lambda leaf: leaf[index], values)
        return index, *jax.vmap(env.reset)(jax.random.split(first, n), contexts)

    def reset(values: PyTree, seed: Int[Array, ""], chosen: Int[Array, " N"] | None):
        key, first = jax.random.split(jax.random.key(seed))
        context, state, observation = begin(values, first, chosen)
        return _Carry(key, context, state, jnp.zeros(n, bool)), context, observation

    def step(values: PyTree, carry: _Carry, actions: Int[Array, " N"]):
        key, now, later = jax.random.split(carry.key, 3)
        state, shown = jax.vmap(env.step)(jax.random.split(now, n), carry.state, actions)
        solved = jax.vmap(env.solved)(state, shown)
        ended = (shown.terminated | shown.truncated) & ~carry.ended
        restart = ended if same_step else carry.ended

        def begin_anew(going):
            return jax.tree.map(functools.partial(_choose, restart), begin(values, later), going)

        going = (carry.context, state, shown.observation)
        context, state, observation = jax.lax.cond(restart.any(), begin_anew, lambda going: going, going)
        # In NEXT_STEP mode the step after an end is the reset, and shows nothing of the ended episode.
        reward, terminated, truncated = (jnp.where(carry.ended, jnp.zeros_like(x), x) for x in shown[1:])
        carry = _Carry(key, context, state, jnp.zeros(n, bool) if same_step else ended)
        end = (solved, ended, shown.observation)
        return carry, _Shown(observation, reward, terminated, truncated, *end, restart, context)

    return jax.jit(reset), jax.jit(step)


def _choose(mask: Bool[Array, " N"], yes: Array, no: Array) -> Array:
    return jnp.where(mask.reshape(mask.shape + (1,) * (yes.ndim - 1)), yes, no)
