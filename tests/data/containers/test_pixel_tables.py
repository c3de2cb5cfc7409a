"""Tables of pixels: read where it is certain what they hold, refused with the fix where it is not."""

from __future__ import annotations

import gzip
import io
from pathlib import Path

import numpy as np
import PIL.Image
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from datasets import ClassLabel, Dataset, Features, Value

from hf_icckd.data.containers.pixel_tables import read_pixel_table

pytestmark = pytest.mark.usefixtures("own_cache")
RNG = np.random.default_rng(0)


def grey(count: int = 6, side: int = 8) -> np.ndarray:
    images = RNG.integers(0, 256, (count, side, side))
    images[:, -1, -1] = 0  # as in MNIST
    return images


def pixels(rows: Dataset) -> np.ndarray:
    return np.stack([np.asarray(PIL.Image.open(io.BytesIO(row["bytes"]))) for row in rows["image"][:]])


def write(path: Path, names: list[str] | None, *columns, delimiter: str = ",") -> Path:
    """Write columns as text: arrays of several dimensions are as many columns as they have pixels."""
    parts = [np.asarray(column).reshape(len(column), -1).astype(str) for column in columns]
    rows = [*([names] if names else []), *np.concatenate(parts, axis=1).tolist()]
    text = "\n".join(delimiter.join(row) for row in rows) + "\n"
    path.write_bytes(gzip.compress(text.encode()) if path.suffix == ".gz" else text.encode())
    return path


def numbered(pattern: str = "pixel{}", count: int = 64, first: int = 0) -> list[str]:
    return [pattern.format(i) for i in range(first, first + count)]


GRID = [f"{row}x{column}" for row in range(1, 9) for column in range(1, 9)]
LABELS = [0, 1, 2, 0, 1, 2]


@pytest.mark.parametrize(
    ("names", "name", "delimiter"),
    [
        (["label", *numbered()], "train.csv", ","), (["label", *numbered(first=1)], "train.csv.gz", ","),
        (["label", *GRID], "train.csv", ","), (["emotion", *numbered("{}")], "a.tsv", "\t"),
        (["class", *numbered("pixel_{}")], "a.csv", ";"), (["y", *numbered("Pixel{:04}")], "a.CSV", ","),
    ],
    ids=["kaggle", "fashion", "grid", "numbers", "underscore", "padded"],
)  # fmt: skip
def test_a_column_a_pixel(tmp_path, names, name, delimiter):
    images = grey()
    rows = read_pixel_table(write(tmp_path / name, names, LABELS, images, delimiter=delimiter))
    assert rows.column_names == ["image", names[0]]
    np.testing.assert_array_equal(pixels(rows), images)
    assert rows[names[0]][:] == LABELS


def test_order_is_that_of_the_names(tmp_path):
    images, names = grey(), numbered()
    order = RNG.permutation(64)
    columns = images.reshape(6, 64)[:, order]
    file = write(tmp_path / "a.csv", [*(names[i] for i in order), "label"], columns, LABELS)
    np.testing.assert_array_equal(pixels(read_pixel_table(file)), images)


def test_images_that_are_not_square_by_their_grid(tmp_path):
    images = RNG.integers(0, 256, (2, 4, 6))
    names = [f"pixel_{row}_{column}" for row in range(4) for column in range(6)]
    np.testing.assert_array_equal(pixels(read_pixel_table(write(tmp_path / "a.csv", names, images))), images)


def test_other_columns_stay(tmp_path):
    images = grey(2)
    names = ["", "image", "label", *numbered()]
    file = write(tmp_path / "a.csv", names, [0, 1], ["a.png", "b.png"], ["00", "01"], images)
    rows = read_pixel_table(file)
    assert rows.column_names == ["image", "__index_level_0__", "image_", "label"]
    assert rows["image_"][:] == ["a.png", "b.png"]


def test_parquet_with_names_of_classes(tmp_path):
    images = grey()
    columns = {"label": pa.array(LABELS)} | dict(
        zip(numbered(), pa.array(images.reshape(6, 64).T.tolist()), strict=True)
    )
    table = {name: column.to_pylist() if name == "label" else column.as_py() for name, column in columns.items()}
    kinds = Features({"label": ClassLabel(names=["a", "b", "c"]), **dict.fromkeys(numbered(), Value("uint8"))})
    Dataset.from_dict(table, features=kinds).to_parquet(tmp_path / "train.parquet")
    rows = read_pixel_table(tmp_path / "train.parquet")
    np.testing.assert_array_equal(pixels(rows), images)
    assert rows.features["label"].names == ["a", "b", "c"]


def test_fer(tmp_path):
    images = grey(3, 48)
    lines = ["emotion, pixels, Usage"]
    for image, use in zip(images, ("Training", "PublicTest", "PrivateTest"), strict=True):
        lines.append(f"3,{' '.join(map(str, image.ravel()))},{use}")
    (tmp_path / "fer2013.csv").write_text("\n".join(lines))
    rows = read_pixel_table(tmp_path / "fer2013.csv")
    assert rows.column_names == ["image", "emotion", "Usage"]
    np.testing.assert_array_equal(pixels(rows), images)
    assert rows["Usage"][:] == ["Training", "PublicTest", "PrivateTest"]
    pq.write_table(
        pa.table({"pixels": [" ".join(map(str, image.ravel())) for image in images]}), tmp_path / "a.parquet"
    )
    np.testing.assert_array_equal(pixels(read_pixel_table(tmp_path / "a.parquet")), images)
    (tmp_path / "short.csv").write_text("\n".join([*lines[:2], "3,1 2 3,Training"]))
    with pytest.raises(ValueError, match=r"short.csv: column 'pixels' of row 1 holds 3 numbers, expected 2304"):
        read_pixel_table(tmp_path / "short.csv")


@pytest.mark.parametrize("place", ["first", "last"])
def test_without_a_header_the_label_is_where_it_can_be(tmp_path, place):
    images = grey()
    columns = (LABELS, images) if place == "first" else (images, LABELS)
    rows = read_pixel_table(write(tmp_path / "mnist_train.csv", None, *columns))
    np.testing.assert_array_equal(pixels(rows), images)
    assert rows["label"][:] == LABELS


def test_without_a_header_and_with_text_or_no_label(tmp_path):
    images = grey()
    rows = read_pixel_table(write(tmp_path / "a.csv", None, list("aabbcc"), images))
    assert rows["label"][:] == list("aabbcc")
    np.testing.assert_array_equal(pixels(rows), images)
    rows = read_pixel_table(write(tmp_path / "b.csv", None, images))
    assert rows.column_names == ["image"]
    np.testing.assert_array_equal(pixels(rows), images)


def test_a_header_of_numbers_says_nothing(tmp_path):
    images = grey()
    rows = read_pixel_table(write(tmp_path / "a.csv", numbered("{}", 65), LABELS, images))
    np.testing.assert_array_equal(pixels(rows), images)
    assert rows["label"][:] == LABELS


@pytest.mark.parametrize(("last", "which"), [(0, "neither"), (1, "both")])
def test_without_a_header_and_not_certain(tmp_path, last, which):
    images = grey()
    images[:, -1, -1] = np.array(LABELS) if last else 0
    first = LABELS if last else [7] * 6
    with pytest.raises(ValueError, match=rf"65 columns of numbers and no header, and {which} of .*label,pixel0"):
        read_pixel_table(write(tmp_path / "a.csv", None, first, images))


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("a.csv", "file_name,label\na.png,cat\n"), ("a.csv", "a.png,3\nb.png,4\n"), ("a.csv", ""),
        ("letters.csv", "T,2,8,3,5,1,8,13,0,6,6,10,8,0,8,0,8\n" * 3), ("iris.csv", "5.1,3.5,1.4,0.2,0\n"),
        ("a.csv", ",".join(["id", *numbered("feature{}")]) + "\n" + ",".join(["1"] * 65)),
        ("a.csv", ",".join(["id", *numbered("{}", 70)]) + "\n" + ",".join(["1"] * 71)), ("a.txt", "pixel0"),
        ("a.csv", "caption,label\nthe 3 little pigs,1\n"),
    ],
    ids=["labels", "no header", "empty", "measurements", "few", "features", "70 numbers", "txt", "captions"],
)  # fmt: skip
def test_other_tables(tmp_path, name, text):
    (tmp_path / name).write_text(text)
    assert read_pixel_table(tmp_path / name) is None


def test_other_parquet(tmp_path):
    pq.write_table(pa.table({"image": [b"x"], "label": [0]}), tmp_path / "a.parquet")
    assert read_pixel_table(tmp_path / "a.parquet") is None


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (numbered(count=192), r"192 pixels an image, 3 x 8 x 8, .*order the colours .*reshape\(-1, 8, 8, 3\)"),
        (numbered(count=63), r"63 pixels an image, from 'pixel0' to 'pixel62', expected a square"),
        ([*numbered(count=63), "pixel64"], r"64 pixels an image, .*expected a square number of them, without gaps"),
        (GRID[:-1], r"63 columns of pixels from '1x1' to '8x7', expected one for each row and column"),
    ],
    ids=["colours", "not square", "a gap", "a hole"],
)
def test_pixels_that_cant_be_put_in_order(tmp_path, names, message):
    values = RNG.integers(0, 256, (2, len(names)))
    with pytest.raises(ValueError, match=f"a.csv has {message}"):
        read_pixel_table(write(tmp_path / "a.csv", names, values))


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("256", "image 1 of a.csv holds the value 256, expected 0 to 255"), ("-1", "holds the value -1"),
        ("", "column 'pixel5' of row 1 is empty"), ("x", "a.csv can't be read: .*invalid value 'x'"),
        ("1,2", "a.csv can't be read: .*Expected 64 columns, got 65"),
    ],
    ids=["above", "below", "missing", "text", "one more"],
)  # fmt: skip
def test_values_that_are_refused(tmp_path, value, message):
    values = grey(3).reshape(3, 64).astype(str).astype(object)
    values[1, 5] = value
    with pytest.raises(ValueError, match=message):
        read_pixel_table(write(tmp_path / "a.csv", numbered(), values))


def test_another_white_is_asked_for(tmp_path):
    images = RNG.integers(0, 17, (4, 8, 8))
    images[0, 0, 0] = 16
    file = write(tmp_path / "digits.csv", ["label", *numbered()], [0, 1, 0, 1], images)
    with pytest.raises(ValueError, match=r"largest pixel value of digits.csv is 16, .*--pixel_range 0 16"):
        read_pixel_table(file)
    np.testing.assert_array_equal(pixels(read_pixel_table(file, [0, 16])), np.rint(images * (255 / 16)))


def test_no_rows(tmp_path):
    (tmp_path / "a.csv").write_text(",".join(numbered()) + "\n")
    with pytest.raises(ValueError, match=r"a.csv has columns of pixels and no rows"):
        read_pixel_table(tmp_path / "a.csv")


@pytest.mark.parametrize("share", [0.5, 0.95])
def test_a_packed_table_that_ends_too_early(tmp_path, share):
    file = write(tmp_path / "a.csv.gz", ["label", *numbered()], [*LABELS] * 50, grey(300))
    file.write_bytes(file.read_bytes()[: int(file.stat().st_size * share)])
    with pytest.raises(ValueError, match=r"a.csv.gz can't be read: .*download it again"):
        read_pixel_table(file)


def test_many_batches_are_one_table(tmp_path, monkeypatch):
    monkeypatch.setattr("hf_icckd.data.containers.pixel_tables.BATCH_BYTES", 3000)
    images = grey(60)
    file = write(tmp_path / "a.csv", ["label", *numbered()], [*LABELS] * 10, images)
    rows = read_pixel_table(file)
    np.testing.assert_array_equal(pixels(rows), images)
    assert len(rows.data["image"].chunks) > 3
