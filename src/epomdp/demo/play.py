"""The demo's runs: every agent on every split of the images, and the exact references on the same."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

from epomdp import console, problems, results
from epomdp import train as training
from epomdp.agents import policies
from epomdp.agents.policies import Policy
from epomdp.contexts import ContextSet
from epomdp.errors import BadInput
from epomdp.evaluate import evaluate
from epomdp.problems import Problem
from epomdp.references import References, references
from epomdp.results import Evaluation
from epomdp.runs import Run
from epomdp.train import Settings, Setup

MEMBERS = 4
EPISODES = 10


class Trained(NamedTuple):
    """An agent of the demo: its run's folder, its share of the steps, and its policies' names in the tables."""

    folder: str
    agent: str
    share: float
    shown: dict[str, str]


TRAINED = (
    Trained(
        "ppo",
        "ppo",
        1.0,
        {"greedy": "ppo-greedy", "sampled": "ppo-sampled", "elimination": "ppo-elimination"},
    ),
    Trained(
        "ppo-quarter", "ppo", 1 / MEMBERS, {"sampled": "ppo-quarter-sampled", "greedy": "ppo-quarter-greedy"}
    ),
    Trained("unlinked", "unlinked", 1.0, {"linked": "unlinked", "elimination": "unlinked-elimination"}),
    Trained("leep-mean", "leep-mean", 1.0, {"linked": "leep-mean"}),
    Trained(
        "leep", "leep", 1.0, {"greedy": "leep-greedy", "linked": "leep", "elimination": "leep-elimination"}
    ),
)

DESCRIPTIONS = {
    "random": "uniform guesses",
    "random-elimination": "uniform guesses, none twice",
    "ppo-greedy": "standard RL deployed as usual: the most probable guess, always",
    "ppo-sampled": "guesses drawn from PPO's policy",
    "ppo-elimination": "PPO's most probable guess not yet shown wrong",
    "ppo-quarter-sampled": "PPO with the steps of one member only, sampled",
    "ppo-quarter-greedy": "PPO with the steps of one member only, greedy",
    "unlinked": "the ensemble without the penalty, sampled from the max link",
    "unlinked-elimination": "the unlinked ensemble's most probable guess not yet shown wrong",
    "leep-mean": "LEEP with the mean link, sampled",
    "leep-greedy": "the linked policy's most probable guess, always",
    "leep": "LEEP as published: guesses drawn from the linked policy",
    "leep-elimination": "LEEP's most probable guess not yet shown wrong",
}


class Outcome(NamedTuple):
    """All that the demo has found.

    Attributes:
        played: policy -> split -> one record a seed of returns (contexts, episodes), and of solved flags.
        ids: split -> ids of the contexts, one list a seed.
        references: one a seed.
        runs: folder -> one run a seed.
    """

    problem: Problem
    played: dict[str, dict[str, list[Any]]]
    ids: dict[str, list[list[str]]]
    references: list[References]
    runs: dict[str, list[Run]]


def play(folder: Path, *, seeds: int, steps: int) -> Outcome:
    """Train and evaluate every agent on every split; what an interrupted demo has finished is used again.

    Raises:
        BadInput: a count below one, or a folder that holds something else.
    """
    if seeds < 1:
        raise BadInput(f"--seeds is {seeds}; it must be at least 1")
    if steps < 1:
        raise BadInput(f"--steps is {steps}; it must be at least 1")
    _check_folder(folder)
    problem = problems.make("guess", problems.entry("guess").options)
    played: dict[str, dict[str, list[Any]]] = {}
    ids: dict[str, list[list[str]]] = {split: [] for split in results.SPLITS}
    found: list[References] = []
    runs: dict[str, list[Run]] = {trained.folder: [] for trained in TRAINED}
    for seed in range(seeds):
        setup = None
        for trained in TRAINED:
            run, setup, evaluation = _finish(folder / f"seed-{seed}" / trained.folder, trained, seed, steps)
            runs[trained.folder].append(run)
            for policy, name in trained.shown.items():
                _record(played, name, evaluation.episodes[policy])
        assert setup is not None
        for name, policy in _untrained(problem).items():
            parts = {split: getattr(setup.parts, split) for split in results.SPLITS}
            _record(
                played,
                name,
                {
                    s: evaluate(problem.env, policy, (), part, episodes=EPISODES, seed=seed)
                    for s, part in parts.items()
                },
            )
        for split in results.SPLITS:
            ids[split].append(list(getattr(setup.parts, split).ids))
        found.append(_references(problem, setup, seed))
    return Outcome(problem, played, ids, found, runs)


def _check_folder(folder: Path) -> None:
    if folder.is_file():
        raise BadInput(f"{folder}: is a file; --out wants a directory")
    strange = [
        p
        for p in folder.glob("*")
        if not p.name.startswith(("seed-", ".report.html")) and p.name != "report.html"
    ]
    if strange:
        raise BadInput(f"{folder}: holds {strange[0].name}, which is not the demo's; choose another --out")


def _record(played: dict[str, dict[str, list[Any]]], name: str, episodes: dict[str, Any]) -> None:
    for split in results.SPLITS:
        played.setdefault(name, {s: [] for s in results.SPLITS})[split].append(episodes[split])


def _finish(path: Path, trained: Trained, seed: int, steps: int) -> tuple[Run, Setup, Evaluation]:
    """The run in `path`, trained and evaluated; what is there already is not done again."""
    settings = Settings("guess", trained.agent, steps=max(1, round(steps * trained.share)), seed=seed)
    with console.training_bar(str(path)) as advance:
        if not (path / "config.json").exists():
            run = training.train(settings, path, on_progress=advance)
        else:
            _check_same(path, settings)
            run = training.resume(path, on_progress=advance)
    _, setup, _ = training.load(path)
    evaluation = results.read_evaluation(path) if (path / "evaluation.json").exists() else None
    if evaluation is None or not _of_demo(evaluation, trained.shown):
        evaluation = results.evaluate_run(path, policies=list(trained.shown), episodes=EPISODES, seed=seed)
    return run, setup, evaluation


def _of_demo(evaluation: Evaluation, shown: Iterable[str]) -> bool:
    """Whether an evaluation found on disk has all that the demo shows."""
    if not set(shown) <= evaluation.episodes.keys():
        return False
    played = next(iter(evaluation.episodes.values()))
    return all(split in played and played[split].returns.shape[1] == EPISODES for split in results.SPLITS)


def _check_same(path: Path, settings: Settings) -> None:
    config = Run(path).config
    wanted = settings.resolved()
    for name in (
        "env_options",
        "agent_options",
        "train_contexts",
        "validation_contexts",
        "test_contexts",
        "steps",
    ):
        if config[name] != training.as_stored(getattr(wanted, name)):
            raise BadInput(f"{path}: was trained with another {name}; choose another --out, or remove it")


def _untrained(problem: Problem) -> dict[str, Policy]:
    A, limit = problem.env.num_actions, problem.env.max_episode_steps
    uniform = policies.uniform(A)
    return {
        "random": policies.sampled(uniform, DESCRIPTIONS["random"]),
        "random-elimination": policies.eliminating(
            uniform, A, limit, DESCRIPTIONS["random-elimination"], policies.pick_sampled
        ),
    }


def _references(problem: Problem, setup: Setup, seed: int) -> References:
    def images_and_labels(part: ContextSet):
        return part.values["image"], part.values["label"]

    return references(
        *images_and_labels(setup.parts.train),
        *images_and_labels(setup.parts.test),
        limit=problem.env.max_episode_steps,
        num_labels=problem.env.num_actions,
        seed=seed,
    )
