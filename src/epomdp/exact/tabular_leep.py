"""LEEP in tables: linked ensembles on bootstrap resamples of the training environments, with exact gradients."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from epomdp.errors import BadInput
from epomdp.exact.family import Family
from epomdp.exact.occupancy import MemorylessReturn
from epomdp.exact.tables import Adam, softmax

Floats = NDArray[np.float64]


class LeepHistory(NamedTuple):
    """What each of the iterations (I,) was at, before its update.

    Attributes:
        link_value: J(link), the mean over the members of the link's return in their resamples.
        lower_bound: what theory grants it: member_value less the price of linking; never above link_value.
        member_value: mean over the members of their own return in their own resample.
        divergence: mean over the members of E[KL(member || link)], the states drawn from the member's
            normalised discounted visits in its resample.
    """

    link_value: Floats
    lower_bound: Floats
    member_value: Floats
    divergence: Floats


@dataclass(frozen=True, eq=False)
class TabularLeep:
    """A trained ensemble.

    Attributes:
        link: (S, A) the policy to deploy: max over the members, renormalised.
        members: (n, S, A) the members' policies.
        resamples: (n, M) each member's weights over the training environments; rows sum to one.
        history: the bound and its parts at every iteration.
    """

    link: Floats
    members: Floats
    resamples: Floats
    history: LeepHistory


def tabular_leep(
    family: Family,
    rng: np.random.Generator,
    *,
    members: int = 4,
    alpha: float = 1.0,
    iterations: int = 300,
    learning_rate: float = 0.1,
    bootstrap: bool = True,
) -> TabularLeep:
    """Maximise sum_i J_{M_i}(pi_i) - alpha E_{s from pi_i in M_i}[KL(pi_i(.|s) || link(.|s))] over all members.

    The LEEP of Ghosh et al. (2021, https://arxiv.org/abs/2107.06277) with softmax tables, the exact gradient of
    the whole objective (through the visits and through the link), and Adam.

    Args:
        family: the training environments; resamples draw as many of them, with replacement, by weight.
        rng: for the resamples and the first tables.
        members: n, the paper's default is 4.
        alpha: weight of the penalty; 0 is the ensemble without links.
        iterations: Adam steps.
        learning_rate: of Adam.
        bootstrap: whether members have resamples of their own, or all the family as it is.

    Raises:
        BadInput: a horizon or a discount of 1 (the bound divides by 1 - discount), or no members.
    """
    if family.horizon is not None or family.discount >= 1.0:
        raise BadInput("family: tabular LEEP wants a discount below 1 and no horizon; set a discount instead")
    if members < 1 or iterations < 1 or alpha < 0.0:
        raise BadInput(
            f"leep: {members} members, {iterations} iterations, alpha {alpha}; give 1 or more, alpha 0 or more"
        )
    returns = MemorylessReturn(family)
    M, S, A = family.rewards.shape
    resamples = np.tile(family.weights, (members, 1))
    if bootstrap:
        resamples = rng.multinomial(M, family.weights, size=members) / M
    logits = 0.1 * rng.standard_normal((members, S, A))
    adam = Adam(logits.shape, learning_rate)
    rows = []
    for _ in range(iterations):
        policies = softmax(logits)
        record, gradient = leep_step(returns, policies, resamples, alpha)
        rows.append(record)
        # Softmax: d/dlogit = pi (g - sum_a pi g).
        centred = gradient - (policies * gradient).sum(axis=2, keepdims=True)
        logits = logits + adam.step(policies * centred)
    policies = softmax(logits)
    history = LeepHistory(*(np.array(column) for column in zip(*rows, strict=True)))
    return TabularLeep(max_link(policies), policies, resamples, history)


def max_link(policies: Floats) -> Floats:
    """(S, A) max over the members' policies (n, S, A), renormalised: link(a|s) = max_i pi_i(a|s) / Z(s)."""
    most = policies.max(axis=0)
    return most / most.sum(axis=-1, keepdims=True)


def kl_to_link(policies: Floats) -> Floats:
    """(n, S) KL(pi_i || link) of each member; at most log n, as link >= pi_i / Z and Z <= n."""
    link = max_link(policies)
    # x log x is 0 at 0; the link is positive wherever a member is.
    return (policies * (_safe_log(policies) - _safe_log(link))).sum(axis=2)


def lower_bound(family: Family, member_value: float, root_divergence: float) -> float:
    """mean_i J_{M_i}(pi_i) - sqrt(2) r_max / (1 - discount)^2 mean_i E[sqrt KL(pi_i || link)], r_max = max |r|."""
    most = float(np.abs(family.rewards).max())
    return member_value - np.sqrt(2.0) * most / (1.0 - family.discount) ** 2 * root_divergence


def leep_step(
    returns: MemorylessReturn, policies: Floats, resamples: Floats, alpha: float
) -> tuple[tuple[float, float, float, float], Floats]:
    """The row of the history for policies (n, S, A), and the objective's gradient (n, S, A) by their entries.

    With d_i the normalised visits, KL_i = sum_a pi_i log(pi_i / m) + log Z, m = max_j pi_j and Z = sum_a m,
    the penalty moves pi_i directly, by changing the visits, and by moving the link where i has the maximum.
    """
    discount = returns.family.discount
    kl = kl_to_link(policies)
    gradient = np.empty_like(policies)
    visits = np.empty(kl.shape)
    values = np.empty(len(policies))
    for i, policy in enumerate(policies):
        # The penalty on the visits is a reward of -alpha KL_i(s) for being in s, by the normalisation.
        now = returns.evaluate(policy, resamples[i], -alpha * (1.0 - discount) * kl[i])
        gradient[i] = now.gradient
        visits[i] = (1.0 - discount) * now.occupancy
        values[i] = now.value + alpha * visits[i] @ kl[i]
    most = policies.max(axis=0)
    direct = _safe_log(policies) - _safe_log(most) + 1.0
    gradient -= alpha * visits[:, :, None] * direct
    ratio = np.divide(policies, most, out=np.zeros_like(policies), where=most > 0.0)
    through_link = (visits[:, :, None] * (1.0 / most.sum(axis=1)[:, None] - ratio)).sum(axis=0)
    holder = policies.argmax(axis=0)
    gradient -= alpha * np.where(holder == np.arange(len(policies))[:, None, None], through_link, 0.0)

    member_value = float(values.mean())
    root = float((visits * np.sqrt(np.maximum(kl, 0.0))).sum(axis=1).mean())
    link_value = float(resamples.mean(axis=0) @ returns.returns(max_link(policies)))
    divergence = float((visits * kl).sum(axis=1).mean())
    return (link_value, lower_bound(returns.family, member_value, root), member_value, divergence), gradient


def _safe_log(x: Floats) -> Floats:
    return np.log(np.where(x > 0.0, x, 1.0))
