"""Maze: perfect mazes, the rules, and optimal play against a breadth-first search of its own."""

from collections import deque

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from epomdp.envs.boards import levels
from epomdp.envs.maze import Maze, carve, edge_count

KEY = jax.random.key(0)
DELTAS = [(-1, 0), (1, 0), (0, -1), (0, 1)]  # up, down, left, right
N = 300


def search(walls, goal):
    """Moves to the goal from every floor square that leads there."""
    distance = {tuple(goal): 0}
    queue = deque(distance)
    while queue:
        row, column = queue.popleft()
        for down, right in DELTAS:
            beside = (row + down, column + right)
            if not walls[beside] and beside not in distance:
                distance[beside] = distance[row, column] + 1
                queue.append(beside)
    return distance


@pytest.fixture(scope="module")
def pool():
    return levels(Maze(), range(N))


def each(pool):
    values = pool.values
    for i in range(len(pool)):
        yield values["walls"][i], tuple(values["start"][i].tolist()), tuple(values["goal"][i].tolist())


# Levels


def test_mazes_are_perfect(pool):
    # A tree: all floor is reached from the goal, and joints between squares are one fewer than squares.
    for walls, start, goal in each(pool):
        floor = walls == 0
        joints = (floor[1:] & floor[:-1]).sum() + (floor[:, 1:] & floor[:, :-1]).sum()
        assert joints == floor.sum() - 1
        assert len(search(walls, goal)) == floor.sum()
        assert not floor[[0, -1]].any() and not floor[:, [0, -1]].any()
        assert floor[start] and floor[goal] and start != goal


@pytest.mark.parametrize("size", [7, 15])
def test_mazes_of_other_sizes_are_solvable_within_the_limit(size):
    game = Maze(size)
    sides = set()
    for walls, start, goal in each(levels(game, range(100))):
        assert search(walls, goal)[start] < game.max_episode_steps
        sides.add(int(np.sqrt(((walls[1::2, 1::2]) == 0).sum())))
    assert sides == set(range(3, (size - 1) // 2 + 1))


def test_sides_and_places_vary_evenly(pool):
    cells = [walls[1::2, 1::2] == 0 for walls, _, _ in each(levels(Maze(), range(1000)))]
    sides = np.bincount([round(np.sqrt(c.sum())) for c in cells])[3:]
    assert len(sides) == 3 and (abs(sides - 1000 / 3) < 5 * np.sqrt(1000 * 2 / 9)).all()
    corners = {tuple(np.argwhere(c)[0].tolist()) for c in cells if c.sum() == 9}
    assert corners == {(i, j) for i in range(3) for j in range(3)}


def test_start_and_goal_are_cells_a_third_of_the_furthest_apart(pool):
    for walls, start, goal in each(pool):
        away = search(walls, start)
        cells = [d for (row, column), d in away.items() if row % 2 and column % 2]
        assert start[0] % 2 and start[1] % 2 and goal[0] % 2 and goal[1] % 2
        assert 3 * away[goal] >= max(cells)


def test_carving_is_kruskals_algorithm():
    size, most = 11, 5
    carved = jax.jit(carve, static_argnums=1)
    for seed in range(30):
        random = np.random.default_rng(seed).random(3 + edge_count(size), dtype=np.float32)
        random[0] = 0.999  # the largest side
        walls = np.asarray(carved(random, size)[0])
        across = [((i, j), (i, j + 1)) for i in range(most) for j in range(most - 1)]
        down = [((i, j), (i + 1, j)) for i in range(most - 1) for j in range(most)]
        part = {(i, j): (i, j) for i in range(most) for j in range(most)}
        expected = np.ones((size, size))
        expected[1::2, 1::2] = 0
        for _, (a, b) in sorted(zip(random[3:], across + down, strict=True)):
            one, other = part[a], part[b]
            if one != other:
                part = {cell: one if of == other else of for cell, of in part.items()}
                expected[a[0] + b[0] + 1, a[1] + b[1] + 1] = 0
        np.testing.assert_array_equal(walls, expected)


def test_few_levels_are_the_same():
    assert len(set(levels(Maze(), range(2000)).hashes)) >= 1980


# Rules


def rollout(game, pool, length):
    """Optimal play in every level: positions before each step, rewards, flags."""

    def episode(context):
        state, _ = game.reset(KEY, context)

        def act(state, _):
            action = game.optimal(state)
            after, step = game.step(KEY, state, action)
            return after, (
                step.reward,
                step.terminated,
                game.mistake(state, action),
                game.solved(after, step),
            )

        return jax.lax.scan(act, state, length=length)[1]

    return [np.asarray(x) for x in jax.jit(jax.vmap(episode))(pool.values)]


def test_optimal_play_solves_every_level_in_the_distance_that_search_finds(pool):
    reward, terminated, mistake, solved = rollout(Maze(), pool, 60)
    for i, (walls, start, goal) in enumerate(each(pool)):
        distance = search(walls, goal)[start]
        assert terminated[i].argmax() + 1 == distance and solved[i, -1]
        assert reward[i].sum() == reward[i, distance - 1] == 10
        assert not mistake[i, :distance].any()


def test_a_mistake_is_a_move_that_does_not_lead_closer(pool):
    game = Maze()
    state, _ = jax.vmap(game.reset, (None, 0))(KEY, pool.values)

    @jax.jit
    @jax.vmap
    def mistakes(state, agent):
        return jax.vmap(game.mistake, (None, 0))(state._replace(agent=agent), jnp.arange(4))

    draw = np.random.default_rng(0)
    agents, expected = [], []
    for walls, _, goal in each(pool):
        distance = search(walls, goal)
        places = [place for place in distance if place != goal]
        row, column = places[draw.integers(len(places))]
        after = [distance.get((row + down, column + right), np.inf) for down, right in DELTAS]
        agents.append((row, column))
        expected.append([d != distance[row, column] - 1 for d in after])
    np.testing.assert_array_equal(mistakes(state, jnp.asarray(agents, jnp.int8)), expected)


def test_every_move_goes_where_it_says_unless_there_is_a_wall(pool):
    game = Maze()
    step = jax.jit(game.step)
    for i, (walls, start, goal) in enumerate(each(pool[:20])):
        state, seen = game.reset(KEY, pool.context(i))
        for action, (down, right) in enumerate(DELTAS):
            beside = (start[0] + down, start[1] + right)
            after, shown = step(KEY, state, jnp.int32(action))
            assert tuple(after.agent.tolist()) == (start if walls[beside] else beside)
            assert float(shown.reward) == 0 and not shown.terminated
            assert bool((shown.observation == seen).all()) == bool(walls[beside])
        np.testing.assert_array_equal(seen[..., 0], walls)
        assert np.argwhere(seen[..., 1]).tolist() == [list(goal)]
        assert np.argwhere(seen[..., 2]).tolist() == [list(start)]


def test_truncated_at_the_limit_but_not_when_the_goal_is_reached_with_it(pool):
    walls, start, goal = next(each(pool))
    distance = search(walls, goal)[start]
    for limit, terminates in ((distance, True), (distance - 1, False)):
        game = Maze(max_episode_steps=limit)
        step = jax.jit(game.step)
        state, _ = game.reset(KEY, pool.context(0))
        for _ in range(limit):
            assert not state.truncated and not state.terminated
            state, shown = step(KEY, state, game.optimal(state))
        assert (bool(shown.terminated), bool(shown.truncated)) == (terminates, not terminates)


def test_the_picture_shows_every_square(pool):
    game = Maze()
    for i, (walls, start, goal) in enumerate(each(pool[:20])):
        names = np.array([tile.name for tile in game.tiles])
        expected = np.where(walls, "wall", "floor").astype(object)
        expected[goal], expected[start] = "goal", "agent"
        picture = np.asarray(game.picture(game.reset(KEY, pool.context(i))[0]))
        np.testing.assert_array_equal(names[picture], expected)
