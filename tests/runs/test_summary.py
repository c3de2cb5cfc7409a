"""The table at the end of a run: what the mean over images hides is said."""

from __future__ import annotations

import pytest
import torch

from hf_icckd.metrics.class_tables import class_table, image_table
from hf_icckd.runs.summary import summary_table

NAMES = ["cat", "dog", "emu", "fox"]
MEASURED = {"images": 8, "top1": 50.0, "top5": 75.0, "balanced_accuracy": 25.0, "macro_f1": 16.67, "nll": 1.0,
            "ece": 0.1}  # fmt: skip
COST = {"parameters": 10, "flops": 20, "latency_ms": 0.5}
LABELS = [0, 0, 0, 0, 1, 1, 2, 3]


def results(predicted, train=(40, 20, 20, 2), names=NAMES, split="test"):
    tables = {split: class_table(torch.eye(len(names))[predicted], torch.tensor(LABELS), names)}
    tables |= {} if train is None else {"train": image_table(train, names)}
    return {split: MEASURED, "per_class": {"names": names, **tables}, "cost": COST}


def rows_of(text: str) -> dict[str, str]:
    return {name.strip(): value for name, value in (line.split("  ", 1) for line in text.splitlines()[2:])}


def rows(*args, split="test", **options) -> dict[str, str]:
    found = rows_of(summary_table(results(*args, split=split, **options), "a run", split))
    return {name: value.strip() for name, value in found.items()}


def test_classes_that_are_never_recognised_are_named():
    found = rows([0] * 8)
    assert found["test balanced accuracy, macro F1"] == "25.00 %, 16.67 %"
    assert found["never recognised"] == "3 of 4 classes have 0 % recall: 'dog', 'emu', 'fox'"
    assert found["most frequent mistake"] == "'dog' taken for 'cat' (2 of 2 images)"
    assert found["training images per class"] == "2 ('fox') to 40 ('cat'), ratio 20.0"
    assert "lowest recall" not in found


@pytest.mark.parametrize(
    ("predicted", "said"),
    [
        ([0, 0, 0, 0, 1, 1, 2, 2], "1 of 4 classes has 0 % recall: 'fox'"),
        ([1, 1, 1, 1, 0, 0, 0, 0], "4 of 4 classes have 0 % recall, such as 'cat', 'dog', 'emu'"),
    ],
)
def test_how_many_are_never_recognised(predicted, said):
    assert rows(predicted)["never recognised"] == said


def test_the_lowest_recalls_are_named_where_none_is_zero():
    found = rows([0, 0, 1, 2, 1, 2, 2, 3])
    assert found["lowest recall"] == "50.00 % ('cat'), 50.00 % ('dog')"
    assert "never recognised" not in found


def test_a_perfect_run_on_balanced_classes_has_one_line_about_them():
    found = rows(LABELS, train=(39, 20, 20, 20))
    # No top-5 with four classes: any model has 100 %.
    assert list(found)[:3] == ["test top-1", "test balanced accuracy, macro F1", "test NLL, ECE"]
    assert not found.keys() & {"lowest recall", "never recognised", "most frequent mistake"}
    assert "training images per class" not in found
    assert "training images per class" in rows(LABELS, train=(40, 20, 20, 20))


def test_where_nothing_was_trained_the_measured_split_is_counted():
    found = rows(LABELS, train=None, split="validation")
    assert found["validation images per class"] == "1 ('emu') to 4 ('cat'), ratio 4.0"


def test_a_record_of_an_earlier_version():
    old = {"test": {k: v for k, v in MEASURED.items() if k not in ("balanced_accuracy", "macro_f1")}, "cost": COST}
    found = rows_of(summary_table(old, "a run"))
    assert list(found) == ["test top-1", "test top-5", "test NLL, ECE", "parameters, FLOPs, latency"]


def test_a_name_stays_on_its_line():
    names = ["cat", "dog\n\x1b[31m", "emu", "x" * 40]
    said = rows([0] * 8, names=names)["never recognised"]
    assert r"'dog\n\x1b[31m'" in said and f"'{'x' * 29}…'" in said


def test_flops_that_were_not_counted_are_said_to_be():
    without = results([0] * 8) | {"cost": {"parameters": 10, "latency_ms": 0.5}}
    found = rows_of(summary_table(without, "a run", "test"))
    assert found["parameters, FLOPs, latency"].strip() == "10, not counted, 0.50 ms"


def test_shares_are_written_like_other_metrics():
    text = summary_table({**results([0] * 8), "training": {"gated_fraction": 0.9994}}, "a run", "test")
    assert rows_of(text)["anchors past the gate"].strip() == "99.9 %"
