"""OpenVINO files say what torch says, or are not written."""

from __future__ import annotations

import ctypes
import json
from pathlib import Path

import numpy as np
import openvino
import pytest
import torch

from hf_icckd import export_openvino
from hf_icckd.models import openvino as openvino_export
from hf_icckd.models.runtimes import input_size, openvino_core, openvino_precision, run_file
from tests.models.test_onnx import NAMES, make


@pytest.mark.parametrize(("architecture", "size"), [("cifar_resnet8", 16), ("test_efficientnet", 32)])
def test_raw_pixels_in_logits_out(tmp_path, architecture, size):
    model = make(architecture, size)
    done = export_openvino(model, tmp_path / "model.xml", num_images=20)
    assert done.max_difference <= 1e-4 and done.agreement == 1
    assert sorted(each.name for each in tmp_path.iterdir()) == ["model.bin", "model.xml"]
    core = openvino_core()
    net = core.read_model(str(tmp_path / "model.xml"))
    assert json.loads(net.get_rt_info(["hf_icckd", "label_names"]).value) == [*NAMES]
    assert net.input("images").get_element_type() == openvino.Type.u8 and input_size(tmp_path / "model.xml") == size
    compiled = core.compile_model(net, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    for rows in (1, 3):
        images = torch.randint(256, (rows, 3, size, size), dtype=torch.uint8)
        with torch.no_grad():
            expected = model.eval()(images).logits
        np.testing.assert_allclose(compiled({"images": images.numpy()})["logits"], expected, rtol=0, atol=1e-4)
        found = run_file(tmp_path / "model.xml", threads=1)(images.numpy())  # in this processor's own precision
        assert found.shape == (rows, 3) and np.abs(found - expected.numpy()).max() < 0.1
    assert openvino_precision() in ("f32", "bf16", "f16")


def test_the_stack_for_signals_is_there_when_models_are_gone(tmp_path):
    """OpenVINO exchanges it; if it were left unmapped, the next signal would kill the process."""

    class Stack(ctypes.Structure):
        _fields_ = (("base", ctypes.c_void_p), ("flags", ctypes.c_int), ("size", ctypes.c_size_t))

    export_openvino(make(), tmp_path / "model.xml", num_images=5)
    first = run_file(tmp_path / "model.xml")
    openvino_precision()
    second = run_file(tmp_path / "model.xml")
    del first, second
    stack = Stack()
    assert ctypes.CDLL(None).sigaltstack(None, ctypes.byref(stack)) == 0
    ranges = [line.split()[0].split("-") for line in Path("/proc/self/maps").read_text().splitlines()]
    assert stack.base is None or any(int(start, 16) <= stack.base < int(end, 16) for start, end in ranges)


def test_files_that_differ_are_not_written(tmp_path, monkeypatch):
    for name in ("model.xml", "model.bin"):
        (tmp_path / name).write_bytes(b"the one before")
    export = openvino_export.export_onnx

    def other_weights(classifier, path, **limits):
        with torch.no_grad():
            classifier.net.get_classifier().weight.add_(0.01)
            export(classifier, path, **limits)
            classifier.net.get_classifier().weight.sub_(0.01)

    monkeypatch.setattr(openvino_export, "export_onnx", other_weights)
    with pytest.raises(ValueError, match="the OpenVINO file of cifar_resnet8 differs from torch on 10 images"):
        export_openvino(make(), tmp_path / "model.xml", num_images=10)
    assert {each.name: each.read_bytes() for each in tmp_path.iterdir()} == dict.fromkeys(
        ("model.xml", "model.bin"), b"the one before"
    )


def test_wrong_input_is_explained(tmp_path, monkeypatch):
    with pytest.raises(ValueError, match=r"the OpenVINO file is .*model.onnx', expected a name that ends in .xml"):
        export_openvino(make(), tmp_path / "model.onnx")
    with pytest.raises(ValueError, match=r"model.txt' is no exported model, expected .* \.onnx or \.xml"):
        run_file(tmp_path / "model.txt")
    (tmp_path / "broken.onnx").write_bytes(b"nothing")
    with pytest.raises(ValueError, match="OpenVINO can't convert cifar_resnet8"):
        export_openvino(make(), tmp_path / "model.xml", onnx_file=tmp_path / "broken.onnx")
