"""A Procgen run stopped after every so many steps and resumed, against one that ran straight through.

    python benchmarks/procgen_slices.py --json procgen_slices.json

Each slice is a process of its own that is sent SIGINT (Ctrl-C) when its steps are done, as where a machine is lent for
some minutes at a time. In the end every array of the last checkpoints and every metrics line (but for its seconds)
is compared.
"""

from __future__ import annotations

import argparse
import json
import signal
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from kill_resume import finish, log, metrics, start, tensors

OPTIONS = {
    "network": "small",
    "num-envs": 16,
    "num-steps": 64,
    "train-contexts": 50,
    "test-contexts": 20,
    "evaluations": 2,
}


def command(out: Path, env: str, agent: str, steps: int) -> list[str]:
    """How to start the run, or to go on with it."""
    words = [sys.executable, "-m", "epomdp", "train"]
    if (out / "config.json").exists():
        return [*words, "--resume", str(out)]
    options = {"env": env, "agent": agent, "steps": steps, "out": out} | OPTIONS
    return [*words, *(word for name, value in options.items() for word in (f"--{name}", str(value)))]


def steps_done(out: Path) -> int:
    """Steps that the newest line of the log speaks of."""
    return metrics(out)[-1]["steps"] if log(out).lines else 0


def in_slices(out: Path, env: str, agent: str, steps: int, each: int, cache: Path) -> list[int]:
    """Train with a stop after every `each` steps; where the stops were."""
    stops = []
    for goal in range(each, steps, each):
        before = log(out)
        process = start(command(out, env, agent, steps), cache)
        # A resumed run writes its log anew before it goes on.
        while process.poll() is None and (log(out).file == before.file or steps_done(out) < goal):
            time.sleep(0.05)
        process.send_signal(signal.SIGINT)
        process.communicate()
        if process.returncode != 130:
            raise SystemExit(f"exit status {process.returncode} after Ctrl-C")
        stops.append(steps_done(out))
    finish(start(command(out, env, agent, steps), cache))
    return stops


def run(folder: Path, env: str, agent: str, steps: int, each: int) -> dict[str, Any]:
    """Train straight and in slices, and compare."""
    straight, sliced, cache = folder / "straight", folder / "sliced", folder / "cache"
    finish(start(command(straight, env, agent, steps), cache))
    stops = in_slices(sliced, env, agent, steps, each, cache)
    arrays = tensors(straight)
    return {
        "env": env,
        "agent": agent,
        "steps": steps_done(straight),
        "stops": stops,
        "arrays": len(arrays),
        "arrays_equal": arrays == tensors(sliced),
        "metrics_lines": len(metrics(straight)),
        "metrics_equal": metrics(straight) == metrics(sliced),
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--env", default="procgen:bigfish")
    parser.add_argument("--agent", default="leep")
    parser.add_argument("--steps", type=int, default=300_000)
    parser.add_argument("--each", type=int, default=50_000, help="steps between two stops")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the figures to a file")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        report = run(Path(folder), options.env, options.agent, options.steps, options.each)
    print(json.dumps(report))
    if options.json:
        options.json.write_text(json.dumps(report, indent=1) + "\n")
    if not (report["arrays_equal"] and report["metrics_equal"]):
        raise SystemExit("the sliced run did not end with the bits of the straight one")


if __name__ == "__main__":
    main()
