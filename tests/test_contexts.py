"""Context sets: hashes by content, splits that share none, resamples, leaks."""

import itertools
import json

import jax
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from epomdp.contexts import ContextSet, bootstrap, leaks, split
from epomdp.errors import BadInput


def numbered(codes):
    """One context for each code; equal codes are equal content."""
    codes = np.asarray(codes, dtype=np.int32)
    return ContextSet.from_values({"code": codes, "row": np.arange(len(codes))}, content={"code": codes})


def hash_of(array):
    return ContextSet.from_values({"x": np.asarray(array)[None]}).hashes[0]


def test_values_ids_and_single_contexts():
    contexts = ContextSet.from_values({"x": np.arange(6).reshape(3, 2)}, ids=["a", "b", "c"])
    assert len(contexts) == 3
    np.testing.assert_array_equal(contexts.context(1)["x"], [2, 3])
    chosen = contexts[np.array([2, 0, 2])]
    assert chosen.ids == ("c", "a", "c")
    assert chosen.hashes == tuple(contexts.hashes[i] for i in (2, 0, 2))
    np.testing.assert_array_equal(chosen.values["x"], [[4, 5], [0, 1], [4, 5]])
    assert contexts[np.array([True, False, True])].ids == ("a", "c")
    assert contexts[1:].ids == ("b", "c")
    assert contexts[-1].ids == ("c",)
    assert [one.ids for one in contexts] == [("a",), ("b",), ("c",)]
    with pytest.raises(IndexError):
        contexts[3]


def test_describe_is_json_with_ids_and_hashes():
    contexts = numbered([5, 6])
    assert json.loads(json.dumps(contexts.describe())) == {"ids": ["0", "1"], "hashes": list(contexts.hashes)}


def test_hash_is_sha256_of_documented_bytes_and_stable():
    # SHA-256 of b"['x'] int32 (2,)\n" and the eight bytes. A literal: another hash would break the proof that
    # old runs kept their test contexts apart.
    assert hash_of(np.array([1, 2], dtype=np.int32)) == (
        "2c06a1db5f56dc466c986a1c7a49babfccea04e66dc3a2d0d94e64bb89a52357"
    )


@pytest.mark.parametrize(
    "other",
    [
        np.array([1, 2], dtype=np.int64),
        np.array([1.0, 2.0], dtype=np.float32),
        np.array([[1, 2]], dtype=np.int32),
        np.array([2, 1], dtype=np.int32),
        np.array([1, 2, 0], dtype=np.int32),
    ],
    ids=["dtype", "kind", "shape", "order", "length"],
)
def test_hash_tells_dtype_shape_and_values_apart(other):
    assert hash_of(other) != hash_of(np.array([1, 2], dtype=np.int32))


def test_hash_tells_names_apart_and_ignores_memory_layout():
    a, b = np.array([[1, 2]]), np.array([[3, 4]])
    swapped = [ContextSet.from_values(v).hashes for v in ({"a": a, "b": b}, {"a": b, "b": a})]
    assert swapped[0] != swapped[1]
    square = np.arange(16, dtype=np.float32).reshape(4, 4)
    assert hash_of(square) == hash_of(np.asfortranarray(square)) == hash_of(square.astype(">f4"))
    assert hash_of(np.array([-0.0, 1.0])) == hash_of(np.array([0.0, 1.0]))


def test_content_leaves_out_what_the_agent_does_not_see():
    image = np.zeros((2, 3, 3), np.float32)
    values = {"image": image, "label": np.array([0, 1])}
    assert len(set(ContextSet.from_values(values).hashes)) == 2
    assert len(set(ContextSet.from_values(values, content={"image": image}).hashes)) == 1


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: ContextSet.from_values({}), "leading axis"),
        (lambda: ContextSet.from_values({"x": np.zeros((0, 2))}), "leading axis"),
        (lambda: ContextSet.from_values({"x": np.float32(1)}), "leading axis"),
        (lambda: ContextSet.from_values({"x": np.zeros(2), "y": np.zeros(3)}), "leading axis"),
        (lambda: ContextSet.from_values({"x": np.zeros(2)}, content={"x": np.zeros(3)}), "content"),
        (lambda: ContextSet.from_values({"x": np.zeros(2)}, ids=["a"]), "2 different ids"),
        (lambda: ContextSet.from_values({"x": np.zeros(2)}, ids=["a", "a"]), "2 different ids"),
    ],
)
def test_bad_sets(make, message):
    with pytest.raises(BadInput, match=message) as caught:
        make()
    assert "\n" not in str(caught.value)


codes = st.lists(st.integers(0, 12), min_size=6, max_size=40)


@settings(deadline=None, max_examples=60)
@given(codes, st.integers(1, 3), st.integers(0, 2), st.integers(0, 2**32 - 1))
def test_parts_share_no_content_and_no_row(values, train, validation, seed):
    contexts = numbered(values)
    try:
        parts = split(contexts, train=train, validation=validation, test=1, seed=seed)
    except BadInput:
        # Too few are left only if what is outside the training content cannot fill the rest.
        assert len(set(values)) <= train + validation
        return
    assert [len(part) for part in parts[:3]] == [train, validation, 1]
    for one, other in itertools.combinations(parts[:3], 2):
        assert not set(one.hashes) & set(other.hashes)
    rows = np.concatenate([part.values["row"] for part in parts[:3]])
    assert len(set(rows)) == len(rows)
    assert not leaks(parts.train, parts.test)


@settings(deadline=None, max_examples=40)
@given(codes, st.integers(0, 1000))
def test_removed_counts_are_the_copies_of_earlier_parts(values, seed):
    contexts = numbered(values)
    kept = split(contexts, train=2, test=None, seed=seed, overlap="report")
    in_train = set(kept.train.values["code"])
    copies = sum(code in in_train for code in kept.test.values["code"])
    assert kept.overlap == ("report", 0, copies)
    assert len(leaks(kept.train, kept.test)) == copies
    assert sorted([*kept.train.ids, *kept.test.ids]) == sorted(contexts.ids)
    if copies == len(kept.test):
        with pytest.raises(BadInput, match="removed as copies"):
            split(contexts, train=2, test=None, seed=seed)
        return
    cleaned = split(contexts, train=2, test=None, seed=seed)
    assert cleaned.train.ids == kept.train.ids
    assert cleaned.overlap == ("remove", 0, copies)
    assert cleaned.test.ids == tuple(
        name
        for name, code in zip(kept.test.ids, kept.test.values["code"], strict=True)
        if code not in in_train
    )


def test_overlap_is_counted_against_all_earlier_parts():
    contexts = numbered([0] * 30)
    parts = split(contexts, train=3, validation=5, test=7, seed=0, overlap="report")
    assert parts.overlap == ("report", 5, 7)
    assert "5 validation and 7 test" in str(parts.overlap)
    assert "kept" in str(parts.overlap)
    assert str(split(numbered(range(9)), train=3, test=2, seed=0).overlap) == "no overlap"


def test_refuse_raises_only_where_parts_overlap():
    with pytest.raises(BadInput, match="0 validation and 3 test"):
        split(numbered([4] * 6), train=3, test=3, seed=0, overlap="refuse")
    # Copies inside one part are no overlap.
    parts = split(numbered([4] * 6), train=6 - 1, test=1, seed=0, overlap="report")
    assert len(set(parts.train.hashes)) == 1
    assert split(numbered(range(6)), train=3, test=3, seed=0, overlap="refuse").overlap == ("refuse", 0, 0)


def test_same_seed_same_split_and_keys_serve_as_seeds():
    contexts = numbered(range(50))
    draws = {seed: split(contexts, train=20, test=20, seed=seed).train.ids for seed in range(5)}
    assert len(set(draws.values())) == 5
    assert all(split(contexts, train=20, test=20, seed=seed).train.ids == ids for seed, ids in draws.items())
    by_key = [split(contexts, train=20, test=20, seed=jax.random.key(s)).train.ids for s in (0, 0, 1)]
    assert by_key[0] == by_key[1] != by_key[2]
    raw = split(contexts, train=20, test=20, seed=jax.random.key_data(jax.random.key(1)))
    assert raw.train.ids == by_key[2]


def test_every_context_is_equally_likely_to_train():
    contexts = numbered(range(10))
    counts = np.zeros(10)
    for seed in range(2000):
        counts[split(contexts, train=3, test=1, seed=seed).train.values["row"]] += 1
    # Binomial(2000, .3): standard deviation 20.5.
    assert np.abs(counts - 600).max() < 4.5 * 20.5


def test_labels_spread_every_class_over_all_parts():
    labels = np.repeat(np.arange(5), 40)
    contexts = numbered(range(200))
    for seed in range(20):
        parts = split(contexts, train=60, validation=20, test=100, seed=seed, labels=labels)
        counts = np.bincount(labels[parts.train.values["row"]], minlength=5)
        assert np.abs(counts - 12).max() <= 2
        assert np.abs(np.bincount(labels[parts.test.values["row"]], minlength=5) - 20).max() <= 4
    plain = [
        np.bincount(labels[split(contexts, train=60, test=100, seed=s).train.values["row"]], minlength=5)
        for s in range(20)
    ]
    assert np.abs(np.array(plain) - 12).max() > 2


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"train": 0, "test": 1}, "train contexts must be at least 1, got 0"),
        ({"train": -3, "test": 1}, "train contexts must be at least 1, got -3"),
        ({"train": 1, "test": 0}, "test contexts must be at least 1, got 0"),
        ({"train": 1, "test": 1, "validation": -1}, "validation contexts must be at least 0"),
        ({"train": 6, "test": 5}, "asked for 11 contexts, found 10 of 10"),
        ({"train": 11, "test": 1}, "asked for 12 contexts, found 10 of 10"),
        ({"train": 10, "test": None}, "asked for 11 contexts, found 10 of 10"),
        ({"train": 2, "test": 2, "labels": np.zeros(9)}, "one for each of the 10 contexts"),
        ({"train": 2, "test": 2, "seed": -1}, "seed"),
        ({"train": 2, "test": 2, "seed": 0.5}, "seed"),
    ],
)
def test_bad_splits_name_the_fault_in_one_line(arguments, message):
    with pytest.raises(BadInput, match=message) as caught:
        split(numbered(range(10)), **{"seed": 0, **arguments})
    assert "\n" not in str(caught.value)


def test_all_that_are_left_become_the_test_part():
    parts = split(numbered(range(10)), train=3, validation=2, seed=1)
    assert len(parts.test) == 5


def test_bootstrap_is_per_member_with_replacement_and_deterministic():
    draws = bootstrap(7, 200, 4)
    assert draws.shape == (4, 200)
    assert draws.dtype == np.int32
    assert draws.min() >= 0
    assert draws.max() < 200
    np.testing.assert_array_equal(draws, bootstrap(7, 200, 4))
    assert not np.array_equal(draws, bootstrap(8, 200, 4))
    assert len({row.tobytes() for row in draws}) == 4
    # A member sees a fraction 1 - (1 - 1/n)^n of the contexts, here .6330 with standard deviation about .022.
    unique = [len(np.unique(row)) / 200 for row in bootstrap(1, 200, 100)]
    assert abs(np.mean(unique) - (1 - (1 - 1 / 200) ** 200)) < 5 * 0.022 / 10


def test_bootstrap_takes_keys():
    by_key = [bootstrap(jax.random.key(seed), 50, 2) for seed in (3, 3, 4)]
    np.testing.assert_array_equal(by_key[0], by_key[1])
    assert not np.array_equal(by_key[0], by_key[2])


@pytest.mark.parametrize(("n", "members"), [(0, 1), (1, 0), (-1, 2)])
def test_bootstrap_of_nothing(n, members):
    with pytest.raises(BadInput, match="at least 1"):
        bootstrap(0, n, members)


def test_leaks_pair_test_with_the_first_training_context_of_that_content():
    train = ContextSet.from_values({"x": np.array([1, 2, 2])}, ids=["a", "b", "c"])
    test = ContextSet.from_values({"x": np.array([3, 2, 2, 1])}, ids=["d", "e", "f", "g"])
    assert leaks(train, test) == [("b", "e"), ("b", "f"), ("a", "g")]
    assert leaks(test[:1], train) == []
