"""The demo in small: the contract's JSON, what an interruption costs, and the page in a browser."""

import json
import re
import shutil

import numpy as np
import pytest

from epomdp import cli, demo, drivers
from epomdp.exact import guessing


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    """A demo of two seeds and very few steps, as the command line prints it."""
    folder = tmp_path_factory.mktemp("demo") / "out"
    report = demo.run(folder, seeds=2, steps=2048)
    return folder, report


def test_the_object_of_the_contract(small):
    folder, report = small
    json.dumps(report, allow_nan=False)
    assert report["page"] == str(folder / "report.html")
    names = {"random", "ppo-greedy", "ppo-sampled", "ppo-elimination", "unlinked", "leep", "leep-elimination"}
    assert names <= report["policies"].keys()
    for scores in report["policies"].values():
        for split, contexts in (("train", 60), ("test", 1000)):
            assert scores[split]["seeds"] == 2
            assert scores[split]["episodes"] == 2 * contexts * demo.EPISODES
            assert {"mean", "interval", "iqm", "solve_rate", "contexts"} <= scores[split].keys()
    assert {"argmax", "sampling", "memoryless", "elimination"} <= report["references"].keys()


def test_references_are_ordered_and_uniform_play_meets_its_closed_form(small):
    _, report = small
    values = report["references"]
    order = ("informed", "elimination", "memoryless", "sampling", "argmax")
    assert [values[name] for name in order[:3]] == sorted((values[name] for name in order[:3]), reverse=True)
    uniform = float(guessing.uniform(np.full((1, 10), 0.1), 20)[0])
    assert values["uniform"] == pytest.approx(uniform)
    assert report["policies"]["random"]["test"]["mean"] == pytest.approx(uniform, abs=0.35)
    assert report["policies"]["random-elimination"]["test"]["mean"] == pytest.approx(-4.5, abs=0.15)


def test_a_second_demo_uses_what_is_there(small, monkeypatch):
    folder, report = small
    monkeypatch.setattr(drivers, "_iterate", None)
    assert demo.run(folder, seeds=2, steps=2048) == report


def test_an_interrupted_demo_goes_on(small, tmp_path, monkeypatch):
    folder, report = small
    shutil.copytree(folder, tmp_path / "out")
    shutil.rmtree(tmp_path / "out" / "seed-1" / "leep")
    again = demo.run(tmp_path / "out", seeds=2, steps=2048)
    assert again["policies"] == report["policies"]


def test_a_demo_of_other_settings_is_refused(small, capsys):
    folder, _ = small
    assert cli.main(["demo", "--out", str(folder), "--seeds", "2", "--steps", "4096"]) == 2
    assert "was trained with another steps" in capsys.readouterr().err


@pytest.mark.chromium
def test_the_page_shows_the_figures_and_wrong_guesses_without_a_console_message(small, opened):
    folder, report = small
    driver = opened((folder / "report.html").read_text()).load()
    shown = driver.find_element("tag name", "main").text
    for name in ("ppo-elimination", "leep", "ppo-greedy"):
        assert f"{report['policies'][name]['test']['mean']:.2f}".replace("-", "\u2212") in shown
    episode = driver.find_element("css selector", ".episode.current").text
    assert "standard RL (greedy PPO)" in episode and "exact elimination" in episode


def test_the_live_figure_shows_test_images_that_greedy_ppo_never_gets_right(small):
    folder, _ = small
    shown = re.search(
        r'<script type="application/json"[^>]*>(.*?)</script>', (folder / "report.html").read_text(), re.S
    )
    assert shown is not None and json.loads(shown.group(1))
    recorded = json.loads((folder / "seed-0" / "ppo" / "evaluation.json").read_text())
    solved = dict(zip(recorded["ids"]["test"], recorded["policies"]["greedy"]["test"]["solved"], strict=True))
    names = set(re.findall(r"test image ([\w-]+)", (folder / "report.html").read_text()))
    assert names and all(not any(solved[name]) for name in names)
