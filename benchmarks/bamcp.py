"""BAMCP on the published Bayes-adaptive tasks: sums of rewards, and CPU time per decision.

    python benchmarks/bamcp.py --task double-loop --simulations 1000 --seeds 10 --out bamcp.jsonl

Every finished run is appended to the file, and runs that are in it already are not repeated, so an
interrupted benchmark goes on where it was; `--summary` prints the table of the file.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path

import numpy as np
from bayes_tasks import TASKS, Task

from epomdp.exact.bayes_adaptive import Bamcp, SparseDirichlet

DISCOUNT = 0.95


def run(task: Task, prior: str, simulations: int, seed: int) -> dict[str, float]:
    """One agent's life on the task: its sum of rewards, and CPU milliseconds per decision."""
    S = len(task.rewards)
    concentrations = SparseDirichlet() if prior == "sparse" else 1 / S
    agent = Bamcp(concentrations, task.rewards, DISCOUNT, simulations, seed=seed)
    rng = np.random.default_rng(seed)
    agent.act(0)  # compile, or load what was compiled
    state, total, started = 0, 0.0, time.process_time()
    for _ in range(task.steps):
        action = agent.act(state)
        following = int(rng.choice(S, p=task.transitions[state, action]))
        reward = task.rewards[state, action]
        agent.update(state, action, reward, following)
        state, total = following, total + reward
    return {"reward": total, "milliseconds": (time.process_time() - started) / task.steps * 1e3}


def read(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def summary(rows: list[dict]) -> str:
    """A Markdown table: mean sum of rewards with a 95 % confidence interval over the seeds."""
    lines = [
        "| task | steps | prior | simulations | seeds | sum of rewards | published | ms a step |",
        "| --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    keys = ("task", "prior", "simulations")
    for group in sorted({tuple(row[k] for k in keys) for row in rows}):
        mine = [row for row in rows if tuple(row[k] for k in keys) == group]
        rewards = np.array([row["reward"] for row in mine])
        error = 1.96 * rewards.std(ddof=1) / np.sqrt(rewards.size) if rewards.size > 1 else np.nan
        milliseconds = np.median([row["milliseconds"] for row in mine])
        task = TASKS[group[0]]()
        lines.append(
            f"| {group[0]} | {task.steps} | {group[1]} | {group[2]} | {rewards.size} "
            f"| {rewards.mean():.1f} ± {error:.1f} | {task.published} | {milliseconds:.1f} |"
        )
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--task", choices=sorted(TASKS), default="double-loop")
    parser.add_argument("--prior", choices=["flat", "sparse"], default="flat")
    parser.add_argument("--simulations", type=int, default=1000)
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--out", type=Path, default=Path("bamcp.jsonl"))
    parser.add_argument("--summary", action="store_true", help="print the table of the file and stop")
    options = parser.parse_args()
    if not options.summary:
        setting = {"task": options.task, "prior": options.prior, "simulations": options.simulations}
        done = [{k: row[k] for k in (*setting, "seed")} for row in read(options.out)]
        for seed in range(options.seeds):
            if setting | {"seed": seed} in done:
                continue
            result = run(TASKS[options.task](), options.prior, options.simulations, seed)
            with options.out.open("a") as out:
                out.write(json.dumps(setting | {"seed": seed} | result) + "\n")
    print(summary(read(options.out)))


if __name__ == "__main__":
    main()
