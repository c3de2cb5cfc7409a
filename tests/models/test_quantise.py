"""int8 files: what is quantised, what stays, and that no sum of products can be clipped with 7 bits."""

from __future__ import annotations

import json

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from onnx import numpy_helper
from torch import nn

from hf_icckd import export_onnx, quantise_onnx
from hf_icckd.models import quantise
from hf_icckd.models.same_logits import random_images
from tests.models.test_onnx import NAMES, make


@pytest.fixture(scope="module")
def resnet(tmp_path_factory):
    """The float file of a small net, and images for it."""
    path = tmp_path_factory.mktemp("resnet") / "model.onnx"
    export_onnx(make(), path, num_images=5)
    return path, random_images(40, 16, torch.Generator().manual_seed(1))


def run(path, images: torch.Tensor) -> np.ndarray:
    """Logits of a file's own arithmetic: as it stands there, no processor clips a sum."""
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    return session.run(["logits"], {"images": images.numpy()})[0]


def int8_weights(path) -> list[np.ndarray]:
    arrays = [numpy_helper.to_array(each) for each in onnx.load(str(path)).graph.initializer]
    return [array for array in arrays if array.dtype == np.int8 and array.ndim > 1]


def test_same_input_output_and_metadata(resnet, tmp_path):
    source, images = resnet
    done = quantise_onnx(source, tmp_path / "int8.onnx", images)
    assert [*tmp_path.iterdir()] == [done.path] and done.layers == 9 and done.float_layers == {"Conv": 1}
    assert done.agreement > 0.9 and done.path.stat().st_size < 0.6 * source.stat().st_size
    before, after = (onnxruntime.InferenceSession(str(path)) for path in (source, done.path))
    for one, other in ((before.get_inputs(), after.get_inputs()), (before.get_outputs(), after.get_outputs())):
        assert [(each.name, each.type, each.shape) for each in one] == [
            (each.name, each.type, each.shape) for each in other
        ]
    metadata = after.get_modelmeta().custom_metadata_map
    assert json.loads(metadata.pop("quantisation")) == {"images": 40, "weight_bits": 8}
    assert metadata == before.get_modelmeta().custom_metadata_map and json.loads(metadata["label_names"]) == [*NAMES]
    onnx.checker.check_model(str(done.path), full_check=True)
    for rows in (1, 3):  # the batch size is still open
        expected, found = run(source, images[:rows]), run(done.path, images[:rows])
        assert np.abs(found - expected).max() < 0.1 * max(1, np.abs(expected).max())


def test_it_is_the_same_every_time(resnet, tmp_path):
    source, images = resnet
    one, other = (quantise_onnx(source, tmp_path / name, images).path for name in ("one.onnx", "other.onnx"))
    assert one.read_bytes() == other.read_bytes()


def test_pixels_and_the_first_layer_are_float(resnet, tmp_path):
    source, images = resnet
    model = onnx.load(str(quantise_onnx(source, tmp_path / "int8.onnx", images).path))
    maker = {name: node for node in model.graph.node for name in node.output}
    first = next(node for node in model.graph.node if node.op_type == "Conv")
    before, waiting = set(), [first]
    while waiting:
        made = [maker[name] for name in waiting.pop().input if name in maker]
        before |= {node.op_type for node in made}
        waiting += made
    assert before == {"Add", "Mul", "Cast"}  # of the normalisation, and nothing in 8 bits


@pytest.mark.parametrize(("bits", "largest"), [(8, 127), (7, 64)])
def test_weights_have_these_bits(resnet, tmp_path, bits, largest):
    source, images = resnet
    path = quantise_onnx(source, tmp_path / "int8.onnx", images, weight_bits=bits).path
    weights = int8_weights(path)
    assert len(weights) == 9 and max(np.abs(each.astype(int)).max() for each in weights) == largest
    # Two products of an unsigned activation and a weight, added in 16 bits.
    assert (2 * 255 * largest < 2**15) == (bits == 7)
    scales = [node for node in onnx.load(str(path)).graph.node if node.op_type == "DequantizeLinear"]
    assert any(attribute.name == "axis" for node in scales for attribute in node.attribute)  # one for each channel


@pytest.mark.parametrize(
    ("architecture", "size", "kept"),
    [("test_efficientnet", 32, {"Sigmoid"}), ("test_vit", 160, {"Softmax", "Gelu", "LayerNormalization"})],
)
def test_what_loses_most_stays_float(architecture, size, kept, tmp_path):
    """SiLU with depthwise convolutions; attention."""
    export_onnx(make(architecture, size), tmp_path / "model.onnx", num_images=3)
    images = random_images(16, size, torch.Generator().manual_seed(1))
    done = quantise_onnx(tmp_path / "model.onnx", tmp_path / "int8.onnx", images)
    model = onnx.load(str(done.path))
    restored = {node.output[0] for node in model.graph.node if node.op_type == "DequantizeLinear"}
    operations = {node.op_type for node in model.graph.node}
    assert kept <= operations
    between = [node for node in model.graph.node if node.op_type == "MatMul" and not {*node.input[:2]} <= restored]
    assert len(between) == (0 if architecture == "test_efficientnet" else 12)  # products within attention
    expected, found = run(tmp_path / "model.onnx", images), run(done.path, images)
    assert np.isfinite(found).all() and np.abs(found - expected).max() < 0.25 * np.abs(expected).max()


def test_what_cannot_be_quantised_is_named(tmp_path, monkeypatch):
    def write(name: str, model) -> str:
        onnx.save(model, tmp_path / name)
        return str(tmp_path / name)

    info, make_node = onnx.helper.make_tensor_value_info, onnx.helper.make_node
    pixels = info("images", onnx.TensorProto.UINT8, ["batch", 3, 4, 4])
    logits = info("logits", onnx.TensorProto.FLOAT, ["batch", 2])
    weight = numpy_helper.from_array(np.ones((3, 2), dtype=np.float32), "weight")
    nodes = [
        make_node("Cast", ["images"], ["floats"], to=onnx.TensorProto.FLOAT),
        make_node("ReduceMean", ["floats", "axes"], ["means"], keepdims=0),
        make_node("Einsum", ["means", "weight"], ["logits"], equation="bc,cd->bd"),
    ]
    axes = numpy_helper.from_array(np.array([2, 3]), "axes")
    graph = onnx.helper.make_graph(nodes, "net", [pixels], [logits], [weight, axes])
    einsum = write(
        "einsum.onnx", onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 18)], ir_version=10)
    )
    images = torch.zeros(4, 3, 4, 4, dtype=torch.uint8)
    with pytest.raises(ValueError, match=r"none of the layers .* the quantiser has Conv.* the net Einsum; deploy the"):
        quantise_onnx(einsum, tmp_path / "int8.onnx", images)

    def failing(*arguments):
        raise RuntimeError("no kernel\nfor this")

    monkeypatch.setattr(quantise, "_quantise", failing)
    with pytest.raises(
        ValueError, match=r"can't quantise .*: no kernel for this \(operations of the net: Cast, Einsum, ReduceMean\)"
    ):
        quantise_onnx(einsum, tmp_path / "int8.onnx", images)
    assert [each.name for each in tmp_path.iterdir()] == ["einsum.onnx"]


def test_wrong_input_is_explained(resnet, tmp_path, monkeypatch):
    source, images = resnet
    out = tmp_path / "int8.onnx"
    out.write_bytes(b"the one before")
    other = tmp_path / "other.onnx"
    torch.onnx.export(nn.Linear(2, 2).eval(), (torch.zeros(1, 2),), other, dynamo=True, verbose=False)
    for file, pixels, message in (
        (source, images[:0], "there are no calibration images, expected a few hundred of the training split"),
        (source, images.float(), r"calibration images are float32 of shape \(40, 3, 16, 16\), expected uint8"),
        (source, images[..., :8], r"of shape \(40, 3, 16, 8\), expected uint8 of shape \(N, 3, 16, 16\)"),
        (other, images, "expected images and logits; give a file that export_onnx wrote"),
        (tmp_path / "none.onnx", images, "none.onnx' can't be read as an ONNX file"),
        (out, images, "int8.onnx' can't be read as an ONNX file"),
    ):
        with pytest.raises(ValueError, match=message):
            quantise_onnx(file, out, pixels)
    with pytest.raises(ValueError, match="weight_bits is 4, expected 8, or 7"):
        quantise_onnx(source, out, images, weight_bits=4)
    assert out.read_bytes() == b"the one before"
