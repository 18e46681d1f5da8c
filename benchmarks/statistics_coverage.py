"""Coverage of 95 % confidence intervals of a mean return, where the truth is known.

A return is seed effect + context effect + noise, normal or the two-point distribution of a greedy guesser that
solves a context at once or never. Three intervals on the same records: the one of `epomdp.statistics`, the
plain two-stage percentile bootstrap (seeds with replacement, then each drawn seed's contexts), and Student's t
over seed means. Then the other figures of `epomdp.statistics` in the first design. Prints Markdown tables.

    python benchmarks/statistics_coverage.py [--trials 1000] [--contexts 200]
"""

import argparse

import numpy as np
from scipy import stats

from epomdp import statistics

RESAMPLES = 500
DESIGNS = {  # (standard deviation of seeds, share of the context effect that all seeds have in common)
    "seeds differ, same contexts": (0.5, 1.0),
    "seeds differ, own contexts": (0.5, 0.0),
    "seeds alike, same contexts": (0.0, 1.0),
    "seeds alike, own contexts": (0.0, 0.0),
}


def contexts_effect(rng, shape):
    """Two-point returns as of a greedy guesser: -20 on 15 % of the contexts, else 0; centred on their mean."""
    return -20.0 * (rng.random(shape) < 0.15) + 3.0


def records(rng, seeds, contexts, seed_sd, shared):
    """(seeds, contexts) returns with mean 0; noise of each evaluation has standard deviation 2."""
    common = contexts_effect(rng, (1, contexts))
    own = contexts_effect(rng, (seeds, contexts))
    effect = common if shared else own
    return seed_sd * rng.normal(size=(seeds, 1)) + effect + 2.0 * rng.normal(size=(seeds, contexts))


def ours(values, seed):
    return statistics.mean(list(values), seed=seed, resamples=RESAMPLES).interval


def two_stage_percentile(values, seed):
    rng = np.random.default_rng(seed)
    seeds, contexts = values.shape
    drawn = rng.integers(0, seeds, (RESAMPLES, seeds))
    within = rng.integers(0, contexts, (RESAMPLES, seeds, contexts))
    return np.percentile(values[drawn[:, :, None], within].mean(axis=(1, 2)), [2.5, 97.5])


def student_over_seeds(values, seed):
    means = values.mean(axis=1)
    half = stats.t.ppf(0.975, len(means) - 1) * means.std(ddof=1) / np.sqrt(len(means))
    return means.mean() - half, means.mean() + half


METHODS = {
    "ours": ours,
    "two-stage percentile": two_stage_percentile,
    "t over seed means": student_over_seeds,
}


def measure(design, seeds, contexts, trials):
    """{method: (coverage, mean width)}; the truth is 0."""
    rng = np.random.default_rng([seeds, contexts])
    found = {name: [] for name in METHODS if seeds > 1 or name != "t over seed means"}
    for trial in range(trials):
        values = records(rng, seeds, contexts, *DESIGNS[design])
        for name, ends in found.items():
            ends.append(METHODS[name](values, trial))
    return {
        name: (np.mean([low <= 0 <= high for low, high in ends]), np.mean([high - low for low, high in ends]))
        for name, ends in found.items()
    }


def pair(rng, seeds, contexts):
    """Records of two agents on the same contexts; the second is worse by 1 on average, and noisier by seed."""
    effect = contexts_effect(rng, (1, contexts))
    first = 0.3 * rng.normal(size=(seeds, 1)) + effect + 2.0 * rng.normal(size=(seeds, contexts))
    second = 0.5 * rng.normal(size=(seeds, 1)) + effect + 2.0 * rng.normal(size=(seeds, contexts)) - 1.0
    return list(first), list(second)


FIGURES = {
    "iqm": lambda a, b, seed: statistics.iqm(b, seed=seed, resamples=RESAMPLES),
    "difference": lambda a, b, seed: statistics.difference(a, b, seed=seed, resamples=RESAMPLES),
    "gap": lambda a, b, seed: statistics.gap(a, b, seed=seed, resamples=RESAMPLES),
    "probability of improvement": lambda a, b, seed: statistics.probability_of_improvement(
        a, b, seed=seed, resamples=RESAMPLES
    ),
}


def truths():
    """Each figure's limit for many seeds and contexts."""
    rng = np.random.default_rng(0)
    normal = np.sqrt(0.3**2 + 0.5**2 + 2 * 2.0**2)  # of a - b on one context
    noise = 0.5 * rng.normal(size=4_000_000) + 2.0 * rng.normal(size=4_000_000)
    iqm = stats.trim_mean(contexts_effect(rng, 4_000_000) + noise - 1.0, 0.25)
    return {
        "iqm": iqm,
        "difference": 1.0,
        "gap": 1.0,
        "probability of improvement": stats.norm.cdf(1 / normal),
    }


def measure_figures(seeds, contexts, trials):
    """{figure: (coverage, mean width)}; the gap's two sides have contexts of their own."""
    rng = np.random.default_rng([1, seeds, contexts])
    ends = {name: [] for name in FIGURES}
    for trial in range(trials):
        a, b = pair(rng, seeds, contexts)
        other, _ = pair(rng, seeds, contexts)
        for name, figure in FIGURES.items():
            ends[name].append(figure(other if name == "gap" else a, b, trial).interval)
    truth = truths()
    return {
        name: (np.mean([low <= truth[name] <= high for low, high in pairs]), np.mean(np.diff(pairs)))
        for name, pairs in ends.items()
    }


def print_row(cells):
    print("| " + " | ".join(str(cell) for cell in cells) + " |", flush=True)


def print_table(heads, rows):
    print_row(heads)
    print_row(["---"] * len(heads))
    for *labels, result, names in rows:
        print_row(
            [*labels, *(f"{result[n][0]:.3f} ({result[n][1]:.2f})" if n in result else "" for n in names)]
        )
    print()


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--trials", type=int, default=1000)
    parser.add_argument("--contexts", type=int, default=200)
    arguments = parser.parse_args()
    contexts, trials = arguments.contexts, arguments.trials
    print(f"{contexts} contexts, {trials} trials, {RESAMPLES} resamples; coverage (mean width)\n")
    print_table(
        ["design", "seeds", *METHODS],
        (
            (design, seeds, measure(design, seeds, contexts, trials), METHODS)
            for design in DESIGNS
            for seeds in (1, 2, 3, 5, 10, 20)
        ),
    )
    print_table(["seeds", *FIGURES], ((s, measure_figures(s, contexts, trials), FIGURES) for s in (3, 5, 10)))


if __name__ == "__main__":
    main()
