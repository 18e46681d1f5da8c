"""Training in environments on the host: the same promises as in JAX, and that episodes are found again."""

import itertools

import jax
import numpy as np
import pytest
from jax.experimental.compilation_cache import compilation_cache

import host_toys as toys
from epomdp import problems, results
from epomdp import train as training
from epomdp.contexts import ContextSet, Leak, split
from epomdp.errors import BadInput, RunFailed
from epomdp.problems import Entry, Problem
from epomdp.runs import Run
from epomdp.train import Settings

TINY = {"num_envs": 4, "num_steps": 7, "num_minibatches": 2, "hidden": (8,)}
TINY_DQN = {"num_envs": 4, "num_steps": 7, "hidden": (8,), "batch_size": 16, "replay_size": 56}
MEMBERS = 3
numbers = itertools.count()


class Stop(Exception):
    pass


@pytest.fixture(scope="module", autouse=True)
def compiled_once(tmp_path_factory):
    """A run and its continuation compile the same programs: keep them."""
    wanted = {
        "jax_compilation_cache_dir": str(tmp_path_factory.mktemp("compiled")),
        "jax_persistent_cache_min_compile_time_secs": 0.0,
    }
    before = {name: getattr(jax.config, name) for name in wanted}
    for name, value in wanted.items():
        jax.config.update(name, value)
    compilation_cache.reset_cache()
    yield
    for name, value in before.items():
        jax.config.update(name, value)
    compilation_cache.reset_cache()


@pytest.fixture
def register():
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


@pytest.mark.parametrize(("agent", "deaths"), [("ppo", (3, 5)), ("leep", (3,)), ("dqn", (4,))])
def test_a_run_that_dies_ends_with_the_same_bits(tmp_path, register, agent, deaths):
    own = settings(register(), agent, evaluations=2 if agent == "ppo" else 0)
    straight = training.train(own, tmp_path / "straight")
    path = tmp_path / "run"
    with pytest.raises(Stop):
        training.train(own, path, on_progress=die_after(deaths[0]), checkpoint_seconds=0)
    for update in deaths[1:]:
        with pytest.raises(Stop):
            training.resume(path, on_progress=die_after(update), checkpoint_seconds=1e9)
    run = training.resume(path)
    assert same_bits(straight, run)
    assert without_seconds(straight) == without_seconds(run)


def test_a_replay_steps_only_what_had_been_done(tmp_path, register):
    """After a resume each lane starts its recorded context once more and is stepped no longer than the longest."""
    made = []

    def make():
        made.append(toys.Corridor())
        return made[-1]

    path = tmp_path / "run"
    with pytest.raises(Stop):
        training.train(
            settings(register(make), evaluations=0), path, on_progress=die_after(3), checkpoint_seconds=0
        )
    checkpoint = training.restore(*training.load(path))
    saved = checkpoint.state.actors
    training.resume(path)
    halves = made[-1].opened
    seeds = np.array([int(context) for context in Run(path).contexts["train"]["ids"]])
    for i, lanes in enumerate(halves):
        recorded = seeds[np.asarray(saved.row)[0, 2 * i : 2 * i + 2]]
        assert [lanes.started[lane] for lane in (0, 1)] == list(enumerate(recorded))
    longest = [int(np.max(np.asarray(saved.length)[0, 2 * i : 2 * i + 2])) for i in range(2)]
    assert min(longest) > 0 and made[-1].steps == sum(longest) + (6 - checkpoint.update) * 7 * 2
    assert all(lanes.closed for lanes in halves)


def test_members_act_in_their_own_contexts_alone(tmp_path, register):
    made = []

    def make():
        made.append(toys.Corridor())
        return made[-1]

    run = training.train(settings(register(make), "leep", evaluations=0), tmp_path / "run")
    seeds = np.array([int(context) for context in run.contexts["train"]["ids"]])
    (env,) = [env for env in made if env.opened]
    visited = [set() for _ in range(MEMBERS)]
    for lanes in env.opened:
        for lane, seed in lanes.started:
            visited[lane // 2].add(seed)
    for member, resample in enumerate(run.contexts["resamples"]):
        assert visited[member] <= set(seeds[resample]) and len(visited[member]) > 3
    assert len(set(map(frozenset, visited))) == MEMBERS


def test_an_environment_that_fails_ends_the_run_and_keeps_the_checkpoint(tmp_path, register):
    fail_at, path = 80, tmp_path / "run"
    name = register(lambda: toys.Corridor(fail_at=fail_at))
    with pytest.raises(RunFailed, match=r"context seed \d+ crashed at step \d+"):
        training.train(settings(name, evaluations=0), path, checkpoint_seconds=0)
    # An update has seven steps of two halves, so the eightieth is in the sixth.
    run, setup, resolved = training.load(path)
    assert training.restore(run, setup, resolved).update == 5
    fail_at = None
    assert len(training.resume(path).metrics()) == 6


def test_a_nan_ends_the_run_and_keeps_the_checkpoint(tmp_path, register):
    diverging = settings(register(), agent_options=TINY | {"learning_rate": 1e30})
    with pytest.raises(RunFailed, match=r"is (nan|inf) at step \d+"):
        training.train(diverging, tmp_path / "run", checkpoint_seconds=0)
    for leaf in final_leaves(Run(tmp_path / "run")):
        assert np.isfinite(np.asarray(leaf, np.float64)).all()


def test_a_run_whose_episodes_cannot_be_found_again_is_not_continued(tmp_path, register):
    """In the second process every context is another one than it says."""
    other, path = {"by": 0}, tmp_path / "run"
    name = register(lambda: toys.Corridor(alter=lambda c: c | {"seed": c["seed"] + other["by"]}))
    with pytest.raises(Stop):
        training.train(settings(name), path, on_progress=die_after(3), checkpoint_seconds=0)
    other["by"] = 100
    with pytest.raises(
        RunFailed, match="cannot be continued to the same bits; make its reset seed"
    ) as failed:
        training.resume(path)
    assert "\n" not in str(failed.value) and "context" in str(failed.value)
    other["by"] = 0
    assert len(training.resume(path).metrics()) == 6


def test_the_parts_of_a_problem_are_used_and_their_leaks_told(tmp_path):
    copies = ContextSet.from_values(toys.corridors(20)[np.arange(40) // 2].values)

    def halves(*, train, validation, test, seed):
        return split(copies, train=train, validation=validation, test=test, seed=seed, overlap="report")

    name = f"corridor-{next(numbers)}"
    problems.register(name, Entry("", lambda: Problem(toys.Corridor(), None, parts=halves)))
    with pytest.warns(Leak, match=r"^\d+ of the 10 test contexts are equal to a training context"):
        run = training.train(settings(name, steps=28, evaluations=0), tmp_path / "run")
    recorded = run.contexts
    assert recorded["overlap"]["policy"] == "report" and recorded["overlap"]["test"] > 0
    assert set(recorded["test"]["hashes"]) & set(recorded["train"]["hashes"])
    everything = results.evaluate_run(run.path, episodes=1)
    assert everything.leaked and not results.read_evaluation(run.path).novel
    novel = results.evaluate_run(run.path, episodes=1, novel=True)
    assert results.read_evaluation(run.path).novel
    # The copies are left out, and still counted; what was played on other contexts is not put beside them.
    assert set(novel.ids["test"]) == set(everything.ids["test"]) - everything.leaked
    copied = recorded["overlap"]["test"]
    for evaluation in (novel, everything):
        assert results.leaked([evaluation]) == {"contexts": copied, "share": copied / 10}
    with pytest.raises(BadInput, match="some runs were evaluated with --novel and some without"):
        results.group([everything, novel])
    with pytest.raises(BadInput, match="--novel is about test contexts"):
        results.evaluate_run(run.path, splits=("train",), novel=True)


def test_learning_works_on_the_host(tmp_path, register):
    """A corridor's reward is reached by going right: PPO finds it in a few thousand steps."""
    options = {"num_envs": 16, "num_steps": 16, "num_minibatches": 4, "hidden": (16,), "learning_rate": 3e-3}
    run = training.train(
        settings(register(), agent_options=options, steps=6000, evaluations=1), tmp_path / "run"
    )
    assert run.metrics()[-1]["train_return"] > 7.5
