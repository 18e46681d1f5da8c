"""Many runs for one question: trained and evaluated one process a core, and gone on with where they were left.

A shared part of the figures' programs. By hand, it finishes the runs of one arm:

    python examples/study.py FOLDER ARM_AS_JSON SEEDS
"""

from __future__ import annotations

import argparse
import json
import os
import queue
import shutil
import subprocess
import sys
import threading
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import numpy as np

if TYPE_CHECKING:
    import numpy.typing as npt
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from epomdp.errors import EpomdpError
    from epomdp.train import Settings

EPISODES = 1
"""Episodes of each policy in each context: there are many contexts."""


@dataclass(frozen=True, eq=False)
class Arm:
    """What is trained anew with every seed.

    Attributes:
        settings: fields of `epomdp.train.Settings`.
        policies: played in all contexts at the end, by name. Learning curves are there anyway.
    """

    name: str
    env: str
    agent: str
    settings: dict[str, Any] = field(default_factory=dict)
    policies: tuple[str, ...] = ()

    def folder(self, root: Path, seed: int) -> Path:
        """Where its run with this seed lives."""
        return root / self.env / self.name / f"seed-{seed}"

    def run_settings(self, seed: int) -> Settings:
        """The settings of its run with this seed."""
        from epomdp.train import Settings

        return Settings(self.env, self.agent, seed=seed, **self.settings)


def finish(root: Path, arms: dict[Arm, int]) -> None:
    """Train and evaluate every arm with seeds 0 .. n - 1, one process a core; what is done stays done.

    Leaves the program with status 2, before anything is trained, where a folder has a run of other settings.

    Args:
        arms: each with its number of seeds n; begun in this order.
    """
    from epomdp.errors import EpomdpError

    try:
        for arm, seeds in arms.items():
            check(root, arm, seeds)
    except EpomdpError as error:
        _stop(error)
    waiting: queue.SimpleQueue[tuple[Arm, int]] = queue.SimpleQueue()
    for item in arms.items():
        waiting.put(item)
    failed: list[str] = []

    def work(place: list[str]) -> None:
        while not failed:
            try:
                arm, seeds = waiting.get_nowait()
            except queue.Empty:
                return
            arguments = [sys.executable, __file__, str(root), json.dumps(asdict(arm)), str(seeds)]
            if subprocess.run([*place, *arguments]).returncode:
                failed.append(f"{arm.env} {arm.name}")

    threads = [threading.Thread(target=work, args=(place,)) for place in places()]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if failed:
        sys.exit(
            f"stopped: {', '.join(failed)} did not finish; the same command goes on from the last checkpoints"
        )


def places() -> list[list[str]]:
    """What to put before the command of each process: a pin to its core, where the system has that."""
    # XLA makes as many threads as it is allowed cores; two runs on a core each beat one on both.
    if hasattr(os, "sched_getaffinity") and shutil.which("taskset"):
        return [["taskset", "--cpu-list", str(core)] for core in sorted(os.sched_getaffinity(0))]
    return [[] for _ in range(os.cpu_count() or 1)]


def check(root: Path, arm: Arm, seeds: int) -> None:
    """Raise BadInput where a folder of the arm has a run that was made with other settings."""
    from epomdp.errors import BadInput
    from epomdp.train import as_stored

    for seed in range(seeds):
        path = arm.folder(root, seed)
        if not (path / "config.json").exists():
            continue
        stored = json.loads((path / "config.json").read_text())
        for name, value in as_stored(asdict(arm.run_settings(seed).resolved())).items():
            if stored.get(name) != value:
                where, before, now = _first_difference(name, stored.get(name), value)
                raise BadInput(
                    f"{path}: its run was made with {where} {before!r}, and {now!r} is asked for; "
                    "give another --out, or move that folder away"
                )


def _first_difference(name: str, before: Any, now: Any) -> tuple[str, Any, Any]:
    """The name and both values of a field, or of the first entry that differs in a dictionary."""
    if not (isinstance(before, dict) and isinstance(now, dict)):
        return name, before, now
    key = next(k for k in now | before if before.get(k) != now.get(k))
    return f"{name}.{key}", before.get(key), now.get(key)


def _stop(error: EpomdpError) -> NoReturn:
    print(error, file=sys.stderr)
    sys.exit(error.exit_status)


def evaluations(root: Path, arm: Arm, seeds: int) -> list[Any]:
    """The evaluations of a finished arm, by seed."""
    from epomdp import results

    return [results.read_evaluation(arm.folder(root, seed)) for seed in range(seeds)]


def curves(root: Path, arm: Arm, seeds: int) -> dict[str, list[list[float]]]:
    """Learning curves: "steps" and mean returns on "train", "validation" and "test", one list a seed."""
    found: dict[str, list[list[float]]] = {"steps": [], "train": [], "validation": [], "test": []}
    for seed in range(seeds):
        lines = (arm.folder(root, seed) / "metrics.jsonl").read_text().splitlines()
        points = [row for row in map(json.loads, lines) if "test_return" in row]
        found["steps"].append([row["steps"] for row in points])
        for split in ("train", "validation", "test"):
            key = f"{split}_return"  # there may be no validation contexts
            found[split].append([row[key] for row in points if key in row])
    return found


def over_seeds(values: Sequence[float]) -> dict[str, Any]:
    """Mean of one number a seed with Student's 95 % interval, None where there is but one; None of nothing."""
    from scipy.stats import t

    n, mean = len(values), float(np.mean(values)) if len(values) else None
    interval = None
    if mean is not None and n > 1:
        half = float(t.ppf(0.975, n - 1) * np.std(values, ddof=1) / np.sqrt(n))
        interval = [mean - half, mean + half]
    return {"mean": mean, "interval": interval, "over": "seeds"}


def command_line(about: str | None, out: str, data: str, picture: str) -> argparse.ArgumentParser:
    """What every study's command has: the folder of its runs, its data file and its picture."""
    parser = argparse.ArgumentParser(description=about, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path(out), help="folder of the runs")
    parser.add_argument("--data", type=Path, default=Path(data))
    parser.add_argument("--picture", type=Path, default=Path(picture))
    return parser


def panels(rows: int, columns: int, width: float, height: float) -> tuple[Figure, npt.NDArray[Any]]:
    """A figure of so many axes (rows, columns), each of this size in inches, that needs no screen."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    return plt.subplots(rows, columns, figsize=(width * columns, height * rows), squeeze=False)


def save(figure: Figure, path: Path) -> None:
    """Write a figure as a picture and forget it."""
    import matplotlib.pyplot as plt

    figure.tight_layout()
    figure.savefig(path, dpi=130)
    plt.close(figure)


def draw_curves(axis: Axes, found: dict[str, dict[str, Any]], colours: dict[str, str]) -> None:
    """Each arm's learning curves on test and training (dotted) levels: mean +- one standard error over seeds."""
    for arm, curve in found.items():
        steps = np.asarray(curve["steps"]).mean(0) / 1e6
        for split, style in (("train", ":"), ("test", "-")):
            values = np.asarray(curve[split])
            mean, error = values.mean(0), values.std(0, ddof=min(1, len(values) - 1)) / np.sqrt(len(values))
            axis.plot(steps, mean, style, color=colours[arm], label=arm if split == "test" else None)
            if split == "test":
                axis.fill_between(steps, mean - error, mean + error, color=colours[arm], alpha=0.15, lw=0)
    axis.set_xlabel("million environment steps, all members")


def shown(value: float | None, form: str) -> str:
    """A number in a table, "-" where there is none."""
    return "-" if value is None else format(value, form)


def bracketed(interval: Sequence[float] | None, form: str) -> str:
    """An interval in a table, "[-]" where there is none."""
    return "[-]" if interval is None else f"[{', '.join(format(bound, form) for bound in interval)}]"


def _finish_arm(root: Path, arm: Arm, seeds: int) -> None:
    from epomdp import results
    from epomdp import train as training

    check(root, arm, seeds)
    for seed in range(seeds):
        path = arm.folder(root, seed)
        if (path / "evaluation.json").exists():
            continue
        if (path / "config.json").exists():
            training.resume(path)
        else:
            training.train(arm.run_settings(seed), path)
        if arm.policies:
            results.evaluate_run(path, policies=arm.policies, episodes=EPISODES, seed=seed)
        print(f"{arm.env} {arm.name} seed {seed}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    from epomdp.errors import EpomdpError

    try:
        _finish_arm(Path(sys.argv[1]), Arm(**json.loads(sys.argv[2])), int(sys.argv[3]))
    except EpomdpError as error:
        _stop(error)
