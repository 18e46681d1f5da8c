"""Time writing and reading of large files in each format, and the reading of a folder of `.pomdp` files.

    python benchmarks/formats.py [--environments 50] [--states 10000] [--pomdps FOLDER] [--json FILE]

The family is a random sparse one: 4 actions, 2 successors each, with probabilities of two kinds: `few` (0.8 and
0.2) and `many` (all different, so that every number takes seventeen digits). Compilation is not counted.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from epomdp.exact import formats
from epomdp.exact.family import Family


def random_family(environments: int, states: int, many: bool) -> Family:
    """A sparse family without structure, so that nothing about it is easy to write."""
    rng = np.random.default_rng(0)
    rows = environments * states * 4
    first = rng.integers(0, states, rows)
    successors = np.sort(np.column_stack([first, (first + rng.integers(1, states, rows)) % states]), axis=1)
    probabilities = rng.dirichlet([1, 1], rows) if many else np.tile([0.8, 0.2], (rows, 1))
    rewards = np.zeros((environments, states, 4))
    rewards[np.arange(environments), rng.integers(0, states, environments)] = 1.0
    return Family.from_sparse(
        2 * np.arange(rows + 1),
        successors.ravel(),
        probabilities.ravel(),
        rewards,
        np.eye(states)[0],
        np.full(environments, 1 / environments),
        0.95,
    )


def timed(work: Callable[[], Any]) -> tuple[Any, dict[str, float]]:
    """What it returns, with the seconds it took, on the wall and of the processor."""
    wall, processor = time.perf_counter(), time.process_time()
    result = work()
    return result, {
        "seconds": round(time.perf_counter() - wall, 2),
        "processor_seconds": round(time.process_time() - processor, 2),
    }


def measure(family: Family, folder: Path) -> dict[str, Any]:
    """Seconds and megabytes for each format."""
    flat, figures = timed(lambda: formats.flatten(family, observe_rewards=False))
    results: dict[str, Any] = {"flatten": figures}
    for ending, write in (
        (".pomdp", lambda path: formats.pomdp.write(flat, path)),
        (".pomdpx", lambda path: formats.pomdpx.write(family, path, observe_rewards=False)),
        (".drn", lambda path: formats.drn.write(family, path, observe_rewards=False)),
    ):
        path = folder / f"x{ending}"
        _, figures = timed(lambda write=write, path=path: write(path))
        results[f"write {ending}"] = figures | {"megabytes": round(path.stat().st_size / 1e6, 1)}
        if ending != ".drn":
            _, figures = timed(lambda path=path: formats.read_any(path))
            results[f"read {ending}"] = figures
        path.unlink()
    return results


def read_folder(folder: Path) -> dict[str, Any]:
    """Seconds for each `.pomdp` file of a folder, with its sizes."""
    results = {}
    for path in sorted(folder.glob("*.pomdp")):
        pomdp, figures = timed(lambda path=path: formats.pomdp.read(path))
        results[path.name] = figures | {
            "states": pomdp.num_states,
            "actions": pomdp.num_actions,
            "observations": pomdp.num_observations,
        }
    return results


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--environments", type=int, default=50)
    parser.add_argument("--states", type=int, default=10_000)
    parser.add_argument("--pomdps", type=Path, help="a folder of .pomdp files to read")
    parser.add_argument("--json", type=Path, help="write the figures here too")
    options = parser.parse_args()
    figures: dict[str, Any] = {"processors": os.cpu_count(), "load": os.getloadavg()[0]}
    with tempfile.TemporaryDirectory() as folder:
        measure(random_family(2, 10, True), Path(folder))
        for name, many in (("few", False), ("many", True)):
            family = random_family(options.environments, options.states, many)
            figures[name] = {"transitions": len(family.successors), **measure(family, Path(folder))}
    if options.pomdps:
        figures["files"] = read_folder(options.pomdps)
    figures["peak_gigabytes"] = round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6, 2)
    print(json.dumps(figures, indent=1))
    if options.json:
        options.json.write_text(json.dumps(figures, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
