"""Statistics of evaluation records, with confidence intervals over contexts and training seeds.

A record is a list with one array per training seed: `(contexts, episodes)` values, or `(contexts,)` where a
context has one value (an exact expected return). Episodes of a context are averaged first, so that a context
counts once. Every figure has a two-stage interval (`resampling.py`):

- contexts are resampled with replacement. Contexts with the same id go together, in all seeds and in both
  agents, and are drawn within strata of ids that the same seeds have;
- to each draw, a Student deviate with (seeds - 1) degrees of freedom times the jackknife standard error over
  seeds is added.

The interval holds the percentiles of the estimate plus both deviations. With one seed it is the ordinary
percentile bootstrap over contexts, and it says nothing about other seeds (`Estimate.covers_seeds`).
`docs/statistics.md` has the measured coverage, and why seeds are not resampled with replacement as well.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from epomdp.errors import BadInput
from epomdp.resampling import (
    Floats,
    Ids,
    Record,
    Statistic,
    Table,
    context_means,
    interval,
    positions,
    seed_arrays,
    tabulate,
)


@dataclass(frozen=True)
class Estimate:
    """A figure and its confidence interval.

    Attributes:
        value: the estimate from the records as they are.
        interval: lower and upper end, in the units of `value`.
        level: nominal coverage of the interval.
        contexts: number of distinct contexts (by id; by position where no ids were given).
        seeds: number of training seeds; of two agents with different numbers, the smaller.
        covers_seeds: False where there is one seed only: the interval then covers the choice of contexts,
            not the variance between training runs.
    """

    value: float
    interval: tuple[float, float]
    level: float
    contexts: int
    seeds: int
    covers_seeds: bool

    def __str__(self) -> str:
        scope = f"{self.seeds} seeds" if self.covers_seeds else "one seed: seed variance not covered"
        low, high = self.interval
        return (
            f"{self.value:.3g} [{low:.3g}, {high:.3g}] ({self.level:.0%}, {self.contexts} contexts, {scope})"
        )

    def to_json(self) -> dict:
        """`{"mean": value, "interval": [low, high]}`, the form of a gap in the command line's JSON."""
        return {"mean": self.value, "interval": list(self.interval)}


@dataclass(frozen=True)
class Summary:
    """What one policy did on one set of contexts; see `summarise`.

    Attributes:
        mean, iqm, solve_rate: the estimates.
        contexts: number of distinct contexts (by id; by position where no ids were given).
        episodes: number of episodes over all seeds and contexts.
        seeds: number of training seeds.
    """

    mean: Estimate
    iqm: Estimate
    solve_rate: Estimate
    contexts: int
    episodes: int
    seeds: int

    def to_json(self) -> dict:
        """The command line's object R: mean, interval, iqm, solve_rate, counts, and their intervals."""
        return {
            **self.mean.to_json(),
            "iqm": self.iqm.value,
            "iqm_interval": list(self.iqm.interval),
            "solve_rate": self.solve_rate.value,
            "solve_rate_interval": list(self.solve_rate.interval),
            "contexts": self.contexts,
            "episodes": self.episodes,
            "seeds": self.seeds,
        }


def mean(
    returns: Record, *, ids: Ids | None = None, seed: int = 0, resamples: int = 2000, level: float = 0.95
) -> Estimate:
    """Mean over seeds of the mean over contexts of the mean over episodes: seeds weigh the same.

    Args:
        returns: one array per seed, (contexts, episodes) or (contexts,); numbers may differ between seeds.
        ids: the contexts' ids per seed, (contexts,) integers or strings each. Without them, the i-th contexts
            of all seeds are taken to be one context, which does no harm where they are not.
        seed: seeds NumPy's generator; the same seed gives the same interval.
        resamples: number of draws behind the interval.
        level: nominal coverage of the interval.

    Raises:
        BadInput: empty, ragged or non-finite records; ids that do not fit.
    """
    table = _one_sample(returns, ids)
    return _estimate(_mean_of(table), table, table.sizes, seed, resamples, level)


def iqm(
    returns: Record, *, ids: Ids | None = None, seed: int = 0, resamples: int = 2000, level: float = 0.95
) -> Estimate:
    """Interquartile mean: the mean of the middle half of all (seed, context) mean returns, pooled.

    Equals `scipy.stats.trim_mean(pooled, 0.25)`: Agarwal et al. 2021 (arXiv 2108.13264), with contexts as
    tasks. Arguments and errors as in `mean`.
    """
    table = _one_sample(returns, ids)
    return _estimate(_interquartile_mean_of(table), table, table.sizes, seed, resamples, level)


def solve_rate(
    solved: Record, *, ids: Ids | None = None, seed: int = 0, resamples: int = 2000, level: float = 0.95
) -> Estimate:
    """Share of episodes solved: the `mean` of flags, with the interval inside [0, 1].

    Where all episodes (or none) are solved, the interval is a point: with n contexts, a rate as far as about
    3 / n from it is still compatible with the record.
    """
    flags = seed_arrays(solved, "solved")
    for number, array in enumerate(flags):
        if not np.isin(array, (0.0, 1.0)).all():
            raise BadInput(
                f"solved: seed {number} holds values other than 0 and 1; give one flag per episode"
            )
    return _within_unit(mean(flags, ids=ids, seed=seed, resamples=resamples, level=level))


def gap(
    train: Record,
    test: Record,
    *,
    ids: tuple[Ids, Ids] | None = None,
    seed: int = 0,
    resamples: int = 2000,
    level: float = 0.95,
) -> Estimate:
    """Generalization gap: mean training-context return minus mean test-context return, paired by seed.

    Args:
        train: records on the training contexts, one array per seed as in `mean`.
        test: records of the same seeds' policies on the test contexts.
        ids: the ids of the training and of the test contexts. Without them the two sets share no context.
        seed, resamples, level: as in `mean`.

    Raises:
        BadInput: as in `mean`, and where the numbers of seeds differ.
    """
    samples = _paired_seeds(train, test, ("train", "test"))
    if ids is None:
        ids = (positions(samples[0]), positions(samples[1], start=max(map(len, samples[0]))))
    table = tabulate(samples, ("train", "test"), ids)
    return _estimate(_difference_of(table), table, table.sizes[:1], seed, resamples, level)


def difference(
    a: Record,
    b: Record,
    *,
    ids: tuple[Ids, Ids] | None = None,
    seed: int = 0,
    resamples: int = 2000,
    level: float = 0.95,
) -> Estimate:
    """Mean return of a minus that of b, paired by seed and, where ids agree, by context.

    Args:
        a, b: records of two policies, one array per seed as in `mean`; seed i of both belong together.
        ids: the ids of a's and of b's contexts. Without them context i of both is the same context.
        seed, resamples, level: as in `mean`.

    Raises:
        BadInput: as in `mean`, where the numbers of seeds differ, or those of contexts and no ids tell which.
    """
    samples = _paired_seeds(a, b, ("a", "b"))
    if ids is None and list(map(len, samples[0])) != list(map(len, samples[1])):
        raise BadInput(
            "a and b have different numbers of contexts; give ids=(ids of a, ids of b) to pair them"
        )
    table = tabulate(samples, ("a", "b"), ids)
    return _estimate(_difference_of(table), table, table.sizes[:1], seed, resamples, level)


def probability_of_improvement(
    a: Record,
    b: Record,
    *,
    ids: tuple[Ids, Ids] | None = None,
    seed: int = 0,
    resamples: int = 2000,
    level: float = 0.95,
) -> Estimate:
    """Probability that a run of a does better than a run of b on a context, ties counted half.

    On each context that both have, P(X > Y) + P(X = Y) / 2 over all pairs of a seed of a and a seed of b,
    which is Mann-Whitney's U / (n m); then the mean over contexts: Agarwal et al. 2021 (arXiv
    2108.13264) with contexts as tasks. To compare whole runs, give each seed's mean return as its only
    context. Seeds are not paired and may differ in number.

    Args:
        a, b: records of two agents, one array per seed as in `mean`.
        ids: the ids of a's and of b's contexts. Without them context i of both is the same context.
        seed, resamples, level: as in `mean`.

    Raises:
        BadInput: as in `mean`, and where a and b have no context in common.
    """
    table = tabulate([context_means(a, "a"), context_means(b, "b")], ("a", "b"), ids)
    return _within_unit(_estimate(_improvement_of(table), table, table.sizes, seed, resamples, level))


def summarise(
    returns: Record,
    solved: Record,
    *,
    ids: Ids | None = None,
    seed: int = 0,
    resamples: int = 2000,
    level: float = 0.95,
) -> Summary:
    """Mean, interquartile mean and solve rate of one policy's records, as the command line reports them.

    Args:
        returns: episode returns, one (contexts, episodes) array per seed.
        solved: flags (0 or 1) of the same shapes.
        ids, seed, resamples, level: as in `mean`.

    Raises:
        BadInput: as in `mean`, and where the shapes of `returns` and `solved` differ.
    """
    shapes = [array.shape for array in seed_arrays(returns, "returns")]
    flag_shapes = [array.shape for array in seed_arrays(solved, "solved")]
    if shapes != flag_shapes:
        raise BadInput(f"solved has shapes {flag_shapes} and returns {shapes}; give one flag for each return")
    average = mean(returns, ids=ids, seed=seed, resamples=resamples, level=level)
    return Summary(
        mean=average,
        iqm=iqm(returns, ids=ids, seed=seed, resamples=resamples, level=level),
        solve_rate=solve_rate(solved, ids=ids, seed=seed, resamples=resamples, level=level),
        contexts=average.contexts,
        episodes=sum(int(np.prod(shape)) for shape in shapes),
        seeds=average.seeds,
    )


def _one_sample(returns: Record, ids: Ids | None) -> Table:
    return tabulate([context_means(returns, "returns")], ("returns",), None if ids is None else (ids,))


def _estimate(
    statistic: Statistic, table: Table, groups: Sequence[int], seed: int, resamples: int, level: float
) -> Estimate:
    value, ends = interval(statistic, table, groups, seed=seed, resamples=resamples, level=level)
    seeds = min(groups)
    return Estimate(value, ends, level, contexts=table.values.shape[1], seeds=seeds, covers_seeds=seeds > 1)


def _within_unit(estimate: Estimate) -> Estimate:
    low, high = np.clip(estimate.interval, 0.0, 1.0)
    return replace(estimate, interval=(float(low), float(high)))


def _mean_of(table: Table) -> Statistic:
    def statistic(seed_weights: list[Floats], context_weights: Floats) -> Floats:
        return _average(seed_weights[0], table.column_means(context_weights))

    return statistic


def _difference_of(table: Table) -> Statistic:
    size = table.sizes[0]

    def statistic(seed_weights: list[Floats], context_weights: Floats) -> Floats:
        means = table.column_means(context_weights)
        return _average(seed_weights[0], means[:, :size] - means[:, size:])

    return statistic


def _average(weights: Floats, values: Floats) -> Floats:
    return (weights * values).sum(axis=1) / weights.sum(axis=1)


def _interquartile_mean_of(table: Table) -> Statistic:
    column, context = np.nonzero(table.present)
    order = np.argsort(table.values[column, context], kind="stable")
    column, context = column[order], context[order]
    pooled = table.values[column, context]

    def statistic(seed_weights: list[Floats], context_weights: Floats) -> Floats:
        # A value with weight w stands for w equal values, of which those outside the middle ranks are cut.
        ranks = np.cumsum(seed_weights[0][:, column] * context_weights[:, context], axis=1)
        total = ranks[:, -1:]
        cut = np.floor(0.25 * total)
        kept = np.diff(np.clip(ranks, cut, total - cut), axis=1, prepend=cut)
        return kept @ pooled / (total - 2 * cut)[:, 0]

    return statistic


def _improvement_of(table: Table) -> Statistic:
    size = table.sizes[0]
    x, y = table.values[:size, None], table.values[None, size:]
    both = table.present[:size, None] & table.present[None, size:]
    if not both.any():
        raise BadInput("a and b have no context in common; evaluate both on the same contexts")
    contexts = table.values.shape[1]
    wins = (np.where(x > y, 1.0, np.where(x == y, 0.5, 0.0)) * both).reshape(-1, contexts)
    pairs = both.astype(np.float64).reshape(-1, contexts)

    def statistic(seed_weights: list[Floats], context_weights: Floats) -> Floats:
        a, b = seed_weights
        weights = a[:, :, None] * b[:, None, :]
        weights = weights.reshape(len(weights), -1)
        count = weights @ pairs
        wanted = context_weights * (count > 0)
        return (wanted * (weights @ wins) / np.maximum(count, 1.0)).sum(axis=1) / wanted.sum(axis=1)

    return statistic


def _paired_seeds(first: Record, second: Record, names: tuple[str, str]) -> list[list[Floats]]:
    samples = [context_means(first, names[0]), context_means(second, names[1])]
    if len(samples[0]) != len(samples[1]):
        counts = f"{names[0]} has {len(samples[0])} seeds and {names[1]} {len(samples[1])}"
        raise BadInput(f"{counts}; give the same seeds of both, in the same order")
    return samples
