"""Which environments there are: sets of contexts with ids and content hashes, splits, resamples, leaks."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Sequence
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import numpy.typing as npt
from jaxtyping import PyTree

from epomdp.errors import BadInput

OverlapPolicy = Literal["remove", "refuse", "report"]

# The same seed serves several draws; a tag of its own keeps each draw independent of the others.
_SPLIT_STREAM = 1
_BOOTSTRAP_STREAM = 2


class Leak(UserWarning):
    """Test contexts are equal to training contexts: returns on them say nothing of generalization."""


@dataclasses.dataclass(frozen=True, eq=False)
class ContextSet:
    """n contexts, stacked.

    Two contexts with the same hash are the same content: an agent that has seen one has seen the other.

    Attributes:
        values: pytree of NumPy arrays, each with leading axis n; `Environment.reset` takes one row of it.
        ids: n names, stable across runs.
        hashes: n SHA-256 digests (hexadecimal) of the content.
    """

    values: PyTree
    ids: tuple[str, ...]
    hashes: tuple[str, ...]

    @classmethod
    def from_values(
        cls, values: PyTree, ids: Sequence[str] | None = None, content: PyTree | None = None
    ) -> ContextSet:
        """Make a set from stacked values.

        Args:
            values: pytree of arrays with leading axis n.
            ids: n different names; by default "0" to "n - 1".
            content: stacked pytree of what an agent would see of a context, to be hashed (an image without
                its label, say); by default all of `values`.

        Raises:
            BadInput: no arrays, no contexts, leading axes that differ, or ids that are not n different ones.
        """
        values = jax.tree.map(np.asarray, values)
        content = values if content is None else jax.tree.map(np.asarray, content)
        n = _leading_axis(values, "values")
        if _leading_axis(content, "content") != n:
            raise BadInput(f"contexts: content must have one row for each of the {n} contexts")
        ids = tuple(str(i) for i in (range(n) if ids is None else ids))
        if len(ids) != n or len(set(ids)) != n:
            raise BadInput(f"contexts: {n} contexts need {n} different ids, got {len(set(ids))}")
        return cls(values, ids, _hash_rows(content, n))

    def __len__(self) -> int:
        return len(self.ids)

    def __getitem__(self, index: Any) -> ContextSet:
        """The contexts at `index` (integers, with repeats if wished; a slice; a mask), always as a set."""
        rows = np.atleast_1d(np.arange(len(self))[index])
        return ContextSet(
            jax.tree.map(lambda leaf: leaf[rows], self.values),
            tuple(self.ids[i] for i in rows),
            tuple(self.hashes[i] for i in rows),
        )

    def context(self, index: int) -> PyTree:
        """One context's own values, without the leading axis."""
        return jax.tree.map(lambda leaf: leaf[index], self.values)

    def describe(self) -> dict[str, list[str]]:
        """Ids and hashes, ready for JSON: enough to prove later which contexts were used."""
        return {"ids": list(self.ids), "hashes": list(self.hashes)}


class Overlap(NamedTuple):
    """Content that a random split would have put into more than one part.

    Attributes:
        policy: what was done about it: "remove", "refuse" or "report".
        validation: validation contexts whose content is in the training part as well.
        test: test contexts whose content is in the training or validation part as well.
    """

    policy: OverlapPolicy
    validation: int
    test: int

    def __str__(self) -> str:
        found = f"{self.validation} validation and {self.test} test contexts equal to one of an earlier part"
        return (
            f"{found}, {'removed' if self.policy == 'remove' else 'kept'}" if any(self[1:]) else "no overlap"
        )


class Split(NamedTuple):
    """Three parts of one set, and the overlap found while making them. `validation` may be empty."""

    train: ContextSet
    validation: ContextSet
    test: ContextSet
    overlap: Overlap


def split(
    contexts: ContextSet,
    *,
    train: int,
    test: int | None = None,
    validation: int = 0,
    seed: Any = 0,
    overlap: OverlapPolicy = "remove",
    labels: npt.ArrayLike | None = None,
) -> Split:
    """Draw training, validation and test contexts without replacement, disjoint by content.

    Repeats inside one part are left alone: they belong to the distribution that the part samples.

    Args:
        contexts: n contexts.
        train, validation, test: how many of each; `test=None` takes all that are left.
        seed: an integer or a JAX key; the same seed gives the same split.
        overlap: "remove" passes over a context whose content an earlier part has; "refuse" raises where there
            is any; "report" leaves it in and only counts it.
        labels: (n,) classes; when given, every part has each class near its proportion in the whole set (the
            training part to within two contexts where all classes have the same size).

    Raises:
        BadInput: counts that are negative, zero or more than there are, labels that are not n, or an overlap
            to be refused.
    """
    _check_counts(train, test, validation)
    order = _order(contexts, seed, labels)
    taken: set[str] = set()
    parts, found, start = [], [], 0
    for count in (train, validation, test):
        rows, copies, start = _take(contexts.hashes, order, start, count, taken, overlap == "remove")
        parts.append(rows)
        found.append(copies)
        taken.update(contexts.hashes[i] for i in rows)
    report = Overlap(overlap, found[1], found[2])
    _check_parts(contexts, parts, (train, validation, test), report)
    return Split(*(contexts[np.asarray(rows, dtype=np.int64)] for rows in parts), overlap=report)


def bootstrap(seed: Any, n: int, members: int) -> npt.NDArray[np.int32]:
    """Resample n contexts with replacement, once for each ensemble member.

    Args:
        seed: an integer or a JAX key.

    Returns:
        (members, n) indices in [0, n).
    """
    if n < 1 or members < 1:
        raise BadInput(f"bootstrap: contexts and members must be at least 1, got {n} and {members}")
    return _generator(seed, _BOOTSTRAP_STREAM).integers(0, n, size=(members, n), dtype=np.int32)


def leaks(train: ContextSet, test: ContextSet) -> list[tuple[str, str]]:
    """Test contexts whose content is in training: (training id, test id), each test context at most once."""
    seen: dict[str, str] = {}
    for digest, name in zip(train.hashes, train.ids, strict=True):
        seen.setdefault(digest, name)
    pairs = zip(test.hashes, test.ids, strict=True)
    return [(seen[digest], name) for digest, name in pairs if digest in seen]


def _leading_axis(tree: PyTree, what: str) -> int:
    leaves = jax.tree.leaves(tree)
    sizes = {leaf.shape[0] if leaf.ndim else 0 for leaf in leaves}
    if len(sizes) != 1 or 0 in sizes:
        raise BadInput(
            f"contexts: the arrays of {what} must share a leading axis of at least 1, got {sizes or 'none'}"
        )
    return sizes.pop()


def _hash_rows(content: PyTree, n: int) -> tuple[str, ...]:
    """SHA-256 of every row over the leaves' paths, dtypes, shapes and little-endian bytes."""
    leaves = []
    header = b""
    for path, leaf in jax.tree_util.tree_flatten_with_path(content)[0]:
        if np.issubdtype(leaf.dtype, np.floating):
            leaf = leaf + leaf.dtype.type(0)  # -0.0 looks like 0.0 to every agent
        leaf = np.ascontiguousarray(leaf.astype(leaf.dtype.newbyteorder("<"), copy=False))
        header += f"{jax.tree_util.keystr(path)} {leaf.dtype.name} {leaf.shape[1:]}\n".encode()
        leaves.append(leaf)
    start = hashlib.sha256(header)
    digests = []
    for i in range(n):
        digest = start.copy()
        for leaf in leaves:
            digest.update(leaf[i].tobytes())
        digests.append(digest.hexdigest())
    return tuple(digests)


def _generator(seed: Any, stream: int) -> np.random.Generator:
    if isinstance(seed, jax.Array) and jnp.issubdtype(seed.dtype, jax.dtypes.prng_key):
        seed = jax.random.key_data(seed)
    words = np.ravel(np.asarray(seed))
    if words.dtype.kind not in "iu" or not words.size or words.min() < 0:
        raise BadInput(f"seed: must be a JAX key or an integer of at least 0, got {seed!r}")
    return np.random.default_rng([stream, *words.tolist()])


def _check_counts(train: int, test: int | None, validation: int) -> None:
    for name, count, least in (("train", train, 1), ("validation", validation, 0), ("test", test, 1)):
        if count is not None and count < least:
            raise BadInput(f"split: {name} contexts must be at least {least}, got {count}")


def _order(contexts: ContextSet, seed: Any, labels: npt.ArrayLike | None) -> npt.NDArray[np.int64]:
    """A random order; with labels, one that spreads every class evenly over its length."""
    generator = _generator(seed, _SPLIT_STREAM)
    order = generator.permutation(len(contexts))
    if labels is None:
        return order
    labels = np.asarray(labels)
    if labels.shape != (len(contexts),):
        raise BadInput(
            f"split: labels must be one for each of the {len(contexts)} contexts, got {labels.shape}"
        )
    position = np.empty(len(order))
    for label in np.unique(labels):
        members = order[labels[order] == label]
        position[members] = (np.arange(len(members)) + generator.random()) / len(members)
    return order[np.argsort(position[order], kind="stable")]


def _take(
    hashes: tuple[str, ...],
    order: npt.NDArray[np.int64],
    start: int,
    count: int | None,
    taken: set[str],
    remove: bool,
) -> tuple[list[int], int, int]:
    """The next `count` rows of `order` (None: all), how many had content in `taken`, and where to go on."""
    rows: list[int] = []
    copies = 0
    while start < len(order) and (count is None or len(rows) < count):
        row = int(order[start])
        start += 1
        copy = hashes[row] in taken
        copies += copy
        if not (copy and remove):
            rows.append(row)
    return rows, copies, start


def _check_parts(
    contexts: ContextSet, parts: list[list[int]], counts: tuple[int, int, int | None], found: Overlap
) -> None:
    wanted = sum(count or 0 for count in counts) + (counts[2] is None)
    short = any(
        len(rows) < (1 if count is None else count) for rows, count in zip(parts, counts, strict=True)
    )
    if short:
        usable = sum(len(rows) for rows in parts)
        removed = found.validation + found.test if found.policy == "remove" else 0
        copies = f", {removed} removed as copies across parts" if removed else ""
        raise BadInput(
            f"split: asked for {wanted} contexts, found {usable} of {len(contexts)}{copies}; ask for fewer"
        )
    if found.policy == "refuse" and (found.validation or found.test):
        raise BadInput(f"split: {found}; use overlap='remove', or remove the copies from the data")
