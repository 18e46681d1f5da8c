"""The worst prior against a grid over all priors, and the mixture against every environment."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from epomdp.errors import BadInput
from epomdp.exact.belief import EpistemicPOMDP
from epomdp.exact.family import Family
from epomdp.exact.policy_evaluation import evaluate
from epomdp.exact.robust import robust_value
from epomdp.exact.solve import solve


def random_family(seed, M, S=3, A=2, discount=0.7, starts=1):
    rng = np.random.default_rng(seed)
    transitions = rng.dirichlet(0.4 * np.ones(S), (M, S, A))
    rewards = np.repeat(rng.normal(size=(1, S, A)), M, axis=0)
    initial = np.eye(S)[0] if starts == 1 else np.full(S, 1 / S)
    return Family.from_arrays(transitions, rewards, initial, np.full(M, 1 / M), discount)


def simplex(M, parts):
    if M == 1:
        yield (parts,)
        return
    for first in range(parts + 1):
        for rest in simplex(M - 1, parts - first):
            yield (first, *rest)


@settings(max_examples=6, deadline=None)
@given(st.integers(0, 10**6), st.sampled_from([(2, 20, 1), (3, 6, 1), (2, 10, 3)]), st.booleans())
def test_no_prior_on_a_grid_is_worse(seed, form, observed):
    M, parts, starts = form
    family = random_family(seed, M, starts=starts)
    robust = robust_value(family, observe_rewards=observed, gap=1e-3)
    assert robust.status == "solved" and robust.gap <= 1e-3
    for point in simplex(M, parts):
        at = solve(family, observe_rewards=observed, prior=np.array(point) / parts, gap=1e-3)
        assert at.upper >= robust.lower - 1e-9
    # The prior found is a witness of the upper bound.
    found = solve(family, observe_rewards=observed, prior=robust.prior, gap=1e-4)
    assert found.lower <= robust.upper + 1e-9
    assert robust.prior.sum() == pytest.approx(1.0) and (robust.prior >= 0).all()


@settings(max_examples=6, deadline=None)
@given(st.integers(0, 10**6), st.sampled_from([1, 3]))
def test_the_mixture_attains_the_lower_bound_everywhere(seed, starts):
    family = random_family(seed, 3, starts=starts)
    robust = robust_value(family, gap=1e-3)
    pomdp = EpistemicPOMDP(family)
    share, policies, returns = robust.mixture
    attained = sum(
        p * evaluate(pomdp, policy).environment_lower for p, policy in zip(share, policies, strict=True)
    )
    assert share.sum() == pytest.approx(1.0)
    assert (attained >= returns - 1e-8).all()
    assert attained.min() >= robust.lower - 1e-8


def test_matching_pennies():
    # One guess, right in one environment each: the worst prior is even, and chance the best answer.
    rewards = np.zeros((2, 2, 2))
    rewards[0, 0, 0] = rewards[1, 0, 1] = 1.0
    transitions = np.zeros((2, 2, 2, 2))
    transitions[..., 1] = 1.0
    family = Family.from_arrays(transitions, rewards, [1.0, 0.0], [0.9, 0.1], 0.9)
    robust = robust_value(family, gap=1e-6)
    assert robust.lower == pytest.approx(0.5, abs=1e-6)
    np.testing.assert_allclose(robust.prior, [0.5, 0.5], atol=1e-3)
    np.testing.assert_allclose(robust.mixture.probabilities, [0.5, 0.5], atol=1e-3)


def test_it_stops_at_the_time_limit_and_reports():
    seen = []
    robust = robust_value(random_family(0, 3), gap=1e-9, time_limit=0.0, callback=seen.append)
    assert robust.status == "time-limit" and robust.lower <= robust.upper
    assert len(seen) == robust.iterations == len(robust.history)
    assert seen[-1].lower == robust.lower


def test_bad_numbers():
    with pytest.raises(BadInput, match="gap"):
        robust_value(random_family(0, 2), gap=0.0)
