"""Anyone's Gymnasium environment as a host environment: single environments, one a lane, stepped in turn."""

from __future__ import annotations

import faulthandler
import math
import sys
import warnings
import weakref
from collections.abc import Callable, Sequence
from contextlib import closing
from textwrap import shorten
from typing import Any

import gymnasium
import numpy as np
import numpy.typing as npt
from jaxtyping import Int, PyTree

from epomdp.envs.gymnasium_ids import make_by_id, one_line, own_limit
from epomdp.envs.host import HostEnvironment, HostStep, Lanes
from epomdp.envs.spaces import LARGEST, Faulty, view
from epomdp.envs.watchdog import Watchdog
from epomdp.errors import BadInput, EnvironmentFailed

SEEDS = range(2**31)
"""The contexts of an environment whose reset seed decides what is made: those that any library takes."""

STEPS = 1000
"""Steps after which an episode is truncated where the environment has no limit of its own."""

FAILURES = (Exception, SystemExit)
"""What code of others may raise; Ctrl-C is nobody's failure."""

Make = str | Callable[..., gymnasium.Env]
Keywords = Callable[[Any], dict[str, Any]]


def by_seed(context: Any) -> dict[str, Any]:
    """The default of `reset`: a whole number is the seed; other contexts, told apart by `arguments`, have 0."""
    return {"seed": int(context) if _is_seed(context) else 0}


def _is_seed(context: Any) -> bool:
    return isinstance(context, int | np.integer) and bool(context >= 0)


def name_of(make: Make) -> str:
    """What messages call an environment that has no other name."""
    return make if isinstance(make, str) else getattr(make, "__name__", type(make).__name__)


def check_contexts(name: str, contexts: Sequence[Any], by_seed_alone: bool) -> None:
    """Raise BadInput unless there are contexts that decide what is made.

    Args:
        by_seed_alone: nobody says how, so that they must be seeds.
    """
    if not (hasattr(contexts, "__len__") and hasattr(contexts, "__getitem__")):
        raise BadInput(
            f"{name}: contexts are {type(contexts).__name__}, which is no sequence; give a list of them"
        )
    if not len(contexts):
        raise BadInput(f"{name}: contexts are empty; give at least two")
    if not by_seed_alone:
        return
    some = (contexts[0], contexts[-1]) if isinstance(contexts, range) else contexts
    other = next((context for context in some if not _is_seed(context)), None)
    if other is not None:
        raise BadInput(
            f"{name}: context {shorten(repr(other), 60)} is not a whole number from 0 on, which could be the seed of "
            "a reset; say with `reset` or `arguments` what it means"
        )


class GymnasiumEnvironment(HostEnvironment):
    """A Gymnasium environment with discrete actions, as a family indexed by a context.

    The context that an episode gets is a number i, the place of `contexts[i]`, in an array {"context": i}.

    Args:
        make: an id of Gymnasium's registry, or what makes an environment: its class, say.
        contexts: a sequence of anything; by default 0, 1, 2, ...
        reset: from one of them to the keywords of `Env.reset`, {"seed": ..., "options": {...}}.
        arguments: from one of them to keywords of `make`; then a lane makes its environment anew for another context.
        max_episode_steps: our own limit; by default that of the registry, or of MiniGrid, else 1000.
        step_seconds: wall time that a step, a reset or the making may take.
        name: by default that of the id or class.

    Raises:
        BadInput: an id that is not there, contexts that decide nothing, or spaces that agents cannot act in or see.
        EnvironmentFailed: it could not be made in the first context.
    """

    shortest_truncation = 1  # environments truncate when they like

    def __init__(
        self,
        make: Make,
        *,
        contexts: Sequence[Any] = SEEDS,
        reset: Keywords = by_seed,
        arguments: Keywords | None = None,
        max_episode_steps: int | None = None,
        step_seconds: float = 60.0,
        name: str | None = None,
    ) -> None:
        self.name = name or name_of(make)
        if not (isinstance(make, str) or callable(make)):
            raise BadInput(f"{self.name}: is no id and makes nothing; give an id, a class, or a function")
        check_contexts(self.name, contexts, reset is by_seed and arguments is None)
        for option, value in (("max_episode_steps", max_episode_steps), ("step_seconds", step_seconds)):
            if value is not None and not (isinstance(value, int | float) and value > 0):
                raise BadInput(f"{self.name}: {option} is {value}; it must be a number above zero")
        self._make, self.contexts, self.reset, self.arguments = make, contexts, reset, arguments
        self._limit, self.step_seconds = max_episode_steps, float(step_seconds)
        self._made_last: Callable[[], Any] = lambda: None
        with closing(Watchdog(self.step_seconds)) as watchdog, watchdog.watching():
            watchdog.call(lambda: f"{self.place(contexts[0])}, making it:")
            env = self.make(contexts[0])
        for space in ("action_space", "observation_space"):
            if getattr(env, space, None) is None:
                raise BadInput(f"{self.name}: has no {space}; set it in its __init__")
        self.num_actions, self.first_action = _actions(env.action_space, self.name)
        self.view = view(env.observation_space, self.name)
        self.observation = self.view.shown
        self.max_episode_steps = int(max_episode_steps or own_limit(env) or STEPS)
        shut(env, self.name)

    def _key(self) -> tuple:
        same = self.contexts if isinstance(self.contexts, range) else id(self.contexts)
        return (
            self.name,
            self._make,
            same,
            self.reset,
            self.arguments,
            self.max_episode_steps,
            self.step_seconds,
        )

    def __eq__(self, other: object) -> bool:
        return isinstance(other, GymnasiumEnvironment) and self._key() == other._key()

    def __hash__(self) -> int:
        return hash(self._key())

    def make(self, context: Any) -> gymnasium.Env:
        """An environment that can be reset to `context`, one of the contexts themselves.

        Raises:
            BadInput: `make` makes no environment, or no new one.
            EnvironmentFailed: it could not be made.
        """
        try:
            arguments = self.arguments(context) if self.arguments else {}
            if isinstance(self._make, str):
                return make_by_id(self._make, self._limit, arguments)
            env = self._make(**arguments)
        except BadInput:
            raise
        except FAILURES as error:
            raise EnvironmentFailed(f"{self.place(context)}, making it: {describe(error)}") from error
        if not isinstance(env, gymnasium.Env):
            raise BadInput(
                f"{self.name}: makes {env!r}, which is no gymnasium.Env; give its class, or a function"
            )
        if env.unwrapped is self._made_last():
            raise BadInput(
                f"{self.name}: makes the same object each time, and episodes run side by side; give its class, or a "
                "function that makes a new one"
            )
        self._made_last = weakref.ref(env.unwrapped)
        return env

    def place(self, context: Any) -> str:
        """What messages call a context."""
        return f"{self.name}: context {shorten(str(context), 60)}"

    def open(self, num_lanes: int) -> GymnasiumLanes:
        return GymnasiumLanes(self, num_lanes)


def describe(error: BaseException) -> str:
    """What an environment has raised."""
    return f"raised {type(error).__name__}: {one_line(error)}".rstrip(": ")


def shut(env: gymnasium.Env, name: str) -> None:
    """Close an environment. Nothing depends on it any more, so that where it fails a warning says so."""
    try:
        env.close()
    except FAILURES as error:
        warnings.warn(f"{name}: its close() {describe(error)}", stacklevel=2)


class GymnasiumLanes(Lanes):
    """Lanes that are stepped in `receive`, one after the other, under a time limit each."""

    def __init__(self, environment: GymnasiumEnvironment, num_lanes: int) -> None:
        # A crash in native code can't be caught: it ends the process, but says where it was.
        if not faulthandler.is_enabled() and sys.__stderr__ is not None:
            faulthandler.enable(sys.__stderr__)
        self.environment = environment
        self.watchdog = Watchdog(environment.step_seconds)
        self.lanes = [Lane(environment) for _ in range(num_lanes)]
        self._actions: list[int] = []

    def start(self, lanes: Sequence[int], contexts: Sequence[Any]) -> PyTree:
        observations = self._blank(len(lanes))
        with self.watchdog.watching():
            for k, (i, context) in enumerate(zip(lanes, contexts, strict=True)):
                self.watchdog.call(self.lanes[i].place)
                observations[k] = self.lanes[i].start(int(context["context"]))
        return observations

    def send(self, actions: Int[np.ndarray, " N"]) -> None:
        self._actions = np.asarray(actions).tolist()

    def receive(self) -> HostStep:
        n = len(self.lanes)
        step = HostStep(self._blank(n), np.zeros(n, np.float32), *(np.zeros(n, bool) for _ in range(3)))
        with self.watchdog.watching():
            for i, (lane, action) in enumerate(zip(self.lanes, self._actions, strict=True)):
                if not (lane.terminated or lane.truncated):
                    self.watchdog.call(lane.place)
                    step.reward[i] = lane.step(action)
                step.observation[i] = lane.observation
                step.terminated[i], step.truncated[i] = lane.terminated, lane.truncated
                step.solved[i] = lane.solved
        return step

    def close(self) -> None:
        self.watchdog.close()
        for lane in self.lanes:
            lane.close()

    def _blank(self, n: int) -> npt.NDArray:
        shown = self.environment.observation
        return np.zeros((n, *shown.shape), shown.dtype)


class Lane:
    """One episode at a time in an environment of its own.

    Attributes:
        env: the environment, or None before the first episode.
        raw: the last observation as the environment gave it; `observation` as it is shown.
        least, best: the smallest and the largest reward of the episode before this step.
    """

    def __init__(self, environment: GymnasiumEnvironment) -> None:
        self.environment = environment
        self.env: gymnasium.Env | None = None
        self.raw: Any = None
        self.observation: npt.NDArray = np.zeros(0)
        self.terminated = self.truncated = self.solved = False
        self.index, self.steps, self.least, self.best = -1, 0, math.inf, -math.inf

    def start(self, index: int) -> npt.NDArray:
        """Begin an episode in context number `index`.

        Raises:
            EnvironmentFailed: the environment did what it must not.
        """
        environment = self.environment
        anew = self.env is None or (environment.arguments is not None and index != self.index)
        self.index, self.steps, self.least, self.best = index, 0, math.inf, -math.inf
        context = environment.contexts[index]
        if anew:
            self.close()
            self.env = environment.make(context)
        assert self.env is not None
        try:
            self.raw, _ = self.env.reset(**environment.reset(context))
            self.observation = environment.view.show(self.raw)
        except FAILURES as error:
            raise self._failure(error) from error
        self.terminated = self.truncated = self.solved = False
        return self.observation

    def step(self, action: int) -> float:
        """Act once; the reward. EnvironmentFailed as in `start`."""
        environment = self.environment
        assert self.env is not None
        self.steps += 1
        try:
            result = self.env.step(action + environment.first_action)
            self.raw, reward, terminated, truncated, info = result
            reward = float(reward)
            if not abs(reward) <= LARGEST:
                raise Faulty(f"reward is {reward}")
            self.observation = environment.view.show(self.raw)
            self.terminated = bool(terminated)
            self.truncated = not self.terminated and (
                bool(truncated) or self.steps >= environment.max_episode_steps
            )
            if self.terminated or self.truncated:
                said = info.get("is_success", info.get("success"))
                self.solved = self._ended_well(reward) if said is None else bool(said)
            self.least, self.best = min(self.least, reward), max(self.best, reward)
        except FAILURES as error:
            raise self._failure(error) from error
        return reward

    def _ended_well(self, reward: float) -> bool:
        """Whether an end of which the environment says nothing is its goal, by what was paid.

        An end is good where it pays more than going on did, or as much where every step costs. An episode that is
        still going on at the limit is good where each step has paid the same: staying alive is the goal.
        """
        if self.steps == 1:
            return reward > 0
        if self.truncated:
            return 0 < self.least == self.best == reward
        return reward > self.best or reward == self.best < 0

    def place(self) -> str:
        """Where the episode is, for messages."""
        where = f"step {self.steps}" if self.steps else "reset"
        return f"{self.environment.place(self.environment.contexts[self.index])}, {where}:"

    def _failure(self, error: BaseException) -> EnvironmentFailed:
        return EnvironmentFailed(
            f"{self.place()} {one_line(error) if isinstance(error, Faulty) else describe(error)}"
        )

    def close(self) -> None:
        if self.env is not None:
            shut(self.env, self.environment.name)
            self.env = None


def _actions(space: gymnasium.Space, name: str) -> tuple[int, int]:
    """How many actions there are, and the number of the first."""
    if not isinstance(space, gymnasium.spaces.Discrete):
        mend = "wrap it so that it has a Discrete one (gymnasium.wrappers.TransformAction)"
        raise BadInput(f"{name}: its action space is {space}, and agents here take Discrete ones; {mend}")
    return int(space.n), int(space.start)
