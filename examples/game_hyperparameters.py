"""How the games' hyperparameters were chosen: one setting for all four, on validation levels.

    python examples/game_hyperparameters.py --out choice-runs --data game_hyperparameters.json

Validation levels are drawn apart from training and test levels; test returns are not looked at.
Stopped runs go on where they were when the command is given again.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from study import Arm, curves, finish, shown

GAMES = ("maze", "heist", "bigfish", "dodgeball")

CHOICES: dict[str, tuple[str, dict[str, Any], dict[str, Any]]] = {
    "ppo": ("ppo", {}, {}),
    "ppo, board as it lies": ("ppo", {}, {"view": "board"}),
    "ppo, entropy .05": ("ppo", {"ent_coef": 0.05}, {}),
    "leep, alpha 0": ("unlinked", {}, {}),
    "leep, alpha .1": ("leep", {"alpha": 0.1}, {}),
    "leep, alpha 1": ("leep", {"alpha": 1.0}, {}),
    "leep, alpha 10": ("leep", {"alpha": 10.0}, {}),
    "leep, board as it lies": ("leep", {}, {"view": "board"}),
}


def arm(game: str, choice: str, steps: int | None) -> Arm:
    """One setting in one game."""
    agent, agent_options, env_options = CHOICES[choice]
    settings: dict[str, Any] = {"agent_options": agent_options, "env_options": env_options, "evaluations": 10}
    return Arm(
        choice.replace(", ", "-").replace(" ", "-"),
        game,
        agent,
        settings | ({"steps": steps} if steps else {}),
    )


def summarise(held: npt.ArrayLike) -> dict[str, float | None]:
    """Validation returns (seeds, points): means at the end and at each seed's best; the spread at the end."""
    held = np.asarray(held, float)
    return {
        "last": float(held[:, -1].mean()),
        "best": float(held.max(1).mean()),
        "spread": float(held[:, -1].std(ddof=1)) if len(held) > 1 else None,
    }


def show(report: dict[str, dict[str, dict[str, float | None]]], seeds: int) -> None:
    """Print a row a choice."""
    print(f"validation return at the end +- its spread over seeds (at its best), {seeds} seeds")
    for choice, games in report.items():
        row = "  ".join(
            f"{g} {v['last']:6.2f} +- {shown(v['spread'], '.2f')} ({v['best']:5.2f})"
            for g, v in games.items()
        )
        print(f"  {choice:26} {row}")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, default=Path("choice-runs"), help="folder of the runs")
    parser.add_argument("--games", nargs="+", choices=GAMES, default=list(GAMES))
    parser.add_argument("--choices", nargs="+", choices=list(CHOICES), default=list(CHOICES))
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--steps", type=int, help="of every run; by default what suits the game")
    parser.add_argument("--data", type=Path, default=Path("game_hyperparameters.json"))
    options = parser.parse_args()
    from epomdp import files

    wanted = {(g, c): arm(g, c, options.steps) for c in options.choices for g in options.games}
    finish(options.out, dict.fromkeys(wanted.values(), options.seeds))
    report: dict[str, dict[str, dict[str, float | None]]] = {}
    for (game, choice), made in wanted.items():
        held = curves(options.out, made, options.seeds)["validation"]
        report.setdefault(choice, {})[game] = summarise(held)
    show(report, options.seeds)
    files.write_json(options.data, report)


if __name__ == "__main__":
    main()
