"""The guessing game: rules, limits, and theory.md's closed form for a memoryless guesser."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from epomdp.envs.guess import Guess
from epomdp.errors import BadInput

KEY = jax.random.key(0)


def play(env, context, guesses):
    """Rewards and flags of a sequence of guesses, the last step's state and all observations."""
    state, observation = env.reset(KEY, context)
    steps, observations = [], [observation]
    for guess in guesses:
        state, step = env.step(KEY, state, jnp.int32(guess))
        steps.append((float(step.reward), bool(step.terminated), bool(step.truncated)))
        observations.append(step.observation)
    return steps, state, observations


@pytest.fixture
def context():
    image = np.linspace(0, 1, 12, dtype=np.float32).reshape(3, 4)
    return {"image": image, "label": np.int32(2)}


def test_wrong_costs_one_and_right_ends_at_no_cost(context):
    env = Guess((3, 4), 5)
    steps, _, observations = play(env, context, [0, 4, 2])
    assert steps == [(-1, False, False), (-1, False, False), (0, True, False)]
    for observation in observations:
        np.testing.assert_array_equal(observation, context["image"])


def test_truncated_at_the_limit_but_not_when_right_at_the_limit(context):
    env = Guess((3, 4), 5, max_episode_steps=3)
    assert play(env, context, [0, 0, 0])[0][-1] == (-1, False, True)
    assert play(env, context, [0, 0, 2])[0][-1] == (0, True, False)
    assert play(Guess((3, 4), 5, max_episode_steps=1), context, [1])[0] == [(-1, False, True)]


@pytest.mark.parametrize("guesses", [[2], [0, 0, 0]], ids=["terminated", "truncated"])
def test_an_ended_episode_stays_as_it_ended(context, guesses):
    env = Guess((3, 4), 5, max_episode_steps=3)
    steps, state, _ = play(env, context, guesses)
    for guess in (0, 2):
        later, step = env.step(KEY, state, jnp.int32(guess))
        assert float(step.reward) == 0
        assert (bool(step.terminated), bool(step.truncated)) == steps[-1][1:]
        jax.tree.map(np.testing.assert_array_equal, later, state)


def test_solved_means_guessed(context):
    env = Guess((3, 4), 5, max_episode_steps=1)
    for guess, solved in ((2, True), (3, False)):
        state, _ = env.reset(KEY, context)
        state, step = env.step(KEY, state, jnp.int32(guess))
        assert bool(env.solved(state, step)) is solved


@pytest.mark.parametrize("limit", [1, 4, 20])
def test_a_memoryless_guesser_earns_the_closed_form(limit):
    # theory.md: -(1 - q) (1 - (1 - q)^T) / q for a guesser that names the label with probability q.
    labels, episodes = 4, 4000
    env = Guess((1, 1), labels, max_episode_steps=limit)
    q = np.array([0.5, 0.3, 0.2, 0.0])

    def episode(key, label):
        state, _ = env.reset(key, {"image": jnp.zeros((1, 1)), "label": label})

        def act(state, key):
            guess = jax.random.choice(key, labels, p=jnp.asarray(q))
            state, step = env.step(key, state, guess)
            return state, step.reward

        return jax.lax.scan(act, state, jax.random.split(key, limit))[1].sum()

    for label in range(labels):
        keys = jax.random.split(jax.random.key(label), episodes)
        returns = np.asarray(jax.jit(jax.vmap(episode, (0, None)))(keys, jnp.int32(label)))
        chance = q[label]
        expected = -limit if chance == 0 else -(1 - chance) * (1 - (1 - chance) ** limit) / chance
        assert abs(returns.mean() - expected) <= 5 * returns.std() / np.sqrt(episodes)


def test_equal_games_are_one_static_argument():
    assert Guess((3, 4), 5) == Guess([3, 4], 5)
    assert hash(Guess((3, 4), 5)) == hash(Guess([3, 4], 5))
    others = [Guess((4, 3), 5), Guess((3, 4), 6), Guess((3, 4), 5, 7), "guess"]
    assert all(other != Guess((3, 4), 5) for other in others)


@pytest.mark.parametrize(("labels", "limit"), [(1, 20), (0, 20), (3, 0), (3, -1)])
def test_bad_sizes(labels, limit):
    with pytest.raises(BadInput, match="at least"):
        Guess((2, 2), labels, limit)
