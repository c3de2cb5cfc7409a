"""What runs a deployed model on the CPU: torch, ONNX Runtime or OpenVINO, each as a function of raw pixels."""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

import numpy as np
import torch

from hf_icckd.utils.formats import check_installed

if TYPE_CHECKING:
    from openvino import Core

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


class OnnxSession:
    """A file of this package in ONNX Runtime, on the CPU; called with images as any `Run`.

    Its errors are those of ONNX Runtime, which share no type: for files that users name see `open_onnx`.

    Args:
        file: The file.
        threads: Threads to compute with; None for as many as torch has.

    Attributes:
        input_shape: Shape of its input, with text for what is not fixed.
        metadata: What it says of itself, text by name.
    """

    def __init__(self, file: str | Path, threads: int | None = None):
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads or torch.get_num_threads()
        options.log_severity_level = 3  # errors
        self._session = onnxruntime.InferenceSession(str(file), options, providers=["CPUExecutionProvider"])
        self.input_shape: list[int | str] = self._session.get_inputs()[0].shape
        self.metadata: dict[str, str] = self._session.get_modelmeta().custom_metadata_map

    def __call__(self, images: np.ndarray) -> np.ndarray:
        return self._session.run(["logits"], {"images": images})[0]


def open_onnx(file: str | Path, threads: int | None = None) -> OnnxSession:
    """Open an ONNX file that a user names.

    Args:
        file: The file.
        threads: As of `OnnxSession`.

    Raises:
        ValueError: If ONNX Runtime is missing or can't read the file.
    """
    check_installed(("onnxruntime",), "onnx", f"the ONNX file {str(file)!r}")
    try:
        return OnnxSession(file, threads)
    except Exception as error:  # its errors share no type
        text = " ".join(str(error).split())[:200]
        raise ValueError(f"model {str(file)!r} can't be read by ONNX Runtime: {text}; export it again") from error


@functools.cache
def openvino_core() -> Core:
    """OpenVINO's runtime, one for the whole process.

    Each keeps a stack for signals as long as it lives. If one ends while a later one lives, the process is left with
    a stack that is unmapped, and the next signal kills it.
    """
    import openvino

    return openvino.Core()


def run_openvino(file: str | Path, threads: int | None = None, precision: str | None = None) -> Run:
    """Run an OpenVINO file of this package, or an ONNX file, in OpenVINO on the CPU.

    Args:
        file: The .xml file; the .bin file stands beside it.
        threads: Threads to compute with; None for as many as torch has.
        precision: What to compute in, such as `f32`; None for OpenVINO's own choice on this processor.
    """
    properties: dict[str, int | str] = {"INFERENCE_NUM_THREADS": threads or torch.get_num_threads()}
    if precision is not None:
        properties["INFERENCE_PRECISION_HINT"] = precision
    compiled = openvino_core().compile_model(str(file), "CPU", properties)
    return lambda images: np.asarray(compiled({"images": images})["logits"])


def openvino_precision() -> str:
    """What OpenVINO computes float32 models in on this processor: `f32`, or `bf16` where it is built in."""
    return openvino_core().get_property("CPU", "INFERENCE_PRECISION_HINT").get_type_name()


def run_file(file: str | Path, threads: int | None = None) -> Run:
    """Run an exported file, by its suffix.

    Raises:
        ValueError: If it is neither .onnx nor .xml, or the package that runs it is missing.
    """
    suffix = Path(file).suffix.lower()
    if suffix == ".onnx":
        return open_onnx(file, threads)
    if suffix == ".xml":
        check_installed(("openvino",), "openvino", "an OpenVINO file")
        return run_openvino(file, threads)
    raise ValueError(f"{str(file)!r} is no exported model, expected a file that ends in .onnx or .xml")


def input_size(file: str | Path) -> int:
    """Height and width of the images that an exported file takes, in pixels.

    Raises:
        ValueError: If an ONNX file can't be read, or takes no images of one size.
    """
    if Path(file).suffix.lower() == ".xml":
        return openvino_core().read_model(str(file)).input("images").get_partial_shape()[2].get_length()
    shape = open_onnx(file).input_shape
    if len(shape) != 4 or not isinstance(shape[2], int):
        raise ValueError(
            f"model {str(file)!r} takes {shape}, expected images of one size; export it with hf-icckd export"
        )
    return shape[2]
