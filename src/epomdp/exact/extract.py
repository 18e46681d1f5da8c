"""From a finished search to its policy: the vectors and nodes that attain the lower bound, linked to a controller."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from epomdp.exact.family import gather_rows
from epomdp.exact.model import ROW, Problem
from epomdp.exact.policy import SolvedPolicy
from epomdp.exact.records import ALPHAS, NODES, Search


def extract_policy(problem: Problem, search: Search, alphas: NDArray[np.int32] | None = None) -> SolvedPolicy:
    """The controller that attains the lower bound at the start, of the nodes that it can come to.

    Args:
        problem: what was solved.
        search: where it was solved.
        alphas: (R,) vectors to start with, in place of those that attain the lower bound.
    """
    names = _Names(problem, search)
    roots = search.nodes[search.roots]
    keys = names.of_nodes(search.roots) if alphas is None else names.of_links(alphas, roots["state"])
    known, actions, following = [], [], []
    order = np.full(names.total, -1, dtype=np.int64)
    count = 0
    frontier = np.unique(keys)
    while frontier.size:
        order[frontier] = count + np.arange(frontier.size)
        count += frontier.size
        action, links = names.follow(frontier)
        known.append(frontier)
        actions.append(action)
        following.append(links)
        frontier = np.unique(links[order[links] < 0])
    key, action = np.concatenate(known), np.concatenate(actions)
    state = names.state(key)
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

    def __init__(self, problem: Problem, search: Search) -> None:
        self.problem, self.search = problem, search
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

    def state(self, key: NDArray[np.int64]) -> NDArray[np.int64]:
        """The observed state of each."""
        alpha, pair = key < self.alphas, key - self.alphas
        state = np.searchsorted(self.problem.model.pair_start, pair, side="right") - 1
        node = np.maximum(0, pair - self.pairs)
        state = np.where(pair >= self.pairs, self.search.nodes["state"][node], state)
        return np.where(alpha, self.search.alphas["state"][np.where(alpha, key, 0)], state)

    def follow(self, key: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """The action of each, and what to go on with after each outcome, one after the other."""
        model, A = self.problem.model, self.problem.num_actions
        state = self.state(key)
        pair = key - self.alphas
        alpha, own = key < self.alphas, pair >= self.pairs
        sure = ~alpha & ~own
        action = np.zeros(len(key), dtype=np.int64)
        action[alpha] = self.search.alphas["action"][key[alpha]]
        action[own] = self.search.nodes["best"][pair[own] - self.pairs]
        action[sure] = self._best_actions(state[sure], pair[sure])
        case = state * A + action
        start, outcome = gather_rows(model.outcome_start, case)
        successor = model.successors[outcome]
        # After what cannot be, any vector will do.
        links = self.search.states["default"][successor].astype(np.int64)
        self._fill_alphas(key, start, alpha, successor, links)
        if own.any():
            first = self.search.nodes["actions"][pair[own] - self.pairs] + action[own]
            self._fill_own(self.search.actions[first], start[:-1][own], links)
        if sure.any():
            self._fill_sure(state[sure], action[sure], pair[sure], start[:-1][sure], successor, links)
        return action, links

    def _best_actions(self, state: NDArray, pair: NDArray) -> NDArray[np.int64]:
        """What is best where the hidden value of a pair is known."""
        model, A = self.problem.model, self.problem.num_actions
        begin = model.pair_start[state]
        size = model.pair_start[state + 1] - begin
        row = (A - 1) * begin + pair
        return model.rows["bound"][row[:, None] + size[:, None] * np.arange(A)].argmax(axis=1)

    def _fill_alphas(self, key, start, alpha, successor, links) -> None:
        owner = np.repeat(np.arange(len(key)), np.diff(start))
        first = self.search.alphas["links"][np.where(alpha, key, 0)]
        X = len(self.problem.model.pair_start) - 1
        memoryless = (alpha & (first < 0))[owner]
        links[memoryless] = (key[owner] // X * X + successor)[memoryless]
        linked = (alpha & (first >= 0))[owner]
        place = (first[owner] + np.arange(len(owner)) - start[owner])[linked]
        links[linked] = self.of_links(self.search.links[place], successor[linked])

    def _fill_own(self, actions, start, links) -> None:
        owner = np.repeat(np.arange(len(actions)), actions["count"])
        ends = np.cumsum(actions["count"])
        place = np.arange(len(owner)) - (ends - actions["count"])[owner]
        children = self.search.children[actions["children"][owner] + place]
        links[start[owner] + children["outcome"]] = self.of_nodes(children["node"])

    def _fill_sure(self, state, action, pair, start, successor, links) -> None:
        model, A = self.problem.model, self.problem.num_actions
        size = model.pair_start[state + 1] - model.pair_start[state]
        row = (A - 1) * model.pair_start[state] + action * size + pair
        ends, entry = gather_rows(model.rows["entry"], row)
        entries = model.entries[entry]
        place = np.repeat(start, np.diff(ends)) + entries["outcome"]
        links[place] = self.alphas + model.pair_start[successor[place]] + entries["hidden"]
