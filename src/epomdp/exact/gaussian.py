"""Belief over Gaussian rewards of unknown mean and precision."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.special import gammaln

from epomdp.exact.evidence import Evidence


class NormalGamma(NamedTuple):
    """Rewards of each state and action are Gaussian, independently, with a conjugate belief.

    precision ~ Gamma(shape, rate), mean ~ Normal(mean, 1 / (strength * precision)) (DeGroot 1970, section 9.6).

    Attributes:
        mean, strength, shape, rate: (S, A) float64, the last three positive.
    """

    mean: NDArray[np.float64]
    strength: NDArray[np.float64]
    shape: NDArray[np.float64]
    rate: NDArray[np.float64]

    def update(self, seen: Evidence) -> NormalGamma:
        """The belief after all rewards of the evidence."""
        place = (seen.states, seen.actions)
        n, total, spread = (np.zeros(self.mean.shape) for _ in range(3))
        np.add.at(n, place, 1.0)
        np.add.at(total, place, seen.rewards)
        average = np.divide(total, n, out=self.mean.copy(), where=n > 0)
        # Deviations from the average, not a difference of squares, which cancels for large rewards.
        np.add.at(spread, place, (seen.rewards - average[place]) ** 2)
        strength = self.strength + n
        spread += self.strength * n * (average - self.mean) ** 2 / strength
        mean = (self.strength * self.mean + total) / strength
        return NormalGamma(mean, strength, self.shape + n / 2, self.rate + spread / 2)

    def log_density(self, seen: Evidence) -> float:
        """Natural logarithm of the rewards' density, means and precisions integrated out."""
        after = self.update(seen)
        ratio = after._log_normaliser().sum() - self._log_normaliser().sum()
        return float(ratio - 0.5 * np.log(2 * np.pi) * seen.rewards.size)

    def draw_means(self, rng: np.random.Generator, n: int) -> NDArray[np.float64]:
        """(n, S, A) mean rewards."""
        shape = (n, *self.mean.shape)
        precision = rng.standard_gamma(self.shape, shape) / self.rate
        return self.mean + rng.standard_normal(shape) / np.sqrt(self.strength * precision)

    def _log_normaliser(self) -> NDArray[np.float64]:
        return gammaln(self.shape) - self.shape * np.log(self.rate) - 0.5 * np.log(self.strength)
