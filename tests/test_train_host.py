"""Training in environments on the host: the same promises as in JAX, and that episodes are found again."""

import itertools

import jax
import numpy as np
import pytest

from epomdp import problems
from epomdp import train as training
from epomdp.problems import Entry, Problem
from epomdp.train import Settings

TINY = {"num_envs": 4, "num_steps": 7, "num_minibatches": 2, "hidden": (8,)}
TINY_DQN = {"num_envs": 4, "num_steps": 7, "hidden": (8,), "batch_size": 16, "replay_size": 56}
MEMBERS = 3
numbers = itertools.count()


class Stop(Exception):
    pass


@pytest.fixture
def register(toys):
    """Name an environment for the length of a test."""
    names = []

    def add(make=None, parts=None):
        name = f"corridor-{next(numbers)}"
        make = make or toys.Corridor
        problems.register(name, Entry("", lambda: Problem(make(), parts or toys.corridors(60))))
        names.append(name)
        return name

    yield add
    for name in names:
        del problems.PROBLEMS[name]


def settings(env, agent="ppo", **changes):
    options = TINY_DQN if agent == "dqn" else TINY | ({"members": MEMBERS} if agent == "leep" else {})
    defaults = {
        "agent_options": options,
        "train_contexts": 10,
        "validation_contexts": 0,
        "test_contexts": 10,
        "steps": 6 * 28 * (MEMBERS if agent == "leep" else 1),
        "evaluations": 2,
    }
    return Settings(env, agent, **(defaults | changes))


def final_leaves(run):
    run, setup, resolved = training.load(run.path)
    return [np.asarray(leaf) for leaf in jax.tree.leaves(training.restore(run, setup, resolved).state)]


def same_bits(a, b):
    first, second = final_leaves(a), final_leaves(b)
    assert len(first) == len(second) > 10
    return all(x.tobytes() == y.tobytes() for x, y in zip(first, second, strict=True))


def without_seconds(run):
    return [{k: v for k, v in row.items() if k != "seconds"} for row in run.metrics()]


def die_after(update):
    def on_progress(progress):
        if progress.update == update:
            raise Stop

    return on_progress


@pytest.mark.parametrize("agent", ["ppo", "leep", "dqn"])
def test_a_run_that_dies_twice_ends_with_the_same_bits(tmp_path, register, agent):
    own = settings(register(), agent)
    straight = training.train(own, tmp_path / "straight")
    path = tmp_path / "run"
    with pytest.raises(Stop):
        training.train(own, path, on_progress=die_after(3), checkpoint_seconds=0)
    with pytest.raises(Stop):
        training.resume(path, on_progress=die_after(5), checkpoint_seconds=1e9)
    run = training.resume(path)
    assert same_bits(straight, run)
    assert without_seconds(straight) == without_seconds(run)
