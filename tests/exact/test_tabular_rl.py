"""Q-learning and PPO in tables: right in one environment, and blind to the posterior in several."""

import numpy as np
import pytest

from epomdp.errors import BadInput
from epomdp.exact.family import Family
from epomdp.exact.guessing import guessing_family
from epomdp.exact.mdp import action_values, optimal_values, policy_values
from epomdp.exact.tables import Adam, softmax
from epomdp.exact.tabular_rl import _Batch, gae, policy_slope, q_learning, tabular_ppo


def make_family(seed, M=1, S=4, A=2, discount=0.8):
    rng = np.random.default_rng(seed)
    return Family.from_arrays(
        rng.dirichlet(np.full(S, 0.5), (M, S, A)),
        rng.normal(size=(M, S, A)),
        rng.dirichlet(np.ones(S)),
        np.full(M, 1 / M),
        discount,
    )


def value_of(family, policy):
    return family.weights @ policy_values(family, policy) @ family.initial


def test_q_learning_finds_the_values_of_one_environment():
    family = make_family(0)
    learned = q_learning(family, np.random.default_rng(0), steps=300_000, epsilon=0.5)
    values = optimal_values(family)[0]
    np.testing.assert_allclose(learned.q, action_values(family, 0, values), atol=0.1)
    assert value_of(family, learned.actions) == pytest.approx(values @ family.initial, abs=1e-9)


def test_ppo_comes_near_the_optimum_of_one_environment():
    family = make_family(1)
    trained = tabular_ppo(family, np.random.default_rng(0), updates=80)
    best = optimal_values(family)[0] @ family.initial
    start = value_of(family, np.full((4, 2), 0.5))
    assert value_of(family, trained.policy) > best - 0.05 * (best - start)
    history = trained.history
    assert history.train_value[-1] == pytest.approx(value_of(family, trained.policy))
    assert history.steps.tolist() == [(u + 1) * 32 * 64 for u in range(80)]
    assert history.entropy[-1] < history.entropy[0] <= np.log(2) + 1e-12


def test_both_repeat_one_label_in_the_guessing_game():
    """Greedy Q-learning guesses the likeliest label for ever; the limit of the game is an end, not a cut."""
    p = np.array([0.6, 0.25, 0.15])
    family = guessing_family(p, 5, 1.0)
    learned = q_learning(family, np.random.default_rng(0), steps=100_000)
    start = int(np.argmax(family.initial))
    assert learned.actions[start] == 0
    assert learned.q[start].max() > -5.0
    mixed = tabular_ppo(family, np.random.default_rng(0), updates=40, ent_coef=0.0).policy[start]
    assert mixed.argmax() == 0


def test_same_generator_same_result():
    family = make_family(2, M=3)
    for learn in (
        lambda rng: q_learning(family, rng, steps=2000).q,
        lambda rng: tabular_ppo(family, rng, updates=3, num_envs=4, num_steps=8).policy,
    ):
        np.testing.assert_array_equal(learn(np.random.default_rng(7)), learn(np.random.default_rng(7)))
        assert not np.array_equal(learn(np.random.default_rng(7)), learn(np.random.default_rng(8)))


def test_gae_against_the_sum_and_at_boundaries():
    """Three episodes side by side: one runs on, one ends in the middle, one is cut there."""
    rng = np.random.default_rng(0)
    T, discount, lam = 5, 0.9, 0.8
    states = rng.integers(0, 4, (T, 3))
    next_states = rng.integers(0, 4, (T, 3))
    rewards, values = rng.normal(size=(T, 3)), rng.normal(size=4)
    ended, cut = np.zeros((T, 3), dtype=bool), np.zeros((T, 3), dtype=bool)
    ended[2, 1] = cut[2, 2] = True
    batch = _Batch(states, np.zeros((T, 3), dtype=np.int64), rewards, next_states, ended, cut)
    found = gae(batch, values, discount, lam)
    for n in range(3):
        for t in range(T):
            total = 0.0
            for k in range(t, T):
                ahead = 0.0 if ended[k, n] else values[next_states[k, n]]
                error = rewards[k, n] + discount * ahead - values[states[k, n]]
                total += (discount * lam) ** (k - t) * error
                if ended[k, n] or cut[k, n]:
                    break
            assert found[t, n] == pytest.approx(total)


def test_policy_slope_is_the_finite_difference_of_the_clipped_objective():
    rng = np.random.default_rng(1)
    T, N, S, A = 6, 5, 3, 4
    states, actions = rng.integers(0, S, (T, N)), rng.integers(0, A, (T, N))
    zeros, no = np.zeros((T, N)), np.zeros((T, N), dtype=bool)
    batch = _Batch(states, actions, zeros, states, no, no)
    advantages = rng.normal(size=(T, N))
    old, logits = softmax(rng.normal(size=(S, A))), rng.normal(size=(S, A))

    def objective(logits):
        policy = softmax(logits)
        ratio = policy[states, actions] / old[states, actions]
        surrogate = np.minimum(ratio * advantages, np.clip(ratio, 0.8, 1.2) * advantages)
        entropy = -(policy * np.log(policy)).sum(axis=1)[states]
        return (surrogate + 0.3 * entropy).mean()

    slope = policy_slope(batch, advantages, logits, old, 0.2, 0.3)
    for s in range(S):
        for a in range(A):
            step = np.zeros((S, A))
            step[s, a] = 1e-6
            difference = (objective(logits + step) - objective(logits - step)) / 2e-6
            assert slope[s, a] == pytest.approx(difference, abs=1e-7)


def test_training_is_by_weight():
    """An environment of weight zero is never played."""
    family = make_family(3, M=2)
    alone = family.with_weights([1.0, 0.0])
    rewards = family.rewards.copy()
    rewards[1] += 5.0
    other = Family.from_arrays(family.dense_transitions(), rewards, family.initial, [1.0, 0.0], 0.8)
    learned = [q_learning(f, np.random.default_rng(0), steps=5000).q for f in (alone, other)]
    np.testing.assert_array_equal(*learned)


def test_adam_first_step_is_the_rate_and_softmax_survives_large_logits():
    np.testing.assert_allclose(Adam((2,), 0.1).step(np.array([3.0, -2.0])), [0.1, -0.1], atol=1e-8)
    np.testing.assert_allclose(softmax(np.array([1e4, 0.0])), [1.0, 0.0])


@pytest.mark.parametrize("wrong", [{"steps": 0}, {"epsilon": 2.0}, {"episode_limit": 0}])
def test_bad_q_learning(wrong):
    with pytest.raises(BadInput, match="q-learning"):
        q_learning(make_family(0), np.random.default_rng(0), **wrong)


def test_bad_ppo():
    with pytest.raises(BadInput, match="ppo"):
        tabular_ppo(make_family(0), np.random.default_rng(0), num_envs=0)
