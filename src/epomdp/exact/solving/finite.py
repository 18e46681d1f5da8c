"""The exact mode: where few beliefs matter, their MDP is solved on the graph of beliefs itself."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from epomdp.exact.compiled import compiled
from epomdp.exact.solving.engine import Engine
from epomdp.exact.solving.model import Problem
from epomdp.exact.solving.nodes import expand, open_node, part, refresh_lower, refresh_upper
from epomdp.exact.solving.records import FULL, LOWER, NODES, UPDATES, UPPER
from epomdp.exact.solving.search import evaluate

# A pass shrinks the gap by the discount at least; near 1 that takes too many.
_MOST_PASSES = 200_000
_CLOSED, _FULL, _STUCK, _MOVING = range(4)


def finish(engine: Engine, gap: float, most_nodes: int, stop: Callable[[], bool] | None = None) -> bool:
    """Close the gap at the start on the graph of beliefs, with at most `most_nodes` of them; whether that worked.

    LAO* with two bounds (Hansen and Zilberstein 2001): pass after pass, the beliefs that actions of the highest
    upper bound lead to are collected, expanded where need be, and backed up in reverse. Bounds are valid at any
    time: a node's `own` lower one is attained by its action `best` and, after it, by what attains the children's.

    Args:
        engine: its bounds at the start are set, if it worked.
        gap: upper minus lower to reach.
        most_nodes: beliefs to hold at most; these count those of the search before.
        stop: asked between passes; true gives up.

    Raises:
        OutOfMemory: there is no room for what was visited.
    """
    queue = np.empty(most_nodes, dtype=np.int32)
    problem = engine.problem
    for _ in range(_MOST_PASSES):
        if engine.search.counts[NODES] > most_nodes or (stop is not None and stop()):
            return False
        code = _pass(problem.model, engine.search, problem.num_actions, queue, gap)
        if code == _FULL and engine.search.counts[FULL]:
            engine.grow()
        elif code != _MOVING:
            return code == _CLOSED
    return False


@compiled
def _pass(m, s, num_actions, queue, gap):
    counts, nodes, actions, children = s.counts, s.nodes, s.actions, s.children
    counts[FULL] = 0
    counts[UPDATES] += 1
    stamp = counts[UPDATES]
    count = 0
    for n in s.roots:
        refresh_lower(m, s, n)
        refresh_upper(m, s, n)
        count = _enter(s, queue, count, n, stamp, 0.25 * gap)
    head = 0
    while head < count:
        n = queue[head]
        head += 1
        a = _greedy(m, s, num_actions, n)
        if a < 0:
            return _FULL
        action = actions[nodes[n].actions + a]
        for i in range(action.children, action.children + action.count):
            count = _enter(s, queue, count, children[i].node, stamp, 0.25 * gap)
            if count < 0:
                return _FULL
    moved = False
    for k in range(count - 1, -1, -1):
        if _back_up(m, s, num_actions, queue[k]):
            moved = True
    lower = 0.0
    upper = 0.0
    for i in range(s.roots.shape[0]):
        lower += s.root_weights[i] * _lower(nodes[s.roots[i]])
        upper += s.root_weights[i] * nodes[s.roots[i]].upper
    if upper - lower > gap:
        return _MOVING if moved else _STUCK
    s.bounds[LOWER] = lower
    s.bounds[UPPER] = upper
    return _CLOSED


@part
def _lower(node):
    return max(node.lower, node.own)


@part
def _greedy(m, s, num_actions, n):
    """The action of the highest upper bound, expanded; -1 if the arrays are full."""
    if not open_node(m, s, num_actions, n):
        return -1
    actions, node = s.actions, s.nodes[n]
    while True:
        best = node.actions
        for a in range(node.actions + 1, node.actions + num_actions):
            if actions[a].upper > actions[best].upper:
                best = a
        if actions[best].children >= 0:
            return best - node.actions
        if not expand(m, s, num_actions, n, best - node.actions):
            return -1
        evaluate(m, s, n, best - node.actions)


@part
def _enter(s, queue, count, n, stamp, slack):
    """Append node n unless it is in the queue or its bounds agree; the new count, -1 if there is no room."""
    node = s.nodes[n]
    if count < 0 or node.mark == stamp or node.upper - _lower(node) <= slack:
        return count
    if count == queue.shape[0]:
        return -1
    node.mark = stamp
    queue[count] = n
    return count + 1


@part
def _back_up(m, s, num_actions, n):
    """Back both bounds of node n up from the children as they stand; whether one moved."""
    node, nodes, actions, children = s.nodes[n], s.nodes, s.actions, s.children
    moved = False
    best = -np.inf
    for a in range(num_actions):
        action = actions[node.actions + a]
        if action.children >= 0:
            lower = 0.0
            upper = 0.0
            for i in range(action.children, action.children + action.count):
                lower += children[i].probability * _lower(nodes[children[i].node])
                upper += children[i].probability * nodes[children[i].node].upper
            action.upper = min(action.upper, action.reward + m.discount * upper)
            lower = action.reward + m.discount * lower
            if lower > _lower(node):
                moved = True
                node.own = lower
                node.best = a
        best = max(best, action.upper)
    if best < node.upper:
        moved = True
        node.upper = best
    return moved


def finite_beliefs(problem: Problem) -> bool:
    """Whether what is seen rules hidden values out and tells no more, so that few beliefs can come up.

    So it is if the hidden part never changes and each outcome is equally likely for all hidden values that can
    show it, those outcomes aside that lead to a state that nothing leaves and that pays nothing.
    """
    model, A = problem.model, problem.num_actions
    X = len(model.pair_start) - 1
    sizes = np.diff(model.pair_start)
    outcome_owner = np.repeat(np.arange(X * A) // A, np.diff(model.outcome_start))
    changes = outcome_owner != model.successors
    row_state = np.repeat(np.arange(X), A * sizes)
    ended = np.ones(X, dtype=np.bool_)
    ended[row_state[model.rows["reward"][:-1] != 0.0]] = False
    ended[outcome_owner[changes]] = False
    likelihood = np.full(len(model.successors), -1.0)
    return problem.static and _same_likelihoods(model, A, ended, likelihood)


@compiled
def _same_likelihoods(m, num_actions, ended, likelihood):
    rows, entries, pair_start = m.rows, m.entries, m.pair_start
    for x in range(pair_start.shape[0] - 1):
        size = pair_start[x + 1] - pair_start[x]
        for a in range(num_actions):
            first = m.outcome_start[x * num_actions + a]
            row0 = num_actions * pair_start[x] + a * size
            for e in range(rows[row0].entry, rows[row0 + size].entry):
                o = first + entries[e].outcome
                if likelihood[o] < 0.0:
                    likelihood[o] = entries[e].probability
                elif abs(likelihood[o] - entries[e].probability) > 1e-12 and not ended[m.successors[o]]:
                    return False
    return True
