"""Oracles: the Dirichlet-multinomial law, enumeration over supports, belief-state recursion, Q-learning by hand."""

from functools import cache
from itertools import combinations, product
from math import comb

import numpy as np
import pytest
from scipy.special import gammaln
from scipy.stats import chisquare

from epomdp.errors import BadInput
from epomdp.exact import tree_search
from epomdp.exact.bayes_adaptive import Bamcp, SparseDirichlet
from epomdp.exact.gaussian import NormalGamma
from epomdp.exact.posterior import DirichletPosterior


def sequence_probability(sequence, concentrations):
    """Probability that a row drawn from the Dirichlet(s) yields the sequence; the integral in closed form."""
    counts = np.bincount(sequence, minlength=concentrations.size)
    possible = concentrations > 0
    if counts[~possible].any():
        return 0.0
    a, n = concentrations[possible], counts[possible]
    log = gammaln(a.sum()) - gammaln(a.sum() + n.sum()) + (gammaln(a + n) - gammaln(a)).sum()
    return float(np.exp(log))


def sparse_probability(sequence, S, prior):
    """The same for the sparse prior, by enumeration over every set of possible successors."""
    sizes = np.arange(1, S + 1) ** -prior.decay
    total = 0.0
    for k, weight in enumerate(sizes / sizes.sum(), start=1):
        for support in combinations(range(S), k):
            concentrations = np.zeros(S)
            concentrations[list(support)] = prior.concentration
            total += weight / comb(S, k) * sequence_probability(sequence, concentrations)
    return total


def drawn_sequences(agent, row, length, times):
    """(times, length) successors that as many simulations draw in turn from one row."""
    agent._random[0] = 7
    draws = np.zeros((times, length), dtype=int)
    for simulation in range(times):
        for step in range(length):
            draws[simulation, step] = tree_search.draw(agent._urns, row, step, simulation, agent._random)
    return draws


def check_frequencies(draws, S, probability):
    sequences = list(product(range(S), repeat=draws.shape[1]))
    expected = np.array([probability(s) for s in sequences])
    assert expected.sum() == pytest.approx(1)
    codes = np.ravel_multi_index(draws.T, (S,) * draws.shape[1])
    observed = np.bincount(codes, minlength=len(sequences))
    possible = expected > 0
    assert observed[~possible].sum() == 0
    assert chisquare(observed[possible], expected[possible] * len(draws)).pvalue > 1e-3


def test_draws_follow_a_row_drawn_from_the_dirichlet():
    prior = np.full((3, 1, 3), 0.4)
    prior[1, 0] = [0.0, 1.3, 0.2]
    agent = Bamcp(prior, np.zeros((3, 1)), 0.5)
    agent.update(1, 0, 0.0, 2)
    concentrations = np.array([0.0, 1.3, 1.2])
    draws = drawn_sequences(agent, 1, 3, 20_000)
    check_frequencies(draws, 3, lambda s: sequence_probability(np.array(s), concentrations))


@pytest.mark.parametrize("evidence", [(), (2,), (2, 0, 2)])
def test_draws_follow_a_row_drawn_from_the_sparse_prior(evidence):
    prior, S = SparseDirichlet(0.3, 1.0), 4
    agent = Bamcp(prior, np.zeros((S, 1)), 0.5)
    for successor in evidence:
        agent.update(0, 0, 0.0, successor)
    known = sparse_probability(np.array(evidence, dtype=int), S, prior) if evidence else 1.0
    draws = drawn_sequences(agent, 0, 3, 20_000)
    check_frequencies(
        draws, S, lambda s: sparse_probability(np.array(evidence + s, dtype=int), S, prior) / known
    )


def test_size_posterior_by_enumeration_over_supports():
    prior, evidence, S = SparseDirichlet(0.3, 1.5), np.array([1, 1, 3]), 5
    joint = np.zeros(S)
    for k in range(1, S + 1):
        for support in combinations(range(S), k):
            concentrations = np.zeros(S)
            concentrations[list(support)] = prior.concentration
            joint[k - 1] += k**-prior.decay / comb(S, k) * sequence_probability(evidence, concentrations)
    counts = np.bincount(evidence, minlength=S).astype(float)
    np.testing.assert_allclose(prior.size_posterior(counts), joint / joint.sum(), atol=1e-12)


def bandit(sure, concentration):
    """State 0: action 0 pays `sure` and stays; action 1 leads to state 1, worth 1 on the way back, or state 2."""
    prior = np.zeros((3, 2, 3))
    prior[0, 0, 0] = prior[1, :, 0] = prior[2, :, 0] = 1
    prior[0, 1, 1] = prior[0, 1, 2] = concentration
    return prior, np.array([[sure, 0.0], [1.0, 1.0], [0.0, 0.0]])


def bandit_values(sure, concentration, discount, depth):
    """(2,) Bayes-optimal values of the actions in state 0: recursion over the posterior's counts."""

    @cache
    def action_values(state, won, lost, left):
        if left == 0:
            return (0.0, 0.0)
        if state > 0:
            back = float(state == 1) + discount * max(action_values(0, won, lost, left - 1))
            return (back, back)
        chance = (concentration + won) / (2 * concentration + won + lost)
        stay = sure + discount * max(action_values(0, won, lost, left - 1))
        good = max(action_values(1, won + 1, lost, left - 1))
        bad = max(action_values(2, won, lost + 1, left - 1))
        return (stay, discount * (chance * good + (1 - chance) * bad))

    return np.array(action_values(0, 0, 0, depth))


def test_search_finds_the_bayes_optimal_values():
    prior, rewards = bandit(0.3, 0.5)
    agent = Bamcp(prior, rewards, 0.7, simulations=60_000, exploration=1.0, accuracy=0.1, seed=3)
    assert agent.depth == 7
    exact = bandit_values(0.3, 0.5, 0.7, 7)
    values = agent.search(0)
    best = exact.argmax()
    assert values.argmax() == best
    # The mean over simulations includes explored actions, so it lies a little below the value.
    assert exact[best] - 0.03 < values[best] < exact[best] + 0.01


def test_planning_explores_where_certainty_equivalence_does_not():
    sure, concentration, discount = 0.3, 0.1, 0.9
    always_risky = (
        discount * 0.5 / (1 - discount**2)
    )  # the posterior mean: a 1 with chance .5, every second step
    assert always_risky < sure / (1 - discount)
    prior, rewards = bandit(sure, concentration)
    agent = Bamcp(prior, rewards, discount, simulations=20_000, accuracy=0.1, seed=0)
    assert bandit_values(sure, concentration, discount, agent.depth).argmax() == 1
    assert agent.act(0) == 1


def test_decisions_repeat_for_one_seed_and_differ_between_seeds():
    def values(seed):
        agent = Bamcp(0.5, np.eye(4)[:, :2], 0.9, simulations=200, seed=seed)
        found = [agent.search(0)]
        agent.update(0, 1, 0.0, 2)
        return np.array([*found, agent.search(2)])

    np.testing.assert_array_equal(values(1), values(1))
    assert (values(1) != values(2)).any()


def test_update_counts_and_takes_one_step_of_q_learning():
    agent = Bamcp(0.25, np.zeros((3, 2)), 0.9, learning_rate=0.5)
    agent.update(0, 1, 2.0, 1)
    agent.update(2, 0, 1.0, 0)
    assert agent.counts[0, 1, 1] == 1.25 and agent.counts.sum() == pytest.approx(2 + 0.25 * 18)
    np.testing.assert_allclose(agent.action_values, [[0, 1], [0, 0], [0.5 * (1 + 0.9), 0]])
    assert agent._rollout.number.tolist() == [1, 2, 1]
    assert agent._rollout.greedy[0, 0] == 1 and agent._rollout.greedy[2, 0] == 0


def test_prior_is_not_written_to():
    prior = np.ones((2, 1, 2))
    Bamcp(prior, np.zeros((2, 1)), 0.9).update(0, 0, 0.0, 1)
    assert (prior == 1).all()


def test_known_dynamics_are_planned_in_exactly():
    """One possible successor per row: a chain whose far end pays; nothing is random but the exploration."""
    prior, rewards = np.zeros((3, 2, 3)), np.array([[0.1, 0.0], [0.1, 0.0], [1.0, 1.0]])
    prior[:, 0, 0] = prior[0, 1, 1] = prior[1, 1, 2] = prior[2, 1, 2] = 1e-3
    agent = Bamcp(prior, rewards, 0.8, simulations=5000, exploration=5.0, seed=5)
    assert [agent.act(0), agent.act(1)] == [1, 1]
    assert agent.search(2)[1] == pytest.approx(1 / (1 - 0.8), rel=0.06)


def test_starts_from_a_posterior():
    counts = np.random.default_rng(0).uniform(0.1, 2, (3, 2, 3))
    posterior = DirichletPosterior(counts, np.eye(3)[:, :2], np.eye(3)[0], 0.8)
    posterior = posterior.update([(0, 0, 1.0, 2), (2, 1, 0.0, 0)])
    agent = Bamcp.from_posterior(posterior, simulations=50, seed=4)
    np.testing.assert_array_equal(agent.counts, posterior.counts)
    same = Bamcp(posterior.counts, posterior.rewards, 0.8, 50, seed=4)
    np.testing.assert_array_equal(agent.search(0), same.search(0))


def test_a_posterior_over_rewards_is_refused():
    unknown = NormalGamma(*np.ones((4, 3, 2)))
    posterior = DirichletPosterior(np.ones((3, 2, 3)), unknown, np.eye(3)[0], 0.8)
    with pytest.raises(BadInput, match="rewards are not known"):
        Bamcp.from_posterior(posterior)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"discount": 1.0}, "discount is 1.0"),
        ({"discount": 0.0}, "discount is 0.0"),
        ({"accuracy": 0.0}, "accuracy"),
        ({"epsilon": 1.5}, "epsilon"),
        ({"simulations": 0}, "simulations"),
        ({"exploration": -1.0}, "exploration"),
        ({"learning_rate": 2.0}, "learning_rate"),
        ({"seed": -1}, "seed"),
        ({"rewards": np.zeros(3)}, r"shape \(3,\)"),
        ({"rewards": np.array([[np.nan]])}, "finite"),
        ({"prior": np.ones((2, 2))}, "broadcast"),
        ({"prior": -1.0}, "negative"),
        ({"prior": 0.0}, r"state, action \(0, 0\) is all 0"),
        ({"prior": SparseDirichlet(0.0)}, "concentration"),
    ],
)
def test_bad_arguments_are_named(arguments, message):
    settings = {"prior": 1.0, "rewards": np.zeros((3, 2)), "discount": 0.9} | arguments
    with pytest.raises(BadInput, match=message) as caught:
        Bamcp(**settings)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("transition", [(3, 0, 0.0, 0), (0, 2, 0.0, 0), (0, 0, 0.0, -1)])
def test_transitions_outside_the_problem_are_named(transition):
    agent = Bamcp(1.0, np.zeros((3, 2)), 0.9)
    with pytest.raises(BadInput, match="does not exist"):
        agent.update(*transition)


@pytest.mark.parametrize("wrong", [{"prior": "x"}, {"rewards": "x"}])
def test_words_are_no_numbers(wrong):
    with pytest.raises(BadInput, match=r"Bamcp: \w+: holds .* values; give real numbers"):
        Bamcp(**({"prior": 1.0, "rewards": np.zeros((2, 2)), "discount": 0.5} | wrong))
