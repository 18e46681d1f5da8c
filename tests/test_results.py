"""Evaluation files: written, read back, and how the failures in them are summed up."""

import json

import numpy as np
import pytest

from epomdp import results
from epomdp.errors import BadInput
from epomdp.evaluate import Episodes
from epomdp.train import Settings, train


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    path = tmp_path_factory.mktemp("runs") / "ppo"
    tiny = {"num_envs": 4, "num_steps": 8, "num_minibatches": 2, "hidden": (8,)}
    sizes = {"train_contexts": 12, "validation_contexts": 4, "test_contexts": 9}
    train(Settings("guess", "ppo", agent_options=tiny, steps=64, **sizes), path)
    return path


def test_what_was_evaluated_is_read_back(run):
    written = results.evaluate_run(run, episodes=2)
    read = results.read_evaluation(run)
    for policy, splits in written.episodes.items():
        for split, episodes in splits.items():
            for name, values in episodes._asdict().items():
                np.testing.assert_array_equal(getattr(read.episodes[policy][split], name), values, name)
    assert results.run_report(read) == results.run_report(written)


def test_greedy_guesses_that_fail_are_loops_and_elimination_never_repeats(run):
    report = results.run_report(results.evaluate_run(run, episodes=1))["policies"]
    greedy, elimination = (report[name]["test"] for name in ("greedy", "elimination"))
    # Of 20 guesses, one label all the time, 19 are repeats; the first guess was the mistake.
    assert greedy["failed"] > 0 and greedy["failed_in_loops"] == 1
    assert (greedy["repeated_steps"], greedy["first_mistake"]) == (0.95, 0)
    assert (elimination["failed"], elimination["failed_in_loops"]) == (0, None)


def test_files_of_the_first_format_are_read_and_newer_ones_refused(run):
    results.evaluate_run(run, episodes=1)
    path = run / "evaluation.json"
    stored = json.loads(path.read_text())
    for splits in stored["policies"].values():
        for record in splits.values():
            del record["repeats"], record["first_mistake"], record["last_new"]
    path.write_text(json.dumps(stored | {"format": 1}))
    old = results.read_evaluation(run)
    assert old.episodes["greedy"]["test"].repeats is None
    assert "failed_in_loops" not in results.run_report(old)["test"]
    path.write_text(json.dumps(stored | {"format": 99}))
    with pytest.raises(BadInput, match="newer format"):
        results.read_evaluation(run)


def test_failures_of_several_runs_are_taken_together():
    def episodes(solved, *records):
        return Episodes(
            *(np.array(x)[:, None] for x in (np.zeros(len(solved)), records[0], solved, *records[1:]))
        )

    # Nothing new from step 5 of 10 on is a loop, nothing new from step 6 on is none.
    one = episodes([True, False, False], [5, 10, 10], [4, 5, 4], [-1, 3, -1], [0, 4, 5])
    two = episodes([False], [20], [1], [7], [1])
    assert results.failures([one, two]) == {
        "failed": 3,
        "failed_in_loops": pytest.approx(2 / 3),
        "repeated_steps": 10 / 40,
        "first_mistake": 5,
    }
    assert results.failures([one, two._replace(last_new=None)]) == {}


def test_some_policies_alone_can_be_evaluated_and_unknown_ones_are_refused(run):
    chosen = results.evaluate_run(run, policies=["greedy"], episodes=1)
    assert list(chosen.episodes) == ["greedy"]
    everything = results.evaluate_run(run, episodes=1)
    np.testing.assert_array_equal(
        chosen.episodes["greedy"]["test"].returns, everything.episodes["greedy"]["test"].returns
    )
    with pytest.raises(BadInput, match="policy of ppo 'gredy'"):
        results.evaluate_run(run, policies=["gredy"])
