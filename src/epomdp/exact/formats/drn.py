"""Storm's explicit format DRN, written for other tools to solve.

Storm has no discounting. Each step ends the episode with probability 1 - discount instead, in a sink without
reward, labelled `end`: the discounted return is the expected total reward until the sink,
`R{"reward"}max=? [F "end"]`. An observation belongs to a state there, so a hidden state is split by the
observations that it can show, and an episode begins in one state, from which chance draws the start without
a discount. A family's start state is seen; that of a flat POMDP is not.

Source: "Explicit DRN format", stormchecker.org; Hensel, Junges, Katoen, Quatmann and Volk 2022, "The
probabilistic model checker Storm".
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

from epomdp.exact.family import Family, gather_rows
from epomdp.exact.formats.files import replacing
from epomdp.exact.formats.flat import discounted, unseen_start
from epomdp.exact.formats.numbers import Named, Texts, lines
from epomdp.exact.memory import require_memory
from epomdp.exact.pomdp import Pomdp

# Action names that Storm can read back.
_LABEL = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]*")
# Hidden states written at a time.
_BLOCK = 1 << 14
# Places of the states and observations that come before those of the model: the sink, the start, and for
# observations the one that says nothing yet.
_STATES_BEFORE, _OBSERVATIONS_BEFORE = 2, 3


def write(model: Family | Pomdp, path: str | os.PathLike[str], observe_rewards: bool = True) -> None:
    """Write a DRN file of the epistemic POMDP of a family, or of a flat POMDP.

    Args:
        model: what to write.
        path: an existing file is replaced as a whole.
        observe_rewards: for a family, whether rewards are observed.

    Raises:
        BadInput: the family has a discount of 1, or the target cannot be written.
        RunFailed: writing failed on the way, as on a full disk.
    """
    if isinstance(model, Family):
        family = discounted(model)
        model = unseen_start(family, observe_rewards, [f"s{s}" for s in range(family.num_states)])
        text = _text(model, seen=True)
    else:
        text = _text(model, seen=False)
    with replacing(path) as out:
        for block in text:
            out.write(block)


def _text(pomdp: Pomdp, seen: bool) -> Iterator[bytes | memoryview]:
    """The file; `seen` says whether the start state's observation (there is one only) is seen at the start."""
    A = pomdp.num_actions
    start = np.flatnonzero(pomdp.initial)
    pairs = _pairs(pomdp)
    state, observation = np.divmod(pairs, pomdp.num_observations)
    unseen = 0 if seen else len(start)
    if not seen:
        # The start states come first once more, before anything is observed.
        state = np.append(start, state)
        observation = np.append(np.full(len(start), -1), observation)
    yield _head(pomdp.discount, 2 + len(state), 2 + A * len(state))
    entered = np.searchsorted(state, start) if seen else np.arange(len(start))
    yield from lines(("\t\t", " : ", "\n"), (_STATES_BEFORE + entered,), pomdp.initial[start])
    moves = sp.csr_array(sp.vstack([_moves(pomdp, a, pairs) for a in range(A)], format="csr"))
    moves.indices += _STATES_BEFORE + unseen
    plain = all(_LABEL.fullmatch(name) for name in pomdp.actions)
    labels = pomdp.actions if pomdp.actions and plain else tuple(f"a{a}" for a in range(A))
    for first in range(0, len(state), _BLOCK):
        block = slice(first, first + _BLOCK)
        yield from _states(pomdp, moves, labels, first, state[block], observation[block])


def _head(discount: float, num_states: int, num_choices: int) -> bytes:
    return f"""// Written by epomdp; discount {discount!r}: each step ends in the sink with one minus that
@type: POMDP
@parameters

@reward_models
reward
@nr_states
{num_states}
@nr_choices
{num_choices}
@model
state 0 {{0}} [0] end
	action __NOLABEL__ [0]
		0 : 1.0
state 1 {{1}} [0] init
	action __NOLABEL__ [0]
""".encode()


def _pairs(pomdp: Pomdp) -> NDArray[np.int64]:
    """s * O + o for each hidden state and observation that can go together, ascending."""
    different = {id(matrix): matrix for matrix in pomdp.observations}.values()
    keys = [_keys(matrix, pomdp.num_observations) for matrix in different]
    return np.unique(np.concatenate(keys)) if len(keys) > 1 else np.sort(keys[0])


def _keys(observations: sp.csr_array, num_observations: int) -> NDArray[np.int64]:
    row = np.repeat(np.arange(len(observations.indptr) - 1), np.diff(observations.indptr))
    return row * num_observations + observations.indices


def _moves(pomdp: Pomdp, a: int, pairs: NDArray[np.int64]) -> sp.csr_array:
    """(S, pairs) probability of the next hidden state and observation."""
    O = pomdp.observations[a]  # noqa: E741
    shape = (pomdp.num_states, len(pairs))
    split = sp.csr_array(
        (O.data, np.searchsorted(pairs, _keys(O, pomdp.num_observations)), O.indptr), shape=shape
    )
    cost = np.diff(O.indptr)[pomdp.transitions[a].indices].sum()
    require_memory(40 * cost, "splitting states by observation", "write .pomdp instead")
    moves = sp.csr_array(pomdp.transitions[a] @ split)
    moves.sort_indices()
    return moves


def _states(
    pomdp: Pomdp,
    moves: sp.csr_array,
    labels: tuple[str, ...],
    first: int,
    state: NDArray,
    observation: NDArray,
) -> Iterator[memoryview]:
    """The text of some states: in each row, the sink comes first, and with it the lines that open the row."""
    A, S = pomdp.num_actions, pomdp.num_states
    heads = [""] + [
        f"state {i} {{{o}}} [0]\n"
        for i, o in enumerate((observation + _OBSERVATIONS_BEFORE).tolist(), first + _STATES_BEFORE)
    ]
    # The lines that open a row are few, as most rewards are alike.
    rewards, which = np.unique(pomdp.rewards[state], return_inverse=True)
    kinds, opening = np.unique(which.reshape(-1, A) * A + np.arange(A), return_inverse=True)
    texts = rewards[kinds // A].tolist()
    openings = ["\t\t"] + [
        f"\taction {labels[a]} [{reward!r}]\n\t\t"
        for a, reward in zip((kinds % A).tolist(), texts, strict=True)
    ]
    rows = (np.arange(A) * S + state[:, None]).ravel()
    indptr, entries = gather_rows(moves.indptr.astype(np.int64), rows)
    sinks = indptr[:-1] + np.arange(len(rows))
    others = np.ones(len(entries) + len(rows), bool)
    others[sinks] = False
    head, begin, successor = (np.zeros(len(others), np.int64) for _ in range(3))
    head[sinks[::A]] = 1 + np.arange(len(state))
    begin[sinks] = 1 + opening.ravel()
    successor[others] = moves.indices[entries]
    probability = np.full(len(others), 1.0 - pomdp.discount)
    probability[others] = pomdp.discount * moves.data[entries]
    possible = probability > 0.0
    columns = (
        Named(Texts(heads), head[possible]), Named(Texts(openings), begin[possible]), successor[possible],
    )  # fmt: skip
    return lines(("", "", "", " : ", "\n"), columns, probability[possible])
