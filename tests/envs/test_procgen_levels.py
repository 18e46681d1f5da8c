"""Sets of Procgen's levels: ranges that do not meet, copies found by content."""

import numpy as np
import pytest

from epomdp.contexts import leaks
from epomdp.envs import envpool_procgen
from epomdp.envs.procgen import Procgen
from epomdp.envs.procgen_levels import level_contexts, level_parts
from epomdp.errors import BadInput


@pytest.fixture(scope="module", autouse=True)
def _playable():
    try:
        envpool_procgen.load()
    except BadInput as reason:
        pytest.skip(str(reason))


def test_any_set_of_seeds_in_any_order():
    seeds = [2**31 - 2, 17, 5, 4000, 90_000, 6]
    levels = level_contexts("maze", "easy", seeds)
    assert levels.values["level"].tolist() == seeds and levels.ids[1] == "maze-17"
    # A level's content does not depend on its company.
    alone = [level_contexts("maze", "easy", [seed]).hashes[0] for seed in seeds]
    assert list(levels.hashes) == alone and len(set(alone)) == len(seeds)


def test_a_level_that_is_given_twice_is_named():
    with pytest.raises(BadInput, match=r"^procgen:maze: level 1 is given more than once"):
        level_contexts("maze", "easy", [1, 1, 2])


def test_levels_with_the_same_content_look_the_same():
    levels = level_contexts("maze", "easy", range(120))
    lanes = Procgen("maze", centred=False, backgrounds=False).open(120)
    frames = lanes.start(range(120), [levels.context(i) for i in range(120)])
    lanes.close()
    for i in range(120):
        equal = [j for j in range(120) if (frames[i] == frames[j]).all()]
        assert equal == [j for j in range(120) if levels.hashes[i] == levels.hashes[j]]
    assert len(set(levels.hashes)) < 120


def test_parts_are_the_protocols_ranges_whatever_the_seed():
    parts = level_parts("heist", "easy", 10, None, train=4, validation=2, test=3, seed=5)
    assert parts.train.values["level"].tolist() == [10, 11, 12, 13]
    assert parts.test.values["level"].tolist() == [14, 15, 16]
    assert parts.validation.values["level"].tolist() == [17, 18]
    assert parts.overlap.policy == "report" and parts.overlap[1:] == (0, 0)
    again = level_parts("heist", "easy", 10, 200, train=4, validation=0, test=3, seed=6)
    assert (
        again.train.ids == parts.train.ids and again.test.ids[0] == "heist-200" and not len(again.validation)
    )


@pytest.mark.parametrize(
    ("test_start", "part"), [(5, "test"), (9, "test"), (0, "test")], ids=["inside", "last", "same"]
)
def test_test_levels_that_reach_into_training_are_refused(test_start, part):
    with pytest.raises(
        BadInput, match=f"{part} levels {test_start} to .* reach into the training levels 0 to 9"
    ):
        level_parts("maze", "easy", 0, test_start, train=10, validation=0, test=5)


def test_validation_levels_that_reach_into_training_are_refused():
    with pytest.raises(
        BadInput, match="validation levels 100 to 104 reach into the training levels 100 to 109"
    ):
        level_parts("maze", "easy", 100, 95, train=10, validation=5, test=5)


@pytest.mark.parametrize(("game", "alike"), [("maze", (0.06, 0.16)), ("heist", (0, 0))])
def test_copies_among_the_test_levels_of_the_protocol(game, alike):
    parts = level_parts(game, "easy", 0, None, train=200, validation=0, test=200)
    found = leaks(parts.train, parts.test)
    assert parts.overlap.test == len(found)
    assert alike[0] <= len(found) / 200 <= alike[1]
    assert not set(parts.train.values["level"]) & set(parts.test.values["level"])
    for seen, copied in found:
        one, other = (
            level_contexts(game, "easy", [int(name.split("-")[1])]).hashes for name in (seen, copied)
        )
        assert one == other


def test_levels_are_small_numbers():
    assert level_contexts("maze", "easy", [3]).values["level"].dtype == np.int32
