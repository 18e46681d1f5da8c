"""Best memoryless policies of family files: values, bounds and seconds, in the given order of files.

    python benchmarks/memoryless.py FOLDER --time-limit 60 --out memoryless.jsonl

FOLDER holds family files (`.npz`). Kernels are compiled beforehand. Each file gets the limit for each of its
two rows.
"""

from __future__ import annotations

import argparse
import json
import platform
import time
from pathlib import Path

import numpy as np

from epomdp.exact.certainty import certainty_equivalent
from epomdp.exact.family import Family
from epomdp.exact.mdp import optimal_values
from epomdp.exact.memoryless import MemorylessPolicy, best_deterministic, best_stochastic


def compile_kernels() -> None:
    """Run everything once on a family in which neither search ends at once."""
    rng = np.random.default_rng(0)
    transitions = rng.dirichlet(np.ones(4), (3, 4, 2))
    rewards = rng.normal(size=(3, 4, 2))
    family = Family.from_arrays(transitions, rewards, np.full(4, 0.25), np.full(3, 1 / 3), 0.9)
    best_stochastic(family, time_limit=1.0)


def row(found: MemorylessPolicy, seconds: float) -> dict[str, float | bool]:
    return {
        "value": found.value,
        "bound": found.bound,
        "certified": found.certified,
        "seconds": round(seconds, 2),
        "mixed_states": int(((found.policy > 1e-6) & (found.policy < 1 - 1e-6)).any(axis=1).sum()),
    }


def measure(path: Path, time_limit: float) -> dict:
    """All memoryless rows of one file."""
    family = Family.load(path)
    started = time.perf_counter()
    certainty = certainty_equivalent(family)
    result = {
        "family": path.stem,
        "environments, states, actions": family.rewards.shape,
        "informed": float(family.weights @ optimal_values(family) @ family.initial),
        "certainty_equivalent": {"map": certainty.map_value, "mean": certainty.mean_value},
        "certainty_seconds": round(time.perf_counter() - started, 3),
    }
    starts = [certainty.map_actions, certainty.mean_actions]
    started = time.perf_counter()
    deterministic = best_deterministic(family, starts=starts, time_limit=time_limit)
    result["deterministic"] = row(deterministic, time.perf_counter() - started)
    started = time.perf_counter()
    stochastic = best_stochastic(family, deterministic=deterministic, time_limit=time_limit)
    result["stochastic"] = row(stochastic, time.perf_counter() - started)
    return result


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path)
    parser.add_argument("--time-limit", type=float, default=60.0)
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    compile_kernels()
    for path in sorted(arguments.folder.glob("*.npz")):
        line = json.dumps(
            {**measure(path, arguments.time_limit), "machine": platform.processor() or "unknown"}
        )
        print(line, flush=True)
        if arguments.out:
            with arguments.out.open("a") as out:
                out.write(line + "\n")


if __name__ == "__main__":
    main()
