"""The board games as Gymnasium makes them by id: a game's name, its levels, its options."""

from __future__ import annotations

from typing import Any

from gymnasium.vector import AutoresetMode

from epomdp.contexts import ContextSet
from epomdp.envs.boards import BoardGame, levels
from epomdp.envs.registration import integer, make_game
from epomdp.envs.to_gymnasium import GymnasiumEnv, GymnasiumVectorEnv
from epomdp.errors import BadInput


class LevelEnv(GymnasiumEnv):
    """A board game as `gymnasium.make("epomdp/maze-v0", ...)` makes it.

    Args:
        game: its name, given by the id.
        num_levels: how many levels episodes are drawn from.
        start_level: the first one's seed; `info["context"]` counts from it.
        seed, render_mode: as for GymnasiumEnv.
        step_limit: the game's `max_episode_steps`. Under that name `gymnasium.make` takes it for itself: it can
            end episodes earlier, and never later than the game does.
        options: the game's own, such as `size`, `view` and `themes`.
    """

    def __init__(
        self,
        game: str,
        num_levels: int = 200,
        start_level: int = 0,
        seed: int | None = None,
        render_mode: str | None = None,
        step_limit: int | None = None,
        **options: Any,
    ) -> None:
        env = _game(game, step_limit, options)
        super().__init__(env, _levels(env, start_level, num_levels), seed, render_mode=render_mode)


class LevelVectorEnv(GymnasiumVectorEnv):
    """N board games as `gymnasium.make_vec("epomdp/maze-v0", num_envs=N, ...)` makes them.

    Args: `num_envs`, `autoreset_mode`: as for GymnasiumVectorEnv; the others as for LevelEnv.
    """

    def __init__(
        self,
        num_envs: int,
        game: str,
        num_levels: int = 200,
        start_level: int = 0,
        seed: int | None = None,
        render_mode: str | None = None,
        autoreset_mode: AutoresetMode = AutoresetMode.NEXT_STEP,
        step_limit: int | None = None,
        **options: Any,
    ) -> None:
        env = _game(game, step_limit, options)
        chosen = _levels(env, start_level, num_levels)
        super().__init__(env, chosen, num_envs, seed, autoreset_mode, render_mode=render_mode)


_OWN = ("num_levels", "start_level", "seed", "render_mode", "step_limit")


def _game(name: str, step_limit: int | None, options: dict[str, Any]) -> BoardGame:
    if step_limit is not None:
        if "max_episode_steps" in options:
            raise BadInput(f"{name}: step_limit and max_episode_steps are one option; give step_limit alone")
        options = options | {"max_episode_steps": integer(name, "step_limit", step_limit)}
    return make_game(name, options, _OWN)


def _levels(env: BoardGame, first: int, count: int) -> ContextSet:
    first, count = (integer(env.name, *named) for named in (("start_level", first), ("num_levels", count)))
    if count < 1 or first < 0:
        raise BadInput(
            f"{env.name}: num_levels must be at least 1 and start_level 0, got {count} and {first}"
        )
    return levels(env, range(first, first + count))
