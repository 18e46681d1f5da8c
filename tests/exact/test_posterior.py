"""Posteriors against Bayes' rule by enumeration, numerical integration and what was drawn."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import integrate, stats

from epomdp.errors import BadInput
from epomdp.exact.evidence import as_evidence
from epomdp.exact.family import Family
from epomdp.exact.gaussian import NormalGamma
from epomdp.exact.posterior import BootstrapPosterior, DirichletPosterior, FinitePosterior

S, A = 3, 2


def random_family(seed, M=4, common_rewards=True):
    rng = np.random.default_rng(seed)
    transitions = rng.dirichlet(np.ones(S), (M, S, A))
    transitions[rng.random((M, S, A)) < 0.3] = np.eye(S)[0]
    rewards = rng.integers(0, 2, (1 if common_rewards else M, S, A)) + np.zeros((M, 1, 1))
    return Family.from_arrays(transitions, rewards, np.full(S, 1 / S), rng.dirichlet(np.ones(M)), 0.9)


def walk(family, environment, seed, steps=6):
    rng = np.random.default_rng(seed)
    seen, s = [], 0
    for _ in range(steps):
        a = int(rng.integers(A))
        successors, probabilities = family.row(environment, s, a)
        t = int(rng.choice(successors, p=probabilities))
        seen.append((s, a, float(family.rewards[environment, s, a]), t))
        s = t
    return seen


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10**6), st.booleans())
def test_finite_is_bayes_rule(seed, observe_rewards):
    family = random_family(seed, common_rewards=False)
    seen = walk(family, seed % 4, seed)
    likelihood = np.ones(4)
    for s, a, r, t in seen:
        likelihood *= family.dense_transitions()[:, s, a, t]
        if observe_rewards:
            likelihood *= family.rewards[:, s, a] == r
    posterior = FinitePosterior(family, observe_rewards)
    joint = family.weights * likelihood
    updated = posterior.update(seen)
    np.testing.assert_allclose(updated.family.weights, joint / joint.sum(), atol=1e-12)
    assert posterior.log_likelihood(seen) == pytest.approx(np.log(joint.sum()))
    # In two parts, or in another order, it is the same; and the chain rule of probability holds.
    parts = posterior.update(seen[:2]).update(seen[2:])
    np.testing.assert_allclose(parts.family.weights, updated.family.weights, atol=1e-12)
    np.testing.assert_allclose(
        posterior.update(seen[::-1]).family.weights, updated.family.weights, atol=1e-12
    )
    chained = posterior.log_likelihood(seen[:2]) + posterior.update(seen[:2]).log_likelihood(seen[2:])
    assert posterior.log_likelihood(seen) == pytest.approx(chained)
    assert posterior.family is family


def test_finite_says_which_transition_ruled_out_the_last_environment():
    transitions = np.zeros((3, 2, 1, 2))
    transitions[0, 0, 0] = [1, 0]
    transitions[1, 0, 0] = [0.5, 0.5]
    transitions[2, 0, 0] = [0, 1]
    transitions[:, 1, 0, 1] = 1
    rewards = np.zeros((3, 2, 1))
    rewards[:, 1, 0] = [5, 6, 7]
    posterior = FinitePosterior(Family.from_arrays(transitions, rewards, [1, 0], [0.2, 0.3, 0.5], 0.9))
    seen = [(0, 0, 0.0, 0), (0, 0, 0.0, 1), (0, 0, 0.0, 1), (1, 0, 7.0, 1), (1, 0, 6.0, 1)]
    assert posterior.update(seen[:3]).family.weights.tolist() == [0.0, 1.0, 0.0]
    with pytest.raises(
        BadInput, match=r"transition 3 \(state 1, action 0, reward 7, next state 1\) rules out"
    ):
        posterior.update(seen)
    assert posterior.log_likelihood(seen) == -np.inf
    hidden = FinitePosterior(posterior.family, observe_rewards=False)
    assert hidden.update(seen).family.weights.tolist() == [0.0, 1.0, 0.0]
    assert hidden.update([(1, 0, np.nan, 1)]).family.weights.tolist() == [0.2, 0.3, 0.5]
    # Single precision is near enough to be told apart from the others.
    assert posterior.update([(1, 0, np.float32(6.0000001), 1)]).family.weights.tolist() == [0, 1, 0]


def test_long_evidence_does_not_underflow():
    family = random_family(1)
    seen = walk(family, 2, 1, steps=5000)
    weights = FinitePosterior(family).update(seen).family.weights
    assert weights[2] > 0.999 and FinitePosterior(family).log_likelihood(seen) < -1000


def test_finite_samples_and_mean():
    family = random_family(2)
    posterior = FinitePosterior(family)
    sample = posterior.sample(np.random.default_rng(0), 4000)
    assert sample.num_environments == 4
    np.testing.assert_allclose(sample.weights, family.weights, atol=0.03)
    expected = np.einsum("m,msat->sat", family.weights, family.dense_transitions())
    np.testing.assert_allclose(posterior.mean().dense_transitions()[0], expected, atol=1e-12)


def dirichlet(counts, rewards=None):
    rewards = np.zeros(counts.shape[:2]) if rewards is None else rewards
    return DirichletPosterior(counts, rewards, np.eye(len(counts))[0], 0.9)


def test_dirichlet_is_conjugate_by_integration():
    """Two successors: the posterior is a Beta, its density prior times likelihood, its mass the evidence."""
    counts = np.array([[[2.0, 0.7]], [[1.0, 0.0]]])
    posterior = dirichlet(counts)
    seen = [(0, 0, 0.0, t) for t in (0, 1, 1, 0, 1)]

    def joint(p):
        return stats.beta(2.0, 0.7).pdf(p) * p**2 * (1 - p) ** 3

    mass = integrate.quad(joint, 0, 1)[0]
    assert np.exp(posterior.log_likelihood(seen)) == pytest.approx(mass)
    updated = posterior.update(seen)
    mean = integrate.quad(lambda p: p * joint(p), 0, 1)[0] / mass
    assert updated.mean().dense_transitions()[0, 0, 0, 0] == pytest.approx(mean)
    assert updated.counts[0, 0].tolist() == [4.0, 3.7] and posterior.counts[0, 0].tolist() == [2.0, 0.7]
    assert updated.mean().dense_transitions()[0, 1, 0].tolist() == [1.0, 0.0]


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 10**6))
def test_dirichlet_predicts_a_distribution_over_evidence(seed):
    """All continuations of two steps have probabilities that sum to one, and obey the chain rule."""
    rng = np.random.default_rng(seed)
    posterior = dirichlet(
        rng.gamma(0.5, size=(S, A, S)) * (rng.random((S, A, S)) < 0.7) + 1e-2 * np.eye(S)[0]
    )
    s, a, b = int(rng.integers(S)), int(rng.integers(A)), int(rng.integers(A))
    total = 0.0
    for t, u in itertools.product(range(S), repeat=2):
        seen = [(s, a, 0.0, t), (t, b, 0.0, u)]
        both = posterior.log_likelihood(seen)
        total += np.exp(both)
        if both > -np.inf:
            first = posterior.mean().dense_transitions()[0, s, a, t]
            second = posterior.update(seen[:1]).mean().dense_transitions()[0, t, b, u]
            assert np.exp(both) == pytest.approx(first * second)
    assert total == pytest.approx(1.0)


@pytest.mark.parametrize("scale", [1.0, 1e-3])
def test_dirichlet_samples_have_its_moments(scale):
    counts = scale * np.array([[[1.0, 2.0, 0.0]], [[0.5, 0.5, 0.5]], [[0.0, 0.0, 4.0]]])
    family = dirichlet(counts).sample(np.random.default_rng(0), 20_000)
    drawn = family.dense_transitions()
    alpha = counts.sum(axis=2, keepdims=True)
    mean = counts / alpha
    spread = np.sqrt(mean * (1 - mean) / (alpha + 1))
    np.testing.assert_allclose(drawn.mean(axis=0), mean, atol=0.015)
    np.testing.assert_allclose(drawn.std(axis=0), spread, atol=0.01)
    assert (drawn[:, 0, 0, 2] == 0).all() and (drawn[:, 2, 0, 2] == 1).all()
    np.testing.assert_allclose(family.weights, 1 / 20_000)


def test_samples_are_reproducible_and_independent():
    posterior = dirichlet(np.ones((S, A, S)))
    one, same, other = (posterior.sample(np.random.default_rng(seed), 3).probabilities for seed in (1, 1, 2))
    np.testing.assert_array_equal(one, same)
    assert not np.intersect1d(one, other).size


def test_known_rewards_must_agree():
    posterior = dirichlet(np.ones((S, A, S)), np.arange(6.0).reshape(S, A))
    assert posterior.update([(1, 1, 3.0, 0)]).counts[1, 1, 0] == 2.0
    with pytest.raises(
        BadInput, match=r"transition 1 \(state 1, action 1, reward 4, next state 0\) has probability 0"
    ):
        posterior.update([(1, 1, 3.0, 0), (1, 1, 4.0, 0)])
    assert posterior.log_likelihood([(1, 1, 4.0, 0)]) == -np.inf
    np.testing.assert_array_equal(posterior.sample(np.random.default_rng(0), 2).rewards[1], posterior.rewards)


def test_impossible_successors_are_named():
    counts = np.ones((S, A, S))
    counts[2, 1, 0] = 0.0
    with pytest.raises(
        BadInput, match=r"transition 1 .state 2, action 1, reward 0, next state 0. has probability 0"
    ):
        dirichlet(counts).update([(2, 1, 0.0, 1), (2, 1, 0.0, 0)])


def gaussian(mean=1.0, strength=2.0, shape=3.0, rate=1.5, size=(1, 1)):
    return NormalGamma(*(np.full(size, value) for value in (mean, strength, shape, rate)))


REWARDS = [0.3, 2.5, -1.0, 0.9]


def normal_gamma_mass(weight):
    """Integral of weight(mean, precision) times prior times likelihood over both, by quadrature."""
    nodes, weights = np.polynomial.legendre.leggauss(200)
    mean, precision = np.meshgrid(19.0 * (nodes + 1) / 2 - 9.0, 15.0 * (nodes + 1) / 2, indexing="ij")
    density = stats.gamma(3.0, scale=1 / 1.5).pdf(precision)
    density *= stats.norm(1.0, 1 / np.sqrt(2.0 * precision)).pdf(mean)
    for r in REWARDS:
        density *= stats.norm(mean, 1 / np.sqrt(precision)).pdf(r)
    return 19.0 / 2 * 15.0 / 2 * weights @ (weight(mean, precision) * density) @ weights


def test_gaussian_rewards_are_conjugate_by_integration():
    posterior = dirichlet(np.ones((1, 1, 1)), gaussian())
    seen = [(0, 0, r, 0) for r in REWARDS]
    mass = normal_gamma_mass(lambda mean, precision: 1.0)
    assert np.exp(posterior.log_likelihood(seen)) == pytest.approx(mass, rel=1e-4)
    updated = posterior.update(seen).rewards
    assert updated.mean[0, 0] == pytest.approx(normal_gamma_mass(lambda mean, _: mean) / mass, rel=1e-4)
    precision = normal_gamma_mass(lambda _, precision: precision) / mass
    assert updated.shape[0, 0] / updated.rate[0, 0] == pytest.approx(precision, rel=1e-4)
    one_by_one = posterior
    for step in seen:
        one_by_one = one_by_one.update([step])
    np.testing.assert_allclose(one_by_one.rewards, updated)


def test_a_gaussian_reward_is_predicted_by_students_t():
    posterior = dirichlet(np.ones((1, 1, 1)), gaussian())
    for reward in (-3.0, 0.0, 1.0, 8.0):
        predicted = stats.t(6.0, loc=1.0, scale=np.sqrt(1.5 * 3.0 / (3.0 * 2.0))).logpdf(reward)
        assert posterior.log_likelihood([(0, 0, reward, 0)]) == pytest.approx(predicted)


def test_large_rewards_do_not_cancel():
    shifted = dirichlet(np.ones((1, 1, 1)), gaussian(mean=1e8)).update([(0, 0, 1e8 + r, 0) for r in REWARDS])
    plain = dirichlet(np.ones((1, 1, 1)), gaussian(mean=0.0)).update([(0, 0, r, 0) for r in REWARDS])
    np.testing.assert_allclose(shifted.rewards.rate, plain.rewards.rate, rtol=1e-6)


def test_gaussian_means_are_drawn_from_students_t():
    posterior = dirichlet(np.ones((1, 1, 1)), gaussian())
    drawn = posterior.sample(np.random.default_rng(0), 5000).rewards[:, 0, 0]
    expected = stats.t(6.0, loc=1.0, scale=np.sqrt(1.5 / (3.0 * 2.0)))
    assert stats.kstest(drawn, expected.cdf).pvalue > 0.01
    assert posterior.mean().rewards[0, 0, 0] == 1.0


def test_bootstrap_members_are_fits_to_resamples():
    base = dirichlet(np.full((S, A, S), 1e-9))
    seen = walk(random_family(3), 1, 3, steps=40)
    seen = [(s, a, 0.0, t) for s, a, _, t in seen]
    posterior = BootstrapPosterior(base, seen, members=50, seed=4)
    rng = np.random.default_rng(4)
    for m in range(3):
        again = [seen[i] for i in rng.integers(0, 40, 40)]
        np.testing.assert_allclose(
            posterior.family.dense_transitions()[m],
            base.update(again).mean().dense_transitions()[0],
            atol=1e-12,
        )
    # The spread over members is the multinomial's, near the fit to all evidence.
    s, a, _, _ = max(set(seen), key=lambda step: sum(other[:2] == step[:2] for other in seen))
    n = sum(step[:2] == (s, a) for step in seen)
    fit = base.update(seen).mean().dense_transitions()[0, s, a]
    rows = BootstrapPosterior(base, seen, members=2000).family.dense_transitions()[:, s, a]
    np.testing.assert_allclose(rows.mean(axis=0), fit, atol=0.02)
    np.testing.assert_allclose(rows.std(axis=0), np.sqrt(fit * (1 - fit) / n), rtol=0.25, atol=1e-6)


def test_bootstrap_update_is_all_evidence_at_once_and_reproducible():
    base = dirichlet(np.ones((S, A, S)), gaussian(size=(S, A)))
    seen = walk(random_family(5), 0, 5, steps=12)
    once, twice = BootstrapPosterior(base, seen), BootstrapPosterior(base).update(seen[:5]).update(seen[5:])
    np.testing.assert_array_equal(once.family.probabilities, twice.family.probabilities)
    np.testing.assert_array_equal(once.family.rewards, twice.family.rewards)
    expected = once.family.dense_transitions().mean(axis=0)
    np.testing.assert_allclose(once.mean().dense_transitions()[0], expected, atol=1e-12)
    rng = np.random.default_rng(0)
    each = [member.log_likelihood(seen) for member in once._resampled(rng, 20)]
    assert once.log_likelihood(seen) == pytest.approx(np.log(np.mean(np.exp(each))))
    nothing = BootstrapPosterior(base)
    np.testing.assert_allclose(nothing.family.dense_transitions()[7], base.mean().dense_transitions()[0])
    impossible = dirichlet(np.eye(S)[0] + np.zeros((S, A, S)))
    with pytest.raises(BadInput, match=r"transition 0 .* has probability 0"):
        BootstrapPosterior(impossible).update([(0, 0, 0.0, 1)])


def test_no_evidence_changes_nothing():
    for posterior in (FinitePosterior(random_family(0)), dirichlet(np.ones((S, A, S)))):
        assert posterior.log_likelihood([]) == pytest.approx(0.0)
        np.testing.assert_allclose(
            posterior.update([]).mean().dense_transitions(), posterior.mean().dense_transitions(), atol=1e-15
        )


@pytest.mark.parametrize(
    "step, message",
    [
        ((3, 0, 0.0, 0), "transition 1 has state 3; give 0 to 2"),
        ((0, -1, 0.0, 0), "transition 1 has action -1; give 0 to 1"),
        ((0, 0, 0.0, 9), "transition 1 has next state 9"),
        ((0, 0, np.nan, 0), "transition 1 has reward nan"),
        ((0, 0.5, 0.0, 0), r"transition 1 is \(0, 0.5, 0.0, 0\)"),
        ((0, 0, 0.0), r"transition 1 is \(0, 0, 0.0\)"),
    ],
)
def test_bad_evidence_is_named(step, message):
    with pytest.raises(BadInput, match=message):
        as_evidence([(0, 0, 0.0, 0), step], S, A)


@pytest.mark.parametrize(
    "counts, rewards, message",
    [
        (np.ones((S, A)), None, r"counts: have shape \(3, 2\)"),
        (np.where(np.arange(18).reshape(S, A, S) == 5, -1.0, 1.0), None, "counts: state 0, action 1, state 2 has -1"),
        (np.ones((S, A, S)) * (np.arange(S) != 1)[:, None, None], None, "counts: state 1, action 0 has no successor"),
        (np.ones((S, A, S)), np.zeros((S, S)), r"rewards: has shape \(3, 3\)"),
        (np.ones((S, A, S)), gaussian(rate=0.0, size=(S, A)), "rewards.rate: state 0, action 0 has 0.0"),
        (np.ones((S, A, S)), gaussian(mean=np.inf, size=(S, A)), "rewards.mean: state 0, action 0 has inf"),
    ],
)  # fmt: skip
def test_bad_priors_are_named(counts, rewards, message):
    with pytest.raises(BadInput, match=message):
        dirichlet(counts, np.zeros((S, A)) if rewards is None else rewards)


def test_samples_of_nothing_are_refused():
    with pytest.raises(BadInput, match="0 environments asked for"):
        dirichlet(np.ones((S, A, S))).sample(np.random.default_rng(0), 0)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"discount": 2.0}, "discount: is 2.0"),
        ({"discount": "a"}, "discount: is 'a'"),
        ({"initial": np.zeros(2)}, "initial: no start state"),
        ({"initial": np.ones(5)}, "initial: has shape"),
        ({"horizon": -3}, "horizon: is -3"),
    ],
)
def test_a_dirichlet_posterior_is_checked_when_it_is_made(wrong, message):
    right = {"counts": np.ones((2, 1, 2)), "rewards": np.zeros((2, 1)), "initial": np.array([1.0, 0.0])}
    with pytest.raises(BadInput, match=message):
        DirichletPosterior(**(right | {"discount": 0.9} | wrong))


def test_evidence_can_be_a_table_of_numbers():
    right = DirichletPosterior(np.ones((2, 1, 2)), np.zeros((2, 1)), np.array([1.0, 0.0]), 0.9)
    rows = [(0, 0, 0.0, 1), (1, 0, 0.0, 1)]
    np.testing.assert_array_equal(right.update(np.array(rows)).counts, right.update(rows).counts)
    with pytest.raises(BadInput, match="transition 1 is"):
        right.update(np.array([[0, 0, 0.0, 1], [0.5, 0, 0.0, 1]]))
    with pytest.raises(BadInput, match="transition 0 is"):
        right.update(np.array([[np.inf, 0, 0.0, 1]]))
    for wrong in (None, 3):
        with pytest.raises(BadInput, match="evidence: is"):
            right.update(wrong)


def test_a_number_of_environments_is_whole():
    right = DirichletPosterior(np.ones((2, 1, 2)), np.zeros((2, 1)), np.array([1.0, 0.0]), 0.9)
    for wrong in (0, 2.5, True):
        with pytest.raises(BadInput, match="give a whole number, at least 1"):
            right.sample(np.random.default_rng(0), wrong)
