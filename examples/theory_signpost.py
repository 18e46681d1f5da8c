"""Information that costs return now: an action that is optimal in no environment, yet Bayes-optimal.

At a fork one way leads to the treasure, the other to a pit, both at once. A signpost that tells which stands
a step off the way: reading it and coming back costs two steps. In every environment by itself the best is to
walk on, so no policy learnt as if the environment were known reads the sign. In the epistemic POMDP, where
the treasure is on the left with probability p, the choice is between max(p, 1 - p) now and discount^2 for
sure: the sign is worth reading where discount^2 > max(p, 1 - p).

    python examples/theory_signpost.py
"""

import numpy as np

from epomdp.exact.belief import EpistemicPOMDP
from epomdp.exact.family import Family
from epomdp.exact.mdp import optimal_policies
from epomdp.exact.memoryless import best_stochastic
from epomdp.exact.policy_evaluation import evaluate
from epomdp.exact.solve import solve
from epomdp.exact.thompson import StepSampling

FORK, SIGN, OVER = 0, 1, 3  # the signpost is state 1 or 2, by what it says
READ = 2


def fork(p: float, discount: float = 0.9) -> Family:
    """Environment 0 has the treasure, worth 1, on the left (action 0); environment 1 on the right (action 1)."""
    transitions = np.zeros((2, 4, 3, 4))
    rewards = np.zeros((2, 4, 3))
    transitions[:, FORK, :READ, OVER] = 1
    for environment in range(2):
        transitions[environment, FORK, READ, SIGN + environment] = 1
        rewards[environment, FORK, environment] = 1
    transitions[:, SIGN : SIGN + 2, :, FORK] = 1
    transitions[:, OVER, :, OVER] = 1
    return Family.from_arrays(transitions, rewards, np.eye(4)[FORK], [p, 1 - p], discount)


def row(p: float) -> dict[str, float]:
    """Values for one posterior, and whether the Bayes-optimal policy first reads the sign.

    Posterior sampling (Thompson) draws an environment from the belief and does what is optimal there.
    """
    family = fork(p)
    pomdp = EpistemicPOMDP(family)
    solution = solve(family)
    memory = solution.start(FORK)
    return {
        "p": p,
        "informed": 1.0,
        "memoryless": best_stochastic(family).value,
        "posterior sampling": evaluate(pomdp, StepSampling.of(pomdp)).lower,
        "Bayes-optimal": solution.lower,
        "reads the sign": float(solution.act(FORK, memory) == READ),
    }


def main() -> None:
    optimal = optimal_policies(fork(0.5))[:, FORK]
    print(
        f"optimal action at the fork in each environment, known: {optimal.tolist()}; reading the sign is {READ}"
    )
    print("   p    informed  best memoryless  posterior sampling  Bayes-optimal  reads the sign")
    for p in (0.5, 0.6, 0.7, 0.8, 0.82, 0.9, 1.0):
        values = row(p)
        reads = "yes" if values["reads the sign"] else "no"
        rungs = (
            f"{values['informed']:10.3f} {values['memoryless']:16.3f} {values['posterior sampling']:19.3f}"
        )
        print(f"{p:5.2f} {rungs} {values['Bayes-optimal']:14.3f}  {reads}")


if __name__ == "__main__":
    main()
