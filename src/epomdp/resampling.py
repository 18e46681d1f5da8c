"""Two-stage resampling behind `statistics.py`: contexts by bootstrap, seeds by jackknife and Student t.

A `Table` holds the mean return of each seed ("column", of one agent or of two) on each distinct context. A
statistic is a function of weights: how often each seed and each context counts. One weight each gives the
estimate, a seed's weight set to 0 gives the jackknife, resampled counts of contexts give the bootstrap.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import stdtrit

from epomdp.errors import BadInput

Record = Sequence[ArrayLike]
Ids = Sequence[ArrayLike]
Floats = NDArray[np.float64]

# (weights of seeds, one (B, seeds) array per group; weights of contexts (B, contexts)) -> (B,) values, where
# either B may be 1. A group is a set of seeds that are drawn together: paired agents are one group.
Statistic = Callable[[list[Floats], Floats], Floats]

_BLOCK = 2**22  # numbers held at once per array of resamples, 32 MiB


@dataclass(frozen=True)
class Table:
    """Mean returns by column and context.

    Attributes:
        values: (columns, contexts) means over episodes, 0 where the column has no such context.
        present: (columns, contexts) bool, whether it has.
        sizes: number of columns of each sample; the columns of a sample follow each other.
    """

    values: Floats
    present: NDArray[np.bool_]
    sizes: tuple[int, ...]

    def column_means(self, context_weights: Floats) -> Floats:
        """(B, contexts) weights to (B, columns) weighted means over each column's own contexts."""
        return (context_weights @ self.values.T) / (context_weights @ self.present.T.astype(np.float64))


def context_means(record: Record, name: str) -> list[Floats]:
    """One (contexts,) array per seed: each context's mean over its episodes.

    Raises:
        BadInput: an empty, ragged or non-finite record, or an array that is not one of a list over seeds.
    """
    means = []
    for number, array in enumerate(seed_arrays(record, name)):
        if array.ndim not in (1, 2) or array.size == 0:
            raise BadInput(
                f"{name}: seed {number} has shape {array.shape}; give (contexts, episodes), neither zero"
            )
        if not np.isfinite(array).all():
            context = int(np.argwhere(~np.isfinite(array))[0][0])
            raise BadInput(
                f"{name}: seed {number}, context {context} holds NaN or infinity; leave such episodes out"
            )
        means.append(array.mean(axis=1) if array.ndim == 2 else array)
    return means


def seed_arrays(record: Record, name: str) -> list[Floats]:
    """The record's arrays as float64, one per seed; BadInput where it is no list of numeric arrays."""
    if isinstance(record, np.ndarray) and record.ndim < 3:
        raise BadInput(
            f"{name}: a lone array of shape {record.shape}; give a list with one array per training seed"
        )
    if len(record) == 0:
        raise BadInput(f"{name}: no seeds; give a list with one (contexts, episodes) array per training seed")
    arrays = []
    for number, array in enumerate(record):
        try:
            arrays.append(np.asarray(array, dtype=np.float64))
        except (TypeError, ValueError) as error:
            raise BadInput(
                f"{name}: seed {number} is ragged or not numeric; give every context as many episodes"
            ) from error
    return arrays


def tabulate(samples: list[list[Floats]], names: Sequence[str], ids: Sequence[Ids] | None = None) -> Table:
    """Join samples (lists over seeds of context means) by context id; without ids, by position."""
    if ids is None:
        ids = [positions(sample) for sample in samples]
    columns = [column for sample in samples for column in sample]
    labels = [label for parts in zip(samples, ids, names, strict=True) for label in _labels(*parts)]
    distinct, codes = np.unique(np.concatenate(labels), return_inverse=True)
    values = np.zeros((len(columns), len(distinct)))
    present = np.zeros(values.shape, dtype=bool)
    row = np.repeat(np.arange(len(columns)), [len(column) for column in columns])
    values[row, codes] = np.concatenate(columns)
    present[row, codes] = True
    return Table(values, present, tuple(len(sample) for sample in samples))


def positions(sample: list[Floats], start: int = 0) -> list[NDArray[np.int64]]:
    """Ids for contexts without any: the position in each seed's array, counted from `start`."""
    return [np.arange(start, start + len(column)) for column in sample]


def _labels(sample: list[Floats], ids: Ids, name: str) -> list[NDArray]:
    """One (contexts,) array of ids per seed, checked against the sample."""
    labels = [np.asarray(seed_ids) for seed_ids in ids]
    if [label.shape for label in labels] != [column.shape for column in sample]:
        raise BadInput(
            f"ids of {name}: shapes {[label.shape for label in labels]} for contexts of shapes "
            f"{[column.shape for column in sample]}; give one id per context and seed"
        )
    for number, label in enumerate(labels):
        found, counts = np.unique(label, return_counts=True)
        if (counts > 1).any():
            raise BadInput(
                f"ids of {name}: seed {number} has id {found[counts > 1][0]} twice; join its episodes"
            )
    return labels


def interval(
    statistic: Statistic, table: Table, groups: Sequence[int], *, seed: int, resamples: int, level: float
) -> tuple[float, tuple[float, float]]:
    """The estimate and the ends of its two-stage confidence interval.

    Draws are context bootstrap + Student deviate * jackknife standard error over seeds, and the interval lies
    between their (1 - level) / 2 and (1 + level) / 2 quantiles.

    Args:
        statistic: the figure as a function of seed and context weights.
        table: the records.
        groups: number of seeds in each group that is drawn independently of the others. With one seed in
            any of them there is no seed stage.
        seed, resamples, level: see `statistics.mean`.
    """
    if resamples < 1 or not 0 < level < 1:
        raise BadInput(
            f"resamples {resamples} and level {level}: at least 1, and between 0 and 1, are needed"
        )
    rng = np.random.default_rng(seed)
    ones = [np.ones((1, size)) for size in groups]
    contexts = table.values.shape[1]
    estimate = float(statistic(ones, np.ones((1, contexts)))[0])
    draws = np.concatenate(
        [statistic(ones, weights) for weights in _resample_contexts(rng, table, resamples)]
    )
    if min(groups) > 1:
        error = np.sqrt(
            sum(_jackknife_variance(statistic, ones, group, contexts) for group in range(len(groups)))
        )
        # Evenly spaced quantiles in random order: Student's tails would need many more independent deviates.
        levels = (np.arange(resamples) + 0.5) / resamples
        draws = draws + error * rng.permutation(stdtrit(min(groups) - 1, levels))
    low, high = np.percentile(draws, [50 * (1 - level), 50 * (1 + level)])
    return estimate, (float(low), float(high))


def _resample_contexts(rng: np.random.Generator, table: Table, resamples: int) -> Iterator[Floats]:
    """Blocks (b, contexts) of counts, drawn with replacement among contexts that the same columns have."""
    _, stratum = np.unique(table.present, axis=1, return_inverse=True)
    members = [np.flatnonzero(stratum.ravel() == number) for number in range(stratum.max() + 1)]
    block = max(1, _BLOCK // int(table.present.sum()))
    for start in range(0, resamples, block):
        rows = min(block, resamples - start)
        counts = np.empty((rows, table.values.shape[1]))
        for contexts in members:
            size = len(contexts)
            drawn = rng.integers(0, size, (rows, size)) + size * np.arange(rows)[:, None]
            counts[:, contexts] = np.bincount(drawn.ravel(), minlength=rows * size).reshape(rows, size)
        yield counts


def _jackknife_variance(statistic: Statistic, ones: list[Floats], group: int, contexts: int) -> float:
    """Jackknife variance over one group's seeds; for a mean of n seeds exactly their variance / n."""
    size = ones[group].shape[1]
    weights = [1.0 - np.eye(size) if number == group else one for number, one in enumerate(ones)]
    values = statistic(weights, np.ones((1, contexts)))
    return float((size - 1) / size * np.square(values - values.mean()).sum())
