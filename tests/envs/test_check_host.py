"""The checker of Gymnasium environments: silent on sound ones, and naming the fault of each broken one."""

import sys
import time

import gymnasium
import numpy as np
import pytest

from epomdp.envs.check_host import check
from epomdp.envs.gymnasium import GymnasiumEnvironment
from epomdp.errors import BadInput


class Line(gymnasium.Env):
    """Walk right to a goal that the seed decides; sound. Each broken environment below breaks one thing of it."""

    action_space = gymnasium.spaces.Discrete(2)
    observation_space = gymnasium.spaces.Box(0.0, 9.0, (2,), np.float32)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.goal, self.at, self.steps = int(self.np_random.integers(2, 5)), 0, 0
        return self.observe(), {}

    def step(self, action):
        if self.at < self.goal:
            self.at += int(action)
        self.steps += 1
        over = self.at == self.goal
        return self.observe(), 1.0 if over else 0.0, over, not over and self.steps >= 30, {}

    def observe(self):
        return np.array([self.at, self.goal], np.float32)


class WrongDtype(Line):
    def observe(self):
        return super().observe().astype(np.float64)


class WrongShape(Line):
    def observe(self):
        return super().observe()[None]


class Random(Line):
    def reset(self, *, seed=None, options=None):
        observation, info = super().reset()
        observation[1] = 9 * self.np_random.random()
        return observation, info


class GoesOn(Line):
    def step(self, action):
        self.at, self.steps = min(self.at + 1, 9), self.steps + 1
        return self.observe(), 1.0, self.at == self.goal, self.steps >= 30, {}


class GoesOnForNothing(GoesOn):
    def step(self, action):
        observation, _, *flags = super().step(action)
        return observation, 0.0, *flags


class Remembers(Line):
    played = 0

    def reset(self, *, seed=None, options=None):
        self.played += 1
        observation, info = super().reset(seed=seed)
        self.goal = observation[1] = 3 if self.played <= 8 else 4
        return observation, info


class Raises(Line):
    def step(self, action):
        raise RuntimeError("no such level\nsecond line")


class FourParts(Line):
    def step(self, action):
        return super().step(action)[:4]


class NotANumber(Line):
    def step(self, action):
        observation, _, *rest = super().step(action)
        return observation, float("nan"), *rest


class Outside(Line):
    def observe(self):
        return super().observe() - 5


class Continuous(Line):
    action_space = gymnasium.spaces.Box(0, 1, (1,))


class Hangs(Line):
    def step(self, action):
        time.sleep(60)


def test_a_sound_environment_has_no_problem_and_no_note():
    assert str(check(Line)) == "Line keeps the contract"
    assert check(Line()).ok
    assert str(check(GymnasiumEnvironment(Line, name="line"))) == "line keeps the contract"


BROKEN = {
    WrongDtype: "shapes: reset, observation, context 0: is float64(2,), must be float32(2,) as its space says",
    WrongShape: "shapes: reset, observation, context 0: is float32(1, 2), must be float32(2,) as its space says",
    Random: "determinism: reset, observation, context 0: differs from the same call made again",
    GoesOn: "ended: step, reward, context 0, step 5: "
    "is 1, and the episode goes on, after the episode ended with step 4",
    Remembers: "history: reset, observation, context 0: differs from the same call before other episodes were played",
    Raises: "call: step, context 0, step 1: raises RuntimeError: no such level",
    FourParts: "call: step, context 0, step 1: raises ValueError: not enough values to unpack (expected 5, got 4)",
    NotANumber: "values: step, reward, context 0, step 1: is NaN or infinite",
    Outside: "values: reset, observation, context 0: is outside its space, Box(0.0, 9.0, (2,), float32)",
    Continuous: "attributes: attributes, action_space: must be Discrete",
}


@pytest.mark.parametrize("broken", BROKEN, ids=lambda broken: broken.__name__)
def test_a_broken_environment_is_named_with_its_fault(broken):
    report = check(broken)
    assert not report.ok
    assert str(report).startswith(f"{broken.__name__} breaks the contract, problems: ")
    assert BROKEN[broken] in [str(problem) for problem in report.problems]


def test_a_hang_is_a_problem():
    report = check(Hangs, step_seconds=0.2)
    [problem] = report.problems
    assert problem.check == "call"
    assert "step, context 0, step 1: took longer than step_seconds, which is 0.2" in problem.what


def never():
    time.sleep(60)


def test_a_hang_while_it_is_made_is_a_problem():
    [problem] = check(never, step_seconds=0.2).problems
    assert "never: making it took longer than step_seconds, which is 0.2" in problem.what


def leaves():
    sys.exit(3)


def test_an_environment_that_leaves_does_not_take_us_along():
    assert [problem.what for problem in check(leaves).problems] == ["raises SystemExit: 3"]


def test_what_goes_on_without_paying_is_a_note():
    report = check(GoesOnForNothing)
    assert report.ok
    assert report.notes[0].startswith(
        "goes on after the episode ended with step 4 in context 0, paying nothing"
    )


def test_an_end_that_was_not_seen_is_a_note():
    assert check(Line, steps=1).notes == (
        "no episode of 4 ended within 1 steps: what follows an end was not seen",
    )


def test_ids_of_the_registry_are_checked_too():
    assert check("CartPole-v1").ok
    with pytest.raises(BadInput, match="did you mean 'CartPole-v1'"):
        check("CartPol-v1")
    with pytest.raises(BadInput, match="steps must be at least 1"):
        check(Line, steps=0)
