"""Flat POMDPs as mixed-observability problems: what part of the state the observations always tell is found."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from epomdp.exact.family import gather_rows
from epomdp.exact.pomdp import Pomdp
from epomdp.exact.solving.model import ENTRY, ROW, Model, Problem


def pomdp_problem(pomdp: Pomdp) -> Problem:
    """Problem of a flat POMDP: observed is which class of states the last observation leaves possible.

    States that one action and observation can leave possible together form a class (joined transitively), so
    that the class is known after every step and the belief lives over the states of one class. A POMDP whose
    observations never tell states apart for sure has one class; one in which a part of the state is seen falls
    apart by itself. A start belief over several classes gets an observed state of its own, entered never again.
    """
    S, A = pomdp.rewards.shape
    entries = [_joint(pomdp, a) for a in range(A)]
    start = np.flatnonzero(pomdp.initial > 0)
    kind, reached = _classes(pomdp, entries, start)
    own_start = bool(np.any(kind[start] != kind[start[0]]))
    X = int(kind[reached].max()) + 1
    members = [np.flatnonzero(reached & (kind == x)) for x in range(X)]
    if own_start:
        members.append(start)
    pair_start = np.concatenate([[0], np.cumsum([len(m) for m in members])]).astype(np.int64)
    local = np.zeros(S, dtype=np.int64)
    for m in members[:X]:
        local[m] = np.arange(len(m))
    parts = [_class_rows(entries[a], m) for m in members for a in range(A)]
    rows = np.zeros(A * pair_start[-1] + 1, dtype=ROW)
    rows["entry"][1:] = np.cumsum(np.concatenate([r.lengths for r in parts]))
    rows["reward"][:-1] = np.concatenate([pomdp.rewards[m, a] for m in members for a in range(A)])
    entries = np.zeros(int(rows["entry"][-1]), dtype=ENTRY)
    entries["outcome"] = np.concatenate([r.outcome for r in parts])
    entries["hidden"] = local[np.concatenate([r.target for r in parts])]
    entries["probability"] = np.concatenate([r.probability for r in parts])
    labels = np.concatenate([r.labels for r in parts])
    outcome_start = np.concatenate([[0], np.cumsum([len(r.labels) for r in parts])]).astype(np.int64)
    successors = kind[np.concatenate([r.successor for r in parts])].astype(np.int32)
    model = Model(pair_start, rows, entries, outcome_start, successors, pomdp.discount)
    x = X if own_start else int(kind[start[0]])
    belief = pomdp.initial[members[x]]
    return Problem(
        model,
        A,
        False,
        S,
        np.concatenate(members).astype(np.int32),
        labels.astype(np.int32),
        np.full(len(labels), np.nan),
        np.array([x]),
        np.ones(1),
        (belief / belief.sum(),),
    )


class _Joint(NamedTuple):
    """Entries (s, s', o, probability) of one action, sorted by s; `start` (S + 1,) where each s begins."""

    start: NDArray
    target: NDArray
    observation: NDArray
    probability: NDArray


def _joint(pomdp: Pomdp, action: int) -> _Joint:
    T = pomdp.transitions[action]
    indptr = pomdp.observations[action].indptr.astype(np.int64)
    _, position = gather_rows(indptr, T.indices.astype(np.int64))
    seen = np.diff(pomdp.observations[action].indptr)[T.indices]
    probability = np.repeat(T.data, seen) * pomdp.observations[action].data[position]
    keep = probability > 0
    source = np.repeat(np.repeat(np.arange(pomdp.num_states), np.diff(T.indptr)), seen)[keep]
    start = np.searchsorted(source, np.arange(pomdp.num_states + 1))
    target = np.repeat(T.indices, seen)[keep].astype(np.int64)
    observation = pomdp.observations[action].indices[position][keep].astype(np.int64)
    return _Joint(start, target, observation, probability[keep].astype(np.float64))


def _classes(pomdp: Pomdp, entries, start) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """Class of each state, numbered from 0 over the reached states, and which states are reached."""
    S = len(pomdp.initial)
    reached = np.zeros(S, dtype=np.bool_)
    reached[start] = True
    while True:
        before = reached.sum()
        for joint in entries:
            reached[joint.target[np.repeat(reached, np.diff(joint.start))]] = True
        if reached.sum() == before:
            break
    kind = np.arange(S)
    while True:
        before = kind.copy()
        for joint in entries:
            live = np.repeat(reached, np.diff(joint.start))
            target, seen = joint.target[live], joint.observation[live]
            least = np.full(pomdp.num_observations, S)
            np.minimum.at(least, seen, kind[target])
            np.minimum.at(kind, target, least[seen])
        kind = kind[kind]
        if np.array_equal(kind, before):
            break
    names = np.unique(kind[reached])
    return np.searchsorted(names, kind), reached


class _ClassRows(NamedTuple):
    lengths: NDArray
    target: NDArray
    outcome: NDArray
    probability: NDArray
    labels: NDArray
    successor: NDArray


def _class_rows(joint: _Joint, members: NDArray[np.int64]) -> _ClassRows:
    """Rows of one class and action; outcomes are its possible observations, `successor` a state of each."""
    starts, index = gather_rows(joint.start, members)
    target = joint.target[index]
    labels, first, outcome = np.unique(joint.observation[index], return_index=True, return_inverse=True)
    return _ClassRows(np.diff(starts), target, outcome, joint.probability[index], labels, target[first])
