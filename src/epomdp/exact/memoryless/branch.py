"""Branch and bound over deterministic memoryless policies: fix the action of one state after another.

A node fixes the actions of some states. Its bound is the mean of the environments' own optimal values when
these states must take these actions and the others are free in each environment by itself: no policy that
agrees with the node does better in any environment, so none does on average (the bound of Ahluwalia, Steimle
and Denton 2021 for multi-model MDPs). At the root it is the informed value; with all states fixed it is exact.
"""

from __future__ import annotations

import heapq
import time

import numpy as np
from numpy.typing import NDArray

from epomdp.exact.compiled import compiled
from epomdp.exact.mdp import optimal_values
from epomdp.exact.memoryless.box_kernels import MOST_SWEEPS
from epomdp.exact.occupancy import MemorylessReturn

# Beyond this many transition entries even one node is slow, and no tree of a useful size can be searched.
_MOST_ENTRIES = 10**6
# Memory that the open nodes may take.
_MOST_BYTES = 2**30


def bound_deterministic(
    returns: MemorylessReturn,
    actions: NDArray[np.int64],
    ceiling: float,
    slack: float,
    deadline: float,
) -> tuple[float, NDArray[np.int64] | None]:
    """An upper bound on every deterministic memoryless policy's value, and a better policy where one was found.

    Best-first, so that the bound falls steadily and is valid whenever the deadline (`time.monotonic`) comes.
    Values are iterated from above (each child starts from its parent's), which keeps every iterate a bound.
    The bound returned is at most `slack` above the value of the better policy if the search ended.

    Args:
        returns: of the family.
        actions: (S,) the best policy known.
        ceiling: an upper bound known already.
        slack: nodes that promise no more than half of this above the best known value are dropped.
        deadline: when to stop.

    The number of nodes is exponential in the number of states in the worst case.
    """
    if returns.inner.probabilities.size > _MOST_ENTRIES:
        return ceiling, None
    tree = _Tree(returns, actions, slack)
    while tree.open and time.monotonic() < deadline and not tree.full():
        tree.expand()
    return min(ceiling, tree.bound()), tree.better


class _Tree:
    """The open nodes, the best policy known and the highest bound among the nodes that were dropped."""

    def __init__(self, returns: MemorylessReturn, actions: NDArray[np.int64], slack: float):
        self.returns = returns
        self.slack = slack
        self.value = returns.value(self._one_hot(actions))
        self.better: NDArray[np.int64] | None = None
        self.dropped = self.value
        self.open: list[tuple] = []
        self.count = 0
        family = returns.inner
        scale = max(1.0, float(np.abs(family.rewards).max(initial=0.0)))
        # Optimal values come within 1e-10 of the truth: start above it.
        values = optimal_values(family) + 1e-9 * scale
        self.tolerance = 1e-9 * scale
        self._add(np.full(returns.family.num_states, -1), values, np.inf)

    def bound(self) -> float:
        """What no deterministic memoryless policy exceeds."""
        return max(self.dropped, -self.open[0][0]) if self.open else self.dropped

    def full(self) -> bool:
        """Whether the open nodes have used up their memory."""
        values = self.returns.inner.rewards[:, :, 0].size
        return len(self.open) * 8 * (values + 2 * self.returns.family.num_states) > _MOST_BYTES

    def expand(self) -> None:
        """Split the most promising node by the actions of its most contested state."""
        bound, _, fixed, values, state = heapq.heappop(self.open)
        if -bound <= self.value + 0.5 * self.slack:
            self.dropped = max(self.dropped, -bound)
            return
        for action in range(self.returns.family.num_actions):
            child = fixed.copy()
            child[state] = action
            self._add(child, values.copy(), -bound)

    def _add(self, fixed: NDArray[np.int64], values: NDArray[np.float64], above: float) -> None:
        """Bound a node and keep it if it promises more than the best policy known; `values` becomes its own."""
        family = self.returns.inner
        arrays = (family.indptr, family.successors, family.probabilities, family.rewards)
        mixture = (family.initial, family.weights, family.discount, self.returns.rows)
        bound = min(above, _restricted_values(*arrays, *mixture, fixed, self.tolerance, values))
        if bound <= self.value + 0.5 * self.slack:
            self.dropped = max(self.dropped, bound)
            return
        loss = np.zeros((fixed.size, family.num_actions))
        _add_losses(*arrays, *mixture, fixed, values, loss)
        candidate = np.where(fixed >= 0, fixed, loss.argmin(axis=1))
        reached = self.returns.value(self._one_hot(candidate))
        if reached > self.value:
            self.value, self.better = reached, candidate
        free = fixed < 0
        if not free.any():
            bound = min(bound, reached)
        if bound <= self.value + 0.5 * self.slack:
            self.dropped = max(self.dropped, bound)
            return
        # What the best common action costs comes first; what the other actions cost breaks ties.
        contest = loss.min(axis=1) + 1e-3 * loss.mean(axis=1)
        state = int(np.where(free, contest, -1.0).argmax())
        heapq.heappush(self.open, (-bound, self.count, fixed, values, state))
        self.count += 1

    def _one_hot(self, actions: NDArray[np.int64]) -> NDArray[np.float64]:
        return np.eye(self.returns.family.num_actions)[actions]


@compiled
def _restricted_values(
    indptr, successors, probabilities, rewards, initial, weights, discount, rows, fixed, tolerance, values
):
    """Lower `values` (M, N) to those of environments that obey `fixed`; return their mean at the start."""
    M, N, A = rewards.shape
    bound = 0.0
    for m in range(M):
        for _ in range(MOST_SWEEPS if weights[m] > 0.0 else 0):
            change = 0.0
            # Time, where it is a part of the state, grows with the index: backwards, one sweep is enough.
            for s in range(N - 1, -1, -1):
                only = fixed[rows[s]]
                best = -np.inf
                for a in range(A):
                    if only >= 0 and a != only:
                        continue
                    total, stay = rewards[m, s, a], 0.0
                    row = (m * N + s) * A + a
                    for k in range(indptr[row], indptr[row + 1]):
                        if successors[k] == s:
                            stay += discount * probabilities[k]
                        else:
                            total += discount * probabilities[k] * values[m, successors[k]]
                    # A loop is solved for; a state that is never left at discount 1 is an end, worth nothing.
                    best = max(best, total / (1.0 - stay) if stay < 1.0 else 0.0)
                if best < values[m, s]:
                    change = max(change, values[m, s] - best)
                    values[m, s] = best
            if change <= tolerance:
                break
        for s in range(N):
            bound += weights[m] * initial[s] * values[m, s]
    return bound


@compiled
def _add_losses(
    indptr, successors, probabilities, rewards, initial, weights, discount, rows, fixed, values, loss
):
    """Add to `loss` (S, A) what action a in the states tied to row s costs, to first order.

    It is measured against each environment's own best choice and weighted by the visits under these choices,
    which are followed until a hundredth of the episode is left: this only guides the search.
    """
    M, N, A = rewards.shape
    q = np.empty((N, A))
    greedy = np.empty(N, dtype=np.int64)
    for m in range(M):
        for s in range(N):
            best = -1
            for a in range(A):
                row = (m * N + s) * A + a
                q[s, a] = rewards[m, s, a]
                for k in range(indptr[row], indptr[row + 1]):
                    q[s, a] += discount * probabilities[k] * values[m, successors[k]]
                if (fixed[rows[s]] < 0 or fixed[rows[s]] == a) and (best < 0 or q[s, a] > q[s, best]):
                    best = a
            greedy[s] = best
        visits = _visits(m, indptr, successors, probabilities, greedy, initial, discount, A)
        for s in range(N):
            for a in range(A):
                loss[rows[s], a] += weights[m] * visits[s] * max(0.0, q[s, greedy[s]] - q[s, a])


@compiled
def _visits(m, indptr, successors, probabilities, actions, initial, discount, A):
    """Discounted visits (N,) of a deterministic policy in environment m, but for the last hundredth."""
    N = initial.size
    visits = np.zeros(N)
    now = initial.copy()
    steps = 0
    while now.sum() > 0.01 and steps < 1000:
        steps += 1
        after = np.zeros(N)
        for s in range(N):
            visits[s] += now[s]
            row = (m * N + s) * A + actions[s]
            stays = indptr[row + 1] - indptr[row] == 1 and successors[indptr[row]] == s
            if now[s] > 0.0 and not stays:
                for k in range(indptr[row], indptr[row + 1]):
                    after[successors[k]] += discount * probabilities[k] * now[s]
        now = after
    return visits
