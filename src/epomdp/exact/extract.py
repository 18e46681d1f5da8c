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
        for i in np.flatnonzero(sure):
            x = state[i]
            n = model.pair_start[x + 1] - model.pair_start[x]
            row = A * model.pair_start[x] + pair[i] - model.pair_start[x]
            action[i] = model.rows["bound"][row + n * np.arange(A)].argmax()
        case = state * A + action
        start, outcome = gather_rows(model.outcome_start, case)
        successor = model.successors[outcome]
        # After what cannot be, any vector will do.
        links = self.search.states["default"][successor].astype(np.int64)
        owner = np.repeat(np.arange(len(key)), np.diff(start))
        self._fill_alphas(key, owner, start, alpha, successor, links)
        for i in np.flatnonzero(own):
            action_record = self.search.actions[
                self.search.nodes["actions"][pair[i] - self.pairs] + action[i]
            ]
            children = self.search.children[action_record["children"] :][: action_record["count"]]
            links[start[i] + children["outcome"]] = self.of_nodes(children["node"])
        for i in np.flatnonzero(sure):
            n = model.pair_start[state[i] + 1] - model.pair_start[state[i]]
            row = (A - 1) * model.pair_start[state[i]] + action[i] * n + pair[i]
            entries = model.entries[model.rows["entry"][row] : model.rows["entry"][row + 1]]
            place = start[i] + entries["outcome"]
            links[place] = self.alphas + model.pair_start[successor[place]] + entries["hidden"]
        return action, links

    def _fill_alphas(self, key, owner, start, alpha, successor, links) -> None:
        first = self.search.alphas["links"][np.where(alpha, key, 0)]
        X = len(self.problem.model.pair_start) - 1
        memoryless = (alpha & (first < 0))[owner]
        links[memoryless] = (key[owner] // X * X + successor)[memoryless]
        linked = (alpha & (first >= 0))[owner]
        place = (first[owner] + np.arange(len(owner)) - start[owner])[linked]
        links[linked] = self.of_links(self.search.links[place], successor[linked])
