"""Posterior sampling: closed forms, exhaustive against mixture, and simulation against both."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from epomdp.exact.belief import EpistemicPOMDP
from epomdp.exact.family import Family
from epomdp.exact.guessing import guessing_family
from epomdp.exact.mdp import optimal_policies
from epomdp.exact.memoryless import best_deterministic
from epomdp.exact.policy_evaluation import evaluate, roll_out
from epomdp.exact.thompson import EpisodeSampling, StepSampling, appraise


def deterministic_family(seed, M=3, S=4, A=2):
    """Moves without chance, so that few beliefs can be reached."""
    rng = np.random.default_rng(seed)
    transitions = np.eye(S)[rng.integers(0, S, (M, S, A))]
    rewards = rng.normal(size=(M, S, A))
    return Family.from_arrays(transitions, rewards, np.eye(S)[0], rng.dirichlet(np.ones(M)), 0.8)


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10**6), st.booleans())
def test_episode_sampling_is_the_mixture_of_the_environments_policies(seed, observe):
    family = deterministic_family(seed)
    pomdp = EpistemicPOMDP(family, observe)
    policy = EpisodeSampling.of(pomdp)
    transitions, states = family.dense_transitions(), np.arange(4)
    expected = 0.0
    for believed, actions in zip(family.weights, optimal_policies(family), strict=True):
        for m, weight in enumerate(family.weights):
            system = np.eye(4) - 0.8 * transitions[m, states, actions]
            value = np.linalg.solve(system, family.rewards[m, states, actions])
            expected += believed * weight * (family.initial @ value)
    assert policy.value() == pytest.approx(expected, abs=1e-9)
    # Step by step, with what it remembers of its draw, it is the same policy.
    found = evaluate(pomdp, policy)
    assert found.exact
    assert found.lower == pytest.approx(expected, abs=1e-9)
    assert expected <= best_deterministic(family).bound + 1e-9


def test_guessing_by_samples():
    """Per episode a wrong draw is wrong for ever; per step the belief rules out what was tried."""
    p = np.array([0.5, 0.3, 0.2])
    pomdp = EpistemicPOMDP(guessing_family(p, None, 0.9))
    always = -(1 - p) / (1 - 0.9)
    assert EpisodeSampling.of(pomdp).value() == pytest.approx(p @ always, abs=1e-9)

    def expected(left):
        total, value = p[left].sum(), 0.0
        for k in left:
            rest = [j for j in left if j != k]
            wrong = 1 - p[k] / total
            if rest:
                value += p[k] / total * wrong * (-1 + 0.9 * expected(rest))
        return value

    found = appraise(pomdp, StepSampling.of(pomdp), np.random.default_rng(0))
    assert found.exact
    assert found.value == pytest.approx(expected([0, 1, 2]), abs=1e-9)


def test_simulated_episodes_agree_with_the_exact_value():
    pomdp = EpistemicPOMDP(deterministic_family(3))
    for kind in (StepSampling, EpisodeSampling):
        policy = kind.of(pomdp)
        exact = evaluate(pomdp, policy).lower
        sampled = roll_out(pomdp, policy, 150, np.random.default_rng(1), confidence=0.999)
        assert sampled.lower <= exact <= sampled.upper
        # Too many memories for the nodes allowed: simulation takes over, and says so.
        forced = appraise(pomdp, policy, np.random.default_rng(1), max_nodes=1, episodes=50)
        assert not forced.exact
        assert forced.lower < forced.value < forced.upper


def test_beliefs_that_only_rule_out_meet_again():
    """Whatever the order of six wrong guesses, what is left is the same: a belief for each set of labels."""
    p = np.random.default_rng(0).dirichlet(np.ones(6))
    pomdp = EpistemicPOMDP(guessing_family(p, None, 0.9))
    found = evaluate(pomdp, StepSampling.of(pomdp))
    assert found.exact
    # 62 sets of labels left that can be met, and the 6 of one label in which the game is over as well.
    assert found.nodes <= 2 * 2**6
