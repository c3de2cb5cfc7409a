"""Images and labels as arrays: idx files (MNIST and what is made like it) and npz files (Keras, MedMNIST)."""

from __future__ import annotations

import hashlib
import logging
import re
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa
from datasets import Dataset, Features, Image, Value

from hf_icckd.data.cache import cache_key, file_state
from hf_icckd.data.containers.arrow_cache import BATCH_BYTES, cached_rows
from hf_icckd.data.containers.netpbm import check_brightness, netpbm, to_8_bits
from hf_icckd.data.containers.stored_arrays import StoredArray, arrays_in, idx_stem

logger = logging.getLogger(__name__)

_IMAGES = {"images", "image", "imgs", "img", "x", "data", "inputs", "pixels"}
_LABELS = {"labels", "label", "y", "target", "targets", "class", "classes"}
_SPLITS = {
    "train",
    "training",
    "trn",
    "test",
    "testing",
    "t10k",
    "val",
    "valid",
    "validation",
    "dev",
    "eval",
    "holdout",
}
_WORD = re.compile(r"[A-Z]?[a-z0-9]+|[A-Z0-9]+(?![a-z])")  # x_train, trainImages, XTrain
_VERSION = 1  # increase it whenever other bytes are made of an array
PixelRange = Sequence[float] | None
Name = tuple[str, ...]  # words of the name of a set, then its split or an empty word


class ArraySplit(NamedTuple):
    """Where the images of a split are stored, and its labels if it has any."""

    images: StoredArray
    labels: StoredArray | None


def find_array_splits(files: Sequence[Path]) -> dict[str, ArraySplit]:
    """Pair the arrays of idx and npz files by their names, such as `x_train` and `y_train`; only headers are read.

    A split is called as its arrays are: `train`, `test` (also for `t10k`), `val`; where the files hold several sets,
    with the name of the set, such as `emnist-letters-train`.

    Raises:
        ValueError: If a file is damaged, no array is called like images, or labels have no images.
    """
    images: dict[Name, StoredArray] = {}
    labels: dict[Name, StoredArray] = {}
    other = []
    for file in files:
        arrays = arrays_in(file)
        for array in arrays:
            kind, name = _read_name(array, alone=len(arrays) == 1)
            if kind is None:
                other.append(array)
                continue
            found = images if kind == "images" else labels
            if name in found and not _same(found[name], array):
                raise ValueError(
                    f"{found[name]} and {array} are both the {kind} of {_shown(name)}, expected one of them; move "
                    "the other one away"
                )
            found.setdefault(name, array)
    lonely = [array for name, array in labels.items() if name not in images]
    if not images or lonely:
        raise ValueError(
            f"{f'{lonely[0]} has no images' if lonely else 'no array is called like images'} among "
            f"{_listed([*images.values(), *labels.values(), *other])}; expected idx files called "
            "train-images-idx3-ubyte and train-labels-idx1-ubyte, or an npz file made by numpy.savez(file, "
            "train_images=..., train_labels=...)"
        )
    if other:
        logger.info("arrays that are neither images nor labels are left out: %s", _listed(other))
    several = len({name[:-1] for name in images}) > 1
    return {
        _shown(name) if several else name[-1] or "train": ArraySplit(array, labels.get(name))
        for name, array in images.items()
    }


def read_arrays(
    files: Sequence[Path], splits: Collection[str] | None = None, pixel_range: PixelRange = None
) -> dict[str, Dataset]:
    """Read idx and npz files into one data set a split, with the columns `image` and, if there are any, `label`.

    8-bit arrays and grey 16-bit arrays are stored as they are, floats in 0..1 are scaled to 8 bits; every other type
    needs `pixel_range`. The images are written to the cache of `datasets` once, a few megabytes at a time.

    Args:
        splits: Names of the splits to read, as `find_array_splits` gives them; None for all of a single set.
        pixel_range: Values of black and white; None for the range of the type.

    Raises:
        ValueError: If a file is damaged, several sets lie side by side, or shapes, types or values don't fit.

    Example:
        >>> import tempfile
        >>> file = Path(tempfile.mkdtemp()) / "small.npz"
        >>> np.savez(file, x_train=np.full((2, 28, 28), 255, np.uint8), y_train=[3, 7])
        >>> read_arrays([file])["train"]["label"][:]
        [3, 7]
    """
    found = find_array_splits(files)
    if splits is None and any("-" in name for name in found):
        raise ValueError(
            f"there are several sets of arrays: {', '.join(found)}; expected one; choose with --train_split "
            f"{next(iter(found))} and --test_split"
        )
    chosen = {name: split for name, split in found.items() if splits is None or name in splits}
    return {name: _read_split(split, pixel_range) for name, split in chosen.items()}


def _listed(arrays: Sequence[StoredArray]) -> str:
    return ", ".join([*map(str, arrays[:6]), *(["..."] if len(arrays) > 6 else [])]) or "no arrays"


def _read_name(array: StoredArray, alone: bool) -> tuple[str | None, Name]:
    """Kind of an array (images, labels or None), and the words of its set followed by its split or an empty word."""
    file_words = [word.lower() for word in _WORD.findall(idx_stem(array.file))]
    key_words = [word.lower() for word in _WORD.findall(array.key)]
    if alone and array.key == "arr_0":  # numpy's name for an array without one: the name of the file counts
        key_words = []
    named = key_words or file_words
    if "names" in named or not {*named} & (_IMAGES | _LABELS):
        return None, ("",)
    kind = "labels" if {*named} & _LABELS else "images"
    words = [word for word in named if word not in _IMAGES | _LABELS]
    words = [*(file_words if key_words else []), *words]
    roles = [word for word in words if word in _SPLITS]
    role = "test" if roles and roles[-1] == "t10k" else roles[-1] if roles else ""
    return kind, (*(word for word in words if word not in _SPLITS), role)


def _shown(name: Name) -> str:
    return "-".join(filter(None, name)) or "train"


def _same(one: StoredArray, other: StoredArray) -> bool:
    """Whether two arrays hold the same: downloads are often kept beside what was unpacked."""
    if (one.shape, one.dtype) != (other.shape, other.dtype):
        return False
    digests = [hashlib.blake2b(), hashlib.blake2b()]
    for digest, array in zip(digests, (one, other), strict=True):
        for chunk in array.chunks(BATCH_BYTES):
            digest.update(chunk.tobytes())
    return digests[0].digest() == digests[1].digest()


def _read_split(split: ArraySplit, pixel_range: PixelRange) -> Dataset:
    images = split.images
    images.refuse_objects()
    layout = _find_layout(images)
    levels = _find_levels(images, layout, pixel_range)
    rows = cached_rows(
        cache_key("arrays", _VERSION, file_state(images.file), images.key, levels),
        Features({"image": Image(decode=False)}),
        lambda: _image_batches(images, layout, levels, checked=pixel_range is None),
        images.file.name,
    )
    if split.labels is None:
        return rows
    labels = _read_labels(split.labels, images)
    kind = "string" if labels.dtype.kind == "U" else "int64"
    return rows.add_column("label", labels.tolist() if kind == "string" else labels, feature=Value(kind))


def _find_layout(array: StoredArray) -> str:
    """Whether images are grey, or where their colours are: first or last."""
    shape = array.shape
    fix = "; expected (N, H, W), (N, H, W, 3) or (N, 3, H, W); save the array once more in one of these shapes"
    if 0 in shape:
        raise ValueError(f"{array} is empty{fix}")
    if len(shape) == 3 and shape[-1] > 4:
        return "grey"
    first, last = (len(shape) == 4 and shape[axis] in (1, 3) for axis in (1, -1))
    if first and last:
        raise ValueError(f"{array}: either of two dimensions may be the colours{fix}")
    if first or last:
        channels = shape[1] if first else shape[-1]
        return "grey" if channels == 1 else "colours first" if first else "colours last"
    return _refuse_shape(array, fix)


def _refuse_shape(array: StoredArray, fix: str) -> str:
    shape = array.shape
    side = round(shape[-1] ** 0.5) if len(shape) == 2 else 0
    if side > 1 and side**2 == shape[-1]:
        fix += f", for example array.reshape(-1, {side}, {side})"
    elif len(shape) == 4 and 4 in (shape[1], shape[-1]):
        fix += ", without the fourth channel"
    elif len(shape) in (4, 5):
        fix += "; volumes are not read: save their slices as images"
    raise ValueError(f"{array} does not have the shape of images{fix}")


def _find_levels(array: StoredArray, layout: str, pixel_range: PixelRange) -> tuple[float, float] | None:
    """Values of black and white; None if pixels are stored as they are."""
    kind, size = array.dtype.kind, array.dtype.itemsize
    if kind not in "uifb":
        raise ValueError(f"{array} holds no numbers, expected the pixels of images; save it as numbers")
    if pixel_range is not None:
        return float(pixel_range[0]), float(pixel_range[1])
    if kind == "u" and (size == 1 or (size == 2 and layout == "grey")):
        return None
    if kind in "fb":
        return 0.0, 1.0
    raise ValueError(
        f"{array}: the values of black and white are not known; expected 8-bit values (uint8), 16-bit grey values "
        "(uint16) or floats in 0..1; give them, for example --pixel_range 0 255"
    )


def _image_batches(
    array: StoredArray, layout: str, levels: tuple[float, float] | None, checked: bool
) -> Iterator[pa.Table]:
    start, brightest = 0, 0
    for chunk in array.chunks(BATCH_BYTES):
        count = len(chunk)
        if levels is not None:
            chunk = to_8_bits(chunk, *levels, str(array), start)
        if layout == "colours first":
            chunk = chunk.transpose(0, 2, 3, 1)
        elif layout == "grey" and chunk.ndim == 4:
            chunk = chunk.squeeze(axis=1 if chunk.shape[1] == 1 else 3)
        start, brightest = start + count, max(brightest, int(chunk.max()))
        yield pa.table({"image": netpbm(chunk)})
    if checked and array.dtype.kind == "u" and array.dtype.itemsize == 1:
        check_brightness(brightest, str(array))


def _read_labels(array: StoredArray, images: StoredArray) -> np.ndarray:
    """(N,) labels as int64 or text."""
    shape = array.shape
    if len(shape) > 1 and any(side > 1 for side in shape[1:]):
        raise ValueError(
            f"{array} holds several values for each image, expected one label; images with several labels are not "
            "supported; of one-hot labels, save numpy.argmax(labels, axis=1)"
        )
    if not shape or shape[0] != images.shape[0]:
        raise ValueError(f"{array} does not have one label for each image of {images}; save both once more")
    labels = array.read().reshape(-1)
    if labels.dtype.kind == "U":
        return labels
    is_whole = labels.dtype.kind in "uib" or (labels.dtype.kind == "f" and (labels % 1 == 0).all())
    if not is_whole:
        raise ValueError(f"{array}: expected whole numbers or text as labels; save them as integers")
    return labels.astype(np.int64)
