"""Calibration: what the epistemic POMDP promises is what test environments give, if the prior is right.

Again and again: a true environment is drawn from the prior, a few random steps in it are the evidence, the
posterior's epistemic POMDP is solved, and its policy is played in the true environment. The value promised,
the policy's return in the epistemic POMDP, and the return received agree on average. A certainty-equivalent
plan, which takes the likeliest environment for the true one, promises more than it gets, and gets less.

    python examples/theory_calibration.py
"""

import numpy as np

from epomdp.exact.family import Family
from epomdp.exact.mdp import optimal_policies, optimal_values, policy_values
from epomdp.exact.posterior import FinitePosterior
from epomdp.exact.solve import solve

EVIDENCE = 3


def prior_family(seed: int = 1, M: int = 4, S: int = 4, A: int = 2) -> Family:
    """Environments that agree on the rewards (1 in the last state) and differ in the dynamics."""
    rng = np.random.default_rng(seed)
    transitions = rng.dirichlet(np.full(S, 0.3), (M, S, A))
    rewards = np.zeros((M, S, A))
    rewards[:, -1] = 1
    return Family.from_arrays(transitions, rewards, np.eye(S)[0], np.full(M, 1 / M), 0.9)


def random_steps(
    family: Family, environment: int, rng: np.random.Generator
) -> list[tuple[int, int, float, int]]:
    """Evidence: transitions of random actions in random states of the environment."""
    steps = []
    for _ in range(EVIDENCE):
        state, action = int(rng.integers(family.num_states)), int(rng.integers(family.num_actions))
        successors, probabilities = family.row(environment, state, action)
        following = int(rng.choice(successors, p=probabilities))
        steps.append((state, action, float(family.rewards[environment, state, action]), following))
    return steps


def promises_and_returns(rounds: int = 200, seed: int = 0) -> dict[str, np.ndarray]:
    """Policy -> (rounds, 2) value promised and expected return in the true environment."""
    family, rng = prior_family(), np.random.default_rng(seed)
    each, own = optimal_values(family), optimal_policies(family)
    rows: dict[str, list] = {"Bayes-optimal": [], "certainty-equivalent": []}
    for _ in range(rounds):
        truth = int(rng.choice(family.num_environments, p=family.weights))
        posterior = FinitePosterior(family).update(random_steps(family, truth, rng)).family
        returns = solve(posterior, gap=0.05).environment_returns()
        rows["Bayes-optimal"].append((posterior.weights @ returns, returns[truth]))
        likeliest = posterior.weights.argmax()
        got = policy_values(family, own[likeliest])[truth] @ family.initial
        rows["certainty-equivalent"].append((each[likeliest] @ family.initial, got))
    return {name: np.array(values) for name, values in rows.items()}


def main() -> None:
    print(f"{'policy':22} promised   received   promised too much")
    for name, values in promises_and_returns().items():
        promised, received = values.mean(axis=0)
        surplus = values[:, 0] - values[:, 1]
        error = 1.96 * surplus.std(ddof=1) / np.sqrt(surplus.size)
        print(f"{name:22} {promised:8.2f} {received:10.2f} {surplus.mean():12.2f} ± {error:.2f}")


if __name__ == "__main__":
    main()
