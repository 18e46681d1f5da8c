"""Evaluation against closed forms, and what its random numbers depend on."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from epomdp import evaluate as evaluation
from epomdp.agents import policies
from epomdp.contexts import ContextSet
from epomdp.envs.guess import Guess
from epomdp.evaluate import evaluate, trace
from epomdp.exact import guessing

K, LIMIT = 4, 6
ENV = Guess((2,), K, LIMIT)


def by_params(params, observation):
    """Action probabilities given as they are."""
    return jnp.log(params)


SAMPLED = policies.sampled(by_params, "")
GREEDY = policies.greedy(by_params, "")
ELIMINATION = policies.eliminating(by_params, K, LIMIT, "")


def contexts(n, seed=0):
    rng = np.random.default_rng(seed)
    image = rng.random((n, 2)).astype(np.float32)
    return ContextSet.from_values(
        {"image": image, "label": (np.arange(n) % K).astype(np.int32)}, content=image
    )


def test_returns_are_the_closed_forms_of_the_game():
    q = np.array([0.5, 0.25, 0.2, 0.05])
    some, episodes = contexts(K), 4000
    found = evaluate(ENV, SAMPLED, jnp.asarray(q, jnp.float32), some, episodes=episodes, seed=1)
    expected = guessing.return_given_label(np.tile(q, (K, 1)), np.arange(K), LIMIT)
    error = found.returns.std(axis=1) / np.sqrt(episodes)
    assert (np.abs(found.returns.mean(axis=1) - expected) < 4 * error).all()
    solved = 1 - (1 - q) ** LIMIT
    np.testing.assert_allclose(found.solved.mean(axis=1), solved, atol=4 * 0.5 / np.sqrt(episodes))


def test_lengths_and_solved_agree_with_the_returns():
    found = evaluate(ENV, SAMPLED, jnp.full(K, 1 / K), contexts(30), episodes=5, seed=0)
    np.testing.assert_array_equal(found.lengths, np.where(found.solved, 1 - found.returns, -found.returns))
    assert (found.returns[~found.solved] == -LIMIT).all() and (~found.solved).any()


def test_greedy_and_elimination_are_exact():
    q = jnp.asarray([0.1, 0.4, 0.3, 0.2])
    greedy = evaluate(ENV, GREEDY, q, contexts(K), episodes=1, seed=0)
    np.testing.assert_array_equal(greedy.returns[:, 0], [-LIMIT, 0, -LIMIT, -LIMIT])
    np.testing.assert_array_equal(greedy.solved[:, 0], [False, True, False, False])
    elimination = evaluate(ENV, ELIMINATION, q, contexts(K), episodes=1, seed=0)
    np.testing.assert_array_equal(elimination.returns[:, 0], [-3, 0, -1, -2])


def test_the_seed_decides_and_company_does_not_matter():
    q, some = jnp.full(K, 1 / K), contexts(40)
    first = evaluate(ENV, SAMPLED, q, some, episodes=4, seed=3)
    np.testing.assert_array_equal(first.returns, evaluate(ENV, SAMPLED, q, some, episodes=4, seed=3).returns)
    assert (first.returns != evaluate(ENV, SAMPLED, q, some, episodes=4, seed=4).returns).any()
    shuffled = np.random.default_rng(0).permutation(40)[:17]
    alone = evaluate(ENV, SAMPLED, q, some[shuffled], episodes=2, seed=3)
    np.testing.assert_array_equal(alone.returns, first.returns[shuffled, :2])


def test_many_contexts_are_played_in_turns(monkeypatch):
    q, some = jnp.full(K, 1 / K), contexts(23)
    at_once = evaluate(ENV, SAMPLED, q, some, episodes=3, seed=0)
    monkeypatch.setattr(evaluation, "LANES", (8,))
    in_turns = evaluate(ENV, SAMPLED, q, some, episodes=3, seed=0)
    for a, b in zip(at_once, in_turns, strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("policy", [SAMPLED, ELIMINATION])
def test_a_trace_is_the_first_episode(policy):
    q, some = jnp.asarray([0.1, 0.4, 0.3, 0.2]), contexts(6)
    found = evaluate(ENV, policy, q, some, episodes=1, seed=5)
    for i in range(6):
        played = trace(ENV, policy, q, some, i, seed=5)
        assert played.rewards.sum() == found.returns[i, 0]
        assert len(played.actions) == found.lengths[i, 0]
        assert played.solved == found.solved[i, 0]


def test_params_of_an_ensemble_pass_through():
    params = {"a": jnp.eye(K)}

    def distribution(params, observation):
        return jnp.log(params["a"].mean(axis=0))

    found = evaluate(ENV, policies.sampled(distribution, ""), params, contexts(8), episodes=1, seed=0)
    assert found.returns.shape == (8, 1) and jax.tree.leaves(params)[0].shape == (K, K)
