"""Closed forms of the guessing game: K labels, -1 for a wrong guess, 0 and the end for the right one.

Throughout, `p` (..., K) is the posterior over the true label, `limit` T the number of guesses after which
the episode is cut (the T-th wrong guess still costs 1; None: never cut), and `discount` gamma weighs the
t-th guess by gamma^(t-1). All functions are vectorised over the leading axes.

A memoryless policy guesses label k with the same probability q_k at every step. If the label is y, the
game is still on at guess t with probability (1 - q_y)^(t-1), and that guess is wrong with probability
1 - q_y, so the expected return is f(q_y) with

    f(q) = -sum_{t=1..T} gamma^(t-1) (1-q)^t = -(1-q) (1 - x^T) / (1 - x),    x = gamma (1-q),

and the value under the posterior is sum_k p_k f(q_k). The informed value, told the label, is 0.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from epomdp.errors import BadInput
from epomdp.exact.family import Family

Floats = NDArray[np.float64]
_SUM_TOLERANCE = 1e-5  # single-precision softmaxes are welcome
_NO_FUTURE = 1e-12  # a discount below which all but the first guess is rounding


def memoryless(q: ArrayLike, p: ArrayLike, limit: int | None, discount: float = 1.0) -> Floats:
    """Value of guessing label k with probability q_k at every step, whatever has been tried.

    Args:
        q: (..., K) guess probabilities.
        p: (..., K) label posterior; q and p broadcast against each other.
        limit: number of guesses allowed, or None.
        discount: gamma in [0, 1].

    Returns:
        (...) values sum_k p_k f(q_k); -inf where an unlimited, undiscounted game may never end.
    """
    q, p = _distribution(q, "q"), _distribution(p, "p")
    returns = _memoryless_return(q, *_rules(limit, discount))
    return _expectation(p, returns)


def return_given_label(q: ArrayLike, label: ArrayLike, limit: int | None, discount: float = 1.0) -> Floats:
    """Expected return f(q_y) of the memoryless policy q (..., K) where the true label is `label` (...)."""
    q = _distribution(q, "q")
    chosen = np.take_along_axis(q, _labels(label, q)[..., None], axis=-1)[..., 0]
    return _memoryless_return(chosen, *_rules(limit, discount))


def argmax_policy(p: ArrayLike) -> Floats:
    """(..., K) the policy that always guesses the likeliest label of `p`; the first one of several."""
    p = _distribution(p, "p")
    return np.eye(p.shape[-1])[np.argmax(p, axis=-1)]


def argmax(p: ArrayLike, limit: int | None, discount: float = 1.0) -> Floats:
    """Value of always guessing the likeliest label: -(1 - max p) sum_{t=1..T} gamma^(t-1)."""
    return memoryless(argmax_policy(p), p, limit, discount)


def sampling(p: ArrayLike, limit: int | None, discount: float = 1.0) -> Floats:
    """Value of guessing from the posterior itself, afresh at every step.

    Without limit and discount it is -(n - 1), n the number of labels with p_k > 0, whatever p is.
    """
    return memoryless(p, p, limit, discount)


def uniform(p: ArrayLike, limit: int | None, discount: float = 1.0) -> Floats:
    """Value of uniform guessing, f(1/K) for every posterior; -(K - 1) without limit and discount."""
    p = _distribution(p, "p")
    return memoryless(np.full(p.shape, 1 / p.shape[-1]), p, limit, discount)


def best_memoryless(p: ArrayLike, limit: int | None, discount: float = 1.0) -> tuple[Floats, Floats]:
    """The best memoryless policy of the posterior p, and its value.

    f is concave and increasing, so sum_k p_k f(q_k) over the simplex is solved by the Karush-Kuhn-Tucker
    conditions: one multiplier m with p_k f'(q_k) = m where q_k > 0 and p_k f'(0) <= m elsewhere, where

        f'(q) = sum_{t=1..T} t x^(t-1),   x = gamma (1-q).

    * T = 1 or gamma = 0 (in effect: below 1e-12): f is linear; the best is the argmax.
    * T unlimited: f'(q) = 1 / (1 - gamma + gamma q)^2, hence q_k = max(0, c sqrt(p_k) - (1-gamma)) / gamma
      with c fixed by the sum (water-filling). At gamma = 1 that is q proportional to sqrt(p) and the value
      -((sum_k sqrt(p_k))^2 - 1).
    * else f'' < 0, and sum_k q_k(m) falls in m from at least 1 at m = max p to 0 at m = max p f'(0):
      bisection on m, with f' inverted by a safeguarded Newton iteration.

    Args:
        p: (..., K) label posterior.
        limit: number of guesses allowed, or None.
        discount: gamma in [0, 1].

    Returns:
        (q (..., K), value (...)); the value is that of this q, so it is attained.
    """
    p = _distribution(p, "p")
    limit, discount = _rules(limit, discount)
    if limit == 1 or discount < _NO_FUTURE:
        q = argmax_policy(p)
    elif limit is None:
        q = _water_filling(p, discount)
    else:
        q = _bisect_multiplier(p.reshape(-1, p.shape[-1]), limit, discount).reshape(p.shape)
    return q, memoryless(q, p, limit, discount)


def elimination_order(p: ArrayLike) -> NDArray[np.intp]:
    """(..., K) labels in descending posterior, equal ones in their own order."""
    return np.argsort(-_distribution(p, "p"), axis=-1, kind="stable")


def elimination(p: ArrayLike, limit: int | None, discount: float = 1.0) -> Floats:
    """Value of process of elimination: the Bayes-optimal value of the guessing game.

    While the game is on, all that is observed is "wrong", so any deterministic adaptive policy is a fixed
    sequence of guesses. Repeating a label wastes a guess, so the sequence may be taken as an order of the
    labels; the label at rank k costs c_k = sum_{t=1..min(k-1, T)} gamma^(t-1), which grows with k, so by
    the rearrangement inequality the descending order is best: -sum_k p_(k) c_k.
    """
    p = _distribution(p, "p")
    ranked = -np.sort(-p, axis=-1)
    return -(ranked @ _rank_costs(p.shape[-1], *_rules(limit, discount)))


def elimination_return(p: ArrayLike, label: ArrayLike, limit: int | None, discount: float = 1.0) -> Floats:
    """Return of eliminating in descending order of `p` (..., K) where the true label is `label` (...)."""
    p = _distribution(p, "p")
    rank = np.argsort(elimination_order(p), axis=-1)
    rank = np.take_along_axis(rank, _labels(label, p)[..., None], axis=-1)[..., 0]
    return -_rank_costs(p.shape[-1], *_rules(limit, discount))[rank]


def guessing_family(p: ArrayLike, limit: int | None = None, discount: float = 1.0) -> Family:
    """The guessing game of one image as a family: environment k is the game whose label is k.

    Args:
        p: (K,) label posterior, the family's weights.
        limit: number of guesses allowed, the family's horizon; needed where the discount is 1.
        discount: gamma in [0, 1].

    Returns:
        A family of K environments, 2 states (0: guessing, 1: over), K actions.
    """
    p = _distribution(p, "p")
    limit, discount = _rules(limit, discount)
    if p.ndim != 1:
        raise BadInput(f"guessing_family: p has shape {p.shape}; give the posterior of one image, shape (K,)")
    if limit is None and discount == 1:
        raise BadInput("guessing_family: without a limit the discount must be below 1; give one of the two")
    K = p.size
    right = np.eye(K)
    transitions = np.zeros((K, 2, K, 2))
    transitions[:, 0, :, 0] = 1 - right
    transitions[:, 0, :, 1] = right
    transitions[:, 1, :, 1] = 1
    rewards = np.zeros((K, 2, K))
    rewards[:, 0, :] = right - 1
    return Family.from_arrays(transitions, rewards, [1.0, 0.0], p, discount, horizon=limit)


def _memoryless_return(q: Floats, limit: int | None, discount: float) -> Floats:
    """f(q), elementwise; the geometric sum is written in 1 - x, which keeps full precision as x -> 1."""
    complement = (1 - discount) + discount * q
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        if limit is None:
            total = 1 / complement
        else:
            total = -np.expm1(limit * np.log1p(-complement)) / complement
            total = np.where(complement == 0, limit, total)
        return np.where(q == 1, 0.0, -(1 - q) * total)


def _slope(q: Floats, limit: int, discount: float) -> tuple[Floats, Floats]:
    """f'(q) = sum t x^(t-1) and -f''(q) / gamma = sum t (t-1) x^(t-2), for finite T and elementwise."""
    T, d = float(limit), (1 - discount) + discount * q
    small = T * d < 1e-4  # the closed form cancels there; three terms of the series are exact to 1e-12
    safe = np.where(small, 0.5, d)
    with np.errstate(divide="ignore"):
        log_x = np.log1p(-safe)
        slope = -np.expm1(T * log_x + np.log1p(T * safe)) / safe**2
        curvature = (2 * slope - T * (T + 1) * np.exp((T - 1) * log_x)) / safe
    pairs = (T + 1) * T * (T - 1)
    near = T * (T + 1) / 2 - d * pairs / 3 + d**2 * pairs * (T - 2) / 8
    return np.where(small, near, slope), np.where(small, pairs / 3 - d * pairs * (T - 2) / 4, curvature)


def _invert_slope(target: Floats, start: Floats, limit: int, discount: float) -> Floats:
    """q in [0, 1] with f'(q) = target, clipped to the ends.

    Newton's iteration on f'(q)^(-1/2), which is close to linear in q (linear for T unlimited), inside a
    bracket: a step that leaves it is replaced by its middle.
    """
    lower, upper, q = np.zeros_like(target), np.ones_like(target), start
    goal = 1 / np.sqrt(target)
    for _ in range(60):
        slope, curvature = _slope(q, limit, discount)
        miss = 1 / np.sqrt(slope) - goal
        lower, upper = np.where(miss <= 0, q, lower), np.where(miss >= 0, q, upper)
        derivative = 0.5 * discount * curvature * slope**-1.5
        with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
            step = q - miss / derivative
        inside = (step >= lower) & (step <= upper)
        following = np.where(inside, step, (lower + upper) / 2)
        if np.max(np.abs(following - q)) < 1e-13:
            break
        q = following
    return q


def _bisect_multiplier(p: Floats, limit: int, discount: float) -> Floats:
    """(N, K) best memoryless policies for finite T > 1 and gamma > 0; see `best_memoryless`."""
    steepest = _slope(np.zeros(1), limit, discount)[0]
    p = p / p.max(axis=-1, keepdims=True)
    low, high = np.zeros((len(p), 1)), np.full((len(p), 1), np.log(steepest))
    q = best = (p == 1).astype(np.float64)
    for _ in range(60):
        middle = (low + high) / 2
        with np.errstate(divide="ignore", over="ignore"):
            target = np.exp(middle) / p
        inner = (target > 1) & (target < steepest)
        q = np.where(inner, _invert_slope(np.where(inner, target, 1.0), q, limit, discount), target <= 1)
        enough = q.sum(axis=-1, keepdims=True) >= 1
        best = np.where(enough, q, best)
        low, high = np.where(enough, middle, low), np.where(enough, high, middle)
    return best / best.sum(axis=-1, keepdims=True)


def _water_filling(p: Floats, discount: float) -> Floats:
    """Best memoryless policy for T unlimited: q = max(0, c sqrt(p) - (1-gamma)) / gamma, summing to one."""
    root = np.sqrt(p)
    ranked = -np.sort(-root, axis=-1)
    support = np.arange(1, p.shape[-1] + 1)
    level = (discount + support * (1 - discount)) / np.cumsum(ranked, axis=-1)
    kept = (level * ranked > 1 - discount).sum(axis=-1, keepdims=True)
    level = np.take_along_axis(level, kept - 1, axis=-1)
    q = np.maximum(0, level * root - (1 - discount)) / discount
    return q / q.sum(axis=-1, keepdims=True)


def _rank_costs(K: int, limit: int | None, discount: float) -> Floats:
    """(K,) c_k = sum_{t=1..min(k-1, T)} gamma^(t-1), the cost of the label that is guessed k-th."""
    weights = discount ** np.arange(K - 1, dtype=np.float64)
    if limit is not None:
        weights[limit:] = 0
    return np.concatenate([[0.0], np.cumsum(weights)])


def _expectation(p: Floats, returns: Floats) -> Floats:
    """sum_k p_k returns_k, where an impossible label contributes 0 even to an infinite loss."""
    with np.errstate(invalid="ignore"):
        return np.where(p > 0, p * returns, 0.0).sum(axis=-1)


def _distribution(p: ArrayLike, name: str) -> Floats:
    p = np.asarray(p, dtype=np.float64)
    if p.ndim == 0 or p.shape[-1] == 0:
        raise BadInput(f"guessing game: {name} has shape {p.shape}; its last axis must be the K labels")
    sums = p.sum(axis=-1)
    wrong = ~((p >= 0).all(axis=-1) & (np.abs(sums - 1) <= _SUM_TOLERANCE))
    if wrong.any():
        where = tuple(int(i) for i in np.argwhere(wrong)[0])
        raise BadInput(
            f"guessing game: {name}{list(where) if where else ''} is no distribution over labels "
            f"(sum {sums[where]:.6g}, least {p[where].min():.6g}); normalise it"
        )
    return p / sums[..., None]


def _labels(label: ArrayLike, p: Floats) -> NDArray[np.int64]:
    label = np.asarray(label)
    K = p.shape[-1]
    if label.dtype.kind not in "iu" or (label < 0).any() or (label >= K).any():
        raise BadInput(f"guessing game: labels must be integers from 0 to {K - 1}, one per row of the policy")
    return np.broadcast_to(label.astype(np.int64), p.shape[:-1])


def _rules(limit: int | None, discount: float) -> tuple[int | None, float]:
    if limit is not None and (limit < 1 or limit != int(limit)):
        raise BadInput(f"guessing game: limit is {limit}; give a whole number of guesses from 1, or None")
    if not 0 <= discount <= 1:
        raise BadInput(f"guessing game: discount is {discount}; give a number from 0 to 1")
    return (None if limit is None else int(limit)), float(discount)
