"""How the guessing game's default hyperparameters were chosen: returns on validation images alone.

    python benchmarks/guess_hyperparameters.py --seeds 5 --json guess_hyperparameters.json

Every setting is trained on the same splits, of seeds that the demo does not use, and scored on 300 validation
images; test images are never played.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from epomdp import files
from epomdp import train as training
from epomdp.evaluate import evaluate
from epomdp.train import Settings

FIRST_SEED = 100

BATCHES = (
    {"num_envs": 64, "num_steps": 32, "num_minibatches": 8},
    {"num_envs": 32, "num_steps": 16, "num_minibatches": 4},
)
TRIED: list[tuple[str, dict[str, Any]]] = [
    *(
        (agent, batch | {"learning_rate": rate})
        for batch in BATCHES
        for rate in (5e-4, 1e-3, 2e-3)
        for agent in ("ppo", "leep")
    ),
    *(("leep", {"alpha": alpha}) for alpha in (0.0, 0.3, 1.0, 3.0)),
    ("leep-mean", {}),
    ("leep", {"bootstrap": False}),
    ("ppo", {"ent_coef": 0.05}),
    ("leep", {"ent_coef": 0.05}),
]


def score(agent: str, options: dict[str, Any], seed: int) -> dict[str, float]:
    """Mean return of each of the agent's policies on the validation images of one split."""
    settings = Settings(
        "guess",
        agent,
        agent_options=options,
        seed=seed,
        validation_contexts=300,
        test_contexts=1,
        evaluations=0,
    )
    with tempfile.TemporaryDirectory() as folder:
        run = training.train(settings, Path(folder) / "run")
        run, setup, settings = training.load(run.path)
        params = setup.agent.params(training.restore(run, setup, settings).state.learners)
    found = {}
    for name, policy in setup.agent.policies.items():
        played = evaluate(setup.problem.env, policy, params, setup.parts.validation, episodes=5, seed=seed)
        found[name] = float(played.returns.mean())
    return found


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    seeds = range(FIRST_SEED, FIRST_SEED + arguments.seeds)
    rows = []
    print(
        "| agent | changed from the defaults | drawn from the policy | greedy | elimination |\n|---|---|---|---|---|"
    )
    for agent, options in TRIED:
        scores = [score(agent, options, seed) for seed in seeds]
        mean = {name: float(np.mean([s[name] for s in scores])) for name in scores[0]}
        rows.append({"agent": agent, "options": options, "mean": mean, "seeds": scores})
        changed = ", ".join(f"{name} {value}" for name, value in options.items()) or "nothing"
        print(
            f"| {agent} | {changed} | " + " | ".join(f"{value:.2f}" for value in mean.values()) + " |",
            flush=True,
        )
    if arguments.json:
        files.write_json(arguments.json, {"seeds": list(seeds), "rows": rows})


if __name__ == "__main__":
    main()
