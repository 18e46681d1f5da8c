"""Every memoryless policy fails, stochastic ones included; memory solves the problem.

The way leads past a sign, which names the one of K doors that is safe, to the hall with the doors. The hall
looks the same whatever the sign said. A memoryless policy opens door k with a probability q_k that cannot
depend on the sign, so over a uniform posterior it opens the safe one with probability sum_k q_k / K = 1/K:
all memoryless policies have the same value, discount^2 / K. Remembering the sign is worth discount^2.

    python examples/theory_memory.py
"""

import numpy as np

from epomdp.exact.family import Family
from epomdp.exact.memoryless import best_deterministic, best_stochastic
from epomdp.exact.solve import solve


def sign_and_doors(K: int = 8, discount: float = 0.95) -> Family:
    """Environment k: door k is safe, worth 1. States: the start, K signs, the hall, the end."""
    start, hall, over = 0, K + 1, K + 2
    transitions = np.zeros((K, K + 3, K, K + 3))
    rewards = np.zeros((K, K + 3, K))
    for safe in range(K):
        transitions[safe, start, :, 1 + safe] = 1
        rewards[safe, hall, safe] = 1
    transitions[:, 1 : K + 1, :, hall] = 1
    transitions[:, [hall, over], :, over] = 1
    return Family.from_arrays(transitions, rewards, np.eye(K + 3)[start], np.full(K, 1 / K), discount)


def table(K: int = 8) -> list[tuple[str, float]]:
    family = sign_and_doors(K)
    return [
        ("best deterministic memoryless", best_deterministic(family).value),
        ("best stochastic memoryless", best_stochastic(family).value),
        ("Bayes-optimal, with memory", solve(family).lower),
    ]


def main() -> None:
    print("8 doors, discount 0.95")
    for name, value in table():
        print(f"{name:32} {value:.4f}")


if __name__ == "__main__":
    main()
