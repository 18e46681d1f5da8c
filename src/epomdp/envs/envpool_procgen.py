"""Procgen through EnvPool: its Qt libraries, and pools of games whose next levels are known in advance."""

from __future__ import annotations

import ctypes
import functools
import importlib
import importlib.util
import os
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int, Shaped

from epomdp.errors import BadInput, RunFailed

Frames = Shaped[np.ndarray, "k 64 64 3"]

# In the order in which they need each other; the numbers are those in the wheel PyQt5-Qt5.
_QT = ("libicudata.so.56", "libicuuc.so.56", "libicui18n.so.56", "libQt5Core.so.5", "libQt5Gui.so.5")
_INSTALL_QT = (
    "pip install PyQt5-Qt5 and, on Debian, apt install libgl1 libglib2.0-0; "
    "on other systems install Qt 5 Core and Gui"
)

AHEAD = 64
"""Levels of each game that are known in advance."""

_DIRTY = frozenset({"dodgeball"})
# Dodgeball throws where the player last moved to, and a new episode does not forget it. A game just made believes in a
# move to the right: one step with this action, in a level that is given up, makes a used one equal to it.
_RIGHT = 7


@functools.cache
def load() -> ModuleType:
    """EnvPool with Procgen in it.

    Raises:
        BadInput: EnvPool is not installed, or Qt 5, which draws Procgen's pictures, cannot be loaded.
    """
    if importlib.util.find_spec("envpool") is None:
        raise BadInput("procgen: EnvPool is not installed; pip install 'epomdp[procgen]'")
    _load_qt()
    import envpool

    procgen = importlib.import_module("envpool.procgen")
    if not hasattr(procgen, "ProcgenEnvSpec"):
        # EnvPool was imported by somebody else, before Qt was there.
        procgen = importlib.reload(procgen)
    if not hasattr(procgen, "ProcgenEnvSpec"):
        raise BadInput(f"procgen: Qt 5 is missing; {_INSTALL_QT}")
    return envpool


def _load_qt() -> None:
    """Load Qt from the wheel PyQt5-Qt5 where it is installed; where it is not, EnvPool looks in the system."""
    found = importlib.util.find_spec("PyQt5")
    folders = [Path(place) / "Qt5/lib" for place in (found.submodule_search_locations or ())] if found else []
    folder = next((place for place in folders if (place / _QT[-1]).exists()), None)
    if folder is None or not sys.platform.startswith("linux"):
        return
    for name in _QT:
        try:
            ctypes.CDLL(str(folder / name), mode=ctypes.RTLD_GLOBAL)
        except OSError as error:
            raise BadInput(f"procgen: Qt 5 cannot be loaded ({error}); {_INSTALL_QT}") from None


class Variant(NamedTuple):
    """A game as EnvPool makes it; `centred` and `backgrounds` are Procgen's center_agent and use_backgrounds."""

    game: str
    distribution: str
    centred: bool = True
    backgrounds: bool = True

    @property
    def task(self) -> str:
        return f"{self.game.capitalize()}{self.distribution.capitalize()}-v0"

    def max_episode_steps(self) -> int:
        """The game's own limit, as EnvPool has registered it."""
        return load().make_spec(self.task).config.max_episode_steps


class Played(NamedTuple):
    """What a step of k games shows."""

    frames: Frames
    reward: Float[np.ndarray, " k"]
    terminated: Bool[np.ndarray, " k"]
    truncated: Bool[np.ndarray, " k"]
    complete: Bool[np.ndarray, " k"]


class Pool:
    """Games of one variant in one EnvPool, stepped in parallel by its threads.

    EnvPool lets each game draw its own next level: first + (x mod count), x the next output of a Mersenne Twister
    with a seed that we give. So the levels to come are known, and a game is led to a wanted level by resetting it
    until that is next. Every level drawn is compared with the expected one.

    Args:
        levels: level that each of the first games starts in.
        spare: further games.
        first, count: levels are first .. first + count - 1.

    Attributes:
        lane: (size,) who plays in each game, for the caller to fill in; -1 for nobody.
    """

    def __init__(self, variant: Variant, levels: Sequence[int], spare: int, first: int, count: int) -> None:
        seeds = _seeds(levels, first, count)
        seeds += range(max(seeds) + 1, max(seeds) + 1 + spare)
        self.first, self.count, self.size = first, count, len(seeds)
        self.name = f"procgen:{variant.game}"
        self.lane = np.full(self.size, -1)
        self._dirty = variant.game in _DIRTY
        self._moved = np.zeros(self.size, bool)
        self._draws = [np.random.RandomState(seed) for seed in seeds]
        self._ahead = np.stack([self._draw(game, AHEAD) for game in range(self.size)])
        self._envpool: Any = load().make_gymnasium(
            variant.task,
            num_envs=self.size,
            num_threads=min(self.size, len(os.sched_getaffinity(0)) if sys.platform == "linux" else 4),
            env_seed=seeds,
            start_level=first,
            num_levels=count,
            channel_first=False,
            center_agent=variant.centred,
            use_backgrounds=variant.backgrounds,
        )

    def distances(self, level: int) -> Int[np.ndarray, " size"]:
        """How many levels each game has to pass over until `level` is next; AHEAD where it is not in sight."""
        if not self.first <= level < self.first + self.count:
            return np.full(self.size, AHEAD)
        here = self._ahead == level
        if self._dirty:
            here[self._moved, 0] = False
        return np.where(here.any(axis=1), here.argmax(axis=1), AHEAD)

    def start(self, games: Int[np.ndarray, " k"], levels: Int[np.ndarray, " k"]) -> Frames:
        """Begin an episode in `levels`, each in sight of its game; the first frames.

        Raises:
            RunFailed: a level is not the one that was asked for.
        """
        frames = np.empty((len(games), 64, 64, 3), np.uint8)
        to_do = np.array([self.distances(level)[game] for game, level in zip(games, levels, strict=True)]) + 1
        while to_do.any():
            rows = np.flatnonzero(to_do)
            frames[rows] = self._reset(games[rows])
            to_do[rows] -= 1
            if self._dirty:
                self._clean(games[rows[(to_do[rows] > 0) & self._moved[games[rows]]]])
        return frames

    def send(self, games: Int[np.ndarray, " k"], actions: Int[np.ndarray, " k"]) -> None:
        """Begin a step of some games."""
        self._moved[games] = True
        self._envpool.send(actions.astype(np.int32), games.astype(np.int32))

    def receive(self) -> Played:
        """The step begun last, games in the order in which they were sent."""
        frames, reward, terminated, truncated, info = self._envpool.recv()
        return Played(frames, reward, terminated, truncated, info["prev_level_complete"] != 0)

    def close(self) -> None:
        """Free the games and their threads."""
        self._envpool.close()
        self._envpool = None

    def _reset(self, games: Int[np.ndarray, " k"]) -> Frames:
        expected = self._ahead[games, 0]
        # `reset` of part of a pool, in the order of `games`.
        frames, info = self._envpool.reset(games.astype(np.int32))
        wrong = np.flatnonzero(info["level_seed"] != expected)
        if wrong.size:
            raise RunFailed(
                f"{self.name}: asked EnvPool for level {expected[wrong[0]]} and got {info['level_seed'][wrong[0]]} "
                "at step 0; install the version of EnvPool that epomdp was tested with, 1.2.5"
            )
        self._ahead[games, :-1] = self._ahead[games, 1:]
        for game in games:
            self._ahead[game, -1:] = self._draw(game, 1)
        return frames

    def _clean(self, games: Int[np.ndarray, " k"]) -> None:
        if games.size:
            self.send(games, np.full(games.size, _RIGHT))
            self.receive()
            self._moved[games] = False

    def _draw(self, game: int, many: int) -> Int[np.ndarray, " many"]:
        words = np.frombuffer(self._draws[game].bytes(4 * many), "<u4")
        return self.first + (words % self.count).astype(np.int64)


def _seeds(levels: Sequence[int], first: int, count: int) -> list[int]:
    """For each level a seed whose generator draws it first."""
    if count == 1:
        return list(range(len(levels)))
    wanted, found = set(levels), {}
    for seed, level in _first_draws(first, count):
        if level in wanted:
            found[level] = seed
            wanted.discard(level)
        if not wanted:
            break
    return [found[level] for level in levels]


def _first_draws(first: int, count: int) -> Iterator[tuple[int, int]]:
    seed = 0
    while True:
        yield seed, first + _first_word(seed) % count
        seed += 1


@functools.lru_cache(maxsize=1 << 16)
def _first_word(seed: int) -> int:
    return int.from_bytes(np.random.RandomState(seed).bytes(4), "little")
