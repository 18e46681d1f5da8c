"""Pictures against the indices they are drawn from: pixels, shapes, films, text."""

import re
from xml.etree import ElementTree

import numpy as np
import pytest
from PIL import Image
from rich.console import Console

from epomdp.envs import render
from epomdp.envs.bigfish import Bigfish
from epomdp.envs.boards import Tile, levels
from epomdp.envs.dodgeball import Dodgeball
from epomdp.envs.maze import Maze

TILES = (
    Tile("floor", " ", "#ffffff"),
    Tile("wall", "#", "#333355"),
    Tile("gem", "*", "#e9a23b"),
    Tile("red key", "r", "#e34948"),
    Tile("red lock", "R", "#e34948"),
    Tile("agent <you>", "@", "#2a78d6"),
)
BOARD = np.array([[1, 1, 1, 1], [1, 5, 0, 1], [2, 3, 4, 0]])
SVG = "{http://www.w3.org/2000/svg}"


def rgb(index):
    return tuple(int(TILES[index].colour[k : k + 2], 16) for k in (1, 3, 5))


@pytest.mark.parametrize("cell", [1, 5, 16])
def test_every_square_has_its_tiles_pixels(cell):
    frame = render.frames(TILES, BOARD, cell)
    assert frame.shape == (3 * cell, 4 * cell, 3) and frame.dtype == np.uint8
    for (y, x), index in np.ndenumerate(BOARD):
        square = frame[y * cell : (y + 1) * cell, x * cell : (x + 1) * cell]
        if index in (0, 1):
            assert (square == rgb(index)).all()
        elif cell > 1:
            # Somewhere near the middle or the rim it has the tile's pure colour, and another in a corner.
            assert (square == rgb(index)).all(axis=-1).any()
            assert (square[0, 0] != rgb(index)).any()


def test_a_film_is_its_pictures():
    film = np.stack([BOARD, BOARD[::-1], BOARD[:, ::-1]])
    made = render.frames(TILES, film, 4)
    for k in range(3):
        np.testing.assert_array_equal(made[k], render.frames(TILES, film[k], 4))


def test_two_kinds_of_one_colour_look_different():
    key, lock = (render.frames(TILES, [[k]], 16) for k in (3, 4))
    assert (key != lock).any(axis=-1).mean() > 0.05
    assert render.shape(TILES, 3) != render.shape(TILES, 4)


def test_headings_are_seen_without_colours():
    ways = "<>^v"
    tiles = (TILES[0], *(Tile(f"ball {way}", "a", "#e34948", way) for way in ways))
    assert render.text(tiles, [[1, 2, 3, 4, 0]]).plain == "<aa>a^av  "
    pure = [
        (frame == rgb(3)).all(axis=-1) for frame in render.frames(tiles, [[[k]] for k in range(1, 5)], 32)
    ]
    # Turned to the right alike; the nose reaches further out on the side of the heading.
    turned = [np.flip(pure[0], 1), pure[1], np.rot90(pure[2], -1), np.rot90(pure[3])]
    for red in turned:
        assert red[:, -2:].any() and not red[:, :2].any()
        assert (red != turned[0])[:, -4:].sum() <= 4
    noses = [re.findall(r'<polygon points="([\d.,]+) ', render.svg(tiles, [[k]])) for k in range(1, 5)]
    assert noses == [["0,0.5"], ["1,0.5"], ["0.5,0"], ["0.5,1"]]


@pytest.mark.parametrize("game", (Bigfish, Dodgeball))
def test_every_tile_is_written_in_its_own_way(game):
    tiles = game.tiles
    written = render.text(tiles, np.arange(len(tiles))[None]).plain
    assert len({written[i : i + 2] for i in range(0, len(written), 2)}) == len(tiles)


def test_ink_stands_out():
    def luminance(colour):
        c = np.array(rgb_of(colour)) / 255
        return np.where(c <= 0.03928, c / 12.92, ((c + 0.055) / 1.055) ** 2.4) @ [0.2126, 0.7152, 0.0722]

    def rgb_of(colour):
        return [int(colour[k : k + 2], 16) for k in (1, 3, 5)]

    for colour in ("#000000", "#ffffff", "#777777", "#e34948", "#2a78d6", "#f4efe6"):
        low, high = sorted((luminance(colour), luminance(render.ink(colour))))
        assert (high + 0.05) / (low + 0.05) >= 4.5


def covered(root):
    """Squares that a standalone picture draws in each colour, from its elements."""
    board = np.zeros(BOARD.shape, int)
    by_colour = {tile.colour: k for k, tile in enumerate(TILES)}
    for element in root:
        if element.tag == f"{SVG}path":
            for x, y, n in re.findall(r"M(\d+) (\d+)h(\d+)v1h-\3z", element.get("d")):
                board[int(y), int(x) : int(x) + int(n)] = by_colour[element.get("fill")]
        name = element.find(f"{SVG}title")
        if name is not None:
            index = [tile.name for tile in TILES].index(name.text)
            assert element.get("fill") == TILES[index].colour
            found = element.get("cx") or element.get("x") or element.get("points").split(",")[0]
            down = element.get("cy") or element.get("y") or element.get("points").split(",")[1].split()[0]
            board[int(float(down)), int(float(found))] = index
    return board


def test_svg_draws_every_square_once():
    root = ElementTree.fromstring(render.svg(TILES, BOARD, cell=20, title="a < b"))
    assert (root.get("viewBox"), root.get("width"), root.get("height")) == ("0 0 4 3", "80", "60")
    assert root.find(f"{SVG}title").text == "a < b"
    np.testing.assert_array_equal(covered(root), BOARD)


def test_the_animation_shows_each_picture_at_its_time():
    film = np.stack([BOARD, BOARD, BOARD, BOARD])
    film[1, 1, 1:3] = [0, 5]
    film[2, 1, 1:3] = [1, 3]
    root = ElementTree.fromstring(render.animated_svg(TILES, film, seconds=0.5))
    still = (film == film[0]).all(axis=0)
    np.testing.assert_array_equal(covered(root), np.where(still, BOARD, 0))
    moving = root.findall(f"{SVG}g")
    for k, board in enumerate(film):
        shown = np.zeros_like(board)
        for group in moving:
            thing, animation = group[0], group.find(f"{SVG}animate")
            assert animation.get("dur") == "3s"
            times = [float(t) * 3 for t in animation.get("keyTimes").split(";")]
            now = [
                v for t, v in zip(times, animation.get("values").split(";"), strict=True) if t <= k / 2 + 1e-2
            ]
            if now[-1] == "visible":
                x, y = (float(thing.get(f"c{c}") or thing.get(c)) for c in "xy")
                colour = [tile.colour for tile in TILES].index(thing.get("fill"))
                assert shown[int(y), int(x)] == 0
                shown[int(y), int(x)] = colour
        np.testing.assert_array_equal(shown, np.where(still, 0, board))


def test_gif_has_every_frame(tmp_path):
    film = np.stack([BOARD, np.roll(BOARD, 1, 1), np.roll(BOARD, 2, 1)])
    render.save_gif(TILES, film, tmp_path / "film.gif", cell=8, seconds=0.2)
    with Image.open(tmp_path / "film.gif") as gif:
        assert gif.n_frames == 3 and gif.info["loop"] == 0
        for k, expected in enumerate(render.frames(TILES, film, 8)):
            gif.seek(k)
            assert gif.info["duration"] == (200 if k < 2 else 1500)
            # The palette has at most 256 colours; the flat parts are exact to a few shades.
            assert np.abs(np.asarray(gif.convert("RGB")).astype(int) - expected).mean() < 3


def test_text_has_two_columns_a_square_and_colours():
    drawn = render.text(TILES, BOARD)
    assert drawn.plain == "########\n##@   ##\n* r R   "
    console = Console(force_terminal=True, color_system="truecolor", width=20)
    with console.capture() as capture:
        console.print(drawn)
    assert "48;2;42;120;214" in capture.get()


def test_the_picture_of_a_state_is_the_games():
    game = Maze()
    state, _ = game.reset(None, levels(game, [3]).context(0))
    np.testing.assert_array_equal(render.picture(game, state), game.picture(state))
