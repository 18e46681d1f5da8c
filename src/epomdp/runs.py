"""The run directory: configuration, contexts, metrics, checkpoints and results, safe against interruption."""

from __future__ import annotations

import hashlib
import json
import platform
import sys
import warnings
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import safetensors
import safetensors.numpy
from jaxtyping import PyTree

from epomdp import files
from epomdp.errors import BadInput, RunFailed

FORMAT = 1
"""Version of the run directory's layout; a run of a newer one is refused."""

KEPT_CHECKPOINTS = 3


class DamagedCheckpoint(UserWarning):
    """A checkpoint could not be used and an older one was."""


class Checkpoint(NamedTuple):
    """What training goes on from, and how far it had come."""

    state: PyTree
    update: int
    steps: int


class Run:
    """One training run on disk.

    `config.json` (complete and resolved), `contexts.json` (ids and content hashes), `metrics.jsonl` (one object a
    line), `checkpoints/` (safetensors and JSON), `evaluation.json`, `report.html`.

    Args:
        path: the directory, which must hold a run; `Run.create` makes one.

    Raises:
        BadInput: not a run, or a run written by a newer version.
    """

    def __init__(self, path: str | Path):
        self.path = Path(path)
        self.config = _read_config(self.path)

    @classmethod
    def create(cls, path: str | Path, config: dict[str, Any], contexts: dict[str, Any]) -> Run:
        """Start a run in a new or empty directory.

        Raises:
            BadInput: the directory is a file, holds a run already, or holds something else.
        """
        path = Path(path)
        check_free(path)
        try:
            (path / "checkpoints").mkdir(parents=True, exist_ok=True)
            files.write_json(path / "contexts.json", contexts)
            # The configuration comes last: a directory is a run once it is there.
            files.write_json(path / "config.json", {"format": FORMAT} | config | provenance())
        except OSError as error:
            raise BadInput(f"{path}: cannot be written ({error.strerror}); choose another --out") from None
        return cls(path)

    @property
    def contexts(self) -> dict[str, Any]:
        """Ids and hashes of the training, validation and test contexts, and the members' resamples.

        Raises:
            BadInput: the file is missing or damaged.
        """
        try:
            recorded = json.loads((self.path / "contexts.json").read_text())
            return {name: recorded[name] for name in ("train", "validation", "test", "overlap", "resamples")}
        except (OSError, ValueError, KeyError, TypeError):
            raise BadInput(
                f"{self.path}: its contexts.json is missing or damaged; train it again in another directory"
            ) from None

    # Metrics

    def log(self, row: dict[str, Any]) -> None:
        """Append one line to `metrics.jsonl`.

        Raises:
            RunFailed: it could not be written (a full disk, say); the checkpoints are untouched.
        """
        path = self.path / "metrics.jsonl"
        try:
            with open(path, "a") as file:
                file.write(json.dumps(row) + "\n")
        except OSError as error:
            raise RunFailed(
                f"{path}: could not be written ({error.strerror}); mend the disk, then: "
                f"epomdp train --resume {self.path}"
            ) from None

    def metrics(self) -> list[dict[str, Any]]:
        """The logged lines; a line cut off by a kill is left out."""
        path = self.path / "metrics.jsonl"
        return list(_complete_lines(path)) if path.exists() else []

    def rewind(self, update: int, steps: int) -> None:
        """Before going on from a checkpoint, forget what came after it: metrics, and checkpoints found damaged."""
        rows = [json.dumps(row) + "\n" for row in self.metrics() if row["steps"] <= steps]
        files.write_atomic(self.path / "metrics.jsonl", "".join(rows).encode())
        for stem in self._stems():
            if int(stem) > update:
                self._remove(stem)

    # Checkpoints

    def tidy(self) -> None:
        """Remove what a kill left half-written: temporary files, and tensors without their note."""
        folder, whole = self.path / "checkpoints", set(self._stems())
        unfinished = [p for p in folder.glob("*.safetensors") if p.stem not in whole]
        for path in [*self.path.glob(".*.tmp"), *folder.glob(".*.tmp"), *unfinished]:
            path.unlink(missing_ok=True)

    def save(self, checkpoint: Checkpoint) -> None:
        """Write a checkpoint; the newest few are kept.

        Raises:
            RunFailed: it could not be written (a full disk, say); the older ones are untouched.
        """
        folder = self.path / "checkpoints"
        stem = f"{checkpoint.update:09d}"
        # How far the run had come stands in the tensors' own header, so that the hash covers it.
        progress = {"format": FORMAT, "update": checkpoint.update, "steps": checkpoint.steps}
        header = {name: str(value) for name, value in progress.items()}
        tensors = safetensors.numpy.save(_named_arrays(checkpoint.state), header)
        note = progress | {"sha256": hashlib.sha256(tensors).hexdigest()}
        try:
            files.write_atomic(folder / f"{stem}.safetensors", tensors)
            # A checkpoint exists once its note does.
            files.write_json(folder / f"{stem}.json", note)
        except OSError as error:
            kept = self._stems()
            last = f"the last good one is {kept[0]}" if kept else "there is no earlier one"
            raise RunFailed(
                f"{folder}: checkpoint {stem} could not be written ({error.strerror}); {last}; "
                f"mend the disk, then: epomdp train --resume {self.path}"
            ) from None
        for old in self._stems()[KEPT_CHECKPOINTS:]:
            self._remove(old)

    def load(self, like: PyTree) -> Checkpoint | None:
        """The newest checkpoint that is whole, in the shape of `like`; None where there is none yet.

        Warns:
            DamagedCheckpoint: for each newer one that is truncated or altered.

        Raises:
            RunFailed: there are checkpoints and none is whole.
        """
        stems = self._stems()
        for stem in stems:
            try:
                return self._load(stem, like)
            except (OSError, ValueError, KeyError, TypeError, safetensors.SafetensorError) as error:
                reason = str(error) or type(error).__name__
                warnings.warn(
                    f"{self.path / 'checkpoints' / stem}: damaged ({reason}); trying the one before",
                    DamagedCheckpoint,
                    stacklevel=2,
                )
        if stems:
            raise RunFailed(f"{self.path}: none of its {len(stems)} checkpoints is whole; train it again")
        return None

    def _remove(self, stem: str) -> None:
        for suffix in ("json", "safetensors"):
            (self.path / "checkpoints" / f"{stem}.{suffix}").unlink(missing_ok=True)

    def _stems(self) -> list[str]:
        return sorted((p.stem for p in (self.path / "checkpoints").glob("[0-9]*.json")), reverse=True)

    def _load(self, stem: str, like: PyTree) -> Checkpoint:
        folder = self.path / "checkpoints"
        note = json.loads((folder / f"{stem}.json").read_text())
        tensors = (folder / f"{stem}.safetensors").read_bytes()
        if hashlib.sha256(tensors).hexdigest() != note["sha256"]:
            raise ValueError("its content does not have the recorded sha256")
        header = json.loads(tensors[8 : 8 + int.from_bytes(tensors[:8], "little")])["__metadata__"]
        if any(str(note.get(name)) != value for name, value in header.items()) or header["format"] != str(
            FORMAT
        ):
            raise ValueError("its note was altered")
        state = _restore(safetensors.numpy.load(tensors), like)
        return Checkpoint(state, int(header["update"]), int(header["steps"]))


def check_free(path: Path) -> None:
    """Raise BadInput unless a run can start in `path`: a directory that is absent or empty."""
    if path.is_file():
        raise BadInput(f"{path}: is a file; --out wants a directory")
    if (path / "config.json").exists():
        raise BadInput(
            f"{path}: holds a run already; continue it with --resume {path}, or choose another --out"
        )
    if path.is_dir() and any(not _left_by_a_kill(entry) for entry in path.iterdir()):
        raise BadInput(f"{path}: is not empty and holds no run; choose another --out")


def _left_by_a_kill(entry: Path) -> bool:
    """Whether an entry is what `Run.create` writes before a directory is a run."""
    if entry.name == "checkpoints" and entry.is_dir():
        return not any(entry.iterdir())
    return entry.name == "contexts.json" or (entry.name.startswith(".") and entry.suffix == ".tmp")


def provenance() -> dict[str, Any]:
    """Versions of what computes the results, and the machine."""
    packages = ("epomdp", "jax", "jaxlib", "equinox", "optax", "numpy", "scipy", "scikit-learn", "gymnasium")
    return {
        "versions": {"python": platform.python_version()} | {p: metadata.version(p) for p in packages},
        "host": {
            "platform": platform.platform(),
            "machine": platform.machine(),
            "backend": jax.default_backend(),
        },
        "command": sys.argv,
    }


def _read_config(path: Path) -> dict[str, Any]:
    try:
        config = json.loads((path / "config.json").read_text())
        version = config["format"]
    except (OSError, ValueError, KeyError, TypeError):
        raise BadInput(
            f"{path}: is no run (no readable config.json); name a directory made by epomdp train"
        ) from None
    if type(version) is not int or not 1 <= version <= FORMAT:
        raise BadInput(
            f"{path}: was written in format {version}, this epomdp reads up to {FORMAT}; upgrade epomdp"
        )
    return config


def _complete_lines(path: Path) -> Iterator[dict[str, Any]]:
    for line in path.read_text().splitlines():
        try:
            row = json.loads(line)
            row["steps"] = int(row["steps"])
        except (ValueError, KeyError, TypeError):
            return
        yield row


def _named_arrays(tree: PyTree) -> dict[str, np.ndarray]:
    leaves, _ = jax.tree_util.tree_flatten_with_path(tree)
    return {jax.tree_util.keystr(path): np.asarray(leaf) for path, leaf in leaves}


def _restore(arrays: dict[str, np.ndarray], like: PyTree) -> PyTree:
    leaves, structure = jax.tree_util.tree_flatten_with_path(like)
    names = [jax.tree_util.keystr(path) for path, _ in leaves]
    if set(names) != set(arrays):
        raise ValueError("its arrays are not those of this run's agent")
    for name, (_, leaf) in zip(names, leaves, strict=True):
        if arrays[name].shape != leaf.shape or arrays[name].dtype != leaf.dtype:
            raise ValueError(f"{name} has shape {arrays[name].shape}, not {leaf.shape}")
    return jax.tree.unflatten(structure, [jnp.asarray(arrays[name]) for name in names])
