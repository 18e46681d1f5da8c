"""The policy that is optimal in almost every environment can be worse than random.

Two doors, one of which is locked; a step that leads nowhere costs 1. The first door opens in a share
1 - eps of the environments, so "always the first door" is optimal in all but a share eps of them. Whatever
eps > 0 is, uniform random choice has the higher mean return once the discount is above (1 - 2 eps) / (1 - eps).

    python examples/theory_almost_every.py
"""

import numpy as np

from epomdp.exact.family import Family
from epomdp.exact.mdp import optimal_policies, policy_values
from epomdp.exact.solve import solve

DOOR, THROUGH = 0, 1


def two_doors(eps: float, discount: float) -> Family:
    """Environment 0: the first door opens; environment 1, of weight eps: the second one does."""
    transitions = np.zeros((2, 2, 2, 2))
    rewards = np.zeros((2, 2, 2))
    for environment in range(2):
        for door in range(2):
            opens = door == environment
            transitions[environment, DOOR, door, THROUGH if opens else DOOR] = 1
            rewards[environment, DOOR, door] = 0 if opens else -1
    transitions[:, THROUGH, :, THROUGH] = 1
    return Family.from_arrays(transitions, rewards, [1.0, 0.0], [1 - eps, eps], discount)


def threshold(eps: float) -> float:
    """The discount above which random is better: eps / (1 - g) = (1/2) / (1 - g/2), solved for g."""
    return (1 - 2 * eps) / (1 - eps)


def returns(eps: float, discount: float) -> dict[str, float]:
    """Mean returns over the posterior."""
    family = two_doors(eps, discount)
    usually_optimal = optimal_policies(family)[0]
    solution = solve(family)
    return {
        "optimal in almost every environment": mean_return(family, usually_optimal),
        "uniform random": mean_return(family, np.full((2, 2), 0.5)),
        "Bayes-optimal": solution.lower,
    }


def mean_return(family: Family, policy) -> float:
    """The return of a memoryless policy, in each environment by itself, averaged over the posterior."""
    return float(family.weights @ policy_values(family, policy) @ family.initial)


def main() -> None:
    print(f"{'eps':>6} {'discount':>9}   mean return of the policy that is")
    for eps in (0.1, 0.01, 0.001):
        discount = 1 - (1 - threshold(eps)) / 2
        values = returns(eps, discount)
        print(
            f"{eps:6} {discount:9.5f}   " + ", ".join(f"{name} {value:.3f}" for name, value in values.items())
        )


if __name__ == "__main__":
    main()
