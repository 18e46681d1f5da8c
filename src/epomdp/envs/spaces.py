"""What agents see of a Gymnasium space: one array, a vector of floats or a picture of bytes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import numpy as np
import numpy.typing as npt
from gymnasium import spaces

from epomdp.envs.base import LARGEST_BOARD
from epomdp.errors import BadInput

FIXED = (spaces.Box, spaces.Discrete, spaces.MultiDiscrete, spaces.MultiBinary)
"""Spaces whose observations have one size."""

MOST_PLANES = 16
"""Values up to which a number beside a picture becomes planes of it, one a value."""


LARGEST = float(np.finfo(np.float32).max)
"""Agents see, and are paid, in single precision."""


class Faulty(ValueError):
    """An observation that is not of its space, or another value that a step must not give."""


class View(NamedTuple):
    """How observations of a space are shown.

    Attributes:
        shown: shape and dtype of what is shown: float32 (D,), uint8 (H, W, C), or a Box's own shape in float32.
        show: from an observation to that; raises Faulty.
        message: what is done to observations, or "" where they are shown as they are.
    """

    shown: jax.ShapeDtypeStruct
    show: Callable[[Any], npt.NDArray]
    message: str = ""


def view(space: spaces.Space, name: str) -> View:
    """How an agent is shown the observations of a space.

    Pictures are kept: integers (H, W, C) or (H, W) from 0 to 255, as bytes; channel-first ones are turned, and the
    channels of a stack (K, H, W, C) stand one after the other, (H, W, K C). A dictionary or tuple with one picture,
    and small discrete numbers beside it, is the picture with a plane for each of their values. Everything else
    becomes one vector: discrete numbers as one-hot vectors, Boxes flattened (a single Box keeps its shape), bytes
    from 0 to 255 divided by 255. Texts are left out.

    Raises:
        BadInput: nothing is left, or the size varies.
    """
    everything = entries(space)
    dropped = [entry.path for entry in everything if is_text(entry.part)]
    kept = [entry for entry in everything if not is_text(entry.part)]
    for entry in kept:
        if not isinstance(entry.part, FIXED):
            raise BadInput(
                f"{name}: observations {_at(entry.path)}are {entry.part}, whose size varies; wrap the environment"
            )
    if not kept:
        raise BadInput(
            f"{name}: observations are {space}, of which an agent can see nothing; wrap the environment"
        )
    pictures = [entry for entry in kept if _is_picture(entry.part)]
    others = [entry for entry in kept if not _is_picture(entry.part)]
    beside = all(isinstance(part, spaces.Discrete) and part.n <= MOST_PLANES for _, part in others)
    if len(pictures) == 1 and beside:
        found = _picture(pictures[0], others)
    else:
        found = _vector(kept)
    left_out = f"; {', '.join(dropped)} left out" if dropped else ""
    if not found.message and not left_out:
        return found
    shape = "x".join(map(str, found.shown.shape))
    message = f"{name}: observations are shown as {found.shown.dtype} {shape}: {found.message}{left_out}"
    return found._replace(message=message)


class Entry(NamedTuple):
    """A part of a space that is no dictionary or tuple itself, and the keys that lead to it."""

    keys: tuple[Any, ...]
    part: spaces.Space

    @property
    def path(self) -> str:
        return ".".join(map(str, self.keys))

    def of(self, observation: Any) -> Any:
        """This part of an observation; LookupError or TypeError where it lacks it."""
        for key in self.keys:
            observation = observation[key]
        return observation


def entries(space: spaces.Space, keys: tuple[Any, ...] = ()) -> list[Entry]:
    """The parts of nested dictionaries and tuples."""
    if isinstance(space, spaces.Dict):
        inside = list(space.items())
    elif isinstance(space, spaces.Tuple):
        inside = list(enumerate(space))
    else:
        return [Entry(keys, space)]
    return [entry for key, part in inside for entry in entries(part, (*keys, key))]


def _reader(entry: Entry) -> Callable[[Any], npt.NDArray]:
    """From a whole observation to one part of it, examined: an array of the part's shape and of its kind."""
    path, space = entry.path, entry.part
    dtype, shape = np.dtype(space.dtype), space.shape

    def read(observation: Any) -> npt.NDArray:
        try:
            array = np.asarray(entry.of(observation))
        except (LookupError, TypeError):
            raise Faulty(f"observation lacks its part '{path}'") from None
        if array.shape != shape or not (array.dtype == dtype or _same_kind(space, array.dtype)):
            raise Faulty(
                f"observation {_at(path)}is {array.dtype}{array.shape}, but its space is {dtype}{shape}"
            )
        if array.dtype.kind == "f" and not (np.abs(array) <= LARGEST).all():
            raise Faulty(f"observation {_at(path)}has NaN or infinite values")
        return array

    return read


def _same_kind(space: spaces.Space, dtype: np.dtype) -> bool:
    """Floats of another width lose nothing that matters; whole numbers do, unless they count a few values."""
    counts = not isinstance(space, spaces.Box)
    return dtype.kind in "iub" if counts else dtype.kind == np.dtype(space.dtype).kind == "f"


def _vector(entries: list[Entry]) -> View:
    readers = [(_reader(entry), _flattener(entry.part)) for entry in entries]
    path, box = entries[0].path, entries[0].part
    if len(entries) == 1 and isinstance(box, spaces.Box):
        read, flatten_one = readers[0]
        shape = box.shape if box.shape else (1,)
        plain = box.dtype in (np.float32, np.float64) and not path
        message = "" if plain else f"the {box.dtype} numbers {_at(path)}as floats"
        message += ", divided by 255" if _is_bytes(box) else ""
        shown = jax.ShapeDtypeStruct(shape, np.float32)
        return View(shown, lambda observation: flatten_one(read(observation)).reshape(shape), message)

    def show(observation: Any) -> npt.NDArray:
        return np.concatenate([flatten(read(observation)) for read, flatten in readers])

    size = sum(int(spaces.flatdim(part)) for _, part in entries)
    if len(entries) == 1:
        message = f"one-hot, of {box}"
    else:
        message = f"{', '.join(entry.path for entry in entries)} one after the other in one vector"
    pictures = [entry.path for entry in entries if _is_picture(entry.part)]
    if pictures:
        message += f", so that no convolution sees {' and '.join(pictures)}; "
        message += "wrap the environment so that one picture is left"
    return View(jax.ShapeDtypeStruct((size,), np.float32), show, message)


def _flattener(space: spaces.Space) -> Callable[[npt.NDArray], npt.NDArray]:
    if isinstance(space, spaces.Box):
        scale = np.float32(255 if _is_bytes(space) else 1)
        return lambda array: array.astype(np.float32).ravel() / scale
    if isinstance(space, spaces.Discrete):
        count, start = int(space.n), int(space.start)

        def one_hot(array: npt.NDArray) -> npt.NDArray:
            if not 0 <= array - start < count:
                raise Faulty(f"observation is {array}, which is not in {space}")
            values = np.zeros(count, np.float32)
            values[array - start] = 1
            return values

        return one_hot

    def flatten(array: npt.NDArray) -> npt.NDArray:
        if not space.contains(array.astype(space.dtype)):
            raise Faulty(f"observation is {array}, which is not in {space}")
        return np.asarray(spaces.flatten(space, array.astype(space.dtype)), np.float32)

    return flatten


def _picture(picture: Entry, others: list[Entry]) -> View:
    path, box = picture.path, picture.part
    assert isinstance(box, spaces.Box)
    read, stacked = _reader(picture), len(box.shape) == 4
    turned = _channels_first(box.shape[-3:])
    numbers = [(_reader(entry), _flattener(entry.part)) for entry in others]
    height, width, channels = _turn(np.zeros(box.shape, bool), turned).shape
    planes = sum(int(spaces.flatdim(part)) for _, part in others)
    # Networks take the bytes of what is no board from 0 to 255.
    full = 1 if max(height, width) <= LARGEST_BOARD else 255

    def show(observation: Any) -> npt.NDArray:
        pixels = _turn(read(observation), turned)
        if pixels.dtype != np.uint8:
            if pixels.min() < 0 or pixels.max() > 255:
                raise Faulty("observation has pixels that are not from 0 to 255")
            pixels = pixels.astype(np.uint8)
        if not numbers:
            return pixels
        beside = np.concatenate([flatten(read_one(observation)) for read_one, flatten in numbers])
        constant = np.broadcast_to((full * beside).astype(np.uint8), (height, width, planes))
        return np.concatenate([pixels, constant], axis=-1)

    done = [f"the picture {_at(path)}".rstrip()] if path else []
    done += ["channels last"] if turned else []
    done += [f"the channels of {box.shape[0]} pictures one after the other"] if stacked else []
    done += ["one channel"] if len(box.shape) == 2 else []
    done += [f"{box.dtype} as bytes"] if box.dtype != np.uint8 else []
    done += [f"a plane for each value of {', '.join(entry.path for entry in others)}"] if others else []
    return View(jax.ShapeDtypeStruct((height, width, channels + planes), np.uint8), show, ", ".join(done))


def is_text(space: spaces.Space) -> bool:
    return space.dtype is not None and np.dtype(space.dtype).kind == "U"


def _is_bytes(box: spaces.Box) -> bool:
    """Whether numbers are bytes that use all of their range, as pixels and memories do."""
    return box.dtype == np.uint8 and bool((box.low == 0).all() and (box.high == 255).all())


def _is_picture(space: spaces.Space) -> bool:
    """Whole numbers from 0 to 255 in two dimensions of some size, in three, or in four: several pictures."""
    if not isinstance(space, spaces.Box) or np.dtype(space.dtype).kind not in "iu" or not space.shape:
        return False
    fits = space.low.min() >= 0 and space.high.max() <= 255
    return bool(fits and (len(space.shape) in (3, 4) or (len(space.shape) == 2 and min(space.shape) > 1)))


def _channels_first(shape: tuple[int, ...]) -> bool:
    """Fewer planes in front than either side has cells, and behind no usual number of channels."""
    return len(shape) == 3 and shape[0] < min(shape[1:]) and shape[-1] not in (1, 3, 4)


def _turn(pixels: npt.NDArray, channels_first: bool) -> npt.NDArray:
    """Channels last, those of several pictures one after the other."""
    if pixels.ndim == 2:
        return pixels[..., None]
    if channels_first:
        pixels = np.moveaxis(pixels, -3, -1)
    if pixels.ndim == 4:
        pixels = np.moveaxis(pixels, 0, 2).reshape(*pixels.shape[1:3], -1)
    return pixels


def _at(path: str) -> str:
    return f"'{path}' " if path else ""
