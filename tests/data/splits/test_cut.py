"""The cut follows from the content of each image, so that changes of the data set move no image across it."""

from __future__ import annotations

import numpy as np
import pytest
from datasets import ClassLabel, Dataset, Features, Image, Value
from hypothesis import given, settings
from hypothesis import strategies as st

from hf_icckd.data.splits.cut import cut_off, cut_rows, notes_on_groups, positions

QUICK = settings(max_examples=60, deadline=None)
FRACTIONS = st.floats(0.01, 0.99)


@st.composite
def image_sets(draw, classes: int = 5):
    """Hashes and labels, with copies within a class and under two labels now and then."""
    count = draw(st.integers(1, 60))
    hashes = draw(st.lists(st.integers(0, draw(st.sampled_from([30, 2**64 - 1]))), min_size=count, max_size=count))
    labels = draw(st.lists(st.integers(0, draw(st.integers(0, classes))), min_size=count, max_size=count))
    return np.array(hashes, dtype=np.uint64), np.array(labels)


def large(hashes, labels, fraction: float, key: str = "test") -> np.ndarray:
    """Rows of classes with images on both sides of the fraction."""
    below = positions(hashes, key) < fraction
    both = [label for label in np.unique(labels) if 0 < below[labels == label].mean() < 1]
    return np.isin(labels, both)


@QUICK
@given(sets=image_sets(), fraction=FRACTIONS)
def test_an_image_is_cut_off_where_its_place_is_below_the_fraction(sets, fraction):
    hashes, labels = sets
    unique = np.unique(hashes, return_index=True)[1]
    hashes, labels = hashes[unique], labels[unique]  # no image under two labels
    cut = cut_rows(labels, hashes, fraction, "test")
    rows = large(hashes, labels, fraction)
    assert (cut.taken[rows] == (positions(hashes, "test") < fraction)[rows]).all()


@QUICK
@given(sets=image_sets(), fraction=FRACTIONS, seed=st.integers(0, 9))
def test_order_and_names_move_nothing(sets, fraction, seed):
    """Renamed files are listed in another order; a renamed class, or a new one in front, shifts the class indices."""
    hashes, labels = sets
    before = cut_rows(labels, hashes, fraction, "test")
    order = np.random.default_rng(seed).permutation(len(labels))
    renumbered = np.random.default_rng(seed + 1).permutation(labels.max() + 3)[labels]
    after = cut_rows(renumbered[order], hashes[order], fraction, "test")
    assert np.array_equal(before.taken[order], after.taken)
    assert len(before.lowest) == len(after.lowest)


@QUICK
@given(sets=image_sets(), more=image_sets(classes=8), fraction=FRACTIONS)
def test_images_that_are_added_or_removed_move_no_other(sets, more, fraction):
    hashes, labels = sets
    new = ~np.isin(more[0], hashes)
    before = cut_rows(labels, hashes, fraction, "test")
    both = np.concatenate([more[1][new], labels]), np.concatenate([more[0][new], hashes])
    after = cut_rows(*both, fraction, "test")
    sides = after.taken[new.sum() :]
    shared = np.isin(hashes, [value for value in hashes if len(set(labels[hashes == value])) > 1])
    rows = large(hashes, labels, fraction) & ~np.isin(labels, labels[shared])
    assert np.array_equal(before.taken[rows], sides[rows])


@QUICK
@given(sets=image_sets(), low=FRACTIONS, high=FRACTIONS)
def test_a_smaller_test_split_is_inside_a_larger_one(sets, low, high):
    hashes, labels = sets
    unique = np.unique(hashes, return_index=True)[1]
    low, high = sorted([low, high])
    small, larger = (cut_rows(labels[unique], hashes[unique], each, "test").taken for each in (low, high))
    assert (larger | ~small).all()


@QUICK
@given(sets=image_sets(), fraction=FRACTIONS)
def test_copies_and_groups_are_on_one_side(sets, fraction):
    values, labels = sets
    groups = np.array([f"patient {value % 7}" for value in values.tolist()])
    for each in (values, groups):
        cut = cut_rows(labels, each, fraction, "test")
        for value in np.unique(each):
            assert len(set(cut.taken[each == value])) == 1


@QUICK
@given(sets=image_sets(), fraction=FRACTIONS)
def test_every_class_keeps_an_image_and_gives_one(sets, fraction):
    hashes, labels = sets
    cut = cut_rows(labels, hashes, fraction, "test")
    for label in np.unique(labels):
        assert not cut.taken[labels == label].all()
    unique = np.unique(hashes, return_index=True)[1]
    hashes, labels = hashes[unique], labels[unique]
    cut = cut_rows(labels, hashes, fraction, "test")
    for label in np.unique(labels):
        rows = labels == label
        assert cut.taken[rows].any() == (rows.sum() > 1)
        below = positions(hashes, "test")[rows] < fraction
        assert (label in cut.lowest) == (rows.sum() > 1 and not below.any())
        assert (label in cut.highest) == (rows.sum() > 1 and below.all())


def test_a_group_that_is_all_of_a_class_stays_for_training():
    """Class 0 has group a alone, so class 1 gives group b although a is lower."""
    place = positions(np.array(["a", "b"]), "test")
    low, high = ("a", "b") if place[0] < place[1] else ("b", "a")
    cut = cut_rows(np.array([0, 1, 1]), np.array([low, low, high]), place.min() / 2, "test")
    assert cut.taken.tolist() == [False, False, True]


def test_places_are_even_and_other_ones_for_each_split():
    hashes = np.arange(20_000, dtype=np.uint64)
    test, validation = positions(hashes, "test"), positions(hashes, "validation")
    assert test.min() >= 0
    assert test.max() < 1
    assert abs((test < 0.2).mean() - 0.2) < 0.01
    assert abs(np.corrcoef(test, validation)[0, 1]) < 0.03
    # Written down: a change of the hash would cut every data set again.
    assert positions(np.array([0, 1], dtype=np.uint64), "test").round(12).tolist() == [0.540542444045, 0.985919123092]
    assert positions(np.array(["p1"]), "test")[0] == pytest.approx(0.52229275, abs=1e-8)


def rows_of(values: list[int], labels: list[int], groups: list[str | None] | None = None) -> Dataset:
    images = [{"bytes": bytes([value]), "path": None} for value in values]
    columns, features = {"image": images, "label": labels}, {"image": Image(decode=False), "label": ClassLabel(3)}
    if groups is not None:
        columns["group"], features["group"] = groups, Value("string")
    return Dataset.from_dict(columns, features=Features(features))


def test_groups_stay_together_and_the_cut_says_so():
    groups = [f"p{value // 4}" for value in range(40)]
    splits = {"train": rows_of(list(range(40)), [value % 2 for value in range(40)], groups)}
    cut = cut_off(splits, "test", 0.3, ["a", "b", "c"])
    assert not set(cut.splits["train"]["group"]) & set(cut.splits["test"]["group"])
    assert len(cut.splits["train"]) + len(cut.splits["test"]) == 40
    assert cut.origin == "cut off the training images: 30 % by the group of each image"
    assert cut.share.startswith(f"{len(cut.splits['test'])} images (")


def test_an_image_without_a_group_is_refused():
    splits = {"train": rows_of([1, 2, 3, 4], [0, 1, 0, 1], ["a", None, "b", None])}
    with pytest.raises(ValueError, match=r"row 1 of the train split has no group \(nor have 1 more rows\)"):
        cut_off(splits, "test", 0.3, ["a", "b", "c"])


def test_nothing_can_be_cut_off_one_group():
    splits = {"train": rows_of([1, 2, 3, 4], [0, 1, 0, 1], ["a"] * 4)}
    with pytest.raises(ValueError, match="test split can't be cut off a training split with one group per class"):
        cut_off(splits, "test", 0.3, ["a", "b", "c"])


def test_classes_that_were_treated_differently_are_named():
    splits = {"train": rows_of(list(range(6)), [0, 0, 1, 1, 2, 2])}
    notes = cut_off(splits, "validation", 1e-9, ["cat", "dog", "cow"]).notes
    assert len(notes) == 1
    assert notes[0].startswith("3 classes had no image below the fraction for the validation split")
    assert "cat, dog, cow" in notes[0]
    notes = cut_off(splits, "validation", 1 - 1e-9, ["cat", "dog", "cow"]).notes
    assert len(notes) == 1
    assert "kept the highest one each for training: cat, dog, cow" in notes[0]


def test_groups_in_two_official_splits_are_a_warning():
    train, test = rows_of([1, 2], [0, 1], ["p1", "p2"]), rows_of([3, 4], [0, 1], ["p2", "p3"])
    assert notes_on_groups({"train": train, "test": train.select([])}, "patient") == []
    [note] = notes_on_groups({"train": train, "test": test}, "patient")
    assert note.startswith("Warning: 1 of 2 groups (patient) of the test split are in the train split too")
