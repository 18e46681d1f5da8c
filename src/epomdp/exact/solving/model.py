"""The solver's own form of a problem: a mixed-observability POMDP in flat arrays, from a family or a POMDP."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from epomdp.exact.compiled import compiled, share_out
from epomdp.exact.family import Family
from epomdp.exact.memory import require_memory

# Observed states for which starting a thread pays.
_STATES_PER_THREAD = 500


ROW = np.dtype([("entry", "i8"), ("reward", "f8"), ("bound", "f8")], align=True)
ENTRY = np.dtype([("outcome", "i4"), ("hidden", "i4"), ("probability", "f8")], align=True)


class Model(NamedTuple):
    """Observed state x, hidden y: what the kernels read (Ong et al. 2010, with the hidden sets cut to size).

    The n = pair_start[x + 1] - pair_start[x] hidden values that can occur together with x are numbered 0 .. n - 1.
    A pair (x, y) has the index `pair_start[x] + y`; a row (x, a, y) has the index
    `A * pair_start[x] + a * n + y`. Action a in x has the outcomes `outcome_start[x * A + a]` on, each with one
    successor x'.

    Attributes:
        pair_start: (X + 1,) int64.
        rows: (rows + 1,) records: `entry`, where the row begins in `entries`; `reward` R(x, a, y); `bound`, an
            upper bound on the value of a in x, filled in by `bounds`. The last only ends the one before.
        entries: (nnz,) records: `outcome` of (x, a), counted from 0; `hidden`, y' in the outcome's successor;
            `probability` of the outcome and y' together, positive, summing to one over a row.
        outcome_start: (X * A + 1,) int64.
        successors: (outcomes,) int32, x'.
        discount: discount factor.
    """

    pair_start: NDArray[np.int64]
    rows: NDArray
    entries: NDArray
    outcome_start: NDArray[np.int64]
    successors: NDArray[np.int32]
    discount: float


@dataclass(frozen=True, eq=False)
class Problem:
    """A model with its starts, and what its numbers mean outside.

    Attributes:
        model: the flat arrays.
        num_actions: A.
        static: whether the hidden part never changes (families): y' and y name the same environment.
        num_hidden: M environments (families) or S states (POMDPs), those that cannot be hidden included.
        pair_hidden: (pairs,) int32, the environment (families) or the state (POMDPs) of each pair.
        outcome_label: (outcomes,) int32, the next state (families) or the observation (POMDPs).
        outcome_reward: (outcomes,) float64, the observed reward; NaN where rewards are not observed.
        start_states: (R,) int64, observed states in which an episode may start.
        start_weights: (R,) float64, their probabilities.
        start_beliefs: R arrays, the belief over the hidden values at each start.
        layer_states: (X,) int64, where a horizon was put into the states, the state that each had before, -1 for the
            end; empty otherwise.
    """

    model: Model
    num_actions: int
    static: bool
    num_hidden: int
    pair_hidden: NDArray[np.int32]
    outcome_label: NDArray[np.int32]
    outcome_reward: NDArray[np.float64]
    start_states: NDArray[np.int64]
    start_weights: NDArray[np.float64]
    start_beliefs: tuple[NDArray[np.float64], ...]
    layer_states: NDArray[np.int64] = field(default_factory=lambda: np.zeros(0, dtype=np.int64))

    def hidden(self, x: int) -> NDArray[np.int32]:
        """Environments or states behind the hidden values of observed state x."""
        return self.pair_hidden[self.model.pair_start[x] : self.model.pair_start[x + 1]]


def family_problem(family: Family, observe_rewards: bool, weights: NDArray[np.float64]) -> Problem:
    """Problem of a family: observed is the state (and reward), hidden the environment.

    Only environments in which a state can be reached from the starts, among those with positive weight, are
    hidden values of that state.
    """
    M, S, A = family.rewards.shape
    starts = np.flatnonzero(family.initial > 0)
    reached = np.zeros((M, S), dtype=np.bool_)

    def reach(first: int, last: int) -> None:
        _reach(first, last, family.indptr, family.successors, A, starts, weights, reached)

    share_out(reach, M, 4 * _STATES_PER_THREAD // S + 1)
    sizes = reached.sum(axis=0, dtype=np.int32)
    pair_start = np.concatenate([[0], np.cumsum(sizes, dtype=np.int64)])
    state, environment = np.nonzero(reached.T)
    local = np.zeros((M, S), dtype=np.int32)
    local[environment, state] = np.arange(pair_start[-1]) - pair_start[state]
    pair_hidden = environment.astype(np.int32)
    del state, environment

    share = float(pair_start[-1]) / (M * S)
    require_memory(
        A * pair_start[-1] * ROW.itemsize + share * len(family.successors) * (ENTRY.itemsize + 12.0),
        f"family: solving {M} environments of {S} states",
        "sample some of the environments, or use a machine with more memory",
    )
    rows = np.zeros(A * pair_start[-1] + 1, dtype=ROW)
    _lengths(family.indptr, family.rewards, pair_start, pair_hidden, rows)
    nnz = int(rows["entry"][-1])
    entries = np.empty(nnz, dtype=ENTRY)
    counts = np.zeros(S * A + 1, dtype=np.int64)
    label = np.empty(nnz, dtype=np.int32)
    label_reward = np.empty(nnz) if observe_rewards else np.empty(0)

    def fill(first: int, last: int) -> None:
        _fill(
            first,
            last,
            family.indptr,
            family.successors,
            family.probabilities,
            rows,
            pair_start,
            pair_hidden,
            local,
            entries,
            counts,
            label,
            label_reward,
        )

    share_out(fill, S, _STATES_PER_THREAD)
    outcome_start = np.cumsum(counts)
    first_entry = rows["entry"][(A * pair_start[:-1, None] + np.arange(A) * sizes[:, None]).ravel()]
    keep = np.repeat(first_entry - outcome_start[:-1], np.diff(outcome_start)) + np.arange(outcome_start[-1])
    successors = label[keep]
    return Problem(
        Model(pair_start, rows, entries, outcome_start, successors, family.discount),
        A,
        True,
        M,
        pair_hidden,
        successors,
        label_reward[keep] if observe_rewards else np.full(len(keep), np.nan),
        starts,
        family.initial[starts],
        tuple(weights[pair_hidden[pair_start[x] : pair_start[x + 1]]] for x in starts),
    )


@compiled
def _reach(first, last, indptr, successors, A, starts, weights, reached):
    """Mark the states that environments first .. last - 1 can reach."""
    S = reached.shape[1]
    stack = np.empty(S, dtype=np.int64)
    for m in range(first, last):
        if weights[m] <= 0.0:
            continue
        seen = reached[m]
        top = 0
        for s in starts:
            seen[s] = True
            stack[top] = s
            top += 1
        while top > 0:
            top -= 1
            row = (m * S + stack[top]) * A
            for k in range(indptr[row], indptr[row + A]):
                s = successors[k]
                if not seen[s]:
                    seen[s] = True
                    stack[top] = s
                    top += 1


@compiled
def _lengths(indptr, rewards, pair_start, pair_hidden, rows):
    """Where each row's entries begin, and its reward."""
    _, S, A = rewards.shape
    entry = 0
    row = 0
    for x in range(S):
        for a in range(A):
            for pair in range(pair_start[x], pair_start[x + 1]):
                m = pair_hidden[pair]
                source = (m * S + x) * A + a
                rows[row].entry = entry
                rows[row].reward = rewards[m, x, a]
                entry += indptr[source + 1] - indptr[source]
                row += 1
    rows[row].entry = entry


@compiled
def _fill(
    first,
    last,
    indptr,
    successors,
    probabilities,
    rows,
    pair_start,
    pair_hidden,
    local,
    entries,
    counts,
    label,
    label_reward,
):
    """Entries of observed states first .. last - 1; an outcome's label is kept at its (x, a)'s first entries."""
    S = local.shape[1]
    A = (counts.shape[0] - 1) // S
    observe_rewards = label_reward.shape[0] > 0
    newest = np.full(S, -1, dtype=np.int64)
    capacity = 64
    older = np.empty(capacity, dtype=np.int64)
    for x in range(first, last):
        size = pair_start[x + 1] - pair_start[x]
        for a in range(A):
            row0 = A * pair_start[x] + a * size
            base = rows[row0].entry
            count = 0
            for y in range(size):
                m = pair_hidden[pair_start[x] + y]
                source = indptr[(m * S + x) * A + a]
                begin = rows[row0 + y].entry
                for e in range(begin, rows[row0 + y + 1].entry):
                    k = source + e - begin
                    successor = successors[k]
                    # Outcomes with the same successor are chained: they differ in the reward seen.
                    o = newest[successor]
                    if observe_rewards:
                        while o >= 0 and label_reward[base + o] != rows[row0 + y].reward:
                            o = older[o]
                    if o < 0:
                        o = count
                        count += 1
                        if o == capacity:
                            capacity *= 2
                            more = np.empty(capacity, dtype=np.int64)
                            more[:o] = older
                            older = more
                        older[o] = newest[successor]
                        newest[successor] = o
                        label[base + o] = successor
                        if observe_rewards:
                            label_reward[base + o] = rows[row0 + y].reward
                    entries[e].outcome = o
                    entries[e].hidden = local[m, successor]
                    entries[e].probability = probabilities[k]
            counts[x * A + a + 1] = count
            for o in range(count):
                newest[label[base + o]] = -1
