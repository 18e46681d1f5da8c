"""Trial-based search between two bounds (HSVI2, Smith & Simmons 2005; SARSOP, Kurniawati et al. 2008): kernels."""

from __future__ import annotations

import numpy as np

from epomdp.exact.compiled import compiled
from epomdp.exact.solving.nodes import expand, open_node, part, refresh_lower, refresh_upper
from epomdp.exact.solving.records import (
    ACTIVE,
    ALPHAS,
    BACKUPS,
    EVENTS,
    FLOOR,
    FULL,
    LINKS,
    LIVE_ALPHAS,
    LIVE_EVENTS,
    LOWER,
    MOST_ALPHAS,
    MOST_EVENTS,
    SERIAL,
    TOLERANCE,
    TRIALS,
    UPDATES,
    UPPER,
    VALUES,
)

SOLVED, PAUSED, GROW, COMPACT = range(4)
# A trial closes what it meets to this share of the gap at the start, so that each needs a few nodes only.
_SHARE = 0.65
# A node's upper bound is logged for the others when it fell by this share of the node's gap.
_WORTH_LOGGING = 0.05


@part
def evaluate(m, s, n, a):
    """Back both bounds of action a up from its children."""
    nodes, children = s.nodes, s.children
    action = s.actions[nodes[n].actions + a]
    lower = 0.0
    upper = 0.0
    for i in range(action.children, action.children + action.count):
        c = children[i].node
        refresh_lower(m, s, c)
        refresh_upper(m, s, c)
        lower += children[i].probability * nodes[c].lower
        upper += children[i].probability * nodes[c].upper
    action.lower = action.reward + m.discount * lower
    action.upper = min(action.upper, action.reward + m.discount * upper)


@part
def _update(m, s, num_actions, n):
    """Back the upper bound of node n up; the action that attains it, or -1 if the arrays are full.

    An action's first bound costs nothing, so actions are expanded only while they look best.
    """
    if not open_node(m, s, num_actions, n):
        return -1
    actions, node = s.actions, s.nodes[n]
    s.counts[UPDATES] += 1
    stamp = s.counts[UPDATES]
    best = -1
    while True:
        best = node.actions
        for a in range(node.actions + 1, node.actions + num_actions):
            if actions[a].upper > actions[best].upper:
                best = a
        if actions[best].tried == stamp:
            break
        if actions[best].children < 0 and not expand(m, s, num_actions, n, best - node.actions):
            return -1
        evaluate(m, s, n, best - node.actions)
        actions[best].tried = stamp
    refresh_lower(m, s, n)
    refresh_upper(m, s, n)
    if actions[best].upper < node.upper:
        node.upper = actions[best].upper
        if worth_logging(s, node):
            _log_event(s, n)
    return best - node.actions


@part
def worth_logging(s, node):
    fell = node.informed - node.upper - node.gain
    return fell > _WORTH_LOGGING * (node.upper - node.lower) + s.bounds[TOLERANCE]


@part
def _log_event(s, n):
    """Tell the other nodes of the same observed state that the upper bound of node n fell."""
    node, events, counts = s.nodes[n], s.events, s.counts
    state = s.states[node.state]
    if state.event_count == state.event_capacity:
        capacity = max(8, 2 * state.event_count)
        top = counts[EVENTS]
        if top + capacity > events.shape[0]:
            counts[FULL] = 1 + EVENTS
            return
        for i in range(state.event_count):
            events[top + i] = events[state.event_begin + i]
        state.event_begin = top
        state.event_capacity = capacity
        counts[EVENTS] += capacity
    event = events[state.event_begin + state.event_count]
    event.node = n
    event.gain = node.informed - node.upper
    event.signature = node.signature
    event.serial = counts[SERIAL]
    state.event_count += 1
    node.gain = event.gain
    node.event = event.serial
    node.event_seen = event.serial
    counts[SERIAL] += 1
    counts[LIVE_EVENTS] += 1


@part
def _backup(m, s, num_actions, n):
    """Add the alpha vector of node n's best expanded action, if it raises the lower bound."""
    node, nodes, actions, children = s.nodes[n], s.nodes, s.actions, s.children
    best = -1
    most = node.lower + s.bounds[TOLERANCE]
    for a in range(num_actions):
        action = actions[node.actions + a]
        if action.children < 0:
            continue
        lower = 0.0
        for i in range(action.children, action.children + action.count):
            lower += children[i].probability * nodes[children[i].node].lower
        action.lower = action.reward + m.discount * lower
        if action.lower > most:
            most = action.lower
            best = a
    if best >= 0:
        _add_alpha(m, s, num_actions, n, best)


@part
def _add_alpha(m, s, num_actions, n, a):
    node, alphas, counts, links = s.nodes[n], s.alphas, s.counts, s.links
    x = node.state
    state = s.states[x]
    size = m.pair_start[x + 1] - m.pair_start[x]
    first = m.outcome_start[x * num_actions + a]
    outcomes = m.outcome_start[x * num_actions + a + 1] - first
    link = counts[LINKS]
    new = counts[ALPHAS]
    begin = counts[VALUES]
    if link + outcomes > links.shape[0]:
        counts[FULL] = 1 + LINKS
    elif begin + size > s.alpha_value.shape[0]:
        counts[FULL] = 1 + VALUES
    elif new == alphas.shape[0]:
        counts[FULL] = 1 + ALPHAS
    elif state.alpha_count < state.alpha_capacity or _widen(s, x):
        for o in range(outcomes):
            links[link + o] = s.states[m.successors[first + o]].default
        action = s.actions[node.actions + a]
        for i in range(action.children, action.children + action.count):
            links[link + s.children[i].outcome] = s.nodes[s.children[i].node].alpha
        total = _fill_alpha(m, s, num_actions, x, a, link, begin)
        alphas[new].begin = begin
        alphas[new].links = link
        alphas[new].state = x
        alphas[new].action = a
        alphas[new].mark = 0
        counts[ALPHAS] += 1
        counts[VALUES] += size
        counts[LINKS] += outcomes
        counts[LIVE_ALPHAS] += 1
        s.active[state.alpha_begin + state.alpha_count] = new
        state.alpha_count += 1
        if total > state.default_total:
            state.default_total = total
            state.default = new
        refresh_lower(m, s, n)


@part
def _widen(s, x):
    """Move the active vectors of x to a block of twice the size; false if full."""
    state, active, counts = s.states[x], s.active, s.counts
    capacity = max(8, 2 * state.alpha_count)
    top = counts[ACTIVE]
    if top + capacity > active.shape[0]:
        counts[FULL] = 1 + ACTIVE
        return False
    for i in range(state.alpha_count):
        active[top + i] = active[state.alpha_begin + i]
    state.alpha_begin = top
    state.alpha_capacity = capacity
    counts[ACTIVE] += capacity
    return True


@part
def _fill_alpha(m, s, num_actions, x, a, link, begin):
    """alpha(y) = R(x, a, y) + discount sum_o sum_y' L_o(y, y') alpha_o(y') with the vectors in `links`; its sum."""
    rows, entries, work, value = m.rows, m.entries, s.work, s.alpha_value
    first = m.outcome_start[x * num_actions + a]
    for o in range(m.outcome_start[x * num_actions + a + 1] - first):
        work[o].link = s.links[link + o]
        work[o].offset = s.alphas[max(0, work[o].link)].begin
    size = m.pair_start[x + 1] - m.pair_start[x]
    row0 = num_actions * m.pair_start[x] + a * size
    total = 0.0
    for y in range(size):
        mean = 0.0
        for e in range(rows[row0 + y].entry, rows[row0 + y + 1].entry):
            outcome = work[entries[e].outcome]
            if outcome.link >= 0:
                follow = value[outcome.offset + entries[e].hidden]
            elif outcome.link == -1 - entries[e].hidden:
                follow = s.corner[m.pair_start[m.successors[first + entries[e].outcome]] + entries[e].hidden]
            else:
                follow = s.bounds[FLOOR]
            mean += entries[e].probability * follow
        value[begin + y] = rows[row0 + y].reward + m.discount * mean
        total += value[begin + y]
    return total


@part
def _worst_root(m, s):
    """Bring the bounds at the start up to date; the root with the largest share of the gap."""
    most = -1.0
    worst = -1
    s.bounds[LOWER] = 0.0
    s.bounds[UPPER] = 0.0
    for i in range(s.roots.shape[0]):
        refresh_lower(m, s, s.roots[i])
        refresh_upper(m, s, s.roots[i])
        node = s.nodes[s.roots[i]]
        s.bounds[LOWER] += s.root_weights[i] * node.lower
        s.bounds[UPPER] += s.root_weights[i] * node.upper
        if s.root_weights[i] * (node.upper - node.lower) > most:
            most = s.root_weights[i] * (node.upper - node.lower)
            worst = s.roots[i]
    return worst


@part
def _worst_child(s, n, a, slack):
    """Child with the largest excess, P(o) (upper - lower - slack); -1 if none is positive (HSVI's choice)."""
    action = s.actions[s.nodes[n].actions + a]
    most = 0.0
    worst = -1
    for i in range(action.children, action.children + action.count):
        child = s.nodes[s.children[i].node]
        excess = s.children[i].probability * (child.upper - child.lower - slack)
        if excess > most:
            most = excess
            worst = s.children[i].node
    return worst


@compiled
def run(m, s, num_actions, gap, max_backups):
    """Trials until the gap at the start is closed, the backups are used up, or there is housekeeping to do.

    A trial walks down where the bounds differ most for the start, then backs both bounds up on the way back.
    """
    counts, path = s.counts, s.path
    limit = counts[BACKUPS] + max_backups
    counts[FULL] = 0
    while True:
        n = _worst_root(m, s)
        if s.bounds[UPPER] - s.bounds[LOWER] <= gap:
            return SOLVED
        if counts[FULL] != 0:
            return GROW
        if counts[LIVE_ALPHAS] > counts[MOST_ALPHAS] or counts[LIVE_EVENTS] > counts[MOST_EVENTS]:
            return COMPACT
        if counts[BACKUPS] >= limit:
            return PAUSED
        slack = _SHARE * (s.nodes[n].upper - s.nodes[n].lower)
        depth = 0
        down = True
        while depth >= 0:
            a = _update(m, s, num_actions, n)
            following = -1
            if down and a >= 0 and depth + 1 < path.shape[0]:
                # Without a future, what the children are worth does not matter.
                slack = slack / m.discount if m.discount > 0.0 else np.inf
                following = _worst_child(s, n, a, slack)
            path[depth] = n
            if following >= 0:
                depth += 1
                n = following
                continue
            down = False
            if a >= 0:
                _backup(m, s, num_actions, n)
            counts[BACKUPS] += 1
            depth -= 1
            n = path[max(0, depth)]
        counts[TRIALS] += 1
