"""Sets of Procgen's levels: which are learned from, which are held out, and which of them look the same."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from epomdp.contexts import ContextSet, Overlap, Split
from epomdp.envs.envpool_procgen import Pool
from epomdp.envs.procgen import LAST_LEVEL, WIDEST, variant
from epomdp.errors import BadInput

_AT_ONCE = 256


def level_contexts(game: str, distribution: str, seeds: Sequence[int]) -> ContextSet:
    """The levels with these seeds, in this order; ids like maze-17.

    Their content is the first frame, not centred on the player and without a background: levels that differ in the
    background alone count as the same. Making one costs about a millisecond, and nothing is kept between calls.

    Args:
        seeds: different ones, from 0 to LAST_LEVEL; any set, not only ranges.

    Raises:
        BadInput: no such game or distribution, a seed that cannot be used, or EnvPool or Qt is missing.
    """
    levels = np.asarray(seeds, np.int64)
    if levels.ndim != 1 or not levels.size or levels.min() < 0 or levels.max() > LAST_LEVEL:
        raise BadInput(f"procgen:{game}: levels must be a list of whole numbers from 0 to {LAST_LEVEL}")
    different, counts = np.unique(levels, return_counts=True)
    if different.size < levels.size:
        raise BadInput(
            f"procgen:{game}: level {different[counts > 1][0]} is given more than once; give each once"
        )
    plain = variant(game, distribution, centred=False, backgrounds=False)
    frames = np.empty((levels.size, 64, 64, 3), np.uint8)
    for rows in _neighbours(levels):
        some = levels[rows]
        first = int(some.min())
        pool = Pool(plain, some.tolist(), 0, first, int(some.max()) - first + 1)
        frames[rows] = pool.start(np.arange(some.size), some)
        pool.close()
    ids = [f"{game}-{level}" for level in levels]
    return ContextSet.from_values({"level": levels.astype(np.int32)}, ids, content=frames)


def _neighbours(levels: np.ndarray) -> Iterator[np.ndarray]:
    """Rows of levels that are few enough, and near enough to each other, for one pool."""
    order = np.argsort(levels, kind="stable")
    start = 0
    for end in range(1, levels.size + 1):
        full = end - start == _AT_ONCE
        if end == levels.size or full or levels[order[end]] - levels[order[start]] >= WIDEST:
            yield order[start:end]
            start = end


def level_parts(
    game: str,
    distribution: str,
    start_level: int,
    test_start_level: int | None,
    *,
    train: int,
    validation: int,
    test: int,
    seed: int = 0,
) -> Split:
    """Training levels from `start_level` on, test levels after them, validation levels after those.

    That is Procgen's protocol: the same levels whatever the run's seed. Test levels that look like a training level
    are kept and counted.

    Args:
        test_start_level: first test level; None for the one after the last training level.

    Raises:
        BadInput: ranges that meet, or as in `level_contexts`.
    """
    test_start = start_level + train if test_start_level is None else test_start_level
    ranges = {
        "train": range(start_level, start_level + train),
        "test": range(test_start, test_start + test),
        "validation": range(test_start + test, test_start + test + validation),
    }
    for name in ("test", "validation"):
        if set(ranges[name]) & set(ranges["train"]):
            raise BadInput(
                f"procgen:{game}: {name} levels {_described(ranges[name])} reach into the training levels "
                f"{_described(ranges['train'])}; choose another --test-start-level"
            )
    numbers = [number for name in ranges for number in ranges[name]]
    levels = level_contexts(game, distribution, numbers)
    parts = {
        "train": levels[:train],
        "test": levels[train : train + test],
        "validation": levels[train + test :] if validation else levels[:0],
    }
    seen = set(parts["train"].hashes)
    copies = sum(content in seen for content in parts["validation"].hashes)
    seen |= set(parts["validation"].hashes)
    overlap = Overlap("report", copies, sum(content in seen for content in parts["test"].hashes))
    return Split(parts["train"], parts["validation"], parts["test"], overlap)


def _described(levels: range) -> str:
    return f"{levels.start} to {levels.stop - 1}"
