"""The demo's figures: returns of every policy and reference, and what came of what was expected."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np

from epomdp import console, results, statistics
from epomdp.demo.play import DESCRIPTIONS, Outcome
from epomdp.statistics import Estimate

LADDER = ("leep-elimination", "leep", "unlinked", "ppo-sampled", "ppo-greedy")
"""The order of test returns expected beforehand, best first."""

LABELS = {
    "leep-elimination": "LEEP with elimination",
    "leep": "LEEP",
    "unlinked": "the unlinked ensemble",
    "ppo-sampled": "sampled PPO",
    "ppo-greedy": "greedy PPO",
    "ppo-elimination": "PPO with elimination",
    "ppo-quarter-sampled": "PPO with one member's steps",
}

NEAR = 0.15
"""How near elimination on a learned policy was expected to come to exact elimination."""


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
    """What was expected beforehand, pair by pair, with the paired difference and whether it holds."""
    pairs = [
        *itertools.pairwise(LADDER),
        ("ppo-elimination", "leep"),
        ("leep", "ppo-quarter-sampled"),
    ]
    claims = []
    for better, worse in pairs:
        difference, improvement = _compare(outcome, _returns(outcome, better), _returns(outcome, worse))
        low, high = difference.interval
        claims.append(
            {
                "statement": f"{LABELS[better]} above {LABELS[worse]}",
                "holds": True if low > 0 else False if high < 0 else None,
                "difference": difference.to_json(),
                "probability_of_improvement": improvement.to_json(),
            }
        )
    exact = [r.returns["elimination"][:, None] for r in outcome.references]
    for name in ("ppo-elimination", "leep-elimination"):
        difference, _ = _compare(outcome, _returns(outcome, name), exact)
        low, high = difference.interval
        outside = low > NEAR or high < -NEAR
        claims.append(
            {
                "statement": f"{LABELS[name]} within {NEAR} of exact elimination",
                "holds": False if outside else True if low >= -NEAR and high <= NEAR else None,
                "difference": difference.to_json(),
            }
        )
    return claims


def _returns(outcome: Outcome, name: str) -> list[np.ndarray]:
    return [e.returns.mean(axis=1, keepdims=True) for e in outcome.played[name]["test"]]


def _compare(
    outcome: Outcome, first: list[np.ndarray], second: list[np.ndarray]
) -> tuple[Estimate, Estimate]:
    ids = (outcome.ids["test"], outcome.ids["test"])
    difference = statistics.difference(first, second, ids=ids)
    return difference, statistics.probability_of_improvement(first, second, ids=ids)


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
