"""The family file: an `.npz` archive with the arrays of a family under fixed names, dense or sparse.

| name | shape | what |
| --- | --- | --- |
| `transitions` | (M, S, A, S) | transition probabilities, dense |
| `transitions_indptr` | (M * S * A + 1,) | or sparse: start of row `(m * S + s) * A + a` in the two below |
| `transitions_successors` | (nnz,) | successor states |
| `transitions_probabilities` | (nnz,) | their probabilities |
| `rewards` | (M, S, A) | expected reward of an action |
| `initial` | (S,) | start-state distribution |
| `weights` | (M,) | probability of each environment |
| `discount` | () | discount factor |
| `horizon` | () | number of steps of an episode; may be left out |
"""

from __future__ import annotations

import math
import os
import tokenize
import warnings
import zipfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np
from numpy.lib import format as npy

from epomdp.errors import BadInput
from epomdp.exact.family import Family
from epomdp.exact.formats.files import replacing
from epomdp.exact.memory import require_memory

_DENSE = ("transitions",)
_SPARSE = ("transitions_indptr", "transitions_successors", "transitions_probabilities")
_COMMON = ("rewards", "initial", "weights", "discount")
_OPTIONAL = ("horizon",)
# Up to this many entries a file holds dense transitions, which every tool can read.
_DENSE_ENTRIES = 2**22
# What the zip, npy and compression readers raise on damaged data.
_DAMAGED = (
    OSError, EOFError, ValueError, TypeError, KeyError, IndexError, RuntimeError, SyntaxError, MemoryError,
    OverflowError, NotImplementedError, zipfile.BadZipFile, zlib.error, tokenize.TokenError,
)  # fmt: skip


def load_family(path: str | os.PathLike[str]) -> Family:
    """Read and check a family file. Pickled objects are refused and never loaded.

    Raises:
        BadInput: one line that says what is wrong with the file, or where in its arrays.
    """
    path = Path(path)
    try:
        size = path.stat().st_size
        if path.is_dir():
            raise BadInput(f"{path}: is a directory; give a family file (.npz)")
        if size == 0:
            raise BadInput(f"{path}: is empty (0 bytes); give a family file (.npz)")
        with zipfile.ZipFile(path) as archive:
            arrays = _read_arrays(path, archive)
    except BadInput:
        raise
    except OSError as error:
        raise BadInput(
            f"{path}: cannot be read ({error.strerror or error}); give a family file (.npz)"
        ) from None
    except _DAMAGED:
        raise BadInput(f"{path}: is no .npz archive, or a truncated one; write it again") from None
    try:
        return _build(arrays)
    except BadInput as error:
        raise BadInput(f"{path}: {error}") from None


def save_family(family: Family, path: str | os.PathLike[str]) -> None:
    """Write a family file under a temporary name and rename it: no reader ever sees half a file.

    Transitions are dense up to 2^22 entries and sparse beyond. Loading gives the same bits.

    Raises:
        BadInput: the path is a directory, or its folder is missing or not writable.
        RunFailed: writing failed on the way, as on a full disk. What stood there before is untouched.
    """
    arrays: dict[str, Any] = {name: getattr(family, name) for name in _COMMON}
    if family.rewards.size * family.num_states <= _DENSE_ENTRIES:
        arrays["transitions"] = family.dense_transitions()
    else:
        values = (family.indptr, family.successors, family.probabilities)
        arrays |= dict(zip(_SPARSE, values, strict=True))
    if family.horizon is not None:
        arrays["horizon"] = np.int64(family.horizon)
    with replacing(path) as file:
        np.savez_compressed(file, allow_pickle=False, **arrays)


def _read_arrays(path: Path, archive: zipfile.ZipFile) -> dict[str, np.ndarray]:
    """All arrays of the archive, after their names and headers were found right."""
    names = [info.filename for info in archive.infolist()]
    keys = [name.removesuffix(".npy") for name in names]
    _check_names(path, keys)
    with warnings.catch_warnings():
        # Headers written by Python 2 are read, with a warning that is of no use to anyone.
        warnings.simplefilter("ignore", UserWarning)
        needed = 0
        for key, name in zip(keys, names, strict=True):
            needed += _guard(path, key, lambda name=name, key=key: _header_bytes(path, archive, name, key))
        # The arrays as they are in the file, and once more while they are converted and checked.
        require_memory(2.0 * needed, f"{path}", "use the sparse form, or a machine with more memory")
        return {
            key: _guard(path, key, lambda name=name: _read_array(archive, name))
            for key, name in zip(keys, names, strict=True)
        }


def _guard(path: Path, key: str, read) -> Any:
    try:
        return read()
    except BadInput:
        raise
    except _DAMAGED as error:
        reason = " ".join(str(error).split())[:80] or type(error).__name__
        raise BadInput(f"{path}: {key} is damaged or truncated ({reason}); write the file again") from None


def _check_names(path: Path, keys: list[str]) -> None:
    known = (*_DENSE, *_SPARSE, *_COMMON, *_OPTIONAL)
    for key in keys:
        if key not in known or keys.count(key) > 1:
            what = "twice" if key in known else "unknown"
            shown = key.encode("unicode_escape").decode()[:60]
            raise BadInput(f"{path}: array '{shown}' is {what}; a family file holds {', '.join(known)}")
    sparse = any(key in keys for key in _SPARSE)
    if sparse and "transitions" in keys:
        raise BadInput(f"{path}: holds dense and sparse transitions; keep one of the two")
    for key in (*(_SPARSE if sparse else _DENSE), *_COMMON):
        if key not in keys:
            raise BadInput(f"{path}: array '{key}' is missing; a family file holds {', '.join(known)}")


def _header_bytes(path: Path, archive: zipfile.ZipFile, name: str, key: str) -> int:
    """Size of an array in memory, read from its header alone; refuses types that would need unpickling."""
    with archive.open(name) as file:
        version = npy.read_magic(file)
        if version == (1, 0):
            shape, _, dtype = npy.read_array_header_1_0(file)
        elif version == (2, 0):
            shape, _, dtype = npy.read_array_header_2_0(file)
        else:
            raise ValueError(f"npy version {version} holds no plain numbers")
    if dtype.hasobject:
        raise BadInput(f"{path}: {key} holds pickled objects, which are never loaded; save plain numbers")
    if dtype.kind not in "biuf":
        raise BadInput(f"{path}: {key} holds {dtype} values; give real numbers")
    return max(0, math.prod(shape)) * max(8, dtype.itemsize)


def _read_array(archive: zipfile.ZipFile, name: str) -> np.ndarray:
    with archive.open(name) as file:
        array = npy.read_array(file, allow_pickle=False)
        if file.read(1):
            raise ValueError("there is more than the header says")
    return array


def _build(arrays: dict[str, Any]) -> Family:
    values = {name: arrays[name] for name in _COMMON}
    if "horizon" in arrays:
        if arrays["horizon"].shape != ():
            raise BadInput(f"horizon: has shape {arrays['horizon'].shape}; give one integer")
        values["horizon"] = arrays["horizon"][()]
    if "transitions" in arrays:
        return Family.from_arrays(arrays["transitions"], **values)
    return Family.from_sparse(*(arrays[name] for name in _SPARSE), **values)
