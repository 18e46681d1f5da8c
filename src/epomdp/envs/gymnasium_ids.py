"""Gymnasium's ids: an environment made by its id, or one line that says what is missing."""

from __future__ import annotations

import sys
from typing import Any

import gymnasium

from epomdp.errors import BadInput, unknown_name


def make_by_id(name: str, limit: int | None = None, arguments: dict[str, Any] | None = None) -> gymnasium.Env:
    """`gymnasium.make` without its checks at every step; MiniGrid's ids are there without an import.

    Raises:
        BadInput: no such id, the nearest suggested, or a package that is missing. What else it raises goes through.
    """
    plain = name.rpartition(":")[2]
    if plain.startswith(("MiniGrid-", "BabyAI-")) and plain not in gymnasium.registry:
        try:
            import minigrid  # noqa: F401
        except ImportError:
            raise BadInput(f"gym:{name}: MiniGrid is not installed; pip install 'epomdp[minigrid]'") from None
    try:
        return gymnasium.make(name, limit, disable_env_checker=True, **arguments or {})
    except gymnasium.error.UnregisteredEnv as error:
        near = str(unknown_name("Gymnasium environment", name, gymnasium.registry))
        if "did you mean" not in near:
            near = f"unknown Gymnasium environment '{name}'; {one_line(error)}"
        raise BadInput(f"{near} (module:ID imports the module that registers it)") from None
    except (gymnasium.error.Error, ImportError) as error:
        raise BadInput(f"gym:{name}: {one_line(error)}") from error


def one_line(error: BaseException) -> str:
    """An exception's message on one line."""
    return " ".join(str(error).split())


def is_minigrid(env: gymnasium.Env) -> bool:
    """Whether an environment is one of MiniGrid's, whose whole layout can be read."""
    module = sys.modules.get("minigrid.minigrid_env")
    return module is not None and isinstance(env.unwrapped, module.MiniGridEnv)


def own_limit(env: gymnasium.Env) -> int | None:
    """Steps after which an environment truncates by itself, where it says so."""
    limit = env.spec.max_episode_steps if env.spec is not None else None
    return limit or (env.unwrapped.max_steps if is_minigrid(env) else None)  # pyright: ignore
