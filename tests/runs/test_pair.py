"""The table of teacher and student at the end of a distillation."""

from __future__ import annotations

from pathlib import Path

import pytest

from hf_icckd.runs import pair

LONG = "tf_efficientnet_lite2"


@pytest.mark.parametrize("teacher", ["resnet18", LONG])
def test_columns_are_aligned_however_long_names_are(tmp_path, monkeypatch, teacher):
    measured = {"top1": 50.0, "balanced_accuracy": 40.0}
    cost = {"parameters": 1_000, "latency_ms": 2.0}
    results = {
        "test": measured,
        "teacher_test": measured,
        "cost": cost,
        "model": {"architecture": "cifar_resnet8"},
        "teacher": {"architecture": teacher, "cost": cost},
    }
    monkeypatch.setattr(pair, "read_records", lambda folder: ({}, results))
    (tmp_path / "model.onnx").write_bytes(bytes(2_000_000))
    lines = pair.pair_table(tmp_path, str(Path("elsewhere")), "done").splitlines()
    (head,) = [line for line in lines if line.split() == ["teacher", "student"]]
    (nets,) = [line for line in lines if line.startswith("net ")]
    assert nets.index(teacher) == head.index("teacher") and nets.index("cifar_resnet8") == head.index("student")
    assert f"{tmp_path / 'model.onnx'} (2.0 MB)" in lines[-1]
