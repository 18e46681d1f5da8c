"""The post's figure 5 on a laptop: four games, LEEP beside PPO and what else would explain a difference.

    python examples/figure5.py --out figure5-runs --data figure5.json --picture figure5.png

Every arm has the same total of environment steps. PPO with the steps of one LEEP member is read off PPO's learning
curve, and so is PPO stopped where validation levels say. Seeds are paired: seed k draws the same levels for every
arm. Stopped runs go on where they were when the command is given again.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from study import (
    EPISODES,
    Arm,
    bracketed,
    command_line,
    curves,
    draw_curves,
    evaluations,
    finish,
    over_seeds,
    panels,
    save,
)

GAMES = ("maze", "heist", "bigfish", "dodgeball")
MEMBERS = 4
HIGH_ENTROPY = 0.05
POINTS = 10  # of a learning curve

SHOWN = {
    "ppo": ("sampled", "greedy", "elimination", "backtracking"),
    "ppo-entropy": ("sampled",),
    "unlinked": ("linked", "greedy"),
    "leep-mean": ("linked",),
    "leep": ("linked", "greedy", "elimination", "backtracking"),
}
"""Arm -> the policies that are reported; the first one is its curve in the picture."""

QUESTIONS = {
    "LEEP against PPO, both sampled": ("leep linked", "ppo sampled"),
    "LEEP against PPO, both greedy": ("leep greedy", "ppo greedy"),
    "LEEP against the unlinked ensemble": ("leep linked", "unlinked linked"),
    "LEEP against the mean link": ("leep linked", "leep-mean linked"),
    "LEEP against PPO with more entropy": ("leep linked", "ppo-entropy sampled"),
    "LEEP against random with elimination": ("leep linked", "random elimination"),
    "PPO sampled against greedy": ("ppo sampled", "ppo greedy"),
    "PPO backtracking against sampled": ("ppo backtracking", "ppo sampled"),
    "LEEP backtracking against sampled": ("leep backtracking", "leep linked"),
}

DEPLOYED = "LEEP against PPO, sampled or greedy as training levels say"
WAYS = (("leep linked", "leep greedy"), ("ppo sampled", "ppo greedy"))

NAMES = {"ppo": "PPO", "unlinked": "the unlinked ensemble"}
"""Arms as questions about early stopping call them."""

COLOURS = {
    "ppo": "#2a78d6",
    "ppo-entropy": "#7fb2ea",
    "unlinked": "#3a9d5d",
    "leep-mean": "#e9a23b",
    "leep": "#c8375b",
}


def arms(game: str, steps: int | None, names: Sequence[str] = tuple(SHOWN)) -> dict[str, Arm]:
    """What is trained in one game."""
    from epomdp import problems

    total = problems.entry(game).steps if steps is None else steps
    common = {"steps": total, "evaluations": POINTS}
    entropy = {"agent_options": {"ent_coef": HIGH_ENTROPY}}
    found = {
        "ppo": Arm("ppo", game, "ppo", common, SHOWN["ppo"]),
        "leep": Arm("leep", game, "leep", common, SHOWN["leep"]),
        "unlinked": Arm("unlinked", game, "unlinked", common, SHOWN["unlinked"]),
        "leep-mean": Arm("leep-mean", game, "leep-mean", common, SHOWN["leep-mean"]),
        "ppo-entropy": Arm("ppo-entropy", game, "ppo", common | entropy, SHOWN["ppo-entropy"]),
    }
    return {name: found[name] for name in names}


def records(root: Path, made: dict[str, Arm], seeds: int) -> dict[str, dict[str, Any]]:
    """ "arm policy" -> split -> one `Episodes` a seed; also uniform random play in the same levels."""
    from epomdp import train as training
    from epomdp.agents import policies
    from epomdp.evaluate import evaluate

    found: dict[str, dict[str, Any]] = {}
    for name, arm in made.items():
        played = evaluations(root, arm, seeds)
        for policy in SHOWN[name]:
            found[f"{name} {policy}"] = {
                split: [(e.ids[split], e.episodes[policy][split]) for e in played]
                for split in ("train", "test")
            }
    _, setup, _ = training.load(next(iter(made.values())).folder(root, 0))
    env = setup.problem.env
    uniform = policies.uniform(env.num_actions)
    arguments = (uniform, env.num_actions, env.max_episode_steps)
    untrained = {
        "random sampled": policies.sampled(uniform, ""),
        "random elimination": policies.eliminating(*arguments, "", policies.pick_sampled),
        "random backtracking": policies.backtracking(*arguments, "", policies.pick_sampled),
    }
    for name, policy in untrained.items():
        found[name] = {"train": [], "test": []}
        for seed in range(seeds):
            _, setup, _ = training.load(next(iter(made.values())).folder(root, seed))
            for split in ("train", "test"):
                part = getattr(setup.parts, split)
                episodes = evaluate(env, policy, (), part, episodes=EPISODES, seed=seed)
                found[name][split].append((list(part.ids), episodes))
    return found


def summarise(root: Path, made: dict[str, Arm], seeds: int) -> dict[str, Any]:
    """Scores of every policy, the answers to the questions, early stopping, and the curves of one game."""
    from epomdp import statistics

    played = records(root, made, seeds)
    scores = {}
    for name, splits in played.items():
        scores[name] = {
            split: statistics.summarise(
                [e.returns for _, e in runs],
                [e.solved.astype(float) for _, e in runs],
                ids=[ids for ids, _ in runs],
            ).to_json()
            for split, runs in splits.items()
        }
    pairs = {
        question: [played[name]["test"] for name in pair]
        for question, pair in QUESTIONS.items()
        if played.keys() >= set(pair)
    }
    if played.keys() >= {way for ways in WAYS for way in ways}:
        pairs[DEPLOYED] = [deployed(played, ways) for ways in WAYS]
    answers = {}
    for question, (first, second) in pairs.items():
        estimate = statistics.difference(
            [e.returns for _, e in first],
            [e.returns for _, e in second],
            ids=([ids for ids, _ in first], [ids for ids, _ in second]),
        )
        answers[question] = estimate.to_json() | {"over": "seeds and levels"}
    found = {name: curves(root, arm, seeds) for name, arm in made.items()}
    stopped = {name: stopped_early(curve) for name, curve in found.items()}
    if "leep" in made:
        for other in [name for name in NAMES if name in made]:
            question = f"LEEP against {NAMES[other]}, both stopped early"
            answers[question] = paired(stopped["leep"], stopped[other])
    if made.keys() >= {"leep", "ppo"}:
        last = [test[-1] for test in found["leep"]["test"]]
        answers["LEEP against PPO with one member's steps"] = paired(
            last, after_share(found["ppo"], 1 / MEMBERS)
        )
    return {"seeds": seeds, "scores": scores, "answers": answers, "stopped": stopped, "curves": found}


def deployed(played: dict[str, dict[str, Any]], ways: Sequence[str]) -> list[Any]:
    """Each seed's test episodes by whichever of these policies has the higher mean training return."""
    seeds = range(len(played[ways[0]]["test"]))
    best = [max(ways, key=lambda way, k=seed: played[way]["train"][k][1].returns.mean()) for seed in seeds]
    return [played[way]["test"][seed] for seed, way in enumerate(best)]


def stopped_early(curve: dict[str, list[list[float]]]) -> list[float]:
    """Each seed's test return where its validation return was highest."""
    return [test[int(np.argmax(held))] for held, test in zip(curve["validation"], curve["test"], strict=True)]


def after_share(curve: dict[str, list[list[float]]], share: float) -> list[float]:
    """Each seed's test return after a share of its steps, between two points of its curve where it must be."""
    pairs = zip(curve["steps"], curve["test"], strict=True)
    return [float(np.interp(share * steps[-1], steps, test)) for steps, test in pairs]


def paired(first: list[float], second: list[float]) -> dict[str, Any]:
    """Mean difference with an interval over seeds alone: a curve's points hide the levels they were played on."""
    return over_seeds(np.subtract(first, second))


def draw(report: dict[str, Any], path: Path) -> None:
    """A row a game: learning curves on test and training levels, and final test returns with intervals."""
    figure, axes = panels(len(report), 2, 5.5, 3.2)
    for (game, found), (left, right) in zip(report.items(), axes, strict=True):
        draw_curves(left, found["curves"], COLOURS)
        left.axhline(found["scores"]["random sampled"]["test"]["mean"], color="#9aa0a6", lw=0.8, ls="--")
        left.set_title(
            f"{game}: test levels (training levels dotted), {found['seeds']} seeds\n"
            "bands: mean +- 1 standard error over seeds",
            fontsize=9,
        )
        left.set_ylabel("mean return")
        names = list(found["scores"])[::-1]
        for row, name in enumerate(names):
            score = found["scores"][name]["test"]
            colour = COLOURS.get(name.split()[0], "#9aa0a6")
            right.plot(score["interval"], [row, row], color=colour, lw=2)
            right.plot(score["mean"], row, "o", color=colour, ms=4)
        right.set_yticks(range(len(names)), names, fontsize=7)
        right.set_title("final test return, 95 % interval over seeds and levels", fontsize=9)
    axes[0][0].legend(fontsize=7)
    save(figure, path)


def show(report: dict[str, Any]) -> None:
    """Print what was asked and answered."""
    for game, found in report.items():
        print(f"\n{game}: test return, {found['seeds']} seeds")
        for name, score in found["scores"].items():
            low, high = score["test"]["interval"]
            solved = 100 * score["test"]["solve_rate"]
            train = score["train"]["mean"]
            mean = f"{score['test']['mean']:6.2f} [{low:.2f}, {high:.2f}]"
            print(f"  {name:22} {mean}  solved {solved:5.1f} %  train {train:.2f}")
        for question, answer in found["answers"].items():
            mark = " *" if answer["over"] == "seeds" else ""
            print(f"  {question:52} {answer['mean']:+.2f} {bracketed(answer['interval'], '+.2f')}{mark}")
        print("  * Student's t over seeds alone, from learning curves: at most 256 levels a seed")


def main() -> None:
    parser = command_line(__doc__, "figure5-runs", "figure5.json", "figure5.png")
    parser.add_argument("--games", nargs="+", choices=GAMES, default=list(GAMES))
    parser.add_argument("--arms", nargs="+", choices=list(SHOWN), default=list(SHOWN))
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--maze-seeds", type=int, default=10)
    parser.add_argument("--steps", type=int, help="of every run; by default what suits the game")
    options = parser.parse_args()
    from epomdp import files

    seeds = {game: options.maze_seeds if game == "maze" else options.seeds for game in options.games}
    # Arm by arm over the games, so that a first comparison of all games is there early.
    by_game = {game: arms(game, options.steps, options.arms) for game in options.games}
    rows = zip(*(made.values() for made in by_game.values()), strict=True)
    finish(options.out, {arm: seeds[arm.env] for row in rows for arm in row})
    report = {game: summarise(options.out, made, seeds[game]) for game, made in by_game.items()}
    show(report)
    files.write_json(options.data, report)
    draw(report, options.picture)


if __name__ == "__main__":
    main()
