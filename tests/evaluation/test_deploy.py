"""Formats are checked against torch on the test split; what loses too much is not written."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch

from hf_icckd import (
    create_classifier,
    export,
    load_image_data,
    predict_split,
    save_pretrained,
    split_metrics,
)
from hf_icckd.data.sampling import balanced_subset
from hf_icckd.evaluation import deploy as deploying
from hf_icckd.evaluation import latency
from hf_icckd.evaluation.deploy import Checks, deploy
from hf_icckd.evaluation.deployed import accuracy_beside, calibration_images, formats_accuracy, framed_split
from hf_icckd.models.runtimes import run_torch
from hf_icckd.options.command_line import UserError
from hf_icckd.utils import formats

QUICK = Checks(num_images=5, calibration_images=40)
FILES = {"onnx": "model.onnx", "int8": "model_int8.onnx", "openvino": "model.xml"}


@pytest.fixture(autouse=True)
def quick_timing(monkeypatch):
    """One call in each turn: latencies are not what is tested here."""
    monkeypatch.setattr(latency, "_TURN_SECONDS", 0)
    monkeypatch.setattr(latency, "_REST_SECONDS", 0)


@pytest.fixture(scope="module")
def trained(tiny_classifier, digits):
    """A classifier that knows some digits."""
    model = tiny_classifier()
    images = calibration_images(digits, model.spec, 160)
    labels = torch.from_numpy(digits.labels("train"))
    optimiser = torch.optim.AdamW(model.parameters(), lr=0.01)
    for _ in range(15):
        torch.nn.functional.cross_entropy(model.train()(images).logits, labels).backward()
        optimiser.step()
        optimiser.zero_grad()
    return model.eval()


def targets(folder, *names: str) -> dict:
    return {name: folder / FILES[name] for name in names or FILES}


def test_every_format_is_measured_beside_torch(trained, digits, pipeline, tmp_path):
    done = deploy(trained, targets(tmp_path), digits, QUICK)
    assert sorted(each.name for each in tmp_path.iterdir()) == sorted([*FILES.values(), "model.bin"])
    assert done.refused == {} and done.test_images == 80 and len(done.notes) == 3
    rows = {row["format"]: row for row in done.rows}
    assert [*rows] == ["torch", *FILES]
    right = split_metrics(predict_split(trained, pipeline.dataset("test")))["top1"]
    assert rows["torch"]["top1"] == pytest.approx(right) and right > 60  # as evaluation measures it
    for name, row in rows.items():
        assert {(each["batch_size"], each["threads"]) for each in row["latencies"]} >= {(1, 1), (64, 1)}
        assert all(each["ms"] > 0 for each in row["latencies"])
        if name in FILES:
            assert row["file"] == FILES[name] and row["agreement"] >= 95 and row["top1_drop"] <= 1
    assert rows["int8"]["bytes"] == (tmp_path / "model_int8.onnx").stat().st_size < rows["onnx"]["bytes"]
    assert rows["openvino"]["bytes"] == sum((tmp_path / f"model.{end}").stat().st_size for end in ("xml", "bin"))
    assert rows["int8"]["calibration_images"] == 40 and rows["onnx"]["agreement"] == 100.0


def test_a_format_that_loses_too_much_is_not_written(trained, digits, tmp_path, monkeypatch):
    for name in FILES.values():
        (tmp_path / name).write_bytes(b"the one before")
    original = deploying.quantise_onnx

    def damaged(source, path, images, **options):
        """int8 of a net whose classes are shifted by one."""
        import onnx
        from onnx import numpy_helper

        model = onnx.load(str(source))
        bias = next(each for each in model.graph.initializer if [*each.dims] == [10])
        values = numpy_helper.to_array(bias).copy()
        values[3] += 100
        bias.CopyFrom(numpy_helper.from_array(values, bias.name))
        onnx.save(model, str(path) + ".float")
        done = original(str(path) + ".float", path, images, **options)
        return done

    monkeypatch.setattr(deploying, "quantise_onnx", damaged)
    done = deploy(trained, targets(tmp_path, "onnx", "int8"), digits, QUICK)
    assert [*done.refused] == ["int8"] and [row["format"] for row in done.rows] == ["torch", "onnx"]
    assert "int8: top-1 drops by" in done.refused["int8"] and "model_int8.onnx is not written" in done.refused["int8"]
    assert "; deploy a float format, calibrate on more images" in done.refused["int8"]
    assert "on 80 test images" in done.refused["int8"] and ".export-" not in done.refused["int8"]
    assert (tmp_path / "model_int8.onnx").read_bytes() == b"the one before"
    assert (tmp_path / "model.onnx").read_bytes() != b"the one before"
    assert sorted(each.name for each in tmp_path.iterdir()) == sorted(FILES.values())
    alone = deploy(trained, targets(tmp_path, "int8"), digits, QUICK)
    assert alone.rows == [] and [*alone.refused] == ["int8"]
    accepted = deploy(trained, targets(tmp_path, "int8"), digits, Checks(tolerance=100, num_images=5))
    assert accepted.refused == {} and accepted.rows[1]["top1_drop"] > 1


def test_a_format_that_cannot_be_written_leaves_the_others(trained, digits, tmp_path, monkeypatch):
    def failing(source, path, images, **options):
        raise ValueError(f"no kernel; {path} is not written")

    monkeypatch.setattr(deploying, "quantise_onnx", failing)
    done = deploy(trained, targets(tmp_path, "int8", "openvino"), digits, QUICK)
    assert done.refused == {"int8": f"no kernel; {tmp_path / 'model_int8.onnx'} is not written"}
    assert sorted(each.name for each in tmp_path.iterdir()) == ["model.bin", "model.xml"]


def test_accuracy_beside_the_model_before():
    labels = torch.tensor([0, 0, 0, 1, 1, 2])
    before, after = (torch.eye(3)[torch.tensor(rows)] for rows in ([0, 0, 1, 1, 1, 2], [0, 1, 1, 1, 0, 2]))
    found = accuracy_beside(before, after, labels, ["cat", "dog", "emu"])
    drop = 100 * (5 - 3) / 6
    assert found == pytest.approx(
        {"top1": 50.0, "top1_drop": drop, "class_drop": 50.0, "class": "dog", "agreement": 100 * 4 / 6}
    )
    same = accuracy_beside(after, before, labels, ["cat", "dog", "emu"])
    assert same["top1_drop"] == pytest.approx(-drop) and same["class_drop"] == 0 and "class" not in same
    # A class without test images has no recall that could fall.
    assert accuracy_beside(before[:3], after[:3], labels[:3], ["cat", "dog", "emu"])["class"] == "cat"


def test_calibration_images_are_of_the_training_split_and_even_over_the_classes(trained, digits):
    spec = trained.spec
    images = calibration_images(digits, spec, 50)
    assert images.shape == (50, 3, 8, 8) and images.dtype == torch.uint8
    assert torch.equal(images, calibration_images(digits, spec, 50))
    rows = balanced_subset(digits.labels("train"), 50)
    assert np.bincount(digits.labels("train")[rows]).tolist() == [5] * 10
    train = {each.numpy().tobytes() for each in calibration_images(digits, spec, 10_000)}
    assert len(calibration_images(digits, spec, 10_000)) == 160
    assert {each.numpy().tobytes() for each in images} <= train


def test_images_are_framed_in_the_size_of_the_model(digits):
    model = create_classifier("cifar_resnet8", digits.label_names, image_size=12, crop_pct=1.0).eval()
    assert calibration_images(digits, model.spec, 3).shape == (3, 3, 12, 12)
    runs = {"torch": run_torch(model), "onnx": run_torch(model)}
    found = formats_accuracy(runs, framed_split(digits, "test", model.spec), digits.label_names)
    assert found["onnx"] == found["torch"] and found["torch"]["agreement"] == 100


def test_one_of_several_processes_measures_all_images(trained, digits, monkeypatch):
    runs, images = {"torch": run_torch(trained)}, framed_split(digits, "test", trained.spec)
    alone = formats_accuracy(runs, images, digits.label_names)
    monkeypatch.setattr("hf_icckd.utils.distributed.world_size", lambda: 3)
    seen: list[int] = []
    runs = {"torch": lambda pixels: seen.append(len(pixels)) or run_torch(trained)(pixels)}
    assert formats_accuracy(runs, images, digits.label_names) == alone and sum(seen) == len(images)


def test_streams_are_read_too(trained, digits, tmp_path):
    folder = tmp_path / "data"
    folder.mkdir()
    digits.train.to_parquet(folder / "train.parquet")
    digits.test.to_parquet(folder / "test.parquet")
    data = load_image_data(str(folder), streaming=True, max_train_samples=160, max_eval_samples=80)
    images = calibration_images(data, trained.spec, 30)
    assert images.shape == (30, 3, 8, 8) and torch.equal(images, calibration_images(data, trained.spec, 30))
    tables = framed_split(digits, "test", trained.spec)
    streams = framed_split(data, "test", trained.spec)
    run = {"torch": run_torch(trained)}
    assert formats_accuracy(run, streams, digits.label_names) == formats_accuracy(run, tables, digits.label_names)


def test_missing_packages_name_the_extra(trained, digits, tmp_path, monkeypatch):
    monkeypatch.setattr(formats.importlib.util, "find_spec", lambda name: None if name == "openvino" else object())
    with pytest.raises(ValueError, match=r"openvino not installed.*pip install 'hf-icckd\[openvino\]'"):
        deploy(trained, targets(tmp_path), digits, QUICK)
    monkeypatch.setattr(formats.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ValueError, match=r"onnx, onnxscript, onnxruntime not .* int8 needs .*'hf-icckd\[onnx\]'"):
        deploy(trained, targets(tmp_path, "int8"), digits, QUICK)
    with pytest.raises(ValueError, match="needs calibration images"):
        monkeypatch.undo()
        deploy(trained, targets(tmp_path, "int8"), None, QUICK)
    assert not [*tmp_path.iterdir()]


def test_the_command_finds_the_data_set_by_itself(trained, tmp_path, capsys, monkeypatch):
    folder = tmp_path / "run"
    save_pretrained(folder, trained)
    monkeypatch.chdir(tmp_path)
    words = ["run", "--formats", "int8", "--num_images", "5", "--tolerance", "100"]
    with pytest.raises(UserError, match=r"error: int8 needs calibration images .* no all_args.yaml"):
        export.main(words)
    (folder / "all_args.yaml").write_text("{dataset: digits, max_eval_samples: 40, recipe: student}")
    export.main([*words, "--calibration_images", "12"])
    shown = capsys.readouterr().out
    assert "40 test images of digits" in shown and "calibrated on 12 training images" in shown
    assert max(map(len, shown.splitlines())) <= 100
    (folder / "all_args.yaml").unlink()
    export.main([*words, "--dataset", "digits", "--max_eval_samples", "20", "--output", str(tmp_path / "x.onnx")])
    assert "20 test images of digits" in capsys.readouterr().out and (tmp_path / "x.onnx").is_file()
    with pytest.raises(UserError, match="model and data set name 10 classes differently"):
        export.main([*words, "--dataset", "synthetic"])
    # The float formats need none: what is missing is said, and they are written.
    export.main([str(folder), "--formats", "onnx", "openvino", "--num_images", "5"])
    assert "accuracy is not measured" in capsys.readouterr().out and (folder / "model.xml").is_file()
    assert not (folder / "metrics.json").exists()


def test_the_records_hold_the_table(trained, tmp_path):
    folder = tmp_path / "run"
    save_pretrained(folder, trained)
    (folder / "all_args.yaml").write_text("{dataset: digits, max_eval_samples: 20, recipe: student, model: x}")
    (folder / "metrics.json").write_text(json.dumps({"test": {}, "cost": {}, "environment": {}}))
    export.main([str(folder), "--formats", "onnx", "int8", "--num_images", "5", "--tolerance", "100"])
    found = json.loads((folder / "metrics.json").read_text())
    assert [row["format"] for row in found["deployment"]["rows"]] == ["torch", "onnx", "int8"]
    assert found["deployment"]["dataset"] == "digits" and found["deployment"]["test_images"] == 20
    assert found["deployment"]["random_images"] == 5 and "onnx" not in found
    assert [row.get("random_agreement") for row in found["deployment"]["rows"]] == [None, 100.0, None]
