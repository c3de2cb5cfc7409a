"""Measuring two classifiers at once: each is measured on its own pixels."""

from __future__ import annotations

import json

import pytest
from PIL import Image

from hf_icckd import create_classifier, evaluate, load_image_data, save_pretrained, teacher


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


@pytest.mark.parametrize("size", [5, 8, 20])
def test_a_run_says_of_its_model_what_evaluation_says(tmp_path, size):
    """Smaller than the images, as large, and larger: then the net enlarges them, in the run and in its evaluation."""
    words = ["--max_train_samples", "40", "--max_eval_samples", "20"]
    teacher.main([*words, "--model", "cifar_resnet8", "--image_size", str(size), "--max_steps", "2", "--disable_tqdm",
                  "true", "--output_dir", f"{tmp_path}/run"])  # fmt: skip
    evaluate.main([*words, "--model", f"{tmp_path}/run", "--output_file", f"{tmp_path}/alone.json"])
    of_run, alone = (json.loads((tmp_path / name).read_text()) for name in ("run/metrics.json", "alone.json"))
    assert alone["test"]["nll"] == pytest.approx(of_run["test"]["nll"], rel=1e-5)
    assert json.loads((tmp_path / "run" / "config.json").read_text())["pretrained_cfg"]["input_size"] == [
        3,
        size,
        size,
    ]


def test_a_run_is_measured_on_its_own_images(tmp_path, capsys):
    for index, name in enumerate(("train/a", "train/b", "test/a", "test/b")):
        (tmp_path / "photos" / name).mkdir(parents=True)
        for number in range(3):
            colour = (80 * number, 60 * index, 9)
            Image.new("RGB", (8, 8), colour).save(tmp_path / "photos" / name / f"{number}.png")
    few = [
        "--max_steps",
        "2",
        "--model",
        "cifar_resnet8",
        "--disable_tqdm",
        "true",
        "--per_device_train_batch_size",
        "4",
    ]
    teacher.main([str(tmp_path / "photos"), *few, "--output_dir", f"{tmp_path}/run"])
    evaluate.main([f"{tmp_path}/run", "--output_file", f"{tmp_path}/alone.json"])
    of_run, alone = (json.loads((tmp_path / name).read_text()) for name in ("run/metrics.json", "alone.json"))
    assert alone["test"]["images"] == 6 and alone["test"]["nll"] == pytest.approx(of_run["test"]["nll"], rel=1e-5)
    save_pretrained(tmp_path / "net", create_classifier("cifar_resnet8", ["a", "b"], image_size=8))
    with pytest.raises(SystemExit, match=r"folder has no all_args.yaml, which would name its data set; name the data"):
        evaluate.main([f"{tmp_path}/net"])
