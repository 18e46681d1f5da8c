"""How much memory is left, asked before a large allocation rather than found out by being killed."""

from __future__ import annotations

import os
from pathlib import Path

from epomdp.errors import BadInput

_CGROUP = Path("/sys/fs/cgroup")


def available_bytes() -> float:
    """Bytes that can still be allocated without swapping; infinity where the system does not say."""
    return min(_system_bytes(), _container_bytes())


def require_memory(needed: float, what: str, mend: str) -> None:
    """Refuse `what` before it is allocated if it needs more bytes than there are.

    Raises:
        BadInput: with both figures and the mend.
    """
    available = available_bytes()
    if needed > available:
        raise BadInput(
            f"{what}: needs about {needed / 1e9:.3g} GB of memory, {available / 1e9:.3g} GB are free; {mend}"
        )


def _system_bytes() -> float:
    try:
        for line in Path("/proc/meminfo").read_text().splitlines():
            if line.startswith("MemAvailable:"):
                return 1024.0 * int(line.split()[1])
    except (OSError, ValueError):
        pass
    try:
        return float(os.sysconf("SC_PAGE_SIZE")) * os.sysconf("SC_AVPHYS_PAGES")
    except (AttributeError, ValueError, OSError):
        return float("inf")


def _container_bytes() -> float:
    """What a container's limit (cgroup, version 2) leaves."""
    try:
        limit = (_CGROUP / "memory.max").read_text().strip()
        used = (_CGROUP / "memory.current").read_text().strip()
        return float(limit) - float(used) if limit != "max" else float("inf")
    except (OSError, ValueError):
        return float("inf")
