"""Statistics of evaluation records: scipy where it must agree, known truths, invariances, bad input."""

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy import stats

from epomdp import statistics
from epomdp.errors import BadInput

SAMPLES = st.lists(
    arrays(np.float64, st.tuples(st.integers(1, 6), st.integers(1, 3)), elements=st.integers(-20, 20)),
    min_size=1,
    max_size=4,
)
FEW = settings(max_examples=40, deadline=None)
FAST = {"resamples": 200}


def uneven_record(seed=0):
    """Three seeds with 4, 6 and 5 contexts."""
    rng = np.random.default_rng(seed)
    return [rng.normal(size=(contexts, 3)) for contexts in (4, 6, 5)]


@pytest.mark.parametrize("seed", [0, 7])
def test_one_seed_agrees_with_scipy_bootstrap(seed):
    returns = np.random.default_rng(1).exponential(size=(37, 4))
    contexts = returns.mean(axis=1)

    def trimmed(x, axis):
        return stats.trim_mean(x, 0.25, axis=axis)

    for ours, theirs in ((statistics.mean, np.mean), (statistics.iqm, trimmed)):
        expected = stats.bootstrap(
            (contexts,), theirs, n_resamples=2000, method="percentile", rng=np.random.default_rng(seed)
        )
        estimate = ours([returns], seed=seed)
        np.testing.assert_allclose(estimate.interval, expected.confidence_interval, rtol=0, atol=1e-12)
        assert estimate.value == pytest.approx(float(theirs(contexts, axis=0)), abs=1e-12)
        assert not estimate.covers_seeds


def test_paired_difference_of_one_seed_agrees_with_scipy_on_the_differences():
    rng = np.random.default_rng(2)
    a, b = rng.normal(size=(2, 25, 2))
    expected = stats.bootstrap(
        (a.mean(axis=1) - b.mean(axis=1),),
        np.mean,
        n_resamples=2000,
        method="percentile",
        rng=np.random.default_rng(5),
    )
    estimate = statistics.difference([a], [b], seed=5)
    np.testing.assert_allclose(estimate.interval, expected.confidence_interval, atol=1e-12)


@pytest.mark.parametrize("seeds", [2, 3, 8])
def test_one_context_per_seed_gives_students_interval_over_seeds(seeds):
    scores = np.random.default_rng(seeds).normal(size=seeds)
    expected = stats.ttest_1samp(scores, 0).confidence_interval(0.95)
    estimate = statistics.mean([[score] for score in scores], resamples=20_000)
    np.testing.assert_allclose(estimate.interval, expected, rtol=2e-3, atol=2e-3)
    assert estimate.covers_seeds and estimate.seeds == seeds


def test_variance_of_the_draws_is_that_of_the_two_stages():
    """With many seeds the half width is z times the root of the seeds' and the contexts' variances."""
    rng = np.random.default_rng(3)
    returns = rng.normal(size=(60, 1)) + rng.normal(size=(1, 80)) + rng.normal(size=(60, 80))
    estimate = statistics.mean(list(returns), resamples=20_000)
    variance = returns.mean(axis=1).var(ddof=1) / 60 + returns.mean(axis=0).var() / 80
    assert np.diff(estimate.interval)[0] / 2 == pytest.approx(1.96 * np.sqrt(variance), rel=0.03)


@FEW
@given(SAMPLES)
def test_estimates_against_plain_numpy(record):
    pooled = np.concatenate([seed.mean(axis=1) for seed in record])
    assert statistics.iqm(record, **FAST).value == pytest.approx(stats.trim_mean(pooled, 0.25), abs=1e-9)
    expected = np.mean([seed.mean() for seed in record])
    assert statistics.mean(record, **FAST).value == pytest.approx(expected, abs=1e-9)
    solved = [seed > 0 for seed in record]
    rate = statistics.solve_rate(solved, **FAST)
    assert rate.value == pytest.approx(np.mean([flags.mean() for flags in solved]), abs=1e-12)
    assert 0 <= rate.interval[0] <= rate.interval[1] <= 1


@FEW
@given(SAMPLES, st.integers(-10, 10), st.sampled_from([-4.0, -1.0, 0.5, 8.0]))
def test_shift_and_scale(record, shift, scale):
    for statistic in (statistics.mean, statistics.iqm):
        before = statistic(record, **FAST)
        after = statistic([scale * seed + shift for seed in record], **FAST)
        assert after.value == pytest.approx(scale * before.value + shift, abs=1e-9)
        if scale > 0:  # a negative one swaps the tails, which differ by the random draws
            np.testing.assert_allclose(after.interval, scale * np.array(before.interval) + shift, atol=1e-9)


@FEW
@given(SAMPLES, st.randoms(use_true_random=False))
def test_order_of_contexts_does_not_matter_where_ids_name_them(record, random):
    ids = [[f"context {number}" for number in range(len(seed))] for seed in record]
    orders = [random.sample(range(len(seed)), len(seed)) for seed in record]
    shuffled = [seed[order] for seed, order in zip(record, orders, strict=True)]
    shuffled_ids = [[label[i] for i in order] for label, order in zip(ids, orders, strict=True)]
    for statistic in (statistics.mean, statistics.iqm):
        before = statistic(record, ids=ids, **FAST)
        after = statistic(shuffled, ids=shuffled_ids, **FAST)
        np.testing.assert_allclose(
            [after.value, *after.interval], [before.value, *before.interval], atol=1e-9
        )


@FEW
@given(SAMPLES, st.randoms(use_true_random=False))
def test_order_of_seeds_and_of_episodes_does_not_matter_to_the_estimate(record, random):
    shuffled = [seed[:, ::-1] for seed in random.sample(record, len(record))]
    for statistic in (statistics.mean, statistics.iqm):
        assert statistic(shuffled, **FAST).value == pytest.approx(statistic(record, **FAST).value, abs=1e-9)


@FEW
@given(SAMPLES)
def test_difference_is_antisymmetric_and_zero_against_itself(record):
    other = [seed[:, :1] ** 2 for seed in record]
    there = statistics.difference(record, other, **FAST)
    back = statistics.difference(other, record, **FAST)
    assert there.value == pytest.approx(-back.value, abs=1e-9)
    itself = statistics.difference(record, record, **FAST)
    assert (itself.value, *itself.interval) == (0.0, 0.0, 0.0)


def test_constant_records_have_a_point_interval():
    estimate = statistics.mean([np.full((5, 2), -1.5)] * 3)
    assert (estimate.value, *estimate.interval) == pytest.approx((-1.5, -1.5, -1.5))


def test_same_seed_same_interval_and_another_seed_another():
    record = uneven_record()
    first, again, other = (statistics.iqm(record, seed=seed) for seed in (3, 3, 4))
    assert first == again
    assert first.value == other.value and first.interval != other.interval


def test_blocks_of_resamples_join_without_loss(monkeypatch):
    """One resample per block gives the draws of one block: same generator, same order."""
    record = [np.random.default_rng(0).normal(size=(12, 2))]
    whole = statistics.mean(record)
    monkeypatch.setattr("epomdp.resampling._BLOCK", 1)
    np.testing.assert_allclose(statistics.mean(record).interval, whole.interval, atol=1e-12)


def test_pairing_by_context_narrows_and_ids_find_the_pairs():
    rng = np.random.default_rng(5)
    hard = rng.normal(scale=10, size=(100, 1))
    a, b = hard + 1 + 0.1 * rng.normal(size=(100, 1)), hard + 0.1 * rng.normal(size=(100, 1))
    order = rng.permutation(100)
    paired = statistics.difference([a], [b[order]], ids=([np.arange(100)], [order]))
    strangers = statistics.difference([a], [b], ids=([np.arange(100)], [np.arange(100, 200)]))
    assert paired.value == pytest.approx(strangers.value)
    assert np.ptp(paired.interval) < 0.1 and np.ptp(strangers.interval) > 3
    assert (paired.contexts, strangers.contexts) == (100, 200)


def test_contexts_shared_by_seeds_are_not_independent():
    """Five seeds on the same contexts know less about contexts than five seeds on their own ones."""
    context = np.random.default_rng(6).normal(size=40)
    shared = statistics.mean([context] * 5, ids=[np.arange(40)] * 5)
    own = statistics.mean([context] * 5, ids=np.arange(200).reshape(5, 40))
    assert np.ptp(shared.interval) == pytest.approx(np.sqrt(5) * np.ptp(own.interval), rel=0.1)
    assert (shared.contexts, own.contexts) == (40, 200)


def test_gap_is_train_minus_test_with_both_sides_uncertain():
    rng = np.random.default_rng(7)
    train, test = [rng.normal(1, 1, (30, 2))], [rng.normal(0, 1, (50, 2))]
    estimate = statistics.gap(train, test, resamples=20_000)
    assert estimate.value == pytest.approx(train[0].mean() - test[0].mean())
    error = np.sqrt(train[0].mean(axis=1).var() / 30 + test[0].mean(axis=1).var() / 50)
    assert np.ptp(estimate.interval) / 2 == pytest.approx(1.96 * error, rel=0.05)
    assert set(estimate.to_json()) == {"mean", "interval"}


def test_gap_is_paired_by_seed():
    """What a seed does to both sides alike is no gap."""
    offsets = np.array([-5.0, 0.0, 9.0])
    gap = statistics.gap([np.full(4, x + 1) for x in offsets], [np.full(6, x) for x in offsets])
    assert (gap.value, *gap.interval) == pytest.approx((1.0, 1.0, 1.0))


@FEW
@given(
    arrays(np.float64, st.tuples(st.integers(1, 5), st.integers(1, 4)), elements=st.integers(0, 3)),
    arrays(np.float64, st.tuples(st.integers(1, 5), st.just(4)), elements=st.integers(0, 3)),
)
def test_probability_of_improvement_is_the_mean_mann_whitney_u(a, b):
    contexts = a.shape[1]
    b = b[:, :contexts]
    expected = np.mean(
        [stats.mannwhitneyu(a[:, c], b[:, c]).statistic / (len(a) * len(b)) for c in range(contexts)]
    )
    estimate = statistics.probability_of_improvement(list(a), list(b), **FAST)
    assert estimate.value == pytest.approx(expected, abs=1e-12)
    assert 0 <= estimate.interval[0] <= estimate.interval[1] <= 1
    back = statistics.probability_of_improvement(list(b), list(a), **FAST)
    assert back.value == pytest.approx(1 - estimate.value, abs=1e-12)


def test_probability_of_improvement_compares_on_common_contexts_only():
    a, b = [[1.0, 5.0], [3.0]], [[2.0, 0.0], [2.0]]
    ids = ([["x", "y"], ["x"]], [["x", "z"], ["x"]])
    assert statistics.probability_of_improvement(a, b, ids=ids).value == 0.5
    with pytest.raises(BadInput, match="no context in common"):
        statistics.probability_of_improvement(a, b, ids=(ids[0], [["u", "v"], ["w"]]))


def test_coverage_on_a_known_distribution():
    """Two-way effects with mean 0: nominal 95 %, 400 trials, so below .92 is 3 standard errors too few.

    With one seed the interval must miss the seeds' variance, as it says.
    """
    rng = np.random.default_rng(8)

    def covered(seeds, trials=400):
        hits = 0
        for trial in range(trials):
            returns = (
                0.5 * rng.normal(size=(seeds, 1)) + rng.normal(size=(1, 30)) + rng.normal(size=(seeds, 30))
            )
            low, high = statistics.mean(list(returns), seed=trial, **FAST).interval
            hits += low <= 0 <= high
        return hits / trials

    assert covered(3) > 0.92
    assert covered(6) > 0.92
    assert covered(1) < 0.8


def test_summary_has_the_contracts_keys_and_counts():
    record = uneven_record()
    solved = [returns > 0 for returns in record]
    summary = statistics.summarise(record, solved, seed=1)
    figures = json.loads(json.dumps(summary.to_json(), allow_nan=False))
    contract = {"mean", "interval", "iqm", "solve_rate", "contexts", "episodes", "seeds"}
    assert contract | {"iqm_interval", "solve_rate_interval"} == set(figures)
    assert (figures["contexts"], figures["episodes"], figures["seeds"]) == (6, 45, 3)
    assert figures["mean"] == statistics.mean(record, seed=1).value
    assert figures["iqm_interval"] == list(statistics.iqm(record, seed=1).interval)
    assert figures["solve_rate_interval"] == list(statistics.solve_rate(solved, seed=1).interval)
    assert summary.mean.covers_seeds


def test_one_seed_says_that_it_does_not_cover_seeds():
    assert "seed variance not covered" in str(statistics.mean(uneven_record()[:1]))
    assert "3 seeds" in str(statistics.mean(uneven_record()))


GOOD = [np.zeros((3, 2))]


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: statistics.mean([]), "no seeds"),
        (lambda: statistics.mean([np.zeros((0, 2))]), r"seed 0 has shape \(0, 2\)"),
        (lambda: statistics.mean([np.zeros((2, 0))]), r"seed 0 has shape \(2, 0\)"),
        (lambda: statistics.mean([np.zeros((2, 2, 2))]), r"seed 0 has shape \(2, 2, 2\)"),
        (lambda: statistics.mean(np.zeros((2, 2))), "lone array"),
        (lambda: statistics.mean([[[1, 2], [3]]]), "seed 0 is ragged"),
        (lambda: statistics.mean([[["a"]]]), "not numeric"),
        (lambda: statistics.mean([*GOOD, [[0, 0], [0, np.nan]]]), "seed 1, context 1 holds NaN"),
        (lambda: statistics.mean(GOOD, ids=[[0, 1]]), "one id per context"),
        (lambda: statistics.mean(GOOD, ids=[[0, 1, 2], [0, 1, 2]]), "one id per context"),
        (lambda: statistics.mean(GOOD, ids=[[4, 4, 5]]), "seed 0 has id 4 twice"),
        (lambda: statistics.mean(GOOD, resamples=0), "at least 1"),
        (lambda: statistics.mean(GOOD, level=95), "between 0 and 1"),
        (lambda: statistics.solve_rate([[0.5]]), "other than 0 and 1"),
        (lambda: statistics.summarise(GOOD, [np.zeros((3, 1))]), "one flag for each return"),
        (lambda: statistics.gap(GOOD, GOOD * 2), "train has 1 seeds and test 2"),
        (lambda: statistics.difference(GOOD * 2, GOOD), "a has 2 seeds and b 1"),
        (lambda: statistics.difference(GOOD, [np.zeros((4, 2))]), "different numbers of contexts"),
    ],
)
def test_bad_input_is_one_clear_line(call, message):
    with pytest.raises(BadInput, match=message) as caught:
        call()
    assert "\n" not in str(caught.value)
