"""The table of teacher and student at the end of a distillation."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from hf_icckd.runs import pair

LONG = "tf_efficientnet_lite2"


def lines_of(folder: Path, monkeypatch, **changes: Any) -> list[str]:
    """The table of made-up results; a change of None takes an entry away."""
    measured = {"top1": 50.0, "balanced_accuracy": 40.0}
    cost = {"parameters": 1_000, "latency_ms": 2.0}
    results = {
        "test": measured,
        "teacher_test": measured,
        "cost": cost,
        "model": {"architecture": "cifar_resnet8"},
        "teacher": {"architecture": "resnet18", "cost": cost},
    }
    results = {name: value for name, value in (results | changes).items() if value is not None}
    monkeypatch.setattr(pair, "read_records", lambda folder: ({}, results))
    return pair.pair_table(folder, str(Path("elsewhere")), "done").splitlines()


@pytest.mark.parametrize("teacher", ["resnet18", LONG])
def test_columns_are_aligned_however_long_names_are(tmp_path, monkeypatch, teacher):
    (tmp_path / "model.onnx").write_bytes(bytes(2_000_000))
    about = {"architecture": teacher, "cost": {"parameters": 1_000, "latency_ms": 2.0}}
    lines = lines_of(tmp_path, monkeypatch, teacher=about)
    (head,) = [line for line in lines if line.split() == ["teacher", "student"]]
    (nets,) = [line for line in lines if line.startswith("net ")]
    assert nets.index(teacher) == head.index("teacher") and nets.index("cifar_resnet8") == head.index("student")
    assert f"{tmp_path / 'model.onnx'} (2.0 MB)" in lines[-1]


def test_a_teacher_by_embeddings_has_no_accuracy(tmp_path, monkeypatch):
    lines = lines_of(tmp_path, monkeypatch, teacher_test=None)
    (head,) = [line for line in lines if line.split() == ["teacher", "student"]]
    (top1,) = [line for line in lines if line.startswith("test top-1 ")]
    assert top1.split() == ["test", "top-1", "50.00", "%"] and top1.index("50.00") == head.index("student")
