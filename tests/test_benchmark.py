"""The command that compares models: folders with what was exported to them, single files, timm's names."""

from __future__ import annotations

import json

import pytest

from hf_icckd import benchmark, export_onnx, export_openvino, save_pretrained
from hf_icckd.evaluation import latency
from hf_icckd.options.command_line import UserError


@pytest.fixture(autouse=True)
def quick_timing(monkeypatch):
    """One call in each turn: latencies are not what is tested here."""
    monkeypatch.setattr(latency, "_TURN_SECONDS", 0)
    monkeypatch.setattr(latency, "_REST_SECONDS", 0)


@pytest.fixture
def folder(tiny_classifier, tmp_path):
    folder = tmp_path / "student"
    save_pretrained(folder, tiny_classifier())
    export_onnx(folder, folder / "model.onnx", num_images=2)
    return folder


def test_models_and_their_files_are_compared(folder, tmp_path, capsys):
    export_openvino(folder, tmp_path / "net.xml", num_images=2)
    rows = [{"format": "torch", "top1": 91.5}, {"format": "onnx", "top1": 91.25}]
    (folder / "metrics.json").write_text(json.dumps({"deployment": {"rows": rows}}))
    words = [str(folder), str(tmp_path / "net.xml"), "--batch_sizes", "1", "3", "--threads", "1", "--rounds", "1"]
    benchmark.main([*words, "--output_file", str(tmp_path / "table.json")])
    shown = capsys.readouterr().out
    assert "1 thread" in shown and "3 images" in shown and "91.25" in shown and "openvino" in shown
    assert max(map(len, shown.splitlines())) <= 100
    found = json.loads((tmp_path / "table.json").read_text())["rows"]
    assert [(row["format"], row.get("top1")) for row in found] == [
        ("torch", 91.5),
        ("onnx", 91.25),
        ("openvino", None),
    ]
    assert [(each["batch_size"], each["threads"]) for each in found[0]["latencies"]] == [(1, 1), (3, 1)]
    assert found[1]["bytes"] == (folder / "model.onnx").stat().st_size


def test_top1_of_a_run_that_was_never_exported(folder):
    (folder / "model.onnx").unlink()
    for record, expected in (({"test": {"top1": 80.5}}, {"top1": 80.5}), ({}, {}), ([], {})):
        (folder / "metrics.json").write_text(json.dumps(record))
        (model,) = benchmark._models(str(folder))
        assert {name: model.row[name] for name in model.row if name == "top1"} == expected


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "required: --models"),
        (["nowhere"], "model 'nowhere'|'nowhere'"),
        (["nowhere.onnx"], "'nowhere.onnx' does not exist; export it first"),
        (["{run}/damaged.onnx"], "damaged.onnx' can't be read by ONNX Runtime: .*; export it again"),
        (["{run}", "--threads", "0"], "threads is 0, expected a number at least 1"),
        (["{run}", "--batch_sizes", "-3"], "batch_sizes is -3, expected a number at least 1"),
        (["{run}", "--rounds", "0"], "rounds is 0, expected a number at least 1"),
        (["{run}", "--output_file", "no/such/x.json"], "output_file is 'no/such/x.json', whose folder does not exist"),
    ],
)
def test_wrong_command_lines_end_in_one_line(folder, words, message):
    (folder / "damaged.onnx").write_bytes(b"no")
    with pytest.raises(UserError, match=f"^error: .*({message})"):
        benchmark.main([word.format(run=folder) for word in words])
