"""The exact mode: where few beliefs matter, their MDP is solved on the graph of beliefs itself."""

from __future__ import annotations

import numpy as np

from epomdp.exact.compiled import compiled
from epomdp.exact.engine import Engine
from epomdp.exact.nodes import (
    FULL,
    LOWER,
    NODES,
    OWN,
    UPDATES,
    UPPER,
    expand,
    open_node,
    part,
    refresh_lower,
    refresh_upper,
)
from epomdp.exact.search import evaluate

# Passes without any change after which rounding is all that is left.
_CLOSED, _FULL, _STUCK, _PAUSED = range(4)


def finish(engine: Engine, gap: float, most_nodes: int, most_passes: int = 100_000) -> bool:
    """Close the gap at the start on the graph of beliefs, with at most `most_nodes` of them; whether that worked.

    LAO* with two bounds (Hansen and Zilberstein 2001): pass after pass, the beliefs that actions of the highest
    upper bound lead to are collected, expanded where need be, and backed up in reverse. Bounds are valid at any
    time: a lower one is attained by the node's action `best` and, after it, by what attains the children's.

    Raises:
        OutOfMemory: there is no room for what was visited.
    """
    queue = np.empty(most_nodes, dtype=np.int32)
    code = _PAUSED
    for _ in range(most_passes):
        code = _pass(engine.problem.model, engine.search, engine.problem.num_actions, queue, gap)
        if code == _FULL and engine.search.counts[FULL]:
            engine.grow()
        elif code != _PAUSED or engine.search.counts[NODES] > most_nodes:
            break
    if code != _CLOSED:
        _forget(engine.problem.model, engine.search)
    return code == _CLOSED


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
    moved = False
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
    for k in range(count - 1, -1, -1):
        if _back_up(m, s, num_actions, queue[k]):
            moved = True
    s.bounds[LOWER] = 0.0
    s.bounds[UPPER] = 0.0
    for i in range(s.roots.shape[0]):
        s.bounds[LOWER] += s.root_weights[i] * nodes[s.roots[i]].lower
        s.bounds[UPPER] += s.root_weights[i] * nodes[s.roots[i]].upper
    if s.bounds[UPPER] - s.bounds[LOWER] <= gap:
        return _CLOSED
    return _PAUSED if moved else _STUCK


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
    if count < 0 or node.mark == stamp or node.upper - node.lower <= slack:
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
                lower += children[i].probability * nodes[children[i].node].lower
                upper += children[i].probability * nodes[children[i].node].upper
            action.upper = min(action.upper, action.reward + m.discount * upper)
            lower = action.reward + m.discount * lower
            if lower > node.lower:
                moved = True
                node.lower = lower
                node.alpha = OWN
                node.best = a
        best = max(best, action.upper)
    if best < node.upper:
        moved = True
        node.upper = best
    return moved


@compiled
def _forget(m, s):
    """Lower bounds that no alpha vector attains are taken back, so that the search can go on."""
    for n in range(s.counts[NODES]):
        node = s.nodes[n]
        if node.alpha == OWN:
            node.lower = -np.inf
            node.alpha = -1
            node.alpha_seen = -1
            refresh_lower(m, s, n)
