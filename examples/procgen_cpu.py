"""PPO and LEEP on real Procgen, as far as a CPU comes: a small network and few steps, equal for both.

    python examples/procgen_cpu.py --out procgen-runs --data procgen_cpu.json --picture procgen_cpu.png

200 training levels, as in the published protocol, and the next 200 for testing; seed k differs in weights, resamples
and luck. The published protocol has 25 million steps and a larger network: these runs show that learning works, not
what it comes to. Stopped runs go on where they were when the command is given again.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from study import EPISODES, Arm, command_line, curves, draw_curves, evaluations, finish, panels, save

if TYPE_CHECKING:
    from epomdp.agents.policies import Distribution, Policy
    from epomdp.episodes import Episodes

Records = list[tuple[list[str], Any]]
"""A seed's levels and returns in them, (levels, episodes)."""

STEPS = {"bigfish": 3_000_000, "dodgeball": 1_000_000}
"""Of every run, over all members."""

SHOWN = {"ppo": ("sampled", "greedy"), "leep": ("linked", "greedy")}
COLOURS = {"ppo": "#2a78d6", "leep": "#c8375b"}

RANDOM_EPISODES = 10
"""Of uniform random play in each level, to compare with: one is mostly luck."""

SETTING = {"network": "small", "learning_rate": 1e-3}
"""What suits a CPU and few steps; all else is the protocol's. Chosen as docs/results/procgen.md tells."""

NUM_ENVS = {"ppo": 64, "leep": 16}
"""Of each member, so that both act in 64 environments."""


def arm(game: str, agent: str, steps: int) -> Arm:
    """One agent in one game."""
    settings = {
        "steps": steps,
        "evaluations": 6,
        "train_contexts": 200,
        "test_contexts": 200,
        "agent_options": SETTING | {"num_envs": NUM_ENVS[agent]},
    }
    return Arm(agent, f"procgen:{game}", agent, settings, SHOWN[agent])


def constant(action: int, num_actions: int) -> Distribution:
    """One action, whatever is seen."""
    from jax import numpy as jnp

    return lambda params, observation: jnp.where(jnp.arange(num_actions) == action, 0.0, -1e9)


def summarise(root: Path, game: str, made: dict[str, Arm], seeds: int) -> dict[str, Any]:
    """Scores of every policy, of uniform random play and of the best single action (by its training return); every
    policy against random play, LEEP against PPO, and the learning curves."""
    from epomdp import results, statistics
    from epomdp import train as training
    from epomdp.agents import policies
    from epomdp.evaluate import evaluate

    played = {name: evaluations(root, arm, seeds) for name, arm in made.items()}
    scores = {
        f"{name} {policy}": results.scores(runs, policy)
        for name, runs in played.items()
        for policy in SHOWN[name]
    }
    _, setup, _ = training.load(made["ppo"].folder(root, 0))
    env, parts = setup.problem.env, {split: getattr(setup.parts, split) for split in results.SPLITS}

    def play(policy: Policy, split: str, episodes: int = EPISODES, seed: int = 0) -> Episodes:
        return evaluate(env, policy, (), parts[split], episodes=episodes, seed=seed)

    # A policy that sees nothing: whoever does no better has not been shown to have learned from what it sees.
    still = [policies.sampled(constant(action, env.num_actions), "") for action in range(env.num_actions)]
    best = int(np.argmax([play(policy, "train").returns.mean() for policy in still]))
    uniform = policies.sampled(policies.uniform(env.num_actions), "")
    random = {
        split: [play(uniform, split, RANDOM_EPISODES, seed) for seed in range(seeds)] for split in parts
    }
    for split, part in parts.items():
        for name, episodes in {
            "random sampled": random[split][0],
            f"action {best} always": play(still[best], split),
        }.items():
            found = statistics.summarise(
                [episodes.returns], [episodes.solved.astype(float)], ids=[list(part.ids)]
            )
            scores.setdefault(name, {})[split] = found.to_json()

    def records(name: str, policy: str, split: str) -> Records:
        return [(e.ids[split], e.episodes[policy][split].returns) for e in played[name]]

    answers = {
        f"{name} {policy} against random play, {split}": compare(
            records(name, policy, split), [(list(parts[split].ids), each.returns) for each in random[split]]
        )
        for name in played
        for policy in SHOWN[name]
        for split in parts
    }
    for kind, of_leep, of_ppo in (("sampled", "linked", "sampled"), ("greedy", "greedy", "greedy")):
        answers[f"LEEP against PPO, both {kind}, test"] = compare(
            records("leep", of_leep, "test"), records("ppo", of_ppo, "test")
        )
    found = {name: curves(root, arm, seeds) for name, arm in made.items()}
    return {"seeds": seeds, "scores": scores, "answers": answers, "curves": found}


def compare(first: Records, second: Records) -> dict[str, Any]:
    """Mean return of the first minus that of the second, paired by seed and level."""
    from epomdp import statistics

    (ids_a, a), (ids_b, b) = (zip(*side, strict=True) for side in (first, second))
    return statistics.difference(a, b, ids=(ids_a, ids_b)).to_json()


def draw(report: dict[str, Any], path: Path) -> None:
    """A panel a game: learning curves on training (dotted) and test levels, with random play."""
    figure, axes = panels(1, len(report), 5.5, 3.6)
    for (game, found), axis in zip(report.items(), axes[0], strict=True):
        draw_curves(axis, found["curves"], COLOURS)
        axis.axhline(found["scores"]["random sampled"]["test"]["mean"], color="#9aa0a6", lw=0.8, ls="--")
        axis.set_title(f"procgen:{game}, {found['seeds']} seeds")
    axes[0][0].set_ylabel("mean return: test, dotted: training")
    axes[0][0].legend()
    save(figure, path)


def main() -> None:
    parser = command_line(__doc__, "procgen-runs", "procgen_cpu.json", "procgen_cpu.png")
    parser.add_argument("--games", nargs="+", choices=list(STEPS), default=list(STEPS))
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--steps", type=int, help="of every run; by default what suits the game")
    options = parser.parse_args()
    from epomdp import files

    made = {
        game: {name: arm(game, name, options.steps or STEPS[game]) for name in SHOWN}
        for game in options.games
    }
    # Seed by seed, so that all games have their first pair early; LEEP takes longer and goes first.
    ordered = sorted((arm for arms in made.values() for arm in arms.values()), key=lambda arm: arm.name)
    for seeds in range(1, options.seeds + 1):
        finish(options.out, dict.fromkeys(ordered, seeds))
    report = {game: summarise(options.out, game, arms, options.seeds) for game, arms in made.items()}
    files.write_json(options.data, report)
    draw(report, options.picture)
    for game, found in report.items():
        print(f"\nprocgen:{game}, {found['seeds']} seeds")
        for name, score in found["scores"].items():
            test, train = (score[split]["mean"] for split in ("test", "train"))
            low, high = score["test"]["interval"]
            print(f"  {name:16} test {test:6.2f} [{low:.2f}, {high:.2f}]  train {train:6.2f}")
        for question, answer in found["answers"].items():
            low, high = answer["interval"]
            print(f"  {question:44} {answer['mean']:+.2f} [{low:+.2f}, {high:+.2f}]")


if __name__ == "__main__":
    main()
