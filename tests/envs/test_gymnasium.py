"""Gymnasium environments in lanes: equal to stepping them by hand, and every failure in one line."""

import re
import runpy
from pathlib import Path

import gymnasium
import jax
import numpy as np
import pytest

from epomdp import problems, results
from epomdp import train as training
from epomdp.envs.boards import levels
from epomdp.envs.gymnasium import GymnasiumEnvironment
from epomdp.envs.maze import Maze
from epomdp.errors import BadInput, RunFailed
from epomdp.runs import Run
from epomdp.train import Settings


class Walk(gymnasium.Env):
    """Walk right to a goal that the seed or the options decide, by luck that the seed decides."""

    action_space = gymnasium.spaces.Discrete(2, start=1)
    observation_space = gymnasium.spaces.Box(0.0, 99.0, (2,), np.float32)
    made = 0

    def __init__(self, length=None):
        type(self).made += 1
        self.length = length

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.goal = self.length or (options or {}).get("goal") or int(self.np_random.integers(2, 90))
        self.at = self.steps = 0
        return self.observe(), {}

    def step(self, action):
        self.steps += 1
        self.at = min(self.at + (action - 1) * int(self.np_random.integers(1, 4)), self.goal)
        over = self.at == self.goal
        return self.observe(), 1.0 if over else -0.25, over, False, {}

    def observe(self):
        return np.array([self.at, self.goal], np.float32)


def by_hand(env, reset, actions, limit):
    """Observations, rewards and flags of one episode."""
    observation, _ = env.reset(**reset)
    shown = [(observation, 0.0, False, False)]
    for t, action in enumerate(actions):
        observation, reward, terminated, truncated, _ = env.step(action)
        truncated = not terminated and (truncated or t + 1 >= limit)
        shown.append((observation, reward, terminated, truncated))
        if terminated or truncated:
            break
    return shown


@pytest.mark.parametrize(
    ("environment", "make", "resets"),
    [
        (GymnasiumEnvironment(Walk, max_episode_steps=20), Walk, [{"seed": i} for i in range(4)]),
        (
            GymnasiumEnvironment(
                Walk,
                contexts=["near", "far", "farther", "farthest"],
                reset=lambda name: {"seed": len(name), "options": {"goal": 3 * len(name)}},
                max_episode_steps=20,
            ),
            Walk,
            [{"seed": n, "options": {"goal": 3 * n}} for n in (4, 3, 7, 8)],
        ),
        (GymnasiumEnvironment("CartPole-v1"), lambda: gymnasium.make("CartPole-v1"), [{"seed": i} for i in range(4)]),
    ],
    ids=["seeds", "options", "id"],
)  # fmt: skip
def test_lanes_show_what_stepping_by_hand_shows(environment, make, resets):
    draw = np.random.default_rng(0)
    actions = draw.integers(0, environment.num_actions, (60, 4))
    lanes = environment.open(4)
    shown = [[(observation, 0.0, False, False)] for observation in first(lanes, range(4))]
    for now in actions:
        lanes.send(now)
        step = lanes.receive()
        for i, record in enumerate(shown):
            if record[-1][2] or record[-1][3]:
                # An ended lane repeats itself without a reward.
                assert (step.observation[i] == record[-1][0]).all()
                assert (step.reward[i], step.terminated[i], step.truncated[i]) == (0.0, *record[-1][2:])
            else:
                record.append(
                    (step.observation[i].copy(), step.reward[i], step.terminated[i], step.truncated[i])
                )
    lanes.close()
    start = environment.first_action
    for i, record in enumerate(shown):
        expected = by_hand(make(), resets[i], actions[:, i] + start, environment.max_episode_steps)
        assert len(record) == len(expected)
        for one, other in zip(record, expected, strict=True):
            np.testing.assert_array_equal(one[0], other[0])
            assert one[1:] == other[1:]


def first(lanes, contexts):
    return lanes.start(range(len(contexts)), [{"context": np.int32(i)} for i in contexts])


def play(environment, context=0, action=1, steps=30):
    """The steps of one lane."""
    lanes = environment.open(1)
    first(lanes, [context])
    for _ in range(steps):
        lanes.send(np.array([action]))
        step = lanes.receive()
        yield step
        if step.terminated[0] or step.truncated[0]:
            break
    lanes.close()


def test_arguments_make_the_environment_anew_for_another_context_only():
    environment = GymnasiumEnvironment(Walk, contexts=[5, 9], arguments=lambda n: {"length": n})
    lanes = environment.open(1)
    before = Walk.made
    goals = [first(lanes, [context])[0][1] for context in (0, 0, 1, 0)]
    assert goals == [5, 5, 9, 5]
    assert Walk.made - before == 3


def test_equal_environments_are_equal_and_hash_alike():
    one, other = (GymnasiumEnvironment("CartPole-v1", max_episode_steps=9) for _ in range(2))
    assert one == other
    assert hash(one) == hash(other)
    assert one != GymnasiumEnvironment("CartPole-v1")


def test_limits_are_ours_the_registrys_or_a_thousand():
    assert GymnasiumEnvironment("CartPole-v1").max_episode_steps == 500
    assert GymnasiumEnvironment(Walk).max_episode_steps == 1000
    short = GymnasiumEnvironment("CartPole-v1", max_episode_steps=3)
    *_, last = play(short)
    assert last.truncated[0]
    # A limit above the registry's replaces it.
    assert GymnasiumEnvironment("CartPole-v1", max_episode_steps=600).make(0).spec.max_episode_steps == 600


class Says(Walk):
    """At the goal it says and pays what it is told to."""

    said: dict = {}  # noqa: RUF012

    def step(self, action):
        observation, reward, *flags, _ = super().step(action)
        return observation, self.pay if flags[0] else reward, *flags, self.said


@pytest.mark.parametrize(
    ("said", "pay", "solved"),
    [
        ({}, 1.0, True),
        ({}, 0.0, True),
        ({}, -1.0, False),
        ({"is_success": False}, 1.0, False),
        ({"success": np.True_}, -1.0, True),
    ],
)
def test_solved_is_what_the_environment_says_or_an_end_that_was_paid_for(said, pay, solved, monkeypatch):
    monkeypatch.setattr(Says, "said", said)
    monkeypatch.setattr(Says, "pay", pay, raising=False)
    *before, last = play(GymnasiumEnvironment(Says), steps=200)
    assert last.terminated[0]
    assert last.solved[0] == solved
    assert not any(step.solved[0] for step in before)


class Pays(gymnasium.Env):
    """Pays what it is told to, step by step, and ends with the last."""

    action_space = gymnasium.spaces.Discrete(2)
    observation_space = gymnasium.spaces.Box(0.0, 1.0, (1,), np.float32)

    def __init__(self, rewards, terminates):
        self.rewards, self.terminates = rewards, terminates

    def reset(self, *, seed=None, options=None):
        self.left = list(self.rewards)
        return np.zeros(1, np.float32), {}

    def step(self, action):
        reward, over = self.left.pop(0), not self.left
        return np.zeros(1, np.float32), reward, over and self.terminates, over and not self.terminates, {}


@pytest.mark.parametrize(
    ("rewards", "terminates", "solved"),
    [
        ([-1, -1, -1, 0], True, True),  # Acrobot at its height
        ([-1, -1, -1], True, True),  # MountainCar on its hill
        ([-1, -1, -1], False, False),
        ([-1, -100, -1], True, True),  # CliffWalking, after a fall
        ([-0.1, -0.1, -5.0], True, False),
        ([1, 1, 1], True, False),  # CartPole: the pole falls
        ([1, 1, 1], False, True),
        ([1, 1, 0], True, False),  # another way to pay for standing
        ([1, 2, 1], False, False),
        ([0, 0, 1], True, True),  # a goal, a hole, and wandering about
        ([0, 0, 0], True, False),
        ([0, 0, 0], False, False),
        ([1], True, True),  # one bet
        ([0], True, False),
        ([-1], True, False),
    ],
)
def test_who_does_not_say_is_judged_by_what_was_paid(rewards, terminates, solved):
    environment = GymnasiumEnvironment(
        Pays, contexts=[0, 1], arguments=lambda _: {"rewards": rewards, "terminates": terminates}
    )
    *before, last = play(environment)
    assert (last.terminated[0], last.truncated[0]) == (terminates, not terminates)
    assert last.solved[0] == solved
    assert not any(step.solved[0] for step in before)


def test_a_pole_that_falls_is_a_failure_and_one_that_stands_at_the_limit_is_none():
    *_, last = play(GymnasiumEnvironment("CartPole-v1"))
    assert last.terminated[0]
    assert not last.solved[0]
    *_, last = play(GymnasiumEnvironment("CartPole-v1", max_episode_steps=3))
    assert last.truncated[0]
    assert last.solved[0]


@pytest.mark.parametrize("contexts", [["a", "b"], np.linspace(0, 1, 10), [0, 1, -1], [{"size": 3}]], ids=str)
def test_contexts_that_are_no_seeds_need_somebody_who_says_what_they_mean(contexts):
    for make in (GymnasiumEnvironment, problems.from_gymnasium):
        with pytest.raises(
            BadInput, match=r"^Walk: context .* is not a whole number .*`reset` or `arguments`"
        ):
            make(Walk, contexts=contexts)
    GymnasiumEnvironment(Walk, contexts=contexts, reset=lambda context: {"seed": 0})
    GymnasiumEnvironment(Walk, contexts=contexts, arguments=lambda context: {})


def test_contexts_are_a_sequence():
    with pytest.raises(BadInput, match=r"^Walk: contexts are generator, which is no sequence; give a list"):
        problems.from_gymnasium(Walk, contexts=(i for i in range(3)))


def test_minigrids_first_view_is_the_picture_with_planes_of_the_direction():
    pytest.importorskip("minigrid")
    environment = GymnasiumEnvironment("MiniGrid-SimpleCrossingS9N1-v0")
    [shown] = first(environment.open(1), [5])
    raw, _ = environment.make(5).reset(seed=5)
    assert (shown[..., :3] == raw["image"]).all()
    assert (shown[..., 3:] == np.eye(4)[raw["direction"]]).all()


# Our own games, there and back


def test_our_maze_through_gymnasium_is_our_maze():
    name = "epomdp/maze-v0"
    game = Maze(size=7, max_episode_steps=20)
    environment = GymnasiumEnvironment(
        name,
        contexts=range(4),
        reset=lambda i: {"seed": 0, "options": {"context": i}},
        arguments=lambda i: {"num_levels": 4, "size": 7},
        max_episode_steps=20,
    )
    assert environment.observation == game.observation
    lanes = environment.open(4)
    observations = first(lanes, range(4))
    contexts = levels(game, range(4)).values
    key = jax.random.key(0)
    state, expected = jax.vmap(lambda context: game.reset(key, context))(contexts)
    np.testing.assert_array_equal(observations, expected)
    step = jax.jit(jax.vmap(lambda state, action: game.step(key, state, action)))
    for actions in np.random.default_rng(0).integers(0, game.num_actions, (20, 4)).astype(np.int32):
        state, wanted = step(state, actions)
        lanes.send(actions)
        given = lanes.receive()
        for field in ("observation", "reward", "terminated", "truncated"):
            np.testing.assert_array_equal(getattr(given, field), getattr(wanted, field), field)
    assert given.truncated.any()


# Training

TINY = {"num_envs": 4, "num_steps": 8, "num_minibatches": 2, "hidden": (8,)}


@pytest.fixture
def register():
    """Name a problem for the length of a test."""
    names = []

    def add(name, entry):
        problems.register(name, entry)
        names.append(name)

    yield add
    for name in names:
        del problems.PROBLEMS[name]


def settings(env, agent="ppo", **changes):
    sizes = {"train_contexts": 6, "validation_contexts": 0, "test_contexts": 6, "evaluations": 0}
    return Settings(env, agent, agent_options=TINY, **(sizes | {"steps": 192} | changes))


class Fails(Walk):
    """Crashes in one step of all that are made in this process, where it is told to."""

    at_step = None
    count = 0

    def step(self, action):
        type(self).count += 1
        if self.count == self.at_step:
            raise RuntimeError("out of luck")
        return super().step(action)


def test_a_crash_keeps_the_checkpoint_good_and_the_run_ends_as_if_there_had_been_none(
    register, tmp_path, monkeypatch
):
    register("walk", problems.from_gymnasium(Fails, contexts=range(40), max_episode_steps=12))
    whole = training.train(settings("walk"), tmp_path / "whole", checkpoint_seconds=0)
    monkeypatch.setattr(Fails, "at_step", Fails.count + 100)
    with pytest.raises(
        RunFailed,
        match=r"^Fails: context \d+, step \d+: raised RuntimeError: out of luck; the last checkpoint is good",
    ):
        training.train(settings("walk"), tmp_path / "broken", checkpoint_seconds=0)
    monkeypatch.setattr(Fails, "at_step", None)
    setup = training.load(tmp_path / "broken")
    assert 0 < training.restore(*setup).update < 6
    resumed = training.resume(tmp_path / "broken", checkpoint_seconds=0)
    leaves = [
        jax.tree.leaves(training.restore(*training.load(run.path)).state.learners) for run in (whole, resumed)
    ]
    for one, other in zip(*leaves, strict=True):
        np.testing.assert_array_equal(one, other)


def test_no_checkpoint_is_praised_where_there_is_none(register, tmp_path, monkeypatch):
    register("walk", problems.from_gymnasium(Fails, contexts=range(40), max_episode_steps=12))
    monkeypatch.setattr(Fails, "at_step", Fails.count + 40)
    with pytest.raises(RunFailed, match=r"raised RuntimeError: out of luck$"):
        training.train(settings("walk"), tmp_path / "broken")
    register("never", problems.from_gymnasium(Walk, contexts=range(40), reset=lambda i: {"sed": i}))
    with pytest.raises(RunFailed, match=r"^Walk: context 0, reset: raised TypeError: .*'sed'$"):
        training.train(settings("never"), tmp_path / "never")


def test_a_run_of_an_environment_that_is_not_registered_says_so(register, tmp_path):
    problems.register("gone", problems.from_gymnasium(Walk, contexts=range(40)))
    training.train(settings("gone"), tmp_path / "run")
    del problems.PROBLEMS["gone"]
    with pytest.raises(BadInput, match=r"'gone'.*must be registered first: epomdp.problems.register"):
        training.resume(tmp_path / "run")


def test_ids_train_and_are_evaluated(tmp_path):
    training.train(settings("gym:CartPole-v1", env_options={"max_episode_steps": 15}), tmp_path / "run")
    played = results.evaluate_run(tmp_path / "run", policies=["greedy"], episodes=1)
    episodes = next(iter(played.episodes.values()))["test"]
    assert (episodes.returns == episodes.lengths).all()  # CartPole pays one a step
    assert Run(tmp_path / "run").config["env_options"]["step_seconds"] == 60.0


def test_the_example_of_ones_own_environment_trains_and_writes_its_page(tmp_path, capsys):
    path = Path(__file__).parents[2] / "examples" / "own_environment.py"
    names = runpy.run_path(str(path))
    page = names["main"](tmp_path, 64, ["ppo"], TINY)
    del problems.PROBLEMS["treasure"]
    shown = capsys.readouterr().out
    assert "ppo   greedy" in shown
    assert re.search(r"\d+ test contexts looked like a training context and were removed", shown)
    assert "treasure" in page.read_text()
