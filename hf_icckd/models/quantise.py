"""int8 ONNX by static quantisation: convolutions and matrix products with trained weights compute in 8 bits.

Everything else stays float32: preprocessing, the first layer, activations, normalisation, softmax and the products
within attention. SiLU, GELU and softmax lose most in 8 bits and take little time. The first layer sees pixels, of
which one scale for three channels loses a part, and has few weights. Matrix products return float32, so logits are
not rounded.

Activations are unsigned: ONNX Runtime's depthwise convolutions of signed ones are several times slower on x86. Weights
are signed and have a scale for each output channel.

x86 processors without VNNI add two products in 16 bits and clip the sum. In pretrained EfficientNet-Lite0 that would
happen to 4 % of the sums of the first layer, which is float32 for this reason too, and to one in 14,000 of all others.
With weights of 7 bits no sum can reach the limit, as 2 x 255 x 64 < 2**15, but there they doubled the error of logits.
"""

from __future__ import annotations

import json
import tempfile
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Literal, NamedTuple

import numpy as np
from torch import Tensor

from hf_icckd.models.runtimes import OnnxSession, Run
from hf_icckd.utils.atomic_files import replace_file
from hf_icckd.utils.formats import FORMATS, check_installed

if TYPE_CHECKING:
    from onnx import ModelProto

_QUANTISED = ("Conv", "ConvTranspose", "Gemm", "MatMul")
_WITH_WEIGHTS = (*_QUANTISED, "Einsum", "GRU", "LSTM", "RNN")  # what may hold most of a net's weights
_BATCH = 32


class Int8Export(NamedTuple):
    """The int8 file that was written.

    Attributes:
        path: The file.
        layers: Number of layers that compute in int8.
        float_layers: Number of layers with weights that stay float32, by the name of their operation.
        agreement: Share of the calibration images, 0 to 1, for which the int8 and the float file predict one class.
    """

    path: Path
    layers: int
    float_layers: dict[str, int]
    agreement: float


def quantise_onnx(
    source: str | Path, path: str | Path, images: Tensor | np.ndarray, *, weight_bits: Literal[7, 8] = 8
) -> Int8Export:
    """Write an ONNX file of `export_onnx` as int8.

    Inputs, outputs and metadata stay the same, and normalisation stays in the file. The ranges of activations are the
    smallest and largest values over the calibration images. How accurate the int8 file is, only labelled images show:
    measure it, as `hf-icckd export` does.

    Args:
        source: The float file.
        path: The int8 file; an existing one is replaced.
        images: (N, 3, H, W) uint8 calibration images in the model's size: a few hundred of the training split, never
            of the test split.
        weight_bits: 8, or 7 so that x86 processors without VNNI compute exactly the same.

    Raises:
        ValueError: If packages are missing, the file is not one of `export_onnx`, there are no images or they have
            another shape, or ONNX Runtime can't quantise the net.

    Example:
        >>> import torch
        >>> from hf_icckd import create_classifier, export_onnx
        >>> model = create_classifier("cifar_resnet8", ["cat", "dog"], image_size=32)
        >>> export_onnx(model, "student.onnx")  # doctest: +SKIP
        >>> images = torch.randint(256, (64, 3, 32, 32), dtype=torch.uint8)  # yours: of the training split
        >>> quantise_onnx("student.onnx", "student_int8.onnx", images).layers  # doctest: +SKIP
        9
    """
    check_installed(FORMATS["int8"].packages, FORMATS["int8"].extra, "int8 export")
    if weight_bits not in (7, 8):
        raise ValueError(f"weight_bits is {weight_bits}, expected 8, or 7 for x86 processors without VNNI")
    import onnx

    try:
        model = onnx.load(str(source))
    except Exception as error:  # a missing file, or protobuf's error, whose type depends on its version
        raise ValueError(f"{str(source)!r} can't be read as an ONNX file: {error}") from error
    pixels = _checked_images(images, model, str(source))
    written: list[Int8Export] = []

    def write(unfinished: Path) -> None:
        written.append(_write(model, source, unfinished, Path(path), pixels, weight_bits))

    Path(path).parent.mkdir(parents=True, exist_ok=True)
    replace_file(path, write)
    return written[0]


def _write(
    model: ModelProto, source: str | Path, unfinished: Path, path: Path, pixels: np.ndarray, weight_bits: int
) -> Int8Export:
    import onnx

    metadata = {entry.key: entry.value for entry in model.metadata_props}
    name = metadata.get("architecture", str(source))
    try:
        _quantise(source, unfinished, pixels, weight_bits)
        same = _agreement(OnnxSession(source), OnnxSession(unfinished), pixels)
    except Exception as error:  # of many types, some without one of their own
        text = " ".join(str(error).split())[:300]
        operations = ", ".join(sorted({node.op_type for node in model.graph.node}))
        raise ValueError(
            f"ONNX Runtime can't quantise {name}, so {path} is not written: {text} (operations of the net: "
            f"{operations}); deploy the float file"
        ) from error
    layers, floats = _layers(onnx.load(str(unfinished)))
    if layers == 0:
        raise ValueError(
            f"none of the layers of {name} can compute in int8, so {path} is not written: the quantiser has "
            f"{', '.join(_QUANTISED)} with trained weights, the net {', '.join(floats) or 'no weights'}; deploy the "
            "float file"
        )
    _add_metadata(
        unfinished, metadata | {"quantisation": json.dumps({"images": len(pixels), "weight_bits": weight_bits})}
    )
    return Int8Export(path, layers, floats, same)


def _checked_images(images: Tensor | np.ndarray, model: ModelProto, source: str) -> np.ndarray:
    """The calibration images as an array. Raises ValueError if they don't fit the file."""
    inputs = {each.name: each.type.tensor_type for each in model.graph.input}
    if list(inputs) != ["images"] or [each.name for each in model.graph.output] != ["logits"]:
        raise ValueError(
            f"{source!r} takes {', '.join(inputs)} and returns {', '.join(each.name for each in model.graph.output)}, "
            "expected images and logits; give a file that export_onnx wrote"
        )
    pixels = images.cpu().numpy() if isinstance(images, Tensor) else np.asarray(images)
    shape = tuple(each.dim_value for each in inputs["images"].shape.dim[1:])
    if len(pixels) == 0:
        raise ValueError("there are no calibration images, expected a few hundred of the training split; give some")
    if pixels.dtype != np.uint8 or pixels.shape[1:] != shape:
        raise ValueError(
            f"the calibration images are {pixels.dtype} of shape {pixels.shape}, expected uint8 of shape (N, "
            f"{', '.join(map(str, shape))}); frame them as evaluation does"
        )
    return np.ascontiguousarray(pixels)


def _quantise(source: str | Path, target: Path, pixels: np.ndarray, weight_bits: int) -> None:
    import onnx
    from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static
    from onnxruntime.quantization.shape_inference import quant_pre_process

    batches = iter(np.split(pixels, range(_BATCH, len(pixels), _BATCH)))

    class Batches(CalibrationDataReader):
        def get_next(self) -> dict[str, np.ndarray] | None:
            batch = next(batches, None)
            return None if batch is None else {"images": batch}

    with tempfile.TemporaryDirectory() as folder:
        prepared = Path(folder) / "prepared.onnx"
        # Shapes are in the file already: torch writes them.
        quant_pre_process(str(source), str(prepared), skip_symbolic_shape=True)
        quantize_static(
            prepared,
            target,
            Batches(),
            quant_format=QuantFormat.QDQ,
            # The ReLU after a convolution becomes the lower end of its 8 bits, which then hold what is passed on.
            op_types_to_quantize=[*_QUANTISED, "Relu", "Clip"],
            per_channel=True,
            reduce_range=weight_bits == 7,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
            nodes_to_exclude=_left_out(onnx.load(str(prepared))),
            extra_options={"OpTypesToExcludeOutputQuantization": ["Gemm", "MatMul"]},
        )


def _left_out(model: ModelProto) -> list[str]:
    """Names of what stays float: products of two activations, and the first layer with weights if there are others."""
    constants = {each.name for each in model.graph.initializer}
    products = [node for node in model.graph.node if node.op_type in _QUANTISED]
    layers = [node.name for node in products if constants & {*node.input[:2]}]
    left_out = [node.name for node in products if node.name not in layers]
    return left_out + layers[:1] if len(layers) > 1 else left_out


def _agreement(expected: Run, found: Run, pixels: np.ndarray) -> float:
    same = 0
    for batch in np.split(pixels, range(_BATCH, len(pixels), _BATCH)):
        same += int((expected(batch).argmax(axis=1) == found(batch).argmax(axis=1)).sum())
    return same / len(pixels)


def _layers(model: ModelProto) -> tuple[int, dict[str, int]]:
    """Number of layers that compute in int8, and of those with weights that don't, by operation."""
    constants = {each.name for each in model.graph.initializer}
    restored = {node.output[0] for node in model.graph.node if node.op_type == "DequantizeLinear"}
    quantised, floats = 0, Counter[str]()
    for node in model.graph.node:
        if node.op_type in _WITH_WEIGHTS:
            if {*node.input[:2]} <= restored:
                quantised += 1
            elif constants & {*node.input}:
                floats[node.op_type] += 1
    return quantised, dict(floats)


def _add_metadata(file: Path, metadata: dict[str, str]) -> None:
    """Put the metadata of the float file back, which ONNX Runtime leaves out."""
    import onnx

    model = onnx.load(str(file))
    onnx.helper.set_model_props(model, metadata)
    onnx.save(model, str(file))
