"""What learners of tables share: the softmax and Adam."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


def softmax(logits: Floats) -> Floats:
    """exp(x) / sum exp(x) over the last axis."""
    grown = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return grown / grown.sum(axis=-1, keepdims=True)


class Adam:
    """Adam (Kingma and Ba 2015) with its usual constants; `step` gives what to add in order to ascend."""

    def __init__(self, shape: tuple[int, ...], learning_rate: float):
        self.rate = learning_rate
        self.first, self.second = np.zeros(shape), np.zeros(shape)
        self.steps = 0

    def step(self, gradient: Floats) -> Floats:
        """The next step along `gradient`, of the shape given."""
        self.steps += 1
        self.first = 0.9 * self.first + 0.1 * gradient
        self.second = 0.999 * self.second + 0.001 * gradient**2
        first = self.first / (1.0 - 0.9**self.steps)
        second = self.second / (1.0 - 0.999**self.steps)
        return self.rate * first / (np.sqrt(second) + 1e-10)
