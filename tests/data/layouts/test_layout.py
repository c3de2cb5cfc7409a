"""The zoo of folder layouts: each is read as a person would read it, or refused with the option that decides."""

from __future__ import annotations

import os
import re

import pytest

from hf_icckd.data import load_image_data
from hf_icckd.data.images import read_image
from tests.data.zoo import picture, put, reading, write

CD = {"cat": 5, "dog": 5}
SMALL = {"cat": 2, "dog": 2}
TWO = {"train": CD, "test": SMALL}
THREE = {"train": CD, "validation": SMALL, "test": SMALL}
CUT = {"all": CD}


pytestmark = pytest.mark.usefixtures("own_cache")


def classes(folder: str = "", count: int = 5, names: tuple[str, ...] = ("cat", "dog")) -> dict[str, int]:
    """Class folders in a folder."""
    return {f"{folder}{name}/": count for name in names}


def splits(train: str = "train/", test: str = "test/", **others: str) -> dict[str, int]:
    """Class folders in the folders of splits."""
    return classes(train) | classes(test, 2) | {k: v for each in others.values() for k, v in classes(each, 2).items()}


TEN = {"train": {"cat": 3, "dog": 3}, "test": {"cat": 2, "dog": 2}}


def lists(name: str, test: tuple[int, ...] = (3, 4)) -> dict[str, str]:
    """Lists of the images of two classes for training and test."""
    chosen = {"train": [i for i in range(5) if i not in test], "test": test}
    return {
        name.format(split): "".join(f"{pet}/{pet}-0{i}.png\n" for pet in CD for i in numbers)
        for split, numbers in chosen.items()
    }


CASES = {
    # Split words
    "plain": (splits(), {}, TWO),
    "capitals": (splits("Train/", "TEST/"), {}, TWO),
    "training and testing": (splits("Training/", "Testing/"), {}, TWO),
    "training_set": (splits("training_set/", "test_set/"), {}, TWO),
    "trn and tst": (splits("trn/", "tst/"), {}, TWO),
    "a prefix": (splits("seg_train/", "seg_test/"), {}, TWO),
    "a suffix": (splits("train_images/", "test_images/"), {}, TWO),
    "a name in front": (splits("cars_train/", "cars_test/"), {}, TWO),
    "a space": (splits("Train data/", "Test data/"), {}, TWO),
    "a year": (splits("train2017/", "val2017/"), {}, TWO),
    "one word": (splits("trainset/", "testset/"), {}, TWO),
    "camel case": (splits("TrainImages/", "TestImages/"), {}, TWO),
    "holdout": (splits("train/", "holdout/"), {}, TWO),
    "hold-out": (splits("train/", "hold-out/"), {}, TWO),
    "evaluation": (splits("train/", "evaluation/"), {}, TWO),
    "dev alone is the test split": (splits("train/", "dev/"), {}, TWO),
    "three splits": (splits(val="val/"), {}, THREE),
    "valid": (splits(val="valid/"), {}, THREE),
    "validation": (splits("Training/", "Test/", val="Validation/"), {}, THREE),
    "train alone": (classes("train/"), {}, CUT),
    "trainval": (splits("trainval/", "test/"), {}, TWO),
    "words inside other words": (classes(names=("contest", "latest")), {}, {"all": {"contest": 5, "latest": 5}}),
    # Depth
    "a wrapper": (splits("chest_xray/train/", "chest_xray/test/"), {}, TWO),
    "two wrappers": (splits("a/b/train/", "a/b/test/"), {}, TWO),
    "a wrapper without splits": (classes("2750/"), {}, CUT),
    "a wrapper in each split": (splits("seg_train/seg_train/", "seg_test/seg_test/"), {}, TWO),
    "images/ above": (splits("images/train/", "images/test/"), {}, TWO),
    "images/ in each split": (splits("train/images/", "test/images/"), {}, TWO),
    "images/ in each class": ({"cat/images/": 5, "dog/images/": 5}, {}, CUT),
    "a copy of itself inside": (splits("x/train/", "x/test/") | classes("x/x/train/") | classes("x/x/test/"), {}, TWO),
    "splits inside the classes": ({"cat/train/": 5, "dog/train/": 5, "cat/test/": 2, "dog/test/": 2}, {}, TWO),
    "parts with the same classes": (classes("part_1/", 2) | classes("part_2/", 3), {}, CUT),
    "numbered parts": (classes("images_001/", 2) | classes("images_002/", 3), {}, CUT),
    "parts of each class": ({"cat/part1/": 2, "cat/part2/": 3, "dog/part1/": 5}, {}, CUT),
    "nested classes": (
        {"animal/cat/": 5, "animal/dog/": 5, "car/": 5},
        {},
        {"all": {"car": 5, "cat": 5, "dog": 5}},
    ),
    # Trains exist
    "a class called train": ({"train/": 5, "bus/": 5}, {}, {"all": {"train": 5, "bus": 5}}),
    "classes with words of splits": (
        {"steam_train/": 5, "crash_test/": 5},
        {},
        {"all": {"steam_train": 5, "crash_test": 5}},
    ),
    "no folder is a split": (
        {"train/": 5, "test/": 5},
        {"splits": "none"},
        {"all": {"train": 5, "test": 5}},
    ),
    "a kind of train": (
        {"train/steam/": 5, "train/diesel/": 5, "bus/": 5},
        {},
        r"'train' lies beside other.*--splits none",
    ),
    "a kind of train, decided": (
        {"train/steam/": 5, "train/diesel/": 5, "bus/": 5},
        {"splits": "none"},
        {"all": {"steam": 5, "diesel": 5, "bus": 5}},
    ),
    # What is no class
    "unlabelled test images": (classes("train/") | {"test/": 4}, {}, CUT),
    "unlabelled test images in images/": (classes("train/") | {"test/images/": 4}, {}, CUT),
    "a labelled val beside an unlabelled test": (splits("train/", "val/") | {"test/": 4}, {}, TWO),
    "predictions beside the splits": (splits("seg_train/", "seg_test/") | {"seg_pred/": 4}, {}, TWO),
    "an old copy beside the splits": (splits() | classes("old/"), {}, TWO),
    "masks beside images": (
        {"images/cat/": 5, "images/dog/": 5, "masks/cat/": 5, "masks/dog/": 5},
        {},
        CUT,
    ),
    "masks in each class": ({f"{name}/{kind}/": 5 for name in CD for kind in ("images", "masks")}, {}, CUT),
    "trimaps": (classes("images/") | {"annotations/trimaps/": 5}, {}, CUT),
    "face masks": ({"mask/": 5, "no_mask/": 5}, {}, {"all": {"mask": 5, "no_mask": 5}}),
    "hidden and system folders": (
        classes() | {".cache/": 3, "@eaDir/": 2, "$RECYCLE.BIN/": 2, "__MACOSX/cat/": 1, "Thumbnails/": 2},
        {},
        CUT,
    ),
    "pictures of a run": (classes() | {"runs/teacher/all_args.yaml": "a: 1", "runs/teacher/curves.png": 1}, {}, CUT),
    "other files": (classes() | {"README.md": "hello", "cat/notes.txt": "x", "LICENSE": "y"}, {}, CUT),
    "suffixes of any case": (
        classes() | {"cat/A.PNG": 1, "dog/B.JPG": 1, "dog/C.jfif": 1},
        {},
        {"all": {"cat": 6, "dog": 7}},
    ),
    "no suffix": (classes() | {"cat/plain": 1, "dog/picture": 1}, {}, {"all": {"cat": 6, "dog": 6}}),
    "a file called train": (classes() | {"cat/train.png": 1, "dog/test_1.png": 1}, {}, {"all": {"cat": 6, "dog": 6}}),
    # Doubtful
    "test beside classes": (
        classes() | {"test/": 4},
        {},
        r"'test' is the name of a split.*\n  cat/ \(5 images\).*--splits none",
    ),
    "test beside classes, left out": (classes() | {"test/": 4}, {"classes": ["cat", "dog"]}, CUT),
    "test beside classes, a class": (
        classes() | {"test/": 4},
        {"splits": "none"},
        {"all": {"cat": 5, "dog": 5, "test": 4}},
    ),
    "a class beside the splits": (splits() | {"bird/": 3}, {}, "'bird' lies beside splits.*--train_split"),
    "a class beside the splits, decided": (
        splits() | {"bird/": 3},
        {"train_split": ["train"], "test_split": ["test"]},
        TWO,
    ),
    "masks among classes": (classes() | {"masks/": 5}, {}, "'masks' lies among.*annotations.*--classes"),
    "one class in two places": (
        classes("color/") | classes("gray/"),
        {},
        "'cat' lies in two places, 'color/cat' and 'gray/cat'.*--train_split",
    ),
    "one class in two places, one chosen": (classes("color/") | classes("gray/"), {"train_split": ["color"]}, CUT),
    "one class in two places, joined": (
        classes("site1/") | classes("site2/", 2),
        {"train_split": ["site1", "site2"]},
        {"all": {"cat": 7, "dog": 7}},
    ),
    "one for training, one for test": (
        classes("site1/") | classes("site2/", 2),
        {"train_split": ["site1"], "test_split": ["site2"]},
        TWO,
    ),
    "images in a class and deeper": (
        {"cat/": 5, "cat/more/": 2, "dog/": 5},
        {},
        "'cat' holds images and.*'cat/more'.*label_pattern",
    ),
    "images in a class and deeper, decided": (
        {"cat/": 5, "cat/more/": 2, "dog/": 5},
        {"label_pattern": "^([^/]+)/"},
        {"all": {"cat": 7, "dog": 5}},
    ),
    "parts without a class in common": (
        classes("part_1/") | classes("part_2/", names=("bus", "car")),
        {},
        "no class in common",
    ),
    "splits in some classes": (
        splits("a/train/", "a/test/") | splits("b/train/", "b/test/"),
        {},
        "splits inside a, b.*--dataset",
    ),
    "a stray image": (classes() | {"cover.png": 1}, {}, r"'cover\.png' lies in no class folder; .*move it"),
    "splits and none to train on": (
        splits("val/", "test/"),
        {},
        "splits test, val and none to train on.*--train_split",
    ),
    "the split that there is": (splits("val/", "test/"), {"train_split": ["val"]}, TWO),
    "a split that is not there": (splits(), {"train_split": ["tarin"]}, "--train_split is 'tarin', and no folder"),
    "names that differ in case": (splits() | {"train/Cat/": 2}, {}, "differ only in case, spaces.*'Cat' and 'cat'"),
    "names that differ in Unicode form": (
        {"caf\u00e9/": 3, "cafe\u0301/": 3},
        {},
        "differ only in case, spaces or Unicode",
    ),
    "names that differ in a space": ({"big cat/": 3, "big  cat/": 3}, {}, "differ only in case, spaces"),
    "names with zeros": ({"00/": 5, "01/": 5}, {}, {"all": {"00": 5, "01": 5}}),
    "one class": ({"cat/": 5}, {}, "no folder per class .*in the one folder 'cat'.*so nothing says their labels"),
    "nothing": ({"README.md": "x"}, {}, "holds 0 images; expected CLASS/IMAGE"),
    # Folders in folders
    "one inner folder of the same name": ({"cat/raw/": 5, "dog/raw/": 5}, {}, CUT),
    "images/ in one class": ({"cat/images/": 5, "dog/": 5}, {}, CUT),
    "pieces of a download": (
        classes("pets-20231114T101112Z-001/", 2) | classes("pets-20231114T101112Z-002/", 3),
        {},
        CUT,
    ),
    "patients": (
        {"benign/p1/": 2, "benign/p2/": 2, "malignant/p3/": 2},
        {},
        r"differ in a number only, such as 'p1'.*if the classes are benign, malignant, add --label_pattern",
    ),
    "patients, decided": (
        {"benign/p1/": 2, "benign/p2/": 2, "malignant/p3/": 2},
        {"label_pattern": "([^/]+)/[^/]+/[^/]+$"},
        {"all": {"benign": 4, "malignant": 2}},
    ),
    "patients above the classes, decided": (
        classes("train/p1/", 2) | classes("train/p2/", 3) | classes("test/p3/", 2),
        {"label_pattern": "([^/]+)/[^/]+$"},
        TWO,
    ),
    "days": ({"cat/2020-01-01/": 3, "cat/2020-01-02/": 2, "dog/2020-02-01/": 5}, {}, "people, films or days"),
    "a folder in one class": (
        {"cat/New folder/": 5, "dog/": 5},
        {},
        r"'New folder'.*--label_pattern '\^\(\[\^",
    ),
    "a folder in one class, decided": ({"cat/New folder/": 5, "dog/": 5}, {"label_pattern": "^([^/]+)/"}, CUT),
    "versions": (
        classes("original/") | classes("augmented/", names=("cat_augmented", "dog_augmented")),
        {},
        "'augmented' looks like one of several versions.*--train_split",
    ),
    "versions, one chosen": (
        classes("original/") | classes("augmented/", names=("cat_augmented", "dog_augmented")),
        {"train_split": ["original"]},
        CUT,
    ),
    "samples beside the classes": (
        classes("dataset/") | {"samples/": 3},
        {},
        "'samples' holds images and lies beside 'dataset'.*--train_split 'dataset'",
    ),
    "samples beside the classes, decided": (classes("dataset/") | {"samples/": 3}, {"train_split": ["dataset"]}, CUT),
    "a folder for a text beside the splits": (splits() | {"papers/": 1, "docs/img/": 2}, {}, TWO),
    "images beside another heap": ({"images/": 5, "other/": 5}, {}, "'images' says only that images are in it"),
    "sizes": (classes("images_224/") | classes("images_512/"), {}, "lies in two places"),
    # Several folders for a split
    "parts of the training split": (classes("train_1/", 2) | classes("train_2/", 3) | classes("test/", 2), {}, TWO),
    "folds": (
        {f"{split}_{fold}/{name}/": 2 for split in ("train", "test") for fold in (1, 2) for name in CD},
        {},
        "several folders for the test split, test_1, test_2.*--train_split",
    ),
    "a training split twice": (splits() | classes("train_full/"), {}, "several folders for the train split"),
    "names that differ in case only": (splits() | classes("Train/"), {}, "several folders for the train split"),
    "a split in two sizes": (splits("train_224/", "test_224/") | classes("train_512/"), {}, "several folders"),
    "classes with the split in their names": (
        {f"{split}/{name}_{split}/": count for split, count in (("train", 5), ("test", 2)) for name in CD},
        {},
        TWO,
    ),
    "a set of splits for each class": (
        {f"{name}_{split}/": count for split, count in (("train", 5), ("test", 2)) for name in CD},
        {},
        r"two sets of splits.*--train_split 'cat_train' 'dog_train' --test_split 'cat_test' 'dog_test' --label_p",
    ),
    "a set of splits for each class, decided": (
        {f"{name}_{split}/": count for split, count in (("train", 5), ("test", 2)) for name in CD},
        {
            "train_split": ["cat_train", "dog_train"],
            "test_split": ["cat_test", "dog_test"],
            "label_pattern": "(cat|dog)[^/]*/[^/]+$",
        },
        TWO,
    ),
    "names of test classes that differ in case": (
        classes("train/") | classes("test/", names=("Cat", "Dog")),
        {},
        "differ only in case",
    ),
    # Lists
    "lists with other words": (classes() | lists("official_{}.txt"), {}, TEN),
    "lists of one word": (classes() | lists("splits/{}list.txt"), {}, TEN),
    "two sets of lists": (
        classes() | lists("official_{}.txt") | lists("my_own_{}.txt"),
        {},
        "several sets of lists.*--train_split",
    ),
    "numbered lists": (
        classes() | lists("{}1.txt") | lists("{}2.txt", (0, 1)),
        {},
        "several lists for one split.*--train_split train1.txt",
    ),
    "a column split beside class folders": (
        classes()
        | {
            "split.csv": "split,path\n"
            + "".join(f"{'test' if i > 2 else 'train'},{name}/{name}-0{i}.png\n" for name in CD for i in range(5))
        },
        {},
        TEN,
    ),
    "tables of something else": (
        classes() | {"loss_train.csv": "a,b\n1,2\n", "loss_test.csv": "a\n1\n"},
        {},
        CUT,
    ),
    # No class folders
    "a test split alone": ({"test/": 5}, {}, "the split test and none to train on"),
    "a table that gives labels": (
        {
            "train/": 4,
            "train/metadata.csv": "file_name,kind\n" + "".join(f"train-0{i}.png,{'ab'[i % 2]}\n" for i in range(4)),
        },
        {},
        {"all": {"a": 2, "b": 2}},
    ),
    "one heap": ({"images/": 5}, {}, "5 images and no folder per class.*write a CSV"),
    "a heap and a table": (
        {"images/": 3, "train.csv": "filename,label\nimages-00.png,cat\n"},
        {},
        r"train\.csv has the columns filename, label.*--labels train\.csv",
    ),
    "images and masks": ({"images/": 5, "masks/": 5}, {}, "no folder per class"),
    "train and test heaps": ({"train_images/": 5, "test_images/": 5}, {}, "10 images and no folder per class"),
    "parts of a heap": (
        {"part_1/": 3, "part_2/": 3},
        {},
        "no folder per class.*if the folders part_1, part_2 are classes.*--splits none",
    ),
    "parts that are classes": ({"part_1/": 3, "part_2/": 3}, {"splits": "none"}, {"all": {"part_1": 3, "part_2": 3}}),
    "labels in file names": (
        {f"{name}.{i}.jpg": 1 for name in CD for i in range(5)},
        {},
        r"2 classes \(cat, dog\).*--label_pattern",
    ),
    "labels in file names, decided": (
        {f"{name}.{i}.jpg": 1 for name in CD for i in range(5)},
        {"label_pattern": r"([^/]+)\.\d+\.jpg$"},
        CUT,
    ),
    "a pattern that finds nothing": (
        classes(),
        {"label_pattern": "x(y)"},
        "finds no label in 10 of 10 paths, such as 'cat/",
    ),
    "a pattern without a group": (classes(), {"label_pattern": "cat"}, "expected round brackets around the label"),
}


@pytest.mark.parametrize("name", CASES)
def test_layout(tmp_path, name):
    tree, options, expected = CASES[name]
    write(tmp_path, tree)
    if isinstance(expected, dict):
        data = load_image_data(tmp_path, **options)
        assert reading(data, cut="all" in expected) == expected
        assert data.origins.keys() == data.splits().keys() and all(data.origins.values())
    else:
        with pytest.raises(ValueError, match=re.compile(expected, re.DOTALL)) as caught:
            load_image_data(tmp_path, **options)
        assert len(str(caught.value)) < 1500


def test_the_zoo_is_large_enough():
    assert len(CASES) >= 60


def test_what_stays_out_is_counted(tmp_path):
    tree = splits() | {"seg_pred/": 4, "test_masks/": 3, ".hidden/": 2}
    data = load_image_data(write(tmp_path, tree))
    assert sorted((left.count, left.reason.split(" ")[0]) for left in data.left_out) == [(1, "hidden"), (7, "images")]
    unlabelled = load_image_data(write(tmp_path / "u", classes("train/") | {"test/": 4}))
    assert [(left.count, "no labels" in left.reason) for left in unlabelled.left_out] == [(4, True)]


def test_links_are_followed_once_and_loops_not(tmp_path):
    write(tmp_path / "data", classes())
    write(tmp_path / "store", {"bird/": 3})
    os.symlink(tmp_path / "data", tmp_path / "data" / "latest")
    os.symlink(tmp_path / "data" / "cat", tmp_path / "data" / "also_cat")
    os.symlink(tmp_path, tmp_path / "data" / "cat" / "above")
    for name in ("bird", "again"):
        os.symlink(tmp_path / "store" / "bird", tmp_path / "data" / name)
    data = load_image_data(tmp_path / "data")
    assert reading(data, cut=True) == {"all": CD | {"again": 3}}
    assert sum(left.count for left in data.left_out if left.reason.startswith("hidden")) == 4


def test_a_heic_suffix_on_a_png_is_read_by_content(tmp_path):
    write(tmp_path, classes())
    for file in (tmp_path / "dog").iterdir():
        file.rename(file.with_suffix(".heic"))
    assert reading(load_image_data(tmp_path), cut=True) == CUT


def test_images_that_no_library_reads_are_named(tmp_path):
    write(tmp_path, classes())
    for number in range(3):
        put(tmp_path / "dog" / f"{number}.dcm", b"\0" * 128 + b"DICM" + bytes(64))
    with pytest.raises(ValueError, match=r"3 images that can't be read, such as 'dog/0\.dcm'.*--bad_images skip"):
        load_image_data(tmp_path)
    data = load_image_data(tmp_path, bad_images="skip")
    assert reading(data, cut=True) == CUT
    assert any(left.count == 3 for left in data.left_out)


def test_images_are_those_of_their_folders(tmp_path):
    data = load_image_data(write(tmp_path, splits("seg_train/seg_train/", "seg_test/seg_test/")))
    for name, split in data.splits().items():
        for row, label in enumerate(data.labels(name)):
            path = split[row]["image"]["path"]
            assert data.label_names[label] in path and f"seg_{name}" in path
    assert read_image(data.test, 0).size == (4, 4)
    assert picture("a") != picture("b")
