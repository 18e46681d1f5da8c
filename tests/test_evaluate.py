"""Evaluation against closed forms, and what its random numbers depend on."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from epomdp import evaluate as evaluation
from epomdp.agents import policies
from epomdp.contexts import ContextSet
from epomdp.envs.base import Environment, Step
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
        # The game shows one image all the time, so each action beyond its first use is a repeat.
        assert found.repeats[i, 0] == len(played.actions) - len(set(played.actions))
        wrong = np.flatnonzero(played.actions != some.context(i)["label"])
        assert found.first_mistake[i, 0] == (wrong[0] if wrong.size else -1)


class Ring(Environment):
    """Walk round a ring of 5 squares, left or right, to the context's square; the square and a plane are seen."""

    name = "ring"
    num_actions = 2
    observation = jax.ShapeDtypeStruct((7,), jnp.uint8)
    max_episode_steps = 12

    def reset(self, key, context):
        state = {"goal": context, "at": jnp.int32(0), "steps": jnp.int32(0)}
        return state, self.see(state)

    def see(self, state):
        return jnp.append(jnp.arange(5) == state["at"], jnp.array([True, False])).astype(jnp.uint8)

    def step(self, key, state, action):
        state = {**state, "at": (state["at"] + 2 * action - 1) % 5, "steps": state["steps"] + 1}
        reached = state["at"] == state["goal"]
        late = ~reached & (state["steps"] >= self.max_episode_steps)
        return state, Step(self.see(state), jnp.float32(reached), reached, late)

    def mistake(self, before, action):
        right = (before["goal"] - before["at"]) % 5 <= 2
        return (action == 1) != right


def test_repeats_and_first_mistakes_are_those_of_the_trace():
    env, goals = Ring(), ContextSet.from_values(np.arange(1, 5))
    policy = policies.sampled(lambda params, observation: jnp.log(jnp.array([0.4, 0.6])), "")
    found = evaluate(env, policy, (), goals, episodes=1, seed=2)
    for i in range(4):
        played = trace(env, policy, (), goals, i, seed=2, show=lambda state: int(state["at"]))
        assert len(played.shown) == len(played.actions) + 1
        pairs = list(zip(played.shown[:-1], played.actions.tolist(), strict=True))
        assert found.repeats[i, 0] == len(pairs) - len(set(pairs))
        assert found.last_new[i, 0] == max(k for k, pair in enumerate(pairs) if pair not in pairs[:k])
        wrong = [((i + 1 - at) % 5 <= 2) != (action == 1) for at, action in pairs]
        assert found.first_mistake[i, 0] == (wrong.index(True) if any(wrong) else -1)
    assert found.repeats.max() > 0 and (found.first_mistake >= 0).any()


def test_a_policy_that_goes_to_and_fro_is_in_a_loop():
    """Right on the first square and left on the second: two steps, then ten repeats of them."""
    env = Ring()
    policy = policies.greedy(lambda params, seen: jnp.where(seen[0] == 1, 1.0, -1.0) * jnp.array([-1, 1]), "")
    found = evaluate(env, policy, (), ContextSet.from_values(np.array([1, 3])), episodes=1, seed=0)
    assert found.repeats[:, 0].tolist() == [0, 10]
    assert found.last_new[:, 0].tolist() == [0, 1]
    assert found.looped[:, 0].tolist() == [False, True]
    assert found.lengths[:, 0].tolist() == [1, 12]
    assert found.first_mistake[:, 0].tolist() == [-1, 0]


def test_an_environment_that_names_no_mistakes_has_none():
    class Silent(Ring):
        mistake = Environment.mistake

    policy = policies.sampled(policies.uniform(2), "")
    found = evaluate(Silent(), policy, (), ContextSet.from_values(np.arange(1, 5)), episodes=2, seed=0)
    assert (found.first_mistake == -1).all()


def test_params_of_an_ensemble_pass_through():
    params = {"a": jnp.eye(K)}

    def distribution(params, observation):
        return jnp.log(params["a"].mean(axis=0))

    found = evaluate(ENV, policies.sampled(distribution, ""), params, contexts(8), episodes=1, seed=0)
    assert found.returns.shape == (8, 1) and jax.tree.leaves(params)[0].shape == (K, K)
