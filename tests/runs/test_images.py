"""The record of a run's images, and what has gone since."""

from __future__ import annotations

import numpy as np
import pytest

from hf_icckd.runs.images import IMAGES_FILE, RunImages, find_removed, read_images, write_images


def images(train: list[int], test: list[int] = (90, 91), labels: list[int] | None = None, **more) -> RunImages:
    hashes = {name: np.array(rows, dtype=np.uint64) for name, rows in (("train", train), ("test", test))}
    of = {"train": np.array(labels or [value % 2 for value in train]), "test": np.arange(len(test)) % 2}
    return RunImages(hashes, of, ["a", "b"], (0.1, 0.2, 0.3), (0.4, 0.5, 0.6), **more)


def removed(before: RunImages, now: RunImages):
    return find_removed(before, now.hashes, now.labels, now.label_names)


def test_a_record_is_read_as_it_was_written(tmp_path):
    wrote = images([2**64 - 1, 1], earlier=np.array([7], dtype=np.uint64), complete=False)
    write_images(tmp_path, wrote)
    read = read_images(tmp_path)
    for name in ("train", "test"):
        assert read.hashes[name].dtype == np.uint64
        assert np.array_equal(read.hashes[name], wrote.hashes[name])
        assert np.array_equal(read.labels[name], wrote.labels[name])
    assert (read.label_names, read.mean, read.std) == (["a", "b"], (0.1, 0.2, 0.3), (0.4, 0.5, 0.6))
    assert (read.trained.tolist(), read.complete) == ([1, 7, 2**64 - 1], False)


def test_models_without_a_record_have_none(tmp_path):
    assert read_images(tmp_path) is None
    assert read_images("someone/teacher") is None


@pytest.mark.parametrize("content", [b"", b"no archive", b"PK\x03\x04 and no more"])
def test_a_damaged_record_is_an_error(tmp_path, content):
    (tmp_path / IMAGES_FILE).write_bytes(content)
    with pytest.raises(ValueError, match=r"image_hashes\.npz is damaged .*; restore it, or move it"):
        read_images(tmp_path)


def test_a_record_with_code_is_not_run(tmp_path):
    with (tmp_path / IMAGES_FILE).open("wb") as file:
        np.savez(file, hashes_train=np.array([{}], dtype=object))
    with pytest.raises(ValueError, match=r"is damaged .*allow_pickle=False"):
        read_images(tmp_path)


def test_another_of_its_class_takes_the_place_of_a_removed_image():
    before = images([10, 11, 12, 13, 14, 15])
    found = removed(before, images([10, 11, 12, 14, 15]))
    assert found.counts == {"train": 1}
    assert found.train.tolist() == [0, 1, 2, 1, 3, 4]  # image 13, of class 1: image 11 is nearest, before 15
    assert str(found) == "images have been removed from the data set since this run was begun: 1 of the train split"
    found = removed(images([10, 11], [90, 91, 92]), images([10, 11], [90, 91]))
    assert (found.counts, found.train.tolist()) == ({"test": 1}, [0, 1])


def test_copies_of_a_removed_image_stay():
    found = removed(images([10, 12, 12, 11, 13]), images([10, 12, 11, 13]))
    assert (found.counts, found.train.tolist()) == ({"train": 1}, [0, 1, 1, 2, 3])


@pytest.mark.parametrize(
    "now",
    [
        images([10, 11, 12, 13]),
        images([10, 11, 12, 13, 14]),
        images([10, 11, 12, 14]),
        images([11, 10, 12]),
        images([10, 11, 12], labels=[1, 1, 0]),
        images([10, 12]),
        images([10, 11, 12], [90, 92]),
    ],
    ids=["the same", "added", "changed", "other order", "other label", "none left of a class", "other test image"],
)
def test_any_other_difference_is_none(now):
    assert removed(images([10, 11, 12, 13]) if len(now.hashes["train"]) != 2 else images([10, 11, 12]), now) is None


def test_only_a_few_images_may_go():
    before = images(list(range(2000)), [])
    assert removed(before, images(list(range(20, 2000)), [])).counts == {"train": 20}
    assert removed(before, images(list(range(21, 2000)), [])) is None
    small = images(list(range(40)), [])
    assert removed(small, images(list(range(10, 40)), [])).counts == {"train": 10}
    assert removed(small, images(list(range(11, 40)), [])) is None
