"""How hard each game is to generalize on: PPO's training and test return against the number of training levels.

    python examples/difficulty.py --out difficulty-runs --data difficulty.json --picture difficulty.png

What it shows decides the games' default number of training levels: where the gap is clear and the task is learned.
Stopped runs go on where they were when the command is given again.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from study import Arm, command_line, evaluations, finish, panels, save

GAMES = ("maze", "heist", "bigfish", "dodgeball")
POLICIES = ("sampled", "greedy")
LEVELS = (20, 50, 100, 200, 500, 2000)


def arm(game: str, levels: int, steps: int | None) -> Arm:
    """PPO on so many training levels."""
    settings: dict[str, Any] = {"train_contexts": levels, "evaluations": 5}
    return Arm(f"ppo-{levels}", game, "ppo", settings | ({} if steps is None else {"steps": steps}), POLICIES)


def summarise(root: Path, game: str, steps: int | None, seeds: int) -> dict[str, Any]:
    """By number of levels and policy: each seed's mean return on training and on test levels."""
    found = {}
    for levels in LEVELS:
        played = evaluations(root, arm(game, levels, steps), seeds)
        found[str(levels)] = {
            policy: {
                split: [float(e.episodes[policy][split].returns.mean()) for e in played]
                for split in ("train", "test")
            }
            for policy in POLICIES
        }
    return found


def draw(report: dict[str, Any], path: Path) -> None:
    """A panel a game: a point a seed, and lines through their means."""
    figure, axes = panels(1, len(report), 3.4, 3.2)
    for (game, found), axis in zip(report.items(), axes[0], strict=True):
        levels = [int(n) for n in found]
        for split, colour in (("train", "#9aa0a6"), ("test", "#2a78d6")):
            returns = np.array([found[str(n)]["sampled"][split] for n in levels])
            axis.plot(levels, returns, "o", color=colour, ms=3)
            axis.plot(levels, returns.mean(1), color=colour, label=split)
        axis.set_ylim(bottom=0)
        axis.set_xscale("log")
        axis.set_title(game)
        axis.set_xlabel("training levels")
    axes[0][0].set_ylabel("PPO's mean return")
    axes[0][0].legend()
    save(figure, path)


def main() -> None:
    parser = command_line(__doc__, "difficulty-runs", "difficulty.json", "difficulty.png")
    parser.add_argument("--games", nargs="+", choices=GAMES, default=list(GAMES))
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--steps", type=int, help="of every run; by default what suits the game")
    options = parser.parse_args()
    from epomdp import files

    finish(options.out, {arm(g, n, options.steps): options.seeds for n in LEVELS for g in options.games})
    report = {game: summarise(options.out, game, options.steps, options.seeds) for game in options.games}
    for game, found in report.items():
        print(f"\n{game}: PPO, sampled, {options.seeds} seeds")
        for levels, scores in found.items():
            train, test = (np.mean(scores["sampled"][split]) for split in ("train", "test"))
            print(f"  {levels:>5} levels  train {train:6.2f}  test {test:6.2f}")
    files.write_json(options.data, report)
    draw(report, options.picture)


if __name__ == "__main__":
    main()
