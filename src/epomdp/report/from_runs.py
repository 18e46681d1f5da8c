"""From run directories to a page: scores, gaps, learning curves and the leak check of what is on disk."""

from __future__ import annotations

import hashlib
import json
import math
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from scipy import stats

from epomdp import results
from epomdp.report import from_procgen, text
from epomdp.report import page as pages
from epomdp.report.contents import Claim, Curve, Estimate, Gap, Leaks, Page, PolicyRow, Score, Split
from epomdp.results import Evaluation
from epomdp.runs import Run


def write_runs_page(paths: Sequence[str | Path], out: str | Path) -> Path:
    """Write one page about evaluated runs; runs of one setting that differ in their seed become one row.

    Raises:
        BadInput: a directory that is no run or is not evaluated, or runs that cannot be compared.
    """
    runs = [Run(path) for path in paths]
    groups = results.group([results.read_evaluation(path) for path in paths])
    compared = results.comparison(groups)
    rows, gaps = [], []
    for name, described in compared["groups"].items():
        for policy, scores in described["policies"].items():
            label = f"{name}, {policy}" if len(groups) > 1 else policy
            rows.append(policy_row(label, label, scores))
            gaps += gap_row(label, label, scores)
    configs = [run.config for run in runs]
    page = Page(
        title=f"{' and '.join(groups)} on {configs[0]['env']}",
        verdict=_verdict(compared),
        setting=setting(configs)
        + (NOVEL if any(e.novel for group in groups.values() for e in group) else ""),
        command="epomdp report " + " ".join(str(run.path) for run in runs),
        provenance=provenance({name: group[0].config for name, group in groups.items()}),
        policies=rows,
        claims=[_claim(pair) for pair in compared["comparisons"]],
        curves=[curve for name in groups for curve in curves(name, name, _of_group(runs, groups[name]))],
        gaps=gaps,
        leaks=leaks(runs),
        standings=from_procgen.standings(groups),
        notes=NOTES,
    )
    return pages.write(page, out)


NOVEL = " Test contexts whose content is a training context's are left out of all test returns."

NOTES = (
    "Returns are undiscounted sums of rewards of whole episodes; every policy plays the same contexts.",
    "Intervals are 95 % intervals over contexts and training seeds. With one seed they do not cover the variance "
    "between seeds.",
)


def policy_row(name: str, label: str, scores: dict[str, Any], description: str = "") -> PolicyRow:
    """A row from `{"train": R, "test": R}`; either may be missing."""
    train, test = (Score.from_json(scores[split]) if split in scores else None for split in results.SPLITS)
    return PolicyRow(name, label, description, train, test)


def gap_row(name: str, label: str, scores: dict[str, Any]) -> list[Gap]:
    """The gap's row, or none where one of the splits was not played."""
    if "gap" not in scores:
        return []
    low, high = scores["gap"]["interval"]
    return [Gap(name, label, scores["gap"]["mean"], (low, high))]


def curves(name: str, label: str, runs: Sequence[Run]) -> list[Curve]:
    """Mean learning curves over seeds; with two seeds or more, Student's 95 % interval of the mean."""
    found = []
    for split in ("train", "validation", "test"):
        points: dict[int, list[float]] = defaultdict(list)
        for run in runs:
            for row in run.metrics():
                if f"{split}_return" in row:
                    points[row["steps"]].append(row[f"{split}_return"])
        steps = sorted(step for step, values in points.items() if len(values) == len(runs))
        if steps:
            values = np.array([points[step] for step in steps])
            half = _half_width(values)
            mean = values.mean(axis=1)
            low, high = ((), ()) if half is None else (mean - half, mean + half)
            found.append(Curve(name, label, split, steps, list(mean), list(low), list(high)))
    return found


def _half_width(values: np.ndarray) -> np.ndarray | None:
    seeds = values.shape[1]
    if seeds < 2:
        return None
    return stats.t.ppf(0.975, seeds - 1) * values.std(axis=1, ddof=1) / math.sqrt(seeds)


def leaks(runs: Sequence[Run]) -> Leaks:
    """The leak check of all runs, made again from the hashes on disk; runs that share a split count once."""
    recorded = list({json.dumps(c["test"]["hashes"]): c for c in (run.contexts for run in runs)}.values())
    copies = [name for split in recorded for name in _copies(split)]
    found = sum(split["overlap"]["validation"] + split["overlap"]["test"] for split in recorded)
    many = len(recorded) > 1
    return Leaks(
        splits=[
            Split(
                f"{name}, split {i + 1}" if many else name,
                len(split[name]["ids"]),
                _digest(split[name]["hashes"]),
            )
            for i, split in enumerate(recorded)
            for name in ("train", "validation", "test")
            if split[name]["ids"]
        ],
        overlap=max(found, len(copies)),
        removed=max(found - len(copies), 0),
        hashes_file="contexts.json in each run directory" if many else str(runs[0].path / "contexts.json"),
        examples=copies[:5],
        held_out=sum(len(split[name]["ids"]) for split in recorded for name in ("validation", "test")),
    )


def _copies(split: dict[str, Any]) -> list[str]:
    """Test contexts whose content is a training context's."""
    seen = set(split["train"]["hashes"])
    test = split["test"]
    return [name for name, digest in zip(test["ids"], test["hashes"], strict=True) if digest in seen]


def _digest(hashes: Sequence[str]) -> str:
    return hashlib.sha256("".join(sorted(hashes)).encode()).hexdigest()


def setting(configs: Sequence[dict[str, Any]]) -> str:
    """One sentence about the environment and the sizes; where runs differ, all that occur."""

    def each(name: str) -> str:
        return " or ".join(f"{value:,}" for value in sorted({config[name] for config in configs}))

    options = ", ".join(f"{name} {value}" for name, value in configs[0]["env_options"].items())
    return (
        f"Environment {configs[0]['env']} ({options}), {each('train_contexts')} training contexts, "
        f"{each('test_contexts')} test contexts that no agent has acted in, {each('total_steps')} environment steps."
    )


def provenance(configs: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """What a reader needs to make the figures again, from one configuration a name."""
    first = next(iter(configs.values()))
    shared = {name: first[name] for name in ("env", "env_options", "versions", "host")}
    return shared | {"agents": {name: config["agent_options"] for name, config in configs.items()}}


def _of_group(runs: Sequence[Run], evaluations: Sequence[Evaluation]) -> list[Run]:
    configs = [evaluation.config for evaluation in evaluations]
    return [run for run in runs if run.config in configs]


def _claim(pair: dict[str, Any]) -> Claim:
    low, high = pair["difference"]["interval"]
    holds = True if low > 0 else False if high < 0 else None
    return Claim(
        f"{pair['a']} generalizes better than {pair['b']}",
        holds,
        Estimate(pair["difference"]["mean"], (low, high)),
        pair["probability_of_improvement"]["mean"],
    )


def _verdict(compared: dict[str, Any]) -> str:
    """The best default policy on test contexts, and whether the next one is clearly worse."""
    groups = {
        name: described["policies"][described["default_policy"]]
        for name, described in compared["groups"].items()
        if "test" in described["policies"][described["default_policy"]]
    }
    if not groups:
        return (
            "The policies were played on their training contexts only: nothing is said about generalization."
        )
    best = max(groups, key=lambda name: groups[name]["test"]["mean"])
    scores = groups[best]
    sentence = f"{best} returns {text.estimate(scores['test']['mean'], scores['test']['interval'])} on unseen contexts"
    if "gap" in scores:
        sentence += (
            f", a generalization gap of {text.estimate(scores['gap']['mean'], scores['gap']['interval'])}"
        )
    others = [pair for pair in compared["comparisons"] if best in (pair["a"], pair["b"])]
    if not others:
        return sentence + "."
    unclear = [p for p in others if p["difference"]["interval"][0] <= 0 <= p["difference"]["interval"][1]]
    rivals = [pair["b"] if pair["a"] == best else pair["a"] for pair in unclear]
    return sentence + (
        f"; the data do not separate it from {' and '.join(rivals)}."
        if rivals
        else ", clearly better than the others."
    )
