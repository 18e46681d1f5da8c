"""Side by side with Storm and PAYNT, who read our DRN files: Bayes-optimal and memoryless deterministic values.

    python -m venv storm && storm/bin/pip install stormpy
    python -m venv paynt && paynt/bin/pip install paynt
    python benchmarks/peers_storm.py FOLDER --storm storm/bin/python --paynt paynt/bin/paynt

FOLDER holds family files (`.npz`). Storm explores the beliefs of the epistemic POMDP, which ends where they are
finite in number; PAYNT searches the deterministic memoryless controllers. Both have `--limit` seconds a file, and
so has our own search. Rewards are hidden, and seen too with `--observed`.
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from epomdp.exact import formats
from epomdp.exact.family import Family
from epomdp.exact.memoryless import best_deterministic
from epomdp.exact.solve import solve

PROPERTY = 'R{"reward"}max=? [F "end"]'

# Runs in the other environment: reads a DRN file and prints what Storm finds.
STORM = """
import json, sys, time
import stormpy, stormpy.pomdp, stormpy.developer, stormpy.environments
options = stormpy.developer.DirectEncodingParserOptions()
options.build_choice_labeling = True
began = time.perf_counter()
model = stormpy.build_model_from_drn(sys.argv[1], options=options)
loaded = time.perf_counter()
question = stormpy.parse_properties(sys.argv[2])[0]
# Its usual precision of 1e-6 leaves an error in the eighth decimal of these values.
environment = stormpy.environments.default(model)
environment.solver().min_max().precision = stormpy.Rational("1/1000000000000")
answer = stormpy.pomdp.verify_with_belief_unfolding(model, question, environment=environment)
print(json.dumps({
    "version": stormpy.__version__, "states": model.nr_states, "observations": model.nr_observations,
    "value": answer.value, "complete": answer.completed_exploration,
    "load_seconds": loaded - began, "seconds": time.perf_counter() - loaded,
}))
"""


def storm(python: Path, drn: Path, limit: float) -> dict[str, Any]:
    """Storm's value, or that it did not end in time."""
    command = [str(python), "-c", STORM, str(drn), PROPERTY]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=limit)
    except subprocess.TimeoutExpired:
        return {"status": "time-limit"}
    if done.returncode:
        return {"status": "failed", "message": (done.stdout + done.stderr).strip().splitlines()[-1]}
    return {"status": "solved", **json.loads(done.stdout)}


def paynt(program: Path, drn: Path, limit: float, folder: Path) -> dict[str, Any]:
    """The best deterministic memoryless controller that PAYNT finds, and whether it looked at all."""
    (folder / "sketch.templ").write_bytes(drn.read_bytes())
    (folder / "sketch.props").write_text(PROPERTY + "\n")
    began = time.perf_counter()
    done = subprocess.run(
        # Its usual precision of 1e-4 also prunes what is better by less than that.
        [str(program), "--precision", "1e-8", "--timeout", str(int(limit)), str(folder)],
        capture_output=True, text=True, timeout=2 * limit + 60,
    )  # fmt: skip
    text = done.stdout + done.stderr
    values = re.findall(r"(?:optimum: |opt = )(-?[\d.]+)", text)
    explored = re.findall(r"explored: ([\d.]+) %", text)
    return {
        "value": float(values[-1]) if values else None,
        "complete": bool(explored) and float(explored[-1]) == 100,
        "seconds": round(time.perf_counter() - began, 2),
    }


def ours(family: Family, observed: bool, limit: float) -> dict[str, Any]:
    """Our bounds on the Bayes-optimal value, and our best deterministic memoryless policy."""
    began = time.perf_counter()
    solution = solve(family, observe_rewards=observed, gap=1e-6, time_limit=limit)
    solved = time.perf_counter()
    policy = best_deterministic(family, time_limit=limit)
    return {
        "lower": solution.lower,
        "upper": solution.upper,
        "seconds": round(solved - began, 3),
        "deterministic": {
            "value": policy.value,
            "bound": policy.bound,
            "certified": policy.certified,
            "seconds": round(time.perf_counter() - solved, 2),
        },
    }


def compare(path: Path, observed: bool, options: argparse.Namespace) -> dict[str, Any]:
    """One family, by all three."""
    family = Family.load(path)
    row: dict[str, Any] = {"family": path.stem, "rewards": "observed" if observed else "hidden"}
    with tempfile.TemporaryDirectory() as folder:
        drn = Path(folder) / "family.drn"
        began = time.perf_counter()
        formats.drn.write(family, drn, observed)
        row["export_seconds"] = round(time.perf_counter() - began, 3)
        row["epomdp"] = ours(family, observed, options.limit)
        if options.storm:
            row["storm"] = storm(options.storm, drn, options.limit)
        # With rewards observed a memoryless controller would see the last reward too: another question.
        if options.paynt and not observed:
            row["paynt"] = paynt(options.paynt, drn, options.limit, Path(folder))
    return row


def agrees(row: dict[str, Any], tolerance: float = 1e-9) -> list[str]:
    """Where the figures of a row contradict each other."""
    wrong, mine = [], row["epomdp"]
    exact = row.get("storm", {})
    if exact.get("complete"):
        slack = tolerance * max(1.0, abs(exact["value"]))
        if not mine["lower"] - slack <= exact["value"] <= mine["upper"] + slack:
            wrong.append("storm's value is outside our bounds")
    other, best = row.get("paynt", {}), mine["deterministic"]
    if other.get("complete") and best["value"] > other["value"] + 1e-5:
        wrong.append("our deterministic policy is better than paynt's proven best")
    if other.get("value") is not None and best["certified"] and other["value"] > best["value"] + 1e-5:
        wrong.append("paynt's controller is better than our proven best")
    return wrong


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--storm", type=Path, help="python of an environment with stormpy")
    parser.add_argument("--paynt", type=Path, help="the paynt program of an environment with paynt")
    parser.add_argument("--families", nargs="*", help="stems of the files to take; all by default")
    parser.add_argument("--observed", action="store_true", help="with rewards observed too")
    parser.add_argument("--limit", type=float, default=60.0, help="seconds for each search")
    parser.add_argument("--json", type=Path, help="write the rows here too")
    options = parser.parse_args()
    rows, wrong = [], []
    for path in sorted(options.folder.glob("*.npz")):
        if options.families and path.stem not in options.families:
            continue
        for observed in (False, True) if options.observed else (False,):
            rows.append(compare(path, observed, options))
            print(json.dumps(rows[-1]), flush=True)
            wrong += [f"{path.stem}: {what}" for what in agrees(rows[-1])]
    if options.json:
        options.json.write_text(json.dumps(rows, indent=1) + "\n")
    print(*wrong, sep="\n", file=sys.stderr)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
