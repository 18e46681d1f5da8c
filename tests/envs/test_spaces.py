"""What agents see of Gymnasium's spaces."""

import gymnasium
import numpy as np
import pytest
from gymnasium.spaces import Box, Dict, Discrete, MultiBinary, MultiDiscrete, Sequence, Text, Tuple

from epomdp.envs.spaces import Faulty, view
from epomdp.errors import BadInput


def pixels(*shape):
    return Box(0, 255, shape, np.uint8)


VECTOR = Box(-1.0, 1.0, (3,), np.float32)


@pytest.mark.parametrize(
    ("space", "shape", "dtype", "message"),
    [
        (VECTOR, (3,), "float32", ""),
        (Box(-1.0, 1.0, (3,), np.float64), (3,), "float32", ""),
        (Box(-1.0, 1.0, (), np.float32), (1,), "float32", ""),
        (Box(-1.0, 1.0, (2, 3), np.float32), (2, 3), "float32", ""),
        (Box(-5, 5, (2,), np.int64), (2,), "float32", "the int64 numbers as floats"),
        (pixels(8, 6, 3), (8, 6, 3), "uint8", ""),
        (pixels(3, 8, 6), (8, 6, 3), "uint8", "channels last"),
        (pixels(8, 6), (8, 6, 1), "uint8", "one channel"),
        (Box(0, 9, (5, 5, 2), np.int64), (5, 5, 2), "uint8", "int64 as bytes"),
        (Discrete(100_000), (100_000,), "float32", "one-hot, of Discrete(100000)"),
        (Discrete(4, start=2), (4,), "float32", "one-hot, of Discrete(4, start=2)"),
        (MultiDiscrete([2, 3]), (5,), "float32", "one-hot, of MultiDiscrete([2 3])"),
        (MultiBinary(3), (3,), "float32", "one-hot, of MultiBinary(3)"),
        (Tuple([VECTOR, Discrete(2)]), (5,), "float32", "0, 1 one after the other in one vector"),
        (
            Dict(image=pixels(7, 7, 3), direction=Discrete(4), mission=Text(9)),
            (7, 7, 7),
            "uint8",
            "the picture 'image', a plane for each value of direction; mission left out",
        ),
        (
            Dict(image=pixels(2, 2, 3), place=VECTOR),
            (15,),
            "float32",
            "image, place one after the other in one vector, so that no convolution sees image; "
            "wrap the environment so that one picture is left",
        ),
        (
            Tuple([pixels(2, 2, 3), pixels(2, 2)]),
            (16,),
            "float32",
            "0, 1 one after the other in one vector, so that no convolution sees 0 and 1; "
            "wrap the environment so that one picture is left",
        ),
        (pixels(128), (128,), "float32", "the uint8 numbers as floats, divided by 255"),
        (Box(0, 9, (5,), np.uint8), (5,), "float32", "the uint8 numbers as floats"),
        (pixels(8, 84, 84), (84, 84, 8), "uint8", "channels last"),
        (pixels(9, 9, 17), (9, 9, 17), "uint8", ""),
        (
            pixels(4, 9, 8, 3),
            (9, 8, 12),
            "uint8",
            "the channels of 4 pictures one after the other",
        ),
        (
            pixels(4, 3, 9, 8),
            (9, 8, 12),
            "uint8",
            "channels last, the channels of 4 pictures one after the other",
        ),
        (
            pixels(4, 84, 84, 1),
            (84, 84, 4),
            "uint8",
            "the channels of 4 pictures one after the other",
        ),
        (Dict(a=Dict(b=VECTOR)), (3,), "float32", "the float32 numbers 'a.b' as floats"),
    ],
    ids=str,
)
def test_shapes_and_messages(space, shape, dtype, message):
    found = view(space, "toy")
    assert (found.shown.shape, str(found.shown.dtype)) == (shape, dtype)
    size = "x".join(map(str, shape))
    assert found.message == (message and f"toy: observations are shown as {dtype} {size}: {message}")
    space.seed(0)
    shown = found.show(space.sample())
    assert (shown.shape, str(shown.dtype)) == (shape, dtype)


@pytest.mark.parametrize(
    "space",
    [VECTOR, Discrete(4, start=2), MultiDiscrete([2, 3]), Tuple([Box(-5, 5, (2,), np.int64), Discrete(3)])],
    ids=str,
)
def test_vectors_are_those_of_gymnasium(space):
    found = view(space, "toy")
    space.seed(1)
    for _ in range(5):
        sample = space.sample()
        np.testing.assert_array_equal(found.show(sample), gymnasium.spaces.flatten(space, sample))


def test_pictures_keep_their_pixels():
    space = pixels(3, 8, 6)
    space.seed(0)
    sample = space.sample()
    shown = view(space, "toy").show(sample)
    assert all((shown[:, :, channel] == sample[channel]).all() for channel in range(3))
    space = Dict(image=pixels(7, 7, 3), direction=Discrete(4))
    picture = np.arange(147, dtype=np.uint8).reshape(7, 7, 3)
    shown = view(space, "toy").show({"image": picture, "direction": 2})
    assert (shown[..., :3] == picture).all()
    assert (shown[..., 3:] == [0, 0, 1, 0]).all()


def test_a_stack_of_pictures_has_their_channels_in_order():
    for space in (pixels(4, 9, 8, 3), pixels(4, 3, 9, 8)):
        space.seed(0)
        sample = space.sample()
        shown = view(space, "toy").show(sample)
        for k, frame in enumerate(sample):
            expected = frame if frame.shape[-1] == 3 else frame.transpose(1, 2, 0)
            assert (shown[..., 3 * k : 3 * k + 3] == expected).all()


def test_bytes_in_a_vector_are_of_the_size_of_the_other_numbers():
    space = Dict(image=pixels(2, 2, 3), place=VECTOR)
    image, place = np.arange(12, dtype=np.uint8).reshape(2, 2, 3) * 23, np.ones(3, np.float32)
    shown = view(space, "toy").show({"image": image, "place": place})
    np.testing.assert_array_equal(shown, np.concatenate([image.ravel() / np.float32(255), place]))


@pytest.mark.parametrize(
    ("space", "observation", "message"),
    [
        (VECTOR, np.zeros(4, np.float32), "observation is float32(4,), but its space is float32(3,)"),
        (VECTOR, np.zeros(3, np.uint8), "observation is uint8(3,), but its space is float32(3,)"),
        (VECTOR, np.array([0, np.nan, 0], np.float32), "observation has NaN or infinite values"),
        (pixels(5, 5, 3), np.ones((5, 5, 3), np.float32), "observation is float32(5, 5, 3), but its space is uint8"),
        (pixels(5, 5, 3), np.ones((5, 5, 3), np.int64), "observation is int64(5, 5, 3), but its space is uint8"),
        (Discrete(3), 3, "observation is 3, which is not in Discrete(3)"),
        (Dict(a=VECTOR, b=Discrete(2)), {"a": np.zeros(3, np.float32)}, "observation lacks its part 'b'"),
        (Box(0, 9, (2, 2), np.int64), np.full((2, 2), 300), "observation has pixels that are not from 0 to 255"),
    ],
    ids=str,
)  # fmt: skip
def test_what_is_not_of_the_space_is_refused(space, observation, message):
    with pytest.raises(Faulty) as caught:
        view(space, "toy").show(observation)
    assert str(caught.value).startswith(message)


def test_floats_of_another_width_are_taken():
    assert view(VECTOR, "toy").show(np.ones(3)).dtype == np.float32


@pytest.mark.parametrize("space", [Text(5), Sequence(Discrete(2)), Dict(a=Sequence(VECTOR))], ids=str)
def test_what_no_agent_can_see_is_bad_input(space):
    with pytest.raises(BadInput, match=r"^toy: observations .*; wrap the environment$"):
        view(space, "toy")


@pytest.mark.parametrize("side, full", [(32, 1), (33, 255)])
def test_planes_beside_a_picture_count_as_its_pixels_do(side, full):
    seen = view(Dict(image=pixels(side, 8, 3), way=Discrete(2)), "x")
    shown = seen.show({"image": np.full((side, 8, 3), 7, np.uint8), "way": np.int64(1)})
    assert (shown[..., :3] == 7).all() and (shown[..., 3] == 0).all() and (shown[..., 4] == full).all()
