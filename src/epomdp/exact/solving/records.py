"""What the search keeps: records of beliefs, actions, vectors and points, in flat arrays."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

NODE = np.dtype(
    [
        ("state", "i4"),  # x
        ("size", "i4"),  # number of hidden values of positive probability
        ("begin", "i8"),  # first place in belief_index and belief_value
        ("code", "i8"),  # hash of x and the belief
        ("signature", "i8"),  # bit y % 64 is set for each y of positive probability
        ("lower", "f8"),
        ("own", "f8"),  # lower bound that its action `best` attains; only the exact mode knows one
        ("upper", "f8"),
        ("informed", "f8"),  # upper bound of being told the hidden value
        ("gain", "f8"),  # `informed` minus the upper bound that was logged last
        ("alpha", "i4"),  # vector that attains `lower`; -1 - y for being sure of y
        ("alpha_seen", "i4"),  # newest alpha vector of x compared with
        ("event_seen", "i4"),  # newest event of x compared with
        ("event", "i4"),  # the node's own newest event, -1 if none
        ("actions", "i4"),  # its first action record, -1 if not opened
        ("best", "i4"),
        ("mark", "i4"),
    ],
    align=True,
)
ACTION = np.dtype(
    [
        ("upper", "f8"),
        ("lower", "f8"),
        ("reward", "f8"),
        ("children", "i8"),  # first child, -1 if not expanded
        ("count", "i4"),
        ("tried", "i4"),
    ],
    align=True,
)
CHILD = np.dtype([("node", "i4"), ("outcome", "i4"), ("probability", "f8")], align=True)
ALPHA = np.dtype(
    [
        ("begin", "i8"),  # first place in alpha_value
        ("links", "i8"),  # first place in links: the vector to go on with after each outcome; -1: memoryless
        ("state", "i4"),
        ("action", "i4"),
        ("mark", "i4"),
    ],
    align=True,
)
EVENT = np.dtype([("gain", "f8"), ("signature", "i8"), ("node", "i4"), ("serial", "i4")], align=True)
STATE = np.dtype(
    [
        ("alpha_begin", "i8"),  # block of `active`: the alpha vectors of x in use, oldest first
        ("alpha_capacity", "i4"),
        ("alpha_count", "i4"),
        ("event_begin", "i8"),  # block of `events`: upper bounds of nodes of x as they fell, oldest first
        ("event_capacity", "i4"),
        ("event_count", "i4"),
        ("default", "i4"),  # vector to go on with after outcomes that the belief rules out
        ("default_total", "f8"),
    ],
    align=True,
)
WORK = np.dtype([("offset", "i8"), ("mass", "f8"), ("link", "i4")], align=True)

# Places in Search.counts: how much of each array is used ...
NODES, ACTIONS, CHILDREN, BELIEFS, VALUES, ALPHAS, LINKS, ACTIVE, EVENTS = range(9)
# ... which one is full (0: none; else 1 + its place), what has been done, what is in use.
FULL, BACKUPS, TRIALS, UPDATES, SERIAL, LIVE_ALPHAS, LIVE_EVENTS, MOST_ALPHAS, MOST_EVENTS = range(9, 18)
NUM_COUNTS = 18
# Places in Search.bounds.
LOWER, UPPER, FLOOR, TOLERANCE = range(4)


class Search(NamedTuple):
    """Everything the search knows, in arrays that grow; `counts` says how far each is filled.

    Attributes:
        counts: (18,) int64, see NODES and so on.
        bounds: (4,) float64: at the start from below and above; least value of anything; least improvement.
        informed: (pairs,) upper bounds of being told the hidden value.
        corner: (pairs,) attained when sure of the hidden value; empty where the hidden part can change.
        table: hash table of nodes, -1 where free; its length is a power of 2.
        roots, root_weights: (R,) nodes of the starts and their probabilities.
        states: (X,) STATE.
        nodes, actions, children, alphas, events: records, see above.
        belief_index, belief_value: hidden values and their probabilities, node after node.
        alpha_value: alpha vectors, one after the other.
        links: for each vector and outcome the vector to go on with.
        active: vectors in use, in blocks by observed state.
        work, work_value, fresh_index, fresh_value, path: working space.
    """

    counts: NDArray[np.int64]
    bounds: NDArray[np.float64]
    informed: NDArray[np.float64]
    corner: NDArray[np.float64]
    table: NDArray[np.int32]
    roots: NDArray[np.int32]
    root_weights: NDArray[np.float64]
    states: NDArray
    nodes: NDArray
    actions: NDArray
    children: NDArray
    belief_index: NDArray[np.int32]
    belief_value: NDArray[np.float64]
    alphas: NDArray
    alpha_value: NDArray[np.float64]
    links: NDArray[np.int32]
    active: NDArray[np.int32]
    events: NDArray
    work: NDArray
    work_value: NDArray[np.float64]
    fresh_index: NDArray[np.int32]
    fresh_value: NDArray[np.float64]
    path: NDArray[np.int32]
