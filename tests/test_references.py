"""Reference values: simulated episodes, closed forms, calibration on known posteriors, real digits."""

import itertools
import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.datasets import load_digits

from epomdp.errors import BadInput
from epomdp.exact.guessing import best_memoryless
from epomdp.references import fit_labellers, references, returns_of_policies, score

LIMIT = 20
ADAPTIVE = ("elimination", "random-elimination")


@pytest.fixture(scope="module")
def digits():
    """Images, labels, and the result on 60 training images of one split."""
    data = load_digits()
    order = np.random.default_rng(0).permutation(len(data.target))
    train, test = order[:60], order[60:]
    result = references(
        data.images[train], data.target[train], data.images[test], data.target[test], limit=LIMIT, seed=0
    )
    return data.images, data.target, train, test, result


def random_posteriors(seed, images, labels):
    rng = np.random.default_rng(seed)
    return rng, rng.dirichlet(np.full(labels, 0.4), size=images)


def simulate(policy, p, q, label, limit, rng):
    """One episode, guess by guess: in an order of the labels, by argmax of p, or drawn from q each time."""
    K = len(p)
    order = np.argsort(-p, kind="stable") if policy == "elimination" else rng.permutation(K)
    total = 0
    for step in range(limit):
        if policy in ADAPTIVE:
            guess = order[step]
        elif policy == "argmax":
            guess = int(np.argmax(p))
        else:
            guess = rng.choice(K, p=q)
        if guess == label:
            return total
        total -= 1
    return total


@pytest.mark.parametrize(
    "policy", ["elimination", "random-elimination", "memoryless", "sampling", "argmax", "uniform"]
)
@pytest.mark.parametrize("limit", [3, 5])
def test_returns_equal_simulated_episodes(policy, limit):
    rng, p = random_posteriors(1, images=3, labels=5)
    labels, uniform = np.array([0, 3, 4]), np.full(5, 0.2)
    actual, _ = returns_of_policies(p, labels, limit)
    for image in range(3):
        q = {"sampling": p[image], "memoryless": best_memoryless(p[image], limit)[0]}.get(policy, uniform)
        episodes = [simulate(policy, p[image], q, labels[image], limit, rng) for _ in range(2000)]
        error = np.std(episodes) / np.sqrt(len(episodes))
        assert abs(np.mean(episodes) - actual[policy][image]) <= 4 * error + 1e-12


def test_closed_forms():
    """Formulas of the game for one posterior: order, argmax, any q with a limit, uniform guesses."""
    p, limit, label = np.array([[0.1, 0.6, 0.05, 0.25]]), 7, 3
    actual, promised = returns_of_policies(p, [label], limit)

    def memoryless(q):
        return -(1 - q) * (1 - (1 - q) ** limit) / q

    expected = {"informed": 0, "elimination": -1, "argmax": -limit, "random-elimination": -1.5}
    expected |= {"sampling": memoryless(0.25), "uniform": memoryless(0.25)}
    for name, value in expected.items():
        assert actual[name][0] == pytest.approx(value, abs=1e-9)
    expected = {"informed": 0, "elimination": -(0.25 + 2 * 0.1 + 3 * 0.05), "argmax": -0.4 * limit}
    expected |= {"sampling": p[0] @ memoryless(p[0]), "random-elimination": -1.5, "uniform": memoryless(0.25)}
    for name, value in expected.items():
        assert promised[name][0] == pytest.approx(value, abs=1e-9)


def test_memoryless_without_a_binding_limit_is_the_square_root_rule():
    _, p = random_posteriors(2, images=6, labels=4)
    p = 0.5 * p + 0.5 / 4
    _, promised = returns_of_policies(p, np.zeros(6, dtype=int), 10_000)
    np.testing.assert_allclose(promised["memoryless"], 1 - np.sqrt(p).sum(axis=1) ** 2, atol=1e-9)


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10**6), st.integers(2, 8), st.integers(1, 25))
def test_promised_ladder(seed, labels, limit):
    rng, p = random_posteriors(seed, images=5, labels=labels)
    actual, promised = returns_of_policies(p, rng.integers(0, labels, 5), limit)
    ladder = ["informed", "elimination", "memoryless", "sampling"]
    for higher, lower in [
        *itertools.pairwise(ladder),
        ("memoryless", "argmax"),
        ("memoryless", "uniform"),
    ]:
        assert (promised[higher] >= promised[lower] - 1e-9).all()
    assert (promised["elimination"] >= promised["random-elimination"] - 1e-9).all()
    assert all((returns <= 0).all() and (returns >= -limit - 1e-9).all() for returns in actual.values())


def test_promise_is_the_posterior_mean_of_actual_returns():
    _, p = random_posteriors(3, images=4, labels=6)
    by_label = [returns_of_policies(p, np.full(4, label), 9)[0] for label in range(6)]
    _, promised = returns_of_policies(p, np.zeros(4, dtype=int), 9)
    for name, value in promised.items():
        mean = sum(p[:, label] * by_label[label][name] for label in range(6))
        np.testing.assert_allclose(value, mean, atol=1e-9)


def test_calibration_where_labels_come_from_the_posterior():
    rng, p = random_posteriors(4, images=4000, labels=5)
    labels = (rng.random((4000, 1)) > np.cumsum(p, axis=1)).sum(axis=1)
    calibration = score(p, labels, limit=LIMIT, seed=1).calibration
    for policy in calibration.policies.values():
        error = np.ptp(policy.surplus.interval) / 3.92
        assert abs(policy.surplus.value) < 3.5 * error
        assert policy.surplus.value == pytest.approx(policy.actual.value - policy.promised.value)
    assert calibration.error < 0.03
    assert sum(b.count for b in calibration.bins) == 4000
    inside = [b.interval[0] <= b.confidence <= b.interval[1] for b in calibration.bins]
    assert np.mean(inside) >= 0.7


def test_calibration_finds_overconfidence():
    """Labels drawn at random under a posterior that is sure: promise and confidence are far too high."""
    p = np.full((500, 4), 0.01)
    p[:, 0] = 0.97
    labels = np.random.default_rng(5).integers(0, 4, 500)
    calibration = score(p, labels, limit=LIMIT).calibration
    right = np.mean(labels == 0)
    assert calibration.policies["argmax"].promised.value == pytest.approx(-0.03 * LIMIT)
    assert calibration.policies["argmax"].surplus.interval[1] < -10
    (only,) = calibration.bins
    assert (only.low, only.high, only.count) == (pytest.approx(0.9), pytest.approx(1.0), 500)
    assert (only.confidence, only.accuracy) == (pytest.approx(0.97), pytest.approx(right))
    assert calibration.error == pytest.approx(0.97 - right)
    assert calibration.log_loss == pytest.approx(-right * np.log(0.97) - (1 - right) * np.log(0.01))


def test_impossible_label_gives_infinite_log_loss_and_valid_json():
    result = score([[1.0, 0.0], [0.5, 0.5]], [1, 0], limit=4)
    assert result.calibration.log_loss == np.inf
    assert json.loads(json.dumps(result.to_json(), allow_nan=False))["calibration"]["log_loss"] is None
    assert result.values["argmax"] == -2.0


def test_digits_are_near_known_figures(digits):
    *_, result = digits
    values = result.values
    assert -4.2 < values["argmax"] < -2.5
    assert -0.75 < values["elimination"] < -0.2
    assert values["random-elimination"] == pytest.approx(-4.5)
    assert 0 == values["informed"] > values["elimination"] > values["memoryless"] > values["argmax"]
    losses = result.labellers.log_loss
    assert losses["calibrated"] <= min(losses["mean"], losses["votes"])
    assert result.labellers.temperature < 1  # the mean of logistic regressions is too flat


def test_calibrated_posterior_beats_the_plain_mean_on_test_images(digits):
    images, labels, train, test, result = digits
    labellers = fit_labellers(images[train], labels[train], num_labels=10, seed=0)
    np.testing.assert_array_equal(labellers(images[test]), result.posterior)
    flat = np.mean([_probabilities(model, images[test] / 16, 10) for model in labellers.models], axis=0)
    plain = score(flat, labels[test], limit=LIMIT)
    assert result.calibration.log_loss < plain.calibration.log_loss
    assert result.calibration.error < plain.calibration.error
    assert result.values["memoryless"] > plain.values["memoryless"]
    assert result.values["argmax"] == plain.values["argmax"]  # a temperature keeps the order


def _probabilities(model, images, num_labels):
    p = np.zeros((len(images), num_labels))
    p[:, model.classes_] = model.predict_proba(images.reshape(len(images), -1))
    return p


def test_json_holds_the_contracts_references(digits):
    *_, result = digits
    figures = json.loads(json.dumps(result.to_json(), allow_nan=False))
    for name in ("argmax", "sampling", "memoryless", "elimination"):
        assert figures[name] == pytest.approx(result.returns[name].mean())
        assert figures["calibration"]["policies"][name]["promised"]["mean"] == pytest.approx(
            result.promised[name].mean()
        )
    assert figures["labellers"]["members"] == 20 and figures["limit"] == LIMIT


def test_deterministic_in_the_seed(digits):
    images, labels, train, test, result = digits
    arguments = images[train], labels[train], images[test], labels[test]
    assert references(*arguments, limit=LIMIT, seed=0).to_json() == result.to_json()
    assert references(*arguments, limit=LIMIT, seed=1).values != result.values


def test_test_labels_do_not_reach_the_posterior(digits):
    images, labels, train, test, result = digits
    wrong = (labels[test] + 1) % 10
    other = references(images[train], labels[train], images[test], wrong, limit=LIMIT, seed=0)
    np.testing.assert_array_equal(other.posterior, result.posterior)
    assert other.values["argmax"] < result.values["argmax"]


def test_units_of_pixels_do_not_matter(digits):
    images, labels, train, test, _ = digits
    plain = fit_labellers(images[train], labels[train], num_labels=10, members=3)(images[test[:50]])
    scaled = fit_labellers(images[train] * 16, labels[train], num_labels=10, members=3)(
        images[test[:50]] * 16
    )
    np.testing.assert_array_equal(plain, scaled)


def test_a_label_missing_from_training_is_guessed_last(digits):
    images, labels, train, test, _ = digits
    kept = train[labels[train] != 7]
    result = references(images[kept], labels[kept], images[test], labels[test], limit=LIMIT, seed=0)
    sevens = labels[test] == 7
    assert result.posterior.shape == (len(test), 10)
    np.testing.assert_allclose(result.posterior[:, 7], 1 / (len(kept) + 1) / 10)
    np.testing.assert_array_equal(result.returns["argmax"][sevens], -LIMIT)
    assert result.returns["elimination"][sevens].max() <= -5
    assert np.isfinite(result.calibration.log_loss)


def test_resamples_that_miss_labels_and_resamples_of_one_label():
    """Four images of three labels: members see one to three of them, and columns stay in place."""
    images, labels = np.eye(4), np.array([0, 2, 2, 5])
    labellers = fit_labellers(images, labels, num_labels=6, members=40, seed=3)
    assert any(isinstance(model, int) for model in labellers.models)
    p = labellers(images)
    np.testing.assert_allclose(p.sum(axis=1), 1)
    np.testing.assert_array_equal(
        p[:, [0, 5]].argmax(axis=0), [0, 3]
    )  # each label likeliest on its own image
    assert p[1:3, 2].min() > p[[0, 3], 2].max()
    np.testing.assert_allclose(p[:, [1, 3, 4]], 1 / 5 / 6)


def test_one_training_image_leaves_nothing_out_of_bag():
    labellers = fit_labellers(np.ones((1, 2)), [1], num_labels=2)
    assert (labellers.temperature, labellers.log_loss) == (1.0, {})
    np.testing.assert_allclose(labellers(np.zeros((3, 2))), [[0.25, 0.75]] * 3)


def test_images_that_are_all_black():
    labellers = fit_labellers(np.zeros((6, 2, 2)), [0, 1, 0, 1, 0, 1], num_labels=2)
    p = labellers(np.zeros((1, 2, 2)))
    assert np.isfinite(p).all() and 0.1 < p[0, 0] < 0.9


IMAGES, LABELS = np.eye(4), np.array([0, 1, 0, 1])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"train_labels": LABELS[:3]}, "4 training images and 3 labels"),
        ({"test_labels": LABELS[:3]}, "for 3 labels"),
        ({"train_labels": LABELS + 0.5}, "train_labels: .*integers from 0"),
        ({"test_labels": -LABELS}, "test_labels: .*integers from 0"),
        ({"train_images": np.zeros((0, 4))}, "at least one image"),
        ({"train_images": [[1, 2], [3]], "test_images": [[1, 2], [3]]}, "ragged"),
        ({"test_images": np.zeros((4, 5))}, "images of one shape"),
        ({"train_images": np.where(IMAGES == 1, np.nan, 0)}, "image 0 holds NaN"),
        ({"members": 0}, "0 members"),
        ({"num_labels": 1}, "1 labels"),
        ({"limit": 0}, "limit"),
    ],
)
def test_bad_input_is_one_clear_line(change, message):
    arguments = {"train_images": IMAGES, "train_labels": LABELS, "test_images": IMAGES, "test_labels": LABELS}
    arguments |= {"limit": 5, "seed": 0, "members": 2} | change
    with pytest.raises(BadInput, match=message) as caught:
        references(**arguments)
    assert "\n" not in str(caught.value)
