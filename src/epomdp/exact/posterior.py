"""Posteriors over environments: finite, Dirichlet with known or Gaussian rewards, and the bootstrap.

Each is immutable and has `update(evidence)`, `log_likelihood(evidence)`, `sample(rng, n)` and `mean()`. Evidence
is a sequence of (state, action, reward, next state).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import gammaln

from epomdp.errors import BadInput
from epomdp.exact import family_checks as checks
from epomdp.exact.belief import REWARD_TOLERANCE, EpistemicPOMDP
from epomdp.exact.evidence import Evidence, Transitions, as_evidence
from epomdp.exact.family import Family
from epomdp.exact.gaussian import NormalGamma


@dataclass(frozen=True, eq=False)
class FinitePosterior:
    """One of finitely many environments is true: P(m | D) is proportional to w_m times the likelihood of D.

    Attributes:
        family: the environments; its weights are the posterior's.
        observe_rewards: whether rewards are evidence too. If so an environment whose reward is another one than
            that seen is ruled out, since a family's rewards are taken to be exact.
    """

    family: Family
    observe_rewards: bool = True

    def update(self, evidence: Transitions) -> FinitePosterior:
        """The posterior after more evidence, by Bayes' rule.

        Raises:
            BadInput: no environment allows all of it: names the transition that ruled out the last one.
        """
        seen = self._read(evidence)
        kinds, _ = seen.distinct()
        left = self.family.weights > 0
        for i, likelihood in zip(kinds, self._likelihoods(seen, kinds), strict=True):
            left = left & (likelihood > 0)
            if not left.any():
                raise BadInput(
                    f"evidence: {seen.describe(int(i))} rules out the last environment that the ones before it left; "
                    f"check it, or give more environments a positive weight"
                )
        joint = self._log_weights() + self.log_likelihoods(seen)
        return replace(self, family=self.family.with_weights(np.exp(joint - _log_sum(joint))))

    def log_likelihoods(self, evidence: Transitions) -> NDArray[np.float64]:
        """(M,) natural logarithm of the evidence's probability in each environment, -inf where it has none."""
        seen = self._read(evidence)
        kinds, counts = seen.distinct()
        with np.errstate(divide="ignore"):
            return counts.astype(np.float64) @ np.log(self._likelihoods(seen, kinds))

    def log_likelihood(self, evidence: Transitions) -> float:
        """Natural logarithm of the evidence's probability under the posterior."""
        return _log_sum(self._log_weights() + self.log_likelihoods(evidence))

    def sample(self, rng: np.random.Generator, n: int) -> Family:
        """n environments drawn from the posterior; repeats are one environment with a larger weight."""
        drawn = rng.multinomial(_count(n), self.family.weights)
        chosen = np.flatnonzero(drawn)
        return self.family.select(chosen, drawn[chosen] / n)

    def mean(self) -> Family:
        """The posterior-mean MDP, as a family of one."""
        return self.family.mean()

    def _read(self, evidence: Transitions) -> Evidence:
        return as_evidence(evidence, self.family.num_states, self.family.num_actions, self.observe_rewards)

    def _log_weights(self) -> NDArray[np.float64]:
        with np.errstate(divide="ignore"):
            return np.log(self.family.weights)

    def _likelihoods(self, seen: Evidence, indices: NDArray[np.int64]) -> NDArray[np.float64]:
        """(len(indices), M) probability of each of some transitions in each environment."""
        # A horizon limits episodes; what a single step shows does not depend on it.
        pomdp = EpistemicPOMDP(replace(self.family, horizon=None), self.observe_rewards)
        rows = [pomdp.likelihood(*seen.transition(int(i))) for i in indices]
        return np.array(rows).reshape(len(indices), self.family.num_environments)


@dataclass(frozen=True, eq=False)
class DirichletPosterior:
    """Each row of the transitions is unknown by itself, with a Dirichlet distribution.

    Attributes:
        counts: (S, A, S) float64, pseudo-counts, at least 0; where one is 0 the successor is impossible.
        rewards: (S, A) known rewards, of which the evidence must not differ; or a `NormalGamma` belief. In
            families drawn from the latter, rewards are the Gaussians' means. As a single reward does not show
            its mean, solve them with rewards not observed.
        initial: (S,) start-state distribution.
        discount: discount factor.
        horizon: number of steps after which an episode stops, or None.
    """

    counts: NDArray[np.float64]
    rewards: NDArray[np.float64] | NormalGamma
    initial: NDArray[np.float64]
    discount: float
    horizon: int | None = None

    def __post_init__(self) -> None:
        counts = checks.as_floats("counts", self.counts)
        if counts.ndim != 3 or counts.shape[0] != counts.shape[2] or 0 in counts.shape:
            raise BadInput(f"counts: have shape {counts.shape}; give (states, actions, states)")
        bad = np.argwhere(~(np.isfinite(counts) & (counts >= 0)))
        if bad.size:
            s, a, t = bad[0]
            raise BadInput(
                f"counts: state {s}, action {a}, state {t} has {counts[s, a, t]}; give numbers of at least 0"
            )
        empty = np.argwhere(counts.sum(axis=2) == 0)
        if empty.size:
            raise BadInput(
                f"counts: state {empty[0, 0]}, action {empty[0, 1]} has no successor; give one a count"
            )
        object.__setattr__(self, "counts", counts)
        initial = checks.as_floats("initial", self.initial)
        if initial.shape != counts.shape[:1]:
            raise BadInput(f"initial: has shape {initial.shape}; give (states,) = {counts.shape[:1]}")
        object.__setattr__(self, "initial", checks.as_distribution("initial", "state", initial))
        object.__setattr__(self, "discount", checks.check_range(checks.as_discount(self.discount)))
        object.__setattr__(self, "horizon", checks.as_horizon(self.horizon))
        if isinstance(self.rewards, NormalGamma):
            parts = (
                _table(f"rewards.{name}", value, counts.shape[:2], name != "mean")
                for name, value in self.rewards._asdict().items()
            )
            object.__setattr__(self, "rewards", NormalGamma(*parts))
        else:
            object.__setattr__(self, "rewards", _table("rewards", self.rewards, counts.shape[:2], False))

    def update(self, evidence: Transitions) -> DirichletPosterior:
        """The posterior after more evidence: counts are added, Gaussian rewards updated.

        Raises:
            BadInput: naming a transition of zero probability, or one whose reward is not the known one.
        """
        seen = self._allowed(evidence)
        counts = self.counts.copy()
        np.add.at(counts, (seen.states, seen.actions, seen.next_states), 1.0)
        rewards = self.rewards
        if isinstance(rewards, NormalGamma):
            rewards = rewards.update(seen)
        return replace(self, counts=counts, rewards=rewards)

    def log_likelihood(self, evidence: Transitions) -> float:
        """Natural logarithm of the evidence's probability (Gaussian rewards: density) under the posterior.

        A transition that it does not allow makes it -inf.
        """
        try:
            seen = self._allowed(evidence)
        except _Impossible:
            return -np.inf
        after = self.update(seen).counts
        some = self.counts > 0
        rows = gammaln(self.counts.sum(axis=2)) - gammaln(after.sum(axis=2))
        total = rows.sum() + (gammaln(after[some]) - gammaln(self.counts[some])).sum()
        if isinstance(self.rewards, NormalGamma):
            total += self.rewards.log_density(seen)
        return float(total)

    def sample(self, rng: np.random.Generator, n: int) -> Family:
        """n independent environments drawn from the posterior, with equal weights."""
        _count(n)
        S, A, _ = self.counts.shape
        row, successor = np.nonzero(self.counts.reshape(S * A, S))
        alpha = self.counts.reshape(S * A, S)[row, successor]
        starts = np.searchsorted(row, np.arange(S * A))
        # Gamma(a) is Gamma(a + 1) U^(1/a); in logarithms, as small counts draw numbers that are too small.
        draws = np.log(rng.standard_gamma(alpha + 1.0, (n, alpha.size)))
        draws -= rng.standard_exponential((n, alpha.size)) / alpha
        draws = np.exp(draws - np.maximum.reduceat(draws, starts, axis=1)[:, row])
        draws /= np.add.reduceat(draws, starts, axis=1)[:, row]
        indptr = np.append((np.arange(n)[:, None] * row.size + starts).ravel(), n * row.size)
        if isinstance(self.rewards, NormalGamma):
            rewards = self.rewards.draw_means(rng, n)
        else:
            rewards = np.broadcast_to(self.rewards, (n, S, A))
        weights = np.full(n, 1.0 / n)
        return Family.from_sparse(
            indptr,
            np.tile(successor, n),
            draws.ravel(),
            rewards,
            self.initial,
            weights,
            self.discount,
            self.horizon,
        )

    def mean(self) -> Family:
        """The posterior-mean MDP, as a family of one."""
        transitions = self.counts / self.counts.sum(axis=2, keepdims=True)
        rewards = self.rewards.mean if isinstance(self.rewards, NormalGamma) else self.rewards
        return Family.from_arrays(
            transitions[None], rewards[None], self.initial, [1.0], self.discount, self.horizon
        )

    def _allowed(self, evidence: Transitions) -> Evidence:
        S, A, _ = self.counts.shape
        seen = as_evidence(evidence, S, A)
        fine = self.counts[seen.states, seen.actions, seen.next_states] > 0
        if not isinstance(self.rewards, NormalGamma):
            known = self.rewards[seen.states, seen.actions]
            fine &= np.abs(known - seen.rewards) <= REWARD_TOLERANCE * np.maximum(1.0, np.abs(seen.rewards))
        wrong = np.flatnonzero(~fine)
        if wrong.size:
            raise _Impossible(
                f"evidence: {seen.describe(int(wrong[0]))} has probability 0, so no environment is left; "
                f"check it, or give it a count and its reward"
            )
        return seen


@dataclass(frozen=True, eq=False)
class BootstrapPosterior:
    """An approximate posterior: what could have been learnt from resamples of the evidence (Efron 1979).

    A member is the mean of `base` after a resample, as long as the evidence and with replacement, of its
    transitions. With all base counts near 0 it is the resample's maximum-likelihood model; base counts speak for
    what no resample has seen.

    Attributes:
        base: the posterior before any evidence.
        evidence: all transitions so far.
        members: n, the size of `family`.
        seed: fixes the members' resamples.
    """

    base: DirichletPosterior
    evidence: Transitions = ()
    members: int = 20
    seed: int = 0

    def __post_init__(self) -> None:
        _count(self.members)
        object.__setattr__(self, "evidence", self.base._allowed(self.evidence))

    @property
    def _seen(self) -> Evidence:
        assert isinstance(self.evidence, Evidence)
        return self.evidence

    @cached_property
    def family(self) -> Family:
        """The n members, with equal weights."""
        return self.sample(np.random.default_rng(self.seed), self.members)

    def update(self, evidence: Transitions) -> BootstrapPosterior:
        """The posterior after more evidence; all members are resampled.

        Raises:
            BadInput: naming a transition that the base does not allow.
        """
        more = self.base._allowed(evidence)
        return replace(self, evidence=self._seen.followed_by(more))

    def log_likelihood(self, evidence: Transitions) -> float:
        """Natural logarithm of the mean over members of the evidence's probability (density)."""
        rng = np.random.default_rng(self.seed)
        each = [member.log_likelihood(evidence) for member in self._resampled(rng, self.members)]
        return _log_sum(np.array(each)) - float(np.log(self.members))

    def sample(self, rng: np.random.Generator, n: int) -> Family:
        """n new members, with equal weights."""
        means = [member.mean() for member in self._resampled(rng, _count(n))]
        return Family.from_sparse(
            np.concatenate(
                [[0], *(m.indptr[1:] + shift for m, shift in zip(means, _shifts(means), strict=True))]
            ),
            np.concatenate([m.successors for m in means]),
            np.concatenate([m.probabilities for m in means]),
            np.concatenate([m.rewards for m in means]),
            self.base.initial,
            np.full(n, 1.0 / n),
            self.base.discount,
            self.base.horizon,
        )

    def mean(self) -> Family:
        """The mean MDP of the members, as a family of one."""
        return self.family.mean()

    def _resampled(self, rng: np.random.Generator, n: int) -> list[DirichletPosterior]:
        size = self._seen.states.size
        if size == 0:
            return [self.base] * n
        return [self.base.update(self._seen.take(rng.integers(0, size, size))) for _ in range(n)]


class _Impossible(BadInput):
    """Evidence of probability zero."""


def _log_sum(logarithms: NDArray[np.float64]) -> float:
    """Logarithm of a sum of numbers given by their logarithms."""
    return float(np.logaddexp.reduce(logarithms))


def _shifts(means: list[Family]) -> NDArray[np.int64]:
    sizes = [m.probabilities.size for m in means]
    return np.concatenate([[0], np.cumsum(sizes[:-1])]).astype(np.int64)


def _count(n: int) -> int:
    if not isinstance(n, (int, np.integer)) or isinstance(n, bool) or n < 1:
        raise BadInput(f"posterior: {n} environments asked for; give a whole number, at least 1")
    return int(n)


def _table(name: str, value: ArrayLike, shape: tuple[int, ...], positive: bool) -> NDArray[np.float64]:
    table = checks.as_floats(name, value)
    if table.shape != shape:
        raise BadInput(f"{name}: has shape {table.shape}; give (states, actions) = {shape}")
    bad = np.argwhere(~(np.isfinite(table) & ((table > 0) | (not positive))))
    if bad.size:
        s, a = bad[0]
        mend = "positive numbers" if positive else "finite numbers"
        raise BadInput(f"{name}: state {s}, action {a} has {table[s, a]}; give {mend}")
    return table
