"""The environment checker: silent on sound environments, and naming the fault of each broken one."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from epomdp.contexts import ContextSet
from epomdp.envs.base import Environment, Step
from epomdp.envs.check import check_environment
from epomdp.envs.findings import Findings
from epomdp.envs.guess import Guess
from epomdp.envs.images import guess_contexts, load_images
from epomdp.errors import BadInput


class Line(Environment):
    """Walk from 0 to the goal; -0.5 a step. Sound; each broken environment below breaks one thing of it."""

    name = "line"
    num_actions = 2
    observation = jax.ShapeDtypeStruct((2,), jnp.float32)
    max_episode_steps = 6

    def reset(self, key, context):
        state = {"goal": jnp.asarray(context["goal"], jnp.int32), "at": jnp.int32(0), "steps": jnp.int32(0)}
        return state, self.show(state)

    def show(self, state):
        return jnp.stack([state["at"], state["goal"]]).astype(jnp.float32)

    def ended(self, state):
        terminated = state["at"] == state["goal"]
        return terminated, ~terminated & (state["steps"] >= self.max_episode_steps)

    def step(self, key, state, action):
        over = self.ended(state)[0] | self.ended(state)[1]
        moved = {**state, "at": state["at"] + action, "steps": state["steps"] + 1}
        after = jax.tree.map(lambda old, new: jnp.where(over, old, new), state, moved)
        return after, Step(self.show(after), jnp.where(over, 0.0, -0.5), *self.ended(after))


@pytest.fixture
def goals():
    return ContextSet.from_values({"goal": np.arange(1, 5, dtype=np.int32)})


def find(env, contexts):
    report = check_environment(env, contexts, steps=3)
    assert report.ok == (not report.problems)
    return report


def test_a_sound_environment_has_no_problem_and_no_note(goals):
    report = find(Line(), goals)
    assert str(report) == "line keeps the contract"
    assert report.ok


def test_the_guessing_game_keeps_the_contract():
    report = check_environment(Guess((8, 8), 10), guess_contexts(load_images("digits")))
    assert report.ok, str(report)
    assert not report.notes


class NoActions(Line):
    num_actions = 0


class NoName(Line):
    name = None


class NoLimit(Line):
    max_episode_steps = 2.5


class ShapeOnly(Line):
    observation = (2,)


class Unhashable(Line):
    __hash__ = None


class Raises(Line):
    def step(self, key, state, action):
        raise RuntimeError("no such level\nsecond line")


class GymnasiumTuple(Line):
    def step(self, key, state, action):
        state, step = super().step(key, state, action)
        return state, tuple(step)


class HiddenCount(Line):
    def __init__(self):
        self.calls = [0]

    def step(self, key, state, action):
        self.calls[0] += 1
        state, step = super().step(key, state, action)
        return state, step._replace(reward=step.reward - self.calls[0])


class RemembersLevels(Line):
    seen = []  # noqa: RUF012  (shared on purpose: the fault under test)

    def reset(self, key, context):
        state, observation = super().reset(key, context)
        if not isinstance(context["goal"], jax.core.Tracer):
            self.seen.append(int(context["goal"]))
        return state, observation + max(self.seen)


class WrongShape(Line):
    def show(self, state):
        return super().show(state)[:1]


class IntegerReward(Line):
    def step(self, key, state, action):
        state, step = super().step(key, state, action)
        return state, step._replace(reward=jnp.int32(-1))


class FloatFlag(Line):
    def step(self, key, state, action):
        state, step = super().step(key, state, action)
        return state, step._replace(terminated=step.terminated.astype(jnp.float32))


class BatchedFlag(Line):
    def step(self, key, state, action):
        state, step = super().step(key, state, action)
        return state, step._replace(truncated=step.truncated[None])


class SolvedNumber(Line):
    def solved(self, state, step):
        return state["at"]


class DriftingState(Line):
    def step(self, key, state, action):
        state, step = super().step(key, state, action)
        return {**state, "at": state["at"].astype(jnp.float32)}, step


class ForgetfulState(Line):
    def step(self, key, state, action):
        after, step = super().step(key, state, action)
        return {name: after[name] for name in ("at", "goal")}, step


class PythonIf(Line):
    def step(self, key, state, action):
        if action == 1:
            return super().step(key, state, jnp.int32(1))
        return super().step(key, state, action)


class PythonSize(Line):
    def reset(self, key, context):
        jnp.zeros(int(context["goal"]))
        return super().reset(key, context)


class OtherUnderJit(Line):
    def step(self, key, state, action):
        state, step = super().step(key, state, action)
        bonus = 1.0 if isinstance(action, jax.core.Tracer) else 0.0
        return state, step._replace(reward=step.reward + bonus)


class SumsTheBatch(Line):
    """A host function that is not made for batches."""

    def step(self, key, state, action):
        state, step = super().step(key, state, action)
        shape = jax.ShapeDtypeStruct((), jnp.float32)
        total = jax.pure_callback(
            lambda at: np.full(np.shape(at), np.sum(at), np.float32),
            shape,
            step.reward,
            vmap_method="broadcast_all",
        )
        return state, step._replace(reward=total)


class WeakNumbers(Line):
    def reset(self, key, context):
        state, observation = super().reset(key, context)
        return {**state, "steps": 0}, observation

    def step(self, key, state, action):
        state, step = super().step(key, state, action)
        return {**state, "steps": state["steps"].astype(jnp.int32)}, step


class KeepsContext(Line):
    def reset(self, key, context):
        self.goal = context["goal"]
        return super().reset(key, context)

    def step(self, key, state, action):
        return super().step(key, {**state, "goal": jnp.asarray(self.goal, jnp.int32)}, action)


class KeepsUnused(Line):
    def reset(self, key, context):
        self.goal = context["goal"]
        return super().reset(key, context)


class CachesFirst(Line):
    def __init__(self):
        self.goal = None

    def reset(self, key, context):
        if self.goal is None:
            self.goal = context["goal"]
        return super().reset(key, {"goal": self.goal})


class BothFlags(Line):
    def ended(self, state):
        terminated, truncated = super().ended(state)
        return terminated, terminated | truncated


class TooEarly(Line):
    def ended(self, state):
        terminated, _ = super().ended(state)
        return terminated, ~terminated & (state["steps"] >= self.max_episode_steps - 1)


class TooLate(Line):
    def ended(self, state):
        terminated, _ = super().ended(state)
        return terminated, ~terminated & (state["steps"] > self.max_episode_steps)


class NanReward(Line):
    def step(self, key, state, action):
        state, step = super().step(key, state, action)
        return state, step._replace(reward=jnp.where(state["steps"] == 5, jnp.nan, step.reward))


class InfiniteView(Line):
    def show(self, state):
        return jnp.where(state["steps"] == 5, jnp.inf, super().show(state))


class PaysAfterTheEnd(Line):
    def step(self, key, state, action):
        state, step = super().step(key, state, action)
        return state, step._replace(reward=jnp.float32(-0.5))


class WalksOn(Line):
    def step(self, key, state, action):
        over = jnp.any(jnp.stack(self.ended(state)))
        after, step = super().step(key, state, action)
        return {**after, "steps": after["steps"] + over}, step


class ViewGoesOn(Line):
    def step(self, key, state, action):
        over = jnp.any(jnp.stack(self.ended(state)))
        state, step = super().step(key, state, action)
        return state, step._replace(observation=step.observation + over * action)


class ResetsItself(Line):
    def step(self, key, state, action):
        over = jnp.any(jnp.stack(self.ended(state)))
        start, _ = self.reset(key, state)
        state = jax.tree.map(lambda new, old: jnp.where(over, new, old), start, state)
        return super().step(key, state, action)


# Faults that show in more than one place; every other must be exactly one problem.
CASCADES = {
    HiddenCount,
    RemembersLevels,
    WrongShape,
    SumsTheBatch,
    CachesFirst,
    ResetsItself,
    FloatFlag,
    KeepsContext,
}


@pytest.mark.parametrize(
    ("broken", "check", "where", "what"),
    [
        (NoActions, "attributes", "attributes, num_actions", "at least 1, is 0"),
        (NoName, "attributes", "attributes, name", "must be a string"),
        (NoLimit, "attributes", "attributes, max_episode_steps", "is 2.5"),
        (ShapeOnly, "attributes", "attributes, observation", "jax.ShapeDtypeStruct"),
        (Unhashable, "attributes", "attributes", "unhashable"),
        (Raises, "call", "step, context 0, step 1", "raises RuntimeError: no such level"),
        (GymnasiumTuple, "call", "step, context 0, step 1", "must return (state, Step)"),
        (HiddenCount, "determinism", "step, reward, context 0, step 1", "the same call made again"),
        (RemembersLevels, "history", "reset, observation, context 0", "before other episodes"),
        (WrongShape, "shapes", "reset, observation, context 0", "is float32(1,), must be float32(2,)"),
        (IntegerReward, "shapes", "step, reward, context 0, step 1", "is int32(), must be float32()"),
        (FloatFlag, "shapes", "step, terminated, context 0, step 1", "is float32(), must be bool()"),
        (BatchedFlag, "shapes", "step, truncated, context 0, step 1", "is bool(1,), must be bool()"),
        (SolvedNumber, "shapes", "step, solved, context 0, step 1", "is int32(), must be bool()"),
        (DriftingState, "shapes", "step, state.at, context 0, step 1", "is float32(), but int32()"),
        (ForgetfulState, "shapes", "step, state.steps, context 0, step 1", "is missing, but int32()"),
        (PythonIf, "jit", "step, context 0, step 1", "TracerBoolConversionError"),
        (PythonSize, "jit", "reset, context 0", "ConcretizationTypeError"),
        (OtherUnderJit, "jit", "step, reward, context 0, step 1", "the same call without jit"),
        (SumsTheBatch, "vmap", "step, reward, context 0, step 1", "the same call without vmap"),
        (WeakNumbers, "retrace", "step", "compiled 2 times"),
        (KeepsContext, "leak", "step, context 0, step 1", "kept from an earlier call"),
        (KeepsUnused, "leak", "attributes, goal, after the calls", "holds a traced value"),
        (CachesFirst, "purity", "attributes, goal, after the calls", "was changed"),
        (BothFlags, "flags", "step, truncated, context \\d, step \\d", "together with terminated"),
        (
            TooEarly,
            "limit",
            r"step, truncated, context \d, step 5",
            "is set before max_episode_steps, which is 6",
        ),
        (TooLate, "limit", r"step, truncated, context \d, step 6", "is not set at max_episode_steps"),
        (NanReward, "values", "step, reward, context \\d, step \\d", "NaN or infinite"),
        (InfiniteView, "values", "step, observation, context \\d, step \\d", "NaN or infinite"),
        (
            PaysAfterTheEnd,
            "ended",
            "step, reward, context \\d, step \\d",
            "is not zero after the episode ended with step",
        ),
        (
            WalksOn,
            "ended",
            "step, state.steps, context \\d, step \\d",
            "changes after the episode ended with step",
        ),
        (
            ViewGoesOn,
            "ended",
            "step, observation, context \\d, step \\d",
            "changes after the episode ended with step",
        ),
        (
            ResetsItself,
            "ended",
            "step, state.at, context \\d, step \\d",
            "changes after the episode ended with step",
        ),
    ],
)
def test_each_fault_is_named_with_its_place(goals, broken, check, where, what):
    RemembersLevels.seen.clear()
    report = find(broken(), goals)
    fitting = [
        p for p in report.problems if p.check == check and re.fullmatch(where, p.where) and what in p.what
    ]
    assert fitting, str(report)
    assert len(report.problems) == 1 or broken in CASCADES, str(report)
    assert str(fitting[0]) in str(report)
    assert all("\n" not in str(problem) for problem in report.problems)


def test_what_no_episode_showed_is_noted():
    unreachable = ContextSet.from_values({"goal": np.array([-1, -2], dtype=np.int32)})
    report = find(Line(), unreachable)
    assert report.ok
    assert report.notes == ("no episode of 2 was terminated: what follows such an end was not seen",)


def test_contexts_that_jax_cannot_hold_are_named():
    report = find(Line(), ContextSet.from_values({"goal": np.array(["a", "b"])}))
    assert [(p.check, p.where) for p in report.problems] == [("call", "contexts, context 0")]


@pytest.mark.parametrize(("check", "tolerated"), [("jit", True), ("vmap", True), ("determinism", False)])
def test_rounding_is_a_note_under_compilation_only(check, tolerated):
    found = Findings()
    one = np.float32(1) + np.finfo(np.float32).eps
    found.compare(check, "the other", {"x": one}, {"x": np.float32(1)})
    assert (len(found.problems), len(found.notes)) == ((0, 1) if tolerated else (1, 0))
    found.compare(check, "the other", {"n": np.int32(1)}, {"n": np.int32(2)})
    assert (check, "attributes", "n") in found.problems


def test_no_steps(goals):
    with pytest.raises(BadInput, match="at least 1"):
        check_environment(Line(), goals, steps=0)
