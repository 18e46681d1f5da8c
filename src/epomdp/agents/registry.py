"""The agents that can be named: what each is, and its default hyperparameters."""

from __future__ import annotations

import dataclasses
import functools
import typing
from collections.abc import Callable
from typing import Any, NamedTuple

from epomdp.agents import dqn, leep, ppo
from epomdp.agents.base import Agent
from epomdp.envs.host import AnyEnvironment
from epomdp.errors import BadInput, unknown_name


class Entry(NamedTuple):
    """An agent's name, what it is, its default configuration, how to build it, and what its name fixes."""

    description: str
    config: Any
    build: Callable[[Any, AnyEnvironment], Agent]
    fixed: tuple[str, ...] = ()


AGENTS: dict[str, Entry] = {
    "ppo": Entry("proximal policy optimization", ppo.Config(), ppo.agent),
    "leep": Entry(
        "linked ensemble: bootstrapped PPO members joined by the max link", leep.Config(), leep.agent
    ),
    "leep-mean": Entry(
        "LEEP joined by the mean of its members", leep.Config(link="mean"), leep.agent, ("link",)
    ),
    "unlinked": Entry(
        "the same ensemble with alpha = 0, joined by the max link",
        leep.Config(alpha=0.0),
        leep.agent,
        ("alpha",),
    ),
    "dqn": Entry("deep Q-learning: double, duelling, n-step, with replay", dqn.Config(), dqn.agent),
}


def entry(name: str) -> Entry:
    """The agent called `name`; BadInput suggests the nearest one."""
    if name not in AGENTS:
        raise unknown_name("agent", name, AGENTS)
    return AGENTS[name]


@functools.cache
def build(name: str, config: Any, env: AnyEnvironment) -> Agent:
    """The agent for an environment; the same object for equal arguments, so that it is compiled once."""
    return entry(name).build(config, env)


def configure(name: str, chosen: dict[str, Any]) -> Any:
    """The agent's configuration with some hyperparameters changed.

    Raises:
        BadInput: a hyperparameter that this agent does not have, or a value it cannot take.
    """
    known = options(entry(name).config)
    for option in chosen:
        if option not in known:
            raise unknown_name(f"hyperparameter of {name}", option, known)
    config = _replace(entry(name).config, chosen)
    for option in entry(name).fixed:
        if getattr(config, option) != known[option]:
            raise BadInput(
                f"{option} of {name} is {known[option]}, that is what its name says; use leep to change it"
            )
    return config


def options(config: Any) -> dict[str, Any]:
    """The hyperparameters of a configuration by name, nested ones beside the others."""
    flat: dict[str, Any] = {}
    for field in dataclasses.fields(config):
        value = getattr(config, field.name)
        flat |= options(value) if dataclasses.is_dataclass(value) else {field.name: value}
    return flat


def _replace(config: Any, chosen: dict[str, Any]) -> Any:
    changes: dict[str, Any] = {}
    for field in dataclasses.fields(config):
        value = getattr(config, field.name)
        if dataclasses.is_dataclass(value):
            changes[field.name] = _replace(value, chosen)
        elif field.name in chosen:
            changes[field.name] = _convert(field.name, chosen[field.name], value)
    return dataclasses.replace(config, **changes)


def _convert(name: str, value: Any, default: Any) -> Any:
    """A value from a command line or a JSON file in the type of the default."""
    try:
        if isinstance(default, bool):
            if str(value).lower() not in ("true", "false"):
                raise ValueError
            return str(value).lower() == "true"
        if isinstance(default, tuple):
            parts = value.split(",") if isinstance(value, str) else value
            return tuple(int(part) for part in parts)
        if isinstance(default, int) and float(value) != int(float(value)):
            raise ValueError
        return int(float(value)) if isinstance(default, int) else type(default)(value)
    except (TypeError, ValueError, OverflowError):
        kind = "true or false" if isinstance(default, bool) else f"like {default!r}"
        raise BadInput(f"{name} is {value!r}; it wants a value {kind}") from None


def all_options() -> dict[str, tuple[Any, str]]:
    """Every hyperparameter of any agent: its default and its meaning."""
    found: dict[str, tuple[Any, str]] = {}
    for known in AGENTS.values():
        found = _described(known.config) | found
    return found


def _described(config: Any) -> dict[str, tuple[Any, str]]:
    hints = typing.get_type_hints(type(config), include_extras=True)
    described: dict[str, tuple[Any, str]] = {}
    for field in dataclasses.fields(config):
        value = getattr(config, field.name)
        if dataclasses.is_dataclass(value):
            described |= _described(value)
        else:
            described[field.name] = (value, hints[field.name].__metadata__[0])
    return described
