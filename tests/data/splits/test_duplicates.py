"""Exact copies of images: counted, and dropped if asked for."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import PIL.Image
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hf_icckd.data import load_image_data
from hf_icckd.data.splits.duplicates import Duplicates, copies, count_duplicates, keep_one
from tests.data.splits.test_cut import QUICK

SPLITS = st.lists(st.tuples(st.integers(0, 20), st.integers(0, 2)), min_size=1, max_size=20)


def arrays(**splits: list[tuple[int, int]]) -> tuple[dict, dict]:
    hashes = {name: np.array([value for value, _ in rows], dtype=np.uint64) for name, rows in splits.items()}
    return hashes, {name: np.array([label for _, label in rows]) for name, rows in splits.items()}


def save(file: Path, value: int) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    PIL.Image.new("RGB", (8, 8), (value, 0, 0)).save(file)


def test_counts_of_a_known_set():
    hashes, labels = arrays(
        train=[(1, 0), (1, 0), (1, 0), (2, 0), (3, 1)], validation=[(3, 1)], test=[(2, 1), (3, 1), (9, 0)]
    )
    counted = count_duplicates(hashes, labels)
    assert counted == Duplicates(
        {"train": 2, "validation": 0, "test": 0},
        {"test in validation": 1, "test in train": 2, "validation in train": 1},
        2,
    )
    assert counted.any
    assert counted.sentences()[0] == "Images of the train split that are copies of others in it: 2."
    assert counted.sentences()[-1] == "Images under more than one label: 2."
    assert len(counted.sentences()) == 5
    assert [(split, row) for _, split, row in copies(hashes)] == [
        ("train", 0), ("train", 1), ("train", 2), ("train", 3), ("test", 0), ("train", 4),
        ("validation", 0), ("test", 1),
    ]  # fmt: skip


def test_without_copies_there_is_nothing_to_say():
    counted = count_duplicates(*arrays(train=[(1, 0), (2, 1)], test=[(3, 0)]))
    assert not counted.any
    assert counted.sentences() == []


@QUICK
@given(train=SPLITS, validation=SPLITS, test=SPLITS)
def test_what_is_kept_is_there_once_and_under_one_label(train, validation, test):
    hashes, labels = arrays(train=train, validation=validation, test=test)
    kept = keep_one(hashes, labels)
    left = {name: hashes[name][kept[name].rows] for name in hashes}
    names_of = {}
    for value, label in [*train, *validation, *test]:
        names_of.setdefault(value, set()).add(label)
    clear = {value for value, labels in names_of.items() if len(labels) == 1}
    assert sorted(np.concatenate(list(left.values())).tolist()) == sorted(clear)
    assert set(left["test"].tolist()) == {value for value, _ in test} & clear
    assert not set(left["validation"].tolist()) & {value for value, _ in test}
    for name, each in kept.items():
        assert sorted(np.concatenate(each).tolist()) == list(range(len(hashes[name])))
        assert {int(value) for value in hashes[name][each.two_labels]} == {int(v) for v in hashes[name]} - clear
        if len(each.rows):
            assert not count_duplicates({name: left[name]}, {name: labels[name][each.rows]}).any


def test_a_loaded_set_counts_its_copies(tmp_path):
    for number in range(4):
        for label, base in (("cat", 0), ("dog", 100)):
            save(tmp_path / "train" / label / f"{number}.png", base + number)
            save(tmp_path / "test" / label / f"{number}.png", base + 50 + number)
    assert not load_image_data(str(tmp_path)).duplicates.any
    save(tmp_path / "train" / "cat" / "again.png", 3)
    save(tmp_path / "train" / "cat" / "seen.png", 151)
    data = load_image_data(str(tmp_path))
    assert data.duplicates == Duplicates({"train": 1, "test": 0}, {"test in train": 1}, 2)
    assert data.left_out == []

    dropped = load_image_data(str(tmp_path), duplicates="drop")
    assert not dropped.duplicates.any
    assert {name: len(split) for name, split in dropped.splits().items()} == {"train": 8, "test": 7}
    assert [(each.count, each.reason) for each in dropped.left_out] == [
        (1, "exact copies in the train split of images that are kept"),
        (1, "images of the train split that stand under more than one label"),
        (1, "images of the test split that stand under more than one label"),
    ]
    assert [Path(each.example).name for each in dropped.left_out] == ["again.png", "seen.png", "1.png"]


def test_dropping_copies_and_the_cut_agree(tmp_path):
    for number in range(20):
        for label, base in (("cat", 0), ("dog", 100)):
            save(tmp_path / label / f"{number}.png", base + number)
            save(tmp_path / label / f"{number} again.png", base + number)
    kept, dropped = load_image_data(str(tmp_path)), load_image_data(str(tmp_path), duplicates="drop")
    assert kept.duplicates.across == {"test in train": 0}
    for name in ("train", "test"):
        assert len(kept.splits()[name]) == 2 * len(dropped.splits()[name])
        assert set(kept.hashes()[name]) == set(dropped.hashes()[name])


def test_a_split_of_copies_alone_can_not_be_dropped(tmp_path):
    for split in ("train", "test"):
        for label in ("cat", "dog"):
            save(tmp_path / split / label / "0.png", len(label) + ord(label[0]))
    with pytest.raises(ValueError, match="duplicates is 'drop' and every image of the train split is a copy"):
        load_image_data(str(tmp_path), duplicates="drop")


def test_streams_have_neither_hashes_nor_copies(tmp_path):
    from tests.data.sources.test_load import EVEN, labelled

    labelled(EVEN, ["a", "b"]).to_parquet(tmp_path / "train.parquet")
    labelled([0, 1], ["a", "b"]).to_parquet(tmp_path / "test.parquet")
    data = load_image_data(str(tmp_path), streaming=True)
    assert (data.hashes(), data.duplicates) == (None, None)
