"""The ids under which `gymnasium.make` and `gymnasium.make_vec` know the games, registered by `import epomdp`."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

import gymnasium

from epomdp.errors import unknown_name

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


def make_game(name: str, options: dict[str, Any]) -> BoardGame:
    """Make a board game by name, with its own options (`size`, `view`, `themes`, `max_episode_steps`).

    Raises:
        BadInput: no game of that name, or an option that cannot be.
    """
    if name not in GAMES:
        raise unknown_name("board game", name, GAMES)
    module, _, attribute = GAMES[name].partition(":")
    return getattr(importlib.import_module(module), attribute)(**options)
