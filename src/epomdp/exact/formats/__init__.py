"""Families and POMDPs in the formats of other tools: `.pomdp`, `.pomdpx`, Storm's `.drn`; and `.npz` families."""

from __future__ import annotations

import os
from pathlib import Path

from epomdp.errors import BadInput
from epomdp.exact.family import Family
from epomdp.exact.formats import drn, pomdp, pomdpx
from epomdp.exact.formats.files import check_target
from epomdp.exact.formats.flat import flatten
from epomdp.exact.formats.unflat import unflatten
from epomdp.exact.pomdp import Pomdp

__all__ = ["convert", "drn", "flatten", "pomdp", "pomdpx", "read_any", "unflatten"]


def read_any(path: str | os.PathLike[str]) -> Family | Pomdp:
    """Read a model: a family from `.npz`, a POMDP from `.pomdp`, either from `.pomdpx`.

    Raises:
        BadInput: the ending is another, or the file cannot be read.
    """
    suffix = _suffix(path, (".npz", ".pomdp", ".pomdpx"), "read")
    if suffix == ".npz":
        return Family.load(path)
    return pomdp.read(path) if suffix == ".pomdp" else pomdpx.read(path)


def convert(
    source: str | os.PathLike[str], target: str | os.PathLike[str], observe_rewards: bool = True
) -> None:
    """Write the model of one file as another; the endings say the formats.

    From `.npz`, `.pomdp` or `.pomdpx` to any of these or `.drn`. A `.pomdp` becomes a family (`.npz`) only where
    it is the epistemic POMDP of one and its states are named as `flatten` names them.

    Args:
        source: the file to read.
        target: the file to write; one that exists is replaced, and only once all is written.
        observe_rewards: from a family to another format, whether rewards are observed.

    Raises:
        BadInput: an ending is unknown, the source cannot be read, or the target is the source, cannot be written, or
            cannot say what the source says.
        RunFailed: writing failed on the way, as on a full disk.
    """
    suffix = _suffix(target, (".npz", ".pomdp", ".pomdpx", ".drn"), "written")
    check_target(target, source, (suffix,))
    model = read_any(source)
    if suffix == ".npz":
        family = model if isinstance(model, Family) else _as_family(model, source)
        family.save(target)
    elif suffix == ".pomdp":
        pomdp.write(flatten(model, observe_rewards) if isinstance(model, Family) else model, target)
    else:
        (pomdpx if suffix == ".pomdpx" else drn).write(model, target, observe_rewards)


def _as_family(model: Pomdp, source: str | os.PathLike[str]) -> Family:
    try:
        return unflatten(model)
    except BadInput as error:
        raise BadInput(f"{os.fspath(source)}: {error}") from None


def _suffix(path: str | os.PathLike[str], known: tuple[str, ...], done: str) -> str:
    suffix = Path(path).suffix.lower()
    if suffix not in known:
        shown = f"'{suffix}'" if suffix else "no ending"
        raise BadInput(f"{os.fspath(path)}: files with {shown} cannot be {done}; use {', '.join(known)}")
    return suffix
