"""The best policies that see the current state only, and bounds on how good any of them can be."""

from epomdp.exact.memoryless.best import (
    TOLERANCE,
    MemorylessPolicy,
    ascend,
    best_deterministic,
    best_stochastic,
)

__all__ = ["TOLERANCE", "MemorylessPolicy", "ascend", "best_deterministic", "best_stochastic"]
