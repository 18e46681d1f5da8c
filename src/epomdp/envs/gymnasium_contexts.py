"""The contexts of a Gymnasium environment, told apart by what it shows of them, and split into parts."""

from __future__ import annotations

import functools
import hashlib
import sys
import warnings
from collections.abc import Callable
from contextlib import closing
from typing import Any

import gymnasium
import jax
import numpy as np
import numpy.typing as npt

from epomdp import contexts
from epomdp.contexts import ContextSet, Split
from epomdp.envs.gymnasium import FAILURES, GymnasiumEnvironment, GymnasiumLanes, describe
from epomdp.envs.gymnasium_ids import is_minigrid
from epomdp.errors import BadInput, EnvironmentFailed

Content = Callable[[gymnasium.Env, Any], Any]
"""From an environment just reset and its first observation to what tells its context from others."""

GROWTH = 4
"""How often as many contexts are looked at as were at first, where many are copies."""

PROBE = 10
"""Steps of the two episodes that are compared before a run."""


def split(
    environment: GymnasiumEnvironment,
    content: Content | None = None,
    *,
    train: int,
    validation: int,
    test: int,
    seed: int,
) -> Split:
    """Training, validation and test contexts, disjoint by content.

    They are drawn from the first 2^k contexts there are, k as small as leaves an eighth to spare; where copies leave
    too few, from up to four times as many.

    Args:
        content: what tells contexts apart: numbers, arrays, texts, or a dictionary or list of these. By default the
            first observation as it is shown; of MiniGrid the whole layout, the agent's place and the mission.

    Raises:
        BadInput: too few contexts that differ.
        EnvironmentFailed: the environment failed while it was reset, or `content` did.
    """
    wanted = train + validation + test
    size = first = 2 ** max(4, int(np.ceil(np.log2(max(1.0, wanted * 9 / 8)))))
    pool = _pool(environment, content)
    while True:
        some = pool.first(min(size, len(environment.contexts)))
        try:
            return contexts.split(some, train=train, validation=validation, test=test, seed=seed)
        except BadInput as error:
            if len(some) == size < GROWTH * first:
                size *= 2
                continue
            different = len(set(some.hashes))
            if min(train, test) < 1 or validation < 0 or (different == len(some) >= wanted):
                raise
            parts = f"{train} training, {validation} validation and {test} test contexts"
            asked = f"{environment.name}: {parts} are asked for"
            if different == len(some):
                raise BadInput(
                    f"{asked}, and there are only {different}; ask for fewer, or give more"
                ) from error
            raise BadInput(
                f"{asked}, but among the first {len(some)} only {different} differ at first sight; ask for fewer, or "
                "say with `content` what tells them apart"
            ) from error


@functools.lru_cache(maxsize=16)
def _pool(environment: GymnasiumEnvironment, content: Content | None) -> Pool:
    """Kept, since one process may train on many draws from it."""
    return Pool(environment, content)


class Pool:
    """The contexts that have been looked at so far, and a digest of each.

    Making it says on standard error how observations are shown, and warns where the first context, played twice with
    the same actions, gives two episodes.
    """

    def __init__(self, environment: GymnasiumEnvironment, content: Content | None) -> None:
        self.environment, self.content = environment, content
        self._digests: list[bytes] = []
        if environment.view.message:
            print(environment.view.message, file=sys.stderr)
        differs = difference(environment, content)
        self._blind = differs == "reset"
        if differs:
            copies = "nor are copies among its contexts found, " if self._blind else ""
            warnings.warn(
                f"{environment.name}: context {environment.contexts[0]}, played twice with the same actions, differs "
                f"at {differs}; it is not a function of context and actions, {copies}"
                "and a run cannot be resumed to the same bits",
                stacklevel=2,
            )

    def first(self, n: int) -> ContextSet:
        """The first n contexts."""
        environment = self.environment
        with closing(environment.open(1)) as lanes:
            for i in range(len(self._digests), n):
                seen = i if self._blind else _first(lanes, i, self.content)[1]
                self._digests.append(_digest(seen, environment.name))
        ids = [_name(environment.contexts[i], i) for i in range(n)]
        places: dict[str, int] = {}
        for i, name in enumerate(ids):
            if places.setdefault(name, i) != i:
                raise BadInput(
                    f"{environment.name}: contexts number {places[name]} and {i} are both {name}; give each once"
                )
        content = np.frombuffer(b"".join(self._digests[:n]), np.uint8).reshape(n, -1)
        return ContextSet.from_values({"context": np.arange(n, dtype=np.int32)}, ids, content)


def difference(environment: GymnasiumEnvironment, content: Content | None = None) -> str:
    """Where two episodes in the first context with the same actions differ: "reset", "step 3", or "" for nowhere."""
    records: list[list[bytes]] = []
    with closing(environment.open(1)) as lanes:
        for _ in range(2):
            records.append([_digest(list(_first(lanes, 0, content)), environment.name)])
            for t in range(PROBE):
                lanes.send(np.array([t % environment.num_actions]))
                records[-1].append(_digest(list(lanes.receive()), environment.name))
    differs = [one != other for one, other in zip(*records, strict=True)]
    return "" if not any(differs) else "reset" if differs[0] else f"step {differs.index(True)}"


def _first(lanes: GymnasiumLanes, index: int, content: Content | None) -> tuple[npt.NDArray, Any]:
    """The first observation in context number `index`, and what tells that from others."""
    shown = lanes.start([0], [{"context": index}])[0]
    lane = lanes.lanes[0]
    assert lane.env is not None
    if content is None:
        return shown, minigrid_layout(lane.env) if is_minigrid(lane.env) else shown
    with lanes.watchdog.watching():
        lanes.watchdog.call(lambda: f"{lane.place()} content")
        try:
            return shown, content(lane.env, lane.raw)
        except FAILURES as error:
            raise EnvironmentFailed(f"{lane.place()} content {describe(error)}") from error


def minigrid_layout(env: gymnasium.Env) -> dict[str, Any]:
    """All of a MiniGrid level: its cells, where the agent is and looks, and its mission."""
    level: Any = env.unwrapped
    return {
        "cells": level.grid.encode(),
        "position": np.asarray(level.agent_pos),
        "direction": int(level.agent_dir),
        "mission": str(level.mission),
    }


def _name(context: Any, index: int) -> str:
    text = str(context)
    # An address in memory is another one in the next process.
    return text if len(text) <= 40 and " at 0x" not in text else f"number {index}"


def _digest(content: Any, name: str) -> bytes:
    """SHA-256 of a pytree of numbers, arrays and texts: paths, dtypes, shapes and little-endian bytes."""
    digest = hashlib.sha256()
    for path, leaf in jax.tree_util.tree_flatten_with_path(content)[0]:
        array = np.frombuffer(leaf.encode(), np.uint8) if isinstance(leaf, str) else np.asarray(leaf)
        if array.dtype.kind not in "biufc":
            raise BadInput(
                f"{name}: content has {leaf!r}, of which no digest can be made; give numbers, arrays or texts"
            )
        if array.dtype.kind == "f":
            array = array + array.dtype.type(0)  # -0.0 is 0.0
        array = np.ascontiguousarray(array.astype(array.dtype.newbyteorder("<"), copy=False))
        digest.update(f"{jax.tree_util.keystr(path)} {array.dtype.name} {array.shape}\n".encode())
        digest.update(array.tobytes())
    return digest.digest()
