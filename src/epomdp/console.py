"""What the command line shows: tables on standard output, progress and warnings on standard error."""

from __future__ import annotations

import math
import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.progress import BarColumn, Progress, ProgressColumn, Task, TextColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

if TYPE_CHECKING:
    from epomdp import train as training

error_console = Console(stderr=True)


def show_table(title: str, columns: list[str], rows: list[list[str]]) -> None:
    """A plain table on standard output; the first column is left-aligned, the others right-aligned."""
    table = Table(title=Text(title), title_justify="left")
    for i, column in enumerate(columns):
        table.add_column(Text(column), justify="left" if i == 0 else "right", overflow="fold")
    for row in rows:
        table.add_row(*(Text(cell) for cell in row))
    # Piped into a file there is no terminal whose width counts.
    Console(width=None if sys.stdout.isatty() else 120).print(table)


def score_cell(score: dict[str, Any] | None) -> str:
    """A mean with its interval."""
    if score is None:
        return ""
    # Adding zero turns a rounded -0.0 into 0.0.
    mean, low, high = (round(x, 2) + 0.0 for x in (score["mean"], *score["interval"]))
    return f"{mean:.2f} [{low:.2f}, {high:.2f}]"


def share_cell(score: dict[str, Any] | None) -> str:
    """A solve rate in percent."""
    return "" if score is None else f"{100 * score['solve_rate']:.1f} %"


def loops_cell(score: dict[str, Any] | None) -> str:
    """The share of failed episodes that are loops, and of how many; nothing where that is not known."""
    if score is None or score.get("failed_in_loops") is None:
        return ""
    return f"{100 * score['failed_in_loops']:.1f} % of {score['failed']:,}"


class _Speed(ProgressColumn):
    def render(self, task: Task) -> Text:
        return Text(f"{task.speed or 0:,.0f} steps/s")


class _Returns(ProgressColumn):
    def render(self, task: Task) -> Text:
        train, validation = task.fields["train"], task.fields["validation"]
        return Text(f"train {_or_dash(train)}  validation {_or_dash(validation)}")


def _or_dash(value: float) -> str:
    return "-" if math.isnan(value) else f"{value:.2f}"


@contextmanager
def training_bar(description: str) -> Iterator[Callable[[training.Progress], None]]:
    """A progress bar: share done, steps per second, time left, training and validation return."""
    columns = (
        TextColumn("{task.description}"),
        BarColumn(bar_width=24),
        TextColumn("{task.completed:,.0f}/{task.total:,.0f}"),
        _Speed(),
        TimeRemainingColumn(),
        _Returns(),
    )
    bar = Progress(*columns, console=error_console)
    task = bar.add_task(description, total=1, train=math.nan, validation=math.nan)

    def advance(progress: training.Progress) -> None:
        # Shown from the first update on: what fails before it leaves its one line and no empty bar.
        bar.start()
        bar.update(
            task,
            total=progress.total_steps,
            completed=progress.steps,
            train=progress.train_return,
            validation=progress.validation_return,
        )

    try:
        yield advance
    finally:
        if bar.live.is_started:
            bar.stop()


@contextmanager
def plain_warnings() -> Iterator[None]:
    """Warnings as one line each on standard error."""

    def show(message, category, filename, lineno, file=None, line=None):
        error_console.print(f"warning: {message}", markup=False, highlight=False, soft_wrap=True)

    with warnings.catch_warnings():
        warnings.showwarning = show
        yield


@contextmanager
def solving_bar(name: str) -> Iterator[Callable[..., None]]:
    """A line that follows a solver: both bounds, the gap, and an estimate of the time left."""
    bar = Progress(TextColumn("{task.description}"), console=error_console, transient=True)
    task = bar.add_task(name)

    def advance(progress: Any) -> None:
        bar.start()
        left = "" if progress.seconds_left is None else f", about {progress.seconds_left:,.0f} s left"
        bar.update(
            task,
            description=f"{name}: {progress.lower:.6f} to {progress.upper:.6f}, "
            f"gap {progress.upper - progress.lower:.2g} after {progress.seconds:.1f} s{left}",
        )

    try:
        yield advance
    finally:
        if bar.live.is_started:
            # The bar's own stop() leaves an empty line where nobody watches.
            bar.live.stop()
