"""The table of classes: its numbers, what is read from it, and that it is plain JSON."""

from __future__ import annotations

import json
import math

import pytest
import torch

from hf_icckd import metrics
from hf_icckd.metrics.class_tables import (
    RECORDED_CONFUSIONS,
    ClassRow,
    Confusion,
    class_table,
    image_table,
    worst_classes,
    worst_confusions,
)

NAMES = ["cat", "dog", "emu", "fox", "gnu"]
# cat 4 of 4; dog 1 of 2; emu 0 of 3, all taken for cats; fox has no image and is predicted once; gnu is left out.
PREDICTED, LABELS = [0, 0, 0, 0, 1, 3, 0, 0, 0], [0, 0, 0, 0, 1, 1, 2, 2, 2]


@pytest.fixture
def table():
    return class_table(torch.eye(5)[PREDICTED], torch.tensor(LABELS), NAMES)


def test_the_table_of_a_small_split(table):
    assert table == {
        "classes": 3,
        "largest": {"class": "cat", "images": 4},
        "smallest": {"class": "dog", "images": 2},
        "ratio": 2.0,
        "images": [4, 2, 3, 0, 0],
        "zero_recall": 1,
        "predicted": [7, 1, 0, 1, 0],
        "recall": [100.0, 50.0, 0.0, None, None],
        "precision": [57.14, 100.0, None, 0.0, None],
        "f1": [72.73, 66.67, 0.0, 0.0, None],
        "confusions": [
            {"class": "emu", "predicted": "cat", "images": 3},
            {"class": "dog", "predicted": "fox", "images": 1},
        ],
    }
    assert json.loads(json.dumps(table, allow_nan=False)) == table


def test_its_means_are_those_of_the_split(table):
    measured = metrics.classification_metrics(torch.eye(5)[PREDICTED], torch.tensor(LABELS))
    for name, mean in (("recall", "balanced_accuracy"), ("f1", "macro_f1")):
        values = [value for value in table[name] if value is not None]
        assert sum(values) / len(values) == pytest.approx(measured[mean], abs=0.01)


def test_what_is_worst_is_found(table):
    training = image_table([40, 10, 5, 8, 8], NAMES)
    per_class = {"names": NAMES, "train": training, "test": table}
    assert worst_classes(per_class, "test", 10) == [ClassRow("emu", 5, 3, 0.0), ClassRow("dog", 10, 2, 50.0)]
    assert worst_classes(per_class, "test", 1) == [ClassRow("emu", 5, 3, 0.0)]
    assert worst_classes({"names": NAMES, "test": table}, "test", 1) == [ClassRow("emu", None, 3, 0.0)]
    assert worst_confusions(per_class, "test", 1) == [Confusion("emu", "cat", 3, 3)]
    assert (training["largest"], training["smallest"]) == (
        {"class": "cat", "images": 40},
        {"class": "emu", "images": 5},
    )
    assert training["ratio"] == 8


def test_of_equal_recalls_that_with_the_most_images_comes_first():
    labels = torch.tensor([0, 1, 1, 2])
    found = class_table(torch.eye(4)[[3, 3, 3, 2]], labels, NAMES[:4])
    rows = worst_classes({"names": NAMES[:4], "test": found}, "test", 5)
    assert [row.name for row in rows] == ["dog", "cat"]


def test_a_class_that_is_rarely_recognised_is_not_never_recognised():
    """Its recall rounds to 0.00 %."""
    labels = torch.zeros(30_000, dtype=torch.long)
    predicted = torch.ones(30_000, dtype=torch.long)
    predicted[0] = 0
    found = class_table(torch.eye(2)[predicted], labels, ["cat", "dog"])
    assert (found["recall"], found["zero_recall"]) == ([0.0, None], 0)


def test_a_perfect_split_has_nothing_worst():
    labels = torch.arange(6) % 3
    per_class = {"names": NAMES[:3], "test": class_table(torch.eye(3)[labels], labels, NAMES[:3])}
    assert worst_classes(per_class, "test", 5) == worst_confusions(per_class, "test", 5) == []
    assert (per_class["test"]["ratio"], per_class["test"]["zero_recall"]) == (1, 0)


def test_the_most_frequent_confusions_are_kept():
    labels = torch.arange(30).repeat(2)
    found = class_table(torch.eye(30)[(labels + 1) % 30], labels, [f"class {index}" for index in range(30)])
    assert len(found["confusions"]) == RECORDED_CONFUSIONS
    assert found["confusions"][0] == {"class": "class 0", "predicted": "class 1", "images": 2}


def test_a_diverged_model():
    found = class_table(torch.full((4, 2), math.nan), torch.tensor([0, 0, 1, 1]), ["cat", "dog"])
    assert (found["zero_recall"], found["predicted"], found["confusions"]) == (2, [0, 0], [])
