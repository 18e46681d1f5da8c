"""Games by id: registered without JAX, checked by Gymnasium, and step for step the JAX game."""

import subprocess
import sys

import gymnasium
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env
from gymnasium.vector import AutoresetMode

import epomdp  # noqa: F401 (registers the games)
from epomdp.envs.registration import GAMES, make_game
from epomdp.errors import BadInput


def make(name, **options):
    return gymnasium.make(f"epomdp/{name}-v0", **options)


def make_vec(name, n, **options):
    return gymnasium.make_vec(f"epomdp/{name}-v0", num_envs=n, **options)


@pytest.mark.parametrize("module", ["epomdp", "epomdp.envs"])
def test_an_import_registers_every_game_without_jax(module):
    code = (
        f"import sys, {module}, gymnasium\n"
        f"known = [f'epomdp/{{game}}-v0' in gymnasium.registry for game in {list(GAMES)}]\n"
        "sys.exit(not all(known) or 'jax' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.parametrize("game", GAMES)
def test_gymnasium_checks_it_without_a_warning(game):
    # pytest makes errors of warnings.
    check_env(make(game, num_levels=3, render_mode="rgb_array").unwrapped)


@pytest.mark.parametrize("game", GAMES)
def test_step_for_step_the_jax_game(game):
    single, many = make(game, num_levels=4, start_level=7), make_vec(game, 3, num_levels=4, start_level=7)
    env, levels = single.unwrapped.env, single.unwrapped.contexts
    assert levels.ids == tuple(f"{game}-{seed}" for seed in range(7, 11)) and many.contexts.ids == levels.ids
    reset, step = jax.jit(env.reset), jax.jit(env.step)
    rng, key = np.random.default_rng(0), jax.random.key(0)

    def start(i):
        state, observation = reset(key, jax.tree.map(jnp.asarray, levels.context(int(i))))
        return state, np.asarray(observation)

    observation, info = single.reset(seed=5)
    state, expected = start(info["context"])
    observations, infos = many.reset(seed=6)
    twins = [start(i) for i in infos["context"]]
    np.testing.assert_array_equal(observation, expected)
    np.testing.assert_array_equal(observations, [seen for _, seen in twins])
    over, ended = False, np.zeros(3, bool)
    for _ in range(60):
        actions = rng.integers(env.num_actions, size=4)
        if not over:
            observation, reward, terminated, truncated, _ = single.step(actions[3])
            state, shown = step(key, state, jnp.int32(actions[3]))
            np.testing.assert_array_equal(observation, shown.observation)
            assert (reward, terminated, truncated) == (shown.reward, shown.terminated, shown.truncated)
            over = terminated or truncated
        observations, rewards, terminations, truncations, infos = many.step(actions[:3])
        for i in range(3):
            if ended[i]:
                twins[i] = start(infos["context"][i])
                told = (twins[i][1], 0, False, False)
            else:
                after, told = step(key, twins[i][0], jnp.int32(actions[i]))
                twins[i] = (after, np.asarray(told.observation))
            np.testing.assert_array_equal(observations[i], told[0])
            assert (rewards[i], terminations[i], truncations[i]) == tuple(float(x) for x in told[1:])
        ended = terminations | truncations


def test_options_reach_the_game_and_planes_are_binary():
    env = make("maze", num_levels=2, size=13, view="centred", themes=True).unwrapped
    assert (env.env.size, env.env.view, env.env.themes) == (13, "centred", True)
    assert env.observation_space == gymnasium.spaces.Box(0, 1, env.env.observation.shape, np.uint8)
    many = make_vec("maze", 2, num_levels=2, size=13, autoreset_mode=AutoresetMode.SAME_STEP)
    assert many.metadata["autoreset_mode"] is AutoresetMode.SAME_STEP
    assert many.single_observation_space.shape[:2] == (13, 13)


def test_what_cannot_be_made_is_refused():
    for options in ({"num_levels": 0}, {"start_level": -1}):
        with pytest.raises(BadInput, match="num_levels must be at least 1 and start_level 0"):
            make("maze", **options)
    with pytest.raises(BadInput, match="did you mean 'maze'"):
        make_game("mazes", {})


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"size": "11"}, "maze: size must be an integer, got '11'"),
        ({"size": 11.0}, "maze: size must be an integer, got 11.0"),
        ({"themes": 1}, "maze: themes must be a bool, got 1"),
        ({"view": 3}, "maze: view must be a str, got 3"),
        ({"num_levels": "5"}, "maze: num_levels must be an integer, got '5'"),
        ({"start_level": 0.5}, "maze: start_level must be an integer, got 0.5"),
        ({"step_limit": 7.5}, "maze: step_limit must be an integer, got 7.5"),
        ({"themed": True}, "unknown option of maze 'themed'; did you mean 'themes'?"),
        ({"num_level": 3}, "unknown option of maze 'num_level'; did you mean 'num_levels'?"),
    ],
)
def test_a_bad_option_is_one_line(options, message):
    for attempt in (lambda: make("maze", **options), lambda: make_vec("maze", 2, **options)):
        with pytest.raises(BadInput) as refused:
            attempt()
        assert str(refused.value) == message


def test_integers_of_numpy_are_integers():
    assert make("maze", num_levels=np.int64(2), size=np.int64(13)).unwrapped.env.size == 13


def test_a_step_limit_is_the_games_own_both_ways():
    single, many = (
        make("maze", num_levels=2, step_limit=300),
        make_vec("maze", 2, num_levels=2, step_limit=300),
    )
    assert single.unwrapped.env == many.env and many.env.max_episode_steps == 300
    # The same game by the other name where Gymnasium leaves it alone, and an outer limit where it does not.
    assert make_vec("maze", 2, num_levels=2, max_episode_steps=300).env == many.env
    outer = make("maze", num_levels=2, max_episode_steps=300)
    assert outer.unwrapped.env.max_episode_steps == 121
    with pytest.raises(BadInput, match="step_limit and max_episode_steps are one option"):
        make_vec("maze", 2, max_episode_steps=7, step_limit=8)
    short = make("maze", num_levels=2, step_limit=3)
    short.reset(seed=0)
    assert [short.step(0)[3] for _ in range(3)] == [False, False, True]
