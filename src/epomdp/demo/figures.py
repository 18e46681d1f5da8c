"""The demo's figures: returns of every policy and reference, and what came of what was expected."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np

from epomdp import console, results, statistics
from epomdp.demo.play import DESCRIPTIONS, Outcome

LADDER = ("leep-elimination", "leep", "unlinked", "ppo-sampled", "ppo-greedy")
"""The order of test returns expected beforehand, best first."""


def summarise(outcome: Outcome) -> dict[str, Any]:
    """Figures of every policy and reference, and what came of what was expected."""
    table = {name: _scores(outcome, name) for name in DESCRIPTIONS}
    names = ("informed", "elimination", "memoryless", "sampling", "argmax", "random-elimination", "uniform")
    estimates = {
        name: statistics.mean([r.returns[name] for r in outcome.references], ids=outcome.ids["test"])
        for name in names
    }
    return {
        "policies": table,
        "references": {name: estimate.value for name, estimate in estimates.items()},
        "reference_intervals": {name: list(estimate.interval) for name, estimate in estimates.items()},
        "promised": {
            name: float(np.mean([r.promised[name].mean() for r in outcome.references])) for name in names
        },
        "claims": _claims(outcome),
    }


def _scores(outcome: Outcome, name: str) -> dict[str, Any]:
    scores: dict[str, Any] = {}
    for split, episodes in outcome.played[name].items():
        solved = [e.solved.astype(float) for e in episodes]
        scores[split] = statistics.summarise(
            [e.returns for e in episodes], solved, ids=outcome.ids[split]
        ).to_json()
    returns = [[e.returns for e in outcome.played[name][split]] for split in results.SPLITS]
    gap = statistics.gap(*returns, ids=(outcome.ids["train"], outcome.ids["test"]))
    return scores | {"gap": gap.to_json()}


def _claims(outcome: Outcome) -> list[dict[str, Any]]:
    """The expected order, pair by pair; linking beside elimination; the learned posterior beside the classifiers'."""
    pairs = [
        *itertools.pairwise(LADDER),
        ("ppo-elimination", "leep"),
        ("leep", "ppo-quarter-sampled"),
    ]
    claims = []
    for better, worse in pairs:
        first, second = ([e.returns for e in outcome.played[name]["test"]] for name in (better, worse))
        claims.append(_claim(outcome, better, worse, first, second))
    reference = [r.returns["elimination"][:, None] for r in outcome.references]
    for name in ("ppo-elimination", "leep-elimination"):
        learned = [e.returns.mean(axis=1, keepdims=True) for e in outcome.played[name]["test"]]
        claims.append(_claim(outcome, name, "elimination by the classifiers", learned, reference))
    return claims


def _claim(
    outcome: Outcome, a: str, b: str, first: list[np.ndarray], second: list[np.ndarray]
) -> dict[str, Any]:
    ids = (outcome.ids["test"], outcome.ids["test"])
    return {
        "better": a,
        "worse": b,
        "difference": statistics.difference(first, second, ids=ids).to_json(),
        "probability_of_improvement": statistics.probability_of_improvement(first, second, ids=ids).to_json(),
    }


def show(report: dict[str, Any]) -> None:
    """One table and the path of the page."""
    rows = [
        [name, *(console.score_cell(scores[s]) for s in results.SPLITS), console.share_cell(scores["test"])]
        for name, scores in report["policies"].items()
    ]
    for name, value in report["references"].items():
        low, high = report["reference_intervals"][name]
        rows.append([f"exact: {name}", "", f"{value:.2f} [{low:.2f}, {high:.2f}]", ""])
    console.show_table(
        "Guessing game: mean return", ["policy", "train images", "test images", "test solved"], rows
    )
    print(f"page: {report['page']}")
