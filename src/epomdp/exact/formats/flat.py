"""The epistemic POMDP of a family as a flat POMDP, and back.

Hidden is (environment, state), observed the state. Where rewards are observed too, they have to reach the
observation through the hidden state, since a POMDP's observation depends on the state that an action leads
to and not on where it was taken: the hidden state is then (environment, state, cell), and the cell of an
action in environment m is the first environment in which it has the same reward, so that seeing it tells
exactly what seeing the reward tells. Only cells that occur are made.

Names carry the structure, for people and for the way back: hidden states `m1_s4` or `m1_s4_r0`, observations
`s4` or `s4_r0`, actions `a2`, and the extra start `start`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import replace

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

from epomdp.errors import BadInput
from epomdp.exact.family import Family, gather_rows
from epomdp.exact.formats.files import printable
from epomdp.exact.memory import require_memory
from epomdp.exact.pomdp import Pomdp
from epomdp.exact.starts import prepend_start

_NAME = re.compile(r"m(0|[1-9]\d{0,8})_(?:s(0|[1-9]\d{0,8})|(start))(?:_r(0|[1-9]\d{0,8}))?")
# Two numbers that came from one number by way of a file or of a scaling differ by less, relatively.
_CLOSE = 1e-9


def flatten(family: Family, observe_rewards: bool = True) -> Pomdp:
    """The epistemic POMDP as a flat one, of the same optimal value.

    A flat POMDP shows nothing before the first action, while here the start state is seen. Where there are
    several, every episode begins in an extra state instead, `start`, in which any action leads to the family's
    starts without a reward. All other rewards are divided by the discount, as they come a step later.
    A horizon is put into the states first.

    Args:
        family: discount below 1.
        observe_rewards: whether the reward is part of the observation.

    Raises:
        BadInput: the discount is 1, or it is 0 with several starts, or memory would not suffice.
    """
    family = discounted(family)
    names = [f"s{s}" for s in range(family.num_states)]
    if np.count_nonzero(family.initial) > 1:
        family = prepend_start(family, np.tile(family.initial, (family.num_environments, 1)))
        names.append("start")
    return unseen_start(family, observe_rewards, names)


def unseen_start(family: Family, observe_rewards: bool, names: list[str]) -> Pomdp:
    """The epistemic POMDP as a flat one in which the start state is not seen, if there are several.

    Args:
        family: discount below 1, no horizon.
        observe_rewards: whether the reward is part of the observation.
        names: for the states.
    """
    M, S, A = family.rewards.shape
    cells = reward_cells(family) if observe_rewards else np.zeros((M, S, A), np.int64)
    seen = bool(cells.any())
    C = M if seen else 1
    require_memory(100 * (len(family.successors) + M * S), "flattening the family", "use a smaller family")
    reached = arrivals(family, cells, C)
    starts = np.arange(M * S).reshape(M, S)[:, family.initial > 0].ravel()
    present = _distinct(np.concatenate([reached, C * starts]), M * S * C)
    # A state that no action leads to is kept, so that the family can be made again.
    lonely = np.ones(M * S, bool)
    lonely[present // C] = False
    if lonely.any():
        present = np.union1d(present, C * np.flatnonzero(lonely))
    count = int(np.diff(family.indptr).reshape(M * S, A).sum(axis=1)[present // C].sum())
    require_memory(60 * count, f"a flat POMDP of {len(present)} states", "use a smaller family")
    environment, state, cell = present // C // S, present // C % S, present % C
    transitions = _copied_rows(family, present, reached, C)
    observed = state * C + cell
    kinds, observation = np.unique(observed, return_inverse=True)
    seen_state = sp.csr_array(
        (np.ones(len(present)), observation.astype(np.int32), np.arange(len(present) + 1)),
        shape=(len(present), len(kinds)),
    )
    initial = np.zeros(len(present))
    initial[np.searchsorted(present, C * starts)] = np.outer(family.weights, family.initial).ravel()[starts]
    hidden = _cell_names(names, state, cell, seen)
    return Pomdp(
        transitions,
        (seen_state,) * A,
        family.rewards[environment, state],
        initial,
        family.discount,
        tuple(f"m{m}_{name}" for m, name in zip(environment.tolist(), hidden, strict=True)),
        tuple(f"a{a}" for a in range(A)),
        tuple(_cell_names(names, kinds // C, kinds % C, seen)),
    )


def _distinct(keys: NDArray[np.int64], size: int) -> NDArray[np.int64]:
    """The distinct keys, ascending; all are below `size`."""
    if size > 16 * len(keys):
        return np.unique(keys)
    present = np.zeros(size, bool)
    present[keys] = True
    return np.flatnonzero(present)


def discounted(family: Family) -> Family:
    """The family with a horizon put into its states; a discount of 1 is refused."""
    if family.discount >= 1.0:
        raise BadInput("discount: is 1, which these formats cannot say; give a discount below 1")
    return family if family.horizon is None else family.layered()


def reward_cells(family: Family) -> NDArray[np.int64]:
    """(M, S, A) the first environment in which the action has exactly the same reward."""
    rewards = family.rewards.reshape(family.num_environments, -1)
    order = np.argsort(rewards, axis=0, kind="stable")
    ordered = np.take_along_axis(rewards, order, axis=0)
    new = np.ones(ordered.shape, bool)
    new[1:] = ordered[1:] != ordered[:-1]
    # Position of the first of each run of equal rewards, which a stable sort leaves the first environment.
    first = np.maximum.accumulate(np.where(new, np.arange(len(rewards))[:, None], 0), axis=0)
    cells = np.empty_like(order)
    np.put_along_axis(cells, order, np.take_along_axis(order, first, axis=0), axis=0)
    return cells.reshape(family.rewards.shape)


def arrivals(family: Family, cells: NDArray[np.int64], C: int) -> NDArray[np.int64]:
    """(nnz,) for each transition of the family the running number (m * S + s') * C + cell of where it ends."""
    M, S, A = family.rewards.shape
    row = np.repeat(np.arange(M * S * A), np.diff(family.indptr))
    return (row // (S * A) * S + family.successors) * C + cells.reshape(-1)[row]


def _copied_rows(family: Family, present: NDArray, reached: NDArray, C: int) -> tuple[sp.csr_array, ...]:
    """For each action the rows of the hidden states `present`, copied from the family."""
    A = family.num_actions
    target = np.searchsorted(present, reached).astype(np.int32)
    matrices = []
    for a in range(A):
        indptr, entries = gather_rows(family.indptr, present // C * A + a)
        parts = (family.probabilities[entries], target[entries], indptr)
        matrices.append(sp.csr_array(parts, shape=(len(present), len(present))))
    return tuple(matrices)


def _cell_names(names: list[str], state: NDArray, cell: NDArray, seen: bool) -> Iterable[str]:
    if not seen:
        return (names[s] for s in state.tolist())
    return (f"{names[s]}_r{c}" for s, c in zip(state.tolist(), cell.tolist(), strict=True))


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
        T = sp.csr_array((T.data, base[T.indices], T.indptr), shape=(len(base), M * S))
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


def seen_start(pomdp: Pomdp, shown: NDArray[np.int64]) -> Pomdp:
    """The POMDP of which `shown` is seen before the first action, as one in which nothing is.

    Episodes begin in an extra last state, from which any action leads to a copy of a start state, whose only
    observation is what is shown. As everything comes a step later, rewards are divided by the discount.

    Args:
        pomdp: S states.
        shown: (S,) what is seen of each state at the start.

    Raises:
        BadInput: the discount is 0.
    """
    if pomdp.discount == 0.0:
        raise BadInput(
            "discount: is 0, and the seen start varies; give a discount above 0, or one start state"
        )
    starts = np.flatnonzero(pomdp.initial)
    S, O, k = pomdp.num_states, pomdp.num_observations, len(starts)  # noqa: E741
    kinds, first = np.unique(shown[starts], return_inverse=True)
    leave = sp.csr_array((pomdp.initial[starts], (np.zeros(k, int), S + np.arange(k))), shape=(1, S + k + 1))
    tell = sp.csr_array(
        (np.ones(k + 1), (np.arange(k + 1), O + np.append(first, 0))), shape=(k + 1, O + len(kinds))
    )
    transitions, observations = [], []
    for T, shows in zip(pomdp.transitions, pomdp.observations, strict=True):
        rows = sp.csr_array(sp.vstack([T, T[starts]], format="csr"))
        rows = sp.csr_array((rows.data, rows.indices, rows.indptr), shape=(S + k, S + k + 1))
        transitions.append(sp.csr_array(sp.vstack([rows, leave], format="csr")))
        shows = sp.csr_array((shows.data, shows.indices, shows.indptr), shape=(S, O + len(kinds)))
        observations.append(sp.csr_array(sp.vstack([shows, tell], format="csr")))
    rewards = np.concatenate([pomdp.rewards, pomdp.rewards[starts], np.zeros((1, pomdp.num_actions))])
    return Pomdp(
        tuple(transitions),
        tuple(observations),
        rewards / pomdp.discount,
        np.append(np.zeros(S + k), 1.0),
        pomdp.discount,
        _more(
            pomdp.states,
            [f"start_{pomdp.states[s]}" for s in starts.tolist()] + ["start"] if pomdp.states else [],
        ),
        pomdp.actions,
        _more(pomdp.observation_names, [f"start_{i}" for i in kinds.tolist()]),
    )


def _more(names: tuple[str, ...], further: list[str]) -> tuple[str, ...]:
    """More names for things that have any, unless one is taken."""
    return (*names, *further) if names and not set(names) & set(further) else ()


def _differ(a: sp.csr_array, b: sp.csr_array) -> bool:
    return a is not b and bool(abs(a - b).max() > _CLOSE)
