"""Bayes-adaptive planning for Dirichlet posteriors: sample-based tree search with root sampling (BAMCP).

A. Guez, D. Silver, P. Dayan: Efficient Bayes-Adaptive Reinforcement Learning using Sample-Based Search, 2012.

Every simulation draws a model from the posterior at the root and keeps it to its end, so no belief is
updated inside the tree; a node is a history of actions and successors. The model is drawn lazily: only
what the simulation touches is sampled. Here that goes down to the single transition. A row of transition
probabilities drawn from a Dirichlet(c) matters to a simulation only through the successors drawn from it,
and these follow the Polya urn: the (n+1)-th draw is successor j with probability
(c_j + number of earlier draws of j) / (sum c + n), the earlier draws being those of this simulation.
So urns give simulations with exactly the distribution of root sampling, and a step costs one binary search
where drawing the row would cost as many gamma variates as there are states.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import gammaln

from epomdp.errors import BadInput
from epomdp.exact import family_checks as checks
from epomdp.exact import tree_search

if TYPE_CHECKING:
    from epomdp.exact.posterior import DirichletPosterior


@dataclass(frozen=True)
class SparseDirichlet:
    """Prior over transition rows with few successors (N. Friedman, Y. Singer 1999).

    The number k of possible successors of a row has P(k) proportional to k^-decay; given k, every set of k
    states is equally likely, and the row is a symmetric Dirichlet on the set.

    Attributes:
        concentration: Dirichlet parameter of each possible successor, above 0.
        decay: how fast large sets lose probability; 0 makes all sizes equally likely.
    """

    concentration: float = 0.2
    decay: float = 2.0

    def size_posterior(self, counts: NDArray[np.float64]) -> NDArray[np.float64]:
        """(..., S) probability of 1, ..., S possible successors, given the counts (..., S) of observed ones.

        With n observed transitions to d distinct successors,
        P(k) is proportional to k^-decay * k! / (k-d)! * Gamma(k c) / Gamma(k c + n) for k >= d.
        """
        S = counts.shape[-1]
        k = np.arange(1.0, S + 1)
        distinct = (counts > 0).sum(axis=-1, keepdims=True)
        total = counts.sum(axis=-1, keepdims=True)
        c = self.concentration
        log_weight = -self.decay * np.log(k) + gammaln(k + 1) - gammaln(np.maximum(k - distinct, 0) + 1)
        log_weight = log_weight + gammaln(k * c) - gammaln(k * c + total)
        log_weight = np.where(k >= distinct, log_weight, -np.inf)
        weight = np.exp(log_weight - log_weight.max(axis=-1, keepdims=True))
        return weight / weight.sum(axis=-1, keepdims=True)


class Bamcp:
    """An agent that plans with BAMCP at every step and learns from what it then observes.

    Attributes:
        counts: (S, A, S) concentrations including the evidence; for a sparse prior the evidence alone.
        action_values: (S, A) of Q-learning on the real transitions; rollouts are greedy for them.
        depth: search horizon in steps.
    """

    def __init__(
        self,
        prior: ArrayLike | SparseDirichlet,
        rewards: ArrayLike,
        discount: float,
        simulations: int = 1000,
        exploration: float = 3.0,
        epsilon: float = 0.5,
        learning_rate: float = 0.2,
        accuracy: float = 0.01,
        seed: int = 0,
    ):
        """An agent that has seen nothing beyond its prior.

        Args:
            prior: Dirichlet concentrations, broadcast to (S, A, S): a prior's, or a posterior's with the
                counts added; or a `SparseDirichlet`.
            rewards: (S, A) known expected reward of each action.
            discount: gamma in (0, 1).
            simulations: simulations per decision.
            exploration: constant c of the upper confidence bound, in the unit of returns.
            epsilon: share of random actions in rollouts.
            learning_rate: of the Q-learning behind the rollouts.
            accuracy: the search ends at the depth where discount^depth <= accuracy.
            seed: fixes every decision, given the same updates.

        Raises:
            BadInput: for shapes that do not fit, and numbers out of range.
        """
        self.rewards = checks.as_floats("Bamcp: rewards", rewards)
        if self.rewards.ndim != 2 or not np.isfinite(self.rewards).all():
            raise BadInput(
                f"Bamcp: rewards have shape {self.rewards.shape}; give finite numbers, shape (S, A)"
            )
        _require(0 < discount < 1, "discount", discount, "a number between 0 and 1")
        _require(0 < accuracy < 1, "accuracy", accuracy, "a number between 0 and 1")
        _require(0 <= epsilon <= 1, "epsilon", epsilon, "a number from 0 to 1")
        _require(0 <= learning_rate <= 1, "learning_rate", learning_rate, "a number from 0 to 1")
        _require(exploration >= 0, "exploration", exploration, "a number from 0")
        _require(simulations >= 1, "simulations", simulations, "a whole number from 1")
        _require(seed >= 0, "seed", seed, "a whole number from 0")
        S, A = self.rewards.shape
        self.discount, self.simulations = float(discount), int(simulations)
        self.exploration, self.learning_rate = float(exploration), float(learning_rate)
        self.depth = max(1, math.ceil(math.log(accuracy) / math.log(discount)))
        self._sparse = prior if isinstance(prior, SparseDirichlet) else None
        self.counts = _first_counts(prior, S, A)
        self.action_values = np.zeros((S, A))
        self._random = np.array([seed], dtype=np.uint64)
        self._simulated = 0
        self._tree = _empty_tree(self.simulations, A, self.depth)
        self._urns = _empty_urns(S, A, self.depth, self._sparse)
        self._rollout = tree_search.Rollout(
            np.tile(np.arange(A, dtype=np.int32), (S, 1)), np.full(S, A, dtype=np.int32), float(epsilon)
        )
        for row in range(S * A):
            self._fill_urn(row)

    @classmethod
    def from_posterior(cls, posterior: DirichletPosterior, **settings: Any) -> Self:
        """An agent that starts from a posterior's counts, with its rewards and discount.

        Args:
            posterior: with known rewards, and a discount below 1.
            settings: as for the constructor, `simulations` and the ones after it.
        """
        if not isinstance(posterior.rewards, np.ndarray):
            raise BadInput("Bamcp: the posterior's rewards are not known; give one with rewards (S, A)")
        return cls(posterior.counts, posterior.rewards, posterior.discount, **settings)

    def search(self, state: int) -> NDArray[np.float64]:
        """(A,) mean simulated return of each action in `state`; -inf for one that was never tried."""
        self._check_state(state)
        tree_search.search(
            self._tree,
            self._urns,
            self._rollout,
            self.rewards,
            self.discount,
            self.exploration,
            state,
            self.simulations,
            self._simulated,
            self._random,
        )
        self._simulated += self.simulations
        return np.where(self._tree.visits[0] > 0, self._tree.mean[0], -np.inf)

    def act(self, state: int) -> int:
        """The action that the search from `state` finds best; ties are broken at random."""
        values = self.search(state)
        best = np.flatnonzero(values == values.max())
        return int(best[tree_search.below(best.size, self._random)])

    def update(self, state: int, action: int, reward: float, next_state: int) -> None:
        """Learn from one real transition: the posterior counts it, and Q-learning takes one step."""
        self._check_state(state)
        self._check_state(next_state)
        A = self.rewards.shape[1]
        if not 0 <= action < A:
            raise BadInput(f"Bamcp: action {action} does not exist; actions are 0 to {A - 1}")
        self.counts[state, action, next_state] += 1
        self._fill_urn(state * A + action)
        Q = self.action_values
        target = reward + self.discount * Q[next_state].max()
        Q[state, action] += self.learning_rate * (target - Q[state, action])
        best = np.flatnonzero(Q[state] == Q[state].max())
        self._rollout.greedy[state, : best.size] = best
        self._rollout.number[state] = best.size

    def _fill_urn(self, row: int) -> None:
        """Enter the counts of a row, which may have changed, into the urns."""
        S = self.counts.shape[-1]
        counts = self.counts.reshape(-1, S)[row]
        if self._sparse is not None:
            sizes = self._sparse.size_posterior(counts)
            self._urns.size_cdf[row] = np.cumsum(sizes)
            self._urns.size_cdf[row, -1] = np.inf  # whatever rounding does, the size is at most S
            counts = np.where(counts > 0, counts + self._sparse.concentration, 0)
        tree_search.fill_row(self._urns.rows, self._urns.slots, row, counts, np.count_nonzero(counts))

    def _check_state(self, state: int) -> None:
        if not 0 <= state < len(self.rewards):
            raise BadInput(f"Bamcp: state {state} does not exist; states are 0 to {len(self.rewards) - 1}")


def _require(fine: bool, name: str, value: float, mend: str) -> None:
    if not fine:
        raise BadInput(f"Bamcp: {name} is {value}; give {mend}")


def _first_counts(prior: ArrayLike | SparseDirichlet, S: int, A: int) -> NDArray[np.float64]:
    if isinstance(prior, SparseDirichlet):
        _require(prior.concentration > 0, "concentration", prior.concentration, "a number above 0")
        return np.zeros((S, A, S))
    prior = checks.as_floats("Bamcp: prior", prior)
    try:
        counts = np.broadcast_to(prior, (S, A, S)).copy()
    except ValueError:
        raise BadInput(f"Bamcp: prior has shape {prior.shape}; it must broadcast to {(S, A, S)}") from None
    if not (counts >= 0).all() or not np.isfinite(counts).all():
        raise BadInput("Bamcp: prior has a negative or infinite concentration; give finite numbers from 0")
    empty = np.argwhere(counts.sum(axis=-1) == 0)
    if empty.size:
        raise BadInput(
            f"Bamcp: prior of state, action {tuple(map(int, empty[0]))} is all 0; name a successor"
        )
    return counts


def _empty_tree(simulations: int, A: int, depth: int) -> tree_search.Tree:
    nodes = simulations + 1
    return tree_search.Tree(
        visits=np.zeros((nodes, A), dtype=np.int32),
        mean=np.zeros((nodes, A)),
        first_child=np.full((nodes, A), tree_search.NONE, dtype=np.int32),
        sibling=np.full(nodes, tree_search.NONE, dtype=np.int32),
        state=np.zeros(nodes, dtype=np.int32),
        path=np.zeros((depth, 2), dtype=np.int32),
        reward=np.zeros(depth),
    )


def _empty_urns(S: int, A: int, depth: int, sparse: SparseDirichlet | None) -> tree_search.Urns:
    rows = np.zeros(S * A, dtype=tree_search.ROW)
    rows["simulation"] = -1
    return tree_search.Urns(
        rows=rows,
        slots=np.zeros((S * A, S), dtype=tree_search.SLOT),
        steps=np.zeros(depth, dtype=tree_search.STEP),
        size_cdf=np.zeros((S * A, S) if sparse else (0, 0)),
        concentration=sparse.concentration if sparse else 0.0,
    )
