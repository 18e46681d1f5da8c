"""Where doubles and clocks end: discounts near 1, gaps below rounding, values of very different sizes."""

from dataclasses import replace

import numpy as np
import pytest

from epomdp.errors import BadInput
from epomdp.exact.belief import EpistemicPOMDP
from epomdp.exact.family import Family
from epomdp.exact.formats import flatten
from epomdp.exact.policy_evaluation import evaluate
from epomdp.exact.solve import solve
from epomdp.exact.solving import bounds


def two_arms(discount, scale=1.0):
    """Two environments whose states are drawn anew at every step; action 1 is the best one in all of them."""
    transitions = np.full((2, 2, 2, 2), 0.5)
    transitions[1, :, 1] = [0.9, 0.1]
    rewards = scale * np.arange(8.0).reshape(2, 2, 2) / 8.0
    return Family.from_arrays(transitions, rewards, [1.0, 0.0], [0.5, 0.5], discount)


def two_arms_value(discount):
    # Environment 0: 1/8 now, then 1/8 or 3/8; environment 1: 5/8 now, then 5/8 or 7/8 with chances 0.9 and 0.1.
    after = discount / (1.0 - discount)
    return 0.5 * (0.125 + after * 0.25) + 0.5 * (0.625 + after * 0.65)


@pytest.mark.parametrize("distance", [1e-4, 1e-6, 1e-9, 1e-12])
@pytest.mark.parametrize("settle", [True, False])
def test_discounts_near_1_come_back_with_bounds(monkeypatch, distance, settle):
    discount = 1.0 - distance
    if not settle:
        # Sweeps that a time limit cuts short.
        monkeypatch.setattr(bounds, "_SLICE", 1000)
        monkeypatch.setattr(bounds, "_MOST_SOLVED_PAIRS", 0)
    solution = solve(two_arms(discount), gap=1e-2, time_limit=None if settle else 0.0)
    truth = two_arms_value(discount)
    assert solution.lower <= truth <= solution.upper
    if settle:
        # Rounding leaves that much apart at least.
        assert solution.gap <= 1e-2 + 100 * np.finfo(float).eps * truth / distance
        np.testing.assert_allclose(solution.environment_returns().mean(), truth, rtol=1e-15 / distance + 1e-9)
    assert (solution.status == "solved") == (solution.gap <= 1e-2)


def pit_family(pit):
    """Look about for which of two bets pays; looking falls into a pit with probability 1e-15."""
    transitions = np.zeros((2, 5, 3, 5))
    rewards = np.zeros((2, 5, 3))
    for s in (0, 1):
        transitions[0, s, 0, :2] = [0.6, 0.4]
        transitions[1, s, 0, :2] = [0.4, 0.6]
        transitions[:, s, 1:, 4] = 1.0
        rewards[:, s, 1] = [1.0, -1.0]
        rewards[:, s, 2] = [-1.0, 1.0]
    transitions[:, 2:, :, 4] = 1.0
    transitions[:, 0, 2, 3:] = [1e-15, 1.0 - 1e-15]
    rewards[:, 3] = pit
    return Family.from_arrays(transitions, rewards, [1.0, 0, 0, 0, 0], [0.5, 0.5], 0.95)


@pytest.mark.parametrize("pit", [-1.0, -1e9, -1e12])
def test_solved_means_that_the_gap_was_reached_however_large_values_are_elsewhere(pit):
    solution = solve(pit_family(pit), gap=1e-3, time_limit=20.0)
    assert solution.status == "solved" and solution.gap <= 1e-3
    found = evaluate(EpistemicPOMDP(pit_family(pit), True), solution)
    assert found.lower >= solution.lower - 1e-6


def test_a_gap_below_rounding_is_not_called_solved():
    solution = solve(two_arms(0.5), gap=1e-17)
    assert solution.status in ("solved", "rounding-limit")
    assert (solution.status == "solved") == (solution.gap <= 1e-14)
    near = solve(two_arms(1.0 - 1e-12), gap=1e-2)
    assert near.status == "rounding-limit" and near.gap > 1e-2


def test_returns_too_large_for_doubles_are_refused():
    with pytest.raises(BadInput, match=r"rewards: are as large as 8.75e\+149"):
        two_arms(0.9, 1e150)
    flat = flatten(two_arms(0.9), True)
    with pytest.raises(BadInput, match="rewards: are as large"):
        solve(replace(flat, rewards=1e200 * flat.rewards))
    with pytest.raises(BadInput, match="nearer to 1 than doubles"):
        two_arms(1.0 - 1e-15)
