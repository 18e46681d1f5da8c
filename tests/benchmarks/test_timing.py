"""Alternation in the speed benchmarks: turns are taken, and the round that compiles is left out."""

import sys
from pathlib import Path

import numpy as np
import pytest


@pytest.fixture
def timing(monkeypatch):
    monkeypatch.syspath_prepend(str(Path(__file__).parents[2] / "benchmarks"))
    import timing

    yield timing
    sys.modules.pop("timing", None)


def test_contestants_take_turns_and_the_first_round_is_left_out(timing, monkeypatch):
    clock, turns = [0.0], []
    monkeypatch.setattr(timing.time, "perf_counter", lambda: clock[0])

    def contestant(name, durations):
        def go():
            turns.append(name)
            clock[0] += durations.pop(0)

        return go

    seconds = timing.alternate({"a": contestant("a", [9, 1, 2]), "b": contestant("b", [8, 3, 4])}, rounds=2)
    assert "".join(turns) == "ababab"
    np.testing.assert_array_equal(seconds["a"], [1, 2])
    np.testing.assert_array_equal(seconds["b"], [3, 4])


def test_figures_are_medians_with_their_range_in_markdown(timing):
    assert timing.middle(np.array([3.0, 1.0, 2.5]), 1) == "2.5 (1.0 to 3.0)"
    assert timing.markdown(["a", "b"], [["1", "2"]]) == "| a | b |\n| --- | --- |\n| 1 | 2 |"
