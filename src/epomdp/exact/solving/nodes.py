"""Beliefs as nodes of a graph: the kernels that find, bound and expand them.

Numba's cache does not see changes of a kernel that another file calls: touch `search.py`, `upkeep.py` and
`finite.py` after a change here.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numba
import numpy as np

from epomdp.exact.solving.records import ACTIONS, BELIEFS, CHILDREN, FULL, NODES

# Beliefs closer than this in every probability are one node.
_SAME = 1e-12


# Parts of other kernels do without the wrappers for calls from Python, which take long to compile.
_PART: dict[str, Any] = {
    "nogil": True,
    "error_model": "numpy",
    "no_cpython_wrapper": True,
    "no_cfunc_wrapper": True,
}


def part(function: Callable[..., Any]) -> Callable[..., Any]:
    """Compile as a part of other kernels, which are the ones to be cached."""
    return numba.njit(**_PART)(function)


# Reordering the sum lets it run in vector registers; the result is the same every time.
@numba.njit(**_PART, fastmath={"reassoc", "contract", "nsz"})
def _dot(a, a0, b, b0, size):
    total = 0.0
    for i in range(size):
        total += a[a0 + i] * b[b0 + i]
    return total


@part
def refresh_lower(m, s, n):
    """Raise the lower bound of node n by the alpha vectors that are newer than the last look."""
    node = s.nodes[n]
    state = s.states[node.state]
    active, alphas, values = s.active, s.alphas, s.alpha_value
    index, belief = s.belief_index, s.belief_value
    dense = node.size == m.pair_start[node.state + 1] - m.pair_start[node.state]
    k = state.alpha_begin + state.alpha_count - 1
    newest = active[k]
    while k >= state.alpha_begin and active[k] > node.alpha_seen:
        at = alphas[active[k]].begin
        value = 0.0
        if dense:
            value = _dot(belief, node.begin, values, at, node.size)
        else:
            for i in range(node.begin, node.begin + node.size):
                value += belief[i] * values[at + index[i]]
        if value > node.lower:
            node.lower = value
            node.alpha = active[k]
        k -= 1
    node.alpha_seen = newest


@part
def refresh_upper(m, s, n):
    """Lower the upper bound of node n by the sawtooth points that are newer than the last look.

    A point p of gain g (informed bound minus upper bound) lowers the bound at b by g min_y b(y) / p(y).
    """
    node = s.nodes[n]
    state = s.states[node.state]
    nodes, events, index, belief, spread = s.nodes, s.events, s.belief_index, s.belief_value, s.fresh_value
    k = state.event_begin + state.event_count - 1
    if state.event_count == 0 or events[k].serial == node.event_seen:
        return
    newest = events[k].serial
    end = node.begin + node.size
    for i in range(node.begin, end):
        spread[index[i]] = belief[i]
    outside = ~node.signature
    cut = node.informed - node.upper
    while k >= state.event_begin and events[k].serial > node.event_seen:
        event = events[k]
        k -= 1
        if event.gain <= cut or (event.signature & outside) != 0:
            continue
        point = nodes[event.node]
        share = cut / event.gain
        j = point.begin
        last = point.begin + point.size
        while j < last and spread[index[j]] > share * belief[j]:
            j += 1
        if j == last:
            share = 1.0
            for i in range(point.begin, last):
                share = min(share, spread[index[i]] / belief[i])
            cut = max(cut, share * event.gain)
    for i in range(node.begin, end):
        spread[index[i]] = 0.0
    node.upper = min(node.upper, node.informed - cut)
    node.event_seen = newest


@part
def _hash(x, size, index, value):
    code = np.int64(x) * 0x1E3779B97F4A7C15 + size
    for i in range(size):
        code = (code ^ (index[i] + 1)) * 0x2545F4914F6CDD1D
        code = (code ^ (code >> 29)) + np.int64(value[i] * 2.0**40 + 0.5)
        code = code * 0x1E3779B97F4A7C15
    return code ^ (code >> 32)


@part
def find_node(m, s, num_actions, x, size):
    """Node of x with the belief in fresh_index and fresh_value (cleared), a new one if need be; -1 if full."""
    nodes, table, index, belief, counts = s.nodes, s.table, s.belief_index, s.belief_value, s.counts
    fresh_index, fresh_value = s.fresh_index, s.fresh_value
    code = _hash(x, size, fresh_index, fresh_value)
    place = code & (table.shape[0] - 1)
    found = -1
    while found < 0 and table[place] >= 0:
        node = nodes[table[place]]
        if node.code == code and node.state == x and node.size == size:
            i = 0
            while (
                i < size
                and index[node.begin + i] == fresh_index[i]
                and abs(belief[node.begin + i] - fresh_value[i]) <= _SAME
            ):
                i += 1
            if i == size:
                found = table[place]
        place = (place + 1) & (table.shape[0] - 1)
    if found < 0:
        if counts[NODES] == nodes.shape[0]:
            counts[FULL] = 1 + NODES
        elif counts[BELIEFS] + size > belief.shape[0]:
            counts[FULL] = 1 + BELIEFS
        else:
            found = counts[NODES]
            nodes[found].code = code
            _new_node(m, s, num_actions, found, x, size)
            place = code & (table.shape[0] - 1)
            while table[place] >= 0:
                place = (place + 1) & (table.shape[0] - 1)
            table[place] = found
    for i in range(size):
        fresh_value[i] = 0.0
    return found


@part
def _new_node(m, s, num_actions, n, x, size):
    node, rows = s.nodes[n], m.rows
    begin = s.counts[BELIEFS]
    s.counts[NODES] += 1
    s.counts[BELIEFS] += size
    node.state = x
    node.size = size
    node.begin = begin
    node.informed = 0.0
    node.signature = 0
    for i in range(size):
        y = s.fresh_index[i]
        s.belief_index[begin + i] = y
        s.belief_value[begin + i] = s.fresh_value[i]
        node.informed += s.fresh_value[i] * s.informed[m.pair_start[x] + y]
        node.signature |= np.int64(1) << (y & 63)
    upper = -np.inf
    for a in range(num_actions):
        row = num_actions * m.pair_start[x] + a * (m.pair_start[x + 1] - m.pair_start[x])
        bound = 0.0
        for i in range(size):
            bound += s.fresh_value[i] * rows[row + s.fresh_index[i]].bound
        upper = max(upper, bound)
    node.upper = min(node.informed, upper)
    node.lower = -np.inf
    node.own = -np.inf
    node.alpha = -1
    if size == 1 and s.corner.shape[0] > 0:
        node.lower = s.corner[m.pair_start[x] + s.fresh_index[0]]
        node.alpha = -1 - s.fresh_index[0]
    node.gain = 0.0
    node.alpha_seen = -1
    node.event_seen = -1
    node.event = -1
    node.actions = -1
    node.mark = 0


@part
def open_node(m, s, num_actions, n):
    """Give node n its action records, each with the bound of being told all after it; false if full."""
    node, rows, belief, counts = s.nodes[n], m.rows, s.belief_value, s.counts
    if node.actions >= 0:
        return True
    if counts[ACTIONS] + num_actions > s.actions.shape[0]:
        counts[FULL] = 1 + ACTIONS
        return False
    node.actions = counts[ACTIONS]
    counts[ACTIONS] += num_actions
    for a in range(num_actions):
        row0 = num_actions * m.pair_start[node.state]
        row0 += a * (m.pair_start[node.state + 1] - m.pair_start[node.state])
        action = s.actions[node.actions + a]
        action.upper = 0.0
        action.lower = -np.inf
        action.reward = 0.0
        action.children = -1
        action.count = 0
        action.tried = 0
        for i in range(node.begin, node.begin + node.size):
            row = row0 + s.belief_index[i]
            action.upper += belief[i] * rows[row].bound
            action.reward += belief[i] * rows[row].reward
    return True


@part
def expand(m, s, num_actions, n, a):
    """Make the children of node n under action a, one for each outcome with positive probability; false if full."""
    node, rows, entries, work, value, counts = s.nodes[n], m.rows, m.entries, s.work, s.work_value, s.counts
    first = m.outcome_start[node.state * num_actions + a]
    outcomes = m.outcome_start[node.state * num_actions + a + 1] - first
    top = counts[CHILDREN]
    if top + outcomes > s.children.shape[0]:
        counts[FULL] = 1 + CHILDREN
        return False
    offset = 0
    for o in range(outcomes):
        work[o].offset = offset
        work[o].mass = 0.0
        offset += m.pair_start[m.successors[first + o] + 1] - m.pair_start[m.successors[first + o]]
    row0 = num_actions * m.pair_start[node.state]
    row0 += a * (m.pair_start[node.state + 1] - m.pair_start[node.state])
    for i in range(node.begin, node.begin + node.size):
        row = row0 + s.belief_index[i]
        for e in range(rows[row].entry, rows[row + 1].entry):
            mass = s.belief_value[i] * entries[e].probability
            outcome = work[entries[e].outcome]
            value[outcome.offset + entries[e].hidden] += mass
            outcome.mass += mass
    full = False
    for o in range(outcomes):
        if work[o].mass <= 0.0:
            continue
        successor = m.successors[first + o]
        offset = work[o].offset
        size = 0
        for y in range(m.pair_start[successor + 1] - m.pair_start[successor]):
            if value[offset + y] > 0.0:
                s.fresh_index[size] = y
                s.fresh_value[size] = value[offset + y] / work[o].mass
                value[offset + y] = 0.0
                size += 1
        child = s.children[counts[CHILDREN]]
        child.node = find_node(m, s, num_actions, successor, size)
        child.outcome = o
        child.probability = work[o].mass
        counts[CHILDREN] += 1
        full = full or child.node < 0
    action = s.actions[node.actions + a]
    action.children = -1 if full else top
    action.count = counts[CHILDREN] - top
    if full:
        counts[CHILDREN] = top
    return not full
