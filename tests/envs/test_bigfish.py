"""Bigfish: rules on seas made by hand, levels, and a player who knows the course and solves every level."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from epomdp.envs.bigfish import QUOTA, Bigfish
from epomdp.envs.boards import levels
from epomdp.envs.check import check_environment

KEY = jax.random.key(0)
UP, DOWN, LEFT, RIGHT, STAY = range(5)
GAME = Bigfish()
N = 11


@pytest.fixture(scope="module")
def pool():
    return levels(GAME, range(2000))


@pytest.fixture(scope="module")
def step():
    return jax.jit(GAME.step)


def sea(pool, you, fish=(), meals=0, steps=0):
    """A state with you at a square and fish (row, column, size, heading, period, wait); none come in."""
    context = pool.context(0) | {"rate": np.int8(0)}
    state, _ = GAME.reset(KEY, context)
    table = np.zeros((5, N), np.int8)
    table[2:] = 1
    for row, column, *rest in fish:
        table[:, row] = (rest[0], column, *rest[1:])
    names = ("fish", "column", "heading", "period", "wait")
    return state._replace(
        position=jnp.asarray(you, jnp.int8),
        meals=jnp.int8(meals),
        steps=jnp.int32(steps),
        **dict(zip(names, jnp.asarray(table), strict=True)),
    )


def plane(shown, name):
    return np.asarray(shown)[..., GAME.plane_names.index(name)]


# Rules


def test_eating_touching_and_growing(pool, step):
    smaller = sea(pool, (5, 5), [(5, 6, 1, 1, 3, 3)])
    state, shown = step(KEY, smaller, RIGHT)
    assert (float(shown.reward), bool(shown.terminated), int(state.meals)) == (1, False, 1)
    assert int(state.fish[5]) == 0 and plane(shown.observation, "meals").all()
    for size in (2, 3, 5):
        state, shown = step(KEY, sea(pool, (5, 5), [(5, 6, size, 1, 3, 3)]), RIGHT)
        assert (float(shown.reward), bool(shown.terminated)) == (0, True)
        assert not GAME.solved(state, shown)
    state, shown = step(KEY, sea(pool, (5, 5), [(5, 6, 1, 1, 3, 3)], meals=1), RIGHT)
    assert (plane(shown.observation, "your size") == 3).all()
    assert not plane(shown.observation, "meals").any()


@pytest.mark.parametrize("action, column, heading", [(LEFT, 4, 1), (RIGHT, 6, -1), (STAY, 4, 1), (UP, 5, 1)])
def test_nobody_swims_through_anybody(pool, step, action, column, heading):
    row = 4 if action == UP else 5
    _, shown = step(KEY, sea(pool, (5, 5), [(row, column, 4, heading, 1, 1)]), action)
    assert bool(shown.terminated)
    _, shown = step(KEY, sea(pool, (5, 5), [(row, column, 4, heading, 1, 1)]), DOWN)
    assert not bool(shown.terminated)


def test_the_last_meal_solves(pool, step):
    last = sea(pool, (5, 5), [(5, 6, 4, 1, 3, 3)], meals=QUOTA - 1)
    state, shown = step(KEY, last, RIGHT)
    assert (float(shown.reward), bool(shown.terminated), bool(shown.truncated)) == (11, True, False)
    assert bool(GAME.solved(state, shown))
    again, later = step(KEY, state, LEFT)
    assert float(later.reward) == 0 and bool(GAME.solved(again, later))
    jax.tree.map(np.testing.assert_array_equal, again, state)


def test_fish_keep_their_pace_and_leave(pool, step):
    state = sea(pool, (0, 5), [(4, 2, 3, -1, 1, 1), (6, 2, 3, 1, 3, 2)])
    seen = []
    for _ in range(6):
        seen.append((int(state.fish[4] and state.column[4] + 1), int(state.column[6]), int(state.wait[6])))
        state, _ = step(KEY, state, STAY)
    assert seen == [(3, 2, 2), (2, 2, 1), (1, 3, 3), (0, 3, 2), (0, 3, 1), (0, 4, 3)]


def test_the_edge_holds_you_and_the_limit_ends(pool, step):
    for you, action in (((0, 5), UP), ((N - 1, 5), DOWN), ((5, 0), LEFT), ((5, N - 1), RIGHT)):
        state, _ = step(KEY, sea(pool, you), action)
        assert tuple(state.position.tolist()) == you
    _, shown = step(KEY, sea(pool, (5, 5), steps=GAME.max_episode_steps - 1), STAY)
    assert bool(shown.truncated) and not bool(shown.terminated)


def test_fish_come_in_at_the_ends_of_empty_rows_but_never_beside_you(pool):
    # Every row of every level, whatever the stream: what is new is at an end, and as its species has it.
    values = jax.tree.map(jnp.asarray, pool.values) | {"rate": jnp.full(len(pool), 16, jnp.int8)}
    edge = jnp.asarray([5, 1], jnp.int8)

    def one(context):
        state, _ = GAME.reset(KEY, context)
        before = state._replace(position=edge, fish=jnp.zeros(N, jnp.int8), meals=jnp.int8(0))
        return GAME.step(KEY, before, jnp.int32(STAY))[0]

    after = jax.tree.map(np.asarray, jax.jit(jax.vmap(one))(values))
    new = after.fish > 0
    assert (new.sum(1) <= 1).all() and new.any(0).all()
    assert (after.column[new] == np.where(after.heading[new] > 0, 0, N - 1)).all()
    assert not (new[:, 5] & (after.heading[:, 5] > 0)).any() and (new[:, 5]).any()
    level = np.nonzero(new)[0]
    species = pool.values["species"][level] == after.fish[new][:, None]
    assert (species & (pool.values["periods"][level] == after.period[new][:, None])).any(1).all()
    assert (after.wait[new] == after.period[new]).all()
    rightward = (after.heading[new] > 0).mean()
    assert abs(rightward - pool.values["rightward"].mean() / 16) < 5 / np.sqrt(len(level))


# Observations


def test_the_board_shows_the_state(pool, step):
    fish = [(2, 3, 4, 1, 3, 2), (7, 9, 1, -1, 2, 1)]
    _, shown = step(KEY, sea(pool, (4, 4), fish, meals=3), STAY)
    expected = np.zeros((N, N, 8), int)
    expected[..., 1], expected[..., 2] = 3, 1
    expected[[0, -1], :, 3] = expected[:, [0, -1], 3] = 1
    expected[4, 4, 0] = 1
    expected[2, 3, 5:] = 4, 3, 1
    expected[7, 8, [4, 6, 7]] = 1, 2, 2
    np.testing.assert_array_equal(shown.observation, expected)


def test_views_show_the_same_and_themes_mean_nothing(pool, step):
    centred = Bigfish(view="centred", themes=True)
    step_centred = jax.jit(centred.step)
    themed = levels(centred, range(20))
    for i in range(3):
        one, seen = GAME.reset(KEY, pool.context(i))
        other, board = centred.reset(KEY, themed.context(i))
        for action in (DOWN, LEFT, LEFT, STAY):
            shift = N // 2 - np.asarray(one.position)
            np.testing.assert_array_equal(np.roll(seen, shift, (0, 1)), board[..., :8])
            np.testing.assert_array_equal(np.roll(themed.context(i)["clutter"], shift, (0, 1)), board[..., 8])
            one, shown = step(KEY, one, action)
            other, other_shown = step_centred(KEY, other, action)
            seen, board = shown.observation, other_shown.observation
            assert shown[1:] == other_shown[1:]
    assert themed.hashes == pool[:20].hashes


def test_the_picture_shows_what_the_planes_show(pool):
    state = sea(pool, (4, 4), [(2, 3, 4, 1, 3, 2), (7, 9, 1, -1, 2, 1)], meals=3)
    picture = np.asarray(GAME.picture(state))
    names = {(r, c): GAME.tiles[picture[r, c]].name for r, c in np.argwhere(picture)}
    right, left = "fish of size 4 to the right", "fish of size 1 to the left"
    assert names == {(4, 4): "you, size 3", (2, 3): right, (7, 9): left}


# Levels


def test_a_level_is_its_seed_and_no_two_are_the_same(pool):
    assert len(set(pool.hashes)) == len(pool)
    first = {pool.values[n][:].tobytes() for n in ("fish", "column", "stream")}
    assert len(first) == 3
    assert len({row.tobytes() for row in np.c_[pool.values["fish"], pool.values["column"]]}) > 1990
    some = levels(GAME, [1999, 7, 1024])
    assert some.hashes == tuple(pool.hashes[i] for i in (1999, 7, 1024))
    alone = jax.tree.map(np.asarray, GAME.generate(np.uint32(7)))
    jax.tree.map(np.testing.assert_array_equal, alone, pool.context(7))


def test_the_contract():
    for game in (GAME, Bigfish(view="centred", themes=True)):
        report = check_environment(game, levels(game, range(30)), steps=4)
        assert report.ok, str(report)


def test_the_start_is_safe_and_the_key_means_nothing(pool):
    def stay(key, context):
        state, _ = GAME.reset(key, context)
        return jax.lax.scan(lambda s, k: GAME.step(k, s, jnp.int32(STAY)), state, jax.random.split(key, 3))

    values = jax.tree.map(jnp.asarray, pool.values)
    play = jax.jit(jax.vmap(stay))
    one, other = (play(jax.random.split(jax.random.key(seed), len(pool)), values) for seed in (0, 1))
    assert not np.asarray(one[0].terminated).any()
    jax.tree.map(np.testing.assert_array_equal, one, other)


def test_who_knows_the_course_solves_every_level(pool):
    # Beam search through `step`: states with the most meals, one for each square and number of meals.
    number, width = 200, 128
    values = jax.tree.map(lambda x: jnp.repeat(x[:number, None], width, 1), pool.values)
    state, _ = jax.vmap(jax.vmap(lambda c: GAME.reset(KEY, c)))(values)
    actions = jnp.tile(jnp.arange(5), width)

    def better(state, key):
        many = jax.tree.map(lambda x: jnp.repeat(x, 5, 0), state)
        after, step = jax.vmap(lambda s, a: GAME.step(KEY, s, a))(many, actions)
        won = jax.vmap(GAME.solved)(after, step)
        score = 2.0 * after.meals + 1000.0 * won + jax.random.uniform(key, actions.shape)
        score = jnp.where(after.terminated & ~won, -1.0, score)
        cell = after.meals.astype(int) * N * N + after.position[:, 0].astype(int) * N + after.position[:, 1]
        best = jnp.full((QUOTA + 1) * N * N, -jnp.inf).at[cell].max(score)
        kept = jax.lax.top_k(jnp.where(score == best[cell], score, -2.0), width)[1]
        return jax.tree.map(lambda x: x[kept], after), won.any()

    search = jax.jit(jax.vmap(better))
    solved = np.zeros(number, bool)
    for t in range(GAME.max_episode_steps):
        state, won = search(state, jax.random.split(jax.random.key(t), number))
        solved |= np.asarray(won)
        if solved.all():
            break
    assert solved.all(), f"not solved: {np.nonzero(~solved)[0]}"
