"""The problems that can be named: an environment and the pool that its contexts are drawn from."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Int

from epomdp.contexts import ContextSet, Split, split
from epomdp.envs.bigfish import Bigfish
from epomdp.envs.boards import BoardGame, levels
from epomdp.envs.dodgeball import Dodgeball
from epomdp.envs.guess import Guess
from epomdp.envs.gymnasium import (
    SEEDS,
    GymnasiumEnvironment,
    Keywords,
    Make,
    by_seed,
    check_contexts,
    name_of,
)
from epomdp.envs.gymnasium_contexts import Content
from epomdp.envs.gymnasium_contexts import split as split_gymnasium
from epomdp.envs.heist import Heist
from epomdp.envs.host import AnyEnvironment
from epomdp.envs.images import guess_contexts, load_images
from epomdp.envs.maze import Maze
from epomdp.envs.procgen import Procgen, variant
from epomdp.envs.procgen_levels import level_parts
from epomdp.errors import BadInput, unknown_name

LEVELS = 20_000
"""Levels in the pool of a board game: those of seeds 0 .. 19,999; fewer of boards above `WIDE`."""

WIDE = 25
"""The widest board with all of them: making a level takes longer with every square."""


class Problem(NamedTuple):
    """An environment and all the contexts there are.

    Attributes:
        env: what to act in.
        contexts: the pool that training, validation and test contexts are drawn from; None where `parts` makes them.
        labels: (n,) classes to stratify the draw by, or None.
        label_names: names of the actions for pictures, or None.
        parts: called with `train`, `validation`, `test` (how many of each) and `seed`, by name: a split of one's own,
            where the contexts are too many for a pool or not drawn at random.
    """

    env: AnyEnvironment
    contexts: ContextSet | None
    labels: Int[np.ndarray, " n"] | None = None
    label_names: tuple[str, ...] | None = None
    parts: Callable[..., Split] | None = None


class Protocol(NamedTuple):
    """Settings under a name, published ones for instance. What is chosen explicitly goes before them.

    Attributes:
        sizes: of steps and contexts, by their names in `Entry`.
        options: of the environment.
        agent_options: hyperparameters, for agents that have all of them.
    """

    description: str
    sizes: dict[str, int]
    options: dict[str, Any]
    agent_options: dict[str, Any]


class Entry(NamedTuple):
    """What a problem is, how to make it, and the sizes that suit it.

    Attributes:
        make: called with the options, by name.
        options: their defaults, plain JSON values.
        agent_options: hyperparameters that suit it; the chosen agent takes those that it has.
        protocols: by name; the first is used where none is chosen.
    """

    description: str
    make: Callable[..., Problem]
    train_contexts: int = 60
    validation_contexts: int = 60
    test_contexts: int = 1000
    steps: int = 98_304
    options: dict[str, Any] = {}  # noqa: RUF012
    agent_options: dict[str, Any] = {}  # noqa: RUF012
    protocols: dict[str, Protocol] = {}  # noqa: RUF012


class Family(NamedTuple):
    """Problems whose names are a prefix, a colon and a part of the user's choosing.

    Attributes:
        pattern: their names, with a placeholder: gym:ID.
        entry: from the chosen part to the problem's entry; BadInput where it cannot be used.
    """

    pattern: str
    description: str
    entry: Callable[[str], Entry]


def make_guess(data: str = "digits", max_episode_steps: int = 20) -> Problem:
    """The guessing game on scikit-learn's digits, on an IDX pair, a folder of images or an .npz."""
    images = load_images(data)
    env = Guess(images.images.shape[1:], len(images.names), max_episode_steps)
    return Problem(env, guess_contexts(images), images.labels, tuple(images.names))


@functools.cache
def _pool(game: BoardGame) -> ContextSet:
    """The pool of a game's levels; kept, since one process may train on many draws from them."""
    return levels(game, range(LEVELS if game.size <= WIDE else LEVELS * WIDE**2 // game.size**2))


def _board_game(
    game: Callable[..., BoardGame], description: str, max_episode_steps: int | None, steps: int
) -> Entry:
    def make_board_game(**options: Any) -> Problem:
        env = game(**options)
        return Problem(env, _pool(env))

    return Entry(
        description,
        make_board_game,
        train_contexts=50,
        validation_contexts=250,
        test_contexts=1000,
        steps=steps,
        options={"size": 11, "view": "centred", "themes": False, "max_episode_steps": max_episode_steps},
    )


PROBLEMS: dict[str, Entry] = {
    "guess": Entry(
        "guess an image's label until it is right (real images: digits, MNIST-format files, folders, .npz)",
        make_guess,
        train_contexts=60,
        validation_contexts=60,
        test_contexts=1000,
        steps=98_304,
        options={"data": "digits", "max_episode_steps": 20},
    ),
    "maze": _board_game(Maze, "find the goal of a perfect maze", None, 800_000),
    "heist": _board_game(Heist, "take coloured keys, open coloured locks, reach the gem", None, 800_000),
    "bigfish": _board_game(Bigfish, "eat smaller fish, avoid larger ones, and grow", 150, 1_200_000),
    "dodgeball": _board_game(
        Dodgeball, "throw at enemies, dodge their balls and the lava, reach the exit", 150, 1_200_000
    ),
}


def _procgen(game: str) -> Entry:
    """The entry of one of Procgen's games."""
    variant(game)

    def make_procgen(distribution: str, start_level: int, test_start_level: int | None) -> Problem:
        parts = functools.partial(level_parts, game, distribution, start_level, test_start_level)
        return Problem(Procgen(game, distribution), None, parts=parts)

    return Entry(
        f"Procgen's {game}, 64 x 64 pixels, through EnvPool",
        make_procgen,
        options={"distribution": "easy"} | _PROCGEN_LEVELS,
        protocols=PROCGEN_PROTOCOLS,
    )


_PROCGEN_LEVELS = {"start_level": 0, "test_start_level": None}

_PROCGEN_PPO = {
    "network": "impala",
    "channels": (),
    "hidden": (),
    "compute": "float32",
    "normalise_returns": True,
    "num_envs": 64,
    "num_steps": 256,
    "num_minibatches": 8,
    "update_epochs": 3,
    "learning_rate": 5e-4,
    "gamma": 0.999,
    "gae_lambda": 0.95,
    "ent_coef": 0.01,
    "vf_coef": 0.5,
    "clip_coef": 0.2,
    "max_grad_norm": 0.5,
}

PROCGEN_PROTOCOLS: dict[str, Protocol] = {
    "easy-200": Protocol(
        "200 easy levels, 25 million steps, IMPALA, PPO as in Cobbe et al. 2020, appendix D",
        {"train_contexts": 200, "validation_contexts": 0, "test_contexts": 1000, "steps": 25_000_000},
        {"distribution": "easy"} | _PROCGEN_LEVELS,
        _PROCGEN_PPO,
    ),
    "hard-500": Protocol(
        "500 hard levels, 200 million steps, IMPALA, PPO in four times as many environments, as there",
        {"train_contexts": 500, "validation_contexts": 0, "test_contexts": 1000, "steps": 200_000_000},
        {"distribution": "hard"} | _PROCGEN_LEVELS,
        _PROCGEN_PPO | {"num_envs": 256},
    ),
}


def from_gymnasium(
    make: Make,
    contexts: Sequence[Any] = SEEDS,
    *,
    reset: Keywords = by_seed,
    arguments: Keywords | None = None,
    content: Content | None = None,
    max_episode_steps: int | None = None,
    step_seconds: float = 60.0,
    name: str | None = None,
) -> Entry:
    """A problem of a Gymnasium environment of your own, for `register`.

    Args:
        make: its class, a function that makes one, or an id.
        contexts: a sequence of whatever fixes one environment of the family; by default the seeds 0, 1, 2, ...
        reset: from a context to the keywords of `Env.reset`: {"seed": ..., "options": {...}}. By default a whole
            number is the seed, and other contexts need `reset` or `arguments`.
        arguments: from a context to the keywords of `make`, where it is the environment's making that differs.
        content: (environment, first observation) -> what tells contexts apart, so that copies are found; see
            `epomdp.envs.gymnasium_contexts.split`.
        max_episode_steps, step_seconds, name: as in `epomdp.envs.gymnasium.GymnasiumEnvironment`.

    Raises:
        BadInput: contexts that decide nothing.
    """
    check_contexts(name or name_of(make), contexts, reset is by_seed and arguments is None)

    def make_gymnasium(**options: Any) -> Problem:
        env = GymnasiumEnvironment(
            make, contexts=contexts, reset=reset, arguments=arguments, name=name, **options
        )
        return Problem(env, None, parts=functools.partial(split_gymnasium, env, content))

    count = len(contexts)
    return Entry(
        f"Gymnasium's {make}" if isinstance(make, str) else "a Gymnasium environment",
        make_gymnasium,
        train_contexts=min(50, max(1, count // 4)),
        validation_contexts=min(50, count // 8),
        test_contexts=min(250, max(1, count // 2)),
        steps=200_000,
        options={"max_episode_steps": max_episode_steps, "step_seconds": step_seconds},
    )


def _gymnasium(name: str) -> Entry:
    return from_gymnasium(name, name=f"gym:{name}")


FAMILIES: dict[str, Family] = {
    "gym": Family(
        "gym:ID", "any id of Gymnasium with discrete actions, MiniGrid's too (extra minigrid)", _gymnasium
    ),
    "procgen": Family(
        "procgen:GAME", "a game of Procgen (16 games, 64 x 64 pixels; extra procgen)", _procgen
    ),
}
"""By prefix."""

_OURS = frozenset(PROBLEMS)


def register(name: str, entry: Entry, *, replace: bool = False) -> None:
    """Add a problem of your own under a name that `train.Settings` then knows, in this process.

    Args:
        replace: take the place of another of your own, one that has been mended, say.

    Raises:
        BadInput: the name is taken.
    """
    if name in _OURS:
        raise BadInput(f"environment '{name}' is one of epomdp's; choose another name")
    if name in PROBLEMS and not replace:
        raise BadInput(f"environment '{name}' is there already; choose another name, or give replace=True")
    PROBLEMS[name] = entry


def entry(name: str) -> Entry:
    """The problem called `name`; BadInput suggests the nearest one."""
    prefix, colon, chosen = name.partition(":")
    if colon and prefix in FAMILIES:
        return FAMILIES[prefix].entry(chosen)
    if name not in PROBLEMS:
        unknown = unknown_name(
            "environment", name, [*PROBLEMS, *(family.pattern for family in FAMILIES.values())]
        )
        raise BadInput(f"{unknown} (one of your own must be registered first: epomdp.problems.register)")
    return PROBLEMS[name]


def protocol(env: str, name: str | None) -> tuple[str | None, Protocol]:
    """A problem's protocol and its name; without a name, the first one, or an empty one where there is none.

    Raises:
        BadInput: no such problem, or it has no such protocol.
    """
    known = entry(env).protocols
    if name is None:
        return next(iter(known.items()), (None, Protocol("", {}, {}, {})))
    if name not in known:
        if not known:
            raise BadInput(f"--protocol is {name}, and {env} has none; leave it out")
        raise unknown_name(f"protocol of {env}", name, known)
    return name, known[name]


def departures(config: dict[str, Any], steps: int) -> tuple[str, list[str]]:
    """How far a run has followed the protocol that its configuration names, and in what else it differs, in words.

    Args:
        config: a run's resolved settings.
        steps: environment steps that it has learned from.
    """
    taken = f"{steps:,} steps"
    if config.get("protocol") is None:
        return taken, []
    _, followed = protocol(config["env"], config["protocol"])
    sizes = dict(followed.sizes)
    wanted = sizes.pop("steps")
    if steps < wanted:
        taken = f"{steps:,} of {wanted:,} steps"
    found: list[str] = []
    published = [(config, sizes), (config["env_options"], followed.options)]
    if followed.agent_options.keys() <= config["agent_options"].keys():
        published.append((config["agent_options"], followed.agent_options))
    else:
        found.append(f"{config['agent']} instead of an agent with the protocol's hyperparameters")
    for chosen, values in published:
        for name, value in values.items():
            # A run may be older than one of its options.
            recorded = chosen.get(name, "unknown")
            if _plain(recorded) != _plain(value):
                found.append(f"{name} {_shown(recorded)} instead of {_shown(value)}")
    return taken, found


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value


def _shown(value: Any) -> str:
    if isinstance(value, list | tuple):
        return ",".join(map(str, value)) or "the network's own"
    return str(value)


def make(name: str, options: dict[str, Any]) -> Problem:
    """Make a problem.

    Raises:
        BadInput: no such problem or option, or data that cannot be used.
    """
    known = entry(name)
    for option in options:
        if option not in known.options:
            raise unknown_name(f"option of {name}", option, known.options)
    return known.make(**options)


def draw(problem: Problem, *, train: int, validation: int, test: int, seed: int) -> Split:
    """Training, validation and test contexts: a pool's disjoint by content, each class in proportion; or `parts`'."""
    sizes: dict[str, Any] = {"train": train, "validation": validation, "test": test}
    if problem.parts is not None:
        return problem.parts(**sizes, seed=seed)
    if problem.contexts is None:
        raise BadInput(f"{problem.env.name}: its Problem has neither contexts nor parts; give it one of them")
    return split(problem.contexts, **sizes, seed=seed, labels=problem.labels)
