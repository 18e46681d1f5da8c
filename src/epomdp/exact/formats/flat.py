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

from collections.abc import Iterable

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

from epomdp.errors import BadInput
from epomdp.exact.family import Family, gather_rows
from epomdp.exact.memory import require_memory
from epomdp.exact.pomdp import Pomdp
from epomdp.exact.starts import prepend_start


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
