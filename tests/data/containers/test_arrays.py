"""Arrays in idx and npz files: pixels come out as they went in, and what isn't certain is refused."""

from __future__ import annotations

import gzip
import io
import os
import pickle
import struct
from pathlib import Path

import numpy as np
import PIL.Image
import pytest

from hf_icckd.data.containers.arrays import find_array_splits, read_arrays
from hf_icckd.data.containers.stored_arrays import is_array_file

pytestmark = pytest.mark.usefixtures("own_cache")
RNG = np.random.default_rng(0)
CODES = {"uint8": 8, "int8": 9, "int16": 11, "int32": 12, "float32": 13, "float64": 14}


def write_idx(path: Path, array: np.ndarray) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    head = bytes([0, 0, CODES[array.dtype.name], array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape)
    data = head + array.astype(array.dtype.newbyteorder(">")).tobytes()
    path.write_bytes(gzip.compress(data, 1) if path.suffix == ".gz" else data)
    return path


def write_npz(path: Path, **arrays) -> Path:
    np.savez(path, **{name: np.asarray(array) for name, array in arrays.items()})
    return path


def grey(count: int = 4, side: int = 8) -> np.ndarray:
    return RNG.integers(0, 256, (count, side, side), dtype=np.uint8)


def colour(count: int = 4, side: int = 8) -> np.ndarray:
    return RNG.integers(0, 256, (count, side, side, 3), dtype=np.uint8)


def pixels(rows) -> np.ndarray:
    """All images of a split as Pillow reads them."""
    return np.stack([np.asarray(PIL.Image.open(io.BytesIO(row["bytes"]))) for row in rows["image"][:]])


def mnist(folder: Path, suffix: str = "", prefix: str = "") -> tuple[list[Path], np.ndarray, np.ndarray]:
    train, test = grey(6), grey(3)
    paths = [
        write_idx(folder / f"{prefix}train-images-idx3-ubyte{suffix}", train),
        write_idx(folder / f"{prefix}train-labels-idx1-ubyte{suffix}", np.arange(6, dtype=np.uint8) % 3),
        write_idx(folder / f"{prefix}t10k-images-idx3-ubyte{suffix}", test),
        write_idx(folder / f"{prefix}t10k-labels-idx1-ubyte{suffix}", np.arange(3, dtype=np.uint8)),
    ]
    return paths, train, test


# idx


@pytest.mark.parametrize("suffix", ["", ".gz"])
def test_mnist(tmp_path, suffix):
    files, train, test = mnist(tmp_path, suffix)
    splits = read_arrays(files)
    assert list(splits) == ["train", "test"]
    np.testing.assert_array_equal(pixels(splits["train"]), train)
    np.testing.assert_array_equal(pixels(splits["test"]), test)
    assert splits["train"]["label"][:] == [0, 1, 2, 0, 1, 2]
    assert splits["train"][0]["image"]["bytes"] == b"P5\n8 8\n255\n" + train[0].tobytes()


def test_colours_in_four_dimensions(tmp_path):
    images = colour()
    files = [
        write_idx(tmp_path / "train-images-idx4-ubyte", images),
        write_idx(tmp_path / "train-labels-idx1-ubyte", np.arange(4, dtype=np.uint8)),
    ]
    np.testing.assert_array_equal(pixels(read_arrays(files)["train"]), images)


def test_a_set_of_emnist_is_chosen_by_its_name(tmp_path):
    files, train, _ = mnist(tmp_path, ".gz", "emnist-letters-")
    assert list(read_arrays(files)) == ["train", "test"]
    more, _, _ = mnist(tmp_path, ".gz", "emnist-balanced-")
    assert list(find_array_splits([*files, *more])) == [
        "emnist-letters-train", "emnist-letters-test", "emnist-balanced-train", "emnist-balanced-test",
    ]  # fmt: skip
    with pytest.raises(ValueError, match=r"several sets of arrays: emnist-letters-train, .* --train_split emnist-let"):
        read_arrays([*files, *more])
    chosen = read_arrays([*files, *more], splits=["emnist-letters-train"])
    np.testing.assert_array_equal(pixels(chosen["emnist-letters-train"]), train)


def test_a_download_beside_what_was_unpacked_counts_once(tmp_path):
    files, train, _ = mnist(tmp_path)
    copies = [file.with_name(f"{file.name}.gz") for file in files]
    for file, copy in zip(files, copies, strict=True):
        copy.write_bytes(gzip.compress(file.read_bytes()))
    np.testing.assert_array_equal(pixels(read_arrays([*files, *copies])["train"]), train)
    write_idx(copies[0], grey(6))
    with pytest.raises(
        ValueError, match=r"train-images-idx3-ubyte .* and train-images-idx3-ubyte.gz .* both the imag"
    ):
        read_arrays([*files, *copies])


@pytest.mark.parametrize("suffix", ["", ".gz"])
def test_a_file_that_ends_too_early(tmp_path, suffix):
    files, *_ = mnist(tmp_path, suffix)
    files[0].write_bytes(files[0].read_bytes()[:-20])
    with pytest.raises(ValueError, match=r"train-images-idx3-ubyte.* can't be read: .*download it again"):
        read_arrays(files)


def test_what_is_no_idx_file(tmp_path):
    (tmp_path / "train-images-idx3-ubyte").write_bytes(b"<html>")
    with pytest.raises(ValueError, match=r"begins with the bytes 3c 68 74 6d, expected 00 00"):
        read_arrays([tmp_path / "train-images-idx3-ubyte"])


def test_images_alone_have_no_labels(tmp_path):
    files, *_ = mnist(tmp_path)
    assert read_arrays(files[:1])["train"].column_names == ["image"]
    with pytest.raises(ValueError, match=r"train-labels-idx1-ubyte .* has no images"):
        read_arrays(files[1:2])


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("train-images-idx3-ubyte", True), ("t10k-labels-idx1-ubyte.gz", True), ("train-images.idx3-ubyte", True),
        ("x.npz", True), ("train-images.png", False), ("x.npy", False), ("idx3.txt", False),
    ],
)  # fmt: skip
def test_names_of_array_files(name, expected):
    assert is_array_file(Path(name)) is expected


# npz


@pytest.mark.parametrize(
    ("first", "second", "expected"),
    [
        ("x_train", "y_train", "train"), ("train_images", "train_labels", "train"), ("X", "y", "train"),
        ("images", "labels", "train"), ("val_images", "val_labels", "val"), ("XTest", "yTest", "test"),
        ("trainImages", "trainLabels", "train"), ("data", "target", "train"), ("valid_x", "valid_y", "valid"),
    ],
)  # fmt: skip
def test_names_of_arrays(tmp_path, first, second, expected):
    images = grey()
    file = write_npz(tmp_path / "mnist.npz", **{first: images, second: [1, 0, 2, 1], "mean": 0.5})
    splits = read_arrays([file])
    assert list(splits) == [expected]
    np.testing.assert_array_equal(pixels(splits[expected]), images)
    assert splits[expected]["label"][:] == [1, 0, 2, 1]


def test_splits_of_medmnist(tmp_path):
    parts = {"train": colour(5), "val": colour(2), "test": colour(3)}
    arrays = {f"{name}_images": images for name, images in parts.items()}
    arrays |= {f"{name}_labels": np.arange(len(images))[:, None] for name, images in parts.items()}
    splits = read_arrays([write_npz(tmp_path / "pathmnist.npz", **arrays)])
    for name, images in parts.items():
        np.testing.assert_array_equal(pixels(splits[name]), images)
        assert splits[name]["label"][:] == list(range(len(images)))


def test_one_file_a_split_and_one_an_array(tmp_path):
    train, test = grey(), grey(2)
    files = [
        write_npz(tmp_path / "train.npz", images=train, labels=[0, 1, 0, 1]),
        write_npz(tmp_path / "test.npz", images=test, labels=[0, 1]),
    ]
    splits = read_arrays(files)
    assert {name: len(rows) for name, rows in splits.items()} == {"train": 4, "test": 2}
    files = [
        write_npz(tmp_path / f"kmnist-train-{name}.npz", arr_0=a) for name, a in (("imgs", train), ("labels", [5] * 4))
    ]
    assert read_arrays(files)["train"]["label"][:] == [5] * 4


@pytest.mark.parametrize(
    "change",
    [
        lambda a: a.transpose(0, 3, 1, 2),
        np.asfortranarray,
    ],
    ids=["colours first", "columns first"],
)
def test_colours_are_found(tmp_path, change):
    images = colour()
    file = write_npz(tmp_path / "a.npz", x_train=change(images))
    np.testing.assert_array_equal(pixels(read_arrays([file])["train"]), images)


@pytest.mark.parametrize("axis", [1, 3])
def test_one_channel_is_grey(tmp_path, axis):
    images = grey()
    file = write_npz(tmp_path / "a.npz", x_train=np.expand_dims(images, axis))
    np.testing.assert_array_equal(pixels(read_arrays([file])["train"]), images)


def test_sixteen_bits_are_kept(tmp_path):
    images = RNG.integers(0, 65536, (3, 8, 8), dtype=np.uint16)
    rows = read_arrays([write_npz(tmp_path / "a.npz", x_train=images)])["train"]
    assert rows[1]["image"]["bytes"] == b"P5\n8 8\n65535\n" + images[1].astype(">u2").tobytes()
    np.testing.assert_array_equal(pixels(rows), images)


def test_floats_are_0_to_1(tmp_path):
    images = RNG.random((3, 8, 8, 3), dtype=np.float32)
    rows = read_arrays([write_npz(tmp_path / "a.npz", x_train=images)])["train"]
    np.testing.assert_array_equal(pixels(rows), np.rint(images.astype(np.float64) * 255))


def test_a_range_of_pixels(tmp_path):
    images = RNG.integers(-1000, 1001, (3, 8, 8))
    file = write_npz(tmp_path / "a.npz", x_train=images)
    with pytest.raises(ValueError, match=r"a.npz, array 'x_train' .*int64.*not known.*--pixel_range 0 255"):
        read_arrays([file])
    rows = read_arrays([file], pixel_range=[-1000, 1000])["train"]
    np.testing.assert_array_equal(pixels(rows), np.rint((images + 1000) * (255 / 2000)))
    with pytest.raises(
        ValueError, match=r"image 0 of a.npz.* holds the value .*, expected 0 to 1000; .*--pixel_range"
    ):
        read_arrays([file], pixel_range=[0, 1000])


@pytest.mark.parametrize(
    ("images", "message"),
    [
        (grey().astype(np.float32), "holds the value .*expected 0 to 1; .*--pixel_range"),
        (np.full((2, 8, 8), np.nan), "holds the value nan"),
        (grey() % 17, "is 16, .*--pixel_range 0 16"),
        (RNG.integers(0, 9999, (2, 8, 8, 3), dtype=np.uint16), "black and white are not known"),
        (RNG.integers(0, 255, (2, 3, 8, 3), dtype=np.uint8), "either of two dimensions may be the colours"),
        (RNG.integers(0, 255, (2, 8, 8, 4), dtype=np.uint8), "without the fourth channel"),
        (RNG.integers(0, 255, (2, 8, 8, 8), dtype=np.uint8), "volumes are not read"),
        (RNG.integers(0, 255, (8, 8, 3), dtype=np.uint8), "does not have the shape of images"),
        (RNG.integers(0, 255, (2, 64), dtype=np.uint8), r"array.reshape\(-1, 8, 8\)"),
        (np.zeros((0, 8, 8), np.uint8), "is empty"),
        (np.array([["a"] * 8] * 2)[:, :, None].repeat(8, 2), "holds no numbers"),
    ],
    ids=["to 255", "nan", "dark", "16-bit colours", "either", "alpha", "volumes", "one", "flat", "none", "text"],
)  # fmt: skip
def test_images_that_are_refused(tmp_path, images, message):
    with pytest.raises(ValueError, match=rf"(?s)(?=.*a.npz, array 'x_train').*{message}"):
        read_arrays([write_npz(tmp_path / "a.npz", x_train=images)])


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (np.eye(4), r"several values for each image.*numpy.argmax\(labels, axis=1\)"),
        ([0, 1], "one label for each image"),
        ([0.5, 1, 1, 0], "whole numbers or text"),
        ([np.nan, 1, 1, 0], "whole numbers or text"),
    ],
    ids=["several", "too few", "fractions", "missing"],
)
def test_labels_that_are_refused(tmp_path, labels, message):
    with pytest.raises(ValueError, match=f"a.npz, array 'y_train'.*{message}"):
        read_arrays([write_npz(tmp_path / "a.npz", x_train=grey(), y_train=labels)])


def test_labels_that_are_text_or_whole_floats(tmp_path):
    file = write_npz(
        tmp_path / "a.npz", x_train=grey(), y_train=["00", "1", "b", "b"], x_test=grey(2), y_test=[1.0, 0.0]
    )
    splits = read_arrays([file])
    assert (splits["train"]["label"][:], splits["test"]["label"][:]) == (["00", "1", "b", "b"], [1, 0])


class Harmful:
    def __reduce__(self):
        return os.mkdir, ("harmed",)


@pytest.mark.parametrize("name", ["x_train", "y_train"])
def test_objects_are_never_unpickled(tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    arrays = {"x_train": grey(), "y_train": np.arange(4), name: np.array([Harmful()] * 4, dtype=object)}
    file = write_npz(tmp_path / "a.npz", **arrays)
    with pytest.raises(ValueError, match=f"array '{name}'.*Python objects.*never loaded.*numpy.stack"):
        read_arrays([file])
    assert not (tmp_path / "harmed").exists()
    pickle.loads(pickle.dumps(Harmful()))
    assert (tmp_path / "harmed").exists()  # what it would have done


def test_other_names_show_what_is_there(tmp_path):
    with pytest.raises(
        ValueError, match=r"no array is called like images among a.npz, array 'arr_0' \(shape \(4, 8, 8"
    ):
        read_arrays([write_npz(tmp_path / "a.npz", arr_0=grey(), arr_1=np.arange(4))])
    (tmp_path / "b.npz").write_bytes(b"PK")
    with pytest.raises(ValueError, match=r"b.npz can't be read: .*download it again"):
        read_arrays([tmp_path / "b.npz"])


# Cache


def test_the_cache_is_used_and_sees_changes(tmp_path, own_cache):
    file = write_npz(tmp_path / "a.npz", x_train=grey(), y_train=np.arange(4))
    rows = read_arrays([file])["train"]
    (kept,) = own_cache.rglob("*.arrow")
    assert rows.cache_files == [{"filename": str(kept)}]
    written = kept.stat().st_mtime_ns
    read_arrays([file])
    assert kept.stat().st_mtime_ns == written
    # Other pixels under the same path, size and time.
    status = file.stat()
    images = grey()
    write_npz(file, x_train=images, y_train=np.arange(4))
    os.utime(file, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert file.stat().st_size == status.st_size
    np.testing.assert_array_equal(pixels(read_arrays([file])["train"]), images)


def test_a_damaged_cache_is_written_again(tmp_path, own_cache):
    images = grey()
    file = write_npz(tmp_path / "a.npz", x_train=images)
    read_arrays([file])
    (kept,) = own_cache.rglob("*.arrow")
    kept.write_bytes(b"nothing")
    np.testing.assert_array_equal(pixels(read_arrays([file])["train"]), images)


def test_a_cache_that_cant_be_written(tmp_path, own_cache):
    (own_cache / "hf_icckd").write_text("a file where the folder should be")
    with pytest.raises(ValueError, match=r"images of a.npz can't be kept in .*HF_DATASETS_CACHE"):
        read_arrays([write_npz(tmp_path / "a.npz", x_train=grey())])


def test_many_batches_are_one_split(tmp_path, monkeypatch):
    monkeypatch.setattr("hf_icckd.data.containers.arrays.BATCH_BYTES", 200)
    images = grey(20)
    np.savez_compressed(tmp_path / "a.npz", x_train=images, y_train=np.arange(20))
    rows = read_arrays([tmp_path / "a.npz"])["train"]
    np.testing.assert_array_equal(pixels(rows), images)
    assert len(rows.data["image"].chunks) > 1
