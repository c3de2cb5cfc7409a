"""`--bad_images skip`: what can't be read stays out, counted and keyed, and nothing else does."""

from __future__ import annotations

import datasets
import numpy as np
import PIL.Image
import pytest

from hf_icckd import ImagePipeline, load_image_data
from hf_icckd.data import readable
from hf_icckd.data.images import PixelRangeError, UnreadableImageError
from hf_icckd.data.readable import leave_out_unreadable, readable_rows
from tests.data.test_pipeline import encoded, noise, split_of


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    return tmp_path / "cache"


def rows_with_faults() -> list:
    whole = encoded(noise(16, 16))
    return [whole, b"", whole[: len(whole) // 2], encoded(noise(16, 16, 1)), b"<html>404", None]


def test_rows_that_can_be_read():
    assert readable_rows(split_of(rows_with_faults())).tolist() == [0, 3]


def test_what_is_left_out_is_counted_and_keyed(caplog):
    faults = rows_with_faults()
    splits = {"train": split_of(faults), "test": split_of([encoded(noise(8, 8))] * 2)}
    kept, left_out = leave_out_unreadable(splits)
    assert "4 unreadable images of the train split" in caplog.text and "such as train split: row 1" in caplog.text
    assert [len(each) for each in kept.values()] == [2, 2]
    assert [row["image"]["bytes"] for row in kept["train"]] == [faults[0], faults[3]]
    (left,) = left_out
    count, reason, example = left.count, left.reason, left.example
    assert count == 4 and reason.startswith("unreadable images of the train split (--bad_images skip; key of their")
    assert example == "train split: row 1"
    # The key follows from what the files hold, in any order, and from nothing else.
    _, (same,) = leave_out_unreadable({"train": split_of([*faults[::-1], encoded(noise(4, 4, 9))])})
    _, (other,) = leave_out_unreadable({"train": split_of([faults[0], b"another"])})
    assert same.reason == reason and other.reason != reason


def test_a_split_without_any_is_an_error():
    with pytest.raises(ValueError, match="none of the 2 images of the test split can be read, expected images; leave"):
        leave_out_unreadable({"test": split_of([b"x", b"y"])})


def test_every_image_is_decoded_once_and_the_answer_kept(monkeypatch, cache):
    split = split_of(rows_with_faults())
    read, decoded = readable.decode_image, []
    monkeypatch.setattr(readable, "decode_image", lambda *of, **more: decoded.append(of[1]) or read(*of, **more))
    assert readable_rows(split).tolist() == [0, 3] and len(decoded) == 6
    assert readable_rows(split).tolist() == [0, 3] and len(decoded) == 6
    readable_rows(split, pixel_range=(0, 9))
    assert len(decoded) == 12
    for file in cache.rglob("*.npy"):
        file.write_bytes(b"")
    assert readable_rows(split).tolist() == [0, 3] and len(decoded) == 18


def test_a_file_that_was_replaced_is_looked_at_again(tmp_path):
    paths = [str(tmp_path / f"{number}.png") for number in range(3)]
    for number, path in enumerate(paths):
        noise(16, 16, number).save(path)
    split = split_of([None] * 3, paths)
    (tmp_path / "1.png").write_bytes(b"broken")
    assert readable_rows(split).tolist() == [0, 2]
    noise(16, 16, 7).save(paths[1])
    assert readable_rows(split).tolist() == [0, 1, 2]
    (tmp_path / "0.png").unlink()
    assert readable_rows(split).tolist() == [1, 2]


def test_a_wrong_range_is_no_broken_file():
    """All images would be left out, one by one, for an option that is missing."""
    deep = encoded(PIL.Image.fromarray(np.full((4, 4), -5, np.int32)), "TIFF")
    with pytest.raises(PixelRangeError, match="give --pixel_range LOW HIGH"):
        readable_rows(split_of([encoded(noise(4, 4)), deep]))
    assert readable_rows(split_of([encoded(noise(4, 4)), deep]), "train", (-5, 5)).tolist() == [0, 1]


@pytest.mark.parametrize("error", [OSError(24, "Too many open files"), MemoryError()])
def test_a_fault_of_the_machine_is_no_broken_file(error, monkeypatch):
    def fail(*of, **more):
        raise error

    monkeypatch.setattr(PIL.Image, "open", fail)
    with pytest.raises((UnreadableImageError, MemoryError)):
        readable_rows(split_of([encoded(noise(4, 4))] * 2))


@pytest.fixture
def folder(tmp_path):
    for label in ("cat", "dog"):
        (tmp_path / "images" / label).mkdir(parents=True)
        for number in range(10):
            noise(16, 16, number + 100 * (label == "dog")).save(tmp_path / "images" / label / f"{number}.png")
    (tmp_path / "images" / "dog" / "3.png").write_bytes(b"broken")
    return tmp_path / "images"


def test_loading_leaves_them_out_only_when_asked(folder):
    data = load_image_data(folder)
    assert len(data.train) + len(data.test) == 20 and data.left_out == []
    data = load_image_data(folder, bad_images="skip")
    assert len(data.train) + len(data.test) == 19
    (left,) = data.left_out
    count, example = left.count, left.example
    assert count == 1 and example.endswith("dog/3.png)")


def test_the_error_advises_both(folder):
    pipeline = ImagePipeline(load_image_data(folder, test_fraction=0.01))
    with pytest.raises(UnreadableImageError, match=r"dog/3\.png\).*; repair or remove it, or .* --bad_images skip$"):
        for split in ("train", "test"):
            pipeline.dataset(split)


def test_a_stream_cannot_skip(tmp_path):
    split = split_of([encoded(noise(8, 8, row)) for row in range(4)])
    for name in ("train", "test"):
        split.to_parquet(str(tmp_path / f"{name}.parquet"))
    assert len(load_image_data(tmp_path, streaming=True).train) == 4
    with pytest.raises(ValueError, match=r"bad_images is 'skip' but streaming is true: .* leave one of them out"):
        load_image_data(tmp_path, streaming=True, bad_images="skip")
