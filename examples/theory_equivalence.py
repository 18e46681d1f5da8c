"""The return in the epistemic POMDP is the mean return over the posterior, for every policy.

A random family and a policy with memory (it acts well for the environment that it then believes in most).
Its return is computed twice: in each environment by itself, by following every history with that
environment's own probabilities, and averaged; and in the epistemic POMDP, which knows no environment, by
following the belief. A memoryless policy is compared with linear systems in the same way.

    python examples/theory_equivalence.py
"""

import numpy as np

from epomdp.exact.belief import EpistemicPOMDP
from epomdp.exact.family import Family
from epomdp.exact.mdp import optimal_policies

STEPS = 5


def random_family(seed: int = 0, M: int = 4, S: int = 3, A: int = 2) -> Family:
    rng = np.random.default_rng(seed)
    transitions = rng.dirichlet(np.full(S, 0.5), (M, S, A))
    rewards = rng.integers(0, 2, (M, S, A)).astype(float)
    return Family.from_arrays(transitions, rewards, rng.dirichlet(np.ones(S)), rng.dirichlet(np.ones(M)), 0.9)


class LikeliestEnvironment:
    """Acts optimally for the environment with the largest belief; an adaptive policy."""

    def __init__(self, pomdp: EpistemicPOMDP):
        self.pomdp = pomdp
        self.optimal = optimal_policies(pomdp.family)

    def start(self, state):
        return self.pomdp.prior

    def act(self, state, belief, rng=None):
        return int(self.optimal[belief.argmax(), state])

    def update(self, belief, state, action, reward, next_state):
        return self.pomdp.update(belief, state, action, reward, next_state)


class Always:
    """One action a state, whatever the episode has shown; a memoryless policy."""

    def __init__(self, actions):
        self.actions = actions

    def start(self, state):
        return None

    def act(self, state, memory, rng=None):
        return int(self.actions[state])

    def update(self, memory, state, action, reward, next_state):
        return None


def environment_return(family: Family, policy, m: int, state: int, memory, steps: int) -> float:
    """Expected return of the next steps in environment m, over every history with its own probabilities."""
    if steps == 0:
        return 0.0
    action = policy.act(state, memory)
    total = reward = float(family.rewards[m, state, action])
    for successor, probability in zip(*family.row(m, state, action), strict=True):
        after = policy.update(memory, state, action, reward, int(successor))
        future = environment_return(family, policy, m, int(successor), after, steps - 1)
        total += family.discount * probability * future
    return total


def belief_return(pomdp: EpistemicPOMDP, policy, belief, state: int, memory, steps: int) -> float:
    """Expected return of the next steps for someone who holds `belief`, over every observation."""
    if steps == 0:
        return 0.0
    action = policy.act(state, memory)
    total = float(belief @ pomdp.family.rewards[:, state, action])
    for successor, reward, likelihood in zip(*pomdp.outcomes(state, action), strict=True):
        probability = float(belief @ likelihood)
        if probability > 0:
            after = policy.update(memory, state, action, reward, int(successor))
            posterior = belief * likelihood / probability
            future = belief_return(pomdp, policy, posterior, int(successor), after, steps - 1)
            total += pomdp.family.discount * probability * future
    return total


def table() -> list[tuple[str, float, float]]:
    """Policy, mean over the environments, return in the epistemic POMDP."""
    family = random_family()
    pomdp = EpistemicPOMDP(family)
    rows = []
    for name, policy in (
        ("memoryless: action 1 everywhere", Always([1, 1, 1])),
        ("adaptive: for the likeliest environment", LikeliestEnvironment(pomdp)),
    ):
        apart = together = 0.0
        for state, chance in enumerate(family.initial):
            memory = policy.start(state)
            each = [environment_return(family, policy, m, state, memory, STEPS) for m in range(4)]
            apart += chance * float(family.weights @ each)
            together += chance * belief_return(pomdp, policy, family.weights, state, memory, STEPS)
        rows.append((name, apart, together))
    return rows


def main() -> None:
    print(f"{'policy':42} mean over environments   epistemic POMDP")
    for name, apart, together in table():
        print(f"{name:42} {apart:22.15f} {together:17.15f}")


if __name__ == "__main__":
    main()
