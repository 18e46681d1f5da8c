"""Image sources: what is read, and a one-line error for each way a source can be wrong."""

import gzip
import struct
import tarfile
import zlib

import numpy as np
import pytest
from PIL import Image
from sklearn.datasets import load_digits

from epomdp.contexts import split
from epomdp.envs.images import guess_contexts, label_conflicts, load_images
from epomdp.errors import BadInput

PIXELS = np.arange(4 * 3 * 5, dtype=np.uint8).reshape(4, 3, 5) * 4
LABELS = np.array([3, 0, 9, 3], dtype=np.uint8)


def idx(array):
    """Bytes of an IDX file, written here from the format's own description."""
    return (
        b"\x00\x00\x08" + bytes([array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape) + array.tobytes()
    )


@pytest.fixture
def pair(tmp_path):
    images, labels = tmp_path / "images", tmp_path / "labels"
    images.write_bytes(idx(PIXELS))
    labels.write_bytes(idx(LABELS))
    return images, labels


@pytest.fixture
def folder(tmp_path):
    """Two labels with two grey images each."""
    for label, name in enumerate(("cat", "dog")):
        (tmp_path / "pets" / name).mkdir(parents=True)
        for i in range(2):
            picture = Image.fromarray(np.full((4, 6), 50 * label + i, np.uint8))
            picture.save(tmp_path / "pets" / name / f"{i}.png")
    return tmp_path / "pets"


@pytest.fixture
def npz(tmp_path):
    def write(**arrays):
        arrays = {"images": PIXELS, "labels": np.array([0, 1, 1, 0]), **arrays}
        np.savez(tmp_path / "set.npz", **{name: array for name, array in arrays.items() if array is not None})
        return tmp_path / "set.npz"

    return write


def fault(source):
    with pytest.raises(BadInput) as caught:
        load_images(source)
    assert "\n" not in str(caught.value)
    return str(caught.value)


# ---- what is read


def test_digits_are_those_of_scikit_learn():
    images = load_images("digits")
    pixels, labels = load_digits(return_X_y=True)
    assert images.images.shape == (1797, 8, 8)
    assert images.images.dtype == np.float32
    np.testing.assert_array_equal(images.images.reshape(1797, 64) * 16, pixels)
    np.testing.assert_array_equal(images.labels, labels)
    assert images.names == tuple("0123456789")
    assert (images.images.min(), images.images.max()) == (0, 1)
    assert len(images) == len(set(images.ids)) == 1797


def test_idx_pair(pair):
    images = load_images(pair)
    np.testing.assert_array_equal(images.images, PIXELS.astype(np.float32) / np.float32(255))
    assert images.names == ("0", "3", "9")
    np.testing.assert_array_equal(images.labels, [1, 0, 2, 1])
    assert images.labels.dtype == np.int32


def test_images_file_alone_finds_its_labels(pair, tmp_path):
    np.testing.assert_array_equal(load_images(pair[0]).labels, [1, 0, 2, 1])
    for path, name in zip(pair, ("a-images-idx3-ubyte.gz", "a-labels-idx1-ubyte.gz"), strict=True):
        (tmp_path / name).write_bytes(gzip.compress(path.read_bytes()))
    np.testing.assert_array_equal(load_images(tmp_path / "a-images-idx3-ubyte.gz").labels, [1, 0, 2, 1])


def test_gzip_is_told_by_content_not_by_name(pair):
    plain = load_images(pair)
    for path in pair:
        path.write_bytes(gzip.compress(path.read_bytes()))
    np.testing.assert_array_equal(load_images(pair).images, plain.images)


@pytest.mark.parametrize("name", ["{}-{}-idx{}-ubyte", "{}-{}-idx{}-ubyte.gz", "{}-{}.idx{}-ubyte"])
def test_folder_of_standard_names_reads_both_parts(tmp_path, name):
    squeeze = gzip.compress if name.endswith("gz") else bytes
    for part, count in (("train", 4), ("t10k", 2)):
        (tmp_path / name.format(part, "images", 3)).write_bytes(squeeze(idx(PIXELS[:count])))
        (tmp_path / name.format(part, "labels", 1)).write_bytes(squeeze(idx(LABELS[:count])))
    images = load_images(str(tmp_path))
    assert images.ids == ("train-0", "train-1", "train-2", "train-3", "t10k-0", "t10k-1")
    np.testing.assert_array_equal(images.labels, [1, 0, 2, 1, 1, 0])


def test_one_part_alone_is_enough(tmp_path):
    (tmp_path / "t10k-images-idx3-ubyte").write_bytes(idx(PIXELS))
    (tmp_path / "t10k-labels-idx1-ubyte").write_bytes(idx(LABELS))
    assert len(load_images(tmp_path)) == 4


def test_folder_of_image_files(folder):
    (folder / "cat" / "notes.txt").write_text("not an image")
    (folder / "cat" / ".hidden.png").write_bytes(b"")
    images = load_images(folder)
    assert images.names == ("cat", "dog")
    assert images.ids == ("cat/0.png", "cat/1.png", "dog/0.png", "dog/1.png")
    np.testing.assert_array_equal(images.labels, [0, 0, 1, 1])
    assert images.images.shape == (4, 4, 6)
    np.testing.assert_array_equal(images.images[:, 0, 0], np.float32([0, 1, 50, 51]) / np.float32(255))


def test_one_coloured_file_makes_all_rgb(folder):
    Image.new("RGB", (6, 4), (255, 0, 51)).save(folder / "dog" / "2.png")
    images = load_images(folder).images
    assert images.shape == (5, 4, 6, 3)
    np.testing.assert_allclose(images[4, 0, 0], [1, 0, 0.2])
    np.testing.assert_array_equal(images[1, 0, 0], np.full(3, np.float32(1) / 255))


def test_palette_with_transparency_is_read_without_a_warning(folder):
    picture = Image.new("RGBA", (6, 4), (10, 20, 30, 128)).quantize(4)
    picture.save(folder / "dog" / "2.png", transparency=bytes([128]))
    np.testing.assert_allclose(load_images(folder).images[4, 0, 0] * 255, [10, 20, 30], atol=2)


def test_npz(npz):
    images = load_images(npz(names=np.array(["no", "yes", "never"])))
    np.testing.assert_array_equal(images.images, PIXELS.astype(np.float32) / np.float32(255))
    assert images.names == ("no", "yes", "never")
    assert load_images(npz()).names == ("0", "1")
    floats = PIXELS.astype(np.float64) / 255
    np.testing.assert_array_equal(load_images(npz(images=floats)).images, floats.astype(np.float32))
    coloured = np.zeros((4, 2, 2, 3), np.uint8)
    assert load_images(npz(images=coloured)).images.shape == (4, 2, 2, 3)
    np.testing.assert_array_equal(np.unique(load_images(npz(images=PIXELS > 9)).images), [0, 1])


# ---- what is wrong with it


def test_missing_sources():
    assert "no/such/place: No such file" in fault("no/such/place")
    assert "got 3 paths" in fault(("a", "b", "c"))
    assert "no-images: cannot be read (No such file" in fault(("no-images", "no-labels"))


def test_other_files_are_refused(tmp_path, pair):
    assert f"{pair[1]}: neither .npz nor an IDX images file with its labels (labels) beside it" in fault(
        pair[1]
    )
    pair[1].unlink()
    assert f"{pair[0]}: neither .npz nor an IDX images file with its labels (labels)" in fault(pair[0])
    with tarfile.open(tmp_path / "x.tar", "w"):
        pass
    assert "x.tar: neither .npz" in fault(tmp_path / "x.tar")


def test_every_truncation_of_an_idx_file_is_named(pair):
    for path in pair:
        whole = path.read_bytes()
        for length in range(len(whole)):
            path.write_bytes(whole[:length])
            assert f"{path}: truncated" in fault(pair)
        path.write_bytes(whole)


def test_every_truncation_of_a_gzip_file_is_named(pair):
    whole = gzip.compress(pair[0].read_bytes())
    for length in range(len(whole)):
        pair[0].write_bytes(whole[:length])
        assert str(pair[0]) in fault(pair)


def test_damaged_gzip(pair):
    squeezed = bytearray(gzip.compress(pair[0].read_bytes()))
    squeezed[-6] ^= 0xFF
    pair[0].write_bytes(squeezed)
    assert "CRC" in fault(pair)


def test_wrong_magic(pair):
    images, labels = pair
    assert "labels: magic number 0x00000801, images files have 0x00000803" in fault((labels, images))
    images.write_bytes(b"\x89PNG" + bytes(60))
    assert f"{images}: magic number 0x89504e47" in fault(pair)


def test_more_data_than_promised(pair):
    pair[1].write_bytes(pair[1].read_bytes() + b"\x00")
    assert f"{pair[1]}: 13 bytes, but its header promises 12" in fault(pair)


def test_labels_that_do_not_match_in_number(pair):
    pair[1].write_bytes(idx(LABELS[:3]))
    assert "4 images, but 3 labels" in fault(pair)


def test_empty_idx(pair):
    pair[0].write_bytes(idx(PIXELS[:0]))
    pair[1].write_bytes(idx(LABELS[:0]))
    assert "(0, 3, 5)" in fault(pair)


def test_idx_folder_without_its_partner(tmp_path):
    (tmp_path / "train-images-idx3-ubyte").write_bytes(idx(PIXELS))
    assert "train-images-idx3-ubyte: its labels file is missing" in fault(tmp_path)
    (tmp_path / "train-images-idx3-ubyte").rename(tmp_path / "train-labels-idx1-ubyte")
    assert "train-labels-idx1-ubyte: its images file is missing" in fault(tmp_path)


def test_idx_parts_of_two_sizes(tmp_path):
    for part, pixels in (("train", PIXELS), ("t10k", PIXELS[:, :2])):
        (tmp_path / f"{part}-images-idx3-ubyte").write_bytes(idx(np.ascontiguousarray(pixels)))
        (tmp_path / f"{part}-labels-idx1-ubyte").write_bytes(idx(LABELS))
    assert "t10k-images-idx3-ubyte: images of another size" in fault(tmp_path)


def test_one_class_only(pair, folder, npz):
    pair[1].write_bytes(idx(np.full(4, 7, np.uint8)))
    assert "one label" in fault(pair)
    assert "one label" in fault(npz(labels=np.zeros(4, int), names=np.array(["a", "b"])))
    for path in (folder / "dog").iterdir():
        path.unlink()
    (folder / "dog").rmdir()
    assert "one label" in fault(folder)


def test_empty_folders(tmp_path, folder):
    (tmp_path / "empty").mkdir()
    assert "empty: neither IDX files nor subfolders" in fault(tmp_path / "empty")
    (folder / "eel").mkdir()
    assert "eel: no image files" in fault(folder)


def test_unreadable_image_is_named(folder):
    path = folder / "cat" / "1.png"
    whole = path.read_bytes()
    for broken in (b"", b"not a picture", whole[: len(whole) - 25], whole[:20]):
        path.write_bytes(broken)
        assert f"{path}: unreadable image" in fault(folder)


def test_image_of_another_size_is_named(folder):
    Image.new("L", (4, 6)).save(folder / "dog" / "0.png")
    assert "dog/0.png: 4 x 6 pixels, but " in fault(folder)


def test_sixteen_bit_image_is_refused_rather_than_clipped(folder):
    Image.fromarray(np.full((4, 6), 40000, np.uint16)).save(folder / "dog" / "0.png")
    assert "dog/0.png: pixels of mode I;16" in fault(folder)


def test_image_of_absurd_size_is_refused_before_it_fills_the_memory(folder):
    path = folder / "cat" / "1.png"
    whole = bytearray(path.read_bytes())
    whole[16:24] = struct.pack(">2I", 12000, 12000)
    whole[29:33] = struct.pack(">I", zlib.crc32(whole[12:29]))
    path.write_bytes(whole)
    assert "decompression bomb" in fault(folder)


@pytest.mark.parametrize("kind", ["idx", "gzip", "npz"])
def test_damaged_files_are_read_or_refused_never_worse(pair, npz, kind):
    path = npz() if kind == "npz" else pair[0]
    whole = gzip.compress(path.read_bytes()) if kind == "gzip" else path.read_bytes()
    rng = np.random.default_rng(0)
    refused = 0
    for _ in range(200):
        damaged = bytearray(whole)
        for place in rng.integers(len(whole), size=rng.integers(1, 4)):
            damaged[place] = rng.integers(256)
        path.write_bytes(damaged)
        try:
            load_images(path if kind == "npz" else pair)
        except BadInput as error:
            refused += 1
            assert str(path) in str(error)
    assert refused


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"images": None}, "no array 'images'"),
        ({"labels": None}, "no array 'labels'"),
        ({"labels": np.array([0, 1, 1])}, "4 images but 3 labels"),
        ({"labels": np.array([0.0, 1, 1, 0])}, "must be (n,) integers, got float64"),
        ({"labels": np.zeros((4, 1), int)}, "must be (n,) integers"),
        ({"labels": np.array([0, -1, 1, 0])}, "label -1 of image 1 is not in 0 .. 2"),
        ({"labels": np.array([0, 1, 5, 0])}, "label 5 of image 2 is not in 0 .. 2"),
        (
            {"labels": np.array([0, 1, 2, 0]), "names": np.array(["a", "b"])},
            "label 2 of image 2 is not in 0 .. 1",
        ),
        ({"images": PIXELS.astype(np.int64)}, "must be uint8 or floats in [0, 1], got int64"),
        ({"images": PIXELS.astype(np.float32)}, "image 0 has NaN or pixels outside [0, 1]"),
        ({"images": PIXELS[:, 0]}, "must have shape (n, H, W)"),
        ({"images": PIXELS[:, :0]}, "none of them 0"),
        ({"images": np.float32(1)}, "1 images but 4 labels"),
    ],
)
def test_bad_npz(npz, arrays, message):
    assert message in fault(npz(**arrays))


@pytest.mark.parametrize("value", [np.nan, np.inf, -0.1, 1.5])
def test_pixel_that_is_no_brightness(npz, value):
    images = np.zeros((4, 2, 2), np.float32)
    images[2, 1, 1] = value
    assert "image 2 has NaN or pixels outside [0, 1]" in fault(npz(images=images))


def test_pickled_objects_are_refused(npz):
    assert "cannot be read as .npz without pickles" in fault(npz(images=np.array([{}, {}, {}, {}])))


def test_damaged_npz(npz, tmp_path):
    path = npz()
    whole = path.read_bytes()
    for length in range(0, len(whole), 7):
        path.write_bytes(whole[:length])
        assert f"{path}: cannot be read" in fault(path)
    np.save(tmp_path / "array.npy", PIXELS)
    (tmp_path / "array.npy").rename(path)
    assert f"{path}: cannot be read" in fault(path)


# ---- contexts


def test_contexts_are_hashed_by_image_alone(npz):
    pixels = PIXELS.copy()
    pixels[3] = pixels[0]
    pixels[2] = pixels[1]  # the same label as well: no conflict
    contexts = guess_contexts(load_images(npz(images=pixels, labels=np.array([0, 1, 1, 1]))))
    assert contexts.hashes[0] == contexts.hashes[3]
    assert len(set(contexts.hashes)) == 2
    assert label_conflicts(contexts) == [("0", "3")]
    assert contexts.context(2)["label"] == 1
    np.testing.assert_array_equal(
        contexts.context(2)["image"], pixels[2].astype(np.float32) / np.float32(255)
    )
    for seed in range(10):
        parts = split(contexts, train=1, test=None, seed=seed)
        assert not set(parts.train.hashes) & set(parts.test.hashes)


def test_digits_hold_no_image_twice():
    contexts = guess_contexts(load_images("digits"))
    assert len(set(contexts.hashes)) == 1797
    assert label_conflicts(contexts) == []
