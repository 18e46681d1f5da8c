"""The Gymnasium versions: Gymnasium's own checker, and step for step what the JAX environment does."""

import gymnasium
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env
from gymnasium.vector import AutoresetMode

from epomdp.contexts import ContextSet
from epomdp.envs import render
from epomdp.envs.base import Environment, Step
from epomdp.envs.boards import levels
from epomdp.envs.guess import Guess
from epomdp.envs.images import guess_contexts, load_images
from epomdp.envs.maze import Maze
from epomdp.envs.to_gymnasium import GymnasiumEnv, GymnasiumVectorEnv
from epomdp.errors import BadInput

LIMIT = 4
MODES = [AutoresetMode.NEXT_STEP, AutoresetMode.SAME_STEP]


class Noisy(Environment):
    """Every draw of every key shows, and integer observations: what Guess cannot test."""

    name = "noisy walk"
    num_actions = 3
    observation = jax.ShapeDtypeStruct((2,), jnp.uint8)
    max_episode_steps = LIMIT

    def reset(self, key, context):
        state = {"draw": jax.random.randint(key, (), 0, 256, jnp.int32), "steps": jnp.int32(0)}
        return {**state, "context": context}, self.show(state)

    def show(self, state):
        return jnp.stack([state["draw"], state["steps"]]).astype(jnp.uint8)

    def step(self, key, state, action):
        state = {**state, "draw": jax.random.randint(key, (), 0, 256, jnp.int32), "steps": state["steps"] + 1}
        terminated = action == state["context"]
        truncated = ~terminated & (state["steps"] >= self.max_episode_steps)
        return state, Step(self.show(state), action.astype(jnp.float32), terminated, truncated)


# One object, so that it is compiled once.
NOISY = Noisy()


class NumpyGuess:
    """The rules of the guessing game once more, in NumPy."""

    def __init__(self, context):
        self.image, self.label, self.guesses = context["image"], context["label"], 0

    def step(self, action):
        self.guesses += 1
        right = bool(action == self.label)
        return self.image, 0.0 if right else -1.0, right, not right and self.guesses >= LIMIT


@pytest.fixture(scope="module")
def digits():
    return guess_contexts(load_images("digits"))[:30]


@pytest.fixture
def env(digits):
    return GymnasiumEnv(Guess((8, 8), 10, LIMIT), digits, seed=0)


def noisy(**options):
    return GymnasiumEnv(NOISY, ContextSet.from_values(np.arange(3)), **options)


@pytest.mark.parametrize("make", ["guess", "noisy"])
def test_gymnasium_checks_it_without_a_warning(env, make):
    # pytest makes errors of warnings.
    check_env(env if make == "guess" else noisy())


def test_gymnasium_makes_it_again_from_its_spec(env):
    again = gymnasium.make(env.spec)
    np.testing.assert_array_equal(again.reset(seed=5)[0], env.reset(seed=5)[0])
    assert again.unwrapped.env == env.env


def test_spaces(env):
    assert env.action_space == gymnasium.spaces.Discrete(10)
    assert env.observation_space == gymnasium.spaces.Box(0, 1, (8, 8), np.float32)
    assert noisy().observation_space == gymnasium.spaces.Box(0, 255, (2,), np.uint8)
    bounded = GymnasiumEnv(env.env, env.contexts, observation_range=(-2, 3))
    assert bounded.observation_space == gymnasium.spaces.Box(-2, 3, (8, 8), np.float32)


def test_step_for_step_the_numpy_game(env):
    rng = np.random.default_rng(0)
    ends = set()
    for _ in range(40):
        observation, info = env.reset()
        twin = NumpyGuess(env.contexts.context(info["context"]))
        np.testing.assert_array_equal(observation, twin.image)
        over = False
        while not over:
            action = rng.integers(10)
            observation, reward, terminated, truncated, info = env.step(action)
            expected = twin.step(action)
            np.testing.assert_array_equal(observation, expected[0])
            assert (reward, terminated, truncated) == expected[1:]
            assert [type(x) for x in (reward, terminated, truncated)] == [float, bool, bool]
            over = terminated or truncated
            assert info == ({"is_success": terminated} if over else {})
        ends.add((terminated, truncated))
    assert ends == {(True, False), (False, True)}


def test_an_ended_episode_stays_ended(env):
    env.reset(options={"context": 0})
    env.step(env.contexts.context(0)["label"])
    assert env.step(0)[1:4] == (0, True, False)


def test_context_can_be_chosen_and_is_drawn_uniformly_otherwise(env):
    observation, info = env.reset(options={"context": 7})
    assert info == {"context": 7}
    np.testing.assert_array_equal(observation, env.contexts.context(7)["image"])
    counts = np.bincount([env.reset()[1]["context"] for _ in range(900)], minlength=30)
    # Binomial(900, 1/30): standard deviation 5.4.
    assert np.abs(counts - 30).max() < 4.5 * 5.4


def test_seeds_decide_everything():
    def trace(env, seed=None):
        shown = [env.reset(seed=seed)[0]] + [env.step(a)[0] for a in (0, 1, 0)] + [env.reset()[0]]
        return np.stack(shown).tolist()

    first = trace(noisy(), seed=3)
    assert first == trace(noisy(), seed=3) == trace(noisy(seed=3))
    assert first != trace(noisy(), seed=4)
    assert len({tuple(shown) for shown in first}) == 5


def test_returned_arrays_are_the_callers_own(env):
    observation, _ = env.reset(options={"context": 0})
    observation[:] = 7
    np.testing.assert_array_equal(env.step(0)[0], env.contexts.context(0)["image"])


def test_misuse(env):
    with pytest.raises(gymnasium.error.ResetNeeded):
        env.step(0)
    for context in (-1, 30):
        with pytest.raises(BadInput, match=r"not in 0 \.\. 29"):
            env.reset(options={"context": context})
    env.reset()
    for action in (-1, 10):
        with pytest.raises(BadInput, match=r"not in 0 \.\. 9"):
            env.step(action)


# ---- many at once


def vector(digits, n, mode, **options):
    return GymnasiumVectorEnv(Guess((8, 8), 10, LIMIT), digits, n, autoreset_mode=mode, **options)


@pytest.mark.parametrize("mode", MODES)
def test_vector_is_gymnasiums_own_vector_of_the_numpy_game(digits, mode):
    """Gymnasium's SyncVectorEnv, fed the contexts that ours draws, must return the same at every step."""
    n = 5
    ours = vector(digits, n, mode, seed=1)
    observation, info = ours.reset()
    assert info["_context"].all()
    contexts = info["context"].copy()

    class Twin(gymnasium.Env):
        observation_space, action_space = ours.single_observation_space, ours.single_action_space

        def __init__(self, i):
            self.i = i

        def reset(self, *, seed=None, options=None):
            self.game = NumpyGuess(digits.context(contexts[self.i]))
            return self.game.image, {"context": contexts[self.i]}

        def step(self, action):
            observation, reward, terminated, truncated = self.game.step(action)
            info = {"is_success": terminated} if terminated or truncated else {}
            return observation, reward, terminated, truncated, info

    theirs = gymnasium.vector.SyncVectorEnv([lambda i=i: Twin(i) for i in range(n)], autoreset_mode=mode)
    assert ours.metadata["autoreset_mode"] == theirs.metadata["autoreset_mode"]
    assert ours.observation_space == theirs.observation_space
    assert ours.action_space == theirs.action_space
    np.testing.assert_array_equal(observation, theirs.reset()[0])
    rng = np.random.default_rng(2)
    seen = set()
    for _ in range(60):
        actions = rng.integers(10, size=n)
        got = ours.step(actions)
        # Ours has drawn by now; Gymnasium's resets must start in the same contexts.
        fresh = got[4].get("_context", np.zeros(n, bool))
        contexts[fresh] = got[4]["context"][fresh] if fresh.any() else contexts[fresh]
        expected = theirs.step(actions)
        for one, other in zip(got[:4], expected[:4], strict=True):
            np.testing.assert_array_equal(one, other)
            assert one.dtype == other.dtype
        assert_same_infos(got[4], expected[4])
        seen |= set(got[4])
    ends = {"final_obs", "_final_obs", "final_info", "_final_info"}
    assert (ends <= seen) == (mode is AutoresetMode.SAME_STEP)


def assert_same_infos(one, other):
    assert one.keys() == other.keys()
    for name, value in one.items():
        if isinstance(value, dict):
            assert_same_infos(value, other[name])
        elif value.dtype == object:
            for x, y in zip(value, other[name], strict=True):
                np.testing.assert_array_equal(x, y)
        else:
            np.testing.assert_array_equal(value, other[name])


@pytest.mark.parametrize("mode", MODES)
def test_vector_observations_never_cross_an_episodes_end_unseen(mode):
    """In both modes the last observation of an episode is shown: its step count is the limit."""
    env = GymnasiumVectorEnv(NOISY, ContextSet.from_values(np.full(2, 2)), 3, seed=0, autoreset_mode=mode)
    env.reset()
    for t in range(1, 3 * (LIMIT + 1)):
        observation, _, _, truncated, infos = env.step(np.zeros(3, int))
        if mode is AutoresetMode.NEXT_STEP:
            assert (observation[:, 1] == t % (LIMIT + 1)).all()
            assert (truncated == (t % (LIMIT + 1) == LIMIT)).all()
        else:
            assert (observation[:, 1] == t % LIMIT).all()
            assert (truncated == (t % LIMIT == 0)).all()
            if truncated.any():
                assert [final[1] for final in infos["final_obs"]] == [LIMIT] * 3


@pytest.mark.parametrize("mode", MODES)
def test_vector_seeds_decide_everything(mode):
    def trace(seed, constructor_seed=None):
        contexts = ContextSet.from_values(np.arange(3))
        env = GymnasiumVectorEnv(NOISY, contexts, 4, seed=constructor_seed, autoreset_mode=mode)
        shown = [env.reset(seed=seed)[0]] + [env.step(np.full(4, t % 3))[0] for t in range(7)]
        return np.stack(shown)

    np.testing.assert_array_equal(trace(3), trace(3))
    np.testing.assert_array_equal(trace(3), trace(None, constructor_seed=3))
    assert not np.array_equal(trace(3), trace(4))
    assert len({row.tobytes() for row in trace(3)[..., 0].T}) == 4
    assert len({step.tobytes() for step in trace(3)[..., 0]}) == 8


def test_vector_draws_contexts_uniformly(digits):
    env = vector(digits, 300, AutoresetMode.NEXT_STEP, seed=0)
    counts = sum(np.bincount(env.reset()[1]["context"], minlength=30) for _ in range(10))
    # Binomial(3000, 1/30): standard deviation 9.8.
    assert np.abs(counts - 100).max() < 4.5 * 9.8


def test_vector_misuse(digits):
    with pytest.raises(BadInput, match="num_envs"):
        vector(digits, 0, AutoresetMode.NEXT_STEP)
    with pytest.raises(BadInput, match="autoreset_mode"):
        vector(digits, 2, AutoresetMode.DISABLED)
    env = vector(digits, 2, AutoresetMode.NEXT_STEP)
    with pytest.raises(gymnasium.error.ResetNeeded):
        env.step(np.zeros(2, int))
    env.reset()
    for actions in ([0], [0, 10], [-1, 0], [[0, 0]]):
        with pytest.raises(BadInput, match="needs 2 actions in 0"):
            env.step(np.array(actions))


# ---- frames


def test_a_frame_is_the_picture_of_the_state():
    game = Maze()
    env = GymnasiumEnv(game, levels(game, [3, 4]), seed=0, render_mode="rgb_array")
    assert env.metadata["render_modes"] == ["rgb_array"]
    with pytest.raises(gymnasium.error.ResetNeeded):
        env.render()
    env.reset(options={"context": 1})
    state, _ = game.reset(None, env.contexts.context(1))
    for action in (0, 1, 2, 3):
        np.testing.assert_array_equal(env.render(), render.frames(game.tiles, game.picture(state)))
        env.step(action)
        state, _ = game.step(None, state, jnp.int32(action))


def test_many_frames_are_those_of_each():
    game, n = Maze(), 3
    env = GymnasiumVectorEnv(game, levels(game, [3, 4]), n, seed=0, render_mode="rgb_array")
    indices = env.reset()[1]["context"]
    frames = env.render()
    assert len(frames) == n
    for frame, i in zip(frames, indices, strict=True):
        state, _ = game.reset(None, env.contexts.context(int(i)))
        np.testing.assert_array_equal(frame, render.frames(game.tiles, game.picture(state)))


def test_what_cannot_be_shown_says_so(digits, env):
    assert env.metadata["render_modes"] == []
    with pytest.raises(BadInput, match="render_mode 'rgb_array' is not one of none"):
        GymnasiumEnv(env.env, digits, render_mode="rgb_array")
    with pytest.raises(BadInput, match="render_mode 'human'"):
        GymnasiumVectorEnv(Maze(), levels(Maze(), [0]), 2, render_mode="human")
    with pytest.warns(UserWarning, match="render_mode='rgb_array'"):
        assert env.render() is None


def test_many_start_in_the_contexts_asked_for():
    env = GymnasiumVectorEnv(NOISY, ContextSet.from_values(np.arange(3)), 4)
    for asked, expected in ((2, [2, 2, 2, 2]), (np.int64(1), [1] * 4), ([0, 2, 1, 0], [0, 2, 1, 0])):
        _, infos = env.reset(seed=1, options={"context": asked})
        assert infos["context"].tolist() == expected and infos["_context"].all()
        # An action that names the context ends the episode.
        assert env.step(np.array(expected))[2].all()
    drawn = env.reset(seed=1)[1]["context"].tolist()
    assert env.reset(seed=1, options={})[1]["context"].tolist() == drawn


@pytest.mark.parametrize("asked", [-1, 3, [0, 1, 2, 3], [0, 1], [[0, 1, 2, 0]], 1.0, "1", [0, [1]], []])
def test_contexts_that_are_not_there_are_refused(asked):
    env = GymnasiumVectorEnv(NOISY, ContextSet.from_values(np.arange(3)), 4)
    for each in (env, noisy()):
        with pytest.raises(BadInput, match="reset: context") as refused:
            each.reset(options={"context": asked})
        assert "\n" not in str(refused.value)
