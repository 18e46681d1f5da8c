"""A Procgen run's returns beside the published ones of its game."""

from __future__ import annotations

import dataclasses
from typing import Any

from epomdp import problems, results
from epomdp.report import published
from epomdp.report.contents import Estimate, Interval, Standing, Standings
from epomdp.results import Evaluation

PREFIX = "procgen:"


def standings(groups: dict[str, list[Evaluation]]) -> Standings | None:
    """The table for runs of one of Procgen's games, each agent with its default policy; None for other runs."""
    config = next(iter(groups.values()))[0].config
    if not config["env"].startswith(PREFIX):
        return None
    game, distribution = config["env"].removeprefix(PREFIX), config["env_options"]["distribution"]
    least, most = constants(game, distribution)
    rows = [_own(name, evaluations) for name, evaluations in groups.items()]
    if distribution == "easy":
        rows += _published(game)
    scaled = [
        dataclasses.replace(row, normalised=(row.test.mean - least) / (most - least)) if row.test else row
        for row in rows
    ]
    return Standings(scaled, _explanation(groups, game, distribution, least, most))


def constants(game: str, distribution: str) -> tuple[float, float]:
    """The returns that count as 0 and as 1 when a game's scores are normalised."""
    row = next(row for row in published.read("procgen_normalisation.csv") if row["game"] == game)
    return float(row[f"{distribution}_min"]), float(row[f"{distribution}_max"])


def _own(name: str, evaluations: list[Evaluation]) -> Standing:
    policy = evaluations[0].default_policy
    scores = results.scores(evaluations, policy)
    novel = results.novel(evaluations, policy)
    if evaluations[0].novel:
        # What was played is not the distribution that others' test returns are over.
        scores.pop("test", None)
    return Standing(
        name,
        _followed(evaluations[0]),
        *(_estimate(scores.get(split)) for split in results.SPLITS),
        novel=_estimate(novel.to_json() if novel else None),
        own=True,
    )


def _followed(evaluation: Evaluation) -> str:
    """The steps of a run, and what else differs from the protocol that it names."""
    config = evaluation.config
    steps, others = problems.departures(config, evaluation.steps)
    return (f"protocol {config['protocol']}: " if config.get("protocol") else "") + ", ".join(
        [steps, *others]
    )


def _estimate(score: dict[str, Any] | None) -> Estimate | None:
    if score is None:
        return None
    low, high = score["interval"]
    return Estimate(score["mean"], (low, high))


def _published(game: str) -> list[Standing]:
    rows = [row for row in published.read("procgen_easy_200.csv") if row["game"] == game]
    return [
        Standing(
            row["source"],
            f"{int(row['steps']):,} steps" if int(row["steps"]) else "no learning",
            Estimate(float(row["train"])) if row["train"] else None,
            Estimate(float(row["test"]), _interval(row)),
        )
        for row in rows
    ]


def _interval(row: dict[str, str]) -> Interval | None:
    if not row["standard_error"]:
        return None
    half = 1.96 * float(row["standard_error"])
    return float(row["test"]) - half, float(row["test"]) + half


def _explanation(
    groups: dict[str, list[Evaluation]], game: str, distribution: str, least: float, most: float
) -> list[str]:
    normalised = (
        f"Normalised: (return - {least:g}) / ({most:g} - {least:g}), the constants of OpenAI's train-procgen for "
        f"{distribution} {game}."
    )
    if distribution == "easy" and game in ("jumper", "leaper"):
        normalised += " Other sources take 3 for the minimum."
    copies = results.leaked([e for evaluations in groups.values() for e in evaluations])
    sentences = [normalised]
    if copies["share"] is not None:
        sentences.append(
            f"{copies['share']:.1%} of the test levels look like a training level in their first frame "
            "(not centred, without backgrounds); the novel ones are the others."
        )
    if distribution != "easy":
        sentences.append("No published figures for hard levels are kept here.")
    else:
        sentences.append(
            "Published test returns are over all easy levels, training levels among them. PPO of Cobbe et al.: "
            "result files of train-procgen, 3 seeds. Agarwal et al.: their data set, 10 runs each, interval from the "
            "standard error over runs. LEEP: read off bars of figures, to about 2 % of their axis. "
            "Random play: 256 first episodes in the original Procgen, interval from its standard error."
        )
    return sentences
