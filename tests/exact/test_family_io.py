"""The family file: what is written comes back, and no damaged file does harm."""

import io
import pickle
import random
import zipfile

import numpy as np
import pytest

from epomdp.errors import BadInput, RunFailed
from epomdp.exact import family_io, memory
from epomdp.exact.family import Family

PARTS = {
    "transitions": np.array([[[[0.25, 0.75], [1.0, 0.0]], [[0.0, 1.0], [0.1, 0.9]]]]),
    "rewards": np.array([[[1.0, -2.0], [0.1, 0.0]]]),
    "initial": np.array([1.0, 0.0]),
    "weights": np.array([1.0]),
    "discount": np.array(0.9),
}


def write(path, **changes):
    np.savez(path, **{key: value for key, value in (PARTS | changes).items() if value is not None})
    return path


def same(one, other):
    names = ("indptr", "successors", "probabilities", "rewards", "initial", "weights")
    arrays = all(np.array_equal(getattr(one, name), getattr(other, name)) for name in names)
    return arrays and one.discount == other.discount and one.horizon == other.horizon


@pytest.mark.parametrize("dense_entries", [0, 2**22])
@pytest.mark.parametrize("horizon", [None, 7])
def test_round_trip_keeps_every_bit(tmp_path, monkeypatch, dense_entries, horizon):
    monkeypatch.setattr(family_io, "_DENSE_ENTRIES", dense_entries)
    rng = np.random.default_rng(0)
    family = Family.from_arrays(
        rng.dirichlet(np.ones(5), (3, 5, 2)),
        rng.normal(size=(3, 5, 2)),
        np.full(5, 0.2),
        np.full(3, 1 / 3),
        0.9,
        horizon,
    )
    path = tmp_path / "family.npz"
    family.save(path)
    family.save(path)
    assert ("transitions" in np.load(path)) == (dense_entries > 0)
    assert same(Family.load(path), family)
    assert [p.name for p in tmp_path.iterdir()] == ["family.npz"]


def test_arrays_saved_by_numpy_are_read_in_either_order_and_precision(tmp_path):
    expected = Family.from_arrays(**PARTS)
    plain = write(tmp_path / "plain.npz")
    assert same(Family.load(plain), expected)
    transitions = np.asfortranarray(PARTS["transitions"].astype(">f8"))
    assert same(Family.load(write(tmp_path / "order.npz", transitions=transitions)), expected)
    whole = write(tmp_path / "whole.npz", rewards=np.array([[[1, -2], [0, 0]]]), discount=np.float32(0.5))
    assert Family.load(whole).rewards[0, 0].tolist() == [1.0, -2.0]


FAULTS = [
    ({"rewards": None}, "array 'rewards' is missing"),
    ({"transitions": None}, "array 'transitions' is missing"),
    ({"colour": np.zeros(1)}, "array 'colour' is unknown"),
    ({"transitions_indptr": np.zeros(1)}, "holds dense and sparse transitions"),
    ({"transitions": None, "transitions_indptr": np.zeros(1)}, "array 'transitions_successors' is missing"),
    ({"rewards": np.array([[[object()]]])}, "rewards holds pickled objects, which are never loaded"),
    ({"rewards": np.array([[["a"]]])}, "rewards holds <U1 values"),
    ({"weights": np.zeros(1, dtype=[("a", "f8")])}, "weights holds .* values"),
    ({"weights": np.zeros(1)}, "weights: they are all zero"),
    ({"horizon": np.array([3])}, r"horizon: has shape \(1,\)"),
    ({"horizon": np.array(2.5)}, "horizon: is .*2.5"),
    ({"transitions": PARTS["transitions"] * 0.5}, "environment 0, state 0, action 0 sums to 0.5"),
]


@pytest.mark.parametrize("changes, message", FAULTS)
def test_faults_are_one_line_with_the_file(tmp_path, changes, message):
    path = write(tmp_path / "bad.npz", **changes)
    with pytest.raises(BadInput, match=message) as raised:
        Family.load(path)
    assert str(raised.value).startswith(str(path)) and "\n" not in str(raised.value)


def test_pickles_are_never_loaded(tmp_path):
    class Trap:
        def __reduce__(self):
            return (open, (str(tmp_path / "sprung"), "w"))

    for name, content in (("object", pickle.dumps(Trap())), ("array", None)):
        path = tmp_path / f"{name}.npz"
        if content is None:
            write(path, rewards=np.array([[[Trap()]]], dtype=object))
        else:
            path.write_bytes(content)
        with pytest.raises(BadInput):
            Family.load(path)
    assert not (tmp_path / "sprung").exists()


def test_what_is_no_archive(tmp_path):
    empty, folder, text = tmp_path / "empty.npz", tmp_path / "folder.npz", tmp_path / "text.npz"
    empty.touch()
    folder.mkdir()
    text.write_text("discount: 0.95\n")
    for path, message in (
        (empty, "0 bytes"),
        (folder, "is a directory"),
        (text, "is no .npz archive"),
        (tmp_path / "absent.npz", "cannot be read .No such file"),
    ):
        with pytest.raises(BadInput, match=message):
            Family.load(path)


def test_a_file_too_large_for_memory_is_refused_before_it_is_read(tmp_path, monkeypatch):
    """A header may promise anything: 10^15 bytes here, in an archive of a few."""
    header = io.BytesIO()
    shape = (1000, 10_000, 4, 10_000)
    np.lib.format.write_array_header_1_0(header, {"descr": "<f8", "fortran_order": False, "shape": shape})
    path = tmp_path / "large.npz"
    with zipfile.ZipFile(write(path), "a") as archive:
        archive.writestr("horizon.npy", header.getvalue())
    with pytest.raises(BadInput, match=r"needs about 6.4e\+03 GB of memory, .* GB are free"):
        Family.load(path)
    monkeypatch.setattr(memory, "available_bytes", lambda: 100.0)
    with pytest.raises(BadInput, match=r"needs about .* GB of memory, 1e-07 GB are free"):
        Family.load(write(tmp_path / "small.npz"))


def test_a_header_smaller_than_the_data_is_noticed(tmp_path):
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(header, {"descr": "<f8", "fortran_order": False, "shape": (1,)})
    path = tmp_path / "more.npz"
    with zipfile.ZipFile(write(path, weights=None), "a") as archive:
        archive.writestr("weights.npy", header.getvalue() + np.ones(3).tobytes())
    with pytest.raises(BadInput, match="weights is damaged"):
        Family.load(path)


def test_mutated_files_are_read_or_refused(tmp_path):
    """Truncated at every length, and with random bytes changed: never anything but a family or one line."""
    whole = write(tmp_path / "whole.npz").read_bytes()
    rng = random.Random(0)
    path = tmp_path / "mutated.npz"
    refused = 0
    for i in range(600):
        data = bytearray(whole)
        if i < 200:
            data = data[: i * len(data) // 200]
        else:
            for _ in range(rng.choice([1, 1, 2, 8])):
                data[rng.randrange(len(data))] = rng.randrange(256)
        path.write_bytes(data)
        try:
            Family.load(path).checked()
        except BadInput as error:
            refused += 1
            assert "\n" not in str(error)
    assert refused > 400


def test_saving_fails_whole(tmp_path, monkeypatch):
    family = Family.from_arrays(**PARTS)
    path = tmp_path / "family.npz"
    family.save(path)
    before = path.read_bytes()

    def full(file, **arrays):
        file.write(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(np, "savez_compressed", full)
    with pytest.raises(RunFailed, match=r"writing failed \(No space left"):
        family.save(path)
    assert path.read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["family.npz"]
    with pytest.raises(BadInput, match="this is a directory"):
        family.save(tmp_path)
    with pytest.raises(BadInput, match=r"cannot be written \(No such file"):
        family.save(tmp_path / "absent" / "family.npz")
