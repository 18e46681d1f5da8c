"""The problems that can be named: an environment and the pool that its contexts are drawn from."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Int

from epomdp.contexts import ContextSet, Split, split
from epomdp.envs.base import Environment
from epomdp.envs.guess import Guess
from epomdp.envs.images import guess_contexts, load_images
from epomdp.errors import BadInput, unknown_name


class Problem(NamedTuple):
    """An environment and all the contexts there are.

    Attributes:
        env: what to act in.
        contexts: the pool that training, validation and test contexts are drawn from.
        labels: (n,) classes to stratify the draw by, or None.
        label_names: names of the actions for pictures, or None.
    """

    env: Environment
    contexts: ContextSet
    labels: Int[np.ndarray, " n"] | None = None
    label_names: tuple[str, ...] | None = None


class Entry(NamedTuple):
    """What a problem is, how to make it, and the sizes that suit it.

    Attributes:
        make: called with the options, by name.
        options: their defaults, plain JSON values.
    """

    description: str
    make: Callable[..., Problem]
    train_contexts: int = 60
    validation_contexts: int = 60
    test_contexts: int = 1000
    steps: int = 98_304
    options: dict[str, Any] = {}  # noqa: RUF012


def make_guess(data: str = "digits", max_episode_steps: int = 20) -> Problem:
    """The guessing game on scikit-learn's digits, on an IDX pair, a folder of images or an .npz."""
    images = load_images(data)
    env = Guess(images.images.shape[1:], len(images.names), max_episode_steps)
    return Problem(env, guess_contexts(images), images.labels, tuple(images.names))


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
}


def register(name: str, entry: Entry) -> None:
    """Add a problem of your own under a name that `train.Settings` then knows, in this process.

    Raises:
        BadInput: the name is taken.
    """
    if name in PROBLEMS:
        raise BadInput(f"environment '{name}' is there already; choose another name")
    PROBLEMS[name] = entry


def entry(name: str) -> Entry:
    """The problem called `name`; BadInput suggests the nearest one."""
    if name not in PROBLEMS:
        raise unknown_name("environment", name, PROBLEMS)
    return PROBLEMS[name]


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
    """Training, validation and test contexts of a problem, disjoint by content, each class in proportion."""
    return split(
        problem.contexts, train=train, validation=validation, test=test, seed=seed, labels=problem.labels
    )
