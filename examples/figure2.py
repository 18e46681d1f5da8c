"""The post's figure 2 on a laptop: in new mazes the standard greedy policy walks in loops; what recovers.

    python examples/figure2.py --out figure5-runs --page figure2.html --data figure2.json

Uses figure 5's runs of the maze in `--out`, or trains them. The levels on the page are the first test levels of
seed 0 on which greedy PPO fails, not chosen further.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import numpy as np
from figure5 import SHOWN, arms
from study import Arm, bracketed, evaluations, finish, over_seeds, shown

GAME = "maze"
LEVELS_SHOWN = 6
LABELS = {
    "dqn greedy": "DQN, greedy",
    "ppo greedy": "PPO, greedy: standard RL",
    "ppo sampled": "PPO, sampled",
    "ppo elimination": "PPO with elimination",
    "ppo backtracking": "PPO, backtracking",
    "leep greedy": "LEEP, greedy",
    "leep linked": "LEEP, sampled from the link",
    "leep elimination": "LEEP with elimination",
    "leep backtracking": "LEEP, backtracking",
}
REPLAYED = ("ppo greedy", "ppo sampled", "leep linked", "ppo backtracking", "leep backtracking")


def trained(steps: int | None) -> dict[str, Arm]:
    """PPO and LEEP as in figure 5, and DQN."""
    found = arms(GAME, steps)
    dqn = Arm("dqn", GAME, "dqn", found["ppo"].settings, ("greedy",))
    return {"ppo": found["ppo"], "leep": found["leep"], "dqn": dqn}


def numbers(steps: int | None, seeds: int, dqn_seeds: int) -> dict[str, tuple[Arm, int]]:
    """Each arm with its number of seeds, if any; DQN only shows that it loops as well."""
    counts = {"ppo": seeds, "leep": seeds, "dqn": dqn_seeds}
    return {name: (arm, counts[name]) for name, arm in trained(steps).items() if counts[name]}


def loops(root: Path, made: dict[str, tuple[Arm, int]], seeds: int) -> dict[str, Any]:
    """How often greedy policies fail in loops, and what the others make of the same levels."""
    from epomdp import results

    played = {name: evaluations(root, arm, count) for name, (arm, count) in made.items()}
    records = {
        f"{name} {policy}": [e.episodes[policy]["test"] for e in found]
        for name, found in played.items()
        for policy in (*SHOWN.get(name, ()), *(("greedy",) if name == "dqn" else ()))
    }
    report: dict[str, Any] = {"seeds": seeds, "policies": {}, "recovered": {}}
    labels = [name for name in LABELS if name in records]
    for name in labels:
        arm, policy = name.split()
        report["policies"][name] = results.scores(played[arm], policy)
    stuck = [e.looped.all(axis=1) for e in records["ppo greedy"]]
    for name in labels:
        if name != "ppo greedy":
            # An arm may have fewer seeds than PPO.
            pairs = zip(records[name], stuck, strict=False)
            solved = [float(e.solved[lost].mean()) if lost.any() else None for e, lost in pairs]
            found = over_seeds([rate for rate in solved if rate is not None])
            report["recovered"][name] = found | {"by_seed": solved}
    report["levels_in_loops"] = [int(x.sum()) for x in stuck]
    return report


def replays(root: Path, steps: int | None) -> list[Any]:
    """The first test levels of seed 0 on which greedy PPO fails, as played by several policies."""
    from epomdp import train as training
    from epomdp.report.from_replays import board_replays

    chosen, policies = None, {}
    for name in REPLAYED:
        arm_name, policy = name.split()
        arm = trained(steps)[arm_name]
        run, setup, settings = training.load(arm.folder(root, 0))
        params = setup.agent.params(training.restore(run, setup, settings).state.learners)
        policies[LABELS[name]] = (setup.agent.policies[policy], params)
        if chosen is None:
            solved = evaluations(root, arm, 1)[0].episodes["greedy"]["test"].solved.all(axis=1)
            if solved.all():
                return []
            chosen = setup.parts.test[np.flatnonzero(~solved)[:LEVELS_SHOWN]]
    assert chosen is not None
    return board_replays(setup.problem.env, chosen, policies, seed=0)


def verdict(report: dict[str, Any]) -> str:
    """What the figures say, in a sentence or two."""
    share = report["policies"]["ppo greedy"]["test"]["failed_in_loops"]
    best, linked = (report["recovered"][name]["mean"] for name in ("ppo backtracking", "leep linked"))
    if not share:
        return "Greedy PPO fails in no loop on new mazes."
    text = f"{share:.0%} of greedy PPO's failures on new mazes do nothing new in their second half: they are loops."
    if best is None or linked is None:
        return text
    return (
        f"{text} On those levels the same network solves {best:.0%} when it may not go round in circles, and LEEP's "
        f"linked policy, which has no memory, {linked:.0%}."
    )


def solves(scores: dict[str, Any]) -> str:
    """The share of test levels solved with its 95 % interval over seeds and levels."""
    test = scores["test"]
    return f"{test['solve_rate']:.1%} {bracketed(test['solve_rate_interval'], '.1%')}"


def show(report: dict[str, Any]) -> None:
    """Print a line a policy."""
    print(
        "Shares with 95 % intervals over seeds and levels; of loops recovered from, Student's t over seeds."
    )
    for name, scores in report["policies"].items():
        line = f"{LABELS[name]:30} solves {solves(scores)} of new mazes"
        line += f"; {shown(scores['test']['failed_in_loops'], '.1%')} of its failures are loops"
        if name in report["recovered"]:
            found = report["recovered"][name]
            rate = f"{shown(found['mean'], '.1%')} {bracketed(found['interval'], '.1%')}"
            line += f"; {rate} of those in which greedy PPO loops"
        print(line)


def write_page(root: Path, steps: int | None, report: dict[str, Any], path: Path) -> None:
    """Returns and solve rates, what the figures say in a sentence, and the replays."""
    from epomdp.report import from_runs, page
    from epomdp.report.contents import Page

    rows = [
        from_runs.policy_row(n, LABELS[n], scores, f"solves {solves(scores)}")
        for n, scores in report["policies"].items()
    ]
    page.write(
        Page(
            title="Loops in new mazes",
            verdict=verdict(report),
            setting=f"maze, {report['seeds']} seeds, 1,000 test levels each",
            command=f"python examples/figure2.py --out {root}",
            policies=rows,
            replays=replays(root, steps),
            notes=from_runs.NOTES,
        ),
        path,
    )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, default=Path("figure5-runs"), help="folder of the runs")
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--dqn-seeds", type=int, default=3)
    parser.add_argument("--steps", type=int, help="of every run; by default what suits the game")
    parser.add_argument("--page", type=Path, default=Path("figure2.html"))
    parser.add_argument("--data", type=Path, default=Path("figure2.json"))
    options = parser.parse_args()
    from epomdp import files

    made = numbers(options.steps, options.seeds, options.dqn_seeds)
    finish(options.out, dict(made.values()))
    report = loops(options.out, made, options.seeds)
    show(report)
    files.write_json(options.data, report)
    write_page(options.out, options.steps, report, options.page)
    print(f"\nReport: {options.page}")


if __name__ == "__main__":
    main()
