"""An ONNX file says what torch says, or is not written."""

from __future__ import annotations

import json
import shutil

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from onnxruntime.capi.onnxruntime_pybind11_state import Fail
from torch import nn

from hf_icckd import create_classifier, export, export_onnx, model_card, save_pretrained
from hf_icckd.evaluation import latency
from hf_icckd.models import onnx as onnx_export
from hf_icckd.models import same_logits
from hf_icckd.models.moved import moved_copy
from hf_icckd.options.command_line import UserError
from tests import ROOT

NAMES = ("cat", "dog", "fish")


def make(architecture: str = "cifar_resnet8", size: int = 16, **options):
    torch.manual_seed(0)
    model = create_classifier(
        architecture, NAMES, image_size=size, mean=(0.5, 0.4, 0.3), std=(0.2, 0.3, 0.4), **options
    )
    with torch.no_grad():  # BatchNorm statistics that are not the initial ones
        model.train()(torch.randint(256, (8, 3, size, size), dtype=torch.uint8))
    return model


@pytest.mark.parametrize(("architecture", "size"), [("cifar_resnet8", 16), ("cifar_wrn_16_2", 24), ("test_vit", 64)])
def test_raw_pixels_in_logits_out(tmp_path, architecture, size):
    model = make(architecture, size).to(memory_format=torch.channels_last)
    done = export_onnx(model, tmp_path / "model.onnx", num_images=60)
    assert model.training and next(p for p in model.parameters() if p.ndim == 4).is_contiguous(
        memory_format=torch.channels_last
    )  # as it was
    assert done.path == tmp_path / "model.onnx" and [*tmp_path.iterdir()] == [done.path]
    assert done.max_difference <= 1e-4 and done.agreement == 1 and 0 < done.latency_ms < 1000
    session = onnxruntime.InferenceSession(str(done.path))
    (entry,), (exit_,) = session.get_inputs(), session.get_outputs()
    assert (entry.name, entry.type, entry.shape) == ("images", "tensor(uint8)", ["batch", 3, size, size])
    assert (exit_.name, exit_.type, exit_.shape[1]) == ("logits", "tensor(float)", 3)
    for rows in (1, 3, 17):
        images = torch.randint(256, (rows, 3, size, size), dtype=torch.uint8)
        with torch.no_grad():
            expected = model.eval()(images).logits
        (found,) = session.run(None, {"images": images.numpy()})
        np.testing.assert_allclose(found, expected, rtol=0, atol=1e-4)
    metadata = session.get_modelmeta().custom_metadata_map
    assert json.loads(metadata["label_names"]) == list(NAMES)
    assert metadata["architecture"] == architecture and metadata["image_size"] == str(size)
    onnx.checker.check_model(str(done.path), full_check=True)


def test_a_file_that_differs_is_not_written(tmp_path, monkeypatch):
    path = tmp_path / "model.onnx"
    path.write_bytes(b"the one before")
    original = onnx_export._write

    def other_weights(classifier, file):
        with torch.no_grad():
            classifier.net.get_classifier().weight.add_(0.01)
            original(classifier, file)
            classifier.net.get_classifier().weight.sub_(0.01)

    monkeypatch.setattr(onnx_export, "_write", other_weights)
    with pytest.raises(
        ValueError, match=r"cifar_resnet8 differs from torch on 20 images: logits by up to .* not written"
    ):
        export_onnx(make(), path, num_images=20)
    assert path.read_bytes() == b"the one before" and [*tmp_path.iterdir()] == [path]
    with pytest.raises(ValueError, match="the same class in"):  # whatever the tolerance
        monkeypatch.setattr(same_logits, "_MIN_AGREEMENT", 1.01)
        export_onnx(make(), path, num_images=20, tolerance=1e9)


def test_two_heads_and_large_logits(tmp_path):
    small = {"depth": 1, "embed_dim": 32, "num_heads": 2}
    model = moved_copy(make("deit_tiny_distilled_patch16_224", 32, model_args=small))
    with torch.no_grad():
        for head in model.net.get_classifier():
            head.weight.mul_(1e4)
    done = export_onnx(model, tmp_path / "model.onnx", num_images=7)
    session = onnxruntime.InferenceSession(str(done.path))
    for rows in (1, 3):
        images = torch.randint(256, (rows, 3, 32, 32), dtype=torch.uint8)
        with torch.no_grad():
            expected = model.eval()(images).logits
        assert expected.abs().max() > 1000
        np.testing.assert_allclose(session.run(None, {"images": images.numpy()})[0], expected, rtol=1e-3, atol=1)


def test_nets_with_layers_of_their_own_for_export_are_built_with_those(tmp_path):
    # Attention of MaxViT, as it is built for training, has views that fix the batch size.
    model = moved_copy(make("maxvit_rmlp_pico_rw_256", 64, model_args={"depths": (1,), "embed_dim": (64,)}))
    state = torch.get_rng_state()
    done = export_onnx(model, tmp_path / "model.onnx", num_images=7)
    assert done.max_difference <= 1e-4 and torch.equal(torch.get_rng_state(), state)
    session = onnxruntime.InferenceSession(str(done.path))
    for rows in (1, 3):
        images = torch.randint(256, (rows, 3, 64, 64), dtype=torch.uint8)
        with torch.no_grad():
            expected = model.eval()(images).logits
        np.testing.assert_allclose(session.run(None, {"images": images.numpy()})[0], expected, rtol=0, atol=1e-4)


def test_errors_of_the_runtime_are_one_line(tmp_path, monkeypatch):
    def failing(file):
        raise Fail("no kernel\nfor this")

    monkeypatch.setattr(onnx_export, "OnnxSession", failing)
    with pytest.raises(ValueError, match="run the file of cifar_resnet8, so it is not written: no kernel for this"):
        export_onnx(make(), tmp_path / "model.onnx")
    assert not [*tmp_path.iterdir()]


def test_what_cannot_be_exported_is_explained(tmp_path, monkeypatch):
    model = make()

    class Undecided(nn.Module):
        def forward(self, x):
            return x if x.sum() > 0 else -x  # which way it goes only the data know

    model.net.conv1 = nn.Sequential(model.net.conv1, Undecided())
    with pytest.raises(ValueError, match="cifar_resnet8 can't be exported to ONNX"):
        export_onnx(model, tmp_path / "model.onnx")
    monkeypatch.setattr(onnx_export, "_MAX_BYTES", 1000)
    with pytest.raises(ValueError, match=r"the weights take .* expected at most"):
        export_onnx(make(), tmp_path / "model.onnx")
    monkeypatch.setattr(onnx_export, "_PACKAGES", ("onnx", "no_such_package"))
    with pytest.raises(ValueError, match=r"no_such_package not installed.*pip install 'hf-icckd\[onnx\]'"):
        export_onnx(make(), tmp_path / "model.onnx")
    assert not [*tmp_path.iterdir()]


@pytest.fixture(autouse=True)
def quick_timing(monkeypatch):
    """One call in each turn: latencies are not what is tested here."""
    monkeypatch.setattr(latency, "_TURN_SECONDS", 0)
    monkeypatch.setattr(latency, "_REST_SECONDS", 0)


OF_AN_EARLIER_VERSION = {
    "latency_ms": 7.25, "processor": "a CPU", "threads": 2, "max_difference": 1e-6, "agreement": 99.5, "images": 1000,
}  # fmt: skip


def test_what_an_earlier_version_recorded_of_an_export_stays_on_the_card(tmp_path):
    folder = tmp_path / "run"
    shutil.copytree(ROOT / "model_cards" / "digits-cifar_resnet8-student", folder)
    results = json.loads((folder / "metrics.json").read_text()) | {"onnx": OF_AN_EARLIER_VERSION}
    (folder / "metrics.json").write_text(json.dumps(results))
    model_card.main([str(folder)])
    text = (folder / "README.md").read_text()
    assert "one image takes 7.25 ms in ONNX Runtime\n(a CPU, 2 thread(s)). On 1,000 random images" in text


def test_the_command_notes_the_comparison_in_records_and_card(tmp_path, capsys):
    folder = tmp_path / "run"
    shutil.copytree(ROOT / "model_cards" / "digits-cifar_resnet8-student", folder)
    card = folder / "README.md"
    card.write_text(card.read_text().replace("<!-- yours: begin about -->", "<!-- yours: begin about -->\nMine."))
    before = json.loads((folder / "metrics.json").read_text())
    (folder / "metrics.json").write_text(json.dumps(before | {"onnx": OF_AN_EARLIER_VERSION}))
    save_pretrained(folder, make())
    export.main([str(folder), "--num_images", "20"])
    shown = capsys.readouterr().out
    assert "accuracy is not measured" in shown and "on 20 random images" in shown
    after = json.loads((folder / "metrics.json").read_text())
    deployment = after.pop("deployment")
    assert [row["format"] for row in deployment["rows"]] == ["torch", "onnx"] and "dataset" not in deployment
    assert after == before and deployment["random_images"] == 20
    text, found = card.read_text(), deployment["rows"][1]
    assert found["random_agreement"] == 100.0 and found["max_difference"] <= 1e-4 and "Mine." in text
    assert (
        f"On 20 random images: onnx: logits differ from torch's by up to {found['max_difference']:.1e}, the top class "
        "is the same for 100.00 %." in text
    )
    assert "in ONNX Runtime" not in text  # one latency of a file: that in the table
    (folder / "metrics.json").unlink()
    export.main([str(folder), "--num_images", "20", "--output", f"{tmp_path}/deep/other.onnx"])
    assert (tmp_path / "deep" / "other.onnx").is_file() and not (folder / "metrics.json").exists()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["nowhere"], "'nowhere' is not a local folder; say with --output where"),
        (["nowhere/at/all", "--output", "x.onnx"], "model 'nowhere/at/all' is not a folder here"),
        (["{run}", "--num_images", "0"], "num_images is 0, expected a number at least 1"),
        (["{run}", "--logit_tolerance", "nan"], "logit_tolerance is nan, expected a number at least 0"),
        (["{run}", "--tolerance", "-1"], "tolerance is -1.0, expected a number at least 0 and at most 100"),
        (["{run}", "--formats", "onxx"], r"formats has 'onxx', expected some of: .* \(did you mean 'onnx'"),
        (["{run}", "--formats", "onnx", "int8", "--output", "x.onnx"], "output is 'x.onnx' but there are 2 formats"),
        (["{run}", "--formats", "int8"], "int8 needs calibration images .* damaged; name the data set with --dataset"),
        (
            ["{run}", "--weight_bits", "7", "--calibration_images", "9"],
            "--calibration_images and --weight_bits would change nothing with --formats onnx: .* add it, --formats "
            "onnx int8, or leave",
        ),
        (
            ["{run}", "--formats", "openvino", "--weight_bits", "7"],
            "--weight_bits would change nothing with --formats",
        ),
        (
            ["{run}", "--output", "a/net.xml"],
            "output is 'a/net.xml', expected for the format onnx a file .* in .onnx, or",
        ),
        (
            ["{run}", "--formats", "openvino", "--output", "net"],
            "'net', expected for the format openvino .* in .xml, or",
        ),
        (["{run}", "--output"], "argument --output: expected one argument"),
        (["{run}"], "metrics.json is damaged.*the files are written, but"),
    ],
)
def test_wrong_command_lines_end_in_one_line(tmp_path, words, message):
    save_pretrained(tmp_path / "run", make())
    (tmp_path / "run" / "all_args.yaml").write_text("{recipe: teacher, model: cifar_resnet8}")
    (tmp_path / "run" / "metrics.json").write_text("[]")
    with pytest.raises(UserError, match=f"^error: .*{message}"):
        export.main([word.format(run=tmp_path / "run") for word in words])
