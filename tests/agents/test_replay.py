"""The replay against a list that forgets nothing: targets, ends of episodes, and what is overwritten."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from epomdp.agents import ops, replay
from epomdp.envs.base import Transition

N, T, ROWS, LIMIT, GAMMA = 3, 4, 12, 5, 0.9
OBSERVATION = jax.ShapeDtypeStruct((2, 1), jnp.uint8)


def history(seed, rollouts, terminations=None):
    """Episodes of N environments that terminate at random, or at given times, and are truncated at step LIMIT."""
    rng = np.random.default_rng(seed)
    steps = rollouts * T
    rows = {
        name: np.zeros((steps, N), kind)
        for name, kind in (
            ("action", np.int32),
            ("reward", np.float32),
            ("terminated", bool),
            ("truncated", bool),
        )
    }
    observation = np.zeros((steps, N, 2, 1), np.uint8)
    following = np.zeros_like(observation)
    for n in range(N):
        age, now = 0, rng.integers(0, 256, (2, 1))
        for t in range(steps):
            age, then = age + 1, rng.integers(0, 256, (2, 1))
            observation[t, n], following[t, n] = now, then
            rows["action"][t, n], rows["reward"][t, n] = rng.integers(0, 4), rng.normal()
            rows["terminated"][t, n] = rng.random() < 0.15 if terminations is None else t in terminations
            rows["truncated"][t, n] = age == LIMIT and not rows["terminated"][t, n]
            over = rows["terminated"][t, n] or rows["truncated"][t, n]
            age, now = (0, rng.integers(0, 256, (2, 1))) if over else (age, then)
    return Transition(observation, next_observation=following, extras={}, **rows)


@functools.partial(jax.jit, static_argnums=2)
def add(memory, rollout, limit):
    return replay.add(memory, rollout, limit)


@functools.partial(jax.jit, static_argnums=3)
def at(memory, time, env, n_step):
    return replay.at(memory, time, env, n_step, LIMIT, GAMMA)


def filled(past, rollouts):
    memory = replay.init(ROWS, N, LIMIT, OBSERVATION)
    for i in range(rollouts):
        memory = add(memory, jax.tree.map(lambda x, i=i: x[i * T : (i + 1) * T], past), LIMIT)
    return memory


def by_hand(past, t, n, n_step):
    """Step for step until the episode or the n steps are over."""
    total = 0.0
    for k in range(n_step):
        total += GAMMA**k * past.reward[t + k, n]
        if past.terminated[t + k, n]:
            return total, 0.0, None
        if past.truncated[t + k, n]:
            break
    return total, GAMMA ** (k + 1), past.next_observation[t + k, n]


@pytest.mark.parametrize("rollouts", [1, 2, 3, 5, 8])
@pytest.mark.parametrize("n_step", [1, 3])
def test_every_transition_is_that_of_the_whole_history(rollouts, n_step):
    past = history(rollouts, rollouts)
    memory = filled(past, rollouts)
    assert int(memory.time) == rollouts * T
    alive = range(max(rollouts * T - ROWS, 0), rollouts * T - n_step)
    time, env = (np.array(x) for x in zip(*[(t, n) for t in alive for n in range(N)], strict=True))
    drawn = jax.tree.map(np.asarray, at(memory, jnp.asarray(time), jnp.asarray(env), n_step))
    np.testing.assert_array_equal(drawn.observation, past.observation[time, env])
    np.testing.assert_array_equal(drawn.action, past.action[time, env])
    for i, (t, n) in enumerate(zip(time, env, strict=True)):
        reward, discount, successor = by_hand(past, t, n, n_step)
        assert drawn.reward[i] == pytest.approx(reward, abs=1e-5)
        assert drawn.discount[i] == pytest.approx(discount, abs=1e-6)
        if successor is not None:
            np.testing.assert_array_equal(drawn.successor[i], successor)


def test_the_histories_hold_both_ends_so_that_the_test_above_can_fail():
    past = history(8, 8)
    assert past.terminated[-ROWS:].any() and past.truncated[-ROWS:].any()
    crossed = past.truncated[:-1, :, None, None] & (past.next_observation[:-1] != past.observation[1:])
    assert crossed[-ROWS:].any()


def test_the_last_observation_of_a_truncated_episode_outlives_every_later_one():
    """Truncations at steps 4 and 15, as far apart as the replay is long, each the first or last of its stretch."""
    past = history(0, 4, terminations={6, 10})
    assert set(np.flatnonzero(past.truncated[:, 0])) == {4, 15}
    drawn = at(filled(past, 4), jnp.full(N, 4), jnp.arange(N), 1)
    np.testing.assert_array_equal(drawn.successor, past.next_observation[4])


def test_draws_are_uniform_over_what_is_alive():
    past = history(0, 5)
    past = past._replace(action=np.arange(5 * T * N, dtype=np.int32).reshape(5 * T, N))
    memory = filled(past, 5)
    draw = jax.jit(lambda key: replay.draw(memory, key, 18_000, 3, LIMIT, GAMMA).action)
    actions, counts = np.unique(draw(jax.random.key(0)), return_counts=True)
    np.testing.assert_array_equal(actions, past.action[5 * T - ROWS : 5 * T - 3].ravel())
    # 27 kinds, 667 draws each on average: six standard deviations are 152.
    assert np.abs(counts - 18_000 / 27).max() < 152


def test_observations_stay_bytes_and_successors_are_stored_once():
    memory = replay.init(784, 64, 121, jax.ShapeDtypeStruct((11, 11, 6), jnp.uint8))
    frames = jax.tree.leaves((memory.observation, memory.final))
    assert all(x.dtype == jnp.uint8 for x in frames)
    whole = sum(x.nbytes for x in jax.tree.leaves(memory))
    assert whole < 1.05 * 784 * 64 * (11 * 11 * 6 + 10)


flags = st.lists(
    st.lists(st.sampled_from(["", "terminated", "truncated"]), min_size=4, max_size=4), min_size=2, max_size=2
)


@given(flags, st.floats(0.1, 1.0), st.integers(0, 1000))
@settings(max_examples=30, deadline=None)
def test_n_step_returns_are_their_definition(ends, gamma, seed):
    reward = np.random.default_rng(seed).normal(size=(4, 2)).astype(np.float32)
    terminated, truncated = (which == np.array(ends).T for which in ("terminated", "truncated"))
    found, discount, taken = ops.n_step_return(reward, terminated, truncated, gamma)
    for n in range(2):
        k = next((j + 1 for j in range(4) if ends[n][j]), 4)
        assert int(taken[n]) == k
        assert float(found[n]) == pytest.approx(sum(gamma**j * reward[j, n] for j in range(k)), abs=1e-5)
        assert float(discount[n]) == pytest.approx(
            0.0 if ends[n][k - 1] == "terminated" else gamma**k, abs=1e-5
        )


@pytest.mark.parametrize("T, limit", [(6, 2), (6, 3), (5, 100), (1, 1)])
def test_truncations_are_found_wherever_they_are(T, limit):
    rng = np.random.default_rng(T)
    truncated = np.zeros((T, 4), bool)
    for n in range(4):
        truncated[rng.integers(0, limit) :: limit, n] = True
    rows, columns = ops.truncations(jnp.asarray(truncated), limit)
    found = {
        (int(t), int(n))
        for row in np.asarray(rows)
        for t, n in zip(row, columns, strict=True)
        if truncated[t, n]
    }
    assert found == set(zip(*np.nonzero(truncated), strict=True))
