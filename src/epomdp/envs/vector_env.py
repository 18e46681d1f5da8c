"""Recording from a Gymnasium vector environment that one has already, whatever its way to reset.

Such an environment chooses its contexts itself, so that nobody can say which ones an agent has seen: to train and
evaluate in contexts of one's own, `gym:ID` and `HostEnvironment` are for that. Here is what learning needs of any
rollout: no step that never happened, and no successor from another episode.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import numpy as np
from gymnasium.vector import AutoresetMode, VectorEnv
from jaxtyping import Bool, Int, PyTree

from epomdp.envs.base import Transition
from epomdp.errors import BadInput

Act = Callable[[PyTree], tuple[Any, dict[str, Any]]]
"""From observations (N, ...) to actions (N,) and what to keep with the step, leaves (N, ...)."""


class Cursor(NamedTuple):
    """Where N environments are between two rollouts.

    Attributes:
        observation: leaves (N, ...).
        over: whether the episode has ended and the next step of the environment will be its reset.
    """

    observation: PyTree
    over: Bool[np.ndarray, " N"]


def begin(env: VectorEnv, seed: int | None = None) -> Cursor:
    """Start an episode in each of the N environments."""
    observation, _ = env.reset(seed=seed)
    return Cursor(_copied(observation), np.zeros(env.num_envs, bool))


def record(
    env: VectorEnv, act: Act, cursor: Cursor, num_steps: int, mode: AutoresetMode | None = None
) -> tuple[Cursor, Transition]:
    """The next `num_steps` steps of each of the N environments.

    In NEXT_STEP mode a step that was a reset is left out, so an environment in which episodes have ended has fewer
    steps to show. All are stepped until the last has `num_steps`, and what the others have beyond that is dropped.

    Args:
        act: called once for each step of all environments.
        cursor: from `begin`, or from the rollout before.
        mode: how it resets; by default what its metadata say.

    Returns:
        Where the environments are now, and transitions with leaves (T, N, ...): the successor of a step that ended an
        episode is that episode's last observation. Each column is a sequence of true steps, in their order.

    Raises:
        BadInput: neither `mode` nor the environment's metadata say how it resets.
    """
    mode = mode or env.metadata.get("autoreset_mode")
    if mode is None:
        raise BadInput("record: the environment's metadata have no autoreset_mode; give `mode`")
    steps, real = [], []
    while sum(real, np.zeros(env.num_envs, int)).min() < num_steps:
        action, extras = _copied(act(cursor.observation))
        observation, reward, terminated, truncated, infos = env.step(action)
        ended = np.asarray(terminated) | np.asarray(truncated)
        following = _copied(observation)
        if mode == AutoresetMode.SAME_STEP and ended.any():
            _replace(following, infos["final_obs"], np.flatnonzero(ended))
        elif mode == AutoresetMode.DISABLED and ended.any():
            observation, _ = env.reset(options={"reset_mask": ended})
        reward, flags = np.array(reward, np.float32), [np.array(x, bool) for x in (terminated, truncated)]
        shown: list[Any] = [cursor.observation, action, reward, *flags, following, extras]
        steps.append(Transition(*shown))
        real.append(~cursor.over)
        over = ended if mode == AutoresetMode.NEXT_STEP else np.zeros_like(ended)
        cursor = Cursor(_copied(observation), over)
    rows = np.argsort(~np.stack(real), axis=0, stable=True)[:num_steps]
    columns = np.arange(env.num_envs)
    return cursor, jax.tree.map(lambda *x: np.stack(x)[rows, columns], *steps)


def _copied(tree: PyTree) -> PyTree:
    """Environments may write to their arrays again."""
    return jax.tree.map(np.array, tree)


def _replace(observations: PyTree, single: np.ndarray, environments: Int[np.ndarray, " k"]) -> None:
    """Put the observations of some environments, one object each, in their places."""
    for i in environments:
        for own, new in zip(jax.tree.leaves(observations), jax.tree.leaves(single[i]), strict=True):
            own[i] = new
