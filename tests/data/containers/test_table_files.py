"""The zoo of tables: the right column is taken as the label, the right rows as splits, or an error says what to do."""

from __future__ import annotations

import base64
import csv
import json
import os
import re
from pathlib import Path
from typing import Any

import datasets
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from hf_icckd.data import load_image_data
from tests.data.zoo import picture, put, reading, write

N = 12
EVEN = [i % 2 for i in range(N)]
NAMES = [("cat", "dog")[i % 2] for i in range(N)]
IMAGES = [picture(str(i)) for i in range(N)]
SIX = {"all": {"0": 6, "1": 6}}
PETS = {"all": {"cat": 6, "dog": 6}}
SITE = [i // 2 % 2 for i in range(N)]
NAN = float("nan")
OFFICIAL = {"train": {"cat": 5, "dog": 5}, "test": {"cat": 1, "dog": 1}}
IN_TEN = ["train"] * 10 + ["test"] * 2


pytestmark = pytest.mark.usefixtures("own_cache")


def one(**columns: Any) -> dict[str, dict[str, Any]]:
    """One table of images with these columns."""
    return {"train.parquet": {"image": IMAGES, **columns}}


def rows(count: int, **columns: Any) -> dict[str, Any]:
    """The first rows of a table."""
    return {name: list(values)[:count] for name, values in {"image": IMAGES, **columns}.items()}


def both(train: str = "train.parquet", test: str = "test.parquet") -> dict[str, dict[str, Any]]:
    """A training and a test table."""
    return {train: {"image": IMAGES, "label": NAMES}, test: rows(4, label=NAMES)}


def beside(name: str, table: Any, images: int = N) -> dict[str, Any]:
    """A folder of images and a table."""
    return {"pictures/": images, name: table}


def pets(**more: Any) -> dict[str, Any]:
    """Two class folders and other files."""
    return {"cat/": 5, "dog/": 5} | {name.replace("_", "."): content for name, content in more.items()}


STEMS = [f"pictures-{i:02}" for i in range(N)]
ROWS = [("id", "label"), *zip(STEMS, NAMES, strict=True)]
SITES = [("file_name", "site"), *((f"{n}/{n}-0{i}.png", "AB"[i % 2]) for n in ("cat", "dog") for i in range(5))]
ALL = {"labels": "all.csv"}
LISTS = {
    name: "".join(f"{pet}/{pet}-0{i}\n" for pet in ("cat", "dog") for i in numbers)
    for name, numbers in {"meta/train.txt": (0, 1, 2), "meta/test.txt": (3, 4)}.items()
}
FIVE = {"all": {"cat": 5, "dog": 5}}


TWO = {"train": {"cat": 6, "dog": 6}, "test": {"cat": 2, "dog": 2}}
CASES: dict[str, tuple[dict[str, Any], dict[str, Any], Any]] = {
    # Which column is the label
    "label": (one(label=EVEN), {}, SIX),
    "labels": (one(labels=NAMES, site=EVEN), {}, PETS),
    "target": (one(target=NAMES, fold=EVEN), {}, PETS),
    "class": (one(fold=EVEN, **{"class": NAMES}), {}, PETS),
    "y": (one(y=NAMES, fold=EVEN), {}, PETS),
    "category": (one(category=NAMES, fold=EVEN), {}, PETS),
    "Label": (one(Label=NAMES, fold=EVEN), {}, PETS),
    "whole floats beside a fold": (one(label=[float(i) for i in EVEN], fold=[i % 5 for i in range(N)]), {}, SIX),
    "booleans": (one(label=[bool(i) for i in EVEN]), {}, {"all": {"False": 6, "True": 6}}),
    "another name, alone": (one(kind=NAMES), {}, PETS),
    "another name beside identifiers": (one(kind=NAMES, id=[f"a{i}" for i in range(N)]), {}, PETS),
    "another name beside halves": (one(kind=NAMES, weight=[i / 7 for i in range(N)]), {}, PETS),
    "the index of pandas": (one(kind=NAMES, __index_level_0__=list(range(N))), {}, PETS),
    "two of other names": (
        one(kind=NAMES, site=SITE),
        {},
        "several columns may hold the labels: kind, site.*--label_column",
    ),
    "two of other names, chosen": (one(kind=NAMES, site=EVEN), {"label_column": "kind"}, PETS),
    "two that are called labels": (
        one(label=NAMES, target=SITE),
        {},
        "labels: label, target; choose one with --label_column",
    ),
    "halves": (
        one(label=[0.5, 1.0] * 6, site=EVEN),
        {},
        "'label' can't be used: it holds numbers that are not whole, such as 0.5",
    ),
    "lists": (one(label=[[0]] * N, site=EVEN), {}, "'label' can't be used: it holds List.*--label_column"),
    "many missing": (
        one(label=[None] * 8 + [0, 1, 0, 1], site=EVEN),
        {},
        "'label' can't be used: 8 of 12 rows have no value",
    ),
    "identifiers": (
        one(image_id=[f"a{i}" for i in range(N)]),
        {},
        "12 different values in 12 rows, so it names images",
    ),
    "identifiers called label": (
        one(label=[f"a{i}" for i in range(N)]),
        {},
        "'label' can't be used: 12 different values",
    ),
    "no label at all": (one(), {}, "no label column found among .*--label_column"),
    "a column that is not there": (
        one(label=EVEN),
        {"label_column": "kind"},
        "--label_column is 'kind', expected one of",
    ),
    "a space after the name": (one(site=SITE, **{"Target ": NAMES}), {}, PETS),
    "class_name": (one(class_name=NAMES, site=SITE), {}, PETS),
    "ClassId": (one(ClassId=EVEN, site=SITE), {}, SIX),
    "numbers and names of the classes": (one(class_id=EVEN, class_name=NAMES, site=SITE), {}, PETS),
    "numbers beside names": (one(breed=NAMES, breed_id=EVEN), {}, PETS),
    "names beside other names": (one(breed=NAMES, kind=[n[0] for n in NAMES]), {}, "several columns .*breed, kind"),
    "a column of one value": (one(kind=NAMES, source=["web"] * N), {}, PETS),
    "sizes": (one(kind=NAMES, width=[20, 30] * 6, fold=SITE), {}, PETS),
    "nothing but sizes": (one(width=[20, 30] * 6), {}, r"no label column found among image \(binary\), width"),
    "a column for each class": (
        one(cat=[1, 0, 0] * 4, dog=[0, 1, 0] * 4, cow=[0, 0, 1] * 4),
        {},
        r"cat, dog, cow hold a 1 for the class of each row.*idxmax\(axis=1\)",
    ),
    "several labels a row": (one(label=["a", "b", "a|b"] * 4), {}, "several labels in one row, such as 'a|b'"),
    "names with commas": (
        one(label=["tench, Tinca", "shark, man-eater"] * 6),
        {},
        {"all": {"tench, Tinca": 6, "shark, man-eater": 6}},
    ),
    # Labels that are missing or alike
    "a space": (one(label=[" ", *NAMES[1:]]), {}, "1 of 12 rows of the train split have no label"),
    "nan as text": (one(label=["nan", *NAMES[1:]]), {}, "1 of 12 rows .*rename a class that is called so"),
    "a missing label": (
        one(label=[NAN, 1.0, *map(float, EVEN[2:])], site=EVEN),
        {},
        r"1 of 12 rows .* \(the first is row 0\).*skip",
    ),
    "a missing label, skipped": (
        one(label=[NAN, *map(float, EVEN[1:])]),
        {"missing_labels": "skip"},
        {"all": {"0": 5, "1": 6}},
    ),
    "an empty label": (one(label=["", *NAMES[1:]]), {}, "1 of 12 rows of the train split have no label"),
    "an empty label, skipped": (
        one(label=["", *NAMES[1:]]),
        {"missing_labels": "skip"},
        {"all": {"cat": 5, "dog": 6}},
    ),
    "a null label": (one(label=[None, *NAMES[1:]]), {}, "1 of 12 rows"),
    "a negative label": (one(label=[-1, *EVEN[1:]]), {}, "1 of 12 rows"),
    "zeros in front": (one(label=["00", "01"] * 6), {}, {"all": {"00": 6, "01": 6}}),
    "names that differ in case": (one(label=["cat", "Cat", "dog"] * 4), {}, "differ only in case.*'Cat' and 'cat'"),
    "names that differ in a space": (one(label=["cat", "cat ", "dog"] * 4), {}, "differ only in case, spaces"),
    "letters": (one(label=["a", "A"] * 6), {}, {"all": {"A": 6, "a": 6}}),
    "text and numbers": (
        both(test="val.parquet") | {"test.parquet": rows(4, label=EVEN)},
        {},
        "holds text in one split and numbers",
    ),
    # Splits
    "two tables": (both(), {}, TWO),
    "evaluation": (both(test="evaluation.parquet"), {}, TWO),
    "holdout": (both(test="my-holdout.parquet"), {}, TWO),
    "folders": (both("train/0.parquet", "test/0.parquet"), {}, TWO),
    "shards": (
        {"train-00000-of-00002.parquet": rows(6, label=NAMES), "train-00001-of-00002.parquet": rows(6, label=NAMES)},
        {},
        PETS,
    ),
    "shards without words": ({"0.parquet": rows(6, label=NAMES), "1.parquet": rows(6, label=NAMES)}, {}, PETS),
    "three tables": (both() | {"val.parquet": rows(2, label=NAMES)}, {}, TWO | {"validation": {"cat": 1, "dog": 1}}),
    "a test table without labels": (both() | {"test.parquet": rows(4)}, {}, PETS),
    "a test table without labels and a val": (
        both(test="val.parquet") | {"test.parquet": rows(4, label=[-1] * 4)},
        {},
        TWO,
    ),
    "a test table of other classes": (both() | {"test.parquet": rows(4, label=["?"] * 4)}, {}, PETS),
    "a table without a word": (
        both() | {"more.parquet": rows(4, label=NAMES)},
        {},
        r"more\.parquet says no split.*--train_split",
    ),
    "a table without a word, decided": (
        both() | {"more.parquet": rows(4, label=NAMES)},
        {"train_split": ["train"], "test_split": ["more"]},
        TWO,
    ),
    "tables that are joined": (
        {"a.parquet": rows(6, label=NAMES), "b.parquet": rows(6, label=NAMES), "c.parquet": rows(4, label=NAMES)},
        {"train_split": ["a", "b"], "test_split": ["c"]},
        TWO,
    ),
    "no table is a split": (both(), {"splits": "none"}, {"all": {"cat": 8, "dog": 8}}),
    "a column of splits": (
        one(label=NAMES, split=["train"] * 8 + ["test"] * 4),
        {},
        {"train": {"cat": 4, "dog": 4}, "test": {"cat": 2, "dog": 2}},
    ),
    "yes and no": (one(label=NAMES, is_train=[True] * 10 + [False] * 2), {}, OFFICIAL),
    "one and zero": (one(label=NAMES, is_test=[0.0] * 10 + [1.0] * 2), {}, OFFICIAL),
    "splits in a column of another name": (one(kind=NAMES, tvt=IN_TEN), {}, OFFICIAL),
    "rows that no split names": (
        one(label=NAMES, split=[*IN_TEN[:-1], None]),
        {},
        {"train": {"cat": 5, "dog": 5}, "test": {"cat": 1}},
    ),
    "splits as numbers": (
        one(label=NAMES, partition=[0] * 6 + [1] * 3 + [2] * 3),
        {},
        "'partition' seems to say .*by the numbers 0, 1, 2.*write train, validation and test into it",
    ),
    "a CSV of yes and no": (
        beside("all.csv", [(*ROWS[0], "is_train"), *((*row, int(i < 10)) for i, row in enumerate(ROWS[1:]))]),
        ALL,
        OFFICIAL,
    ),
    "another name for the label": (
        both() | {"test.parquet": rows(4, Label=NAMES)},
        {},
        "column 'label' and another split 'Label' in its place.*rename",
    ),
    "another name for the images": (
        both() | {"test.parquet": {"img": IMAGES[:4], "label": NAMES[:4]}},
        {},
        "column 'image' and another split 'img' in its place",
    ),
    "no rows": (
        both() | {"test.parquet": {"image": pa.array([], pa.binary()), "label": pa.array([], pa.string())}},
        {},
        r"test\.parquet has no rows",
    ),
    "a damaged table": (both() | {"test.parquet": "PAR1"}, {}, r"test\.parquet can't be read as parquet"),
    "two configurations": (
        {
            "fine/train.parquet": {"image": IMAGES, "fine": EVEN},
            "coarse/train.parquet": {"image": IMAGES, "coarse": EVEN},
        },
        {},
        r"other columns.*two configurations.*give the folder",
    ),
    "tables and class folders": (
        both() | {"cat/": 3, "dog/": 3},
        {},
        "tables of images, such as .* and 6 image files",
    ),
    "tables and pictures of a README": (both() | {"assets/": 2}, {}, TWO),
    "a table of facts beside class folders": (
        {"facts.parquet": {"id": [1, 2]}, "cat/": 5, "dog/": 5},
        {},
        {"all": {"cat": 5, "dog": 5}},
    ),
    # Images in other forms
    "a CSV of paths": (
        beside("all.csv", [("path", "label"), *((f"pictures/{s}.png", n) for s, n in ROWS[1:])]),
        ALL,
        PETS,
    ),
    "a CSV of names": (beside("all.csv", ROWS), ALL, PETS),
    "a CSV with semicolons": (beside("all.csv", "".join(f"{s};{n}\n" for s, n in ROWS)), ALL, PETS),
    "a TSV without a header": (
        beside("all.tsv", "".join(f"{s}.png\t{n}\n" for s, n in ROWS[1:])),
        {"labels": "all.tsv"},
        PETS,
    ),
    "a CSV of spreadsheets": (beside("all.csv", "sep=;\r" + "".join(f"{s};{n}\r" for s, n in ROWS)), ALL, PETS),
    "a CSV in UTF-16": (beside("all.csv", "".join(f"{s},{n}\n" for s, n in ROWS).encode("utf-16")), ALL, PETS),
    "a CSV with a comment": (beside("all.csv", "# mine\n" + "".join(f"{s},{n}\n" for s, n in ROWS)), ALL, PETS),
    "a CSV of names in capitals": (
        beside("all.csv", [ROWS[0], *((f"{s.upper()}.PNG", n) for s, n in ROWS[1:])]),
        ALL,
        PETS,
    ),
    "a CSV of numbers without zeros": (
        {f"{i:04}.png": 1 for i in range(N)} | {"all.csv": [ROWS[0], *((f"{i}.0", NAMES[i]) for i in range(N))]},
        ALL,
        PETS,
    ),
    "a CSV whose labels are like numbers of images": (
        {f"{i}.png": 1 for i in range(N)} | {"all.csv": [("label", "id"), *((EVEN[i], i) for i in range(N))]},
        ALL,
        SIX,
    ),
    "a spreadsheet": (beside("all.xlsx", "PK"), {"labels": "all.xlsx"}, "a spreadsheet.*save it as CSV"),
    "a spreadsheet, not named": (beside("all.xlsx", "PK"), {}, r"all\.xlsx is a spreadsheet.*--labels"),
    "a JSON document": (beside("all.json", "{}"), {"labels": "all.json"}, "a JSON document.*csv.writer.*--labels"),
    "JSON lines": (
        beside("all.jsonl", "".join(json.dumps({"file": f"{s}.png", "label": n}) + "\n" for s, n in ROWS[1:])),
        {"labels": "all.jsonl"},
        PETS,
    ),
    "a CSV with zeros in front": (
        beside("all.csv", [("id", "label"), *((s, f"0{i}") for s, i in zip(STEMS, EVEN, strict=True))]),
        ALL,
        {"all": {"00": 6, "01": 6}},
    ),
    "a CSV that names files that are not here": (
        beside("all.csv", ROWS, images=4),
        ALL,
        "names 8 images that are not in .*--bad_images skip",
    ),
    "a CSV that names some of the files": (beside("all.csv", ROWS, images=20), ALL, PETS),
    "a CSV that names none": (
        beside("all.csv", [("id", "label"), ("x", "cat")]),
        ALL,
        "no column of labels file .* names images",
    ),
    "two labels for an image": (
        beside("all.csv", [*ROWS, (STEMS[0], "dog")]),
        ALL,
        "gives 1 images several values of 'label', such as 'cat' and 'dog'",
    ),
    "a CSV with a column of splits": (
        beside(
            "all.csv", [(*ROWS[0], "split"), *((*row, "train" if i < 8 else "test") for i, row in enumerate(ROWS[1:]))]
        ),
        ALL,
        {"train": {"cat": 4, "dog": 4}, "test": {"cat": 2, "dog": 2}},
    ),
    "a column of site beside class folders": (pets(metadata_csv=SITES), {}, FIVE),
    "a column of site, chosen": (pets(metadata_csv=SITES), {"label_column": "site"}, {"all": {"A": 6, "B": 4}}),
    "metadata of some of the files": (
        beside("metadata.csv", [("file_name", "label"), *((f"pictures/{s}.png", n) for s, n in ROWS[1:7])]),
        {},
        {"all": {"cat": 3, "dog": 3}},
    ),
    "metadata that names no file": (pets(metadata_csv="license,source\nCC-BY,web\n"), {}, FIVE),
    "addresses": (
        {"all.csv": [("image", "label"), *((f"https://example.org/{s}.png", n) for s, n in ROWS[1:])]},
        {},
        r"holds addresses such as 'https://example\.org/pictures-00\.png'.*download",
    ),
    "base64": (
        {
            "all.csv": [
                ("image", "label"),
                *((base64.b64encode(image).decode(), name) for image, name in zip(IMAGES, NAMES, strict=True)),
            ]
        },
        {},
        PETS,
    ),
    "base64 of large images": (
        {
            "all.csv": [
                ("image", "label"),
                *((base64.b64encode(IMAGES[i] + bytes(150_000)).decode(), NAMES[i]) for i in range(N)),
            ]
        },
        {},
        PETS,
    ),
    "a damaged JSON file of `datasets`": ({"dataset_dict.json": "{"}, {}, "dataset .*Expecting property name"),
    "a spreadsheet alone": ({"all.xlsx": "PK"}, {}, r"all\.xlsx is a spreadsheet"),
    "an unknown file alone": ({"all.xyz": "?"}, {}, r"there are the files all\.xyz"),
    "pixels in columns": (
        {
            "train.csv": [
                ("label", *(f"pixel{i}" for i in range(784))),
                *((label, *((17 * i + k) % 256 for k in range(784))) for i, label in enumerate(EVEN)),
            ]
        },
        {},
        SIX,
    ),
    "lists of names": (pets() | LISTS, {}, {"train": {"cat": 3, "dog": 3}, "test": {"cat": 2, "dog": 2}}),
    "a list for training alone": (pets(train_txt="cat/cat-00.png\n"), {}, FIVE),
    "lists that share an image": (
        pets(train_txt="cat/cat-00.png\ndog/dog-00.png\n", test_txt="cat/cat-00.png\n"),
        {},
        "1 images are in the lists of both test and train",
    ),
}


def make(folder: Path, tables: dict[str, Any]) -> Path:
    """Write parquet files of columns, CSV files of rows, and what `zoo.write` writes."""
    for name, content in tables.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if isinstance(content, dict):
            pq.write_table(pa.table(content), path)
        elif isinstance(content, list):
            with path.open("w", newline="") as file:
                csv.writer(file).writerows(content)
        else:
            write(folder, {name: content})
    return folder


@pytest.mark.parametrize("name", CASES)
def test_table(tmp_path, name):
    tables, options, expected = CASES[name]
    make(tmp_path, tables)
    if isinstance(expected, dict):
        data = load_image_data(tmp_path, **options)
        assert reading(data, cut="all" in expected) == expected
        assert data.label_origin and all(data.origins.values())
    else:
        with pytest.raises(ValueError, match=re.compile(expected, re.DOTALL)) as caught:
            load_image_data(tmp_path, **options)
        assert len(str(caught.value)) < 1500


def test_the_zoo_is_large_enough():
    assert len(CASES) >= 40


def test_why_a_column_is_the_label(tmp_path):
    make(tmp_path / "a", one(label=NAMES, site=EVEN))
    make(tmp_path / "b", one(kind=NAMES, id=[f"a{i}" for i in range(N)]))
    make(tmp_path / "c", {"cat/": 5, "dog/": 5})
    origins = [load_image_data(tmp_path / name).label_origin for name in "abc"]
    assert origins == [
        "column 'label': its name says so",
        "column 'kind': no other column can hold them",
        "names of the class folders",
    ]


def test_groups_are_read_and_checked(tmp_path):
    patients = [f"p{i // 3}" for i in range(N)]
    make(tmp_path, one(label=NAMES, patient=patients))
    data = load_image_data(tmp_path, group_column="patient", test_fraction=0.5)
    groups = {name: set(split["group"]) for name, split in data.splits().items()}
    assert not groups["train"] & groups["test"]
    with pytest.raises(ValueError, match=r"group_column is 'site', expected one of the columns: .*patient"):
        load_image_data(tmp_path, group_column="site")
    with pytest.raises(ValueError, match="group_column is 'label', which is the column of the images or labels"):
        load_image_data(tmp_path, group_column="label")


def test_groups_beside_class_folders(tmp_path):
    patients = [(f"{name}/{name}-0{i}.png", f"{name}{i // 2}") for name in ("cat", "dog") for i in range(5)]
    make(tmp_path, pets(metadata_csv=[("file_name", "patient"), *patients]))
    data = load_image_data(tmp_path, group_column="patient", test_fraction=0.4)
    assert not set(data.train["group"]) & set(data.test["group"])
    assert data.label_origin == "names of the class folders"
    assert data.notes[0] == "Class folders give the labels, and metadata.csv the groups."
    assert load_image_data(tmp_path).notes[0] == "metadata.csv is not used: class folders give the labels."


def test_lists_that_options_name(tmp_path):
    make(tmp_path, pets() | {name.replace("meta", "my").replace("t.t", "t-1.t"): text for name, text in LISTS.items()})
    lists = [name.replace("meta", "my").replace("t.t", "t-1.t") for name in LISTS]
    data = load_image_data(tmp_path, train_split=lists[:1], test_split=lists[1:])
    assert reading(data) == {"train": {"cat": 3, "dog": 3}, "test": {"cat": 2, "dog": 2}}
    assert data.origins == {"train": f"list {lists[0]}", "test": f"list {lists[1]}"}
    with pytest.raises(ValueError, match=r"splits are named by folders .* and by lists"):
        load_image_data(tmp_path, train_split=["cat"], test_split=lists[1:])


def test_a_file_is_a_data_set(tmp_path):
    make(tmp_path, both())
    assert reading(load_image_data(tmp_path / "train.parquet"), cut=True) == PETS
    paths = [("image", "label"), *((f"pictures/pictures-{i:02}.png", NAMES[i]) for i in range(N))]
    make(tmp_path / "b", {"pictures/": N, "mine.csv": paths})
    assert reading(load_image_data(tmp_path / "b" / "mine.csv"), cut=True) == PETS
    (tmp_path / "b" / "pictures" / "pictures-03.png").unlink()
    with pytest.raises(ValueError, match=r"row 3 of 'mine\.csv', column 'image': .*pictures-03\.png' is no file"):
        load_image_data(tmp_path / "b" / "mine.csv")
    assert len(load_image_data(tmp_path / "b" / "mine.csv", bad_images="skip").train) < N


def test_changed_content_under_the_same_path_and_time_is_seen(tmp_path):
    seen = []
    for names in (NAMES, NAMES[::-1]):
        make(tmp_path, one(label=names))
        os.utime(tmp_path / "train.parquet", (0, 0))
        data = load_image_data(tmp_path)
        rows_of = zip(data.labels("train"), data.train, strict=True)
        seen.append(sorted((data.label_names[label], row["image"]["bytes"]) for label, row in rows_of))
    assert seen[0] != seen[1]


def named_classes(path: Path, names: list[str], labels: list[int]) -> None:
    """Write a table whose labels are numbers of named classes."""
    features = datasets.Features({"image": datasets.Value("binary"), "label": datasets.ClassLabel(names=names)})
    columns = {"image": IMAGES[: len(labels)], "label": labels}
    datasets.Dataset.from_dict(columns, features=features).to_parquet(path)


def test_named_classes_in_another_order_are_the_same_classes(tmp_path):
    named_classes(tmp_path / "train.parquet", ["cat", "dog"], EVEN)
    for names, labels in ((["dog", "cat"], [1, 0, 1, 0]), (["cat"], [0, 0])):
        named_classes(tmp_path / "test.parquet", names, labels)
        expected = {"cat": labels.count(names.index("cat"))} | ({"dog": 2} if "dog" in names else {})
        assert reading(load_image_data(tmp_path))["test"] == expected
    named_classes(tmp_path / "test.parquet", ["cat", "cow"], [1, 0])
    with pytest.raises(ValueError, match=r"different classes \(cat, dog and cat, cow\).*--test_split"):
        load_image_data(tmp_path)


def test_rows_that_no_split_names_are_counted(tmp_path):
    make(tmp_path, one(label=NAMES, split=[*IN_TEN[:-1], None]))
    assert [(each.count, each.reason) for each in load_image_data(tmp_path).left_out] == [
        (1, "rows whose column 'split' names no split")
    ]


def test_many_columns_are_looked_at(tmp_path):
    make(tmp_path, one(kind=NAMES, **{f"f{i}": SITE for i in range(1500)}))
    with pytest.raises(ValueError, match=r"kind, f0, .* and 1493 more; choose one with --label_column"):
        load_image_data(tmp_path)


def test_an_error_about_many_columns_is_short(tmp_path):
    make(tmp_path, {"train.parquet": {f"column{i}": [0.5, 0.25] for i in range(2000)}})
    with pytest.raises(ValueError, match=r"no image column found among .* and 1992 more") as caught:
        load_image_data(tmp_path)
    assert len(str(caught.value)) < 600


def test_a_damaged_row_is_named(tmp_path):
    make(tmp_path, {"pictures/": 2, "all.csv": "id,label\npictures-00,cat\npictures-01,dog,more\n"})
    with pytest.raises(ValueError, match=r"'all\.csv', row 3 has 3 cells, expected 2 as in the first"):
        load_image_data(tmp_path, labels="all.csv")
    put(tmp_path / "all.csv", "id,label\nä,b\n".encode("latin-1"))
    with pytest.raises(ValueError, match=r"'all\.csv' is not UTF-8 \(byte 9\)"):
        load_image_data(tmp_path, labels="all.csv")
