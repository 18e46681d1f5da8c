"""Gymnasium's ids: an environment made by its id, or one line that says what is missing."""

from __future__ import annotations

import functools
import re
import sys
import warnings
from typing import Any

import gymnasium

from epomdp.errors import BadInput, unknown_name

PACKAGES = {"ALE": "ale_py"}
"""Modules that register ids of a kind when they are imported, where the two have different names."""


def make_by_id(name: str, limit: int | None = None, arguments: dict[str, Any] | None = None) -> gymnasium.Env:
    """`gymnasium.make` without its checks at every step; MiniGrid's ids are there without an import.

    Raises:
        BadInput: no such id, the nearest suggested, or a package that is missing. What else it raises goes through.
    """
    module, _, plain = name.rpartition(":")
    if not plain:
        raise BadInput(
            f"gym:{module or 'ID'}: the id is missing; give one of Gymnasium's, gym:CartPole-v1 for instance"
        )
    if ":" in module:
        raise BadInput(f"gym:{name}: has a colon too many; give gym:ID or gym:MODULE:ID")
    if plain.startswith(("MiniGrid-", "BabyAI-")) and plain not in gymnasium.registry:
        try:
            import minigrid  # noqa: F401
        except ImportError:
            raise BadInput(f"gym:{name}: MiniGrid is not installed; pip install 'epomdp[minigrid]'") from None
    try:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            env = gymnasium.make(name, limit, disable_env_checker=True, **arguments or {})
    except gymnasium.error.NamespaceNotFound:
        group = plain.partition("/")[0]
        raise BadInput(
            f"unknown Gymnasium environment '{name}'; nothing that is imported registers {group}/...: install its "
            f"package and give gym:{PACKAGES.get(group, 'MODULE')}:{plain}, with the module that registers it"
        ) from None
    except gymnasium.error.UnregisteredEnv as error:
        near = str(unknown_name("Gymnasium environment", name, gymnasium.registry))
        if "did you mean" not in near:
            near = f"unknown Gymnasium environment '{name}'; {one_line(error)}"
        raise BadInput(f"{near} (module:ID imports the module that registers it)") from None
    except (gymnasium.error.Error, ImportError) as error:
        raise BadInput(f"gym:{name}: {one_line(error)}") from error
    for warning in caught:
        _warn(re.sub("\x1b\\[[0-9;]*m", "", str(warning.message)), warning.category)
    return env


@functools.cache
def _warn(text: str, category: type[Warning]) -> None:
    """Pass a warning on, once: every lane makes an environment."""
    warnings.warn(text, category, stacklevel=3)


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
