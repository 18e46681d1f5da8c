"""Evidence about environments: transitions that were seen, checked."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from epomdp.errors import BadInput
from epomdp.exact.family_checks import short


class Evidence(NamedTuple):
    """N transitions, in the order in which they were seen.

    Attributes:
        states, actions, next_states: (N,) int64.
        rewards: (N,) float64.
    """

    states: NDArray[np.int64]
    actions: NDArray[np.int64]
    rewards: NDArray[np.float64]
    next_states: NDArray[np.int64]

    def describe(self, index: int) -> str:
        """One transition, for a message."""
        s, a, r, t = self.transition(index)
        return f"transition {index} (state {s}, action {a}, reward {r:.9g}, next state {t})"

    def transition(self, index: int) -> tuple[int, int, float, int]:
        """One transition: state, action, reward, next state."""
        return (
            int(self.states[index]),
            int(self.actions[index]),
            float(self.rewards[index]),
            int(self.next_states[index]),
        )

    def take(self, indices: NDArray[np.integer]) -> Evidence:
        """Some of the transitions, with repeats if wished."""
        return Evidence(
            self.states[indices], self.actions[indices], self.rewards[indices], self.next_states[indices]
        )

    def followed_by(self, more: Evidence) -> Evidence:
        """This evidence and then more."""
        return Evidence(
            np.concatenate([self.states, more.states]),
            np.concatenate([self.actions, more.actions]),
            np.concatenate([self.rewards, more.rewards]),
            np.concatenate([self.next_states, more.next_states]),
        )

    def distinct(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Index of the first of each kind of transition, in the order seen, and how often the kind was seen."""
        table = np.stack([column.astype(np.float64) for column in self], axis=1)
        _, first, counts = np.unique(table, axis=0, return_index=True, return_counts=True)
        order = np.argsort(first)
        return first[order].astype(np.int64), counts[order].astype(np.int64)


Transitions = Evidence | Iterable[tuple[int, int, float, int]] | NDArray[np.floating] | NDArray[np.integer]


def as_evidence(
    transitions: Transitions, num_states: int, num_actions: int, with_rewards: bool = True
) -> Evidence:
    """Evidence, checked, from (state, action, reward, next state) tuples or an array (N, 4) of such rows, or as it is.

    Without rewards, whatever stands in their place is not looked at, and 0 put there.

    Raises:
        BadInput: naming the transition and what is wrong with it.
    """
    if not isinstance(transitions, Evidence):
        if isinstance(transitions, np.ndarray):
            transitions = transitions.tolist()
        try:
            rows = [_row(i, row) for i, row in enumerate(transitions)]
        except TypeError:
            raise BadInput(
                f"evidence: is {short(transitions)}; give a sequence of (state, action, reward, next state)"
            ) from None
        columns = list(zip(*rows, strict=True)) if rows else [(), (), (), ()]
        whole = [np.array(columns[i], dtype=np.int64) for i in (0, 1, 3)]
        transitions = Evidence(whole[0], whole[1], np.array(columns[2], dtype=np.float64), whole[2])
    if not with_rewards:
        transitions = transitions._replace(rewards=np.zeros(transitions.states.size))
    ranges = ((0, "state", num_states), (1, "action", num_actions), (3, "next state", num_states))
    for column, what, size in ranges:
        wrong = np.flatnonzero((transitions[column] < 0) | (transitions[column] >= size))
        if wrong.size:
            i = int(wrong[0])
            raise BadInput(
                f"evidence: transition {i} has {what} {transitions[column][i]}; give 0 to {size - 1}"
            )
    wrong = np.flatnonzero(~np.isfinite(transitions.rewards))
    if wrong.size:
        i = int(wrong[0])
        raise BadInput(f"evidence: transition {i} has reward {transitions.rewards[i]}; give a finite number")
    return transitions


def _row(index: int, row: Any) -> tuple[int, int, float, int]:
    try:
        state, action, reward, next_state = row
        whole = [np.asarray(value) for value in (state, action, next_state)]
        # A table of real numbers holds whole ones as 3.0.
        if any(value.dtype.kind not in "iuf" or value != np.floor(value) for value in whole):
            raise TypeError
        return int(state), int(action), float(reward), int(next_state)
    except (TypeError, ValueError, OverflowError):
        raise BadInput(
            f"evidence: transition {index} is {row!r}; give (state, action, reward, next state), all but the "
            f"reward whole numbers"
        ) from None
