"""Metrics for TensorBoard, behind the `track` extra."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from epomdp.errors import BadInput

Tracker = Callable[[dict[str, float], int], None]


@contextmanager
def tensorboard(run: Path, wanted: bool) -> Iterator[Tracker | None]:
    """Write every update's metrics to `run`/tensorboard, against environment steps.

    Raises:
        BadInput: wanted, and tensorboardX is not installed.
    """
    if not wanted:
        yield None
        return
    try:
        from tensorboardX import SummaryWriter
    except ImportError:
        raise BadInput("--track needs tensorboardX; install it with: pip install 'epomdp[track]'") from None
    writer: SummaryWriter | None = None

    def track(metrics: dict[str, float], steps: int) -> None:
        # Opened late: a run directory must be empty when training starts.
        nonlocal writer
        writer = writer or SummaryWriter(str(run / "tensorboard"))
        for name, value in metrics.items():
            if not math.isnan(value):
                writer.add_scalar(name, value, steps)

    try:
        yield track
    finally:
        if writer is not None:
            writer.close()
