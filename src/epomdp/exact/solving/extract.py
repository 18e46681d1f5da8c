"""From a finished search to its policy: the vectors and nodes that attain the lower bound, linked to a controller."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from epomdp.exact.family import gather_rows
from epomdp.exact.solving.engine import Engine
from epomdp.exact.solving.model import ROW, Problem
from epomdp.exact.solving.policy import SolvedPolicy
from epomdp.exact.solving.records import ALPHAS, NODES, Search


def extract_policy(engine: Engine, alphas: NDArray[np.int32] | None = None) -> SolvedPolicy:
    """The controller that attains the lower bound at the start, of the nodes that it can come to.

    Args:
        engine: the search.
        alphas: (R,) vectors to start with, in place of those that attain the lower bound.
    """
    problem, search = engine.problem, engine.search
    names = _Names(engine)
    roots = search.nodes[search.roots]
    keys = names.of_nodes(search.roots) if alphas is None else names.of_links(alphas, roots["state"])
    states, actions, following = [], [], []
    order = np.full(names.total, -1, dtype=np.int64)
    count = 0
    frontier = np.unique(keys)
    while frontier.size:
        order[frontier] = np.arange(count, count + frontier.size)
        count += frontier.size
        state, action, links = names.follow(frontier)
        states.append(state)
        actions.append(action)
        following.append(links)
        frontier = np.unique(links[order[links] < 0])
    state, action = np.concatenate(states), np.concatenate(actions)
    case, cases = np.unique(state * problem.num_actions + action, return_inverse=True)
    outcomes = np.diff(problem.model.outcome_start)[case]
    link_start = np.concatenate([[0], np.cumsum(outcomes[cases])])
    return SolvedPolicy(
        problem.start_states,
        order[keys],
        problem.start_weights,
        cases.astype(np.int32),
        link_start.astype(np.int64),
        order[np.concatenate(following)].astype(np.int32),
        beliefs=np.concatenate([_spread(problem, search, node) for node in roots]),
        discount=problem.model.discount,
        static=problem.static,
        num_hidden=problem.num_hidden,
        layer_states=problem.layer_states,
        **_case_arrays(problem, case),
    )


def _spread(problem: Problem, search: Search, node) -> NDArray[np.float64]:
    belief = np.zeros(len(problem.hidden(int(node["state"]))))
    part = slice(node["begin"], node["begin"] + node["size"])
    belief[search.belief_index[part]] = search.belief_value[part]
    return belief


def _case_arrays(problem: Problem, case: NDArray[np.int64]) -> dict[str, NDArray]:
    """The part of the model that the cases (x * A + a) need."""
    model, A = problem.model, problem.num_actions
    state, action = case // A, case % A
    sizes = np.diff(model.pair_start)
    row_start = np.concatenate([[0], np.cumsum(np.repeat(sizes, A))])
    outcome_start, outcome = gather_rows(model.outcome_start, case)
    hidden_start, pair = gather_rows(model.pair_start, state)
    _, row = gather_rows(row_start, case)
    entry_start, entry = gather_rows(model.rows["entry"], row)
    rows = np.zeros(len(row) + 1, dtype=ROW)
    rows["entry"] = entry_start
    rows["reward"][:-1] = model.rows["reward"][row]
    return {
        "states": state.astype(np.int32),
        "actions": action.astype(np.int32),
        "outcome_start": outcome_start,
        "labels": problem.outcome_label[outcome],
        "rewards": problem.outcome_reward[outcome],
        "hidden_start": hidden_start,
        "hidden": problem.pair_hidden[pair],
        "rows": rows,
        "entries": model.entries[entry],
    }


class _Names:
    """One number for each thing that can attain a lower bound.

    An alpha vector j is j; being sure in pair p is `alphas + p`; the best action of belief node n is
    `alphas + pairs + n`.
    """

    def __init__(self, engine: Engine) -> None:
        problem, search = engine.problem, engine.search
        self.problem, self.search = problem, search
        self.base = engine.num_base
        self.alphas = int(search.counts[ALPHAS])
        self.pairs = int(problem.model.pair_start[-1])
        self.total = self.alphas + self.pairs + int(search.counts[NODES])

    def of_nodes(self, n: NDArray) -> NDArray[np.int64]:
        """What attains the lower bound of each belief node."""
        node = self.search.nodes[n]
        link = self.of_links(node["alpha"], node["state"])
        return np.where(node["own"] > node["lower"], self.alphas + self.pairs + n, link)

    def of_links(self, link: NDArray, state: NDArray) -> NDArray[np.int64]:
        """What a link into each observed state stands for."""
        sure = self.alphas + self.problem.model.pair_start[state] - 1 - link
        return np.where(link >= 0, link, sure).astype(np.int64)

    def follow(self, key: NDArray[np.int64]) -> tuple[NDArray, NDArray, NDArray]:
        """Observed state and action of each of the sorted `key`, and what to go on with after each outcome."""
        own, sure = np.searchsorted(key, [self.alphas + self.pairs, self.alphas])
        parts = []
        if sure > 0:
            parts.append(self._follow_alphas(key[:sure]))
        if own > sure:
            parts.append(self._follow_sure(key[sure:own] - self.alphas))
        if len(key) > own:
            parts.append(self._follow_own(key[own:] - self.alphas - self.pairs))
        state, action, links = (np.concatenate(part) for part in zip(*parts, strict=True))
        return state, action, links

    def _outcomes(self, state: NDArray, action: NDArray) -> tuple[NDArray, NDArray]:
        """Where the outcomes of each begin, one after the other, and their successors."""
        start, outcome = gather_rows(
            self.problem.model.outcome_start, state * self.problem.num_actions + action
        )
        return start, self.problem.model.successors[outcome]

    def _follow_alphas(self, alpha: NDArray) -> tuple[NDArray, NDArray, NDArray]:
        records = self.search.alphas[alpha]
        state, action = records["state"], records["action"]
        start, successor = self._outcomes(state, action)
        links = np.empty(len(successor), dtype=np.int64)
        # The first vectors come first. Memoryless policy k goes on as it is: its vector in state x is k X + x.
        base = np.searchsorted(alpha, self.base)
        owner = np.repeat(alpha[:base] - state[:base], np.diff(start[: base + 1]))
        links[: start[base]] = owner + successor[: start[base]]
        first = records["links"][base:] - start[base:-1]
        place = np.arange(start[base], start[-1]) + np.repeat(first, np.diff(start[base:]))
        links[start[base] :] = self.of_links(self.search.links[place], successor[start[base] :])
        return state, action, links

    def _follow_sure(self, pair: NDArray) -> tuple[NDArray, NDArray, NDArray]:
        model, A = self.problem.model, self.problem.num_actions
        state = np.searchsorted(model.pair_start, pair, side="right") - 1
        begin = model.pair_start[state]
        size = model.pair_start[state + 1] - begin
        row = (A - 1) * begin + pair
        action = model.rows["bound"][row[:, None] + size[:, None] * np.arange(A)].argmax(axis=1)
        start, successor = self._outcomes(state, action)
        ends, entry = gather_rows(model.rows["entry"], row + action * size)
        entries = model.entries[entry]
        place = np.repeat(start[:-1], np.diff(ends)) + entries["outcome"]
        links = self._anything(successor)
        links[place] = self.alphas + model.pair_start[successor[place]] + entries["hidden"]
        return state, action, links

    def _follow_own(self, n: NDArray) -> tuple[NDArray, NDArray, NDArray]:
        nodes = self.search.nodes[n]
        state, action = nodes["state"].astype(np.int64), nodes["best"]
        start, successor = self._outcomes(state, action)
        records = self.search.actions[nodes["actions"] + action]
        owner = np.repeat(np.arange(len(n)), records["count"])
        place = np.arange(len(owner)) - np.repeat(
            np.cumsum(records["count"]) - records["count"], records["count"]
        )
        children = self.search.children[records["children"][owner] + place]
        links = self._anything(successor)
        links[start[owner] + children["outcome"]] = self.of_nodes(children["node"])
        return state, action, links

    def _anything(self, successor: NDArray) -> NDArray[np.int64]:
        """After what cannot be, any vector will do."""
        return self.search.states["default"][successor].astype(np.int64)
