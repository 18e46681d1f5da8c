"""Gymnasium environments that fail, or cannot be used: one line each, with its place."""

import contextlib
import sys
import time
import warnings

import gymnasium
import numpy as np
import pytest

from epomdp.envs.check_host import check
from epomdp.envs.gymnasium import GymnasiumEnvironment
from epomdp.errors import BadInput, EnvironmentFailed, RunFailed
from gymnasium_toys import Walk


def first(lanes, contexts):
    return lanes.start(range(len(contexts)), [{"context": np.int32(i)} for i in contexts])


class Broken(Walk):
    """Fails in its third step, in the way that `fault` is."""

    fault = None

    def step(self, action):
        observation, reward, _, truncated, info = super().step(action)
        if self.steps == 3:
            if self.fault == "crash":
                raise ZeroDivisionError("no such\nthing")
            if self.fault == "nan":
                observation = observation * np.float32("nan")
            if self.fault == "shape":
                observation = observation[:1]
            if self.fault == "dtype":
                observation = observation.astype(np.int32)
            if self.fault == "reward":
                reward = float("nan")
            if self.fault == "large":
                reward = 1e39
            if self.fault == "hang":
                time.sleep(60)
            if self.fault == "exit":
                sys.exit(3)
        return observation, reward, False, truncated, info


FAULTS = {
    "crash": "raised ZeroDivisionError: no such thing",
    "exit": "raised SystemExit: 3",
    "nan": "observation has NaN or infinite values",
    "shape": "observation is float32(1,), but its space is float32(2,)",
    "dtype": "observation is int32(2,), but its space is float32(2,)",
    "reward": "reward is nan",
    "large": "reward is 1e+39",
    "hang": "took longer than step_seconds, which is 0.3",
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_failure_is_one_line_with_its_place(fault, monkeypatch):
    monkeypatch.setattr(Broken, "fault", fault)
    with pytest.raises(RunFailed) as caught:
        lanes = GymnasiumEnvironment(Broken, name="toy", step_seconds=0.3).open(1)
        first(lanes, [7])
        for _ in range(3):
            lanes.send(np.array([1]))
            lanes.receive()
    assert str(caught.value) == f"toy: context 7, step 3: {FAULTS[fault]}"


class Unclosable(Broken):
    """Closes a window that it has never opened."""

    fault = "crash"

    def close(self):
        raise AttributeError("no window")


def test_a_close_that_fails_is_a_warning_and_hides_nothing():
    with pytest.warns(UserWarning, match=r"^toy: its close\(\) raised AttributeError: no window$"):
        lanes = GymnasiumEnvironment(Unclosable, name="toy").open(2)
    first(lanes, [0, 1])
    with pytest.raises(EnvironmentFailed, match="raised ZeroDivisionError"), pytest.warns(UserWarning):
        try:
            for _ in range(3):
                lanes.send(np.array([0, 0]))
                lanes.receive()
        finally:
            lanes.close()
    assert all(lane.env is None for lane in lanes.lanes)


def test_one_object_for_all_lanes_is_refused():
    one = Walk()
    with pytest.raises(
        BadInput, match=r"^toy: makes the same object each time, .* a function that makes a new one"
    ):
        first(GymnasiumEnvironment(lambda: one, name="toy").open(1), [0])
    with pytest.raises(BadInput, match="makes the same object"):
        first(GymnasiumEnvironment(lambda: gymnasium.wrappers.TimeLimit(one, 9), name="toy").open(1), [0])
    assert "gives the same object each time" in str(check(lambda: one))
    assert check(Walk).ok


class Stubborn(Walk):
    """Hangs in the context that walks to 7, and lets nobody interrupt it."""

    def step(self, action):
        if self.goal == 7:
            with contextlib.suppress(BaseException):
                time.sleep(60)
        return super().step(action)


def test_the_lane_that_hung_is_named_and_not_the_one_after_it():
    environment = GymnasiumEnvironment(
        Stubborn, contexts=[7, 9], arguments=lambda n: {"length": n}, step_seconds=0.3
    )
    lanes = environment.open(2)
    first(lanes, [0, 1])
    lanes.send(np.array([1, 1]))
    with pytest.raises(RunFailed, match=r"^Stubborn: context 7, step 1: took longer"):
        lanes.receive()


def hang(**arguments):
    time.sleep(60)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"arguments": lambda c: c["q"]}, "context {'p': 1}, making it: raised KeyError: 'q'"),
        ({"arguments": lambda c: {"sed": 1}}, "context {'p': 1}, making it: raised TypeError: .*'sed'"),
        ({"arguments": lambda c: sys.exit(3)}, "context {'p': 1}, making it: raised SystemExit: 3"),
        (
            {"arguments": lambda c: {}, "make": hang, "step_seconds": 0.3},
            "context {'p': 1}, making it: took longer than step_seconds, which is 0.3$",
        ),
        (
            {"arguments": lambda c: {"desc": 3}, "make": "FrozenLake-v1"},
            "context {'p': 1}, making it: raised ",
        ),
    ],
    ids=["key", "keyword", "exit", "hang", "id"],
)
def test_what_fails_where_it_is_made_is_one_line_with_the_context(given, message):
    with pytest.raises(EnvironmentFailed, match=f"^toy: {message}") as caught:
        GymnasiumEnvironment(given.pop("make", Walk), contexts=[{"p": 1}], name="toy", **given)
    assert "\n" not in str(caught.value)


def test_an_environment_without_spaces_is_bad_input():
    class Spaceless(gymnasium.Env):
        action_space = gymnasium.spaces.Discrete(2)

    with pytest.raises(BadInput, match=r"^Spaceless: has no observation_space; set it in its __init__"):
        GymnasiumEnvironment(Spaceless)


def test_a_failing_reset_is_one_too():
    environment = GymnasiumEnvironment(Walk, contexts=[3], reset=lambda context: {"sed": 3}, name="toy")
    with pytest.raises(RunFailed, match=r"^toy: context 3, reset: raised TypeError: .*'sed'"):
        first(environment.open(1), [0])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"make": "CartPol-v1"}, "unknown Gymnasium environment 'CartPol-v1'; did you mean 'CartPole-v1'"),
        (
            {"make": "a:b:CartPole-v1"},
            "^gym:a:b:CartPole-v1: has a colon too many; give gym:ID or gym:MODULE:ID$",
        ),
        ({"make": ""}, "^gym:ID: the id is missing; give one of Gymnasium's, gym:CartPole-v1 for instance$"),
        (
            {"make": "nowhere/Pong-v5"},
            "nothing that is imported registers nowhere/.* gym:MODULE:nowhere/Pong-v5",
        ),
        ({"make": "nothing_here:Foo-v0"}, "gym:nothing_here:Foo-v0: No module named 'nothing_here'"),
        ({"make": "Pendulum-v1"}, "its action space is Box.*Discrete"),
        ({"make": Walk()}, "give an id, a class, or a function"),
        ({"make": lambda: 3, "name": "toy"}, "toy: makes 3, which is no gymnasium.Env"),
        ({"make": Walk, "contexts": []}, "contexts are empty"),
        ({"make": Walk, "max_episode_steps": 0}, "max_episode_steps is 0; it must be a number above zero"),
        ({"make": Walk, "step_seconds": "x"}, "step_seconds is x; it must be a number above zero"),
        ({"make": Walk, "step_seconds": -1}, "step_seconds is -1; it must be a number above zero"),
    ],
)
def test_bad_input(arguments, message):
    with pytest.raises(BadInput, match=message) as caught:
        GymnasiumEnvironment(arguments.pop("make"), **arguments)
    assert "\n" not in str(caught.value)


def test_ataris_ids_are_led_to_their_module(monkeypatch):
    for name in [name for name in gymnasium.registry if name.startswith("ALE/")]:
        monkeypatch.delitem(gymnasium.registry, name)
    with pytest.raises(BadInput, match=r"unknown .*'ALE/Pong-v5'; .* give gym:ale_py:ALE/Pong-v5"):
        GymnasiumEnvironment("ALE/Pong-v5")


def test_warnings_of_gymnasium_are_plain_and_given_once():
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        GymnasiumEnvironment("CartPole").make(0)
    [warning] = caught
    assert str(warning.message).startswith("WARN: Using the latest versioned environment `CartPole-v1`")
