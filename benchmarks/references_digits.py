"""Reference values of the guessing game on scikit-learn's digits, over several splits.

60 training images, 20 members, limit 20, all other images for test. Prints Markdown tables: values by split,
promise against outcome, and the posteriors that one could have used instead of the calibrated one.

    python benchmarks/references_digits.py [--splits 5] [--train 60]
"""

import argparse
import time
from dataclasses import replace

import numpy as np
from sklearn.datasets import load_digits

from epomdp import statistics
from epomdp.references import references, score

LIMIT, MEMBERS = 20, 20
POLICIES = ("elimination", "memoryless", "sampling", "argmax")


def run_split(number, train_images):
    """(indices of test images, their labels, {posterior: References}, seconds) of one random split."""
    images, labels = load_digits().images, load_digits().target
    order = np.random.default_rng(number).permutation(len(labels))
    train, test = order[:train_images], order[train_images:]
    start = time.perf_counter()
    result = references(
        images[train], labels[train], images[test], labels[test], limit=LIMIT, seed=number, members=MEMBERS
    )
    seconds = time.perf_counter() - start
    labellers = result.labellers
    pixels = images[test].reshape(len(test), -1) / labellers.scale
    votes = np.mean([np.eye(10)[model.predict(pixels)] for model in labellers.models], axis=0)
    votes = (1 - labellers.smoothing) * votes + labellers.smoothing / 10
    mean = replace(labellers, temperature=1.0)(images[test])
    others = {name: score(p, labels[test], limit=LIMIT) for name, p in (("votes", votes), ("mean", mean))}
    return test, {"calibrated": result, **others}, seconds


def print_row(cells):
    print("| " + " | ".join(str(cell) for cell in cells) + " |")


def print_head(cells):
    print_row(cells)
    print_row(["---"] * len(cells))


def over_splits(returns, ids):
    """Mean and interval over splits and images."""
    estimate = statistics.mean(returns, ids=ids)
    return f"{estimate.value:.2f} [{estimate.interval[0]:.2f}, {estimate.interval[1]:.2f}]"


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--splits", type=int, default=5)
    parser.add_argument("--train", type=int, default=60)
    arguments = parser.parse_args()
    splits = [run_split(number, arguments.train) for number in range(arguments.splits)]
    ids = [test for test, _, _ in splits]
    results = [found for _, found, _ in splits]
    print_head(["split", *POLICIES, "temperature", "out-of-bag log loss", "test log loss", "seconds"])
    for number, (_, found, seconds) in enumerate(splits):
        r = found["calibrated"]
        losses = [
            r.labellers.temperature,
            r.labellers.log_loss["calibrated"],
            r.calibration.log_loss,
            seconds,
        ]
        print_row([number, *(f"{r.values[name]:.2f}" for name in POLICIES), *(f"{x:.2f}" for x in losses)])
    print()
    print_head(["policy", "actual", "promised", "actual - promised"])
    for name in POLICIES:
        actual = [found["calibrated"].returns[name] for found in results]
        promised = [found["calibrated"].promised[name] for found in results]
        surplus = [a - p for a, p in zip(actual, promised, strict=True)]
        print_row([name, *(over_splits(values, ids) for values in (actual, promised, surplus))])
    print()
    print_head(
        [
            "posterior",
            "test log loss",
            "calibration error",
            *POLICIES,
            "promised elimination",
            "promised memoryless",
        ]
    )
    for posterior in ("votes", "mean", "calibrated"):
        found = [result[posterior] for result in results]
        cells = [
            np.mean([r.calibration.log_loss for r in found]),
            np.mean([r.calibration.error for r in found]),
        ]
        cells += [np.mean([r.values[name] for r in found]) for name in POLICIES]
        cells += [np.mean([r.promised[name].mean() for r in found]) for name in ("elimination", "memoryless")]
        print_row([posterior, *(f"{x:.2f}" for x in cells)])


if __name__ == "__main__":
    main()
