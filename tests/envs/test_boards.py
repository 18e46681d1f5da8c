"""What board games share: levels hang on seeds alone, views hide nothing, themes mean nothing."""

import functools
import os
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from epomdp.contexts import leaks
from epomdp.envs import boards
from epomdp.envs.boards import levels
from epomdp.envs.check import check_environment
from epomdp.envs.heist import Heist
from epomdp.envs.maze import Maze
from epomdp.envs.registration import GAMES as GAME_NAMES
from epomdp.envs.registration import make_game
from epomdp.errors import BadInput

KEY = jax.random.key(0)
GAMES = pytest.mark.parametrize("game", [Maze, Heist], ids=lambda game: game.name)


def assert_same(one, other):
    jax.tree.map(np.testing.assert_array_equal, one, other)


@functools.cache
def random_play(game, episodes=30, steps=60):
    """States and steps of random actions in the first levels, (n, T, ...); the same actions for every game."""

    def episode(context, actions):
        state, _ = game.reset(KEY, context)

        def act(state, action):
            state, step = game.step(KEY, state, action)
            return state, (state, step)

        return jax.lax.scan(act, state, actions)[1]

    actions = np.random.default_rng(0).integers(0, game.num_actions, (episodes, steps)).astype(np.int32)
    played = jax.jit(jax.vmap(episode))(levels(game, range(episodes)).values, actions)
    return jax.tree.map(np.asarray, played)


@GAMES
@pytest.mark.parametrize("options", [{}, {"view": "centred", "themes": True}], ids=["plain", "all options"])
def test_keeps_the_contract_and_single_compiled_and_batched_steps_agree(game, options):
    game = game(**options)
    report = check_environment(game, levels(game, range(40)))
    assert report.ok, report
    assert report.notes == ()


# Levels


@GAMES
def test_a_level_hangs_on_its_seed_alone(game, monkeypatch):
    game = game(themes=True)
    seeds = np.array([5, 0, 2**32 - 1, 17, 3])
    together = levels(game, seeds)
    for i, seed in enumerate(seeds):
        assert_same(together.context(i), levels(game, [seed]).context(0))
    assert_same(jax.jit(game.generate)(jnp.uint32(17)), together.context(3))
    monkeypatch.setattr(boards, "_CHUNKS", (3,))
    assert levels(game, seeds).describe() == together.describe()
    assert_same(levels(game, seeds[::-1]).values, together[::-1].values)


def test_the_number_of_levels_made_at_once_changes_none_of_them(monkeypatch):
    sizes, generate = [], boards._generate

    def recorded(game, seeds):
        sizes.append(len(seeds))
        return generate(game, seeds)

    monkeypatch.setattr(boards, "_generate", recorded)
    found = [levels(Maze(), range(n)) for n in (16, 100, 129)]
    assert sizes == [16, 128, 1024]
    for few in found[:2]:
        assert few.hashes == found[2].hashes[: len(few)]


def test_levels_do_not_hang_on_the_number_of_devices():
    code = (
        "import jax\n"
        "from epomdp.envs.boards import levels\n"
        "from epomdp.envs.registration import GAMES, make_game\n"
        "for name in GAMES:\n"
        "    print(jax.device_count(), *levels(make_game(name, {}), range(10)).hashes)\n"
    )
    environment = os.environ | {"XLA_FLAGS": "--xla_force_host_platform_device_count=2"}
    command = [sys.executable, "-c", code]
    made = subprocess.run(command, env=environment, check=True, capture_output=True, text=True)
    assert jax.device_count() == 1
    expected = [["2", *levels(make_game(name, {}), range(10)).hashes] for name in GAME_NAMES]
    assert [line.split() for line in made.stdout.splitlines()] == expected


def test_games_do_not_share_their_numbers():
    walls = [
        levels(Maze(), range(50)).values["walls"],
        levels(Heist(), range(50)).values["board"] & 1,
    ]
    assert (walls[0] != walls[1]).any((1, 2)).mean() > 0.9


def test_levels_are_named_and_repeats_are_seen():
    pool = levels(Maze(), [7, 3])
    assert pool.ids == ("maze-7", "maze-3")
    assert leaks(pool, levels(Maze(), [3, 4])) == [("maze-3", "maze-3")]


def test_the_same_maze_elsewhere_on_the_board_is_the_same_content_where_nobody_sees_the_difference():
    pool = levels(Maze(), range(50)).values
    small = np.flatnonzero((pool["walls"][:, 8:].all((1, 2))) & (pool["walls"][:, :, 8:].all((1, 2))))
    level = {name: array[small[0]] for name, array in pool.items()}
    moved = level | {name: level[name] + 2 for name in ("start", "goal")}
    moved |= {name: np.roll(level[name], (2, 2), (0, 1)) for name in ("walls", "way")}
    assert np.array_equal(*(Maze(view="centred").content(each)["seen"] for each in (level, moved)))
    assert not np.array_equal(*(Maze().content(each)["seen"] for each in (level, moved)))


@pytest.mark.parametrize("seeds", [[], [-1], [2**32], [0.5], [1, 1]], ids=str)
def test_bad_seeds(seeds):
    with pytest.raises(BadInput):
        levels(Maze(), seeds)


# Options


@GAMES
@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"size": 10}, "odd"),
        ({"size": 5}, "at least 7"),
        ({"size": 65}, "63"),
        ({"view": "center"}, "did you mean 'centred'"),
        ({"max_episode_steps": 0}, "max_episode_steps"),
    ],
    ids=str,
)
def test_bad_options(game, options, message):
    with pytest.raises(BadInput, match=message):
        game(**options)


def test_equal_games_are_one_static_argument():
    assert Maze() == Maze(11, "board") and hash(Maze()) == hash(Maze(11))
    others = [Heist(), Maze(13), Maze(view="centred"), Maze(themes=True), Maze(max_episode_steps=5), "maze"]
    assert all(other != Maze() for other in others)


@GAMES
def test_planes_are_named_and_binary(game):
    for themes in (False, True):
        env = game(themes=themes)
        assert env.observation.shape == (11, 11, len(env.plane_names))
        assert ("clutter" in env.plane_names) is themes
        _, steps = random_play(env)
        assert steps.observation.dtype == np.uint8
        assert set(np.unique(steps.observation)) == {0, 1}


# Views


def test_roll_is_numpys_for_any_shift():
    board = np.random.default_rng(0).integers(0, 256, (7, 7)).astype(np.uint8)
    rolled = jax.jit(boards.roll)
    for shift in np.random.default_rng(1).integers(-20, 21, (30, 2)):
        np.testing.assert_array_equal(
            rolled(board, jnp.asarray(shift, jnp.int8)), np.roll(board, shift, axis=(0, 1))
        )


@pytest.mark.parametrize("count", [1, 3, 8])
def test_unpack_undoes_pack(count):
    planes = np.random.default_rng(count).integers(0, 2, (count, 5, 5))
    np.testing.assert_array_equal(boards.unpack(boards.pack(planes), count), np.moveaxis(planes, 0, -1))


@GAMES
def test_the_centred_view_is_the_board_rolled_with_the_agent_in_the_middle(game):
    plain, centred = game(themes=True), game(themes=True, view="centred")
    states, steps = random_play(plain)
    centred_states, centred_steps = random_play(centred)
    assert_same(states, centred_states)
    agent = plain.plane_names.index("agent")
    for episode in range(30):
        for t in range(0, 60, 7):
            seen = centred_steps.observation[episode, t]
            assert seen[5, 5, agent] == 1 and seen[..., agent].sum() == 1
            back = np.roll(seen, states.agent[episode, t] - 5, axis=(0, 1))
            np.testing.assert_array_equal(back, steps.observation[episode, t])


# Themes


@GAMES
def test_themes_change_neither_levels_nor_rules(game):
    plain, themed = random_play(game()), random_play(game(themes=True))
    states = [played[0]._replace(context=None) for played in (plain, themed)]
    assert_same(*states)
    np.testing.assert_array_equal(plain[1].observation, themed[1].observation[..., :-1])
    for field in ("reward", "terminated", "truncated"):
        np.testing.assert_array_equal(getattr(plain[1], field), getattr(themed[1], field))
    clutter = themed[1].observation[..., -1]
    np.testing.assert_array_equal(clutter, np.broadcast_to(clutter[:, :1], clutter.shape))


@GAMES
def test_clutter_differs_between_levels_and_not_in_the_hash(game):
    plain, themed = (levels(g, range(400)) for g in (game(), game(themes=True)))
    assert plain.hashes == themed.hashes
    clutter = themed.values["clutter"]
    assert len(np.unique(clutter, axis=0)) == 400
    # Densities are uniform in [0.1, 0.5]: mean 0.3, deviation 0.115, and 0.04 of binomial noise.
    density = clutter.mean((1, 2))
    assert abs(density.mean() - 0.3) < 0.025 and 0.1 < density.std() < 0.15
