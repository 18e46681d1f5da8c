"""The guessing game as a family: the solver finds the closed forms, and the ladder of values stands in one table.

One image, four labels, the posterior below, six guesses. Environment k is the game whose label is k. Each
rung of the ladder is computed twice: by the formula of `epomdp.exact.guessing`, and by the solver, which
knows nothing of labels.

    python examples/theory_guessing.py
"""

import numpy as np

from epomdp.exact import guessing
from epomdp.exact.memoryless import best_deterministic, best_stochastic
from epomdp.exact.occupancy import MemorylessReturn
from epomdp.exact.solve import solve

POSTERIOR = np.array([0.5, 0.25, 0.15, 0.1])
LIMIT = 6


def table() -> list[tuple[str, float, float]]:
    """Rung, its closed form, its value from the family."""
    family = guessing.guessing_family(POSTERIOR, limit=LIMIT)
    returns = MemorylessReturn(family)

    def played(q) -> float:
        return returns.value(np.stack([q, q]))

    return [
        (
            "Bayes-optimal: process of elimination",
            guessing.elimination(POSTERIOR, LIMIT),
            solve(family).lower,
        ),
        (
            "best stochastic memoryless",
            guessing.best_memoryless(POSTERIOR, LIMIT)[1],
            best_stochastic(family).value,
        ),
        ("sampling from the posterior", guessing.sampling(POSTERIOR, LIMIT), played(POSTERIOR)),
        ("uniform guessing", guessing.uniform(POSTERIOR, LIMIT), played(np.full(4, 0.25))),
        (
            "best deterministic memoryless: argmax",
            guessing.argmax(POSTERIOR, LIMIT),
            best_deterministic(family).value,
        ),
    ]


def main() -> None:
    print(f"posterior {POSTERIOR.tolist()}, {LIMIT} guesses")
    print(f"{'policy':40} closed form     solver")
    for name, formula, solved in table():
        print(f"{name:40} {formula:11.6f} {solved:10.6f}")


if __name__ == "__main__":
    main()
