"""Training: determinism, save and resume to the same bits, accounting, and loud failures."""

import json
import math
import os
import signal

import jax
import numpy as np
import pytest

from epomdp import problems, results
from epomdp import train as training
from epomdp.contexts import ContextSet
from epomdp.envs.guess import Guess
from epomdp.errors import BadInput, RunFailed
from epomdp.runs import Run
from epomdp.train import Settings

TINY = {"num_envs": 4, "num_steps": 8, "num_minibatches": 2, "hidden": (8,)}
TINY_DQN = {"num_envs": 4, "num_steps": 8, "hidden": (8,), "batch_size": 16, "replay_size": 64}


def settings(agent="ppo", **changes):
    defaults = {
        "env": "guess",
        "agent": agent,
        "agent_options": TINY_DQN if agent == "dqn" else TINY,
        "train_contexts": 12,
        "validation_contexts": 6,
        "test_contexts": 20,
        "steps": 6 * 32 * (4 if agent == "leep" else 1),
        "evaluations": 3,
    }
    return Settings(**(defaults | changes))


def final_leaves(run):
    run, setup, resolved = training.load(run.path)
    return [np.asarray(leaf) for leaf in jax.tree.leaves(training.restore(run, setup, resolved).state)]


def without_seconds(run):
    return [{k: v for k, v in row.items() if k != "seconds"} for row in run.metrics()]


def same_bits(a, b):
    first, second = final_leaves(a), final_leaves(b)
    assert len(first) == len(second) > 10
    return all(x.tobytes() == y.tobytes() for x, y in zip(first, second, strict=True))


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """An uninterrupted run of each agent."""
    folder = tmp_path_factory.mktemp("finished")
    return {agent: training.train(settings(agent), folder / agent) for agent in ("ppo", "leep", "dqn")}


@pytest.mark.parametrize("agent", ["ppo", "leep", "dqn"])
def test_the_seed_decides_every_bit(tmp_path, finished, agent):
    again = training.train(settings(agent), tmp_path / "again")
    assert same_bits(finished[agent], again)
    assert without_seconds(finished[agent]) == without_seconds(again)


def test_another_seed_is_another_run(tmp_path, finished):
    other = training.train(settings(seed=1), tmp_path / "other")
    assert not same_bits(finished["ppo"], other)


class Stop(Exception):
    pass


@pytest.mark.parametrize("agent", ["ppo", "leep", "dqn"])
def test_a_run_that_dies_twice_ends_with_the_same_bits(tmp_path, finished, agent):
    """Death without warning: what came after the last checkpoint is lost and done again."""

    def die_after(update):
        def on_progress(progress):
            if progress.update == update:
                raise Stop

        return on_progress

    path = tmp_path / "run"
    with pytest.raises(Stop):
        training.train(settings(agent), path, on_progress=die_after(3), checkpoint_seconds=0)
    assert len(Run(path).metrics()) == 3
    with pytest.raises(Stop):
        training.resume(path, on_progress=die_after(5), checkpoint_seconds=1e9)
    run = training.resume(path)
    assert same_bits(finished[agent], run)
    assert without_seconds(finished[agent]) == without_seconds(run)


def test_ctrl_c_stops_after_a_checkpoint_and_resume_ends_with_the_same_bits(tmp_path, finished, capfd):
    def interrupt(progress):
        if progress.update == 2:
            os.kill(os.getpid(), signal.SIGINT)

    path = tmp_path / "run"
    with pytest.raises(KeyboardInterrupt):
        training.train(settings(), path, on_progress=interrupt, checkpoint_seconds=1e9)
    assert "\nstopping after this update; Ctrl-C again stops at once" in capfd.readouterr().err
    run, setup, resolved = training.load(path)
    assert training.restore(run, setup, resolved).update >= 2
    assert same_bits(finished["ppo"], training.resume(path))


def test_resuming_a_finished_run_changes_nothing(finished):
    before = (finished["ppo"].path / "metrics.jsonl").read_bytes()
    training.resume(finished["ppo"].path)
    assert (finished["ppo"].path / "metrics.jsonl").read_bytes() == before


def test_steps_are_counted_per_member_and_in_total(finished):
    ppo, leep = finished["ppo"].config, finished["leep"].config
    assert ppo["total_steps"] == ppo["steps_per_member"] == 6 * 32
    assert ppo["max_episode_steps"] == ppo["env_options"]["max_episode_steps"]
    assert leep["total_steps"] == 4 * leep["steps_per_member"] == 4 * 6 * 32
    assert [row["steps"] for row in finished["leep"].metrics()] == [128 * (i + 1) for i in range(6)]


def test_steps_are_rounded_up_to_whole_updates(tmp_path):
    run = training.train(settings(steps=33, evaluations=0), tmp_path / "run")
    assert run.config["total_steps"] == 64 and run.config["updates"] == 2


def test_the_config_is_complete_and_the_contexts_are_on_disk(finished):
    config, contexts = finished["leep"].config, finished["leep"].contexts
    assert config["agent_options"]["alpha"] > 0 and config["agent_options"]["learning_rate"] > 0
    assert config["env_options"] == {"data": "digits", "max_episode_steps": 20}
    hashes = {split: contexts[split]["hashes"] for split in ("train", "validation", "test")}
    assert [len(hashes[s]) for s in ("train", "validation", "test")] == [12, 6, 20]
    assert not set(hashes["test"]) & (set(hashes["train"]) | set(hashes["validation"]))
    resamples = np.array(contexts["resamples"])
    assert resamples.shape == (4, 12) and resamples.max() < 12
    assert any(len(set(row)) < 12 for row in resamples.tolist())


def test_curves_are_measured_on_every_split_and_the_last_update(finished):
    rows = [row for row in finished["ppo"].metrics() if "test_return" in row]
    assert [row["steps"] for row in rows] == [64, 128, 192]
    assert all({"train_return", "validation_return", "test_return"} <= row.keys() for row in rows)


def test_nan_stops_the_run_loudly_with_the_good_checkpoint_kept(tmp_path):
    path = tmp_path / "run"
    diverging = settings(agent_options=TINY | {"learning_rate": 1e30})
    with pytest.raises(RunFailed, match=r"is (nan|inf) at step \d+.*learning-rate"):
        training.train(diverging, path, checkpoint_seconds=0)
    run, setup, resolved = training.load(path)
    for leaf in jax.tree.leaves(training.restore(run, setup, resolved).state):
        assert np.isfinite(np.asarray(leaf, np.float64)).all()
    assert all(math.isfinite(row["loss"]) for row in run.metrics())


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"steps": 0}, "--steps is 0"),
        ({"steps": -1}, "--steps is -1"),
        ({"train_contexts": 0}, "--train-contexts is 0"),
        ({"test_contexts": -3}, "--test-contexts is -3"),
        ({"train_contexts": 5000}, "asked for 5026 contexts, found 1797"),
        ({"seed": -1}, "--seed is -1"),
        ({"seed": 2**32}, "--seed is 4294967296"),
        ({"evaluations": -1}, "--evaluations is -1"),
        ({"agent_options": {"hidden": (0,)}}, "hidden is"),
        ({"agent": "unlinked", "agent_options": {"alpha": 1}}, "alpha of unlinked is 0.0"),
        ({"env": "gues"}, "unknown environment 'gues'; did you mean 'guess'"),
        ({"agent": "lep"}, "unknown agent 'lep'; did you mean 'leep'"),
        ({"agent_options": {"alpha": 1}}, "unknown hyperparameter of ppo 'alpha'"),
        ({"agent_options": {"gamma": 2}}, "gamma 2"),
        ({"agent_options": {"num_envs": "many"}}, "num_envs is 'many'"),
        ({"agent_options": {"num_minibatches": 7}}, "does not divide"),
        ({"env_options": {"data": "/nowhere"}}, "/nowhere"),
        ({"env_options": {"colour": 1}}, "unknown option of guess"),
    ],
)
def test_bad_settings_are_refused_before_anything_is_written(tmp_path, changes, message):
    with pytest.raises(BadInput, match=message.replace("(", r"\(")):
        training.train(settings(**changes), tmp_path / "run")
    assert not (tmp_path / "run").exists()


@pytest.mark.filterwarnings("ignore:overflow encountered")
def test_parameters_that_diverge_in_the_last_step_are_not_saved(tmp_path):
    options = TINY | {"learning_rate": 1e39, "update_epochs": 1, "num_minibatches": 1}
    with pytest.raises(RunFailed, match="a parameter is not finite"):
        training.train(settings(agent_options=options, steps=32, evaluations=0), tmp_path / "run")
    assert not list((tmp_path / "run" / "checkpoints").iterdir())


def test_what_was_evaluated_before_going_on_is_forgotten(tmp_path):
    def die(progress):
        if progress.update == 2:
            raise Stop

    path = tmp_path / "run"
    with pytest.raises(Stop):
        training.train(settings(evaluations=0), path, on_progress=die, checkpoint_seconds=0)
    assert results.evaluate_run(path, episodes=1).steps == 32
    training.resume(path)
    with pytest.raises(BadInput, match="is not evaluated yet"):
        results.read_evaluation(path)


def test_a_run_whose_data_changed_is_refused(tmp_path):
    rng = np.random.default_rng(0)
    images, labels = rng.random((40, 4, 4)).astype(np.float32), np.arange(40) % 2
    np.savez(tmp_path / "data.npz", images=images, labels=labels)
    own = settings(
        env_options={"data": str(tmp_path / "data.npz")}, test_contexts=10, steps=32, evaluations=0
    )
    training.train(own, tmp_path / "run")
    training.load(tmp_path / "run")
    np.savez(tmp_path / "data.npz", images=images[::-1], labels=labels)
    with pytest.raises(BadInput, match="contexts are not those it was started with"):
        training.load(tmp_path / "run")


def test_a_config_without_a_setting_is_refused(tmp_path):
    path = tmp_path / "run"
    training.train(settings(steps=32, evaluations=0), path)
    config = json.loads((path / "config.json").read_text())
    del config["seed"]
    (path / "config.json").write_text(json.dumps(config))
    with pytest.raises(BadInput, match="lacks 'seed'"):
        training.resume(path)


def test_learning_works(tmp_path):
    """On ten training images PPO learns every label within a few thousand steps."""
    run = training.train(
        settings(
            agent_options={
                "num_envs": 16,
                "num_steps": 16,
                "num_minibatches": 2,
                "hidden": (32,),
                "learning_rate": 3e-3,
            },
            train_contexts=10,
            steps=16 * 16 * 60,
            evaluations=60,
        ),
        tmp_path / "run",
    )
    assert run.metrics()[-1]["train_return"] > -1.0
    assert run.metrics()[0]["train_return"] < -3.0


def test_a_problem_of_ones_own_is_trained_by_name(tmp_path):
    def make(size):
        rng = np.random.default_rng(0)
        values = {
            "image": rng.random((size, 3)).astype(np.float32),
            "label": (np.arange(size) % 2).astype(np.int32),
        }
        return problems.Problem(Guess((3,), 2), ContextSet.from_values(values))

    name = f"own-{tmp_path.name}"
    problems.register(name, problems.Entry("mine", make, options={"size": 30}))
    with pytest.raises(BadInput, match="is there already"):
        problems.register(name, problems.Entry("mine", make))
    problems.register(name, problems.Entry("mended", make, options={"size": 30}), replace=True)
    with pytest.raises(BadInput, match="'maze' is one of epomdp's; choose another name"):
        problems.register("maze", problems.Entry("mine", make), replace=True)
    run = training.train(settings(env=name, test_contexts=10, steps=32, evaluations=1), tmp_path / "run")
    assert run.config["env_options"] == {"size": 30}
    assert results.evaluate_run(run.path, episodes=1).steps == 32
