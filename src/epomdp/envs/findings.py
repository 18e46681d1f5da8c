"""What an environment check found: problems with their places, notes, and the report of both."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Iterator
from typing import Literal

import jax
import jax.numpy as jnp
import numpy as np
import numpy.typing as npt
from jaxtyping import PyTree

# The checks, as docs/environments/contract.md lists them.
Check = Literal[
    "attributes",
    "call",
    "shapes",
    "determinism",
    "history",
    "jit",
    "vmap",
    "retrace",
    "leak",
    "purity",
    "values",
    "flags",
    "limit",
    "ended",
]


@dataclasses.dataclass(frozen=True)
class Problem:
    """One broken promise: the check that found it, where (method, field, context, step), and what it is."""

    check: Check
    where: str
    what: str

    def __str__(self) -> str:
        return f"{self.check}: {self.where}: {self.what}"


@dataclasses.dataclass(frozen=True)
class Report:
    """What `check_environment` found. Notes are no faults: what differs by rounding, what was never seen."""

    name: str
    problems: tuple[Problem, ...]
    notes: tuple[str, ...]

    @property
    def ok(self) -> bool:
        return not self.problems

    def __str__(self) -> str:
        verdict = "keeps the contract" if self.ok else f"breaks the contract, problems: {len(self.problems)}"
        lines = [f"{self.name} {verdict}", *map(str, self.problems), *(f"note: {n}" for n in self.notes)]
        return "\n  ".join(lines)


class Findings:
    """Problems, the first of each check and field, and notes; `at` says which call is under examination."""

    def __init__(self) -> None:
        self.problems: dict[tuple[str, str, str], Problem] = {}
        self.notes: list[str] = []
        self.at("attributes")

    def at(self, method: str, place: str = "") -> None:
        self.method, self.place = method, place

    def add(self, check: Check, field: str, what: str) -> None:
        where = ", ".join(part for part in (self.method, field, self.place) if part)
        self.problems.setdefault((check, self.method, field), Problem(check, where, what))

    def note(self, text: str) -> None:
        if text not in self.notes:
            self.notes.append(text)

    def clean(self, *checks: Check) -> bool:
        return not any(problem.check in checks for problem in self.problems.values())

    @contextlib.contextmanager
    def catch(self, check: Check, passing: tuple[type[Exception], ...] = ()) -> Iterator[None]:
        """Make a problem of whatever exception the environment raises, but for those that are `passing`."""
        try:
            yield
        except jax.errors.UnexpectedTracerError:
            self.add(
                "leak", "", "uses a traced value kept from an earlier call; keep such values in the state"
            )
        except passing:
            raise
        except (Exception, SystemExit) as error:
            text = str(error).strip().split("\n")[0]
            self.add(check, "", f"raises {type(error).__name__}: {text}")

    def compare(self, check: Check, other_call: str, result: PyTree, other: PyTree) -> None:
        """Both results must have the same bits; under jit and vmap, floats may differ by rounding (a note)."""
        leaves, others = leaves_by_path(result), leaves_by_path(other)
        if {k: (v.shape, v.dtype) for k, v in leaves.items()} != {
            k: (v.shape, v.dtype) for k, v in others.items()
        }:
            self.add(check, "", f"differs in structure, shapes or dtypes from {other_call}")
            return
        for field, leaf in leaves.items():
            if leaf.tobytes() == others[field].tobytes():
                continue
            may_round = check in ("jit", "vmap") and leaf.dtype.kind == "f"
            if may_round and np.allclose(leaf, others[field], rtol=1e-5, atol=1e-6, equal_nan=True):
                self.note(f"{check}: {self.method}, {field}: differs by rounding from {other_call}")
            else:
                self.add(check, field, f"differs from {other_call}")


def leaves_by_path(tree: PyTree) -> dict[str, npt.NDArray]:
    """Every leaf as a NumPy array, by its path."""
    leaves = {}
    for path, leaf in jax.tree_util.tree_flatten_with_path(tree)[0]:
        leaf = leaf if isinstance(leaf, np.ndarray) else jnp.asarray(leaf)
        if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
            leaf = jax.random.key_data(leaf)
        leaves[jax.tree_util.keystr(path, simple=True, separator=".")] = np.asarray(leaf)
    return leaves
