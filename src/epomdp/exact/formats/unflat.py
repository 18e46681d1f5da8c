"""The family whose epistemic POMDP a flat POMDP is: the way back from `flat`."""

from __future__ import annotations

import re
from dataclasses import replace

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

from epomdp.errors import BadInput
from epomdp.exact.family import Family, gather_rows
from epomdp.exact.formats.files import printable
from epomdp.exact.formats.flat import reward_cells
from epomdp.exact.pomdp import Pomdp

_NAME = re.compile(r"m(0|[1-9]\d{0,8})_(?:s(0|[1-9]\d{0,8})|(start))(?:_r(0|[1-9]\d{0,8}))?")
# Two numbers that came from one number by way of a file or of a scaling differ by less, relatively.
_CLOSE = 1e-9


def unflatten(pomdp: Pomdp) -> Family:
    """The family whose epistemic POMDP this is, as `flatten` writes it.

    The names say what each hidden state is; whether transitions, rewards and observations bear them out is
    checked.

    Raises:
        BadInput: it is no such POMDP; the message says why.
    """
    environment, state, cell = structure(pomdp.states)
    first = pomdp.observations[0]
    shows = first.indices
    plain = len(shows) == pomdp.num_states and (np.diff(first.indptr) == 1).all()
    if not plain or any(_differ(matrix, first) for matrix in pomdp.observations[1:]):
        raise _no_family("its observations are not one for each hidden state, the same for all actions")
    named = (state + 1) * (cell.max() + 2) + cell + 1
    counts = [len(np.unique(x)) for x in (named, shows, named * pomdp.num_observations + shows)]
    if len(set(counts)) > 1:
        raise _no_family("what is observed is not the state (and reward) that the names say")
    return assemble(environment, state, cell, pomdp.transitions, pomdp.rewards, pomdp.initial, pomdp.discount)


def _no_family(why: str) -> BadInput:
    return BadInput(printable(f"this POMDP is not that of a family: {why}; only its flat form can be used"))


def structure(names: tuple[str, ...]) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """Environment, state (-1 for the start) and cell (-1 for none) of each hidden state, from the names."""
    if not names:
        raise _no_family("its states have no names such as 'm0_s0'")
    parts = []
    for name in names:
        match = _NAME.fullmatch(name)
        if match is None:
            raise _no_family(f"its state '{name[:40]}' has no name such as 'm0_s0'")
        m, s, _, c = match.groups()
        parts.append((int(m), -1 if s is None else int(s), -1 if c is None else int(c)))
    environment, state, cell = np.array(parts, np.int64).T
    return environment, state, cell


def assemble(
    environment: NDArray[np.int64],
    state: NDArray[np.int64],
    cell: NDArray[np.int64],
    transitions: tuple[sp.csr_array, ...],
    rewards: NDArray[np.float64],
    initial: NDArray[np.float64],
    discount: float,
) -> Family:
    """The family of H hidden states that are copies (environment, state, cell), cells merged, start undone.

    Args:
        environment, state, cell: (H,); state -1 is the extra start, cell -1 says that no reward is observed.
        transitions: A matrices (H, H).
        rewards: (H, A).
        initial: (H,).
        discount: discount factor.

    Raises:
        BadInput: copies differ, environments mix, or cells are not those of the rewards.
    """
    M, begins = int(environment.max()) + 1, bool((state < 0).any())
    S = int(state.max()) + 1 + begins
    state = np.where(state < 0, S - 1, state)
    if len(state) < M * S:
        raise _no_family(f"there are not all {M} x {S} states of the names")
    base = environment * S + state
    held, copy = np.unique(base, return_index=True)
    if len(held) != M * S:
        raise _no_family("some environment lacks a state that another has")
    A, merged = len(transitions), []
    for T in transitions:
        # Summing works in place, and the matrices are the caller's.
        parts = (T.data.copy(), base[T.indices], T.indptr.copy())
        T = sp.csr_array(parts, shape=(len(base), M * S))
        T.sum_duplicates()
        if _differ(T, T[copy[base]]):
            raise _no_family("copies of one hidden state go on differently")
        T = T[copy]
        if (np.repeat(held // S, np.diff(T.indptr)) != T.indices // S).any():
            raise _no_family("an episode can pass from one environment to another")
        merged.append(T)
    if not np.allclose(rewards, rewards[copy[base]], rtol=_CLOSE, atol=0):
        raise _no_family("copies of one hidden state have different rewards")
    weights = np.bincount(environment, initial, M)
    start = np.bincount(state, initial, S)
    if not np.allclose(
        np.outer(weights, start).ravel(), np.bincount(base, initial, M * S), rtol=0, atol=_CLOSE
    ):
        raise _no_family("its start state depends on the environment")
    family = Family.from_sparse(
        *_interleaved(merged, S), rewards[copy].reshape(M, S, A), start, weights, discount
    )
    if (cell >= 0).any():
        _check_cells(family, environment, state, cell, transitions)
    return _without_start(family) if begins else family


def _interleaved(merged: list[sp.csr_array], S: int):
    """Row starts, successors and probabilities of a family, from a matrix (M * S, M * S) for each action."""
    A, rows = len(merged), len(merged[0].indptr) - 1
    stacked = sp.csr_array(sp.vstack(merged, format="csr"))
    order = np.arange(A * rows).reshape(A, rows).T.ravel()
    indptr, entries = gather_rows(stacked.indptr.astype(np.int64), order)
    return indptr, (stacked.indices[entries] % S).astype(np.int32), stacked.data[entries]


def _check_cells(family: Family, environment, state, cell, transitions: tuple[sp.csr_array, ...]) -> None:
    """Every transition must end in the cell of its reward."""
    cells = reward_cells(family)
    for a, T in enumerate(transitions):
        row = np.repeat(np.arange(len(cell)), np.diff(T.indptr))
        if (cell[T.indices] != cells[environment[row], state[row], a]).any():
            raise _no_family("the reward cells in the names are not those of the rewards")


def _without_start(family: Family) -> Family:
    """Undo what `prepend_start` did: the last state's successors become the start."""
    M, S, A = family.rewards.shape
    initial = np.zeros(S)
    successors, probabilities = family.row(0, S - 1, 0)
    initial[successors] = probabilities
    for m in range(M):
        for a in range(A):
            row = np.zeros(S)
            row[family.row(m, S - 1, a)[0]] = family.row(m, S - 1, a)[1]
            if not np.allclose(row, initial, rtol=0, atol=_CLOSE) or family.rewards[m, S - 1, a] != 0.0:
                raise _no_family("its extra start does not lead to the same states everywhere")
    if (family.successors == S - 1).any() or family.initial[S - 1] < 1.0 - _CLOSE:
        raise _no_family("its extra start is not where every episode begins, once")
    kept = np.arange(M * S * A).reshape(M, S, A)[:, : S - 1].ravel()
    indptr, entries = gather_rows(family.indptr, kept)
    return replace(
        family,
        indptr=indptr,
        successors=family.successors[entries],
        probabilities=family.probabilities[entries],
        rewards=np.ascontiguousarray(family.rewards[:, : S - 1]) * family.discount,
        initial=initial[: S - 1],
    ).checked()


def _differ(a: sp.csr_array, b: sp.csr_array) -> bool:
    return a is not b and bool(abs(a - b).max() > _CLOSE)
