"""Labelled images for the guessing game: scikit-learn's digits, IDX files, folders of image files, `.npz`."""

from __future__ import annotations

import dataclasses
import gzip
import math
import stat
import struct
import warnings
import zipfile
import zlib
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image

from epomdp.contexts import ContextSet
from epomdp.errors import BadInput

# What the archive readers raise on broken input (PIL and zipfile have no common error class).
_BROKEN = (
    OSError,
    EOFError,
    ValueError,
    KeyError,
    IndexError,
    TypeError,
    SyntaxError,
    NotImplementedError,
    RuntimeError,
    MemoryError,
    struct.error,
    zlib.error,
    zipfile.BadZipFile,
    Image.DecompressionBombError,
    Image.DecompressionBombWarning,
)
_IDX_PARTS = ("train", "t10k")
_GREY_MODES = {"1", "L"}
_COLOUR_MODES = {"LA", "La", "P", "PA", "RGB", "RGBA", "RGBa", "RGBX", "CMYK", "YCbCr"}


@dataclasses.dataclass(frozen=True, eq=False)
class Images:
    """n labelled images of one size.

    Attributes:
        images: (n, H, W) or (n, H, W, C) float32 pixels in [0, 1].
        labels: (n,) int32 in 0 .. K - 1.
        names: K label names.
        ids: n image names.
    """

    images: npt.NDArray[np.float32]
    labels: npt.NDArray[np.int32]
    names: tuple[str, ...]
    ids: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.labels)


def load_images(source: str | Path | Sequence[str | Path]) -> Images:
    """Read labelled images.

    Args:
        source: one of

            - "digits": the 1797 handwritten digits (8 x 8) that scikit-learn installs; no network is used;
            - an images file and a labels file in IDX format, plain or gzip (MNIST, FashionMNIST, KMNIST), or the
              images file alone where the labels file beside it has the same name with "labels" and "idx1";
            - a folder with such files under their standard names; both `train-` and `t10k-` are read;
            - a folder with one subfolder of image files for each label;
            - an `.npz` file with `images` (n, H, W[, C]), uint8 or floats in [0, 1], `labels` (n,), integers
              0 .. K - 1, and if wished `names` (K,).

    Raises:
        BadInput: whatever is wrong with the source, with the name of the file at fault.
    """
    if not isinstance(source, (str, Path)):
        if len(source) != 2:
            raise BadInput(f"images: give an images file and a labels file, got {len(source)} paths")
        return _from_idx([("", Path(source[0]), Path(source[1]))])
    if source == "digits":
        return _digits()
    path = Path(source)
    try:
        folder = stat.S_ISDIR(path.stat().st_mode)
    except (OSError, ValueError) as error:
        raise BadInput(
            f"{path}: {_reason(error)}; give 'digits', a folder of images or an .npz file"
        ) from error
    if folder:
        return _from_idx(pairs) if (pairs := _idx_pairs(path)) else _from_folder(path)
    if path.suffix == ".npz":
        return _from_npz(path)
    labels = path.with_name(path.name.replace("images", "labels").replace("idx3", "idx1"))
    if labels == path or not labels.is_file():
        raise BadInput(
            f"{path}: neither .npz nor an IDX images file with its labels ({labels.name}) beside it"
        )
    return _from_idx([("", path, labels)])


def guess_contexts(images: Images) -> ContextSet:
    """Contexts of the guessing game, hashed by image alone: an agent sees no label."""
    return ContextSet.from_values(
        {"image": images.images, "label": images.labels}, images.ids, content={"image": images.images}
    )


def label_conflicts(contexts: ContextSet) -> list[tuple[str, str]]:
    """Pairs of ids with the same image but different labels, which no policy can tell apart."""
    first: dict[str, int] = {}
    labels = contexts.values["label"]
    seen = [first.setdefault(digest, i) for i, digest in enumerate(contexts.hashes)]
    return [(contexts.ids[j], contexts.ids[i]) for i, j in enumerate(seen) if labels[i] != labels[j]]


def _checked(
    where: Path | str, images: npt.NDArray, labels: npt.NDArray, names: Sequence[str], ids: Iterable[str]
) -> Images:
    """The last gate of every source: what is wrong, with the first index at fault."""
    if len(images) != len(labels):
        raise BadInput(f"{where}: {len(images)} images but {len(labels)} labels; they must match one to one")
    if images.ndim not in (3, 4) or 0 in images.shape:
        raise BadInput(
            f"{where}: images must have shape (n, H, W) or (n, H, W, C), none of them 0, got {images.shape}"
        )
    if images.dtype in (np.uint8, np.bool_):
        images = images.astype(np.float32) / np.float32(255 if images.dtype == np.uint8 else 1)
    outside = ~((images >= 0) & (images <= 1)).reshape(len(images), -1).all(axis=1)  # NaN is outside as well
    if outside.any():
        raise BadInput(
            f"{where}: image {outside.argmax()} has NaN or pixels outside [0, 1]; scale it, or use uint8"
        )
    if len(np.unique(labels)) < 2:
        raise BadInput(f"{where}: all images have one label; a guessing game needs at least two")
    strange = (labels < 0) | (labels >= len(names))
    if strange.any():
        i = int(strange.argmax())
        raise BadInput(
            f"{where}: label {labels[i]} of image {i} is not in 0 .. {len(names) - 1}; renumber the labels"
        )
    return Images(
        np.ascontiguousarray(images, np.float32), labels.astype(np.int32), tuple(map(str, names)), tuple(ids)
    )


def _digits() -> Images:
    from sklearn.datasets import load_digits  # a slow import that no other source needs

    pixels, labels = load_digits(return_X_y=True)
    images = (pixels.reshape(-1, 8, 8) / 16).astype(np.float32)
    return _checked("digits", images, labels, "0123456789", [f"digits-{i}" for i in range(len(labels))])


# ---- IDX files


def _idx_pairs(folder: Path) -> list[tuple[str, Path, Path]]:
    """(part, images file, labels file) for the standard names in a folder; a missing partner is named."""
    pairs = []
    for part in _IDX_PARTS:
        images, labels = (
            _first_existing(
                folder, [f"{part}-{kind}{mark}idx{ndim}-ubyte{end}" for mark in "-." for end in ("", ".gz")]
            )
            for kind, ndim in (("images", 3), ("labels", 1))
        )
        if images and labels:
            pairs.append((f"{part}-", images, labels))
        elif images or labels:
            raise BadInput(
                f"{images or labels}: its {'labels' if images else 'images'} file is missing in {folder}"
            )
    return pairs


def _first_existing(folder: Path, names: list[str]) -> Path | None:
    return next((folder / name for name in names if (folder / name).is_file()), None)


def _from_idx(pairs: list[tuple[str, Path, Path]]) -> Images:
    images, labels, ids = [], [], []
    for part, images_file, labels_file in pairs:
        images.append(_read_idx(images_file, 3))
        labels.append(_read_idx(labels_file, 1))
        if len(images[-1]) != len(labels[-1]):
            raise BadInput(
                f"{images_file}: {len(images[-1])} images, but {len(labels[-1])} labels in {labels_file}; "
                "they must match one to one"
            )
        ids.extend(f"{part}{i}" for i in range(len(labels[-1])))
    if len({array.shape[1:] for array in images}) > 1:
        raise BadInput(f"{pairs[1][1]}: images of another size than {pairs[0][1]}; give one pair only")
    # Some of the family count labels from 1 or leave some out; the names keep the numbers of the file.
    names, codes = np.unique(np.concatenate(labels), return_inverse=True)
    return _checked(pairs[0][1], np.concatenate(images), codes, [str(name) for name in names], ids)


def _read_idx(path: Path, ndim: int) -> npt.NDArray[np.uint8]:
    """An IDX file of unsigned bytes: magic 00 00 08 ndim, ndim big-endian sizes, then the data."""
    try:
        data = path.read_bytes()
        if data[:2] == b"\x1f\x8b":
            data = gzip.decompress(data)
    except _BROKEN as error:
        raise BadInput(
            f"{path}: cannot be read ({_reason(error)}); fetch it again or check the path"
        ) from error
    header = 4 + 4 * ndim
    if len(data) >= 4 and data[:4] != bytes([0, 0, 8, ndim]):
        kind = "images" if ndim == 3 else "labels"
        raise BadInput(f"{path}: magic number 0x{data[:4].hex()}, {kind} files have 0x00000{8:x}{ndim:02x}")
    sizes = struct.unpack(f">{ndim}I", data[4:header]) if len(data) >= header else None
    if sizes is None or len(data) < header + math.prod(sizes):
        wanted = (
            "its header" if sizes is None else f"the {header + math.prod(sizes)} that its header promises"
        )
        raise BadInput(f"{path}: truncated, {len(data)} bytes are fewer than {wanted}; fetch it again")
    if len(data) > header + math.prod(sizes):
        raise BadInput(
            f"{path}: {len(data)} bytes, but its header promises {header + math.prod(sizes)}; not an IDX file"
        )
    return np.frombuffer(data, np.uint8, offset=header).reshape(sizes)


# ---- folders of image files


def _from_folder(folder: Path) -> Images:
    labels_folders = [p for p in _entries(folder) if p.is_dir()]
    if not labels_folders:
        raise BadInput(
            f"{folder}: neither IDX files nor subfolders in it; make one subfolder of images for each label"
        )
    files, labels = [], []
    for label, subfolder in enumerate(labels_folders):
        found = [p for p in _entries(subfolder) if p.suffix.lower() in Image.registered_extensions()]
        if not found:
            raise BadInput(f"{subfolder}: no image files in it; remove it or fill it")
        files.extend(found)
        labels.extend([label] * len(found))
    ids = [f"{path.parent.name}/{path.name}" for path in files]
    names = [p.name for p in labels_folders]
    return _checked(folder, _read_image_files(files), np.asarray(labels), names, ids)


def _entries(folder: Path) -> list[Path]:
    try:
        return sorted(path for path in folder.iterdir() if not path.name.startswith("."))
    except OSError as error:
        raise BadInput(f"{folder}: cannot be listed ({_reason(error)}); check its permissions") from error


def _read_image_files(files: list[Path]) -> npt.NDArray[np.uint8]:
    """(n, H, W) where all are grey, else (n, H, W, 3)."""
    pictures = [_open_image(path) for path in files]
    mode = "L" if all(picture.mode in _GREY_MODES for picture in pictures) else "RGB"
    for path, picture in zip(files, pictures, strict=True):
        if picture.size != pictures[0].size:
            raise BadInput(
                f"{path}: {picture.width} x {picture.height} pixels, but {files[0]} has "
                f"{pictures[0].width} x {pictures[0].height}; resize them to one size"
            )
    return np.stack([np.asarray(picture.convert(mode)) for picture in pictures])


def _open_image(path: Path) -> Image.Image:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(path) as picture:
                picture.load()
                loaded = picture.copy()
    except _BROKEN as error:
        raise BadInput(f"{path}: unreadable image ({_reason(error)}); replace or remove it") from error
    if loaded.mode not in _GREY_MODES | _COLOUR_MODES:
        raise BadInput(f"{path}: pixels of mode {loaded.mode} are not read; convert it to 8-bit grey or RGB")
    # A palette with transparency converts to RGB only by way of RGBA.
    return loaded.convert("RGBA") if loaded.has_transparency_data else loaded


# ---- .npz


def _from_npz(path: Path) -> Images:
    try:
        # A file of our own, because np.load leaves its own open where the archive is broken.
        with path.open("rb") as file, np.load(file, allow_pickle=False) as archive:
            arrays = {name: archive[name] for name in archive.files if name in ("images", "labels", "names")}
    except _BROKEN as error:
        raise BadInput(f"{path}: cannot be read as .npz without pickles ({_reason(error)})") from error
    missing = [name for name in ("images", "labels") if name not in arrays]
    if missing:
        raise BadInput(f"{path}: no array {missing[0]!r} in it; it needs 'images' and 'labels'")
    images, labels = arrays["images"], arrays["labels"]
    if labels.ndim != 1 or labels.dtype.kind not in "iu":
        raise BadInput(f"{path}: 'labels' must be (n,) integers, got {labels.dtype} of shape {labels.shape}")
    if images.dtype not in (np.uint8, np.bool_) and images.dtype.kind != "f":
        raise BadInput(f"{path}: 'images' must be uint8 or floats in [0, 1], got {images.dtype}")
    names = arrays.get("names", np.unique(labels))
    return _checked(
        path,
        np.atleast_1d(images),
        labels,
        [str(name) for name in names.ravel()],
        map(str, range(len(labels))),
    )


def _reason(error: BaseException) -> str:
    text = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    return " ".join((text or type(error).__name__).split())
