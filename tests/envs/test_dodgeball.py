"""Dodgeball: rules in rooms made by hand, levels, and a player who knows the course and solves every level."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from epomdp.envs.boards import levels
from epomdp.envs.check import check_environment
from epomdp.envs.dodgeball import Dodgeball
from epomdp.errors import BadInput

KEY = jax.random.key(0)
UP, DOWN, LEFT, RIGHT, STAY, THROW = range(6)
GAME = Dodgeball()
N = 11


@pytest.fixture(scope="module")
def pool():
    return levels(GAME, range(2000))


@pytest.fixture(scope="module")
def step():
    return jax.jit(GAME.step)


def square(row, column):
    return row * N + column


def room(you, facing=RIGHT, enemies=(), lava=(), balls=(), steps=4, pace=6, exit_=(9, 9)):
    """A state in an empty room; the enemies' turns are far unless `steps` says otherwise.

    Balls are (whose, (row, column), heading), whose 0 to 3 for enemies and 4 for yours.
    """
    board = np.zeros((N, N), np.uint8)
    board[[0, -1]] = board[:, [0, -1]] = 1
    for place in lava:
        board[place] = 1
    places = np.full(4, -1, np.int16)
    places[: len(enemies)] = [square(*place) for place in enemies]
    context = {
        "lava": board,
        "start": np.int16(square(*you)),
        "facing": np.int8(facing),
        "exit": np.int16(square(*exit_)),
        "enemies": places,
        "pace": np.int8(pace),
        "stream": np.uint32(0),
    }
    state, _ = GAME.reset(KEY, context)
    where, headings = np.full(5, -1, np.int16), np.zeros(5, np.int8)
    for whose, place, heading in balls:
        where[whose], headings[whose] = square(*place), heading
    return state._replace(balls=jnp.asarray(where), headings=jnp.asarray(headings), steps=jnp.int32(steps))


def play(step, state, *actions):
    """The last state and its step, and all rewards."""
    rewards = []
    for action in actions:
        state, shown = step(KEY, state, action)
        rewards.append(float(shown.reward))
    return state, shown, rewards


def plane(shown, name):
    return np.asarray(shown.observation)[..., GAME.plane_names.index(name)]


# Rules


@pytest.mark.parametrize("action, beside", [(UP, (4, 5)), (DOWN, (6, 5)), (LEFT, (5, 4)), (RIGHT, (5, 6))])
def test_lava_and_enemies_are_the_end_and_floor_is_not(step, action, beside):
    state, shown, _ = play(step, room((5, 5), enemies=[(9, 1)]), action)
    assert not bool(shown.terminated) and int(state.square) == square(*beside) and int(state.facing) == action
    for deadly in (room((5, 5), lava=[beside], enemies=[(9, 1)]), room((5, 5), enemies=[beside])):
        state, shown, rewards = play(step, deadly, action)
        assert bool(shown.terminated) and rewards == [0] and not bool(GAME.solved(state, shown))


@pytest.mark.parametrize("facing, far", [(UP, (1, 5)), (DOWN, (9, 5)), (LEFT, (5, 1)), (RIGHT, (5, 9))])
def test_a_throw_hits_what_you_face(step, facing, far):
    others = [(9, 1), far]
    state, _, rewards = play(step, room((5, 5), facing, others, steps=2), THROW, STAY)
    assert rewards == [0, 2] and state.enemies.tolist() == [square(9, 1), -1, -1, -1]
    assert state.balls.tolist()[-1] == -1
    # Lava in between stops the ball.
    wall = ((5 + far[0]) // 2, (5 + far[1]) // 2)
    state, _, rewards = play(step, room((5, 5), facing, others, [wall], steps=2), THROW, STAY)
    assert rewards == [0, 0] and state.balls.tolist()[-1] == -1


def test_one_ball_at_a_time(step):
    state, _, _ = play(step, room((1, 1), RIGHT, [(8, 9)], pace=9), THROW)
    assert int(state.balls[-1]) == square(1, 3)
    state, _, _ = play(step, state, THROW)
    assert int(state.balls[-1]) == square(1, 5)
    state, _, _ = play(step, state, STAY, STAY)
    assert int(state.balls[-1]) == square(1, 9)
    state, _, _ = play(step, state, STAY)
    assert int(state.balls[-1]) == -1


@pytest.mark.parametrize("enemy, heading", [((5, 1), RIGHT), ((5, 9), LEFT), ((1, 5), DOWN), ((9, 5), UP)])
def test_an_enemy_in_line_holds_a_ball_a_step_and_then_it_flies(step, enemy, heading):
    state, shown, _ = play(
        step, room((5, 5), enemies=[enemy], steps=6), STAY
    )  # step 6 is the first one's turn
    assert int(state.balls[0]) == square(*enemy) and int(state.headings[0]) == heading
    name = f"balls {GAME.action_names[heading]}"
    assert plane(shown, name)[enemy] == 2 and plane(shown, name).sum() == 2
    state, shown, _ = play(step, state, STAY)
    assert not bool(shown.terminated)
    assert bool(play(step, state, STAY)[1].terminated)
    aside = LEFT if heading in (UP, DOWN) else UP
    state, shown, _ = play(step, state, aside, STAY, STAY)
    assert not bool(shown.terminated)


def test_an_enemy_out_of_line_walks_on_its_turn_only_and_not_into_things(step):
    beside = [(3, 6), (5, 6), (4, 5), (4, 7)]
    for steps in range(6, 12):
        start = room((9, 1), enemies=[(4, 6)], steps=steps)
        state, _, _ = play(step, start, STAY)
        moved = int(state.enemies[0]) != square(4, 6)
        assert moved == (steps == 6) and (not moved or int(state.enemies[0]) in [square(*p) for p in beside])
    shut, _, _ = play(step, room((9, 1), enemies=[(4, 6)], lava=beside, steps=6), STAY)
    assert int(shut.enemies[0]) == square(4, 6)


def test_walking_into_a_ball_is_the_end(step):
    state = room((5, 5), enemies=[(9, 1)], balls=[(0, (5, 6), UP)])
    assert bool(play(step, state, RIGHT)[1].terminated)
    assert not bool(play(step, state, STAY)[1].terminated)


def test_the_exit_opens_with_the_last_hit(step):
    closed = room((5, 5), enemies=[(5, 9)], exit_=(5, 6), steps=2)
    state, shown, rewards = play(step, closed, RIGHT)
    assert not bool(shown.terminated) and plane(shown, "exit")[5, 6] == 1 and rewards == [0]
    state, shown, rewards = play(step, state, LEFT, RIGHT, THROW)
    assert rewards == [0, 0, 0] and not bool(shown.terminated)
    state, shown, rewards = play(step, state, STAY)
    assert rewards == [12] and bool(shown.terminated) and bool(GAME.solved(state, shown))
    later, shown, rewards = play(step, state, LEFT)
    assert rewards == [0] and bool(GAME.solved(later, shown))
    jax.tree.map(np.testing.assert_array_equal, later, state)


def test_hit_on_the_open_exit_is_no_solution(step):
    state = room((5, 5), exit_=(5, 6), balls=[(0, (4, 6), DOWN)])
    state, shown, rewards = play(step, state, RIGHT)
    assert rewards == [0] and bool(shown.terminated) and not bool(GAME.solved(state, shown))


def test_the_limit_truncates(step):
    _, shown, _ = play(step, room((1, 1), enemies=[(9, 9)], steps=GAME.max_episode_steps - 1), STAY)
    assert bool(shown.truncated) and not bool(shown.terminated)


# Observations


def test_the_board_shows_the_state():
    state = room(
        (5, 5), LEFT, [(2, 7), (8, 3)], [(4, 4)], [(4, (3, 3), UP), (1, (3, 3), UP), (0, (6, 8), LEFT)]
    )
    state = state._replace(
        steps=jnp.int32(13)
    )  # 13 % 6 == 1: the second one's turn is next, the first's in 6
    expected = np.zeros((N, N, 8), int)
    expected[[0, -1], :, 0] = expected[:, [0, -1], 0] = expected[4, 4, 0] = 1
    expected[9, 9, 1] = 1
    expected[5, 4:6, 2] = 1, 2
    expected[2, 7, 3], expected[8, 3, 3] = 6, 1
    expected[3, 3, 4], expected[6, 8, 6] = 3, 2
    np.testing.assert_array_equal(GAME.observe(state), expected)
    picture = np.asarray(GAME.picture(state))
    names = {tuple(p): GAME.tiles[picture[tuple(p)]].name for p in np.argwhere(picture[1:-1, 1:-1]) + 1}
    things = {(4, 4): "lava", (9, 9): "closed exit", (5, 5): "you, facing left", (2, 7): "enemy"}
    balls = {(3, 3): "an enemy's ball, flying up", (6, 8): "an enemy's ball, flying left"}
    assert names == things | {(8, 3): "enemy"} | balls


def test_views_show_the_same_and_themes_mean_nothing(pool, step):
    centred = Dodgeball(view="centred", themes=True)
    step_centred = jax.jit(centred.step)
    themed = levels(centred, range(20))
    for i in range(3):
        one, seen = GAME.reset(KEY, pool.context(i))
        other, board = centred.reset(KEY, themed.context(i))
        for action in (THROW, STAY, UP, LEFT):
            shift = N // 2 - np.asarray(GAME.agent(one))
            np.testing.assert_array_equal(np.roll(seen, shift, (0, 1)), board[..., :8])
            np.testing.assert_array_equal(np.roll(themed.context(i)["clutter"], shift, (0, 1)), board[..., 8])
            one, shown = step(KEY, one, action)
            other, other_shown = step_centred(KEY, other, action)
            seen, board = shown.observation, other_shown.observation
            assert shown[1:] == other_shown[1:]
    assert themed.hashes == pool[:20].hashes


# Levels


def test_a_level_is_its_seed_and_no_two_are_the_same(pool):
    layouts = {b"".join(pool.values[n][i].tobytes() for n in ("lava", "start", "exit")) for i in range(2000)}
    assert len(layouts) == len(set(pool.hashes)) == len(pool)
    some = levels(GAME, [1999, 7, 1024])
    assert some.hashes == tuple(pool.hashes[i] for i in (1999, 7, 1024))
    alone = jax.tree.map(np.asarray, GAME.generate(np.uint32(7)))
    jax.tree.map(np.testing.assert_array_equal, alone, pool.context(7))


@pytest.mark.parametrize("size", [9, 11, 15])
def test_everything_stands_on_one_floor(size):
    values = levels(Dodgeball(size), range(300)).values
    counts = set()
    for i in range(300):
        floor = np.flatnonzero(values["lava"][i] == 0).tolist()
        reached, edge = {floor[0]}, [floor[0]]
        while edge:
            here = edge.pop()
            new = ({here - size, here + size, here - 1, here + 1} & set(floor)) - reached
            reached |= new
            edge += new
        assert reached == set(floor)
        enemies = [e for e in values["enemies"][i].tolist() if e >= 0]
        things = [*enemies, int(values["start"][i]), int(values["exit"][i])]
        assert len(set(things)) == len(things) and set(things) <= reached
        counts.add(len(enemies))
    assert counts == {2, 3, 4}


def test_the_contract():
    for game in (GAME, Dodgeball(view="centred", themes=True)):
        report = check_environment(game, levels(game, range(30)), steps=4)
        assert report.ok, str(report)


@pytest.mark.parametrize("size", [8, 26])
def test_bad_sizes(size):
    with pytest.raises(BadInput, match="from 9 to 25"):
        Dodgeball(size)


def test_the_start_is_safe_and_the_key_means_nothing(pool):
    def stay(key, context):
        state, _ = GAME.reset(key, context)
        return jax.lax.scan(lambda s, k: GAME.step(k, s, jnp.int32(STAY)), state, jax.random.split(key, 12))

    values = jax.tree.map(jnp.asarray, pool.values)
    run = jax.jit(jax.vmap(stay))
    one, other = (run(jax.random.split(jax.random.key(seed), len(pool)), values) for seed in (0, 1))
    assert not np.asarray(one[0].terminated).any()
    jax.tree.map(np.testing.assert_array_equal, one, other)


def test_an_enemy_s_ball_is_gone_before_its_next_turn(pool):
    # So the owner of a ball, which the board does not show, does not matter.
    def episode(key, context):
        state, _ = GAME.reset(key, context)

        def act(state, key):
            action = jax.random.choice(key, jnp.asarray([STAY, STAY, STAY, THROW]))
            flying = (state.balls[:4] >= 0) & (jnp.arange(4) == state.steps % context["pace"])
            return GAME.step(key, state, action)[0], (flying.any(), (state.balls[:4] >= 0).any())

        return jax.lax.scan(act, state, jax.random.split(key, 60))[1]

    values = jax.tree.map(lambda x: jnp.asarray(x[:500]), pool.values)
    flying, thrown = jax.jit(jax.vmap(episode))(jax.random.split(KEY, 500), values)
    assert np.asarray(thrown).any() and not np.asarray(flying).any()


def test_who_knows_the_course_solves_every_level(pool):
    # Beam search through `step`: the best state for each square, facing, number of enemies and ball is kept.
    number, width = 200, 128
    values = jax.tree.map(lambda x: jnp.repeat(x[:number, None], width, 1), pool.values)
    state, _ = jax.vmap(jax.vmap(lambda c: GAME.reset(KEY, c)))(values)
    actions = jnp.tile(jnp.arange(6), width)

    def better(state, key):
        many = jax.tree.map(lambda x: jnp.repeat(x, 6, 0), state)
        after, step = jax.vmap(lambda s, a: GAME.step(KEY, s, a))(many, actions)
        won = jax.vmap(GAME.solved)(after, step)
        left = (after.enemies >= 0).sum(1)
        goal = jnp.where(left > 0, after.enemies.max(1), after.context["exit"])
        far = jnp.abs(goal // N - after.square // N) + jnp.abs(goal % N - after.square % N)
        score = 100.0 * (4 - left) - far / 8 + 1000.0 * won + jax.random.uniform(key, actions.shape)
        score = jnp.where(after.terminated & ~won, -1.0, score)
        cell = ((after.square * 4 + after.facing).astype(int) * 5 + left) * 2 + (after.balls[:, -1] >= 0)
        best = jnp.full(N * N * 40, -jnp.inf).at[cell].max(score)
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
