"""The page of an exact answer: the ladder with its certificates, a belief over time, the optimal policy as a tree."""

import math
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import groupby
from pathlib import Path
from typing import Any

from epomdp.errors import BadInput
from epomdp.report import ladder_pictures as drawings
from epomdp.report import pictures
from epomdp.report.html import render_template, write_page
from epomdp.report.ladder import Rung, amount, decimals, purchases, what_it_buys
from epomdp.report.page import flatten
from epomdp.report.player import belief_text
from epomdp.report.text import number, percent, plural

SHOWN_ENVIRONMENTS = 10
SHOWN_STEPS = 60


@dataclass(frozen=True)
class BeliefStep:
    """One step of an episode: where, what was done, what came, and the belief (M,) before the action."""

    state: str
    action: str
    belief: Sequence[float]
    reward: float | None = None


@dataclass(frozen=True)
class BeliefEpisode:
    """An episode in the epistemic POMDP (the post's figures 3 and 4).

    environments: M names; truth: index of the hidden one, if it is to be shown; final: belief (M,) at the end.
    """

    title: str
    environments: Sequence[str]
    steps: Sequence[BeliefStep]
    final: Sequence[float] = ()
    truth: int | None = None
    description: str = ""

    def __post_init__(self) -> None:
        size = len(self.environments)
        if self.truth is not None and not 0 <= self.truth < size:
            raise BadInput(f"episode {self.title}: the truth {self.truth} is not one of {size} environments")
        beliefs = [step.belief for step in self.steps] + ([self.final] if len(self.final) else [])
        for k, belief in enumerate(beliefs):
            if len(belief) != size or any(not math.isfinite(p) or p < 0 for p in belief):
                raise BadInput(f"episode {self.title}, belief {k}: not {size} probabilities")


@dataclass(frozen=True)
class Branch:
    """What an action may show, with its probability there, and what the policy does then (None: the end)."""

    observation: str
    probability: float
    node: "Node | None" = None


@dataclass(frozen=True)
class Node:
    """A decision of the policy.

    belief: (M,) over the environments; value: what is still to come; information: expected bits about the environment
    from this action; gathers: whether it is done for the information (it costs something now, or earns nothing).
    omitted, omitted_probability: branches that pruning left out, and their share.
    """

    action: str
    state: str = ""
    belief: Sequence[float] = ()
    value: float | None = None
    information: float | None = None
    gathers: bool = False
    branches: Sequence[Branch] = ()
    omitted: int = 0
    omitted_probability: float = 0.0


@dataclass(frozen=True)
class LadderPage:
    """An exact answer. Parts that are empty are left out; an empty verdict becomes `what_it_buys(rungs)`.

    environments: the M names that the tree's beliefs are over; status: `solved` or `time-limit`.
    """

    title: str
    verdict: str = ""
    setting: str = ""
    command: str = ""
    provenance: Mapping[str, Any] = field(default_factory=dict)
    rungs: Sequence[Rung] = ()
    status: str = ""
    seconds: float | None = None
    episodes: Sequence[BeliefEpisode] = ()
    tree: Node | None = None
    environments: Sequence[str] = ()
    notes: Sequence[str] = ()


def render(page: LadderPage) -> str:
    """The page as self-contained HTML without any script; names are escaped wherever they stand."""
    bought = purchases(page.rungs)
    return render_template(
        "ladder.html.j2",
        page=page,
        verdict=page.verdict or what_it_buys(page.rungs) or page.title,
        picture=drawings.ladder(page.rungs, bought) if page.rungs else None,
        legend=drawings.legend(page.rungs),
        buys=what_it_buys(page.rungs),
        certificate=certificate(page),
        rows=_rows(page.rungs),
        episodes=[_episode_view(episode) for episode in page.episodes],
        tree=_node_view(prune(page.tree), 1.0, page.environments) if page.tree else None,
        provenance=list(flatten(page.provenance)),
    )


def write(page: LadderPage, path: str | os.PathLike[str]) -> Path:
    """Render the page and put it at `path`, whole or not at all. Errors: see `html.write_page`."""
    return write_page(render(page), path)


def certificate(page: LadderPage) -> str:
    """How well the Bayes-optimal value is known, in a sentence; empty where it is not on the ladder."""
    found = [rung for rung in page.rungs if rung.name == "bayes_optimal"]
    if not found or found[0].upper is None:
        return ""
    gap = found[0].upper - found[0].lower
    took = "" if page.seconds is None else f" after {number(page.seconds)} s"
    ended = {"solved": "Solved", "time-limit": "Stopped at the time limit"}.get(page.status, "Bounded")
    return f"{ended}{took}: the Bayes-optimal value is certified to within {gap:.2g}."


def _rows(rungs: Sequence[Rung]) -> list[tuple[Rung, str, str, str]]:
    """Rung, lower bound, upper bound and what its step up from the next one buys, written out."""
    places = decimals(rungs)
    buys = [f"{step.what}: {amount(step, places)}" for step in purchases(rungs)]
    buys += [""] * (len(rungs) - len(buys))
    return [
        (
            rung,
            number(rung.lower, places),
            "not known" if rung.upper is None else number(rung.upper, places),
            bought,
        )
        for rung, bought in zip(rungs, buys, strict=True)
    ]


def prune(node: Node, least: float = 0.01, depth: int = 12) -> Node:
    """The tree without what hardly happens: branches reached with probability below `least`, or deeper than `depth`.

    The likeliest branch of a node and up to four ends of the episode are kept as long as the depth allows.
    Of what went the number and share are kept.
    """
    return _prune(node, 1.0, least, depth)


def _prune(node: Node, reach: float, least: float, depth: int) -> Node:
    ranked = sorted(node.branches, key=lambda b: -b.probability)

    def matters(rank: int, branch: Branch) -> bool:
        end = branch.node is None and rank < 4
        return depth > 0 and (rank == 0 or end or reach * branch.probability >= least)

    kept = [b for k, b in enumerate(ranked) if matters(k, b)]
    gone = [b for k, b in enumerate(ranked) if not matters(k, b)]
    inner = [
        b if b.node is None else replace(b, node=_prune(b.node, reach * b.probability, least, depth - 1))
        for b in kept
    ]
    return replace(
        node,
        branches=inner,
        omitted=node.omitted + len(gone),
        omitted_probability=node.omitted_probability + sum(b.probability for b in gone),
    )


def _node_view(node: Node, reach: float, names: Sequence[str]) -> dict[str, Any]:
    """A node for the template. Steps without a choice of what may come are drawn together with it, in one line."""
    actions = [node.action]
    while (
        len(node.branches) == 1
        and not node.omitted
        and not node.gathers
        and node.branches[0].node is not None
    ):
        following = node.branches[0].node
        if following.gathers:
            break
        node = replace(following, state=node.state, belief=node.belief, value=node.value)
        actions.append(node.action)
    drawn = None
    if len(node.belief):
        words = belief_text([str(name) for name in names], list(node.belief)) if names else ""
        drawn = pictures.small_bars(node.belief, None, f"Belief here: {words}".rstrip(": "))
    return {
        "actions": _counted(actions),
        "state": node.state,
        "reach": percent(reach),
        "value": node.value,
        "belief": drawn,
        "gathers": node.gathers,
        "information": node.information,
        "branches": [_branch_view(b, reach, names) for b in node.branches],
        "omitted": f"{plural(node.omitted, 'rarer branch', 'rarer branches')} with {percent(node.omitted_probability)}"
        if node.omitted
        else "",
    }


def _branch_view(branch: Branch, reach: float, names: Sequence[str]) -> dict[str, Any]:
    reach = reach * branch.probability
    node = None if branch.node is None else _node_view(branch.node, reach, names)
    return {"observation": branch.observation, "probability": percent(branch.probability), "node": node}


def _counted(actions: Sequence[str]) -> list[tuple[str, int]]:
    return [(action, len(list(run))) for action, run in groupby(actions)]


def _episode_view(episode: BeliefEpisode) -> dict[str, Any]:
    shown, names = _largest(episode)
    marked = shown.index(episode.truth) if episode.truth in shown else None
    steps = list(_learned(episode))
    rows = []
    for first, run, belief in steps[:SHOWN_STEPS]:
        cut = [*(belief[k] for k in shown), sum(p for k, p in enumerate(belief) if k not in set(shown))]
        title = f"Belief: {belief_text(names, cut)}"
        rows.append(
            {
                "when": _when(first, len(run)),
                "state": run[0].state if run else "",
                "actions": _counted([step.action for step in run]),
                "rewards": [number(step.reward) for step in run if step.reward is not None],
                "entropy": number(entropy(belief)),
                "picture": drawings.stacked_bar(names, cut, marked, title),
            }
        )
    return {
        "title": episode.title,
        "description": episode.description,
        "truth": None if episode.truth is None else episode.environments[episode.truth],
        "rows": rows,
        "more": max(0, len(steps) - SHOWN_STEPS),
    }


def _largest(episode: BeliefEpisode) -> tuple[list[int], list[str]]:
    """The environments with a name of their own in the bars, the rest being one part called `others`."""
    beliefs = [*(step.belief for step in episode.steps), *([episode.final] if len(episode.final) else [])]
    best = [max(column) for column in zip(*beliefs, strict=True)] or [0.0] * len(episode.environments)
    order = sorted(range(len(best)), key=lambda k: (k != episode.truth, -best[k]))
    shown = sorted(order[:SHOWN_ENVIRONMENTS])
    others = plural(len(best) - len(shown), "other")
    return shown, [*(episode.environments[k] for k in shown), others]


def _learned(episode: BeliefEpisode) -> Iterator[tuple[int, list[BeliefStep], Sequence[float]]]:
    """Runs of steps with one belief: number of the first, the steps, the belief. The end is a run without steps."""
    runs: list[tuple[int, list[BeliefStep], Sequence[float]]] = []
    for k, step in enumerate(episode.steps):
        if runs and max(abs(p - q) for p, q in zip(runs[-1][2], step.belief, strict=True)) < 1e-9:
            runs[-1][1].append(step)
        else:
            runs.append((k + 1, [step], step.belief))
    yield from runs
    if len(episode.final):
        yield len(episode.steps) + 1, [], episode.final


def _when(first: int, length: int) -> str:
    if length == 0:
        return "at the end"
    return f"step {first}" if length == 1 else f"steps {first}–{first + length - 1}"


def entropy(belief: Sequence[float]) -> float:
    """Uncertainty in bits: -sum p log2 p."""
    return -sum(p * math.log2(p) for p in belief if p > 0)
