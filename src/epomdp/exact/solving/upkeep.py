"""Housekeeping of the search: starts, weeding, and the hash table."""

from __future__ import annotations

from epomdp.exact.compiled import compiled
from epomdp.exact.solving.nodes import find_node, refresh_lower, refresh_upper
from epomdp.exact.solving.records import LIVE_ALPHAS, LIVE_EVENTS, NODES, UPDATES
from epomdp.exact.solving.search import worth_logging


@compiled
def compact(m, s, num_kept):
    """Keep the alpha vectors that are best at some opened node, and the points that no others make idle.

    The first `num_kept` vectors stay. Vectors that go are compared with no more, but others may link to them.
    """
    counts, nodes, states, active, alphas, events = s.counts, s.nodes, s.states, s.active, s.alphas, s.events
    counts[UPDATES] += 1
    stamp = counts[UPDATES]
    for n in range(counts[NODES]):
        if nodes[n].actions >= 0:
            refresh_lower(m, s, n)
            refresh_upper(m, s, n)
            if nodes[n].alpha >= 0:
                alphas[nodes[n].alpha].mark = stamp
    counts[LIVE_ALPHAS] = 0
    counts[LIVE_EVENTS] = 0
    for x in range(states.shape[0]):
        state = states[x]
        alphas[state.default].mark = stamp
        kept = state.alpha_begin
        for k in range(state.alpha_begin, state.alpha_begin + state.alpha_count):
            j = active[k]
            if j < num_kept or alphas[j].mark == stamp:
                active[kept] = j
                kept += 1
        state.alpha_count = kept - state.alpha_begin
        counts[LIVE_ALPHAS] += state.alpha_count
        kept = state.event_begin
        for k in range(state.event_begin, state.event_begin + state.event_count):
            node = nodes[events[k].node]
            # Had the node itself lowered its bound that far since, it would have logged it.
            if events[k].serial == node.event and not worth_logging(s, node):
                node.gain = node.informed - node.upper
                if kept < k:
                    events[kept] = events[k]
                events[kept].gain = node.gain
                kept += 1
        state.event_count = kept - state.event_begin
        counts[LIVE_EVENTS] += state.event_count


@compiled
def add_root(m, s, num_actions, x, belief):
    """Node of a start belief; -1 if the arrays are full."""
    size = 0
    for y in range(belief.shape[0]):
        if belief[y] > 0.0:
            s.fresh_index[size] = y
            s.fresh_value[size] = belief[y]
            size += 1
    return find_node(m, s, num_actions, x, size)


@compiled
def rehash(nodes, count, table):
    """Fill an empty hash table with the first `count` nodes."""
    for n in range(count):
        place = nodes[n].code & (table.shape[0] - 1)
        while table[place] >= 0:
            place = (place + 1) & (table.shape[0] - 1)
        table[place] = n
