"""What a card says about exported files."""

from __future__ import annotations

import json
import shutil

from hf_icckd.cards.card import write_card
from hf_icckd.cards.deployment_section import DeploymentSection
from hf_icckd.runs.records import read_records
from tests import ROOT

LATENCIES = [{"batch_size": 1, "threads": 1, "ms": 1.25}, {"batch_size": 64, "threads": 2, "ms": 40.5}]
ROWS = [
    {"format": "torch", "bytes": 2_000_000, "top1": 90.0, "latencies": LATENCIES},
    {
        "format": "int8", "bytes": 600_000, "top1": 89.5, "top1_drop": 0.5, "class_drop": 2.25, "class": "a",
        "agreement": 98.125, "calibration_images": 300, "int8_layers": 9, "float_layers": 1, "latencies": LATENCIES,
    },
]  # fmt: skip


def test_the_table_of_the_card(tmp_path):
    folder = tmp_path / "run"
    shutil.copytree(ROOT / "model_cards" / "digits-cifar_resnet8-student", folder)
    arguments, results = read_records(folder)
    write_card(folder, arguments, results)
    assert "Exported files beside torch" not in (folder / "README.md").read_text()
    results["deployment"] = {"processor": "a CPU", "dataset": "a*b", "test_images": 1234, "rows": ROWS}
    results = json.loads(json.dumps(results))
    write_card(folder, arguments, results)
    text = (folder / "README.md").read_text()
    head = "| format | size | top-1 % | drop | class drop | agree % | 1 image 1 thread | 64 images 2 threads |"
    place = text.index(head)
    lines = text[place:].splitlines()
    assert lines[1] == "| --- |" + " ---: |" * 7
    assert lines[2] == "| torch | 2.0 MB | 90.00 |  |  |  | 1.25 | 40.50 |"
    assert lines[3] == "| int8 | 600.0 kB | 89.50 | 0.50 | 2.25 | 98.12 | 1.25 | 40.50 |"
    assert text[place - 2 : place] == "\n\n" and "on 1,234 test images of a\\*b." in text and "(a CPU)" in text
    assert "calibrated on 300 training images. In it, 9 layers compute in int8 and 1 with weights in float32" in text


def test_without_test_images():
    rows = [{name: row[name] for name in ("format", "bytes", "latencies")} for row in ROWS[:1]]
    section = DeploymentSection({"processor": None, "rows": rows})
    assert section.measured_on is None and section.int8 is None
    assert section.heads == ["format", "size", "1 image 1 thread", "64 images 2 threads"]
    assert section.rows == [["torch", "2.0 MB", "1.25", "40.50"]]
