"""Every deterministic memoryless policy fails in some environment; a stochastic one succeeds in all.

A corridor of five cells. The treasure is at one of the two ends, the agent starts in the middle and sees
its cell only. A deterministic memoryless policy always moves the same way from the same cell, so it turns
round before one of the ends, or goes to and fro behind it: of the 32 such policies none finds the treasure
in both environments (all are tried). Random steps find it in both; memory finds it fastest.

    python examples/theory_treasure.py
"""

from itertools import product

import numpy as np

from epomdp.exact.family import Family
from epomdp.exact.mdp import policy_values
from epomdp.exact.memoryless import best_stochastic
from epomdp.exact.solve import solve

CELLS, START, OVER = 5, 2, 5
LEFT, RIGHT = 0, 1


def corridor(discount: float = 0.95) -> Family:
    """Environment 0 has the treasure, a reward of 1, in the leftmost cell; environment 1 in the rightmost."""
    transitions = np.zeros((2, CELLS + 1, 2, CELLS + 1))
    rewards = np.zeros((2, CELLS + 1, 2))
    for environment, treasure in enumerate((0, CELLS - 1)):
        for cell in range(CELLS):
            for action, step in ((LEFT, -1), (RIGHT, 1)):
                arrival = min(max(cell + step, 0), CELLS - 1)
                found = arrival == treasure
                transitions[environment, cell, action, OVER if found else arrival] = 1
                rewards[environment, cell, action] = found
    transitions[:, OVER, :, :] = 0
    transitions[:, OVER, :, OVER] = 1
    rewards[:, OVER] = 0
    return Family.from_arrays(transitions, rewards, np.eye(CELLS + 1)[START], [0.5, 0.5], discount)


def deterministic_returns(family: Family) -> np.ndarray:
    """(32, 2) return of each deterministic memoryless policy in each environment."""
    policies = [np.array([*actions, LEFT]) for actions in product((LEFT, RIGHT), repeat=CELLS)]
    return np.array([policy_values(family, policy) @ family.initial for policy in policies])


def table() -> list[tuple[str, float, float]]:
    """Policy, mean return, return in its worse environment."""
    family = corridor()
    every = deterministic_returns(family)
    stochastic = best_stochastic(family, time_limit=2.0)
    returns = policy_values(family, stochastic.policy) @ family.initial
    solution = solve(family)
    remembering = solution.environment_returns()
    return [
        ("best deterministic memoryless, of 32", every.mean(axis=1).max(), every.min(axis=1).max()),
        ("best stochastic memoryless", stochastic.value, returns.min()),
        ("Bayes-optimal, with memory", solution.lower, remembering.min()),
    ]


def main() -> None:
    print(f"{'policy':38} mean return   in the worse environment")
    for name, mean, worse in table():
        print(f"{name:38} {mean:11.4f}   {worse:11.4f}")


if __name__ == "__main__":
    main()
