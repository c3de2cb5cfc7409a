"""Hashes of stored images: read once, kept in the cache, read again when a file changes."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import datasets
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from datasets import Dataset, Features, Image, Value

from hf_icckd.data import load_image_data
from hf_icckd.data.images import UnreadableImageError
from hf_icckd.data.splits import content
from hf_icckd.data.splits.content import content_of, image_hashes, with_content


@pytest.fixture(autouse=True)
def cache(tmp_path_factory, monkeypatch) -> Path:
    folder = tmp_path_factory.mktemp("cache")
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", folder)
    return folder / "hf_icckd"


@pytest.fixture
def hashed(monkeypatch) -> list[int]:
    """Numbers of rows that were hashed, a call each."""
    counts, hash_all = [], content._hash_all

    def count(rows, name, quiet=False):
        if not quiet:
            counts.append(len(rows))
        return hash_all(rows, name, quiet)

    monkeypatch.setattr(content, "_hash_all", count)
    return counts


def expected(*stored: bytes) -> list[int]:
    return [int.from_bytes(hashlib.blake2b(each, digest_size=8).digest(), "little") for each in stored]


def rows_of(*images: dict | None) -> Dataset:
    features = Features({"image": Image(decode=False), "label": Value("int64")})
    return Dataset.from_dict({"image": list(images), "label": [0] * len(images)}, features=features)


def files(folder: Path, *stored: bytes) -> list[Path]:
    folder.mkdir(exist_ok=True)
    paths = [folder / f"{number}.png" for number in range(len(stored))]
    for path, each in zip(paths, stored, strict=True):
        path.write_bytes(each)
    return paths


def test_bytes_and_files_with_the_same_content_have_the_same_hash(tmp_path):
    [path] = files(tmp_path, b"one")
    rows = rows_of({"bytes": b"two", "path": None}, {"bytes": None, "path": str(path)}, {"bytes": b"one", "path": "x"})
    hashes = image_hashes(rows, "train")
    assert hashes.dtype == np.uint64
    assert hashes.tolist() == expected(b"two", b"one", b"one")


def test_files_are_read_once_and_again_when_one_changes(tmp_path, cache, hashed):
    paths = files(tmp_path, b"one", b"two")
    rows = rows_of(*({"bytes": None, "path": str(path)} for path in paths))
    first = image_hashes(rows, "train")
    assert (image_hashes(rows, "train") == first).all()
    assert hashed == [2]
    status = paths[0].stat()
    paths[0].write_bytes(b"eno")
    os.utime(paths[0], ns=(status.st_atime_ns, status.st_mtime_ns))  # the same path, size and time
    assert image_hashes(rows, "train").tolist() == expected(b"eno", b"two")
    assert hashed == [2, 2]
    assert not list(cache.glob("*.unfinished"))


def test_a_table_in_a_file_is_kept_and_one_in_memory_is_not(tmp_path, cache, hashed):
    images = [bytes([number]) for number in range(12)]
    pq.write_table(pa.table({"image": images, "label": [0, 1] * 6}), tmp_path / "train.parquet")
    for _ in range(2):
        data = load_image_data(str(tmp_path))
    assert hashed == [12]
    rows = data.train.remove_columns("content")
    assert image_hashes(rows, "train").tolist() == content_of(data.train, "train").tolist()
    other = rows.select(range(len(rows))[::-1])
    assert image_hashes(other, "train").tolist() == content_of(data.train, "train")[::-1].tolist()
    in_memory = rows_of({"bytes": b"one", "path": None})
    kept = len(list(cache.glob("*.npy")))
    assert image_hashes(in_memory, "train").tolist() == expected(b"one")
    assert len(list(cache.glob("*.npy"))) == kept == 3


def test_a_damaged_cache_is_read_again(tmp_path, cache, hashed, caplog):
    rows = rows_of(*({"bytes": None, "path": str(path)} for path in files(tmp_path, b"one")))
    image_hashes(rows, "train")
    [file] = cache.glob("*.npy")
    file.write_bytes(b"no array")
    assert image_hashes(rows, "train").tolist() == expected(b"one")
    assert "is damaged" in caplog.text
    np.save(file, np.zeros(2, dtype=np.uint64))
    assert image_hashes(rows, "train").tolist() == expected(b"one")
    assert hashed == [1, 1, 1]


def test_a_cache_that_can_not_be_written_does_not_matter(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "file")
    rows = rows_of(*({"bytes": None, "path": str(path)} for path in files(tmp_path / "images", b"one")))
    assert image_hashes(rows, "train").tolist() == expected(b"one")


def test_a_missing_file_is_named(tmp_path):
    rows = rows_of({"bytes": b"one", "path": None}, {"bytes": None, "path": f"{tmp_path}/gone.png"})
    with pytest.raises(
        UnreadableImageError, match=r"train split: row 1 \(.*gone\.png\) cannot be read \(No such file"
    ):
        image_hashes(rows, "train")


def test_an_empty_cell_is_named():
    with pytest.raises(
        UnreadableImageError, match=r"test split: row 1 cannot be read as an image \(the cell is empty"
    ):
        image_hashes(rows_of({"bytes": b"one", "path": None}, None), "test")


def test_a_column_of_hashes_stays_with_its_rows(hashed):
    rows = with_content(rows_of(*({"bytes": bytes([number]), "path": None} for number in range(5))), "train")
    assert with_content(rows, "train") is rows
    assert content_of(rows.select([3, 1]), "train").tolist() == expected(b"\3", b"\1")
    assert hashed == [5]
