"""The ladder of values: its order, its rows against enumeration and closed forms, its JSON and its sentence."""

import itertools
import json
from dataclasses import replace

import numpy as np
import pytest
import scipy.sparse as sp
from hypothesis import given, settings
from hypothesis import strategies as st

from epomdp.errors import BadInput
from epomdp.exact.family import Family
from epomdp.exact.guessing import argmax, best_memoryless, elimination, guessing_family
from epomdp.exact.ladder import ladder
from epomdp.exact.mdp import policy_values
from epomdp.exact.pomdp import Pomdp
from epomdp.exact.solve import solve

KEYS = [
    "informed",
    "bayes_optimal",
    "stochastic",
    "deterministic",
    "certainty_equivalent",
    "discount",
    "seconds",
    "status",
]


def make_family(seed, M, S, A, sparse=False, discount=0.8):
    rng = np.random.default_rng(seed)
    if sparse:
        transitions = np.eye(S)[rng.integers(0, S, (M, S, A))]
        rewards = rng.integers(-1, 2, (M, S, A)).astype(float)
    else:
        transitions = rng.dirichlet(np.full(S, 0.3), (M, S, A))
        rewards = rng.normal(size=(M, S, A))
    return Family.from_arrays(
        transitions, rewards, rng.dirichlet(np.ones(S)), rng.dirichlet(np.ones(M)), discount
    )


@settings(max_examples=20, deadline=None)
@given(
    st.integers(0, 10**6),
    st.integers(1, 3),
    st.integers(1, 3),
    st.integers(1, 3),
    st.booleans(),
    st.booleans(),
)
def test_each_row_is_at_least_the_next(seed, M, S, A, sparse, observe):
    family = make_family(seed, M, S, A, sparse)
    found = ladder(family, observe_rewards=observe, gap=1e-3, time_limit=1.5)
    assert found.stochastic and found.deterministic and found.certainty and found.informed is not None
    rows = [
        found.informed,
        found.upper,
        found.lower,
        found.stochastic.value,
        found.deterministic.value,
        max(found.certainty.map_value, found.certainty.mean_value),
    ]
    assert (np.diff(rows) <= 1e-9).all()
    every = itertools.product(range(A), repeat=S)
    values = [family.weights @ policy_values(family, np.array(p)) @ family.initial for p in every]
    assert found.deterministic.value == pytest.approx(max(values), abs=1e-6)
    assert found.stochastic.bound >= found.stochastic.value


@pytest.mark.parametrize(("limit", "discount"), [(None, 0.9), (5, 1.0)])
def test_guessing_game_from_top_to_bottom(limit, discount):
    p = [0.5, 0.3, 0.2]
    found = ladder(guessing_family(p, limit, discount), gap=1e-6, time_limit=6.0).to_json()
    assert found["status"] == "solved"
    assert found["informed"] == pytest.approx(0.0, abs=1e-9)
    best = float(elimination(p, limit, discount))
    assert found["bayes_optimal"]["lower"] == pytest.approx(best, abs=1e-6)
    assert found["bayes_optimal"]["upper"] == pytest.approx(best, abs=1e-6)
    assert found["stochastic"]["value"] == pytest.approx(
        float(best_memoryless(p, limit, discount)[1]), abs=1e-6
    )
    assert found["deterministic"]["value"] == pytest.approx(float(argmax(p, limit, discount)), abs=1e-6)
    assert found["deterministic"]["certified"]
    assert found["certainty_equivalent"]["map"] == pytest.approx(float(argmax(p, limit, discount)), abs=1e-6)


def test_json_is_the_contract_and_is_json():
    found = ladder(make_family(0, 2, 3, 2), time_limit=1.0).to_json()
    assert list(found) == KEYS
    assert set(found["bayes_optimal"]) == {"lower", "upper"}
    for row in ("stochastic", "deterministic"):
        assert {"value", "certified"} <= set(found[row])
        assert isinstance(found[row]["certified"], bool)
    assert set(found["certainty_equivalent"]) == {"map", "mean"}
    assert json.loads(json.dumps(found)) == found
    assert found["status"] in ("solved", "time-limit")


def test_a_flat_pomdp_has_bounds_only():
    """The tiger, with two states, three actions and two observations."""
    stay, reset = sp.csr_array(np.eye(2)), sp.csr_array(np.full((2, 2), 0.5))
    hear = sp.csr_array(np.array([[0.85, 0.15], [0.15, 0.85]]))
    tiger = Pomdp(
        (stay, reset, reset),
        (hear, reset, reset),
        np.array([[-1.0, -100.0, 10.0], [-1.0, 10.0, -100.0]]),
        np.array([0.5, 0.5]),
        0.95,
    )
    found = ladder(tiger, gap=1e-2)
    assert set(found.to_json()) == {"bayes_optimal", "discount", "seconds", "status"}
    assert found.lower <= 19.3714 + 1e-4 and found.upper >= 19.3713 - 1e-4
    assert found.upper - found.lower <= 1e-2
    assert "between" in found.what_it_buys()


def test_no_time_still_gives_a_ladder_in_order():
    family = make_family(1, 4, 6, 3)
    found = ladder(family, gap=1e-9, time_limit=0.0)
    assert found.status == "time-limit"
    assert found.stochastic and found.deterministic and found.certainty and found.informed
    assert found.informed >= found.upper >= found.lower >= found.stochastic.value
    assert found.stochastic.value >= found.deterministic.value >= found.certainty.mean_value


def test_hidden_rewards_change_the_first_row_only():
    """Two environments that differ in rewards only: seeing them tells all, not seeing them nothing."""
    rewards = [[[1.0, 0.0]], [[0.0, 1.0]]]
    family = Family.from_arrays(np.ones((2, 1, 2, 1)), rewards, [1.0], [0.5, 0.5], 0.5)
    seen, hidden = (ladder(family, observe_rewards=o, gap=1e-6, time_limit=2.0) for o in (True, False))
    assert seen.lower == pytest.approx(0.5 + 0.5 * 2.0, abs=1e-5)
    assert hidden.upper == pytest.approx(1.0, abs=1e-5)
    first, second = seen.to_json(), hidden.to_json()
    for row in ("informed", "certainty_equivalent"):
        assert first[row] == second[row]
    for row in ("stochastic", "deterministic"):
        assert first[row]["value"] == second[row]["value"]


def test_the_sentence_says_what_is_proved():
    family = guessing_family([0.5, 0.3, 0.2], None, 0.9)
    found = ladder(family, gap=1e-6, time_limit=6.0)
    sentence = found.what_it_buys()
    assert sentence.startswith("Memory buys ") and sentence.endswith("planning over the posterior nothing.")
    assert found.stochastic and found.deterministic
    loose = replace(found.deterministic, bound=found.stochastic.value + 1.0, certified=False)
    assert "randomness at most" in replace(found, deterministic=loose).what_it_buys()
    exact = replace(found.stochastic, bound=found.stochastic.value, certified=True)
    assert f"Memory buys {found.upper - exact.value:.4g}, " in replace(found, stochastic=exact).what_it_buys()


def test_what_cannot_be_solved_is_said_at_once():
    family = Family.from_arrays(np.ones((1, 1, 1, 1)), np.zeros((1, 1, 1)), [1.0], [1.0], 0.9)
    for wrong in ({"gap": "a"}, {"gap": 0.0}, {"time_limit": -1}, {"time_limit": "a"}):
        with pytest.raises(BadInput, match=next(iter(wrong))):
            ladder(family, **wrong)
    for made in (ladder, solve):
        with pytest.raises(BadInput, match="problem: is a NoneType"):
            made(None)


def test_rounding_proves_nothing():
    """So near to a discount of 1 the rows' values are the same number, but known to hundreds only."""
    transitions = np.full((2, 2, 2, 2), 0.5)
    transitions[1, :, 1] = [0.9, 0.1]
    rewards = np.arange(8.0).reshape(2, 2, 2) / 8.0
    family = Family.from_arrays(transitions, rewards, [1.0, 0.0], [0.5, 0.5], 1.0 - 1e-9)
    found = ladder(family, gap=1e-2, time_limit=1.0)
    truth = 0.5 * (0.125 + 0.625) + (1e9 - 1.0) * 0.5 * (0.25 + 0.65)
    assert found.lower <= truth <= found.upper
    assert found.status == "time-limit" and found.upper - found.lower > 1e-2
