"""Oracles: a posterior that is certain, a sample of one whose policy can be valued exactly in other environments."""

from dataclasses import replace

import numpy as np
import pytest

from epomdp.errors import BadInput
from epomdp.exact.finite_sample import _WithFallback, sample_and_solve
from epomdp.exact.mdp import optimal_policies, optimal_values, policy_values
from epomdp.exact.posterior import BootstrapPosterior, DirichletPosterior

REWARDS = np.array([[0.1, 0.0], [0.0, 0.0], [1.0, 1.0]])


def uncertain():
    return DirichletPosterior(np.full((3, 2, 3), 0.5), REWARDS, np.eye(3)[0], 0.8)


def test_no_error_where_there_is_no_uncertainty():
    counts = 1e10 * np.random.default_rng(0).uniform(0.1, 1, (3, 2, 3))
    posterior = DirichletPosterior(counts, REWARDS, np.eye(3)[0], 0.8)
    found = sample_and_solve(posterior, 3, episodes=400, gap=1e-4)
    best = optimal_values(posterior.mean())[0, 0]
    assert found.promised == pytest.approx(best, abs=1e-3)
    middle, low, high = found.error
    assert low < 0 < high and low < middle < high
    assert high - low == pytest.approx(found.achieved.upper - found.achieved.lower)


def test_achieved_value_of_a_sample_of_one():
    """One environment's optimal policy is memoryless: linear systems value it in many others, without episodes."""
    posterior = uncertain()
    found = sample_and_solve(posterior, 1, episodes=800, seed=3)
    drawing, _ = np.random.default_rng(3).spawn(2)
    single = posterior.sample(drawing, 1)
    assert found.promised == pytest.approx(optimal_values(single)[0, 0], abs=1e-2)
    others = posterior.sample(np.random.default_rng(99), 4000)
    values = policy_values(others, optimal_policies(single)[0])[:, 0]
    error = values.std() / np.sqrt(values.size) + found.achieved.returns.std() / np.sqrt(800)
    assert found.achieved.mean == pytest.approx(values.mean(), abs=4 * error)
    assert found.achieved.returns.size == 800


def test_a_sample_promises_too_much_and_a_larger_one_less_so():
    """In expectation over samples; the promise of a small one is fitted to it."""

    def errors(n, samples):
        runs = [sample_and_solve(uncertain(), n, episodes=40, seed=s, gap=0.02) for s in range(samples)]
        return np.array([run.error[0] for run in runs])

    few, many = errors(1, 40), errors(8, 10)
    assert few.mean() > 4 * few.std(ddof=1) / np.sqrt(few.size)
    assert many.mean() < few.mean() - 0.1


def test_one_seed_gives_one_result():
    first, again, other = (sample_and_solve(uncertain(), 2, episodes=20, seed=s) for s in (5, 5, 6))
    np.testing.assert_array_equal(first.achieved.returns, again.achieved.returns)
    assert first.promised == again.promised != other.promised


def test_bootstrap_posteriors_are_sampled_too():
    evidence = [(0, 0, 0.1, 1), (1, 1, 0.0, 2), (2, 0, 1.0, 0), (0, 1, 0.0, 2)]
    found = sample_and_solve(BootstrapPosterior(uncertain(), evidence), 3, episodes=50)
    assert found.achieved.lower <= found.achieved.mean <= 1 / (1 - 0.8)


def test_impossible_observations_end_in_the_fallback():
    class Solved:
        def start(self, state):
            return 7

        def act(self, state, memory, rng=None):
            return 0

        def update(self, memory, state, action, reward, next_state):
            if next_state == 2:
                raise BadInput("impossible")
            return memory + 1

    policy, rng = _WithFallback(Solved(), np.array([1, 1, 1])), np.random.default_rng(0)
    memory = policy.update(policy.start(0), 0, 0, 0.0, 1)
    assert (memory, policy.act(1, memory, rng)) == (8, 0)
    memory = policy.update(memory, 1, 0, 0.0, 2)
    assert policy.act(2, memory, rng) == 1
    assert policy.act(0, policy.update(memory, 2, 1, 0.0, 0), rng) == 1


@pytest.mark.parametrize(
    ("change", "settings", "message"),
    [
        ({"horizon": 5}, {}, "horizon"),
        ({"discount": 0.0}, {}, "has discount 0.0 and horizon None"),
        ({}, {"episodes": 1}, "1 episodes"),
        ({}, {"confidence": 1.0}, "confidence 1"),
        ({}, {"n": 0}, "at least 1"),
    ],
)
def test_bad_arguments_are_named(change, settings, message):
    with pytest.raises(BadInput, match=message):
        sample_and_solve(replace(uncertain(), **change), **({"n": 2} | settings))
