"""Measuring two classifiers at once: each is measured on its own pixels."""

from __future__ import annotations

import json

from hf_icckd import create_classifier, evaluate, load_image_data, save_pretrained


def test_a_teacher_is_measured_as_it_is_alone(tmp_path):
    names = load_image_data("digits", max_train_samples=20, max_eval_samples=20).label_names
    for name, size in (("small", 5), ("teacher", 8)):
        save_pretrained(tmp_path / name, create_classifier("cifar_resnet8", names, image_size=size, crop_pct=1.0))
    words = ["--dataset", "digits", "--max_train_samples", "20", "--max_eval_samples", "20"]
    measured = {}
    for name, more in (("small", ["--teacher", f"{tmp_path}/teacher"]), ("small", []), ("teacher", [])):
        file = tmp_path / "metrics.json"
        evaluate.main([*words, "--model", f"{tmp_path}/{name}", *more, "--output_file", str(file)])
        measured[name, bool(more)] = json.loads(file.read_text())
    both = measured["small", True]
    assert both["teacher_test"]["nll"] == measured["teacher", False]["test"]["nll"]
    assert both["test"]["nll"] == measured["small", False]["test"]["nll"]
