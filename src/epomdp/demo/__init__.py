"""The main job: the guessing game on real images, agents beside the exact optimum, in a few minutes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from epomdp import problems
from epomdp.demo.figures import show, summarise
from epomdp.demo.page import write_demo_page
from epomdp.demo.play import EPISODES, play

__all__ = ["EPISODES", "run", "show"]


def run(out: str | Path, *, seeds: int = 5, steps: int | None = None) -> dict[str, Any]:
    """Train, evaluate and report; what an interrupted demo has finished in `out` is used again.

    Args:
        seeds: splits of the images; every agent is trained anew on each.
        steps: environment steps of an agent, over all its members.

    Returns:
        The object that `epomdp demo --json` prints.

    Raises:
        BadInput: counts below one, or an output directory that holds something else.
    """
    folder = Path(out)
    outcome = play(folder, seeds=seeds, steps=problems.entry("guess").steps if steps is None else steps)
    report = summarise(outcome)
    command = f"epomdp demo --seeds {seeds}" + ("" if steps is None else f" --steps {steps}")
    report["page"] = str(write_demo_page(outcome, report, folder / "report.html", command=command))
    return report
