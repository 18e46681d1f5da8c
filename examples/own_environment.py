"""A Gymnasium environment of one's own: train PPO and LEEP in it, evaluate, and write the page.

Run it:  python examples/own_environment.py    (about a minute; the page is runs/treasure/report.html)
"""

import argparse
from pathlib import Path

import gymnasium
import numpy as np

from epomdp import problems
from epomdp.report.from_runs import write_runs_page
from epomdp.results import evaluate_run
from epomdp.train import Settings, train

CELLS, BITS = 8, 10


class Treasure(gymnasium.Env):
    """Walk along a row of cells and dig for a treasure: 10 for it, -0.1 a step, at most 40 steps.

    The seed of the reset decides where it is, and draws a map of random bits that hangs on the wall. The map says
    nothing about the place, but who has been here before may know it by heart; in new places one has to search.
    """

    action_space = gymnasium.spaces.Discrete(3)  # left, right, dig
    observation_space = gymnasium.spaces.Box(0.0, 1.0, (CELLS + BITS,), np.float32)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.treasure = int(self.np_random.integers(CELLS))
        self.map = self.np_random.integers(0, 2, BITS)
        self.at, self.steps = int(self.np_random.integers(CELLS)), 0
        return self.observe(), {}

    def step(self, action):
        self.steps += 1
        found = action == 2 and self.at == self.treasure
        if action < 2:
            self.at = int(np.clip(self.at + (1 if action else -1), 0, CELLS - 1))
        return self.observe(), 10.0 if found else -0.1, found, self.steps >= 40, {"is_success": found}

    def observe(self):
        return np.concatenate([np.eye(CELLS)[self.at], self.map]).astype(np.float32)


def main(out, steps, agents=("ppo", "leep"), agent_options=None):
    """Train each agent for `steps` steps; where the page is."""
    if "treasure" not in problems.PROBLEMS:
        problems.register("treasure", problems.from_gymnasium(Treasure, contexts=range(300)))
    sizes = {"train_contexts": 20, "validation_contexts": 20, "test_contexts": 100, "steps": steps}
    runs = [Path(out) / agent for agent in agents]
    for run in runs:
        settings = Settings("treasure", run.name, agent_options=agent_options or {}, **sizes)
        trained = train(settings, run)
        played = evaluate_run(run, episodes=2)
        for name, split in played.episodes.items():
            returns = {part: round(float(episodes.returns.mean()), 2) for part, episodes in split.items()}
            print(f"{run.name:5} {name:12} train {returns['train']:6} test {returns['test']:6}")
    overlap = trained.contexts["overlap"]
    print(f"{overlap['test']} test contexts looked like a training context and were {overlap['policy']}d")
    return write_runs_page(runs, Path(out) / "report.html")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", default="runs/treasure")
    parser.add_argument("--steps", type=int, default=40_000)
    given = parser.parse_args()
    print(main(given.out, given.steps))
