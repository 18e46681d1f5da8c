"""From runs to figures: evaluate a run, keep every episode's return, and summarise runs of several seeds."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from epomdp import files, statistics
from epomdp import train as training
from epomdp.contexts import ContextSet, leaks
from epomdp.errors import BadInput, unknown_name
from epomdp.evaluate import Episodes, evaluate
from epomdp.runs import Run

SPLITS = ("train", "test")
FORMAT = 3


@dataclass(frozen=True)
class Evaluation:
    """One run's episodes.

    Attributes:
        config: the run's configuration.
        steps: environment steps, over the whole ensemble, that the evaluated checkpoint had learned from.
        ids: split -> id of each context.
        episodes: policy -> split -> episodes, contexts in the order of `ids`.
        leaked: ids of the test contexts, played or not, whose content is a training context's.
        novel: whether those were left out of the test contexts played.
    """

    config: dict[str, Any]
    steps: int
    ids: dict[str, list[str]]
    episodes: dict[str, dict[str, Episodes]]
    leaked: frozenset[str] = frozenset()
    novel: bool = False

    @property
    def default_policy(self) -> str:
        """The policy that the agent is meant to be deployed with."""
        return next(iter(self.episodes))


def evaluate_run(
    path: str | Path,
    *,
    splits: Sequence[str] = SPLITS,
    policies: Sequence[str] | None = None,
    episodes: int = 10,
    seed: int = 0,
    novel: bool = False,
) -> Evaluation:
    """Play a run's agent in its contexts and write `evaluation.json`.

    Args:
        policies: names of the agent's policies to play; all by default.
        episodes: episodes in each context.
        seed: of the episodes' random numbers.
        novel: leave out test contexts whose content is a training context's.

    Raises:
        BadInput: no run, no checkpoint in it yet, no such policy, a number of episodes below one, no novel context, or
            `novel` without test contexts.
    """
    if novel and "test" not in splits:
        raise BadInput("--novel is about test contexts; leave out --novel or --contexts train")
    if episodes < 1:
        raise BadInput(f"--episodes is {episodes}; it must be at least 1")
    training.check_seed(seed)
    run, setup, settings = training.load(path)
    checkpoint = training.restore(run, setup, settings)
    if checkpoint.update == 0:
        raise BadInput(f"{path}: has no checkpoint yet; go on with: epomdp train --resume {path}")
    params = setup.agent.params(checkpoint.state.learners)
    for name in policies or ():
        if name not in setup.agent.policies:
            raise unknown_name(f"policy of {run.config['agent']}", name, setup.agent.policies)
    leaked = frozenset(name for _, name in leaks(setup.parts.train, setup.parts.test))
    parts = {split: getattr(setup.parts, split) for split in splits}
    if novel:
        parts["test"] = _without(parts["test"], leaked, str(path))
    played = {
        name: {
            split: evaluate(setup.problem.env, policy, params, part, episodes=episodes, seed=seed)
            for split, part in parts.items()
        }
        for name, policy in setup.agent.policies.items()
        if policies is None or name in policies
    }
    ids = {split: list(part.ids) for split, part in parts.items()}
    evaluation = Evaluation(run.config, checkpoint.steps, ids, played, leaked, novel)
    files.write_json(run.path / "evaluation.json", _to_json(evaluation, seed))
    return evaluation


def _without(contexts: ContextSet, ids: frozenset[str], where: str) -> ContextSet:
    kept = [row for row, name in enumerate(contexts.ids) if name not in ids]
    if not kept:
        raise BadInput(
            f"{where}: no test context is novel; leave out --novel, or train with more test contexts"
        )
    return contexts[kept]


def _leaked(recorded: dict[str, Any]) -> frozenset[str]:
    """From `contexts.json`, the test contexts whose content is a training context's."""
    seen = set(recorded["train"]["hashes"])
    test = recorded["test"]
    return frozenset(
        name for name, content in zip(test["ids"], test["hashes"], strict=True) if content in seen
    )


def read_evaluation(path: str | Path) -> Evaluation:
    """What `evaluate_run` has written in a run directory; of older formats, episodes without what they lack.

    Raises:
        BadInput: no run, not evaluated yet, or evaluated by a newer version.
    """
    run = Run(path)
    try:
        stored = json.loads((run.path / "evaluation.json").read_text())
        if stored["format"] > FORMAT:
            raise BadInput(f"{path}: its evaluation.json is of a newer format; update epomdp")
        played = {
            name: {
                split: Episodes(**{key: np.asarray(x) for key, x in record.items()})
                for split, record in splits.items()
            }
            for name, splits in stored["policies"].items()
        }
        leaked, novel = _leaked(run.contexts), bool(stored.get("novel", False))
        evaluation = Evaluation(run.config, stored["steps"], stored["ids"], played, leaked, novel)
        if not played or not set(stored["ids"]) <= set(SPLITS):
            raise ValueError
        return evaluation
    except FileNotFoundError:
        raise BadInput(f"{path}: is not evaluated yet; run: epomdp evaluate {path}") from None
    except BadInput:
        raise
    except (ValueError, KeyError, TypeError, AttributeError):
        raise BadInput(
            f"{path}: its evaluation.json cannot be read; run again: epomdp evaluate {path}"
        ) from None


def _to_json(evaluation: Evaluation, seed: int) -> dict[str, Any]:
    return {
        "format": FORMAT,
        "steps": evaluation.steps,
        "seed": seed,
        "novel": evaluation.novel,
        "ids": evaluation.ids,
        "policies": {
            name: {split: _record(episodes) for split, episodes in splits.items()}
            for name, splits in evaluation.episodes.items()
        },
    }


def _record(episodes: Episodes) -> dict[str, Any]:
    return {name: values for name, values in episodes._asdict().items() if values is not None}


def summary(evaluations: Sequence[Evaluation], policy: str, split: str) -> statistics.Summary:
    """One policy on one split, over runs that differ in their seed."""
    records = [e.episodes[policy][split] for e in evaluations]
    return statistics.summarise(
        [r.returns for r in records],
        [r.solved.astype(float) for r in records],
        ids=[e.ids[split] for e in evaluations],
    )


def failures(records: Sequence[Episodes]) -> dict[str, Any]:
    """How the unsolved episodes went, all records together; nothing where a record does not say.

    Returns:
        failed: unsolved episodes.
        failed_in_loops: the share of them whose second half, at least, did nothing new; None where none failed.
        repeated_steps: the share of their steps that did again, on an observation seen before, what the episode had
            done there; None likewise.
        first_mistake: the median step of their first mistake, from 0; None where no mistake was seen.
    """
    if any(record.looped is None for record in records):
        return {}
    lost = [~record.solved for record in records]
    repeats, lengths, first, looped = (
        np.concatenate([getattr(record, name)[rows] for record, rows in zip(records, lost, strict=True)])
        for name in ("repeats", "lengths", "first_mistake", "looped")
    )
    made = first[first >= 0]
    return {
        "failed": int(repeats.size),
        "failed_in_loops": float(np.mean(looped)) if looped.size else None,
        "repeated_steps": float(repeats.sum() / lengths.sum()) if repeats.size else None,
        "first_mistake": float(np.median(made)) if made.size else None,
    }


def gap(evaluations: Sequence[Evaluation], policy: str) -> statistics.Estimate:
    """Mean training minus mean test return of one policy, paired by seed."""
    train, test = ([e.episodes[policy][split].returns for e in evaluations] for split in SPLITS)
    ids = tuple([e.ids[split] for e in evaluations] for split in SPLITS)
    return statistics.gap(train, test, ids=(ids[0], ids[1]))


def leaked(evaluations: Sequence[Evaluation]) -> dict[str, Any]:
    """How many of the runs' test contexts have the content of a training context: `contexts` and `share`."""
    copies = sum(len(e.leaked) for e in evaluations)
    held_out = sum(e.config["test_contexts"] for e in evaluations)
    return {"contexts": copies, "share": copies / held_out if held_out else None}


def novel(evaluations: Sequence[Evaluation], policy: str) -> statistics.Summary | None:
    """One policy on the test contexts whose content no training context has; None where there are none."""
    rows = [[i for i, name in enumerate(e.ids.get("test", ())) if name not in e.leaked] for e in evaluations]
    if not all(rows):
        return None
    records = [e.episodes[policy]["test"] for e in evaluations]
    return statistics.summarise(
        [r.returns[kept] for r, kept in zip(records, rows, strict=True)],
        [r.solved[kept].astype(float) for r, kept in zip(records, rows, strict=True)],
        ids=[[e.ids["test"][i] for i in kept] for e, kept in zip(evaluations, rows, strict=True)],
    )


def scores(evaluations: Sequence[Evaluation], policy: str) -> dict[str, Any]:
    """`{"train": R, "test": R, "gap": {...}}` with what the evaluations hold."""
    held = [split for split in SPLITS if all(split in e.episodes[policy] for e in evaluations)]
    result: dict[str, Any] = {
        split: summary(evaluations, policy, split).to_json()
        | failures([e.episodes[policy][split] for e in evaluations])
        for split in held
    }
    if len(held) == len(SPLITS):
        result["gap"] = gap(evaluations, policy).to_json()
    return result


def run_report(evaluation: Evaluation) -> dict[str, Any]:
    """The object that `epomdp evaluate --json` prints."""
    policies = {name: scores([evaluation], name) for name in evaluation.episodes}
    head = {"agent": evaluation.config["agent"], "env": evaluation.config["env"], "steps": evaluation.steps}
    copies = {"novel": evaluation.novel, "leaks": leaked([evaluation])} if "test" in evaluation.ids else {}
    return head | policies[evaluation.default_policy] | copies | {"policies": policies}


def group(evaluations: Sequence[Evaluation]) -> dict[str, list[Evaluation]]:
    """Runs that differ in nothing but their seed, together, under a short name that tells them apart.

    Raises:
        BadInput: runs of different environments, some played on novel test contexts only and some on all, or two runs
            with the same settings and seed.
    """
    problems = {json.dumps([e.config["env"], e.config["env_options"]], sort_keys=True) for e in evaluations}
    if len(problems) > 1:
        raise BadInput(
            f"the runs are of different environments ({', '.join(sorted(problems))}); compare like with like"
        )
    if len({e.novel for e in evaluations if "test" in e.ids}) > 1:
        raise BadInput(
            "some runs were evaluated with --novel and some without, on other test contexts; evaluate all alike"
        )
    by_settings: dict[str, list[Evaluation]] = {}
    for evaluation in evaluations:
        by_settings.setdefault(json.dumps(_identity(evaluation), sort_keys=True), []).append(evaluation)
    for runs in by_settings.values():
        seeds = [e.config["seed"] for e in runs]
        if len(set(seeds)) < len(seeds):
            raise BadInput(
                f"two runs of {runs[0].config['agent']} have the same settings and seed; name each run once"
            )
    names = _short_names([_identity(runs[0]) for runs in by_settings.values()])
    return dict(zip(names, by_settings.values(), strict=True))


def _identity(evaluation: Evaluation) -> dict[str, Any]:
    config = evaluation.config
    sizes = {name: config[name] for name in ("train_contexts", "validation_contexts", "test_contexts")}
    return {"agent": config["agent"], "steps": evaluation.steps} | sizes | config["agent_options"]


def _short_names(identities: list[dict[str, Any]]) -> list[str]:
    """The agent's name, and where several have it, the settings in which they differ."""
    names = []
    for identity in identities:
        alike = [other for other in identities if other["agent"] == identity["agent"]]
        varying = [key for key in identity if len({json.dumps(other.get(key)) for other in alike}) > 1]
        suffix = ", ".join(f"{key} {identity[key]}" for key in varying)
        names.append(f"{identity['agent']} ({suffix})" if suffix else identity["agent"])
    return names


def comparison(groups: dict[str, list[Evaluation]]) -> dict[str, Any]:
    """The object that `epomdp compare --json` prints: each group's scores, and each pair's difference on test."""
    described = {
        name: {
            "agent": runs[0].config["agent"],
            "env": runs[0].config["env"],
            "steps": runs[0].steps,
            "seeds": [e.config["seed"] for e in runs],
            "default_policy": runs[0].default_policy,
            "policies": {policy: scores(runs, policy) for policy in runs[0].episodes},
        }
        for name, runs in groups.items()
    }
    names = list(groups)
    pairs = [(a, b) for i, a in enumerate(names) for b in names[i + 1 :]]
    return {"groups": described, "comparisons": [_pair(groups, a, b) for a, b in pairs]}


def _pair(groups: dict[str, list[Evaluation]], a: str, b: str) -> dict[str, Any]:
    """Default policies on test contexts; seeds that both have are paired."""
    by_seed = [{e.config["seed"]: e for e in groups[name]} for name in (a, b)]
    shared = sorted(by_seed[0].keys() & by_seed[1].keys())
    if not shared:
        raise BadInput(f"{a} and {b} have no seed in common; train both with the same seeds to pair them")
    first, second = ([runs[seed] for seed in shared] for runs in by_seed)
    for evaluation in (*first, *second):
        if "test" not in evaluation.ids:
            raise BadInput(
                f"a run of {evaluation.config['agent']} was played on its training contexts only; "
                "run epomdp evaluate on it without --contexts"
            )
    returns = [[e.episodes[e.default_policy]["test"].returns for e in runs] for runs in (first, second)]
    ids = ([e.ids["test"] for e in first], [e.ids["test"] for e in second])
    difference = statistics.difference(*returns, ids=ids)
    improvement = statistics.probability_of_improvement(*returns, ids=ids)
    return {
        "a": a,
        "b": b,
        "seeds": shared,
        "difference": difference.to_json(),
        "probability_of_improvement": improvement.to_json(),
    }
