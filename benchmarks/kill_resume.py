"""Kill a training run with SIGKILL at random moments, resume it each time, and compare it with one never killed.

    python benchmarks/kill_resume.py --kills 20 --agent leep --json kill_resume.json

The moments come from a seed. About one in five falls into the start-up of the process, before anything is trained;
the others are spread over the run: the process is killed once it has logged a drawn number of updates, and a drawn
fraction of the time between two checkpoints later. Checkpoints are frequent, so that many kills fall into the
writing of one. A run killed before its directory was whole is started again.
"""

from __future__ import annotations

import argparse
import functools
import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import safetensors.numpy

SMALL = {"num-envs": 16, "num-steps": 16, "num-minibatches": 4, "hidden": "32,32"}
STEPS_PER_UPDATE = 256
STARTUP_SECONDS = 3.0
"""Kills in the start-up fall into this time; about what importing, loading and drawing takes."""


class Moment(NamedTuple):
    """When to kill: `delay` seconds after the start, or after `updates` have been logged."""

    updates: int
    delay: float


def moments(kills: int, updates: int, startup: float, between: float, seed: int) -> list[Moment]:
    """Seeded moments in the order of the run's progress."""
    rng = np.random.default_rng(seed)
    early = rng.random(kills) < 0.2
    reached = np.where(early, 0, np.sort(rng.integers(1, max(2, 9 * updates // 10), kills)))
    delays = rng.uniform(0, np.where(early, startup, between))
    return [Moment(int(update), float(delay)) for update, delay in zip(reached, delays, strict=True)]


def command(out: Path, agent: str, steps: int, checkpoint_seconds: float) -> list[str]:
    """How to go on with the run; or to start it anew where there is none yet, or only a part of one."""
    start = [sys.executable, "-m", "epomdp", "train", "--checkpoint-seconds", str(checkpoint_seconds)]
    if (out / "config.json").exists():
        return [*start, "--resume", str(out)]
    shutil.rmtree(out, ignore_errors=True)
    sizes = {"train-contexts": 30, "validation-contexts": 10, "test-contexts": 50, "evaluations": 4}
    options = {"env": "guess", "agent": agent, "steps": steps, "out": str(out)} | sizes | SMALL
    return [*start, *(word for name, value in options.items() for word in (f"--{name}", str(value)))]


class Log(NamedTuple):
    """The lines of `metrics.jsonl`, and which file it is: every start writes it anew."""

    lines: int
    file: int


def log(out: Path) -> Log:
    path = out / "metrics.jsonl"
    return Log(path.read_bytes().count(b"\n"), path.stat().st_ino) if path.exists() else Log(0, 0)


def start(words: list[str], cache: Path) -> subprocess.Popen:
    # Compiled programs are kept between the processes, so that most of a run's time is training.
    keep = {"JAX_COMPILATION_CACHE_DIR": str(cache), "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0"}
    return subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, env=os.environ | keep)


def finish(process: subprocess.Popen) -> None:
    _, errors = process.communicate()
    if process.returncode:
        raise SystemExit(f"the run failed:\n{errors.decode()}")


def kill_at(moment: Moment, words: list[str], out: Path, cache: Path) -> dict[str, Any] | None:
    """Start, wait for the moment, kill; what was found then, or None where the run was faster."""
    before = log(out)
    process = start(words, cache)
    while moment.updates and process.poll() is None:
        now = log(out)
        if now.file != before.file and now.lines >= moment.updates and now.lines > safe_updates(out):
            break
        time.sleep(0.002)
    time.sleep(moment.delay)
    process.kill()
    _, errors = process.communicate()
    if process.returncode == 0:
        return None
    if process.returncode != -signal.SIGKILL:
        raise SystemExit(f"the run failed:\n{errors.decode()}")
    now = log(out)
    half_written = [*out.glob(".*.tmp"), *(out / "checkpoints").glob(".*.tmp")]
    if not (out / "config.json").exists():
        found = "before there was a run"
    elif now.file == before.file:
        found = "in start-up"
    else:
        found = "while writing a file" if half_written else "between two writes"
    return {"moment": found, "lost": now.lines - safe_updates(out)}


def safe_updates(out: Path) -> int:
    """The update of the newest checkpoint."""
    return max((int(note.stem) for note in (out / "checkpoints").glob("*.json")), default=0)


def tensors(out: Path) -> dict[str, str]:
    """SHA-256 of every array of the newest checkpoint, by its name, shape and type."""
    newest = max((out / "checkpoints").glob("*.safetensors"))
    arrays = safetensors.numpy.load(newest.read_bytes())
    return {
        f"{newest.stem} {name} {array.shape} {array.dtype}": hashlib.sha256(array.tobytes()).hexdigest()
        for name, array in arrays.items()
    }


def metrics(out: Path) -> list[dict[str, Any]]:
    """Every logged line but for its seconds."""
    rows = map(json.loads, (out / "metrics.jsonl").read_text().splitlines())
    return [{name: value for name, value in row.items() if name != "seconds"} for row in rows]


def run(
    folder: Path, agent: str, *, kills: int, updates: int, checkpoint_seconds: float = 0.05, seed: int = 0
) -> dict[str, Any]:
    """Train once without a kill and once with them, and compare.

    Returns:
        How many kills there were and where they fell, and whether tensors and metrics are equal bit for bit.
    """
    whole, killed, cache = folder / "whole", folder / "killed", folder / "cache"
    steps = updates * STEPS_PER_UPDATE * (1 if agent == "ppo" else 4)
    words = functools.partial(command, agent=agent, steps=steps, checkpoint_seconds=checkpoint_seconds)
    finish(start(words(whole), cache))
    found = []
    for moment in moments(kills, updates, STARTUP_SECONDS, 2 * checkpoint_seconds, seed):
        at_kill = kill_at(moment, words(killed), killed, cache)
        found += [at_kill] if at_kill else []
    finish(start(words(killed), cache))
    arrays = tensors(whole)
    return {
        "agent": agent,
        "kills": len(found),
        "moments": dict(Counter(kill["moment"] for kill in found)),
        "updates": updates,
        "lost_updates": [kill["lost"] for kill in found],
        "tensors": len(arrays),
        "tensors_equal": arrays == tensors(killed),
        "metrics_lines": len(metrics(whole)),
        "metrics_equal": metrics(whole) == metrics(killed),
        "left_behind": [p.name for p in killed.rglob("*.tmp")],
    }


def table(report: dict[str, Any]) -> str:
    """A Markdown table."""
    moments = ", ".join(f"{count} {name}" for name, count in sorted(report["moments"].items()))
    lost = report["lost_updates"]
    return "\n".join(
        [
            "| agent | updates | kills | where they fell | updates lost and done again: mean, most "
            "| arrays | equal | metrics lines | equal |",
            "| --- | --- | --- | --- | --- | --- | --- | --- | --- |",
            f"| {report['agent']} | {report['updates']} | {report['kills']} | {moments} "
            f"| {np.mean(lost):.1f}, {max(lost)} | {report['tensors']} | {report['tensors_equal']} "
            f"| {report['metrics_lines']} | {report['metrics_equal']} |",
        ]
    )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--agent", default="leep")
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--updates", type=int, default=400)
    parser.add_argument("--checkpoint-seconds", type=float, default=0.05)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the figures to a file")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        report = run(
            Path(folder),
            options.agent,
            kills=options.kills,
            updates=options.updates,
            checkpoint_seconds=options.checkpoint_seconds,
            seed=options.seed,
        )
    print(table(report))
    print(json.dumps(report))
    if options.json:
        options.json.write_text(json.dumps(report, indent=1) + "\n")
    if not (report["tensors_equal"] and report["metrics_equal"]):
        raise SystemExit("the killed run did not end with the bits of the uninterrupted one")


if __name__ == "__main__":
    main()
