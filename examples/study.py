"""Many runs for one question: trained and evaluated one process a core, and gone on with where they were left.

A shared part of the figures' programs. By hand, it finishes the runs of one arm:

    python examples/study.py FOLDER ARM_AS_JSON SEEDS
"""

from __future__ import annotations

import json
import os
import queue
import subprocess
import sys
import threading
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

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


def finish(root: Path, arms: dict[Arm, int]) -> None:
    """Train and evaluate every arm with seeds 0 .. n - 1, a process pinned to each core; what is done stays done.

    Args:
        arms: each with its number of seeds n; begun in this order.
    """
    waiting: queue.SimpleQueue[tuple[Arm, int]] = queue.SimpleQueue()
    for item in arms.items():
        waiting.put(item)
    failed: list[str] = []

    def work(core: int) -> None:
        while not waiting.empty() and not failed:
            arm, seeds = waiting.get()
            arguments = [sys.executable, __file__, str(root), json.dumps(asdict(arm)), str(seeds)]
            # XLA makes as many threads as it is allowed cores; two runs on a core each beat one on both.
            if subprocess.run(["taskset", "--cpu-list", str(core), *arguments]).returncode:
                failed.append(f"{arm.env} {arm.name}")

    threads = [threading.Thread(target=work, args=(core,)) for core in sorted(os.sched_getaffinity(0))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if failed:
        sys.exit(
            f"stopped: {', '.join(failed)} did not finish; the same command goes on from the last checkpoints"
        )


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
            found[split].append([row[f"{split}_return"] for row in points])
    return found


def _finish_arm(root: Path, arm: Arm, seeds: int) -> None:
    from epomdp import results
    from epomdp import train as training
    from epomdp.train import Settings

    for seed in range(seeds):
        path = arm.folder(root, seed)
        if (path / "evaluation.json").exists():
            continue
        if (path / "config.json").exists():
            training.resume(path)
        else:
            training.train(Settings(arm.env, arm.agent, seed=seed, **arm.settings), path)
        if arm.policies:
            results.evaluate_run(path, policies=arm.policies, episodes=EPISODES, seed=seed)
        print(f"{arm.env} {arm.name} seed {seed}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    _finish_arm(Path(sys.argv[1]), Arm(**json.loads(sys.argv[2])), int(sys.argv[3]))
