"""A policy as a decision tree: what it believes, does and sees, as data and as text."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from epomdp.exact.solving.policy import SolvedPolicy


class Branch(NamedTuple):
    """What can be seen after an action.

    Attributes:
        label: next state (families) or observation (flat POMDPs).
        reward: observed with it, NaN where rewards are not.
        probability: under the belief before.
        node: what is done then; None below the depth or the probability asked for, or where nothing happens more.
    """

    label: int
    reward: float
    probability: float
    node: DecisionNode | None


@dataclass(frozen=True, eq=False)
class DecisionNode:
    """A decision.

    Attributes:
        state: the observed state (for a flat POMDP: the class of states that the observations tell).
        action: what is done.
        hidden: (n,) environments (families) or states that are possible, likeliest first.
        belief: (n,) their probabilities.
        probability: of coming here from the start.
        value: what is attained from here on, discounted from here.
        branches: likeliest first; those less likely than asked for are left out.
    """

    state: int
    action: int
    hidden: NDArray[np.int32]
    belief: NDArray[np.float64]
    probability: float
    value: float
    branches: tuple[Branch, ...]

    def __str__(self) -> str:
        return "\n".join(_lines(self))


def decision_tree(policy: SolvedPolicy, depth: int, least_probability: float) -> list[DecisionNode]:
    """One tree for each start, `depth` decisions deep, of what comes up with at least `least_probability`."""
    beliefs = policy.start_beliefs()
    return [
        _grow(policy, int(node), belief, float(weight), depth, least_probability)
        for node, belief, weight in zip(policy.start_nodes, beliefs, policy.start_weights, strict=True)
    ]


def _grow(
    policy: SolvedPolicy, memory: int, belief, probability: float, depth: int, least: float
) -> DecisionNode:
    case = int(policy.cases[memory])
    branches = []
    for outcome, chance, after, posterior in policy.successors(memory, belief):
        reach = probability * chance
        if reach < least:
            continue
        at = policy.outcome_start[case] + outcome
        child = None
        if depth > 1 and not policy.ends(after):
            child = _grow(policy, after, posterior, reach, depth - 1, least)
        branches.append(Branch(int(policy.labels[at]), float(policy.rewards[at]), chance, child))
    possible = np.flatnonzero(belief)
    order = possible[np.argsort(-belief[possible], kind="stable")]
    return DecisionNode(
        int(policy.states[case]),
        int(policy.actions[case]),
        policy.hidden_of(memory)[order],
        belief[order],
        probability,
        float(policy.values_of(memory) @ belief),
        tuple(branches),
    )


def _lines(node: DecisionNode) -> list[str]:
    few = ", ".join(f"{h}: {p:.3g}" for h, p in zip(node.hidden[:4], node.belief[:4], strict=True))
    more = ", ..." if len(node.hidden) > 4 else ""
    lines = [f"state {node.state}: action {node.action}   value {node.value:.4g}   belief {few}{more}"]
    for i, branch in enumerate(node.branches):
        last = i == len(node.branches) - 1
        reward = "" if np.isnan(branch.reward) else f", reward {branch.reward:g}"
        below = _lines(branch.node) if branch.node else ["."]
        head = f"{branch.probability:.3g} sees {branch.label}{reward} -> "
        lines.append(("└ " if last else "├ ") + head + below[0])
        lines += [("  " if last else "│ ") + line for line in below[1:]]
    return lines
