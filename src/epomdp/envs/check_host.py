"""Does a Gymnasium environment do what epomdp builds on? `check` says what is wrong with it, and where."""

from __future__ import annotations

import contextlib
import functools
import math
import warnings
from collections.abc import Callable, Iterator
from contextlib import closing
from typing import Any, NamedTuple

import gymnasium
import numpy as np
import numpy.typing as npt
from gymnasium import spaces

from epomdp.envs.findings import Findings, Report
from epomdp.envs.gymnasium import GymnasiumEnvironment, by_seed
from epomdp.envs.gymnasium_ids import make_by_id
from epomdp.envs.spaces import entries, is_text, view
from epomdp.envs.watchdog import Watchdog
from epomdp.errors import BadInput

_CONTEXTS = 4  # played, each twice
_AFTER_END = 3  # steps taken past an episode's end


class _Case(NamedTuple):
    """A context, an environment that can be reset to it, and the keywords that do so."""

    name: str
    env: gymnasium.Env
    keywords: dict[str, Any]


class _Shown(NamedTuple):
    """What one call has shown, and where it was made."""

    method: str
    place: str
    fields: dict[str, npt.NDArray]
    ended: bool = False


def check(
    env: str | gymnasium.Env | Callable[[], gymnasium.Env] | GymnasiumEnvironment,
    *,
    seed: int = 0,
    steps: int = 200,
    step_seconds: float = 60.0,
) -> Report:
    """Examine a Gymnasium environment: docs/environments/gymnasium.md lists what is looked at.

    Up to four contexts (reset seeds 0 to 3, or the first of a GymnasiumEnvironment) are played twice with the same
    actions, at random in one half and one action over and over in the other, and three steps past their end. A fault
    is reported once, where it first shows.

    Args:
        env: an environment, its class, a function that makes it, an id, or a GymnasiumEnvironment.
        seed: of the actions.
        steps: at which an episode that has not ended is given up.
        step_seconds: wall time of a call.

    Raises:
        BadInput: an id that is not there, or what makes no environment.
    """
    if steps < 1:
        raise BadInput(f"check: steps must be at least 1, got {steps}")
    found, watchdog = Findings(), Watchdog(step_seconds)
    shown = env.unwrapped if isinstance(env, gymnasium.Env) else env
    name = getattr(shown, "name", None) or getattr(shown, "__name__", None) or type(shown).__name__
    if isinstance(env, str):
        name, env = env, functools.partial(make_by_id, env)
    with (
        warnings.catch_warnings(),
        found.catch("call", passing=(BadInput,)),
        closing(watchdog),
        watchdog.watching(),
    ):
        warnings.simplefilter(
            "ignore"
        )  # many environments warn of steps past an end, which are made on purpose
        watchdog.call(lambda: f"{name}: making it")
        cases = _cases(env, found)
        if _check_spaces(cases[0].env, str(name), found):
            _check_cases(cases, np.random.default_rng(seed), steps, found, watchdog)
    return Report(str(name), tuple(found.problems.values()), tuple(found.notes))


def _cases(env: Any, found: Findings) -> list[_Case]:
    if isinstance(env, GymnasiumEnvironment):
        return [_Case(str(c), env.make(c), env.reset(c)) for c in env.contexts[:_CONTEXTS]]
    if isinstance(env, gymnasium.Env):
        made = env
    else:
        made = env()
        if isinstance(made, gymnasium.Env):
            other = env()
            if other.unwrapped is made.unwrapped:
                found.add(
                    "call",
                    "making it",
                    "gives the same object each time; episodes side by side want one each",
                )
            else:
                other.close()
    return [_Case(str(i), made, by_seed(i)) for i in range(_CONTEXTS)]


def _check_spaces(env: gymnasium.Env, name: str, found: Findings) -> bool:
    if not isinstance(env, gymnasium.Env):
        found.add("attributes", "", f"is {type(env).__name__}, must be a gymnasium.Env")
        return False
    if not isinstance(getattr(env, "action_space", None), spaces.Discrete):
        found.add("attributes", "action_space", "must be Discrete")
    try:
        view(env.observation_space, name)
    except (BadInput, AttributeError) as error:
        found.add("attributes", "observation_space", str(error))
    return not found.problems


def _check_cases(
    cases: list[_Case], random: np.random.Generator, steps: int, found: Findings, watchdog: Watchdog
) -> None:
    firsts: list[_Shown] = []
    ended = 0
    for i, case in enumerate(cases):
        space: Any = case.env.action_space
        actions = (space.start + random.integers(0, space.n, 1 if i % 2 else steps)).tolist()
        actions = (actions * steps)[:steps]
        plays = [list(_play(case, actions, found, watchdog)) for _ in range(2)]
        firsts.append(plays[0][0])
        for one, other in zip(*plays, strict=False):
            found.at(one.method, one.place)
            found.compare("determinism", "the same call made again", other.fields, one.fields)
            if not found.clean("determinism"):
                break  # what follows from it differs as well
        if plays[1][-1].ended:
            ended += 1
            _check_after_end(case, actions[-1], len(plays[1]) - 1, found, watchdog)
    if found.clean("determinism", "call", "shapes"):
        again = next(_play(cases[0], [], found, watchdog))
        found.at(again.method, again.place)
        found.compare(
            "history", "the same call before other episodes were played", again.fields, firsts[0].fields
        )
    if not ended:
        found.note(f"no episode of {len(cases)} ended within {steps} steps: what follows an end was not seen")


def _play(case: _Case, actions: list[int], found: Findings, watchdog: Watchdog) -> Iterator[_Shown]:
    """An episode, each call examined."""
    space, place = case.env.observation_space, f"context {case.name}"
    found.at("reset", place)
    watchdog.call(lambda: f"reset, {place}:")
    observation, info = case.env.reset(**case.keywords)
    yield _Shown("reset", place, _observation(space, observation, found))
    _check_info(info, found)
    for t, action in enumerate(actions):
        now = f"{place}, step {t + 1}"
        found.at("step", now)
        watchdog.call(lambda now=now: f"step, {now}:")
        observation, reward, terminated, truncated, info = case.env.step(action)
        fields = _observation(space, observation, found)
        fields["reward"] = _reward(reward, found)
        for field, flag in (("terminated", terminated), ("truncated", truncated)):
            if not isinstance(flag, bool | np.bool_):
                found.add("shapes", field, f"is {type(flag).__name__}, must be bool")
            fields[field] = np.asarray(bool(flag))
        _check_info(info, found)
        ended = bool(terminated or truncated)
        yield _Shown("step", now, fields, ended)
        if ended:
            return


def _observation(space: spaces.Space, observation: Any, found: Findings) -> dict[str, npt.NDArray]:
    """The numbers of an observation, by field, each compared with its space."""
    fields = {}
    for entry in entries(space):
        if is_text(entry.part):
            continue
        field = ".".join(("observation", *map(str, entry.keys)))
        try:
            array = np.asarray(entry.of(observation))
        except (LookupError, TypeError):
            found.add("shapes", field, "is missing")
            continue
        fields[field] = array
        part, dtype = entry.part, np.dtype(entry.part.dtype)
        right = array.dtype == dtype or (not isinstance(part, spaces.Box) and array.dtype.kind in "iub")
        if array.shape != part.shape or not right:
            what = f"is {array.dtype}{array.shape}, must be {dtype}{part.shape} as its space says"
            found.add("shapes", field, what)
        elif array.dtype.kind == "f" and not np.isfinite(array).all():
            found.add("values", field, "has NaN or infinite values")
        elif not part.contains(array.astype(dtype)):
            found.add("values", field, f"is outside its space, {part}")
    return fields


def _reward(reward: Any, found: Findings) -> npt.NDArray:
    try:
        number = float(reward)
    except (TypeError, ValueError):
        found.add("shapes", "reward", f"is {type(reward).__name__}, must be one number")
        return np.asarray(math.nan)
    if not math.isfinite(number):
        found.add("values", "reward", "is NaN or infinite")
    return np.asarray(number)


def _check_info(info: Any, found: Findings) -> None:
    if not isinstance(info, dict):
        found.add("shapes", "info", f"is {type(info).__name__}, must be a dictionary")


def _check_after_end(case: _Case, action: int, end: int, found: Findings, watchdog: Watchdog) -> None:
    """Steps past an end, which Gymnasium leaves undefined: an end that is none shows by what is paid after it."""
    why = f"after the episode ended with step {end}"
    with contextlib.suppress(Exception):  # to refuse such a step is right
        for t in range(end, end + _AFTER_END):
            now = f"context {case.name}, step {t + 1}"
            found.at("step", now)
            watchdog.call(lambda now=now: f"step, {now}:")
            _, reward, terminated, truncated, _ = case.env.step(action)
            goes_on = not (terminated or truncated)
            if goes_on and float(reward) > 0:  # pyright: ignore[reportArgumentType]
                found.add("ended", "reward", f"is {float(reward):g}, and the episode goes on, {why}")
            elif goes_on:
                found.note(
                    f"goes on {why} in context {case.name}, paying nothing: no harm, nobody steps there"
                )
                return
