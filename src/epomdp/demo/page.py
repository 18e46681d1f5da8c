"""The demo's page: the post's first figure live, beside returns and exact references."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import jax
import numpy as np

from epomdp import references
from epomdp import train as training
from epomdp.demo.play import DESCRIPTIONS, TRAINED, Outcome
from epomdp.evaluate import trace
from epomdp.references import References
from epomdp.report import from_runs, text
from epomdp.report import page as pages
from epomdp.report.contents import (
    Bin,
    Calibration,
    Claim,
    Estimate,
    GuessEpisode,
    Guesses,
    Page,
    Reference,
)

SHOWN_IMAGES = 8

REFERENCES = {
    "informed": ("told the label", "the ceiling, which nobody can reach"),
    "elimination": ("elimination", "optimal in the epistemic POMDP: descending posterior, none twice"),
    "memoryless": ("best memoryless", "the best fixed probabilities for this step limit"),
    "sampling": ("posterior sampling", "each guess drawn from the posterior"),
    "argmax": ("argmax", "the most probable label, always"),
    "random-elimination": ("random, none twice", "no knowledge, but memory"),
    "uniform": ("uniform", "no knowledge and no memory"),
}


def write_demo_page(outcome: Outcome, report: dict[str, Any], path: Path, *, command: str) -> Path:
    """Write the page; `report` is what `figures.summarise` returned."""
    run = outcome.runs["ppo"][0]
    seeds = len(outcome.references)
    page = Page(
        title="The guessing game: repeating a mistake, and recovering from it",
        verdict=verdict(report),
        setting=from_runs.setting([run.config])
        + f" {seeds} splits of the images, every agent trained anew on each; all in a row share the split.",
        command=command,
        provenance=from_runs.provenance({name: runs[0].config for name, runs in outcome.runs.items()}),
        policies=[from_runs.policy_row(n, n, s, DESCRIPTIONS[n]) for n, s in report["policies"].items()],
        references=[_reference(name, report) for name in REFERENCES],
        claims=[_claim(claim) for claim in report["claims"]],
        curves=[c for t in TRAINED for c in from_runs.curves(t.folder, t.folder, outcome.runs[t.folder])],
        gaps=[gap for n, s in report["policies"].items() for gap in from_runs.gap_row(n, n, s)],
        calibration=_calibration(outcome),
        leaks=from_runs.leaks(outcome.runs["ppo"]),
        episodes=_episodes(outcome),
        notes=(
            *from_runs.NOTES,
            "Steps are counted over the whole ensemble: each of the four members has a quarter of PPO's.",
            "The exact references use bootstrapped logistic regressions on the same training images as posterior; "
            "no reinforcement learning is in them.",
        ),
    )
    return pages.write(page, path)


def verdict(report: dict[str, Any]) -> str:
    """One sentence: what the standard policy does on unseen images, and what memory and linking buy."""
    test = {name: scores["test"] for name, scores in report["policies"].items()}

    def shown(name: str) -> str:
        return text.estimate(test[name]["mean"], test[name]["interval"])

    return (
        f"On unseen images greedy PPO returns {shown('ppo-greedy')}, LEEP {shown('leep')} and process of elimination "
        f"on PPO's own policy {shown('ppo-elimination')}, beside {text.number(report['references']['elimination'])} "
        "for exact elimination without any reinforcement learning."
    )


def _reference(name: str, report: dict[str, Any]) -> Reference:
    label, description = REFERENCES[name]
    low, high = report["reference_intervals"][name]
    return Reference(
        name, label, report["references"][name], report["promised"][name], (low, high), description
    )


def _claim(claim: dict[str, Any]) -> Claim:
    low, high = claim["difference"]["interval"]
    improvement = claim.get("probability_of_improvement")
    return Claim(
        claim["statement"],
        claim["holds"],
        Estimate(claim["difference"]["mean"], (low, high)),
        None if improvement is None else improvement["mean"],
    )


def _calibration(outcome: Outcome) -> Calibration:
    """Reliability of the classifiers' posteriors, over the test images of all splits."""
    setups = [training.load(run.path)[1] for run in outcome.runs["ppo"]]
    pooled = references.score(
        np.concatenate([r.posterior for r in outcome.references]),
        np.concatenate([s.parts.test.values["label"] for s in setups]),
        limit=outcome.references[0].limit,
    ).calibration
    return Calibration(
        "bootstrapped logistic regressions, temperature set on out-of-bag training images",
        [Bin(b.confidence, b.accuracy, b.count) for b in pooled.bins],
        pooled.error,
    )


def _episodes(outcome: Outcome) -> list[GuessEpisode]:
    """Test images of the first split that greedy PPO never gets right, of as many labels as there are."""
    greedy = outcome.played["ppo-greedy"]["test"][0]
    failed = np.flatnonzero(~greedy.solved[:, 0])
    agents = {name: _deployed(outcome, name) for name in ("ppo", "leep")}
    setup = agents["ppo"][0]
    labels = setup.parts.test.values["label"]
    order = sorted(failed, key=lambda i: (int(np.sum(labels[failed[failed < i]] == labels[i])), int(i)))
    return [_episode(outcome, agents, int(i)) for i in order[:SHOWN_IMAGES]]


def _deployed(outcome: Outcome, folder: str):
    run, setup, settings = training.load(outcome.runs[folder][0].path)
    checkpoint = training.restore(run, setup, settings)
    return setup, setup.agent.params(checkpoint.state.learners)


def _episode(outcome: Outcome, agents: dict[str, Any], index: int) -> GuessEpisode:
    setup = agents["ppo"][0]
    test, env = setup.parts.test, outcome.problem.env
    context = test.context(index)
    names = outcome.problem.label_names or tuple(str(k) for k in range(env.num_actions))
    lanes = []
    for folder, policy, label in (
        ("ppo", "greedy", "standard RL (greedy PPO)"),
        ("leep", "linked", "LEEP (sampled link)"),
        ("leep", "elimination", "LEEP with elimination"),
    ):
        of, params = agents[folder]
        played = trace(env, of.agent.policies[policy], params, test, index, seed=0)
        belief = np.exp(
            np.asarray(of.agent.distribution(params, jax.numpy.asarray(context["image"])), np.float64)
        )
        beliefs = _shrinking(belief, played.actions) if policy == "elimination" else [belief / belief.sum()]
        lanes.append(Guesses(f"{folder}-{policy}", label, played.actions.tolist(), _plain(beliefs)))
    lanes.append(_optimum(outcome.references[0], index, int(context["label"])))
    return GuessEpisode(
        f"test image {test.ids[index]}",
        context["image"],
        names,
        int(context["label"]),
        lanes,
        test.hashes[index],
    )


def _optimum(reference: References, index: int, truth: int) -> Guesses:
    belief = reference.posterior[index]
    order = np.argsort(-belief, kind="stable")
    guesses = order[: min(reference.limit, 1 + int(np.flatnonzero(order == truth)[0]))]
    return Guesses(
        "optimum",
        "exact elimination (classifiers' posterior)",
        guesses.tolist(),
        _plain(_shrinking(belief, guesses)),
    )


def _shrinking(belief: np.ndarray, guesses: np.ndarray) -> list[np.ndarray]:
    """The belief before each guess: what was guessed before is ruled out, the rest renormalised."""
    beliefs, left = [], belief.astype(float).copy()
    for guess in guesses:
        beliefs.append(left / left.sum() if left.sum() > 0 else np.full(len(left), 1 / len(left)))
        left[guess] = 0.0
    return beliefs


def _plain(beliefs: list[np.ndarray]) -> list[list[float]]:
    return [[float(p) for p in belief] for belief in beliefs]
