"""Heist: chains of keys and locks, the rules, and optimal play against a search over all of its states."""

from collections import deque
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from epomdp.envs.boards import levels
from epomdp.envs.heist import Heist

KEY = jax.random.key(0)
DELTAS = [(-1, 0), (1, 0), (0, -1), (0, 1)]  # up, down, left, right
N = 300


class Plan(NamedTuple):
    """A level as its picture shows it; keys and locks by place, with their colours."""

    walls: np.ndarray
    start: tuple
    gem: tuple
    keys: dict
    locks: dict

    def move(self, place, held, action):
        """The rules, told once more: where a move leads, and the colours then in hand."""
        target = (place[0] + DELTAS[action][0], place[1] + DELTAS[action][1])
        if self.walls[target] or (target in self.locks and self.locks[target] not in held):
            return place, held
        return target, held | {self.keys[target]} if target in self.keys else held

    def reach(self, held=frozenset(), keys=True):
        """Moves from the start to every (place, keys in hand); without `keys`, none are taken."""
        first = (self.start, held)
        distance = {first: 0}
        queue = deque([first])
        while queue:
            place, held = queue.popleft()
            for action in range(4):
                after, taken = self.move(place, held, action)
                following = (after, taken if keys else held)
                if following not in distance and place != self.gem:
                    distance[following] = distance[place, held] + 1
                    queue.append(following)
        return distance

    def to_gem(self):
        """Moves to the gem from every (place, keys in hand) that can be reached."""
        states = self.reach()
        before = {state: [] for state in states}
        for place, held in states:
            if place != self.gem:
                for action in range(4):
                    before[self.move(place, held, action)].append((place, held))
        distance = {state: 0 for state in states if state[0] == self.gem}
        queue = deque(distance)
        while queue:
            state = queue.popleft()
            for earlier in before[state]:
                if earlier not in distance:
                    distance[earlier] = distance[state] + 1
                    queue.append(earlier)
        return distance


def plan(game, context):
    picture = np.asarray(game.picture(game.reset(KEY, context)[0]))
    names = np.array([tile.name for tile in game.tiles], object)[picture]
    things = {tuple(square): names[tuple(square)] for square in np.argwhere(picture > 1).tolist()}
    keys, locks = (
        {place: name.split()[0] for place, name in things.items() if name.endswith(kind)}
        for kind in (" key", " lock")
    )
    (start,) = (place for place, name in things.items() if name == "agent")
    (gem,) = (place for place, name in things.items() if name == "gem")
    return Plan(names == "wall", start, gem, keys, locks)


@pytest.fixture(scope="module")
def pool():
    return levels(Heist(), range(N))


@pytest.fixture(scope="module")
def plans(pool):
    return [plan(Heist(), pool.context(i)) for i in range(N)]


# Levels


def test_levels_have_none_to_three_locks_in_the_order_of_the_colours(plans):
    counts = np.bincount([len(level.locks) for level in plans])
    assert len(counts) == 4 and counts.min() >= N // 10
    for level in plans:
        colours = ["red", "green", "blue"][: len(level.locks)]
        assert sorted(level.keys.values()) == sorted(level.locks.values()) == sorted(colours)


def test_every_key_lies_before_its_lock_and_behind_the_one_before(plans):
    for level in plans:
        colours = ["red", "green", "blue"][: len(level.locks)]
        for number in range(len(colours) + 1):
            held = frozenset(colours[:number])
            reached = {place for place, _ in level.reach(held, keys=False)}
            assert {level.keys[place] for place in level.keys if place in reached} == set(
                colours[: number + 1]
            )
            assert (level.gem in reached) is (number == len(colours))


@pytest.mark.parametrize("size", [7, 15])
def test_levels_of_other_sizes_are_solvable_within_the_limit(size):
    game = Heist(size)
    pool = levels(game, range(60))
    for i in range(60):
        level = plan(game, pool.context(i))
        assert level.to_gem()[level.start, frozenset()] < game.max_episode_steps


def test_few_levels_are_the_same():
    assert len(set(levels(Heist(), range(2000)).hashes)) >= 1980


# Rules


def test_optimal_play_solves_every_level_in_the_distance_that_search_finds(pool, plans):
    game = Heist()

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

        return jax.lax.scan(act, state, length=100)[1]

    reward, terminated, mistake, solved = map(np.asarray, jax.jit(jax.vmap(episode))(pool.values))
    for i, level in enumerate(plans):
        distance = level.to_gem()[level.start, frozenset()]
        assert terminated[i].argmax() + 1 == distance and solved[i, -1]
        assert reward[i].sum() == reward[i, distance - 1] == 10
        assert not mistake[i, :distance].any()


def test_random_play_follows_the_rules_and_mistakes_are_what_does_not_lead_closer(pool, plans):
    game = Heist()
    actions = np.random.default_rng(0).integers(0, 4, (N, 80)).astype(np.int32)

    def episode(context, actions):
        state, _ = game.reset(KEY, context)

        def act(state, action):
            judged = jax.vmap(game.mistake, (None, 0))(state, jnp.arange(4))
            after, step = game.step(KEY, state, action)
            return after, (after.agent, step, judged)

        return jax.lax.scan(act, state, actions)[1]

    agent, step, judged = jax.tree.map(np.asarray, jax.jit(jax.vmap(episode))(pool.values, actions))
    passed, taken = 0, 0
    for i, level in enumerate(plans):
        place, held, locks = level.start, frozenset(), dict(level.locks)
        to_gem = level.to_gem()
        for t in range(80):
            expected = [to_gem[level.move(place, held, a)] != to_gem[place, held] - 1 for a in range(4)]
            np.testing.assert_array_equal(judged[i, t], expected)
            before = len(held)
            place, held = level.move(place, held, actions[i, t])
            taken += len(held) - before
            passed += locks.pop(place, None) is not None
            assert tuple(agent[i, t].tolist()) == place
            done = place == level.gem
            assert (step.terminated[i, t], step.reward[i, t]) == (done, 10 if done else 0)
            if t % 10 == 0 or done:
                np.testing.assert_array_equal(step.observation[i, t], observed(level, place, held, locks))
            if done:
                break
    assert taken > 50 and passed > 20  # otherwise this would have shown little


def observed(level, place, held, locks):
    """The planes wall, key, red, green, blue, gem and agent."""
    planes = np.zeros((*level.walls.shape, 7), np.uint8)
    planes[..., 0] = level.walls
    colours = ["red", "green", "blue"]
    for square, colour in level.keys.items():
        if colour not in held:
            planes[square][[1, 2 + colours.index(colour)]] = 1
    for square, colour in locks.items():
        planes[square][2 + colours.index(colour)] = 1
    planes[level.gem][5] = planes[place][6] = 1
    return planes


def test_truncated_at_the_limit(pool):
    game = Heist(max_episode_steps=3)
    step = jax.jit(game.step)
    state, _ = game.reset(KEY, pool.context(0))
    flags = []
    for _ in range(3):
        state, shown = step(KEY, state, jnp.int32(0))
        flags.append((bool(shown.terminated), bool(shown.truncated)))
    assert flags == [(False, False), (False, False), (False, True)]
