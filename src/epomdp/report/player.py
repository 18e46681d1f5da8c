"""The post's figure 1, live: test images and the guesses of several policies, step by step.

Everything is drawn here, so that print and a browser without JavaScript show it whole; the script only chooses an
image and a step from it.
"""

from typing import Any

from epomdp.report import pictures
from epomdp.report.contents import GuessEpisode, Guesses
from epomdp.report.html import data_uri
from epomdp.report.text import percent, plural

SHOWN_LABELS = 12


def episode_view(episode: GuessEpisode, number: int) -> dict[str, Any]:
    """What the template needs for one image."""
    shown = shown_labels(episode)
    top = max((p for lane in episode.lanes for row in lane.beliefs for p in row), default=0.0) or 1.0
    lanes = [_lane_view(episode, lane, shown, top) for lane in episode.lanes]
    return {
        "id": f"episode-{number}",
        "name": episode.name,
        "truth": episode.labels[episode.truth],
        "digest": episode.digest,
        "image": data_uri(episode.image),
        "alt": f"Test image {episode.name}, right label {episode.labels[episode.truth]}",
        "hidden_labels": len(episode.labels) - len(shown),
        "wide": max(map(len, episode.labels)) > 3,
        "lanes": lanes,
        "steps": max((len(lane.guesses) for lane in episode.lanes), default=0),
    }


def player_data(episodes: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """What the script needs: for each image and policy the beliefs over the shown labels, and the outcome."""
    return [
        {
            "steps": episode["steps"],
            "lanes": [
                {"beliefs": lane["beliefs"], "guesses": lane["shown_guesses"], "right": lane["right"]}
                for lane in episode["lanes"]
            ],
        }
        for episode in episodes
    ]


def shown_labels(episode: GuessEpisode) -> list[int]:
    """Indices of the labels worth a bar: the right one, those guessed, then the most believed (12 unless guessed)."""
    best = [0.0] * len(episode.labels)
    for lane in episode.lanes:
        for belief in lane.beliefs:
            best = [max(b, p) for b, p in zip(best, belief, strict=True)]
    needed = {episode.truth, *(g for lane in episode.lanes for g in lane.guesses)}
    order = sorted(range(len(best)), key=lambda k: (k not in needed, -best[k]))
    return sorted(order[: max(SHOWN_LABELS, len(needed))])


def _lane_view(episode: GuessEpisode, lane: Guesses, shown: list[int], top: float) -> dict[str, Any]:
    guesses = list(lane.guesses)
    solved = bool(guesses) and guesses[-1] == episode.truth
    wrong = sum(guess != episode.truth for guess in guesses)
    beliefs = [[float(row[k]) for k in shown] for row in lane.beliefs]
    if len(beliefs) == 1:
        beliefs = beliefs * len(guesses)
    steps: list[list[float] | None] = [*beliefs] or [None] * len(guesses)
    names = [episode.labels[k] for k in shown]
    live = None
    if beliefs:
        live = pictures.belief_bars(
            names,
            beliefs[0],
            title=f"{lane.label}: belief over labels",
            description="Before the first guess: " + belief_text(names, beliefs[0]),
        )
    return {
        "label": lane.label,
        "description": lane.description,
        "outcome": _outcome(len(guesses), wrong, solved),
        "right": solved,
        "ret": -wrong,
        "cards": [
            _card(episode, guess, shown, belief, top) for guess, belief in zip(guesses, steps, strict=True)
        ],
        "beliefs": [[round(p, 4) for p in row] for row in beliefs],
        "shown_guesses": [shown.index(guess) for guess in guesses],
        "live": live,
    }


def _outcome(guesses: int, wrong: int, solved: bool) -> str:
    if solved:
        return "right at once" if wrong == 0 else f"right at guess {guesses}"
    return f"never right in {plural(guesses, 'guess', 'guesses')}"


def _card(
    episode: GuessEpisode, guess: int, shown: list[int], belief: list[float] | None, top: float
) -> dict[str, Any]:
    drawn = None
    if belief is not None:
        title = "Belief before this guess: " + belief_text([episode.labels[k] for k in shown], belief)
        drawn = pictures.small_bars(belief, shown.index(guess), title, top)
    return {"guess": episode.labels[guess], "right": guess == episode.truth, "picture": drawn}


def belief_text(names: list[str], belief: list[float]) -> str:
    """The likeliest labels in words: `3 with 61.0 %, 5 with 22.0 %`, four at most."""
    order = sorted(range(len(belief)), key=lambda k: -belief[k])
    likely = [k for k in order if belief[k] >= 0.0005][:4]
    return ", ".join(f"{names[k]} with {percent(belief[k])}" for k in likely) or "nothing left"
