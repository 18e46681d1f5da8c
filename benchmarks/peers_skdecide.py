"""Side by side with scikit-decide's SARSOP: seconds to the same gap on the same two problems.

    python -m venv peer && peer/bin/pip install scikit-decide==1.1.1 gymnasium==0.29.1
    python benchmarks/peers_skdecide.py --python peer/bin/python --data FOLDER

FOLDER holds `pomdp/tiger.95.pomdp` (Cassandra) and `families/rand_s5a3m4.npz`; the family goes to the peer as a flat
POMDP, rewards hidden, and to us as it is. In each of `--rounds` rounds the peer solves once and we solve
`--repeats` times, so that a machine whose load drifts treats both alike. Our seconds are medians, after compilation,
preparation included; the peer's are those from constructing its solver to the end of `solve`, without imports and
without building the model, whose distributions are looked up ready-made. Seconds are of the wall clock; CPU seconds
of the process are recorded beside them, for machines that are busy. A peer that does not reach the gap within
`--limit` seconds is reported with the bounds it reached by then, and the ratio is a lower bound.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import scipy.sparse as sp

from epomdp.exact.family import Family
from epomdp.exact.formats import pomdp
from epomdp.exact.formats.flat import flatten
from epomdp.exact.pomdp import Pomdp
from epomdp.exact.solve import solve

# Runs in the other environment: reads a model, prints what the peer's solver reaches and how long it takes.
PEER = """
import importlib.metadata, json, sys, time
from skdecide import DiscreteDistribution, Domain, Value
from skdecide.builders.domain import (
    Actions, EnumerableTransitions, Markovian, PartiallyObservable, Rewards, Sequential, SingleAgent,
    UncertainInitialized)
from skdecide.hub.solver.sarsop import SARSOP
from skdecide.hub.space.gym import ListSpace

model = json.loads(open(sys.argv[1]).read())
gap, limit = float(sys.argv[2]), float(sys.argv[3])


def distributions(rows):
    return [[DiscreteDistribution([tuple(pair) for pair in row]) for row in matrix] for matrix in rows]


class Model(Domain, SingleAgent, Sequential, EnumerableTransitions, Actions, Markovian, PartiallyObservable,
            Rewards, UncertainInitialized):
    T_state, T_observation, T_event, T_value, T_info = int, int, int, float, None

    def __init__(self):
        self.next_states = distributions(model["transitions"])
        self.seen = distributions(model["observations"])
        self.values = [[Value(reward=reward) for reward in row] for row in model["rewards"]]
        self.start = DiscreteDistribution([tuple(pair) for pair in model["initial"]])
        self.action_space = ListSpace(list(range(len(model["transitions"]))))
        self.observation_space = ListSpace(list(range(model["num_observations"])))

    def _get_next_state_distribution(self, memory, action):
        return self.next_states[action][memory]

    def _get_transition_value(self, memory, action, next_state=None):
        return self.values[memory][action]

    def _is_transition_value_dependent_on_next_state_(self):
        return False

    def _is_terminal(self, state):
        return False

    def _get_observation_distribution(self, state, action=None):
        return self.seen[0 if action is None else action][state]

    def _get_initial_state_distribution_(self):
        return self.start

    def _get_action_space_(self):
        return self.action_space

    def _get_applicable_actions_from(self, memory):
        return self.action_space

    def _get_observation_space_(self):
        return self.observation_space


domain = Model()
began, began_cpu = time.perf_counter(), time.process_time()
solver = SARSOP(domain_factory=lambda: domain, epsilon=gap, discount=model["discount"],
                time_budget=int(1000 * limit), max_beliefs=10**7)
solver.solve()
print(json.dumps({
    "seconds": time.perf_counter() - began, "cpu_seconds": time.process_time() - began_cpu,
    "lower": solver.get_lower_bound(), "upper": solver.get_upper_bound(),
    "vectors": solver.get_nb_alpha_vectors(), "beliefs": solver.get_nb_explored_beliefs(),
    "version": importlib.metadata.version("scikit-decide"),
}))
"""


@dataclass(frozen=True)
class Problem:
    """One problem, as it is for us and as a flat POMDP for the peer."""

    name: str
    ours: Family | Pomdp
    flat: Pomdp


def problems(data: Path) -> list[Problem]:
    """Tiger and the random family."""
    tiger = pomdp.read(data / "pomdp" / "tiger.95.pomdp")
    family = Family.load(data / "families" / "rand_s5a3m4.npz")
    return [
        Problem("tiger.95", tiger, tiger),
        Problem("rand_s5a3m4", family, flatten(family, observe_rewards=False)),
    ]


def pairs(matrix: sp.csr_array) -> list[list[tuple[int, float]]]:
    """The rows of a matrix as lists of (column, entry)."""
    ends = matrix.indptr.tolist()
    columns, entries = matrix.indices.tolist(), matrix.data.tolist()
    cells = list(zip(columns, entries, strict=True))
    return [cells[first:last] for first, last in pairwise(ends)]


def as_json(model: Pomdp) -> str:
    """What the peer's script reads."""
    return json.dumps(
        {
            "transitions": [pairs(matrix) for matrix in model.transitions],
            "observations": [pairs(matrix) for matrix in model.observations],
            "rewards": model.rewards.tolist(),
            "initial": [(s, p) for s, p in enumerate(model.initial.tolist()) if p > 0],
            "num_observations": model.num_observations,
            "discount": model.discount,
        }
    )


def peer(python: Path, model: Path, gap: float, limit: float) -> dict[str, Any]:
    """One solve by the peer, in a process of its own; stopped when even its own clock does not stop it."""
    command = [str(python), "-c", PEER, str(model), str(gap), str(limit)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=2 * limit + 120)
    except subprocess.TimeoutExpired:
        return {"status": "killed"}
    if done.returncode:
        return {"status": "failed", "message": (done.stdout + done.stderr).strip()[-300:]}
    answer = json.loads(done.stdout.strip().splitlines()[-1])
    reached = answer["upper"] - answer["lower"] <= gap * (1 + 1e-9)
    return {"status": "solved" if reached else "time-limit", **answer}


def ours(problem: Family | Pomdp, gap: float) -> dict[str, Any]:
    """One solve of ours, timed from outside."""
    began, began_cpu = time.perf_counter(), time.process_time()
    solution = solve(problem, observe_rewards=False, gap=gap)
    return {
        "status": solution.status,
        "seconds": time.perf_counter() - began,
        "cpu_seconds": time.process_time() - began_cpu,
        "lower": solution.lower,
        "upper": solution.upper,
    }


def compare(problem: Problem, gap: float, options: argparse.Namespace) -> dict[str, Any]:
    """One problem at one gap, the two solvers in turn."""
    mine: list[dict[str, Any]] = []
    theirs: list[dict[str, Any]] = []
    # The first solve may still have to compile.
    ours(problem.ours, gap)
    with tempfile.TemporaryDirectory() as folder:
        model = Path(folder) / "model.json"
        model.write_text(as_json(problem.flat))
        for _ in range(options.rounds):
            mine += [ours(problem.ours, gap) for _ in range(options.repeats)]
            theirs.append(peer(options.python, model, gap, options.limit))
            # What a round would give again.
            if theirs[-1]["status"] != "solved":
                break
    row = {
        "problem": problem.name,
        "gap": gap,
        "limit": options.limit,
        "epomdp": middle(mine),
        "peer": middle(theirs),
    }
    for clock in ("seconds", "cpu_seconds"):
        if clock in row["peer"]:
            row[f"ratio_{clock}"] = row["peer"][clock] / row["epomdp"][clock]
    return row


def middle(runs: list[dict[str, Any]]) -> dict[str, Any]:
    """The last run's findings with the median of both clocks, and all the wall clock's seconds."""
    timed = [run for run in runs if run["status"] == runs[-1]["status"] and "seconds" in run]
    clocks = {
        clock: statistics.median(run[clock] for run in timed) for clock in ("seconds", "cpu_seconds") if timed
    }
    return {**runs[-1], **clocks, "all_seconds": [run["seconds"] for run in timed]}


def agree(row: dict[str, Any]) -> bool:
    """Whether the two intervals meet."""
    mine, theirs = row["epomdp"], row["peer"]
    slack = 1e-6 * max(1.0, abs(mine["upper"]))
    return "lower" not in theirs or (
        mine["lower"] <= theirs["upper"] + slack and theirs["lower"] <= mine["upper"] + slack
    )


def line(row: dict[str, Any]) -> str:
    """One line of the table."""
    mine, theirs = row["epomdp"], row["peer"]
    if "lower" not in theirs:
        seconds, ratio, bounds = theirs["status"], "", ""
    else:
        late = theirs["status"] != "solved"
        seconds = f"not within {row['limit']:g} s" if late else f"{theirs['seconds']:.3g}"
        ratio = f"{'over ' if late else ''}{row['ratio_seconds']:.0f} ({row['ratio_cpu_seconds']:.0f})"
        bounds = f"{theirs['lower']:.6f}, {theirs['upper']:.6f}"
    return (
        f"| {row['problem']} | {row['gap']:g} | {mine['seconds']:.2g} | {seconds} | {ratio} "
        f"| {mine['lower']:.6f}, {mine['upper']:.6f} | {bounds} |"
    )


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument(
        "--python", type=Path, required=True, help="python of an environment with scikit-decide"
    )
    parser.add_argument("--data", type=Path, required=True, help="folder with pomdp/ and families/")
    parser.add_argument("--gaps", type=float, nargs="+", default=[1e-2, 1e-3], help="gaps to reach")
    parser.add_argument("--rounds", type=int, default=3, help="rounds of the two in turn")
    parser.add_argument("--repeats", type=int, default=5, help="solves of ours in a round")
    parser.add_argument("--limit", type=float, default=120.0, help="seconds for each search of the peer")
    parser.add_argument("--json", type=Path, help="write the rows here too")
    options = parser.parse_args()
    print("| problem | gap | epomdp s | scikit-decide s | ratio (of CPU time) | epomdp bounds | its bounds |")
    print("| --- | --- | --- | --- | --- | --- | --- |")
    rows = []
    for problem in problems(options.data):
        for gap in options.gaps:
            rows.append(compare(problem, gap, options))
            print(line(rows[-1]), flush=True)
    if options.json:
        options.json.write_text(json.dumps(rows, indent=1) + "\n")
    for row in rows:
        if row["peer"]["status"] == "failed":
            print(row["problem"], row["peer"]["message"], sep=": ", file=sys.stderr)
    wrong = [
        f"{row['problem']} at {row['gap']:g}: the bounds contradict each other"
        for row in rows
        if not agree(row)
    ]
    print(*wrong, sep="\n", end="\n" if wrong else "", file=sys.stderr)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
