"""The figures' programs: hand-made curves and records by hand, and a tiny study from training to answers."""

import importlib
import json
import os
import queue
import subprocess
import sys
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from epomdp.episodes import Episodes
from epomdp.results import Evaluation

EXAMPLES = Path(__file__).parents[2] / "examples"
NAMES = ("study", "figure5", "figure2", "difficulty", "game_hyperparameters")
TINY = {
    "train_contexts": 10,
    "validation_contexts": 10,
    "test_contexts": 10,
    "steps": 96,
    "evaluations": 2,
    "agent_options": {"num_envs": 4, "num_steps": 8, "num_minibatches": 2, "network": "mlp", "hidden": [8]},
}


@pytest.fixture
def example(monkeypatch):
    monkeypatch.syspath_prepend(str(EXAMPLES))
    yield importlib.import_module
    for name in NAMES:
        sys.modules.pop(name, None)


# Numbers


def test_curves_are_read_where_they_must_be(example):
    figure5 = example("figure5")
    curve = {
        "steps": [[0, 100, 200, 400], [0, 200, 300, 400]],
        "validation": [[1.0, 7.0, 3.0, 2.0], [0.0, 1.0, 1.0, 5.0]],
        "test": [[0.0, 10.0, 20.0, 30.0], [0.0, 4.0, 8.0, 6.0]],
    }
    assert figure5.stopped_early(curve) == [10.0, 6.0]
    assert figure5.after_share(curve, 1 / 4) == [10.0, 2.0]
    assert figure5.after_share(curve, 5 / 8) == [22.5, 6.0]


def test_the_deployed_policy_is_chosen_on_training_levels_alone(example):
    figure5 = example("figure5")

    def seeds(*solved):
        return [(["a", "b"], episodes(each, [0, 0])) for each in solved]

    played = {
        "sampled": {"train": seeds([0, 1], [1, 1]), "test": seeds([1, 1], [1, 0])},
        "greedy": {"train": seeds([1, 1], [0, 0]), "test": seeds([0, 0], [1, 1])},
    }
    chosen = figure5.deployed(played, ("sampled", "greedy"))
    assert [found.returns.mean() for _, found in chosen] == [0, 5]


def test_paired_is_students_interval_and_none_of_one_seed(example):
    figure5 = example("figure5")
    first, second = [3.0, 5.0, 4.0, 9.0], [1.0, 2.0, 4.0, 3.0]
    found = figure5.paired(first, second)
    by_scipy = stats.ttest_rel(first, second).confidence_interval(0.95)
    assert found["mean"] == 2.75 and found["over"] == "seeds"
    np.testing.assert_allclose(found["interval"], by_scipy)
    one = figure5.paired([3.0], [1.0])
    assert one == {"mean": 2.0, "interval": None, "over": "seeds"}
    assert example("study").over_seeds([]) == {"mean": None, "interval": None, "over": "seeds"}


def test_one_seed_of_a_hyperparameter_can_be_printed_and_written(example, capsys):
    module = example("game_hyperparameters")
    one = module.summarise([[1.0, 4.0, 3.0]])
    assert one == {"last": 3.0, "best": 4.0, "spread": None}
    assert module.summarise([[1.0, 4.0, 3.0], [0.0, 2.0, 5.0]])["spread"] == pytest.approx(2**0.5)
    json.dumps(one, allow_nan=False)
    module.show({"ppo": {"maze": one}}, 1)
    assert "maze   3.00 +- - ( 4.00)" in capsys.readouterr().out


def episodes(solved, repeats):
    """Of nine steps, the last few are repeats."""
    solved, repeats = np.array(solved, bool)[:, None], np.array(repeats)[:, None]
    mistakes = np.zeros_like(repeats)
    return Episodes(solved * 10.0, np.full(solved.shape, 9), solved, repeats, mistakes, 8 - repeats)


def made_up(example, monkeypatch, records):
    """Figure 2's report of records: arm -> seed -> policy -> the episodes of test levels."""
    figure2 = example("figure2")
    ids = {"train": ["a", "b"], "test": ["c", "d", "e", "f"]}

    def evaluations(root, name, count):
        def splits(played):
            return {"train": episodes([1, 1], [0, 0]), "test": played}

        return [
            Evaluation({}, 1, ids, {policy: splits(played) for policy, played in seed.items()})
            for seed in records[name][:count]
        ]

    monkeypatch.setattr(figure2, "evaluations", evaluations)
    monkeypatch.setattr(figure2, "SHOWN", {name: tuple(seeds[0]) for name, seeds in records.items()})
    return figure2, figure2.loops(None, {name: (name, len(s)) for name, s in records.items()}, 2)


def test_loops_are_counted_by_hand(example, monkeypatch, capsys):
    greedy = [episodes([1, 0, 0, 0], [0, 6, 4, 5]), episodes([1, 1, 1, 0], [5, 0, 0, 8])]
    sampled = [episodes([1, 1, 1, 0], [0, 0, 0, 0]), episodes([0, 0, 0, 1], [0, 0, 0, 0])]
    ppo = [{"greedy": g, "sampled": s, "backtracking": s} for g, s in zip(greedy, sampled, strict=True)]
    leep = [{"linked": greedy[0]}]  # an arm of fewer seeds
    figure2, report = made_up(example, monkeypatch, {"ppo": ppo, "leep": leep})
    assert report["policies"]["ppo greedy"]["test"]["failed_in_loops"] == 3 / 4
    assert report["levels_in_loops"] == [2, 1]
    assert report["recovered"]["ppo sampled"]["by_seed"] == [0.5, 1.0]
    assert report["recovered"]["ppo sampled"]["mean"] == 0.75
    assert report["recovered"]["leep linked"] == {
        "mean": 0.0,
        "interval": None,
        "over": "seeds",
        "by_seed": [0.0],
    }
    assert "75% of greedy PPO's failures" in figure2.verdict(report)
    figure2.show(report)
    low, high = report["policies"]["ppo greedy"]["test"]["solve_rate_interval"]
    shown = capsys.readouterr().out
    assert f"solves 50.0% [{low:.1%}, {high:.1%}] of new mazes; 75.0% of its failures are loops" in shown


def test_no_failure_is_no_share_of_loops(example, monkeypatch, capsys):
    always = {"greedy": episodes([1, 1, 1, 1], [0] * 4), "backtracking": episodes([1, 1, 1, 1], [0] * 4)}
    figure2, report = made_up(example, monkeypatch, {"ppo": [always], "leep": [{"linked": always["greedy"]}]})
    assert report["policies"]["ppo greedy"]["test"]["failed_in_loops"] is None
    assert report["recovered"]["leep linked"]["mean"] is None
    json.dumps(report, allow_nan=False)
    figure2.show(report)
    assert "- of its failures are loops" in capsys.readouterr().out
    assert figure2.verdict(report) == "Greedy PPO fails in no loop on new mazes."


def test_difficulty_takes_each_number_of_levels_from_its_own_runs(example, monkeypatch):
    module = example("difficulty")
    ids = {"train": ["a", "b"], "test": ["c", "d"]}

    def evaluations(root, arm, seeds):
        share = arm.settings["train_contexts"] >= 100
        played = {"train": episodes([1, 1], [0, 0]), "test": episodes([share, share], [0, 0])}
        return [Evaluation({}, 1, ids, dict.fromkeys(module.POLICIES, played))] * seeds

    monkeypatch.setattr(module, "evaluations", evaluations)
    found = module.summarise(None, "maze", 96, 2)
    tests = {levels: scores["greedy"]["test"] for levels, scores in found.items()}
    assert tests == {str(n): [10 * (n >= 100)] * 2 for n in module.LEVELS}
    assert found["20"]["sampled"]["train"] == [10, 10]
    assert module.arm("maze", 50, None).settings.keys() == {"train_contexts", "evaluations"}


# Runs


def test_a_folder_of_other_settings_is_refused_before_anything_is_trained(example, tmp_path, monkeypatch):
    study = example("study")
    arm = study.Arm("ppo", "maze", "ppo", TINY)
    for seed in range(2):
        folder = arm.folder(tmp_path, seed)
        folder.mkdir(parents=True)
        resolved = asdict(arm.run_settings(seed).resolved())
        (folder / "config.json").write_text(json.dumps(resolved | {"version": "another"}))
    study.check(tmp_path, arm, 3)
    more = replace(arm, settings=TINY | {"steps": 192})
    entropy = replace(arm, settings=TINY | {"agent_options": TINY["agent_options"] | {"ent_coef": 0.25}})
    monkeypatch.setattr(subprocess, "run", None)
    for other, field in ((more, "steps 96, and 192"), (entropy, "agent_options.ent_coef 0.01, and 0.25")):
        with pytest.raises(SystemExit) as stopped:
            study.finish(tmp_path, {other: 1})
        assert stopped.value.code == 2
        with pytest.raises(ValueError, match=f"seed-0: its run was made with {field} is asked for"):
            study.check(tmp_path, other, 1)


class Lying(queue.Queue):
    """Says that it is not empty when another has just taken the last."""

    def empty(self):
        return False

    def get(self, block=True, timeout=None):
        assert not block, "would wait for ever"
        return super().get(block, timeout)


def test_a_process_a_core_and_no_waiting_for_what_another_took(example, tmp_path, monkeypatch):
    study = example("study")
    started = []

    def run(command):
        started.append(command)
        return subprocess.CompletedProcess(command, 0)

    monkeypatch.setattr(queue, "SimpleQueue", Lying)
    monkeypatch.setattr(subprocess, "run", run)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {4, 7, 9}, raising=False)
    monkeypatch.setattr(study.shutil, "which", lambda _: "/usr/bin/taskset")
    arms = {study.Arm(name, "maze", "ppo", TINY): 2 for name in "abcd"}
    study.finish(tmp_path, arms)
    assert sorted(json.loads(command[-2])["name"] for command in started) == list("abcd")
    assert {command[0] for command in started} == {"taskset"}
    assert [place[-1] for place in study.places()] == ["4", "7", "9"]
    monkeypatch.delattr(os, "sched_getaffinity")
    assert study.places() == [[]] * os.cpu_count()


def test_a_tiny_study_is_trained_gone_on_with_and_summarised(example, tmp_path, monkeypatch, capsys):
    study, figure5 = example("study"), example("figure5")
    monkeypatch.setattr(figure5, "SHOWN", {"ppo": ("sampled",), "leep": ("linked",)})
    monkeypatch.setattr(study, "places", lambda: [[], []])
    made = {name: study.Arm(name, "guess", name, TINY, policies) for name, policies in figure5.SHOWN.items()}
    study.finish(tmp_path, dict.fromkeys(made.values(), 1))
    folder = made["ppo"].folder(tmp_path, 0)
    before = {name: (folder / name).read_bytes() for name in ("evaluation.json", "metrics.jsonl")}
    (folder / "evaluation.json").unlink()  # as if stopped between training and evaluation
    study._finish_arm(tmp_path, made["ppo"], 1)
    assert before == {name: (folder / name).read_bytes() for name in before}
    found = figure5.summarise(tmp_path, made, 1)
    for arm, (policy,) in figure5.SHOWN.items():
        (played,) = study.evaluations(tmp_path, made[arm], 1)
        mean = played.episodes[policy]["test"].returns.mean()
        assert found["scores"][f"{arm} {policy}"]["test"]["mean"] == pytest.approx(mean)
        assert found["curves"][arm]["steps"][0][-1] >= TINY["steps"]
    assert {question: answer["over"] for question, answer in found["answers"].items()} == {
        "LEEP against PPO, both sampled": "seeds and levels",
        "LEEP against random with elimination": "seeds and levels",
        "LEEP against PPO, both stopped early": "seeds",
        "LEEP against PPO with one member's steps": "seeds",
    }
    json.dumps(found, allow_nan=False)
    figure5.show({"guess": found})
    shown = capsys.readouterr().out
    assert "[-] *" in shown and "at most 256 levels a seed" in shown
    pytest.importorskip("matplotlib")
    figure5.draw({"guess": found}, tmp_path / "figure5.png")
    assert (tmp_path / "figure5.png").stat().st_size > 0
