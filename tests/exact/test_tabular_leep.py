"""LEEP in tables: the bound never fails, the link is what it should be, the gradient is right."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from epomdp.errors import BadInput
from epomdp.exact.family import Family
from epomdp.exact.occupancy import MemorylessReturn
from epomdp.exact.tabular_leep import kl_to_link, leep_step, max_link, tabular_leep

SEEDS = st.integers(0, 10**6)


def make_family(seed, M=4, S=3, A=3, discount=0.8):
    rng = np.random.default_rng(seed)
    return Family.from_arrays(
        rng.dirichlet(np.full(S, 0.5), (M, S, A)),
        rng.normal(size=(M, S, A)),
        rng.dirichlet(np.ones(S)),
        rng.dirichlet(np.ones(M)),
        discount,
    )


def member_policies(seed, n, S, A, spread=0.3):
    return np.random.default_rng(seed).dirichlet(np.full(A, spread), (n, S))


def parts(family, policy, weights):
    """Return, and normalised visits, of a policy under weights over the environments, by solving here."""
    transitions = family.dense_transitions()
    value, visits = 0.0, np.zeros(family.num_states)
    for m, weight in enumerate(weights):
        chain = np.einsum("sa,sat->st", policy, transitions[m])
        system = np.eye(family.num_states) - family.discount * chain
        value += weight * family.initial @ np.linalg.solve(system, (policy * family.rewards[m]).sum(axis=1))
        visits += weight * (1 - family.discount) * np.linalg.solve(system.T, family.initial)
    return value, visits


@settings(max_examples=60, deadline=None)
@given(SEEDS, st.integers(1, 5), st.integers(1, 4), st.integers(1, 4), st.sampled_from([0.05, 0.3, 3.0]))
def test_lower_bound_never_fails_for_any_members(seed, n, S, A, spread):
    """J(pi) >= mean_i J_Mi(pi_i) - C mean_i E[sqrt KL], with the stated C and with the sharper one of the docs."""
    family = make_family(seed, 3, S, A)
    policies = member_policies(seed, n, S, A, spread)
    resamples = np.random.default_rng(seed + 1).dirichlet(np.ones(3), n)
    (link_value, bound, member_value, divergence), _ = leep_step(
        MemorylessReturn(family), policies, resamples, 1.0
    )
    link = max_link(policies)
    root, values = [], []
    for policy, weights in zip(policies, resamples, strict=True):
        value, visits = parts(family, policy, weights)
        kl = (policy * np.log(np.where(policy > 0, policy, 1) / np.where(policy > 0, link, 1))).sum(axis=1)
        values.append(value)
        root.append(visits @ np.sqrt(np.maximum(kl, 0)))
    mine = np.mean([parts(family, link, weights)[0] for weights in resamples])
    assert link_value == pytest.approx(mine, abs=1e-9)
    assert member_value == pytest.approx(np.mean(values), abs=1e-9)
    stated = np.sqrt(2) * np.abs(family.rewards).max() / (1 - family.discount) ** 2
    sharper = np.ptp(family.rewards) / np.sqrt(2) / (1 - family.discount) ** 2
    assert bound == pytest.approx(np.mean(values) - stated * np.mean(root), abs=1e-6)
    assert mine >= np.mean(values) - sharper * np.mean(root) - 1e-9 >= bound - 2e-9
    assert divergence <= np.log(n) + 1e-12


@settings(max_examples=50, deadline=None)
@given(SEEDS, st.integers(1, 6), st.integers(1, 5))
def test_link_is_renormalised_and_near_its_members(seed, n, A):
    policies = member_policies(seed, n, 4, A)
    link = max_link(policies)
    np.testing.assert_allclose(link.sum(axis=1), 1.0)
    assert (link >= policies / n - 1e-12).all()
    kl = kl_to_link(policies)
    assert (kl >= -1e-12).all() and (kl <= np.log(n) + 1e-12).all()
    equal = np.repeat(policies[:1], n, axis=0)
    np.testing.assert_allclose(max_link(equal), policies[0], atol=1e-15)
    np.testing.assert_allclose(kl_to_link(equal), 0.0, atol=1e-12)


def test_disjoint_members_are_log_n_apart():
    policies = np.eye(3)[:, None, :]
    np.testing.assert_allclose(kl_to_link(policies), np.log(3))


def test_gradient_is_the_finite_difference_of_the_objective():
    family = make_family(2)
    returns = MemorylessReturn(family)
    rng = np.random.default_rng(0)
    policies = rng.dirichlet(np.ones(3), (3, 3))
    resamples = rng.dirichlet(np.ones(4), 3)

    def objective(policies, alpha):
        link = max_link(policies)
        total = 0.0
        for policy, weights in zip(policies, resamples, strict=True):
            value, visits = parts(family, policy, weights)
            total += value - alpha * visits @ (policy * np.log(policy / link)).sum(axis=1)
        return total

    for alpha in (0.0, 0.7):
        _, gradient = leep_step(returns, policies, resamples, alpha)
        for _ in range(5):
            direction = rng.normal(size=policies.shape)
            direction -= direction.mean(axis=2, keepdims=True)
            up, down = (objective(policies + h * direction, alpha) for h in (1e-6, -1e-6))
            assert (gradient * direction).sum() == pytest.approx((up - down) / 2e-6, abs=1e-5)


def test_training_improves_and_the_bound_holds_at_every_iteration():
    family = make_family(3)
    for alpha in (0.0, 1.0):
        trained = tabular_leep(family, np.random.default_rng(0), alpha=alpha, iterations=120)
        history = trained.history
        assert (history.link_value >= history.lower_bound).all()
        assert history.member_value[-1] > history.member_value[0] + 0.1
        np.testing.assert_allclose(trained.link, max_link(trained.members))
        np.testing.assert_allclose(trained.resamples.sum(axis=1), 1.0)


def test_more_penalty_less_disagreement():
    family = make_family(5, M=6)
    apart = [
        tabular_leep(family, np.random.default_rng(1), alpha=alpha, iterations=200).history.divergence[-1]
        for alpha in (0.0, 1.0, 10.0)
    ]
    assert apart[0] > apart[1] > apart[2]


def test_each_member_learns_from_its_own_resample_only():
    """Without a penalty, an environment outside a member's resample does not touch the member."""
    family = make_family(7, M=6)
    first = tabular_leep(family, np.random.default_rng(2), alpha=0.0, iterations=30)
    others = (first.resamples[1:] > 0).any(axis=0)
    outside = int(np.flatnonzero((first.resamples[0] == 0) & others)[0])
    rewards = family.rewards.copy()
    rewards[outside] += np.random.default_rng(9).normal(size=rewards.shape[1:])
    other = Family.from_arrays(
        family.dense_transitions(), rewards, family.initial, family.weights, family.discount
    )
    second = tabular_leep(other, np.random.default_rng(2), alpha=0.0, iterations=30)
    np.testing.assert_array_equal(first.members[0], second.members[0])
    inside = np.flatnonzero(first.resamples[:, outside] > 0)
    assert not np.array_equal(first.members[inside], second.members[inside])


def test_deterministic_and_one_member_without_bootstrap_is_policy_gradient():
    family = make_family(8)
    runs = [tabular_leep(family, np.random.default_rng(4), iterations=20) for _ in range(2)]
    np.testing.assert_array_equal(runs[0].link, runs[1].link)
    alone = tabular_leep(family, np.random.default_rng(4), members=1, bootstrap=False, iterations=20)
    np.testing.assert_allclose(alone.history.link_value, alone.history.member_value)
    np.testing.assert_allclose(alone.history.divergence, 0.0, atol=1e-12)


def test_bad_input():
    family = make_family(0)
    with pytest.raises(BadInput, match="members"):
        tabular_leep(family, np.random.default_rng(0), members=0)
    timed = Family.from_arrays(
        family.dense_transitions(), family.rewards, family.initial, family.weights, 1.0, horizon=3
    )
    with pytest.raises(BadInput, match="discount"):
        tabular_leep(timed, np.random.default_rng(0))
