"""The compiled inner loops of Bayes-adaptive tree search; `bayes_adaptive` explains and drives them."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from epomdp.exact.compiled import compiled

NONE = -1

# What is known of a transition row, and what the running simulation has drawn from it. One record is one
# cache line's worth, so that a step touches little memory.
ROW = np.dtype(
    [
        ("seen", np.float64),  # sum of the concentrations, evidence included
        ("inverse", np.float64),  # 1 / seen
        ("simulation", np.int64),  # the simulation that the fields below `observed` belong to
        ("observed", np.int32),  # distinct successors in the evidence
        ("drawn", np.int32),  # draws in this simulation
        ("latest", np.int32),  # the step of the last of them
        ("fresh", np.int32),  # distinct successors among them that the evidence lacks
        ("size", np.int32),  # number of possible successors in this simulation's model (sparse only)
    ],
    align=True,
)
# One slot of a row's alias table: the slot's own state with probability `keep`, else `other`.
SLOT = np.dtype([("keep", np.float64), ("other", np.int32), ("known", np.int32)], align=True)
# What a step of the simulation drew, the step before at which it drew from the same row, and whether the
# successor was met for the first time.
STEP = np.dtype([("successor", np.int32), ("previous", np.int32), ("fresh", np.int32)], align=True)


class Urns(NamedTuple):
    """The posterior over transition rows, row = s * A + a, and the running simulation's draws from it."""

    rows: NDArray[np.void]  # (S*A,) ROW
    slots: NDArray[np.void]  # (S*A, S) SLOT
    steps: NDArray[np.void]  # (depth,) STEP
    size_cdf: NDArray[np.float64]  # (S*A, S), sparse: cumulative posterior of the number of successors
    concentration: float  # sparse: of a possible successor; a Dirichlet has 0


class Tree(NamedTuple):
    """Search tree over histories; the children of (node, action) are a linked list over successors."""

    visits: NDArray[np.int32]  # (N, A)
    mean: NDArray[np.float64]  # (N, A) mean return of the simulations through (node, action)
    first_child: NDArray[np.int32]  # (N, A)
    sibling: NDArray[np.int32]  # (N,)
    state: NDArray[np.int32]  # (N,)
    path: NDArray[np.int32]  # (depth, 2) node and action of each tree step of the running simulation
    reward: NDArray[np.float64]  # (depth,) reward of each tree step


class Rollout(NamedTuple):
    """The epsilon-greedy rollout policy: the greedy actions of each state, listed first in its row."""

    greedy: NDArray[np.int32]  # (S, A)
    number: NDArray[np.int32]  # (S,)
    epsilon: float


@compiled
def uniform(random):
    """A number in [0, 1) from the SplitMix64 generator whose state is `random` (1,) uint64."""
    random[0] += np.uint64(0x9E3779B97F4A7C15)
    z = random[0]
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return np.float64((z ^ (z >> np.uint64(31))) >> np.uint64(11)) * 2.0**-53


@compiled
def below(number, random):
    """An integer from 0 to number - 1."""
    return int(uniform(random) * number)


@compiled
def fill_row(rows, slots, row, concentrations, observed):
    """Enter the concentrations (S,) of a row, and their alias table (M. D. Vose 1991)."""
    S = concentrations.size
    seen = concentrations.sum()
    rows[row].seen = seen
    rows[row].inverse = 1 / seen if seen > 0 else 0.0
    rows[row].observed = observed
    scaled = np.ones(S)
    poor, rich = np.empty(S, np.int64), np.empty(S, np.int64)
    poors, riches = 0, 0
    for state in range(S):
        slots[row, state].known = concentrations[state] > 0
        slots[row, state].keep = 1.0
        slots[row, state].other = state
        if seen > 0:
            scaled[state] = concentrations[state] * S / seen
        if scaled[state] < 1:
            poor[poors] = state
            poors += 1
        else:
            rich[riches] = state
            riches += 1
    while poors > 0 and riches > 0:
        giver, taker = rich[riches - 1], poor[poors - 1]
        slots[row, taker].keep = scaled[taker]
        slots[row, taker].other = giver
        scaled[giver] -= 1 - scaled[taker]
        poors -= 1
        if scaled[giver] < 1:
            riches -= 1
            poor[poors] = giver
            poors += 1
    _close_alias(slots, row, concentrations)


@compiled
def _close_alias(slots, row, concentrations):
    """Rounding may leave a slot of an impossible state full: hand it to a possible one."""
    best = concentrations.argmax()
    for state in range(concentrations.size):
        if concentrations[state] == 0 and slots[row, state].keep == 1:
            slots[row, state].keep = 0.0
            slots[row, state].other = best


@compiled
def _draw_seen(slots, row, share):
    """Successor from the row's concentrations, for `share` uniform in [0, 1)."""
    S = slots.shape[1]
    position = share * S
    state = min(int(position), S - 1)
    keep, other = slots[row, state].keep, slots[row, state].other
    # Arithmetic in place of a branch, which would be mispredicted often.
    return state + (position - state >= keep) * (other - state)


@compiled
def _earlier(urns, row, index):
    """Successor of the draw that lies `index` draws back in this simulation's draws from the row."""
    step = urns.rows[row].latest
    for _ in range(index):
        step = urns.steps[step].previous
    return urns.steps[step].successor


@compiled
def _earlier_fresh(urns, row, index):
    """The successor found `index` discoveries back in this simulation's draws from the row."""
    step = urns.rows[row].latest
    while True:
        if urns.steps[step].fresh:
            if index == 0:
                return urns.steps[step].successor
            index -= 1
        step = urns.steps[step].previous


@compiled
def _is_known(urns, row, state):
    """Whether `state` has followed the row, in the evidence or in this simulation."""
    if urns.slots[row, state].known:
        return True
    step = urns.rows[row].latest
    for _ in range(urns.rows[row].drawn):
        if urns.steps[step].successor == state:
            return True
        step = urns.steps[step].previous
    return False


@compiled
def _draw_sparse(urns, row, random):
    """Successor and whether it is fresh, for a row whose model has `size` successors.

    The mass of a successor is concentration + its draws where it is known, and the size - known unknown
    ones have the concentration each; which states these are is uniform.
    """
    record = urns.rows[row]
    seen, drawn, fresh = record.seen, record.drawn, record.fresh
    unknown = record.size - record.observed - fresh
    mass = uniform(random) * (seen + drawn + (fresh + unknown) * urns.concentration)
    if mass < seen or (drawn == 0 and unknown == 0):
        return _draw_seen(urns.slots, row, mass * record.inverse), 0
    mass -= seen
    if mass < drawn or (fresh == 0 and unknown == 0):
        return _earlier(urns, row, min(int(mass), drawn - 1)), 0
    found = int((mass - drawn) / urns.concentration)
    if found < fresh or unknown == 0:
        return _earlier_fresh(urns, row, min(found, fresh - 1)), 0
    S = urns.slots.shape[1]
    state = below(S, random)
    while _is_known(urns, row, state):
        state = below(S, random)
    return state, 1


@compiled
def draw(urns, row, step, simulation, random):
    """The successor that simulation number `simulation` meets at `step`, taking the action of `row`."""
    record = urns.rows[row]
    sparse = urns.concentration > 0
    if record.simulation != simulation:
        record.simulation = simulation
        record.drawn = 0
        record.fresh = 0
        record.latest = NONE
        if sparse:
            record.size = 1 + np.searchsorted(urns.size_cdf[row], uniform(random), side="right")
    fresh = 0
    if sparse:
        successor, fresh = _draw_sparse(urns, row, random)
    else:
        mass = uniform(random) * (record.seen + record.drawn)
        if mass < record.seen or record.drawn == 0:
            successor = _draw_seen(urns.slots, row, mass * record.inverse)
        else:
            successor = _earlier(urns, row, min(int(mass - record.seen), record.drawn - 1))
    urns.steps[step].successor = successor
    urns.steps[step].previous = record.latest
    urns.steps[step].fresh = fresh
    record.latest = step
    record.drawn += 1
    record.fresh += fresh
    return successor


@compiled
def _select(tree, node, exploration, random):
    """The action of largest upper confidence bound mean + c sqrt(log n / n_a); untried ones come first."""
    A, total = tree.visits.shape[1], 1
    for action in range(A):
        total += tree.visits[node, action]
    log_total = np.log(total)
    best, ties, chosen = -np.inf, 0, 0
    for action in range(A):
        bound, visits = np.inf, tree.visits[node, action]
        if visits > 0:
            bound = tree.mean[node, action] + exploration * np.sqrt(log_total / visits)
        if bound > best:
            best, ties, chosen = bound, 1, action
        elif bound == best:
            ties += 1
            if below(ties, random) == 0:
                chosen = action
    return chosen


@compiled
def _child(tree, node, action, state):
    """The node of this successor, or NONE."""
    child = tree.first_child[node, action]
    while child != NONE and tree.state[child] != state:
        child = tree.sibling[child]
    return child


@compiled
def _add_node(tree, number, parent, action, state):
    """Make node `number` the child of (parent, action) for the successor `state`."""
    tree.visits[number] = 0
    tree.mean[number] = 0.0
    tree.first_child[number] = NONE
    tree.state[number] = state
    if parent != NONE:
        tree.sibling[number] = tree.first_child[parent, action]
        tree.first_child[parent, action] = number


@compiled
def _roll_out(urns, rollout, rewards, discount, state, first, simulation, random):
    """Discounted return of the rollout policy from `state`, for the steps `first` to the horizon."""
    A = rewards.shape[1]
    total, weight = 0.0, 1.0
    scale = A / rollout.epsilon if rollout.epsilon > 0 else 0.0
    for step in range(first, urns.steps.size):
        action = rollout.greedy[state, 0]
        if rollout.number[state] > 1:
            action = rollout.greedy[state, below(rollout.number[state], random)]
        chance = uniform(random)
        action += (chance < rollout.epsilon) * (min(int(chance * scale), A - 1) - action)
        total += weight * rewards[state, action]
        weight *= discount
        state = draw(urns, state * A + action, step, simulation, random)
    return total


@compiled
def _simulate(tree, urns, rollout, rewards, discount, exploration, nodes, simulation, random):
    """One simulation from the root; returns the number of nodes in the tree after it."""
    depth, A = urns.steps.size, rewards.shape[1]
    node, step, before = 0, 0, nodes
    total = 0.0
    while step < depth:
        state = tree.state[node]
        action = _select(tree, node, exploration, random)
        tree.path[step, 0], tree.path[step, 1] = node, action
        tree.reward[step] = rewards[state, action]
        successor = draw(urns, state * A + action, step, simulation, random)
        step += 1
        child = _child(tree, node, action, successor)
        if child == NONE:
            # The first visit of an action rolls out at once, the next one adds the node.
            if tree.visits[node, action] == 0 or nodes > before:
                total = _roll_out(urns, rollout, rewards, discount, successor, step, simulation, random)
                break
            child = nodes
            _add_node(tree, child, node, action, successor)
            nodes += 1
        node = child
    for back in range(step - 1, -1, -1):
        node, action = tree.path[back, 0], tree.path[back, 1]
        total = tree.reward[back] + discount * total
        tree.visits[node, action] += 1
        tree.mean[node, action] += (total - tree.mean[node, action]) / tree.visits[node, action]
    return nodes


@compiled
def search(tree, urns, rollout, rewards, discount, exploration, state, simulations, first, random):
    """Grow a new tree at `state` by `simulations` simulations, numbered from `first`; its root is node 0."""
    _add_node(tree, 0, NONE, 0, state)
    nodes = 1
    for simulation in range(first, first + simulations):
        nodes = _simulate(tree, urns, rollout, rewards, discount, exploration, nodes, simulation, random)
    return nodes
