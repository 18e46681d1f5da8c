"""References for the guessing game without reinforcement learning: what the training images make possible.

A bootstrapped ensemble of classifiers, fitted to the training images, stands for the posterior over labellers.
From its label posterior on each test image, the closed forms of `exact/guessing.py` give the exact expected
return of each policy class, under the true labels (actual) and under the posterior itself (promised: the value
in the epistemic POMDP). See `docs/references.md`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.linear_model import LogisticRegression

from epomdp.calibration import Calibration, calibrate, log_loss
from epomdp.errors import BadInput
from epomdp.exact import guessing

Floats = NDArray[np.float64]

_POSTERIOR_POLICIES = ("elimination", "memoryless", "sampling", "argmax")
_TEMPERATURES = 2.0 ** np.linspace(-4, 1, 61)


@dataclass(frozen=True)
class LabelPosterior:
    """Label posterior of an ensemble of labellers, sharpened by a temperature and mixed with the uniform.

    p(y | x) = (1 - smoothing) m(y | x)^(1 / temperature) / Z(x) + smoothing / K, where m is the mean of the
    members' probabilities and Z normalises. Temperature 1 is the mean itself, which is too flat.

    Attributes:
        models: one per member: a classifier, or the label of a resample that holds one label only.
        num_labels: K.
        num_pixels: of an image.
        scale: images are divided by it, the largest absolute training pixel.
        temperature: of least out-of-bag log loss.
        smoothing: 1 / (n + 1) for n training images: the chance that an image is like none of those before it.
        log_loss: out-of-bag log losses of the members' smoothed "votes", of their smoothed "mean", and of this
            posterior, "calibrated"; empty where no training image was out of bag: the temperature is then 1.
    """

    models: tuple[LogisticRegression | int, ...]
    num_labels: int
    num_pixels: int
    scale: float
    temperature: float
    smoothing: float
    log_loss: Mapping[str, float] = field(default_factory=dict)

    def __call__(self, images: ArrayLike) -> Floats:
        """(n, K) label probabilities of images (n, ...); each is positive."""
        pixels = _flatten(images)
        if pixels.shape[1] != self.num_pixels:
            found = f"{pixels.shape[1]} pixels, the training images {self.num_pixels}"
            raise BadInput(f"images have {found}; give images of one shape")
        members = _member_probabilities(self.models, pixels / self.scale, self.num_labels)
        return _temper(members.mean(axis=0), self.temperature, self.smoothing)

    def to_json(self) -> dict:
        """How the posterior was made, for a report."""
        return {
            "members": len(self.models),
            "temperature": self.temperature,
            "smoothing": self.smoothing,
            "out_of_bag_log_loss": dict(self.log_loss),
        }


@dataclass(frozen=True)
class References:
    """Exact expected returns of reference policies on B test images.

    The policies, by name: "informed" (told the label, 0), "elimination" (Bayes-optimal under the posterior),
    "memoryless" (the best one for the game's limit), "sampling" (each guess drawn from the posterior), "argmax",
    and without any posterior "random-elimination" and "uniform".

    Attributes:
        posterior: (B, K) label probabilities.
        limit: number of guesses in an episode.
        returns: for each policy, (B,) expected return under the true label.
        promised: for each policy, (B,) expected return under the posterior.
        calibration: promise against outcome.
        labellers: how the posterior was made, or None where it was given.
    """

    posterior: Floats
    limit: int
    returns: Mapping[str, Floats]
    promised: Mapping[str, Floats]
    calibration: Calibration
    labellers: LabelPosterior | None = None

    @property
    def values(self) -> dict[str, float]:
        """Mean return of each policy on the test images."""
        return {name: float(returns.mean()) for name, returns in self.returns.items()}

    def to_json(self) -> dict:
        """`{policy: mean return, ...}` and beside it the limit, calibration and how the posterior was made."""
        extra = {} if self.labellers is None else {"labellers": self.labellers.to_json()}
        return {**self.values, "limit": self.limit, "calibration": self.calibration.to_json(), **extra}


def references(
    train_images: ArrayLike,
    train_labels: ArrayLike,
    test_images: ArrayLike,
    test_labels: ArrayLike,
    *,
    limit: int,
    seed: int,
    members: int = 20,
    num_labels: int | None = None,
) -> References:
    """Reference values of the guessing game on test images, from the training images alone.

    Args:
        train_images: (n, ...) pixels in any units.
        train_labels: (n,) integers from 0.
        test_images: (B, ...) of the same shape per image.
        test_labels: (B,) true labels; they score the policies and calibrate nothing.
        limit: number of guesses after which an episode is cut.
        seed: of the bootstrap resamples and of the intervals.
        members: number of classifiers.
        num_labels: K, the number of guesses to choose from; by default one more than the largest label.

    Raises:
        BadInput: images and labels that do not fit, or counts that are not positive.
    """
    train_labels, test_labels = _labels(train_labels, "train_labels"), _labels(test_labels, "test_labels")
    if num_labels is None:
        num_labels = 1 + int(max(train_labels.max(), test_labels.max()))
    labellers = fit_labellers(train_images, train_labels, num_labels=num_labels, members=members, seed=seed)
    return score(labellers(test_images), test_labels, limit=limit, seed=seed, labellers=labellers)


def score(
    posterior: ArrayLike,
    labels: ArrayLike,
    *,
    limit: int,
    seed: int = 0,
    labellers: LabelPosterior | None = None,
) -> References:
    """Reference values for given label probabilities (B, K) and true labels (B,); arguments as in `references`."""
    posterior, labels = np.asarray(posterior, dtype=np.float64), _labels(labels, "labels")
    if posterior.ndim != 2 or len(posterior) != len(labels):
        raise BadInput(
            f"posterior has shape {posterior.shape} for {len(labels)} labels; give (images, labels)"
        )
    returns, promised = returns_of_policies(posterior, labels, limit)
    acting = {name: returns[name] for name in _POSTERIOR_POLICIES}
    calibration = calibrate(posterior, labels, acting, promised, seed=seed)
    return References(posterior, limit, returns, promised, calibration, labellers)


def returns_of_policies(
    posterior: ArrayLike, labels: ArrayLike, limit: int
) -> tuple[dict[str, Floats], dict[str, Floats]]:
    """Actual and promised returns of acting on label probabilities (B, K), (B,) for each policy.

    Actual: expected return where the labels (B,) are true. Promised: expected return where they are distributed
    as the posterior says, which is the policy's value in the epistemic POMDP.
    """
    p = np.asarray(posterior, dtype=np.float64)
    always, (best, best_value) = guessing.argmax_policy(p), guessing.best_memoryless(p, limit)
    # A uniformly random order meets any label at each rank alike, which is elimination's value at a uniform p.
    blind = {
        "random-elimination": guessing.elimination(np.full(p.shape, 1 / p.shape[1]), limit),
        "uniform": guessing.uniform(p, limit),
    }
    actual = {
        "informed": np.zeros(len(p)),
        "elimination": guessing.elimination_return(p, labels, limit),
        "memoryless": guessing.return_given_label(best, labels, limit),
        "sampling": guessing.return_given_label(p, labels, limit),
        "argmax": guessing.return_given_label(always, labels, limit),
        **blind,
    }
    promised = {
        "informed": np.zeros(len(p)),
        "elimination": guessing.elimination(p, limit),
        "memoryless": best_value,
        "sampling": guessing.sampling(p, limit),
        "argmax": guessing.argmax(p, limit),
        **blind,
    }
    return actual, promised


def fit_labellers(
    images: ArrayLike, labels: ArrayLike, *, num_labels: int, members: int = 20, seed: int = 0
) -> LabelPosterior:
    """Fit logistic regressions to bootstrap resamples of images (n, ...) and labels (n,), and calibrate them.

    The temperature minimises the out-of-bag log loss: each training image is judged by the members whose
    resample misses it. Deterministic in the seed.
    """
    pixels, labels = _flatten(images), _labels(labels, "training labels")
    if len(pixels) != len(labels):
        raise BadInput(f"{len(pixels)} training images and {len(labels)} labels; give one label per image")
    if members < 1 or num_labels <= labels.max():
        raise BadInput(
            f"{members} members, {num_labels} labels: at least 1 and {labels.max() + 1} are needed"
        )
    scale = float(np.abs(pixels).max()) or 1.0
    pixels = pixels / scale
    drawn = np.random.default_rng(seed).integers(0, len(pixels), (members, len(pixels)))
    models = tuple(_fit_member(pixels[rows], labels[rows]) for rows in drawn)
    out_of_bag = np.array([~np.isin(np.arange(len(pixels)), rows) for rows in drawn])
    judged = out_of_bag.any(axis=0)
    smoothing = 1 / (len(pixels) + 1)
    if not judged.any():
        return LabelPosterior(models, num_labels, pixels.shape[1], scale, 1.0, smoothing)
    p = _member_probabilities(models, pixels[judged], num_labels)
    weights = out_of_bag[:, judged] / out_of_bag[:, judged].sum(axis=0)
    mean = np.einsum("mn,mnk->nk", weights, p)
    votes = np.einsum("mn,mnk->nk", weights, np.eye(num_labels)[p.argmax(axis=-1)])

    def loss(probabilities: Floats, temperature: float) -> float:
        return log_loss(_temper(probabilities, temperature, smoothing), labels[judged])

    temperature = float(min(_TEMPERATURES, key=lambda temperature: loss(mean, temperature)))
    losses = {"votes": loss(votes, 1.0), "mean": loss(mean, 1.0), "calibrated": loss(mean, temperature)}
    return LabelPosterior(models, num_labels, pixels.shape[1], scale, temperature, smoothing, losses)


def _fit_member(pixels: Floats, labels: NDArray[np.int64]) -> LogisticRegression | int:
    if (labels == labels[0]).all():
        return int(labels[0])
    return LogisticRegression(max_iter=5000).fit(pixels, labels)


def _member_probabilities(
    models: tuple[LogisticRegression | int, ...], pixels: Floats, num_labels: int
) -> Floats:
    """(members, n, K) probabilities, 0 for the labels that a member's resample does not hold."""
    p = np.zeros((len(models), len(pixels), num_labels))
    for member, model in enumerate(models):
        if isinstance(model, int):
            p[member, :, model] = 1.0
        else:
            p[member][:, model.classes_] = model.predict_proba(pixels)
    return p


def _temper(p: Floats, temperature: float, smoothing: float) -> Floats:
    """Smoothed p^(1 / temperature), normalised over the last axis."""
    sharp = (p / p.max(axis=-1, keepdims=True)) ** (1 / temperature)
    return (1 - smoothing) * sharp / sharp.sum(axis=-1, keepdims=True) + smoothing / p.shape[-1]


def _flatten(images: ArrayLike) -> Floats:
    """(n, pixels) float64."""
    try:
        pixels = np.asarray(images, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise BadInput("images: ragged or not numeric; give one array of shape (images, ...)") from error
    if pixels.ndim < 2 or pixels.size == 0:
        raise BadInput(f"images: shape {pixels.shape}; give at least one image, shape (images, ...)")
    if not np.isfinite(pixels).all():
        image = int(np.argwhere(~np.isfinite(pixels))[0][0])
        raise BadInput(f"images: image {image} holds NaN or infinity; mend it or leave it out")
    return pixels.reshape(len(pixels), -1)


def _labels(labels: ArrayLike, name: str) -> NDArray[np.int64]:
    labels = np.asarray(labels)
    if labels.ndim != 1 or labels.size == 0 or labels.dtype.kind not in "iu" or labels.min() < 0:
        raise BadInput(
            f"{name}: shape {labels.shape}, type {labels.dtype}; give integers from 0, one per image"
        )
    return labels.astype(np.int64)
