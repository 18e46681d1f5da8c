"""Replays of boards: from policies to contents, to the page, and in headless Chromium."""

import json
import re
from collections.abc import Callable
from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest
from selenium.webdriver import Keys
from selenium.webdriver.common.by import By

from epomdp.agents import policies
from epomdp.envs.boards import levels
from epomdp.envs.maze import Maze
from epomdp.errors import BadInput
from epomdp.evaluate import evaluate
from epomdp.report import boards
from epomdp.report.contents import BoardPlay, BoardReplay, Page
from epomdp.report.from_replays import board_replays
from epomdp.report.page import render

TILES = ['<rect width="1" height="1" fill="#eeeeee"/>', '<circle cx=".5" cy=".5" r=".4" fill="#0000ff"/>']


def walk(name: str, squares: list[int], solved: bool) -> BoardPlay:
    film = np.zeros((len(squares), 1, 4), int)
    film[np.arange(len(squares)), 0, squares] = 1
    pairs = list(zip(squares[:-1], np.sign(np.diff(squares)), strict=True))
    actions = ["right" if d > 0 else "left" for _, d in pairs]
    repeated = [pair in pairs[:k] for k, pair in enumerate(pairs)]
    return BoardPlay(
        name, name.capitalize(), film, actions, [0.0] * (len(pairs) - 1) + [2.5], solved, repeated
    )


@pytest.fixture
def replays() -> list[BoardReplay]:
    plays = [walk("straight", [0, 1, 2, 3], True), walk("loop", [0, 1, 0, 1, 0, 1], False)]
    return [BoardReplay("level-1", TILES, plays, "ab" * 32), BoardReplay("level-2", TILES, plays[:1])]


def test_the_script_can_put_every_picture_together_again(replays: list[BoardReplay]) -> None:
    for replay, data in zip(replays, boards.board_data(replays), strict=True):
        for play, facts in zip(replay.plays, data["plays"], strict=True):
            board = list(facts["start"])
            for changes, picture in zip([[], *facts["changes"]], play.film, strict=True):
                for square, tile in zip(changes[::2], changes[1::2], strict=True):
                    board[square] = tile
                assert board == picture.ravel().tolist()


def test_the_page_without_a_script_has_last_pictures_and_outcomes(replays: list[BoardReplay], read) -> None:
    written = render(Page("t", "v", replays=replays))
    reader = read(written)
    assert (
        "solved in 3 steps" in reader.text() and "not solved in 5 steps, 3 of them repeats" in reader.text()
    )
    assert [g["id"] for g in reader.named("g") if "id" in g] == ["tile-0-0", "tile-0-1"]
    places = [(use["href"], use.get("x")) for use in reader.named("use")]
    assert places == [
        ("#tile-0-0", None),
        ("#tile-0-1", "3"),
        ("#tile-0-0", None),
        ("#tile-0-1", "1"),
        *places[:2],
    ]
    data = json.loads(re.search(r'id="board-data">(.*?)</script>', written)[1])
    assert [level["steps"] for level in data] == [5, 3]


def test_contents_that_do_not_fit_are_refused() -> None:
    good = walk("w", [0, 1, 2], True)
    for change in ({"actions": ["left"]}, {"film": good.film + 1}, {"repeated": [True]}, {"returns": []}):
        with pytest.raises(BadInput, match="replay x, w"):
            BoardReplay("x", TILES, [BoardPlay(**(vars(good) | change))])


def test_replays_are_the_episodes_of_the_evaluation() -> None:
    game = Maze(size=7, max_episode_steps=12)
    chosen = levels(game, [4, 9])
    always = policies.greedy(lambda params, seen: jnp.array([0.0, 0.0, 1.0, 0.0]), "left, always")
    shown = {"left": (always, ()), "any": (policies.sampled(policies.uniform(4), "any move"), ())}
    replays = board_replays(game, chosen, shown, seed=3)
    assert [replay.name for replay in replays] == ["maze-4", "maze-9"]
    for k, (policy, params) in enumerate(shown.values()):
        found = evaluate(game, policy, params, chosen, episodes=1, seed=3)
        for i, replay in enumerate(replays):
            play = replay.plays[k]
            assert len(play.actions) == found.lengths[i, 0] and play.returns[-1] == found.returns[i, 0]
            assert (play.solved, sum(play.repeated)) == (found.solved[i, 0], found.repeats[i, 0])
            state, _ = game.reset(None, chosen.context(i))
            np.testing.assert_array_equal(play.film[0], game.picture(state))


@pytest.mark.chromium
def test_it_steps_by_keyboard(replays: list[BoardReplay], opened: Callable[[str], Any]) -> None:
    driver = opened(render(Page("t", "v", replays=replays))).load()
    output = driver.find_element(By.CSS_SELECTOR, "#boards output")

    def squares(lane: int) -> list[int]:
        found = driver.find_elements(By.CSS_SELECTOR, f".replay.current [data-lane='{lane}'] .board g use")
        return [int(use.get_attribute("href").split("-")[-1]) for use in found]

    def did(lane: int) -> str:
        return driver.find_element(By.CSS_SELECTOR, f".replay.current [data-lane='{lane}'] .outcome").text

    assert output.text == "step 0 of 5" and squares(0) == squares(1) == [1, 0, 0, 0]
    following = driver.find_element(By.CSS_SELECTOR, "#boards [data-go=next]")
    for _ in range(3):
        following.send_keys(Keys.ENTER)
    assert (output.text, squares(0), squares(1)) == ("step 3 of 5", [0, 0, 0, 1], [0, 1, 0, 0])
    assert (did(0), did(1)) == ("✓ solved in 3 steps", "step 3: right, again")
    slider = driver.find_element(By.CSS_SELECTOR, "#boards input[type=range]")
    slider.send_keys(Keys.HOME)
    assert (did(0), squares(1)) == ("start", [1, 0, 0, 0])
    slider.send_keys(Keys.END)
    assert did(1) == "✗ not solved in 5 steps, 3 of them repeats"
    first = driver.find_element(By.CSS_SELECTOR, "input[name=replay]")
    driver.execute_script("arguments[0].focus()", first)
    first.send_keys(Keys.ARROW_RIGHT)
    assert output.text == "step 0 of 3" and squares(0) == [1, 0, 0, 0]


@pytest.mark.chromium
@pytest.mark.parametrize(("width", "scheme"), [(320, "light"), (1100, "dark")])
def test_it_fits_and_can_be_read(
    width: int,
    scheme: str,
    replays: list[BoardReplay],
    opened: Callable,
    overflowing: str,
    weak_contrast: str,
) -> None:
    driver = opened(render(Page("t", "v", replays=replays))).load(width=width, prefers_color_scheme=scheme)
    excess, wide = driver.execute_script(overflowing)
    assert excess <= 0 and wide == []
    assert driver.execute_script(weak_contrast) == []
