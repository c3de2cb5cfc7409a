"""Where images come from: every form of a data set loads as meant, and what can't be loaded is one clear error."""

from __future__ import annotations

import io
import os
import re
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import PIL.Image
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from datasets import ClassLabel, Dataset, DatasetDict, Features, Image, Value

from hf_icckd.data import load_image_data
from hf_icckd.data.images import read_image
from hf_icckd.data.sources.digits import Digits
from hf_icckd.data.sources.folder import Folder
from hf_icckd.data.sources.hub import Hub
from hf_icckd.data.sources.load import find_source
from hf_icckd.data.sources.synthetic import Synthetic
from hf_icckd.options.data import ImageDataArguments

pytestmark = pytest.mark.usefixtures("own_cache")


def png(value: int = 0) -> bytes:
    """An image that tells which one it is."""
    buffer = io.BytesIO()
    PIL.Image.new("RGB", (8, 8), (value % 256, value // 256, 0)).save(buffer, "PNG")
    return buffer.getvalue()


IMAGES = [png(i) for i in range(12)]
STRUCTS = [{"bytes": data, "path": None} for data in IMAGES]
EVEN = [i % 2 for i in range(12)]


def table(folder: Path, name: str = "train", **columns) -> Path:
    """Write columns as a parquet file by plain pyarrow."""
    folder.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table(columns), folder / f"{name}.parquet")
    return folder


def files(folder: Path, *names: str) -> Path:
    """Write image files, each with another image, and other files with a bit of text."""
    for index, name in enumerate(names):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(png(index) if name.endswith(".png") else b"text")
    return folder


def class_files(*classes: str, count: int = 5) -> list[str]:
    return [f"{name}/{i}.png" for name in classes for i in range(count)]


def labelled(labels: list, names: list[str] | None = None, **more) -> Dataset:
    """A data set with an image column, as `datasets` users make it."""
    features = {"image": Image(), "label": ClassLabel(names=names) if names else Value("int64")}
    features |= {name: ClassLabel(names=["x", "y"]) for name in more}
    images = [{"bytes": png(i), "path": None} for i in range(len(labels))]
    return Dataset.from_dict({"image": images, "label": labels, **more}, features=Features(features))


def counts(data, split: str = "train") -> list[int]:
    return np.bincount(data.labels(split), minlength=len(data.label_names)).tolist()


def red(data, split: str) -> list[int]:
    """Which images of this file a split holds."""
    rows = data.splits()[split]
    return [read_image(rows, row).getpixel((0, 0))[0] for row in range(len(rows))]


# Built in


def test_digits_are_not_mirrored_and_balanced():
    data = load_image_data("digits")
    assert (len(data.train), len(data.test), data.validation, data.mirrored) == (1438, 359, None, False)
    assert data.label_names == [str(digit) for digit in range(10)]
    assert min(counts(data)) > 130
    assert data.notes == []


def test_synthetic_has_ten_balanced_classes():
    data = load_image_data("synthetic")
    assert counts(data) == [200] * 10
    assert counts(data, "test") == [50] * 10


# Tables


def test_parquet_of_datasets_with_two_splits(tmp_path):
    labelled(EVEN, ["cat", "dog"]).to_parquet(tmp_path / "train-00000-of-00001.parquet")
    labelled([1, 0, 1], ["cat", "dog"]).to_parquet(tmp_path / "test-00000-of-00001.parquet")
    data = load_image_data(str(tmp_path))
    assert data.label_names == ["cat", "dog"]
    assert (counts(data), data.labels("test").tolist(), data.notes) == ([6, 6], [1, 0, 1], [])
    assert red(data, "train") == list(range(12))


@pytest.mark.parametrize(
    "images",
    [
        pa.array(STRUCTS),
        pa.array(STRUCTS, pa.struct([("bytes", pa.large_binary()), ("path", pa.large_string())])),
        pa.array(IMAGES),
        pa.array(IMAGES, pa.large_binary()),
    ],
    ids=["struct", "large struct", "binary", "large binary"],
)
def test_images_of_plain_parquet(tmp_path, images):
    data = load_image_data(str(table(tmp_path, picture=images, kind=EVEN)))
    assert sorted(red(data, "train") + red(data, "test")) == list(range(12))
    for split, rows in data.splits().items():
        assert data.labels(split).tolist() == [value % 2 for value in red(data, split)], rows


@pytest.mark.parametrize(
    ("labels", "names"),
    [
        (["dog", "cat"], ["cat", "dog"]),
        (pa.array(["dog", "cat"] * 6, pa.large_string()), ["cat", "dog"]),
        (pa.array(["dog", "cat"] * 6).dictionary_encode(), ["cat", "dog"]),
        ([True, False], ["False", "True"]),
        ([10, 3], ["3", "10"]),
        (pa.array([255, 0] * 6, pa.uint8()), ["0", "255"]),
    ],
    ids=["text", "large text", "dictionary", "bool", "gaps", "unsigned"],
)
def test_labels_without_names(tmp_path, labels, names):
    labels = labels * 6 if isinstance(labels, list) else labels
    data = load_image_data(str(table(tmp_path, image=IMAGES, label=labels)))
    assert data.label_names == names
    assert data.labels("train").tolist() == [1 - value % 2 for value in red(data, "train")]


def test_a_shuffled_data_frame_leaves_no_second_label_column(tmp_path):
    frame = pd.DataFrame({"image": STRUCTS, "label": EVEN}).sample(frac=1, random_state=0)
    frame.to_parquet(tmp_path / "train.parquet")
    data = load_image_data(str(tmp_path))
    assert data.labels("train").tolist() == [value % 2 for value in red(data, "train")]


@pytest.mark.parametrize("folder", ["plain", "with a space", "ünï [v2]*?"])
def test_splits_are_told_by_names_of_files_and_folders(tmp_path, folder):
    root = tmp_path / "test" / folder
    table(root / "data", "Train-0", image=IMAGES, label=EVEN)
    table(root / "VAL" / "shards", "0", image=IMAGES[:2], label=[0, 1])
    table(root, "testing", image=IMAGES[:3], label=[0, 1, 1])
    data = load_image_data(str(root))
    assert (len(data.train), len(data.test), data.notes) == (12, 3, [])


@pytest.mark.parametrize(
    ("train", "test"),
    [("digits train", "digits test"), ("train1", "test1"), ("train(1)", "test(1)"), ("trainset", "testset_2")],
)
def test_words_in_file_names_stand_beside_anything_but_letters(tmp_path, train, test):
    table(tmp_path, train, image=IMAGES, label=EVEN)
    table(tmp_path, test, image=IMAGES[:3], label=[0, 1, 1])
    data = load_image_data(str(tmp_path))
    assert (len(data.train), len(data.test), data.notes) == (12, 3, [])
    table(tmp_path, "contest", image=IMAGES[:1], label=[0])  # which is no test
    with pytest.raises(ValueError, match=r"contest\.parquet says no split, and that of .*--train_split"):
        load_image_data(str(tmp_path))


def test_a_folder_of_two_kinds_of_tables_is_refused(tmp_path):
    table(tmp_path, image=IMAGES, label=EVEN)
    (tmp_path / "other.arrow").write_bytes(b"")
    with pytest.raises(ValueError, match=r"mixes other\.arrow, train\.parquet, expected tables of one kind"):
        load_image_data(str(tmp_path))


@pytest.mark.parametrize("form", ["torch", None])
def test_saved_to_disk(tmp_path, form):
    whole = labelled(EVEN, ["cat", "dog"]).with_format(form)
    whole.save_to_disk(tmp_path / "one")
    DatasetDict(train=whole, test=whole.select(range(4))).save_to_disk(tmp_path / "dict")
    one, both = (load_image_data(str(tmp_path / name)) for name in ("one", "dict"))
    assert len(one.train) + len(one.test) == 12
    assert "no test split" in one.notes[0]
    assert (red(both, "train"), red(both, "test"), both.notes) == (list(range(12)), [0, 1, 2, 3], [])


# Image folders


def test_image_folder_with_splits(tmp_path):
    files(
        tmp_path, *class_files("Train/cat", "Train/dog", "Train/a bird"), *class_files("Test/dog", "Test/cat", count=2)
    )
    data = load_image_data(str(tmp_path))
    assert data.label_names == ["a bird", "cat", "dog"]
    assert (counts(data), counts(data, "test")) == ([5, 5, 5], [0, 2, 2])
    assert [data.label_names[label] for label in data.labels("test")] == ["cat", "cat", "dog", "dog"]


def test_image_folder_without_splits_is_cut_the_same_way_every_time(tmp_path):
    files(tmp_path, *class_files("cat", "dog"), "lone/0.png", "README.md", ".cache/x.png", "__MACOSX/cat/._0.png")
    data = load_image_data(str(tmp_path))
    assert data.label_names == ["cat", "dog", "lone"]
    both = np.add(counts(data), counts(data, "test"))
    assert (both.tolist(), counts(data, "test")[2], min(counts(data, "test")[:2])) == ([5, 5, 1], 0, 1)
    assert re.search(r"\d images \(\d+\.\d+ %, asked for 20 %\) were cut off .* by the content", data.notes[0])
    assert data.origins["test"] == "cut off the training images: 20 % by the content of each image"
    assert red(load_image_data(str(tmp_path)), "test") == red(data, "test")
    assert not set(red(data, "test")) & set(red(data, "train"))


def test_a_class_folder_that_can_not_be_read_is_an_error(tmp_path, monkeypatch):
    files(tmp_path, *class_files("cat", "dog", "lost+found"))
    scan = os.scandir

    def refuse(path):
        if Path(path).name in ("dog", "lost+found"):  # the latter is the file system's, and not looked at
            raise PermissionError(13, "Permission denied", str(path))
        return scan(path)

    monkeypatch.setattr(os, "scandir", refuse)
    with pytest.raises(ValueError, match=r"folder '.*dog' can't be read: Permission denied; change its permissions"):
        load_image_data(str(tmp_path))


def test_names_with_spaces_and_other_letters(tmp_path):
    data = load_image_data(
        str(files(tmp_path / "mein Ordner", "naïve Ä/ein Bild.png", "naïve Ä/2.PNG.png", "猫/[1].png"))
    )
    assert data.label_names == ["naïve Ä", "猫"]
    assert len(red(data, "train")) == 2


def test_labels_of_a_metadata_file(tmp_path):
    files(tmp_path, *[f"train/{i}.png" for i in range(4)])
    (tmp_path / "train" / "metadata.csv").write_text("file_name,kind\n0.png,b\n1.png,a\n2.png,b\n3.png,a\n")
    data = load_image_data(str(tmp_path))
    assert (data.label_names, counts(data), counts(data, "test")) == (["a", "b"], [1, 1], [1, 1])


@pytest.mark.parametrize(
    ("names", "message"),
    [
        ([], "holds 0 images; expected CLASS/IMAGE"),
        (["a.txt", "b/c.txt"], "holds 0 images"),
        (["a.png", "b.png"], "holds 2 images and no folder per class"),
        (["train/a.png", "test/b.png"], "holds 2 images and no folder per class"),
        (["cat/a.png", "dog/b.png", "c.png"], r"'c\.png' lies in no class folder; seen was"),
        (["cat/a.png", "cat/b.png"], "holds 2 images and no folder per class .*in the one folder 'cat'"),
        (["cat/a.png", "dog/b.png"], "test split can't be cut off .* one image per class"),
    ],
)
def test_folders_that_are_no_data_set(tmp_path, names, message):
    with pytest.raises(ValueError, match=message):
        load_image_data(str(files(tmp_path, *names)))


# Splits


def test_validation_serves_as_test_where_there_is_no_other(tmp_path):
    DatasetDict(train=labelled(EVEN, ["a", "b"]), validation=labelled([0, 1], ["a", "b"])).save_to_disk(tmp_path)
    data = load_image_data(str(tmp_path))
    assert (len(data.test), data.validation) == (2, None)
    assert data.notes == [
        "The validation split (split validation) serves as test split: there is no other with labels."
    ]


@pytest.mark.parametrize(
    "hidden",
    [
        {"image": STRUCTS, "label": [-1] * 12},
        {"image": STRUCTS, "label": pa.array([None] * 12, pa.int64())},
        {"image": STRUCTS, "label": pa.array([None] * 12)},
        {"image": STRUCTS},
    ],
    ids=["-1", "null", "untyped null", "no column"],
)
def test_a_test_split_with_hidden_labels_is_not_used(tmp_path, hidden):
    table(tmp_path, "test", **hidden)
    table(tmp_path, "train", image=STRUCTS, label=EVEN)
    data = load_image_data(str(tmp_path))
    assert (data.label_names, counts(data), counts(data, "test")) == (["0", "1"], [5, 5], [1, 1])
    table(tmp_path, "val", image=STRUCTS[:2], label=[0, 1])
    assert len(load_image_data(str(tmp_path)).test) == 2


def test_unsorted_test_images_are_not_used(tmp_path):
    data = load_image_data(str(files(tmp_path, *class_files("train/x", "train/y"), "test/0.png", "test/1.png")))
    assert (data.label_names, len(data.train) + len(data.test)) == (["x", "y"], 10)


def test_other_splits_do_not_matter(tmp_path):
    extra = labelled([-1, -1])
    DatasetDict(train=labelled(EVEN, ["a", "b"]), unlabelled=extra).save_to_disk(tmp_path)
    assert load_image_data(str(tmp_path)).label_names == ["a", "b"]


def test_the_only_split_is_for_training_unless_it_is_for_tests(tmp_path):
    DatasetDict(full=labelled(EVEN, ["a", "b"])).save_to_disk(tmp_path / "full")
    assert len(load_image_data(str(tmp_path / "full")).train) == 10
    DatasetDict(test=labelled(EVEN, ["a", "b"])).save_to_disk(tmp_path / "test")
    with pytest.raises(ValueError, match="has the splits test, expected one called train"):
        load_image_data(str(tmp_path / "test"))


def test_classes_that_only_the_test_split_has_are_noted(tmp_path):
    table(tmp_path, "train", image=IMAGES, label=["a", "b"] * 6)
    table(tmp_path, "test", image=IMAGES[:2], label=["b", "c"])
    data = load_image_data(str(tmp_path))
    assert (data.label_names, data.labels("test").tolist()) == (["a", "b", "c"], [1, 2])
    assert data.notes == ["Classes of the test split without a training image: c.", "Classes without a test image: a."]


@pytest.mark.parametrize("other", [["a", "c"], None])
def test_splits_must_agree_about_the_classes(tmp_path, other):
    DatasetDict(train=labelled(EVEN, ["a", "b"]), test=labelled([0, 1], other)).save_to_disk(tmp_path)
    with pytest.raises(ValueError, match=r"column 'label' different classes .*, expected the same names and order"):
        load_image_data(str(tmp_path))


def test_text_in_one_split_and_numbers_in_the_other_are_refused(tmp_path):
    table(tmp_path, "train", image=IMAGES, label=EVEN)
    table(tmp_path, "test", image=IMAGES, label=[str(label) for label in EVEN])
    with pytest.raises(ValueError, match="holds text in one split and numbers in another"):
        load_image_data(str(tmp_path))


def test_validation_split_and_limits(tmp_path):
    labels = [0] * 8 + [1] * 20 + [2] * 40
    labelled(labels, ["a", "b", "c"]).save_to_disk(tmp_path)
    data = load_image_data(str(tmp_path), validation_fraction=0.25, max_train_samples=12, max_eval_samples=5)
    assert counts(data) == [4, 4, 4]
    assert (len(data.validation), len(data.test)) == (5, 5)
    assert max(counts(data, "validation")) - min(counts(data, "validation")) <= 1
    parts = [set(red(data, split)) for split in ("train", "validation", "test")]
    assert len(set.union(*parts)) == 22
    full = load_image_data(str(tmp_path), validation_fraction=0.25)
    assert set(red(data, "test")) <= set(red(full, "test"))
    assert np.sum([counts(full, split) for split in full.splits()], axis=0).tolist() == [8, 20, 40]
    assert min(min(counts(full, split)) for split in full.splits()) >= 1


def test_a_thousand_classes(tmp_path):
    names = [f"n{i:04}" for i in range(1000)]
    table(tmp_path, image=[png(i) for i in range(2000)], label=names * 2)
    data = load_image_data(str(tmp_path))
    assert data.label_names == names
    assert (counts(data), counts(data, "test")) == ([1] * 1000, [1] * 1000)


# Columns and options


def test_several_class_columns_need_a_choice(tmp_path):
    split = labelled(EVEN, ["a", "b"], coarse=[0] * 6 + [1] * 6).rename_column("label", "fine")
    split.to_parquet(tmp_path / "train.parquet")
    with pytest.raises(ValueError, match=r"several columns may hold the labels: fine, coarse; .* --label_column"):
        load_image_data(str(tmp_path))
    data = load_image_data(str(tmp_path), label_column="coarse")
    assert data.label_names == ["x", "y"]
    assert data.labels("train").tolist() == [value // 6 for value in red(data, "train")]
    assert data.label_origin == "column 'coarse': chosen with --label_column"


def test_a_class_column_goes_before_text_and_an_image_column_before_bytes(tmp_path):
    split = labelled(EVEN, ["a", "b"]).add_column("caption", ["text"] * 12).add_column("digest", [b"x"] * 12)
    split.to_parquet(tmp_path / "train.parquet")
    assert load_image_data(str(tmp_path)).label_names == ["a", "b"]


@pytest.mark.parametrize(
    ("columns", "options", "message"),
    [
        ({"label": EVEN}, {"label_column": "kind"}, r"--label_column is 'kind', expected one of .*label \(int64\)"),
        ({"label": EVEN}, {"image_column": "x"}, r"--image_column is 'x', expected one of .*image \(binary\)"),
        (
            {"label": EVEN},
            {"image_column": "label"},
            "'label' holds int64, expected images, their bytes or their paths",
        ),
        ({"label": EVEN}, {"label_column": "image"}, "'image' can't hold both images and labels"),
        ({"kind": EVEN, "more": [0, 0, 1] * 4}, {}, "several columns may hold the labels: kind, more"),
        ({"label": EVEN, "target": [0, 0, 1] * 4}, {}, "several columns may hold the labels: label, target"),
        ({"label": EVEN, "mask": IMAGES}, {}, "several columns may hold the images: image, mask"),
        ({"label": [0.5, 1.0] * 6}, {}, "'label' can't be used: it holds numbers that are not whole, such as 0.5"),
        (
            {"label": [[0]] * 12},
            {},
            "'label' can't be used: it holds List .several values a row.*; expected class names",
        ),
        ({"label": [[0]] * 12, "site": EVEN}, {}, "'label' can't be used: it holds List"),
        ({"label": [0, -1] * 6}, {}, "6 of 12 rows of the train split have no label .*--missing_labels skip"),
        ({"label": ["a", None, "b"] * 4}, {}, "4 of 12 rows of the train split have no label"),
        ({"label": pa.array([None] * 12, pa.string())}, {}, "12 of 12 rows of the train split have no label"),
        ({"label": ["a"] * 12}, {}, "the one class 'a', expected two or more"),
        ({"label": EVEN}, {"max_train_samples": 0}, "max_train_samples is 0, expected a number at least 1"),
        ({"label": EVEN}, {"max_eval_samples": -3}, "max_eval_samples is -3, expected a number at least 1"),
        (
            {"label": EVEN},
            {"validation_fraction": 1.5},
            "validation_fraction is 1.5, expected a number at least 0 and below 1",
        ),
        ({"label": EVEN}, {"validation_fraction": -0.1}, "validation_fraction is -0.1, expected a number at least 0"),
        ({"label": EVEN}, {"test_fraction": 0.0}, "test_fraction is 0.0, expected a number above 0 and below 1"),
        ({"label": EVEN}, {"config_name": "small"}, "configuration 'small' .* only Hub data sets have them"),
    ],
)
def test_what_is_wrong_is_said(tmp_path, columns, options, message):
    with pytest.raises(ValueError, match=message):
        load_image_data(str(table(tmp_path, image=IMAGES, **columns)), **options)


def test_a_name_finds_its_source(tmp_path):
    found = {name: find_source(name) for name in ("digits", "synthetic", str(tmp_path), "me/x")}
    assert [type(source) for source in found.values()] == [Digits, Synthetic, Folder, Hub]
    assert [source.mirrored for source in found.values()] == [False, True, True, True]
    assert [source.hub_id for source in found.values()] == [None, None, None, "me/x"]
    for name in ("digits", "synthetic"):
        with pytest.raises(ValueError, match=f"streaming is true but '{name}' comes with this package"):
            found[name].streams(ImageDataArguments())


def test_options_come_in_one_object_or_as_keywords(tmp_path):
    folder = table(tmp_path, image=IMAGES, label=EVEN)
    options = ImageDataArguments(str(folder), max_train_samples=4, validation_fraction=0.25)
    by_object, by_keywords = (
        load_image_data(options),
        load_image_data(folder, max_train_samples=4, validation_fraction=0.25),
    )
    assert by_object.fingerprint() == by_keywords.fingerprint()
    assert (len(by_object.train), by_object.name) == (4, str(folder))
    with pytest.raises(TypeError, match="as an object and as keywords, expected one; leave out streaming"):
        load_image_data(options, streaming=True)
    with pytest.raises(TypeError, match="image_size"):  # an option of the pipeline
        load_image_data(str(folder), image_size=8)


def test_a_missing_name_of_a_class_label_is_an_error(tmp_path):
    labelled([0, 1, None, 1] * 3, ["a", "b"]).save_to_disk(tmp_path)
    with pytest.raises(ValueError, match=r"3 of 12 rows of the train split have no label \(the first is row 2\)"):
        load_image_data(str(tmp_path), validation_fraction=0.2)


def test_places_that_are_no_data_set(tmp_path):
    table(tmp_path, image=IMAGES, label=EVEN)
    assert len(load_image_data(str(tmp_path / "train.parquet")).train) == 10
    for name in ("", "./nowhere", str(tmp_path / "nowhere"), "~/nowhere/at/all", "a/b/c"):
        with pytest.raises(ValueError, match="does not exist; check the path"):
            load_image_data(name)
    (tmp_path / "train.parquet").write_bytes(b"no parquet")
    with pytest.raises(ValueError, match=r"train\.parquet can't be read as parquet .*download it again"):
        load_image_data(str(tmp_path))


def test_a_hub_data_set(monkeypatch):
    asked = []

    def load(*names, streaming):
        asked.append((*names, streaming))
        return DatasetDict(train=labelled(EVEN, ["a", "b"], fine=EVEN), test=labelled([1], ["a", "b"], fine=[0]))

    builder = SimpleNamespace(info=SimpleNamespace(download_size=1, dataset_size=1), cache_dir="nowhere")
    monkeypatch.setattr("hf_icckd.data.sources.hub.load_dataset_builder", lambda *names: builder)
    monkeypatch.setattr("hf_icckd.data.sources.hub.load_dataset", load)
    data = load_image_data("someone/something", config_name="small", label_column="fine")
    assert (asked, data.label_names, len(data.test)) == ([("someone/something", "small", False)], ["x", "y"], 1)


def test_a_hub_data_set_that_is_not_to_be_had(monkeypatch):
    def build(*names):
        try:
            raise FileNotFoundError("Config name is missing.\nPlease pick one of: ['fine', 'coarse']")
        except FileNotFoundError as error:
            raise RuntimeError("wrapped") from error

    monkeypatch.setattr("hf_icckd.data.sources.hub.load_dataset_builder", build)
    with pytest.raises(
        ValueError, match=r"'nobody/nothing' has several .*--dataset_config_name.*\['fine', 'coarse'\]"
    ) as caught:
        load_image_data("nobody/nothing")
    assert "\n" not in str(caught.value)
