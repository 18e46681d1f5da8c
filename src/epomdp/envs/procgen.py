"""Procgen's games, pixels and all, through EnvPool; the context is a level's seed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypedDict

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Int, UInt8

from epomdp.envs.envpool_procgen import AHEAD, Pool, Variant
from epomdp.envs.host import HostEnvironment, HostStep, Lanes
from epomdp.errors import unknown_name

GAMES = (
    "bigfish",
    "bossfight",
    "caveflyer",
    "chaser",
    "climber",
    "coinrun",
    "dodgeball",
    "fruitbot",
    "heist",
    "jumper",
    "leaper",
    "maze",
    "miner",
    "ninja",
    "plunder",
    "starpilot",
)
DISTRIBUTIONS = ("easy", "hard")
NUM_ACTIONS = 15

LAST_LEVEL = 2**31 - 2
"""The largest seed of a level; EnvPool counts them in 32 bits."""

SPARE = 256
"""Games of a pool beyond those that are needed at once: the more there are, the nearer is a wanted level."""

WIDEST = 2048
"""Most levels that a pool draws from; levels further apart get pools of one level each."""

MOST_IDLE = 1024
"""Games in pools that nobody plays in, before the oldest of these are dropped."""


class ProcgenContext(TypedDict):
    """A level's seed."""

    level: Int[np.ndarray, ""]


class Procgen(HostEnvironment):
    """A game of Procgen (Cobbe et al. 2020, https://arxiv.org/abs/1912.01588): frames (64, 64, 3) of bytes.

    An unfinished episode is truncated at the game's own limit; the original ends it there.

    Args:
        game: one of GAMES.
        distribution: "easy" or "hard".
        centred: the view follows the player, in the games that do so.
        backgrounds: pictures behind the level; False for black.

    Raises:
        BadInput: no such game or distribution, or EnvPool or Qt is missing.
    """

    num_actions = NUM_ACTIONS
    observation = jax.ShapeDtypeStruct((64, 64, 3), jnp.uint8)

    def __init__(
        self, game: str, distribution: str = "easy", centred: bool = True, backgrounds: bool = True
    ) -> None:
        self.variant = variant(game, distribution, centred, backgrounds)
        self.name = f"procgen:{game}"
        self.max_episode_steps = self.shortest_truncation = self.variant.max_episode_steps()

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Procgen) and self.variant == other.variant

    def __hash__(self) -> int:
        return hash(self.variant)

    def open(self, num_lanes: int) -> ProcgenLanes:
        return ProcgenLanes(self, num_lanes)


def variant(game: str, distribution: str = "easy", centred: bool = True, backgrounds: bool = True) -> Variant:
    """A game's variant; BadInput suggests the nearest name."""
    if game not in GAMES:
        raise unknown_name("game of Procgen", game, GAMES)
    if distribution not in DISTRIBUTIONS:
        raise unknown_name("distribution of Procgen's levels", distribution, DISTRIBUTIONS)
    return Variant(game, distribution, centred, backgrounds)


class ProcgenLanes(Lanes):
    """Episodes in games of a few pools. A lane has a game while its episode runs, and gives it back at the end."""

    def __init__(self, env: Procgen, num_lanes: int) -> None:
        self._variant = env.variant
        self._pools: list[Pool] = []
        self._sent: list[tuple[Pool, np.ndarray]] = []
        self._observation = np.zeros((num_lanes, 64, 64, 3), np.uint8)
        self._terminated = np.ones(num_lanes, bool)
        self._truncated = np.zeros(num_lanes, bool)
        self._solved = np.zeros(num_lanes, bool)

    def start(
        self, lanes: Sequence[int], contexts: Sequence[ProcgenContext]
    ) -> UInt8[np.ndarray, "k 64 64 3"]:
        rows = np.asarray(lanes, np.int64)
        levels = np.zeros(len(self._observation), np.int64)
        levels[rows] = [int(context["level"]) for context in contexts]
        self._release(rows)
        self._make([lane for lane in rows if not self._take(lane, int(levels[lane]))], levels)
        for pool in self._pools:
            games = np.flatnonzero(np.isin(pool.lane, rows))
            if games.size:
                here = pool.lane[games]
                self._observation[here] = pool.start(games, levels[here])
        self._terminated[rows] = self._truncated[rows] = self._solved[rows] = False
        return self._observation[rows]

    def send(self, actions: Int[np.ndarray, " N"]) -> None:
        actions = np.asarray(actions)
        for pool in self._pools:
            games = np.flatnonzero(pool.lane >= 0)
            if games.size:
                here = pool.lane[games]
                pool.send(games, actions[here])
                self._sent.append((pool, here))

    def receive(self) -> HostStep:
        observation = self._observation.copy()
        reward = np.zeros(len(observation), np.float32)
        for pool, here in self._sent:
            played = pool.receive()
            observation[here], reward[here] = played.frames, played.reward
            self._terminated[here], self._truncated[here] = played.terminated, played.truncated
            self._solved[here] = played.complete
        self._sent = []
        self._observation = observation
        self._release(np.flatnonzero(self._terminated | self._truncated))
        return HostStep(
            observation, reward, self._terminated.copy(), self._truncated.copy(), self._solved.copy()
        )

    def close(self) -> None:
        for pool in self._pools:
            pool.close()
        self._pools = []

    def _release(self, lanes: Int[np.ndarray, " k"]) -> None:
        if lanes.size:
            for pool in self._pools:
                pool.lane[np.isin(pool.lane, lanes)] = -1

    def _take(self, lane: int, level: int) -> bool:
        """Give the lane the idle game that is nearest to the level, if one is near."""
        nearest, found = AHEAD, None
        for pool in self._pools:
            if pool.first <= level < pool.first + pool.count:
                distances = np.where(pool.lane < 0, pool.distances(level), AHEAD)
                game = int(distances.argmin())
                if distances[game] < nearest:
                    nearest, found = distances[game], (pool, game)
        if found is None:
            return False
        pool, game = found
        pool.lane[game] = lane
        return True

    def _make(self, lanes: Sequence[int], levels: Int[np.ndarray, " N"]) -> None:
        """Games for lanes that found none: one new pool where their levels are near to each other."""
        if not lanes:
            return
        self._drop()
        wanted = [int(levels[lane]) for lane in lanes]
        first, last = min(wanted) // 100 * 100, min(max(wanted) // 100 * 100 + 99, LAST_LEVEL)
        if len(lanes) > 1 and last - first < WIDEST:
            self._pools.append(Pool(self._variant, wanted, SPARE, first, last - first + 1))
            self._pools[-1].lane[: len(lanes)] = lanes
            return
        for lane, level in zip(lanes, wanted, strict=True):
            self._pools.append(Pool(self._variant, [level], 0, level, 1))
            self._pools[-1].lane[0] = lane

    def _drop(self) -> None:
        """Close the oldest pools that nobody plays in, while there are too many games in such pools."""
        idle = [pool for pool in self._pools if (pool.lane < 0).all()]
        games = sum(pool.size for pool in idle)
        for pool in idle:
            if games > MOST_IDLE:
                games -= pool.size
                pool.close()
                self._pools.remove(pool)
