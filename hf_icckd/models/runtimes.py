"""What runs a deployed model on the CPU: torch, ONNX Runtime or OpenVINO, each as a function of raw pixels."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

import numpy as np
import torch

from hf_icckd.utils.formats import check_installed

if TYPE_CHECKING:
    from hf_icckd.models.classifier import ImageClassifier

Run: TypeAlias = Callable[[np.ndarray], np.ndarray]  # (B, 3, H, W) uint8 to (B, C) float32 logits


def run_torch(classifier: ImageClassifier, threads: int | None = None) -> Run:
    """Run a classifier on the CPU as it is, without compiling it.

    Args:
        classifier: In evaluation mode, on the CPU.
        threads: Threads to compute with, set for the process at each call; None to leave them.
    """

    @torch.inference_mode()
    def run(images: np.ndarray) -> np.ndarray:
        if threads is not None and threads != torch.get_num_threads():
            torch.set_num_threads(threads)
        return classifier(torch.from_numpy(images)).logits.float().numpy()

    return run


def run_onnx(file: str | Path, threads: int | None = None) -> Run:
    """Run an ONNX file of this package in ONNX Runtime.

    Args:
        file: The file.
        threads: Threads to compute with; None for as many as torch has.
    """
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads or torch.get_num_threads()
    options.log_severity_level = 3  # errors
    session = onnxruntime.InferenceSession(str(file), options, providers=["CPUExecutionProvider"])
    return lambda images: session.run(["logits"], {"images": images})[0]


def run_openvino(file: str | Path, threads: int | None = None, precision: str | None = None) -> Run:
    """Run an OpenVINO file of this package, or an ONNX file, in OpenVINO on the CPU.

    Args:
        file: The .xml file; the .bin file stands beside it.
        threads: Threads to compute with; None for as many as torch has.
        precision: What to compute in, such as `f32`; None for OpenVINO's own choice on this processor.
    """
    import openvino

    properties: dict[str, int | str] = {"INFERENCE_NUM_THREADS": threads or torch.get_num_threads()}
    if precision is not None:
        properties["INFERENCE_PRECISION_HINT"] = precision
    compiled = openvino.Core().compile_model(str(file), "CPU", properties)
    return lambda images: np.asarray(compiled({"images": images})["logits"])


def openvino_precision() -> str:
    """What OpenVINO computes float32 models in on this processor: `f32`, or `bf16` where it is built in."""
    import openvino

    return openvino.Core().get_property("CPU", "INFERENCE_PRECISION_HINT").get_type_name()


def run_file(file: str | Path, threads: int | None = None) -> Run:
    """Run an exported file, by its suffix.

    Raises:
        ValueError: If it is neither .onnx nor .xml, or the package that runs it is missing.
    """
    suffix = Path(file).suffix.lower()
    if suffix == ".onnx":
        check_installed(("onnxruntime",), "onnx", "an ONNX file")
        return run_onnx(file, threads)
    if suffix == ".xml":
        check_installed(("openvino",), "openvino", "an OpenVINO file")
        return run_openvino(file, threads)
    raise ValueError(f"{str(file)!r} is no exported model, expected a file that ends in .onnx or .xml")


def input_size(file: str | Path) -> int:
    """Height and width of the images that an exported file takes, in pixels."""
    if Path(file).suffix.lower() == ".xml":
        import openvino

        return openvino.Core().read_model(str(file)).input("images").get_partial_shape()[2].get_length()
    import onnxruntime

    session = onnxruntime.InferenceSession(str(file), providers=["CPUExecutionProvider"])
    return session.get_inputs()[0].shape[2]
