"""Calibration: what a posterior promised beside what the true labels gave.

If contexts really come from the posterior, a policy's value in the epistemic POMDP is its mean test return.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.stats import binomtest

from epomdp import statistics
from epomdp.statistics import Estimate

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class PolicyCalibration:
    """Mean returns of a policy over the test images: promised by the posterior, actual, and actual - promised.

    The intervals cover the choice of test images, not that of training images.
    """

    promised: Estimate
    actual: Estimate
    surplus: Estimate

    def to_json(self) -> dict:
        """Means and intervals of the three."""
        return {name: estimate.to_json() for name, estimate in vars(self).items()}


@dataclass(frozen=True)
class ReliabilityBin:
    """Images whose largest label probability lies in (low, high]: its mean, and how often that label is right.

    `interval` is Wilson's 95 % interval for the accuracy.
    """

    low: float
    high: float
    count: int
    confidence: float
    accuracy: float
    interval: tuple[float, float]


@dataclass(frozen=True)
class Calibration:
    """Promise against outcome, by policy and by confidence.

    Attributes:
        policies: promised and actual mean return of each policy that acts on the posterior.
        bins: reliability of the largest label probability; empty bins are left out.
        log_loss: mean -log p(true label) on the test images, nats; None in JSON where it is infinite.
        error: expected calibration error, the mean over images of |accuracy - confidence| of their bin.
    """

    policies: Mapping[str, PolicyCalibration]
    bins: tuple[ReliabilityBin, ...]
    log_loss: float
    error: float

    def to_json(self) -> dict:
        """Plain numbers, lists and dictionaries."""
        return {
            "policies": {name: policy.to_json() for name, policy in self.policies.items()},
            "bins": [{**vars(b), "interval": list(b.interval)} for b in self.bins],
            "log_loss": self.log_loss if np.isfinite(self.log_loss) else None,
            "error": self.error,
        }


def calibrate(
    p: Floats,
    labels: NDArray[np.int64],
    returns: Mapping[str, Floats],
    promised: Mapping[str, Floats],
    *,
    seed: int,
) -> Calibration:
    """Compare label probabilities with the true labels, and promised with actual returns.

    Args:
        p: (B, K) label probabilities.
        labels: (B,) true labels.
        returns: for each policy to compare, (B,) returns under the true labels.
        promised: for each of them, (B,) expected returns under p.
        seed: of the bootstrap over images behind the intervals.
    """
    policies = {
        name: PolicyCalibration(
            promised=statistics.mean([promised[name]], seed=seed),
            actual=statistics.mean([returns[name]], seed=seed),
            surplus=statistics.mean([returns[name] - promised[name]], seed=seed),
        )
        for name in returns
    }
    bins = _reliability(p.max(axis=1), p.argmax(axis=1) == labels)
    error = sum(b.count * abs(b.accuracy - b.confidence) for b in bins) / len(p)
    return Calibration(policies, bins, log_loss(p, labels), error)


def _reliability(
    confidence: Floats, right: NDArray[np.bool_], num_bins: int = 10
) -> tuple[ReliabilityBin, ...]:
    edges = np.linspace(0, 1, num_bins + 1)
    number = np.digitize(confidence, edges[1:-1], right=True)
    bins = []
    for i in np.unique(number):
        inside = number == i
        count, hits = int(inside.sum()), int(right[inside].sum())
        wilson = binomtest(hits, count).proportion_ci(method="wilson")
        bins.append(
            ReliabilityBin(
                float(edges[i]),
                float(edges[i + 1]),
                count,
                confidence=float(confidence[inside].mean()),
                accuracy=hits / count,
                interval=(float(wilson.low), float(wilson.high)),
            )
        )
    return tuple(bins)


def log_loss(p: Floats, labels: NDArray[np.int64]) -> float:
    """Mean -log p(true label), nats; infinite where a true label was held impossible."""
    with np.errstate(divide="ignore"):
        return float(-np.log(p[np.arange(len(labels)), labels]).mean())
