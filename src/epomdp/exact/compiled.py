"""Compile with Numba, keep the machine code between runs, and share environments out over threads."""

from __future__ import annotations

import functools
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numba


def compiled(function: Callable[..., Any]) -> Callable[..., Any]:
    """Compile on first call and cache on disk; where no directory can be written, compile without a cache.

    The interpreter lock is released inside, so that kernels run side by side in Python threads. Numba's own
    parallel loops are avoided: they abort a process that forks, or that calls them from two threads.
    """
    try:
        kernel = numba.njit(cache=True, nogil=True)(function)
    except RuntimeError:
        # Numba found no directory that it may write to.
        return numba.njit(nogil=True)(function)
    # Numba asks only whether the kernel's own file has changed, and would go on with the old machine code of the
    # kernels that it calls in other files: silently wrong after an upgrade.
    kernel._cache._cache_file._source_stamp = _stamp()  # type: ignore[attr-defined]
    return kernel


@functools.cache
def _stamp() -> tuple[tuple[str, float, int], ...]:
    """Name, time and size of every source that a kernel may call into: all of this package."""
    package = Path(__file__).parent
    sources = ((path, path.stat()) for path in sorted(package.rglob("*.py")))
    return tuple((str(path.relative_to(package)), stat.st_mtime, stat.st_size) for path, stat in sources)


def share_out(kernel: Callable[[int, int], None], count: int, least: int = 1) -> None:
    """Call `kernel(first, last)` for ranges that cover 0 .. count - 1, in as many threads as Numba may use.

    Args:
        kernel: must write to places that belong to its own range only.
        count: number of items.
        least: fewest items worth a thread of their own.
    """
    threads = max(1, min(numba.config.NUMBA_NUM_THREADS, count // max(1, least)))  # type: ignore[attr-defined]
    if threads == 1:
        kernel(0, count)
        return
    # Several ranges for each thread even out environments of unequal cost.
    size = max(least, -(-count // (4 * threads)))
    with ThreadPoolExecutor(threads) as pool:
        for done in [pool.submit(kernel, first, min(first + size, count)) for first in range(0, count, size)]:
            done.result()
