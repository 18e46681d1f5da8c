"""The ids under which `gymnasium.make` and `gymnasium.make_vec` know the games, registered by `import epomdp`."""

from __future__ import annotations

import importlib
import inspect
import operator
from collections.abc import Collection
from typing import TYPE_CHECKING, Any

import gymnasium

from epomdp.errors import BadInput, unknown_name

if TYPE_CHECKING:
    from epomdp.envs.boards import BoardGame

GAMES = {
    "maze": "epomdp.envs.maze:Maze",
    "heist": "epomdp.envs.heist:Heist",
    "bigfish": "epomdp.envs.bigfish:Bigfish",
    "dodgeball": "epomdp.envs.dodgeball:Dodgeball",
}
"""Names of the board games, and where their classes are."""


def register() -> None:
    """Register "epomdp/maze-v0" and the others; imports no JAX until one of them is made."""
    for name in GAMES:
        gymnasium.register(
            id=f"epomdp/{name}-v0",
            entry_point="epomdp.envs.gymnasium_games:LevelEnv",
            vector_entry_point="epomdp.envs.gymnasium_games:LevelVectorEnv",
            kwargs={"game": name},
        )


def make_game(name: str, options: dict[str, Any], others: Collection[str] = ()) -> BoardGame:
    """Make a board game by name, with its own options (`size`, `view`, `themes`, `max_episode_steps`).

    Args:
        others: names to suggest besides, of options that the caller takes itself.

    Raises:
        BadInput: no game of that name, or an option that cannot be.
    """
    if name not in GAMES:
        raise unknown_name("board game", name, GAMES)
    module, _, attribute = GAMES[name].partition(":")
    game = getattr(importlib.import_module(module), attribute)
    known = inspect.signature(game).parameters
    for option in options:
        if option not in known:
            raise unknown_name(f"option of {name}", option, {*known, *others})
    return game(**{option: _checked(name, option, value) for option, value in options.items()})


_KINDS = {"view": str, "themes": bool}


def _checked(game: str, option: str, value: Any) -> Any:
    if option in _KINDS:
        if not isinstance(value, _KINDS[option]):
            raise BadInput(f"{game}: {option} must be a {_KINDS[option].__name__}, got {value!r}")
        return value
    return None if value is None and option == "max_episode_steps" else integer(game, option, value)


def integer(game: str, option: str, value: Any) -> int:
    """The value of an option that counts something; BadInput unless it is an integer."""
    if isinstance(value, bool) or not hasattr(value, "__index__"):
        raise BadInput(f"{game}: {option} must be an integer, got {value!r}")
    return operator.index(value)
