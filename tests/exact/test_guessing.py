"""Oracles: enumeration over episodes, simulation, the textbook formulas, a numeric optimiser."""

from itertools import permutations, product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize

from epomdp.errors import BadInput
from epomdp.exact import guessing

LIMITS = st.one_of(st.none(), st.integers(1, 40))
DISCOUNTS = st.one_of(st.just(1.0), st.just(0.0), st.floats(0.01, 0.999))


@st.composite
def posteriors(draw, largest=6):
    """Distributions over 1 to `largest` labels, zeros and ties included."""
    weights = draw(st.lists(st.sampled_from([0.0, 0.001, 0.1, 0.1, 0.3, 1.0]), min_size=1, max_size=largest))
    weights[draw(st.integers(0, len(weights) - 1))] += draw(st.floats(0.01, 1.0))
    return np.array(weights) / sum(weights)


def enumerated_return(q, label, limit, discount):
    """Expected return of guesses drawn from q, over every sequence of at most `limit` guesses."""
    total = 0.0
    for guesses in product(range(len(q)), repeat=limit):
        reward = 0.0
        for t, guess in enumerate(guesses):
            if guess == label:
                break
            reward -= discount**t
        total += np.prod([q[g] for g in guesses]) * reward
    return total


def sequence_value(order, p, limit, discount):
    """Value of guessing the labels in this order, step by step."""
    value = 0.0
    for label, chance in enumerate(p):
        for t, guess in enumerate(order[:limit]):
            if guess == label:
                break
            value -= chance * discount**t
    return value


@given(posteriors(4), st.integers(1, 4), DISCOUNTS, st.integers(0, 2**31))
@settings(max_examples=25, deadline=None)
def test_memoryless_equals_enumeration(p, limit, discount, seed):
    q = np.random.default_rng(seed).dirichlet(np.full(p.size, 0.7))
    returns = [enumerated_return(q, y, limit, discount) for y in range(p.size)]
    assert guessing.memoryless(q, p, limit, discount) == pytest.approx(p @ returns, abs=1e-12)
    labels = np.arange(p.size)
    given_label = guessing.return_given_label(np.tile(q, (p.size, 1)), labels, limit, discount)
    np.testing.assert_allclose(given_label, returns, atol=1e-12)


@given(posteriors(4), LIMITS, DISCOUNTS)
@settings(max_examples=40, deadline=None)
def test_elimination_is_the_best_sequence_of_guesses(p, limit, discount):
    values = [sequence_value(order, p, limit, discount) for order in permutations(range(p.size))]
    value = guessing.elimination(p, limit, discount)
    assert value == pytest.approx(max(values), abs=1e-12)
    labels = np.arange(p.size)
    returns = guessing.elimination_return(np.tile(p, (p.size, 1)), labels, limit, discount)
    assert p @ returns == pytest.approx(value, abs=1e-12)


def test_repeating_a_guess_is_never_better_than_elimination():
    p = np.array([0.5, 0.3, 0.2])
    best = max(sequence_value(order, p, 4, 0.9) for order in product(range(3), repeat=4))
    assert guessing.elimination(p, 4, 0.9) == pytest.approx(best, abs=1e-12)


@given(posteriors(), st.integers(1, 500))
@settings(max_examples=50, deadline=None)
def test_formulas_without_discount(p, limit):
    def finite(q):
        mask = q > 0
        risk = p * limit
        risk[mask] = (p * (1 - q) * (1 - (1 - q) ** limit) / np.where(mask, q, 1))[mask]
        return -risk.sum()

    ranked = np.sort(p)[::-1]
    K, support = p.size, (p > 0).sum()
    close = {"abs": 1e-9, "rel": 1e-9}
    assert guessing.elimination(p, None) == pytest.approx(-(ranked * np.arange(K)).sum(), **close)
    assert guessing.argmax(p, limit) == pytest.approx(-(1 - p.max()) * limit, **close)
    assert guessing.uniform(p, None) == pytest.approx(-(K - 1), **close)
    assert guessing.sampling(p, None) == pytest.approx(-(support - 1), **close)
    assert guessing.best_memoryless(p, None)[1] == pytest.approx(-(np.sqrt(p).sum() ** 2 - 1), **close)
    assert guessing.sampling(p, limit) == pytest.approx(finite(p), **close)
    assert guessing.uniform(p, limit) == pytest.approx(finite(np.full(K, 1 / K)), **close)


@given(posteriors(), LIMITS, DISCOUNTS, st.integers(0, 2**31))
@settings(max_examples=100, deadline=None)
def test_best_memoryless_satisfies_the_optimality_conditions(p, limit, discount, seed):
    """A concave problem: no vertex of the simplex may be an improving direction."""
    q, value = guessing.best_memoryless(p, limit, discount)
    assert q.min() >= 0 and q.sum() == pytest.approx(1, abs=1e-12)
    assert value == pytest.approx(guessing.memoryless(q, p, limit, discount), rel=1e-12)
    rival = np.random.default_rng(seed).dirichlet(np.ones(p.size))
    for other in [rival, p, *np.eye(p.size)]:
        for share in (1e-6, 1e-3, 0.1):
            mixed = (1 - share) * q + share * other
            assert guessing.memoryless(mixed, p, limit, discount) <= value + 1e-10 * (1 + abs(value))
    assert value <= guessing.elimination(p, limit, discount) + 1e-12


@pytest.mark.parametrize("limit", [2, 3, 20, 10_000, None])
@pytest.mark.parametrize("discount", [1.0, 0.9, 0.05])
def test_best_memoryless_against_a_numeric_optimiser(limit, discount):
    p = np.random.default_rng(0).dirichlet([0.3, 1, 1, 2])

    def loss(x):
        return -guessing.memoryless(x / x.sum(), p, limit, discount)

    found = minimize(
        loss,
        np.full(4, 0.25),
        method="SLSQP",
        bounds=[(1e-9, 1)] * 4,
        constraints={"type": "eq", "fun": lambda x: x.sum() - 1},
        options={"ftol": 1e-13, "maxiter": 500},
    )
    assert guessing.best_memoryless(p, limit, discount)[1] == pytest.approx(-found.fun, abs=2e-7)


def test_best_memoryless_of_two_labels_against_a_fine_grid():
    p = np.array([0.85, 0.15])
    grid = np.linspace(0, 1, 100_001)
    values = guessing.memoryless(np.stack([grid, 1 - grid], -1), p, 20)
    q, value = guessing.best_memoryless(p, 20)
    assert value == pytest.approx(values.max(), abs=1e-8) and value >= values.max()
    assert q[0] == pytest.approx(grid[values.argmax()], abs=2e-5)


def test_long_limits_approach_the_square_root_rule():
    p = np.array([0.6, 0.3, 0.1])
    q, _ = guessing.best_memoryless(p, 10**6)
    np.testing.assert_allclose(q, np.sqrt(p) / np.sqrt(p).sum(), atol=1e-6)


@pytest.mark.parametrize("limit", [2, 30, None])
@pytest.mark.parametrize("discount", [5e-324, 1e-15, 1e-9, 1 - 1e-9, 1.0])
def test_extreme_posteriors_and_discounts(limit, discount):
    for p in ([1.0, 5e-324], [0.5, 0.5], [1 - 1e-12, 1e-12], [0.0, 1.0]):
        q, value = guessing.best_memoryless(p, limit, discount)
        assert np.isfinite(q).all() and q.sum() == pytest.approx(1)
        single = guessing.argmax(p, limit, discount)
        assert single <= value + 1e-12 and value <= guessing.elimination(p, limit, discount) + 1e-12


def test_simulated_episodes():
    p, q, limit, episodes = np.array([0.7, 0.2, 0.1]), np.array([0.5, 0.3, 0.2]), 6, 100_000
    rng = np.random.default_rng(1)
    labels = rng.choice(3, episodes, p=p)
    wrong = rng.choice(3, (episodes, limit), p=q) != labels[:, None]
    returns = -np.cumprod(wrong, axis=1).sum(axis=1)
    error = returns.std() / np.sqrt(episodes)
    assert guessing.memoryless(q, p, limit) == pytest.approx(returns.mean(), abs=4 * error)


def test_batches_agree_with_single_rows():
    p = np.random.default_rng(2).dirichlet(np.ones(5), size=(3, 4))
    labels = np.random.default_rng(3).integers(0, 5, (3, 4))
    q, value = guessing.best_memoryless(p, 7, 0.9)
    for i, j in product(range(3), range(4)):
        single_q, single_value = guessing.best_memoryless(p[i, j], 7, 0.9)
        np.testing.assert_allclose(q[i, j], single_q, atol=1e-12)
        assert value[i, j] == pytest.approx(single_value, abs=1e-13)
        for function in (guessing.argmax, guessing.sampling, guessing.uniform, guessing.elimination):
            assert function(p, 7, 0.9)[i, j] == pytest.approx(function(p[i, j], 7, 0.9), abs=1e-13)
        for function in (guessing.return_given_label, guessing.elimination_return):
            expected = function(p[i, j], labels[i, j], 7, 0.9)
            assert function(p, labels, 7, 0.9)[i, j] == pytest.approx(expected, abs=1e-13)


def test_boundaries():
    assert guessing.memoryless([0, 1], [0.5, 0.5], None) == -np.inf
    assert guessing.memoryless([0, 1], [0.0, 1.0], None) == 0
    assert guessing.argmax([0.5, 0.5], 3) == -1.5
    assert guessing.best_memoryless([1.0], None)[1] == 0
    assert guessing.elimination([0.25] * 4, 1) == -0.75
    tiny = 1e-13  # the closed form must not cancel where guesses hardly ever succeed
    assert guessing.return_given_label([tiny, 1 - tiny], 0, 50) == pytest.approx(-50 + tiny * 1275, abs=1e-13)
    single = np.array([0.1, 0.2, 0.7], np.float32)
    assert guessing.elimination(single, None) == pytest.approx(-0.4, abs=1e-6)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: guessing.argmax([0.5, 0.6], 3), "p is no distribution"),
        (lambda: guessing.argmax([[0.5, 0.5], [1.5, -0.5]], 3), r"p\[1\] is no distribution"),
        (lambda: guessing.argmax([np.nan, 1.0], 3), "p is no distribution"),
        (lambda: guessing.argmax(1.0, 3), "last axis"),
        (lambda: guessing.argmax([0.5, 0.5], 0), "limit is 0"),
        (lambda: guessing.argmax([0.5, 0.5], 3, 1.5), "discount is 1.5"),
        (lambda: guessing.memoryless([0.5, 0.6], [0.5, 0.5], 3), "q is no distribution"),
        (lambda: guessing.return_given_label([0.5, 0.5], 2, 3), "from 0 to 1"),
        (lambda: guessing.return_given_label([0.5, 0.5], 1.0, 3), "integers"),
        (lambda: guessing.guessing_family([0.5, 0.5]), "without a limit"),
        (lambda: guessing.guessing_family([[0.5, 0.5]], 3), "one image"),
    ],
)
def test_bad_input_is_named(call, message):
    with pytest.raises(BadInput, match=message) as caught:
        call()
    assert "\n" not in str(caught.value)


@given(posteriors(4), st.one_of(st.just((None, 0.8)), st.tuples(st.integers(1, 4), DISCOUNTS)))
@settings(max_examples=25, deadline=None)
def test_family_plays_the_game(p, rules):
    """Values of the family by dynamic programming over (step, state) in each environment."""
    limit, discount = rules
    family = guessing.guessing_family(p, limit, discount)
    assert family.horizon == limit and family.discount == discount
    np.testing.assert_allclose(family.weights, p, rtol=1e-15)
    transitions, q = family.dense_transitions(), np.random.default_rng(0).dirichlet(np.ones(p.size))
    value = np.zeros((p.size, 2))
    for _ in range(limit or 200):
        value = (family.rewards + discount * np.einsum("msat,mt->msa", transitions, value)) @ q
    assert p @ value @ family.initial == pytest.approx(guessing.memoryless(q, p, limit, discount), abs=1e-12)
