"""The published tasks are what their papers say, and the benchmark goes on where it stopped."""

import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest


@pytest.fixture
def benchmark(monkeypatch):
    monkeypatch.syspath_prepend(str(Path(__file__).parents[2] / "benchmarks"))
    import bamcp

    yield bamcp
    for name in ("bamcp", "bayes_tasks"):
        sys.modules.pop(name, None)


def shortest_loop(task):
    """Steps from the start to the best reward and back, if moves did not slip."""
    possible = task.transitions > 0
    goal = task.rewards.max(axis=1).argmax()
    reached, steps = {0}, 0
    while goal not in reached:
        reached = {
            t for s in reached for a in range(task.rewards.shape[1]) for t in np.flatnonzero(possible[s, a])
        }
        steps += 1
    return steps + 1


@pytest.mark.parametrize(
    ("name", "states", "actions", "best", "loop"),
    [
        ("double-loop", 9, 2, 2, 5),
        ("grid5", 25, 4, 1, 9),
        ("grid10", 100, 4, 1, 19),
        ("maze", 264, 4, 3, None),
    ],
)
def test_tasks(benchmark, name, states, actions, best, loop):
    task = benchmark.TASKS[name]()
    assert task.rewards.shape == (states, actions) and task.rewards.max() == best
    np.testing.assert_allclose(task.transitions.sum(axis=-1), 1)
    if loop is not None:
        assert shortest_loop(task) == loop


def test_slips_of_the_grid(benchmark):
    task = benchmark.TASKS["grid5"]()
    centre = 2 * 5 + 2
    right = np.zeros(25)
    right[[centre + 5, centre + 1, centre - 1]] = [0.8, 0.1, 0.1]
    np.testing.assert_allclose(task.transitions[centre, 1], right)
    assert task.transitions[24, :, 0].tolist() == [1, 1, 1, 1]


def test_flags_of_the_maze(benchmark):
    """All flags can be brought to the goal; each of the 33 free cells appears with 8 sets of flags."""
    task = benchmark.TASKS["maze"]()
    held = task.rewards.max(axis=1)
    assert sorted(held[held > 0].tolist()) == [1, 1, 1, 2, 2, 2, 3]
    possible = task.transitions.max(axis=1) > 0
    reached = np.zeros(264, bool)
    reached[0] = True
    for _ in range(264):
        reached |= possible[reached].any(axis=0)
    assert reached[held == 3].all()
    # A flag is never lost but at the goal, which leads to state 0.
    before, after = np.nonzero(possible)
    lost = (before % 8) & ~(after % 8) != 0
    assert (after[lost] == 0).all()


def test_agent_learns_the_double_loop(benchmark):
    """Always the right loop earns 1 in 5 steps; the left one, which one wrong move breaks, earns 2."""
    task = replace(benchmark.TASKS["double-loop"](), steps=400)
    reward = benchmark.run(task, "flat", 1000, seed=0)["reward"]
    assert 0.35 * 400 <= reward <= 0.4 * 400


def test_finished_runs_are_not_repeated(benchmark, monkeypatch, tmp_path, capsys):
    played = []

    def run(task, prior, simulations, seed):
        played.append(seed)
        return {"reward": 10.0 + seed, "milliseconds": 1.0}

    monkeypatch.setattr(benchmark, "run", run)
    for seeds in ("2", "3"):
        monkeypatch.setattr(
            sys, "argv", ["bamcp.py", "--seeds", seeds, "--out", str(tmp_path / "runs.jsonl")]
        )
        benchmark.main()
    assert played == [0, 1, 2]
    error = 1.96 / np.sqrt(3)
    assert (
        f"| double-loop | 1000 | flat | 1000 | 3 | 11.0 ± {error:.1f} | 387.6 | 1.0 |"
        in capsys.readouterr().out
    )
