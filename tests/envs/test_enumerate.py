"""Enumerated families against the environments they came from."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from epomdp.contexts import ContextSet
from epomdp.envs.base import Environment, Step
from epomdp.envs.enumerate import enumerate_family
from epomdp.envs.guess import Guess
from epomdp.errors import BadInput
from epomdp.exact import guessing, mdp

FAMILY_ARRAYS = ("indptr", "successors", "probabilities", "rewards", "initial", "weights")


class CorridorState(NamedTuple):
    context: dict
    cell: jax.Array
    steps: jax.Array
    bumps: jax.Array
    over: jax.Array
    cut: jax.Array


class Corridor(Environment):
    """Cells in a row; left, right; context: where the goal is, where one starts. The cell is what is seen.

    `quirk` spoils it: "dice" (a step by chance), "late dice" (only in the second cell), "bumps" (a hidden count
    of bumps pays), "start" (a start by chance).
    """

    name = "corridor"
    num_actions = 2
    observation = jax.ShapeDtypeStruct((), jnp.int32)

    def __init__(self, length=5, max_episode_steps=12, quirk=""):
        self.length, self.max_episode_steps, self.quirk = length, max_episode_steps, quirk

    def reset(self, key, context):
        zero, no = jnp.asarray(0), jnp.asarray(False)
        cell = jnp.asarray(context["start"])
        if self.quirk == "start":
            cell = jax.random.randint(key, (), 0, self.length)
        return CorridorState(context, cell, zero, zero, no, no), cell

    def step(self, key, state, action):
        ended = state.over | state.cut
        wanted = state.cell + 2 * action - 1
        cell = jnp.clip(wanted, 0, self.length - 1)
        stumbles = {"dice": True, "late dice": state.cell == 1}.get(self.quirk, False)
        cell = jnp.where(stumbles & jax.random.bernoulli(key), state.cell, cell)
        cell = jnp.where(ended, state.cell, cell)
        bumps = state.bumps + (wanted != cell)
        steps = state.steps + ~ended
        over = state.over | (cell == state.context["goal"])
        cut = state.cut | (~over & (steps >= self.max_episode_steps))
        reward = jnp.where(over, 10.0, -1.0) * ~ended
        if self.quirk == "bumps":
            reward = reward + state.bumps
        return CorridorState(state.context, cell, steps, bumps, over, cut), Step(cell, reward, over, cut)


def contexts(goals, starts):
    return {"goal": np.asarray(goals), "start": np.asarray(starts)}


def replay(env, step_once, values, m, actions):
    """What an episode shows, (observation, reward, terminated) a step, until it terminates."""
    context = jax.tree.map(lambda leaf: leaf[m], values)
    state, seen = env.reset(jax.random.key(9), context)
    shown = [int(seen)]
    for action in actions:
        state, step = step_once(jax.random.key(9), state, jnp.asarray(action))
        shown.append((int(step.observation), float(step.reward), bool(step.terminated)))
        if step.terminated:
            break
    return shown


def replay_family(family, m, actions, shared):
    """The same, of the family."""
    state = int(np.flatnonzero(family.initial)[0])
    scale = 1.0
    if not shared:
        state, scale = int(family.row(m, state, 0)[0][0]), family.discount
    shown = [int(family.observations[state])]
    for action in actions:
        reward = scale * family.rewards[m, state, action]
        (state,) = family.row(m, state, action)[0].tolist()
        over = state == family.end
        shown.append((None if over else int(family.observations[state]), reward, over))
        if over:
            break
    return shown


@pytest.mark.parametrize("starts", [[2, 2, 2], [2, 0, 3]])
def test_families_behave_like_their_environments(starts):
    env, values = Corridor(), contexts([4, 0, 4], starts)
    values["goal"][1] = 1 if starts[1] == 0 else 0
    family = enumerate_family(env, values, 0.5)
    shared = len(set(starts)) == 1
    assert family.horizon == 12 + (not shared)
    rng, step_once = np.random.default_rng(0), jax.jit(env.step)
    for m in (0, 1, 2):
        for _ in range(15):
            actions = rng.integers(2, size=12).tolist()
            expected, found = (
                replay(env, step_once, values, m, actions),
                replay_family(family, m, actions, shared),
            )
            assert len(expected) == len(found) and expected[0] == found[0]
            for (seen, reward, over), (shown, paid, end) in zip(expected[1:], found[1:], strict=True):
                assert (over, reward) == (end, pytest.approx(paid))
                assert over or seen == shown


def test_contexts_share_states_that_look_the_same():
    family = enumerate_family(Corridor(), contexts([4, 0], [2, 2]), 0.9, [0.25, 0.75])
    # Cells 1 to 3 are met with either goal, 0 and 4 with one; and there is the end.
    assert family.num_states == 6 and family.end == 5
    assert sorted(family.observations.tolist()) == [0, 1, 2, 3, 4]
    assert family.weights.tolist() == [0.25, 0.75]
    # A cell that a context never acts in is absorbing there and pays nothing.
    goal = family.observations.tolist().index(4)
    assert family.row(0, goal, 0)[0].tolist() == [goal] and not family.rewards[0, goal].any()


def test_the_guessing_game_is_the_family_written_down():
    images = np.tile(np.arange(4, dtype=np.float32).reshape(1, 2, 2), (4, 1, 1))
    env = Guess((2, 2), 4, max_episode_steps=6)
    found = enumerate_family(env, {"image": images, "label": np.arange(4)}, 1.0, [0.1, 0.2, 0.3, 0.4])
    expected = guessing.guessing_family([0.1, 0.2, 0.3, 0.4], 6)
    for name in FAMILY_ARRAYS:
        np.testing.assert_array_equal(getattr(found, name), getattr(expected, name))
    assert (found.discount, found.horizon) == (1.0, 6)
    np.testing.assert_array_equal(found.observations, images[:1])


def test_a_context_set_is_taken_and_different_images_tell_at_once():
    images = np.arange(3, dtype=np.float32).reshape(3, 1, 1)
    sets = ContextSet.from_values({"image": images, "label": np.array([0, 1, 1])})
    family = enumerate_family(Guess((1, 1), 2, max_episode_steps=3), sets, 1.0)
    assert family.num_states == 5 and family.horizon == 4
    layered = family.layered()
    uniform = layered.lift(np.full((5, 2), 0.5))
    np.testing.assert_allclose(
        mdp.policy_values(layered, uniform) @ layered.initial, guessing.uniform([0.5, 0.5], 3)
    )


def test_without_a_step_limit():
    family = enumerate_family(Corridor(), contexts([4], [0]), 0.9, step_limit=False)
    assert family.horizon is None
    expected = -sum(0.9**t for t in range(3)) + 10 * 0.9**3
    assert mdp.optimal_values(family)[0] @ family.initial == pytest.approx(expected)
    # Three steps do not get to cell 4, so what can be done in cell 3 is not known.
    short = Corridor(max_episode_steps=3)
    with pytest.raises(BadInput, match="reached only at max_episode_steps = 3"):
        enumerate_family(short, contexts([4], [0]), 0.9, step_limit=False)
    limited = enumerate_family(short, contexts([4], [0]), 0.9).layered()
    assert mdp.optimal_values(limited)[0] @ limited.initial == pytest.approx(-1 - 0.9 - 0.81)


@pytest.mark.parametrize(
    "quirk, message",
    [
        ("dice", "context 0, observation 0, action 1 depends on the random key"),
        ("late dice", "context 0, observation 1, action . depends on the random key"),
        ("start", "reset of context 0 depends on the random key"),
        ("bumps", "context 0, observation ., action . leads to different things"),
    ],
)
def test_what_the_observation_does_not_decide_is_refused(quirk, message):
    env = Corridor(quirk=quirk)
    with pytest.raises(BadInput, match=f"corridor: {message}"):
        enumerate_family(env, contexts([4, 4], [0, 0]), 0.9)


def test_observe_shows_what_is_hidden():
    def observe(state, observation):
        return {"cell": observation, "bumps": jnp.minimum(state.bumps, 3)}

    class Counting(Corridor):
        def step(self, key, state, action):
            after, step = super().step(key, state, action)
            return after, step._replace(reward=step.reward + jnp.minimum(state.bumps, 3))

    values = contexts([4], [2])
    with pytest.raises(BadInput, match="leads to different things"):
        enumerate_family(Counting(length=5), values, 0.9)
    family = enumerate_family(Counting(length=5), values, 0.9, observe=observe)
    cells, bumps = family.observations["cell"], family.observations["bumps"]
    assert len({*zip(cells.tolist(), bumps.tolist(), strict=True)}) == family.end
    for k in range(family.end):
        assert (family.rewards[0, k, 0] == -1 + bumps[k]) or not family.rewards[0, k].any()


def test_too_many_states_are_refused():
    with pytest.raises(BadInput, match="has more than 3 states"):
        enumerate_family(Corridor(), contexts([4], [0]), 0.9, max_states=3)
