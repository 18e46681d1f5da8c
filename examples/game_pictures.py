"""Draw the pictures of docs/games: the first board of a level of each game, as SVG.

python examples/game_pictures.py docs/games/img
"""

import sys
from pathlib import Path

import jax.numpy as jnp

from epomdp.envs import render
from epomdp.envs.boards import levels
from epomdp.envs.registration import GAMES, make_game

SEEDS = {"maze": 3, "heist": 1, "bigfish": 0, "dodgeball": 0}
STAYS = {"bigfish": 12, "dodgeball": 6}  # steps to stay, so that something is on its way


def picture(name: str) -> str:
    """A board of a game as an SVG document."""
    game = make_game(name, {})
    made = levels(game, [SEEDS[name]])
    context = {key: jnp.asarray(value) for key, value in made.context(0).items()}
    state, _ = game.reset(None, context)
    for _ in range(STAYS.get(name, 0)):
        state, _ = game.step(None, state, jnp.int32(game.action_names.index("stay")))
    title = f"{name.capitalize()}, level {made.ids[0]}, step {int(state.steps)}"
    return render.svg(game.tiles, render.picture(game, state), cell=26, title=title)


if __name__ == "__main__":
    folder = Path(sys.argv[1])
    folder.mkdir(parents=True, exist_ok=True)
    for name in GAMES:
        (folder / f"{name}.svg").write_text(picture(name), encoding="utf-8")
