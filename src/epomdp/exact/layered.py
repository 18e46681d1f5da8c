"""Families with a horizon, made stationary: the time of the episode becomes a part of the state."""

from __future__ import annotations

from dataclasses import dataclass, field, fields

import numpy as np
import scipy.sparse as sp
from numpy.typing import ArrayLike, NDArray

from epomdp.errors import BadInput
from epomdp.exact.family import Family, canonical, gather_rows
from epomdp.exact.memory import require_memory


@dataclass(frozen=True, eq=False)
class LayeredFamily(Family):
    """A family whose states are (state, time) of another one with a horizon, and one last state, the end.

    Only pairs that some policy can reach in some environment are kept, in order of time. States that are
    absorbing and without reward in every environment are the end as well: nothing can be gained there.

    Attributes:
        states: (N,) int64, the state of the original family; -1 for the end.
        times: (N,) int64, steps taken so far; the horizon for the end.
    """

    states: NDArray[np.int64] = field(kw_only=True)
    times: NDArray[np.int64] = field(kw_only=True)

    @property
    def end(self) -> int:
        """The index of the end."""
        return self.num_states - 1

    def lift(self, policy: ArrayLike) -> NDArray:
        """A policy of the original family, (S,) actions or (S, A) probabilities, that ignores the time: (N, ...)."""
        original = np.asarray(policy)
        if original.ndim not in (1, 2) or original.shape[0] <= self.states.max():
            raise BadInput(f"policy: has shape {original.shape}; give (S,) actions or (S, A) probabilities")
        return original[np.maximum(self.states, 0)]


def layered(family: Family) -> LayeredFamily:
    """Put the time of a family with a horizon into its states.

    The values of start states are those of the family within its horizon; the discount is the same and may be 1.
    N is at most S * horizon + 1.

    Raises:
        BadInput: the family has no horizon, or there is no memory for its layers.
    """
    if family.horizon is None:
        raise BadInput("family: has no horizon, so there are no layers to make; set one")
    ended = _ended_everywhere(family)
    layers = _reachable_layers(family, ended)
    states = np.concatenate([*layers, [-1]]).astype(np.int64)
    sizes = [layer.size for layer in layers]
    times = np.concatenate([np.repeat(np.arange(len(layers)), sizes), [family.horizon]]).astype(np.int64)
    # One row more than there are layers: whatever comes after the last one is the end.
    index = np.full((len(layers) + 1, family.num_states), states.size - 1, dtype=np.int32)
    index[times[:-1], states[:-1]] = np.arange(states.size - 1)

    initial = np.zeros(states.size)
    np.add.at(initial, index[0] if layers else np.zeros(family.num_states, dtype=int), family.initial)
    rewards = np.zeros((family.num_environments, states.size, family.num_actions))
    rewards[:, :-1] = family.rewards[:, states[:-1]]
    parts = {item.name: getattr(family, item.name) for item in fields(Family)}
    parts |= _layer_rows(family, states, times, index)
    parts |= {"rewards": rewards, "initial": initial, "horizon": None}
    return canonical(LayeredFamily(**parts, states=states, times=times))


def _ended_everywhere(family: Family) -> NDArray[np.bool_]:
    """(S,) states that every action of every environment keeps, without reward."""
    M, S, A = family.rewards.shape
    first = family.successors[family.indptr[:-1]].reshape(M, S, A)
    stays = (np.diff(family.indptr).reshape(M, S, A) == 1) & (first == np.arange(S)[:, None])
    return (stays & (family.rewards == 0.0)).all(axis=(0, 2))


def _reachable_layers(family: Family, ended: NDArray[np.bool_]) -> list[NDArray[np.int64]]:
    """States that can be reached at each time before the horizon, while there are any."""
    S, A = family.num_states, family.num_actions
    reach = sp.csr_array((S, S), dtype=np.int64)
    for m in range(family.num_environments):
        rows = family.matrix(m)
        ones = np.ones(rows.indices.size, dtype=np.int64)
        step = sp.csr_array((ones, rows.indices, rows.indptr[::A]), shape=(S, S))
        reach = sp.csr_array(reach + step)
    horizon = family.horizon or 0
    layers = []
    layer = np.flatnonzero((family.initial > 0) & ~ended)
    while layer.size and len(layers) < horizon:
        layers.append(layer)
        if len(layers) == S + 1:
            # A state has come up twice, so layers go on to the horizon, about as large as so far.
            size = sum(part.size for part in layers) / (S + 1) * horizon + 1
            _require_layers(family, size, size * family.successors.size / S)
        following = np.zeros(S, dtype=np.bool_)
        following[reach.indices[gather_rows(reach.indptr.astype(np.int64), layer)[1]]] = True
        layer = np.flatnonzero(following & ~ended)
    return layers


def _require_layers(family: Family, num_states: float, num_entries: float) -> None:
    rows = family.num_environments * num_states * family.num_actions
    require_memory(
        40.0 * num_entries + 24.0 * rows,
        f"family: {num_states:.9g} states with time in them",
        "give a shorter horizon, or a discount instead of one",
    )


def _layer_rows(family: Family, states, times, index) -> dict[str, NDArray]:
    """The rows of all environments, each ending with the end's own."""
    A, end = family.num_actions, states.size - 1
    lengths = np.diff(family.indptr).reshape(family.rewards.shape)[:, states[:-1]].sum()
    _require_layers(family, states.size, lengths)
    starts, successors, probabilities = [np.zeros(1, dtype=np.int64)], [], []
    for m in range(family.num_environments):
        rows = ((m * family.num_states + states[:-1, None]) * A + np.arange(A)).ravel()
        indptr, entries = gather_rows(family.indptr, rows)
        time = np.repeat(np.repeat(times[:-1], A), np.diff(indptr))
        successors += [index[time + 1, family.successors[entries]], np.full(A, end, dtype=np.int32)]
        probabilities += [family.probabilities[entries], np.ones(A)]
        both = np.concatenate([indptr[1:], indptr[-1] + np.arange(1, A + 1)])
        starts.append(starts[-1][-1] + both)
    return {
        "indptr": np.concatenate(starts),
        "successors": np.concatenate(successors),
        "probabilities": np.concatenate(probabilities),
    }
