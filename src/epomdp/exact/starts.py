"""Environments that start in different states, brought to one shared start."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from epomdp.errors import BadInput
from epomdp.exact import family_checks as checks
from epomdp.exact.family import Family


def prepend_start(family: Family, initials: NDArray[np.float64]) -> Family:
    """The family with one more state, the last one, in which every episode starts.

    Whatever is done there, environment m goes to its own start state, drawn from row m, without a reward. That
    the first state is seen, and tells environments apart, is thus a step like any other. As it delays all
    rewards by a step, they are divided by the discount and a horizon is one longer: the value of the new start
    is that of the episode, while the values of the other states are those of the episode over the discount.

    Args:
        family: M environments, S states; its `initial` is not looked at.
        initials: (M, S) start-state distribution of each environment.

    Raises:
        BadInput: a row is no distribution, or the discount is 0.
    """
    M, S, A = family.rewards.shape
    if initials.shape != (M, S):
        raise BadInput(
            f"initial: has shape {initials.shape}; give ({S},), or ({M}, {S}) for different starts"
        )
    if family.discount == 0.0:
        raise BadInput("discount: is 0, and starts differ between environments; give a discount above 0")
    rows = [
        checks.as_distribution(f"initial of environment {m}", "state", row) for m, row in enumerate(initials)
    ]
    indptr, successors, probabilities = [np.zeros(1, dtype=np.int64)], [], []
    for m in range(M):
        matrix = family.matrix(m)
        starts = np.flatnonzero(rows[m])
        successors += [matrix.indices, np.tile(starts, A)]
        probabilities += [matrix.data, np.tile(rows[m][starts], A)]
        own = matrix.indptr[-1] + starts.size * np.arange(1, A + 1)
        indptr.append(indptr[-1][-1] + np.concatenate([matrix.indptr[1:], own]))
    rewards = np.concatenate([family.rewards / family.discount, np.zeros((M, 1, A))], axis=1)
    return replace(
        family,
        indptr=np.concatenate(indptr).astype(np.int64),
        successors=np.concatenate(successors).astype(np.int32),
        probabilities=np.concatenate(probabilities),
        rewards=rewards,
        initial=(np.arange(S + 1) == S).astype(np.float64),
        horizon=None if family.horizon is None else family.horizon + 1,
    ).checked()
