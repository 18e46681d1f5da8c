"""Pictures of board games from their tiles: frames, SVG, GIF and text for a terminal.

A picture is (H, W) indices into an environment's `tiles`, as its `picture(state)` gives; a film is (T, H, W) of them.
Each kind of thing has a shape and, where it is a letter or an arrow, its glyph, besides its colour: a key and a lock
of one colour, or two colours that a reader cannot tell apart, remain different. A picture shows what is where, not
all that agents see: not when a fish or an enemy will move.
"""

from __future__ import annotations

import functools
import html
import os
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np
import numpy.typing as npt
from jaxtyping import Int, UInt8
from PIL import Image, ImageDraw, ImageFont
from rich.text import Text

from epomdp.envs.boards import BoardGame, Tile

Tiles = Sequence[Tile]
_INSET = 0.1
_POINTS = {"diamond": ((0.5, 0.05), (0.95, 0.5), (0.5, 0.95), (0.05, 0.5))}
_NOSES = {
    "<": ((0, 0.5), (0.3, 0.15), (0.3, 0.85)),
    ">": ((1, 0.5), (0.7, 0.15), (0.7, 0.85)),
    "^": ((0.5, 0), (0.15, 0.3), (0.85, 0.3)),
    "v": ((0.5, 1), (0.15, 0.7), (0.85, 0.7)),
}
_SUPERSAMPLING = 4
_LEGIBLE = 9  # pixels along a square's side from which a glyph can be read


def picture(game: BoardGame, state: Any) -> Int[np.ndarray, "H W"]:
    """The picture of a state, on the host."""
    return np.asarray(_picture(game, state))


@functools.partial(jax.jit, static_argnums=0)
def _picture(game: BoardGame, state: Any):
    return game.picture(state)


def shape(tiles: Tiles, index: int) -> str:
    """How a tile is drawn: `ground` (the first tile), `block`, `diamond`, `disc` or `square`."""
    glyph = tiles[index].glyph
    if index == 0:
        return "ground"
    if glyph == "#":
        return "block"
    if glyph == "*":
        return "diamond"
    return "square" if glyph.isupper() or glyph == "x" else "disc"


def written(tiles: Tiles, index: int) -> str:
    """The glyph to write on a tile; nothing where its shape says enough."""
    glyph = tiles[index].glyph
    return "" if index == 0 or glyph in "#*@oO" else glyph


def ink(colour: str) -> str:
    """Black or white, whichever stands out from a colour "#rrggbb" (by WCAG's relative luminance)."""
    linear = [
        c / 12.92 if c <= 0.03928 else ((c + 0.055) / 1.055) ** 2.4 for c in np.divide(_rgb(colour), 255)
    ]
    return "#000000" if np.dot(linear, (0.2126, 0.7152, 0.0722)) > 0.179 else "#ffffff"


def _rgb(colour: str) -> tuple[int, int, int]:
    return (int(colour[1:3], 16), int(colour[3:5], 16), int(colour[5:7], 16))


def frames(tiles: Tiles, pictures: npt.ArrayLike, cell: int = 16) -> UInt8[np.ndarray, "*T Hc Wc 3"]:
    """Pixels of a picture or of a film.

    Args:
        pictures: (H, W) or (T, H, W) indices into `tiles`.
        cell: pixels along a square's side.
    """
    drawn = _sprites(tuple(tiles), cell)[np.asarray(pictures)]
    *time, height, width = drawn.shape[:-3]
    return drawn.swapaxes(-4, -3).reshape(*time, height * cell, width * cell, 3)


@functools.lru_cache(maxsize=32)
def _sprites(tiles: tuple[Tile, ...], cell: int) -> UInt8[np.ndarray, "tiles cell cell 3"]:
    return np.stack([np.asarray(_sprite(tiles, k, cell)) for k in range(len(tiles))])


def _sprite(tiles: Tiles, index: int, cell: int) -> Image.Image:
    form, colour = shape(tiles, index), tiles[index].colour
    if form in ("ground", "block"):
        return Image.new("RGB", (cell, cell), colour)
    # Drawn large and made smaller, for smooth edges.
    side = cell * _SUPERSAMPLING
    large = Image.new("RGB", (side, side), tiles[0].colour)
    draw = ImageDraw.Draw(large)
    box = (_INSET * side, _INSET * side, (1 - _INSET) * side - 1, (1 - _INSET) * side - 1)
    if form == "diamond":
        draw.polygon([(x * side, y * side) for x, y in _POINTS[form]], fill=colour)
    elif form == "disc":
        draw.ellipse(box, fill=colour)
    else:
        draw.rectangle(box, fill=colour)
    if nose := _NOSES.get(tiles[index].heading):
        draw.polygon([(x * side, y * side) for x, y in nose], fill=colour)
    if (glyph := written(tiles, index)) and cell >= _LEGIBLE:
        font = ImageFont.load_default(size=0.62 * side)
        draw.text((side / 2, side / 2), glyph, fill=ink(colour), font=font, anchor="mm")
    return large.resize((cell, cell), Image.Resampling.BOX)


def save_gif(
    tiles: Tiles, film: npt.ArrayLike, path: str | os.PathLike[str], *, cell: int = 16, seconds: float = 0.15
) -> None:
    """Save a film as an animated GIF that starts over after a pause.

    Args:
        film: (T, H, W) indices into `tiles`.
        cell: pixels along a square's side.
        seconds: how long a picture stands.
    """
    images = [Image.fromarray(frame) for frame in frames(tiles, film, cell)]
    # One palette for all, made from every tile, so that no frame has colours of its own.
    palette = Image.fromarray(frames(tiles, np.arange(len(tiles))[None], cell)).quantize(256)
    first, *rest = (image.quantize(palette=palette, dither=Image.Dither.NONE) for image in images)
    milliseconds = round(1000 * seconds)
    times = [milliseconds] * len(rest) + [max(milliseconds, 1500)]
    first.save(path, "GIF", save_all=True, append_images=rest, duration=times, loop=0)


def svg(tiles: Tiles, board: npt.ArrayLike, *, cell: int = 20, title: str = "") -> str:
    """A picture as an SVG document of its own.

    Args:
        board: (H, W) indices into `tiles`.
        cell: pixels along a square's side.
        title: text alternative.
    """
    board = np.asarray(board)
    body = svg_ground(tiles, board) + "".join(
        svg_thing(tiles, int(board[y, x]), x, y) for y, x in np.argwhere(_is_thing(tiles)[board])
    )
    return _document(board.shape, body, cell, title)


def animated_svg(
    tiles: Tiles, film: npt.ArrayLike, *, cell: int = 20, seconds: float = 0.25, title: str = ""
) -> str:
    """A film as an SVG document that plays by itself, over and over, the last picture a second longer.

    Args: as for `svg`, `film` being (T, H, W).
    """
    film = np.asarray(film)
    total = len(film) * seconds + 1.0
    times = [f"{k * seconds / total:.4g}" for k in range(len(film))]
    still = (film == film[0]).all(axis=0)
    # What never moves is drawn once; each other square shows one thing at a time.
    body = [svg(tiles, np.where(still, film[0], 0), cell=cell, title=title).removesuffix("</svg>\n")]
    for y, x in np.argwhere(~still):
        for tile in np.unique(film[:, y, x]):
            if tile:
                there = film[:, y, x] == tile
                starts = np.flatnonzero(np.diff(there, prepend=not there[0]))
                shown = ";".join("visible" if there[k] else "hidden" for k in starts)
                when = ";".join(times[k] for k in starts)
                body.append(
                    f'<g visibility="hidden">{svg_square(tiles, int(tile), x, y)}'
                    f'<animate attributeName="visibility" calcMode="discrete" dur="{total:g}s" '
                    f'repeatCount="indefinite" values="{shown}" keyTimes="{when}"/></g>'
                )
    return "".join(body) + "</svg>\n"


def svg_ground(tiles: Tiles, board: Int[np.ndarray, "H W"]) -> str:
    """The ground and the blocks of a picture, a path for each kind of block; one unit is one square."""
    height, width = board.shape
    parts = [f'<rect width="{width}" height="{height}" fill="{tiles[0].colour}"/>']
    for index in np.unique(board):
        if shape(tiles, int(index)) == "block":
            runs = "".join(f"M{x} {y}h{n}v1h-{n}z" for y, x, n in _runs(board == index))
            parts.append(f'<path fill="{tiles[index].colour}" d="{runs}"/>')
    return "".join(parts)


def svg_thing(tiles: Tiles, index: int, x: int, y: int) -> str:
    """A thing on a square, with its name as a tooltip."""
    tile, form = tiles[index], shape(tiles, index)
    name, size = f"<title>{html.escape(tile.name)}</title>", 1 - 2 * _INSET
    if form == "disc":
        body = (
            f'<circle cx="{x + 0.5:g}" cy="{y + 0.5:g}" r="{size / 2:g}" fill="{tile.colour}">{name}</circle>'
        )
    elif form == "diamond":
        points = " ".join(f"{x + dx:g},{y + dy:g}" for dx, dy in _POINTS[form])
        body = f'<polygon points="{points}" fill="{tile.colour}">{name}</polygon>'
    else:
        place = f'x="{x + _INSET:g}" y="{y + _INSET:g}" width="{size:g}" height="{size:g}"'
        body = f'<rect {place} fill="{tile.colour}">{name}</rect>'
    if nose := _NOSES.get(tile.heading):
        points = " ".join(f"{x + dx:g},{y + dy:g}" for dx, dy in nose)
        body += f'<polygon points="{points}" fill="{tile.colour}"/>'
    if glyph := written(tiles, index):
        body += (
            f'<text x="{x + 0.5:g}" y="{y + 0.72:g}" font-size=".62" text-anchor="middle" '
            f'font-family="sans-serif" font-weight="700" fill="{ink(tile.colour)}">{html.escape(glyph)}</text>'
        )
    return body


def svg_square(tiles: Tiles, index: int, x: int = 0, y: int = 0) -> str:
    """One square with any tile; what is no block stands on no ground."""
    if shape(tiles, index) in ("ground", "block"):
        return f'<rect x="{x}" y="{y}" width="1" height="1" fill="{tiles[index].colour}"/>'
    return svg_thing(tiles, index, x, y)


def _is_thing(tiles: Tiles) -> npt.NDArray[np.bool_]:
    return np.array([shape(tiles, k) not in ("ground", "block") for k in range(len(tiles))])


def _runs(mask: npt.NDArray[np.bool_]) -> list[tuple[int, int, int]]:
    """Horizontal runs of a mask: row, first column, length."""
    edges = np.diff(np.pad(mask.astype(np.int8), ((0, 0), (1, 1))), axis=1)
    starts, ends = np.argwhere(edges == 1), np.argwhere(edges == -1)
    return [(int(y), int(x), int(end - x)) for (y, x), (_, end) in zip(starts, ends, strict=True)]


def _document(shape: tuple[int, ...], body: str, cell: int, title: str) -> str:
    height, width = shape
    named = f"<title>{html.escape(title)}</title>" if title else ""
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" role="img" viewBox="0 0 {width} {height}" '
        f'width="{width * cell}" height="{height * cell}">{named}{body}</svg>\n'
    )


def text(tiles: Tiles, board: npt.ArrayLike) -> Text:
    """A picture for a terminal, two columns a square; glyphs tell things apart where there are no colours.

    What points somewhere is written with its heading: "<a", "a>", "a^" or "av".
    """
    drawn = Text()
    for y, row in enumerate(np.asarray(board)):
        drawn.append("\n" if y else "")
        for index in row:
            tile, back = tiles[index], tiles[index].colour
            glyph = tile.glyph * 2 if shape(tiles, int(index)) == "block" else _pointing(tile)
            front = back if shape(tiles, int(index)) == "block" else ink(back)
            drawn.append(glyph, f"{front} on {back}")
    return drawn


def _pointing(tile: Tile) -> str:
    return "<" + tile.glyph if tile.heading == "<" else tile.glyph + (tile.heading or " ")
