"""LEEP's wall time against PPO's at equal total steps, for each way to run the members.

    python benchmarks/leep_speed.py --json leep_speed.json
    python benchmarks/leep_speed.py --env maze --json leep_speed_maze.json

In one process and in turns; compilation is left out of the ratio and shown beside it. By operation count LEEP with n
members costs (1 + 3 epochs + (n - 1)) / (1 + 3 epochs) times PPO: each member also looks at what the others would do
in its states, 1.3 for 4 members and 3 epochs.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import timing

from epomdp.agents import leep, ppo

STRATEGIES = ("vmap", "unroll", "map")


def measure(env: str, rounds: int, updates: int) -> dict:
    ours = {"ppo": timing.Trainer("ppo", env=env)}
    for strategy in STRATEGIES:
        for agent in ("leep", "unlinked"):
            ours[f"{agent}, {strategy}"] = timing.Trainer(agent, {"strategy": strategy}, env)
    compiled = {}
    for name, trainer in ours.items():
        started = time.perf_counter()
        trainer.run(1)
        compiled[name] = time.perf_counter() - started
    members = leep.Config().members
    counts = {name: updates * members // trainer.agent.members for name, trainer in ours.items()}
    going = {name: lambda t=trainer, n=counts[name]: t.run(n) for name, trainer in ours.items()}
    seconds = timing.alternate(going, rounds)
    total = updates * members * ours["ppo"].agent.steps_per_update
    passes = 1 + 3 * ppo.Config().update_epochs
    return {
        "machine": timing.machine(),
        "members": members,
        "strategy": leep.Config().strategy,
        "steps_per_second": {name: total / values for name, values in seconds.items()},
        "times_ppo": {name: values / seconds["ppo"] for name, values in seconds.items()},
        "first_update_seconds": compiled,
        "floor": (passes + members - 1) / passes,
    }


def table(report: dict) -> str:
    rows = [
        [
            name,
            timing.middle(speed, 0),
            timing.middle(report["times_ppo"][name]),
            f"{report['first_update_seconds'][name]:.1f}",
        ]
        for name, speed in report["steps_per_second"].items()
    ]
    columns = ["agent, strategy", "steps/s over all members", "times PPO's wall time", "first update, s"]
    return timing.markdown(columns, rows) + f"\n\nFloor by operation count: {report['floor']:.2f}."


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--env", choices=("guess", "maze"), default="guess")
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--updates", type=int, default=5, help="of LEEP, in each round")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the figures to a file")
    options = parser.parse_args()
    report = measure(options.env, options.rounds, options.updates)
    print(f"{report['machine']}\n\n{table(report)}")
    timing.write(options.json, report)


if __name__ == "__main__":
    main()
