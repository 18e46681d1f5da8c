"""From a solved family to its page: the ladder, episodes with their beliefs, and the policy as a decision tree."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from epomdp.exact.belief import EpistemicPOMDP
from epomdp.exact.family import Family
from epomdp.exact.ladder import Ladder
from epomdp.exact.layered import LayeredFamily
from epomdp.exact.mdp import action_values, optimal_values
from epomdp.exact.pomdp import Pomdp
from epomdp.exact.solving.solution import Solution
from epomdp.exact.solving.tree import DecisionNode
from epomdp.report import ladder_page
from epomdp.report.ladder import rungs_from_json, what_it_buys
from epomdp.report.ladder_page import BeliefEpisode, BeliefStep, Branch, LadderPage, Node

DEPTH = 8
LEAST_PROBABILITY = 0.01
EPISODES = 3
EPISODE_STEPS = 20
# An action tells something if it is expected to take this many bits away, and is taken for them if a policy that
# expects to learn nothing would do something else.
LEAST_INFORMATION = 0.01


def write_ladder_page(
    found: Ladder,
    problem: Family | Pomdp,
    out: str | Path,
    *,
    title: str,
    observe_rewards: bool,
    command: str,
) -> Path:
    """Write the page of a ladder; of a flat POMDP it holds the bounds alone."""
    rungs = rungs_from_json(found.to_json())
    page = LadderPage(
        title=title,
        verdict=what_it_buys(rungs) if isinstance(problem, Family) else found.what_it_buys(),
        setting=_setting(problem, observe_rewards),
        command=command,
        rungs=rungs,
        status=found.status,
        seconds=found.seconds,
    )
    if isinstance(problem, Family):
        told = Telling(EpistemicPOMDP(problem, observe_rewards), found.solution)
        page = LadderPage(
            **vars(page)
            | {"episodes": told.episodes(), "tree": told.tree(), "environments": told.environments}
        )
    return ladder_page.write(page, out)


def _setting(problem: Family | Pomdp, observe_rewards: bool) -> str:
    if isinstance(problem, Pomdp):
        S, A = problem.rewards.shape
        return f"A POMDP of {S} states and {A} actions, discount {problem.discount:g}."
    M, S, A = problem.rewards.shape
    seen = "are seen" if observe_rewards else "are not seen"
    horizon = "" if problem.horizon is None else f", episodes of at most {problem.horizon} steps"
    return (
        f"{M} environments, {S} states, {A} actions, discount {problem.discount:g}{horizon}; rewards {seen}."
    )


@dataclass(frozen=True, eq=False)
class Telling:
    """A solution of an epistemic POMDP, told by episodes and as a tree."""

    pomdp: EpistemicPOMDP
    solution: Solution

    @property
    def environments(self) -> list[str]:
        """Names of the M environments."""
        return [f"environment {m}" for m in range(self.pomdp.family.num_environments)]

    def _state(self, state: int) -> str:
        family = self.pomdp.family
        if isinstance(family, LayeredFamily) and state < len(family.states):
            return f"state {family.states[state]}, step {family.times[state]}"
        return f"state {state}"

    def episodes(self) -> list[BeliefEpisode]:
        """One simulated episode in each of the likeliest environments."""
        rng = np.random.default_rng(0)
        likeliest = np.argsort(-self.pomdp.prior, kind="stable")[:EPISODES]
        return [self._episode(int(m), rng) for m in likeliest if self.pomdp.prior[m] > 0]

    def _episode(self, m: int, rng: np.random.Generator) -> BeliefEpisode:
        played = self.pomdp.simulate(self.solution, rng, m, EPISODE_STEPS)
        steps = [
            BeliefStep(self._state(int(s)), f"action {a}", belief.tolist(), float(r))
            for s, a, r, belief in zip(
                played.states[:-1], played.actions, played.rewards, played.beliefs[:-1], strict=True
            )
        ]
        title = f"An episode in environment {m}"
        return BeliefEpisode(title, self.environments, steps, played.beliefs[-1].tolist(), m)

    def tree(self) -> Node:
        """What the policy does from its likeliest start, to a depth and down to a probability."""
        trees = self.solution.tree(DEPTH, LEAST_PROBABILITY)
        return self._node(max(trees, key=lambda node: node.probability))

    def _node(self, decision: DecisionNode) -> Node:
        belief = np.zeros(self.pomdp.family.num_environments)
        belief[decision.hidden] = decision.belief
        information = self._information(decision.state, decision.action, belief)
        shown = sum(branch.probability for branch in decision.branches)
        possible = np.count_nonzero(self.pomdp.outcomes(decision.state, decision.action).likelihoods @ belief)
        return Node(
            f"action {decision.action}",
            self._state(decision.state),
            belief.tolist(),
            decision.value,
            information,
            information > LEAST_INFORMATION
            and not self._without_learning(decision.state, decision.action, belief),
            [
                Branch(
                    self._seen(b.label, b.reward),
                    b.probability,
                    None if b.node is None else self._node(b.node),
                )
                for b in decision.branches
            ],
            int(possible) - len(decision.branches),
            max(0.0, 1.0 - shown),
        )

    def _information(self, state: int, action: int, belief: NDArray[np.float64]) -> float:
        """Expected bits about the environment from what the action shows."""
        joint = self.pomdp.outcomes(state, action).likelihoods * belief
        chances = joint.sum(axis=1)
        after = [
            c * ladder_page.entropy((row / c).tolist())
            for c, row in zip(chances, joint, strict=True)
            if c > 0
        ]
        return ladder_page.entropy(belief.tolist()) - sum(after)

    def _without_learning(self, state: int, action: int, belief: NDArray[np.float64]) -> bool:
        """Whether the optimum of the belief's mean environment, which expects to learn nothing, would do the same."""
        mean = self.pomdp.family.with_weights(belief).mean()
        values = action_values(mean, 0, optimal_values(mean)[0])[state]
        return bool(values[action] >= values.max() - 1e-9 * max(1.0, abs(values.max())))

    def _seen(self, state: int, reward: float) -> str:
        return self._state(state) + ("" if np.isnan(reward) else f", reward {reward:g}")
