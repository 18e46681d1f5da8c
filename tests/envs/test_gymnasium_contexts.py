"""Contexts of Gymnasium environments: told apart by what is seen of them, and split without leaks."""

import time

import numpy as np
import pytest

from epomdp.contexts import leaks
from epomdp.envs.gymnasium import GymnasiumEnvironment
from epomdp.envs.gymnasium_contexts import difference, split
from epomdp.errors import BadInput, EnvironmentFailed
from gymnasium_toys import Walk

SIZES = {"train": 12, "validation": 8, "test": 20, "seed": 0}


def test_parts_are_disjoint_by_first_observation():
    # Goals are one of 88, so that among some hundred seeds there are many copies.
    parts = split(GymnasiumEnvironment(Walk), **SIZES)
    goals = [{Walk().reset(seed=int(name))[0][1] for name in part.ids} for part in parts[:3]]
    assert not goals[0] & goals[1]
    assert not goals[2] & (goals[0] | goals[1])
    assert [len(part) for part in parts[:3]] == [12, 8, 20]
    assert parts.overlap.test > 0
    assert leaks(parts.train, parts.test) == []
    again = split(GymnasiumEnvironment(Walk), **SIZES)
    assert again.train.ids == parts.train.ids
    assert again.train.hashes == parts.train.hashes


def test_contexts_that_look_alike_are_told_apart_by_content():
    alike = GymnasiumEnvironment(Walk, contexts=range(40), arguments=lambda n: {"length": 7}, name="toy")
    with pytest.raises(
        BadInput, match="20 test contexts are asked for, but among the first 40 only 1 differ"
    ):
        split(alike, **SIZES)
    few = GymnasiumEnvironment(Walk, contexts=range(30), arguments=lambda n: {"length": n + 2}, name="toy")
    with pytest.raises(
        BadInput, match="20 test contexts are asked for, and there are only 30; ask for fewer"
    ):
        split(few, **SIZES)
    parts = split(alike, lambda env, observation: {"x": [str(env.unwrapped.np_random.random())]}, **SIZES)
    assert sum(map(len, parts[:3])) == 40


def test_the_pool_grows_where_there_are_many_copies():
    # One context in three is new: 64 are looked at first, and 40 different ones need 120.
    thirds = GymnasiumEnvironment(Walk, arguments=lambda n: {"length": 2 + n // 3}, name="toy")
    parts = split(thirds, **SIZES)
    assert max(int(name) for part in parts[:3] for name in part.ids) >= 64


def test_a_context_that_is_there_twice_is_named():
    twice = GymnasiumEnvironment(Walk, contexts=[4, 5, 6, 5], name="toy")
    with pytest.raises(BadInput, match=r"^toy: contexts number 1 and 3 are both 5; give each once$"):
        split(twice, train=1, validation=0, test=1, seed=0)


def test_ids_are_the_same_in_every_process():
    levels = [object() for _ in range(8)]  # whose texts are addresses
    environment = GymnasiumEnvironment(
        Walk, contexts=levels, reset=lambda level: {"seed": levels.index(level)}
    )
    parts = split(environment, train=2, validation=0, test=2, seed=0)
    assert {name for part in parts[:3] for name in part.ids} <= {f"number {i}" for i in range(8)}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (lambda env, observation: observation["map"], "raised IndexError: "),
        (lambda env, observation: time.sleep(60), "took longer than step_seconds, which is 0.3$"),
    ],
    ids=["raises", "hangs"],
)
def test_content_that_fails_is_one_line_with_its_place(content, message):
    with pytest.raises(EnvironmentFailed, match=f"^toy: context 0, reset: content {message}"):
        split(GymnasiumEnvironment(Walk, name="toy", step_seconds=0.3), content, **SIZES)


class Unseeded(Walk):
    def step(self, action):
        observation, *rest = super().step(action)
        return observation + np.float32([0, np.random.random() if self.steps == 2 else 0]), *rest  # noqa: NPY002


class UnseededReset(Walk):
    def reset(self, *, seed=None, options=None):
        return super().reset()


def test_what_is_no_function_of_context_and_actions_is_warned_of():
    assert difference(GymnasiumEnvironment(Walk)) == ""
    with pytest.warns(UserWarning, match="context 0, played twice with the same actions, differs at step 2"):
        split(GymnasiumEnvironment(Unseeded), **SIZES)
    with pytest.warns(UserWarning, match="differs at reset; .* nor are copies among its contexts found"):
        one = split(GymnasiumEnvironment(UnseededReset, name="one"), **SIZES)
    with pytest.warns(UserWarning):
        other = split(GymnasiumEnvironment(UnseededReset, name="other"), **SIZES)
    assert one.train.hashes == other.train.hashes  # what a run checks when it is resumed


def test_what_is_shown_is_said_once(capsys):
    environment = GymnasiumEnvironment("Blackjack-v1", name="gym:Blackjack-v1")
    for _ in range(2):
        split(environment, train=2, validation=0, test=2, seed=0)
    line = (
        "gym:Blackjack-v1: observations are shown as float32 45: 0, 1, 2 one after the other in one vector\n"
    )
    assert capsys.readouterr().err == line


# MiniGrid


def test_minigrid_works_out_of_the_box_and_copies_of_layouts_are_found():
    pytest.importorskip("minigrid")
    environment = GymnasiumEnvironment("MiniGrid-SimpleCrossingS9N1-v0")
    assert environment.observation.shape == (7, 7, 7)
    assert environment.max_episode_steps == 324
    parts = split(environment, **SIZES)
    assert leaks(parts.train, parts.test) == []
    assert parts.overlap.test > 0

    def layout(seed):
        env = environment.make(seed)
        env.reset(seed=int(seed))
        level = env.unwrapped
        return (level.grid.encode().tobytes(), tuple(level.agent_pos), level.agent_dir, level.mission)

    layouts = [{layout(name) for name in part.ids} for part in parts[:3]]
    assert not layouts[2] & (layouts[0] | layouts[1])
    # Copies in the training part have the same layout, and only they.
    train = [layout(name) for name in parts.train.ids]
    for i, digest in enumerate(parts.train.hashes):
        for j, other in enumerate(parts.train.hashes):
            assert (digest == other) == (train[i] == train[j])
