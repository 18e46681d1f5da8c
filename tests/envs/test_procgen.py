"""Procgen's games: an episode is its level and its actions, and lanes are in the levels they were told."""

import hashlib

import numpy as np
import pytest

from epomdp.envs import envpool_procgen, procgen
from epomdp.envs.envpool_procgen import Pool, Variant
from epomdp.envs.procgen import GAMES, LAST_LEVEL, NUM_ACTIONS, Procgen
from epomdp.envs.procgen_levels import level_contexts
from epomdp.errors import BadInput, RunFailed


@pytest.fixture(scope="module", autouse=True)
def _playable():
    try:
        envpool_procgen.load()
    except BadInput as reason:
        pytest.skip(str(reason))


def contexts(*levels):
    return [{"level": np.int32(level)} for level in levels]


def actions(seed, steps, special):
    """Random actions, at first without a move where `special`: what is thrown then shows what was done before."""
    drawn = np.random.default_rng(seed).integers(0, NUM_ACTIONS, steps)
    if special:
        drawn[:6] = np.random.default_rng(seed).integers(9, NUM_ACTIONS, 6)
    return drawn


def play(lanes, lane, level, moves):
    """All that one episode of a lane shows."""
    shown = [lanes.start([lane], contexts(level))[0]]
    rewards = []
    for move in moves:
        lanes.send(np.full(len(lanes._observation), move))
        step = lanes.receive()
        shown.append(step.observation[lane])
        rewards.append((step.reward[lane], step.terminated[lane], step.truncated[lane], step.solved[lane]))
        if step.terminated[lane] or step.truncated[lane]:
            break
    return np.stack(shown), rewards


def same(a, b):
    return a[0].shape == b[0].shape and (a[0] == b[0]).all() and a[1] == b[1]


@pytest.mark.parametrize("distribution", procgen.DISTRIBUTIONS)
@pytest.mark.parametrize("game", GAMES)
def test_an_episode_depends_on_its_level_and_actions_alone(game, distribution):
    env = Procgen(game, distribution)
    used = env.open(2)
    used.start([0, 1], contexts(3, 7))  # a pool of many levels
    for seed in range(3):
        play(used, 0, 3 + seed, actions(10 + seed, 40, special=False))
        fresh = env.open(1)
        moves = actions(seed, 60, special=True)
        assert same(play(used, 0, 7 + seed, moves), play(fresh, 0, 7 + seed, moves))
        assert used._pools[0].count > 1 and fresh._pools[0].count == 1
        fresh.close()
    used.close()


def test_a_used_one_level_pool_plays_the_same_again():
    lanes = Procgen("dodgeball").open(1)
    moves = actions(0, 80, special=True)
    first = play(lanes, 0, 4, moves)
    play(lanes, 0, 4, actions(1, 50, special=False))
    assert same(first, play(lanes, 0, 4, moves)) and len(lanes._pools) == 1
    lanes.close()


# SHA-256 of first frames as the agent sees them, easy levels 0, 1 and 2.
FIRST_FRAMES = {
    "maze": ("07d560a2efaae87c", "fef0d944b7bf89a1", "804a48551ec7201d"),
    "heist": ("a108f8f22cf87e96", "272d6daa8672d2fd", "e19efff678931d7d"),
    "bigfish": ("20ab11a8a9ea6c78", "cf500bc84f052372", "5bf4faa6c5ee37a1"),
    "dodgeball": ("26c192ae7016e5bf", "646c8fab4cef17dd", "c57614d69f422a94"),
}


@pytest.mark.parametrize("game", FIRST_FRAMES)
def test_first_frames_are_the_recorded_ones(game):
    lanes = Procgen(game).open(3)
    frames = lanes.start(range(3), contexts(0, 1, 2))
    assert frames.shape == (3, 64, 64, 3) and frames.dtype == np.uint8
    assert tuple(hashlib.sha256(frame.tobytes()).hexdigest()[:16] for frame in frames) == FIRST_FRAMES[game]
    lanes.close()


def test_lanes_start_in_their_levels_whatever_their_company():
    env = Procgen("maze")
    lanes = env.open(8)
    levels = np.random.default_rng(0).integers(0, 40, (6, 8))
    for row in levels:
        frames = lanes.start(range(8), contexts(*row))
        for level, frame in zip(row, frames, strict=True):
            one = env.open(1)
            assert (one.start([0], contexts(level))[0] == frame).all()
            one.close()
    lanes.close()


def test_an_ended_lane_stays_as_it_is_until_it_is_started():
    env = Procgen("leaper")
    lanes = env.open(2)
    lanes.start([0, 1], contexts(0, 1))
    step, ended = None, np.zeros(2, bool)
    for _ in range(env.max_episode_steps):
        lanes.send(np.array([5, 4]))  # one walks into the traffic, the other stays
        step = lanes.receive()
        ended = step.terminated | step.truncated
        if ended[0]:
            break
    assert ended.tolist() == [True, False]
    lanes.send(np.array([3, 4]))
    after = lanes.receive()
    assert (after.observation[0] == step.observation[0]).all() and after.reward[0] == 0
    assert after.terminated[0] == step.terminated[0] and not after.terminated[1]
    lanes.start([0], contexts(5))
    lanes.send(np.array([4, 4]))
    assert not lanes.receive().terminated[0]
    lanes.close()


def test_the_time_limit_truncates_and_the_last_frame_is_the_episodes_own():
    env = Procgen("maze")
    assert env.max_episode_steps == env.shortest_truncation == 500
    frames, rewards = (lambda lanes: play(lanes, 0, 17, np.full(600, 4)))(env.open(1))
    assert len(rewards) == 500 and rewards[-1] == (0, False, True, False)
    assert not any(end or cut for _, end, cut, _ in rewards[:-1])
    assert (frames[-1] == frames[0]).all()  # nobody moved


def test_a_goal_reached_is_solved():
    lanes = Procgen("maze").open(1)
    for seed in range(20):
        _, rewards = play(lanes, 0, 17, np.random.default_rng(seed).integers(0, NUM_ACTIONS, 500))
        assert rewards[-1][3] == (rewards[-1][0] == 10)
        if rewards[-1][3]:
            return
    pytest.fail("random play never found the goal")


def test_levels_far_apart_get_pools_of_their_own_and_idle_ones_are_dropped(monkeypatch):
    monkeypatch.setattr(procgen, "MOST_IDLE", 3)
    lanes = Procgen("bigfish").open(2)
    for turn in range(6):
        lanes.start([0, 1], contexts(turn, 1_000_000 + turn))
    assert all(pool.count == 1 for pool in lanes._pools)
    assert len(lanes._pools) <= 3 + 2 + 2
    lanes.close()


def test_the_last_levels_can_be_played():
    frames = Procgen("maze").open(2).start([0, 1], contexts(LAST_LEVEL, LAST_LEVEL - 1))
    alone = Procgen("maze").open(1).start([0], contexts(LAST_LEVEL))
    np.testing.assert_array_equal(alone[0], frames[0])


def test_a_level_that_is_not_the_expected_one_ends_the_run():
    pool = Pool(Variant("maze", "easy"), [0, 1], 0, 0, 4)
    pool._ahead += 1  # as if EnvPool drew otherwise
    with pytest.raises(RunFailed, match=r"procgen:maze: asked EnvPool for level \d+ and got \d+ at step 0"):
        pool.start(np.array([0]), np.array([1]))


def test_equal_games_are_equal_and_hash_alike():
    assert Procgen("maze") == Procgen("maze") and hash(Procgen("maze")) == hash(Procgen("maze"))
    assert Procgen("maze") != Procgen("maze", "hard") and Procgen("maze") != Procgen("heist")
    assert Procgen("maze").name == "procgen:maze"


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (lambda: Procgen("bigfsh"), "did you mean 'bigfish'"),
        (lambda: Procgen("maze", "memory"), "choose one of easy, hard"),
        (lambda: level_contexts("maze", "easy", [-1]), "from 0 to"),
        (lambda: level_contexts("maze", "easy", []), "from 0 to"),
        (lambda: level_contexts("maze", "easy", [2**31 - 1]), "from 0 to"),
    ],
)
def test_wrong_names_and_levels_are_refused(wrong, message):
    with pytest.raises(BadInput, match=message):
        wrong()


def test_without_envpool_one_line_says_what_to_install(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(BadInput, match=r"EnvPool is not installed; pip install 'epomdp\[procgen\]'"):
        envpool_procgen.load.__wrapped__()


def test_without_opengl_one_line_says_what_to_install(monkeypatch):
    def refuse(name, mode):
        raise OSError("libGL.so.1: cannot open shared object file: No such file or directory")

    monkeypatch.setattr("ctypes.CDLL", refuse)
    monkeypatch.setattr(envpool_procgen.Path, "exists", lambda path: True)
    monkeypatch.setattr(
        "importlib.util.find_spec", lambda name: type("Spec", (), {"submodule_search_locations": ["x"]})
    )
    with pytest.raises(BadInput, match=r"libGL\.so\.1.*apt install libgl1"):
        envpool_procgen._load_qt()
