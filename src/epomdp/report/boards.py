"""The post's figure 2, live: levels of a board game and what several policies did on them, step by step.

The last picture of every play is drawn here, for print and for a browser without JavaScript; the script has the tile
indices of the start and the changes of every step, and draws them with the page's own tiles.
"""

import itertools
from collections.abc import Sequence
from typing import Any

import numpy as np
from markupsafe import Markup

from epomdp.report.contents import BoardPlay, BoardReplay
from epomdp.report.svg import tag
from epomdp.report.text import plural


def sprites(replays: Sequence[BoardReplay]) -> Markup:
    """What the boards use: every tile of every set of tiles that occurs, on a square of its own."""
    drawings = [
        tag("g", Markup(drawn), id=_sprite(k, tile), class_="tile")
        for k, tiles in enumerate(_tile_sets(replays))
        for tile, drawn in enumerate(tiles)
    ]
    return tag("svg", tag("defs", *drawings), width=0, height=0, class_="sprites", aria_hidden="true")


def replay_views(replays: Sequence[BoardReplay]) -> list[dict[str, Any]]:
    """What the template needs for each level."""
    sets = _tile_sets(replays)
    return [
        {
            "id": f"replay-{k + 1}",
            "name": replay.name,
            "digest": replay.digest,
            "plays": [_play_view(play, sets.index(tuple(replay.tiles))) for play in replay.plays],
        }
        for k, replay in enumerate(replays)
    ]


def board_data(replays: Sequence[BoardReplay]) -> list[dict[str, Any]]:
    """What the script needs: for each play the first picture's indices and every step's changes."""
    sets = _tile_sets(replays)
    return [
        {
            "set": sets.index(tuple(replay.tiles)),
            "steps": max((len(play.actions) for play in replay.plays), default=0),
            "plays": [_play_data(play) for play in replay.plays],
        }
        for replay in replays
    ]


def _play_data(play: BoardPlay) -> dict[str, Any]:
    film = np.asarray(play.film).reshape(len(play.actions) + 1, -1)
    changed = [np.flatnonzero(a != b) for a, b in itertools.pairwise(film)]
    return {
        "start": film[0].tolist(),
        # Square, new tile, square, new tile ...
        "changes": [
            np.stack([where, after[where]], axis=1).ravel().tolist()
            for where, after in zip(changed, film[1:], strict=True)
        ],
        "actions": list(play.actions),
        "returns": [round(float(x), 4) for x in play.returns],
        "repeated": [int(x) for x in play.repeated],
    }


def _tile_sets(replays: Sequence[BoardReplay]) -> list[tuple[str, ...]]:
    return list(dict.fromkeys(tuple(replay.tiles) for replay in replays))


def _sprite(tile_set: int, tile: int) -> str:
    return f"tile-{tile_set}-{tile}"


def _play_view(play: BoardPlay, tile_set: int) -> dict[str, Any]:
    return {
        "label": play.label,
        "description": play.description,
        "solved": play.solved,
        "ret": float(play.returns[-1]) if len(play.returns) else 0.0,
        "outcome": _outcome(play),
        "board": _board(np.asarray(play.film)[-1], tile_set, f"Last picture of {play.label}"),
    }


def _outcome(play: BoardPlay) -> str:
    steps = plural(len(play.actions), "step")
    if play.solved:
        return f"solved in {steps}"
    repeats = sum(map(bool, play.repeated))
    if repeats:
        return f"not solved in {steps}, {repeats} of them repeats"
    return f"not solved in {steps}"


def _board(picture: np.ndarray, tile_set: int, title: str) -> Markup:
    height, width = picture.shape
    ground = tag("use", href=f"#{_sprite(tile_set, 0)}", transform=f"scale({width} {height})")
    things = [
        tag("use", href=f"#{_sprite(tile_set, int(picture[y, x]))}", x=x, y=y)
        for y, x in np.argwhere(picture != 0).tolist()
    ]
    return tag(
        "svg",
        tag("title", title),
        ground,
        tag("g", *things),
        class_="board",
        role="img",
        viewBox=f"0 0 {width} {height}",
    )
