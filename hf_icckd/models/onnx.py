"""ONNX export: raw pixels in, logits out, and the file is written only if it agrees with torch."""

from __future__ import annotations

import contextlib
import copy
import json
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from timm.layers import set_exportable
from torch import Tensor, nn

from hf_icckd._version import __version__
from hf_icckd.models.classifier import ImageClassifier, create_classifier
from hf_icckd.models.pretrained import from_pretrained
from hf_icckd.models.runtimes import OnnxSession
from hf_icckd.models.same_logits import check_comparison_options, check_same_logits
from hf_icckd.utils.atomic_files import replace_file
from hf_icckd.utils.formats import FORMATS, check_installed
from hf_icckd.utils.machine import median_ms

_PACKAGES = FORMATS["onnx"].packages
_MAX_BYTES = 3 * 2**29  # a protobuf message holds 2 GiB; this leaves room for the graph


class OnnxExport(NamedTuple):
    """The file that was written, and how it compares with torch.

    Attributes:
        path: The file.
        max_difference: Largest difference between logits.
        agreement: Share of the images, 0 to 1, for which both predict the same class.
        latency_ms: Median of ONNX Runtime's time for one image on the CPU, with as many threads as torch has.
    """

    path: Path
    max_difference: float
    agreement: float
    latency_ms: float


def export_onnx(
    model: ImageClassifier | str | Path, path: str | Path, *, num_images: int = 1000, tolerance: float = 1e-4
) -> OnnxExport:
    """Write a classifier with its preprocessing as one ONNX file.

    Input `images`: (batch, 3, H, W) uint8, RGB, with H and W of the model. Output `logits`: (batch, classes) float32.
    Any batch size works. The file's metadata names the classes (`label_names`, JSON) and says how evaluation crops
    pictures to the model's size (`image_size`, `crop_pct`, `interpolation`, `crop_mode`).

    Args:
        model: A classifier, or anything that `from_pretrained` loads.
        path: The file; an existing one is replaced only if the new one agrees with torch.
        num_images: Random images, from plain colours to noise, to compare on.
        tolerance: Largest accepted difference between logits, as a share of the largest logit if that is above 1.

    Raises:
        ValueError: If packages are missing, the net can't be exported or is too large for one file, or the file
            disagrees with torch.

    Example:
        >>> from hf_icckd import create_classifier
        >>> model = create_classifier("cifar_resnet8", ["cat", "dog"], image_size=32)
        >>> export_onnx(model, "student.onnx").max_difference < 1e-4  # doctest: +SKIP
        True
    """
    check_installed(_PACKAGES, "onnx", "ONNX export")
    check_comparison_options(num_images, tolerance)
    classifier = model if isinstance(model, ImageClassifier) else from_pretrained(model)
    size = sum(tensor.numel() * tensor.element_size() for tensor in classifier.state_dict().values())
    if size > _MAX_BYTES:
        raise ValueError(f"the weights take {size / 2**30:.1f} GiB, expected at most 1.5: an ONNX file holds no more")
    classifier = plain_copy(classifier)
    checked: list[OnnxExport] = []

    def write(unfinished: Path) -> None:
        _write(classifier, unfinished)
        with _readable(classifier.spec.architecture):
            run = OnnxSession(unfinished)
            found = check_same_logits(classifier, run, "ONNX", Path(path), num_images, tolerance)
            size = classifier.spec.image_size
            image = np.zeros((1, 3, size, size), dtype=np.uint8)
            checked.append(OnnxExport(Path(path), *found, latency_ms=median_ms(lambda: run(image))))

    Path(path).parent.mkdir(parents=True, exist_ok=True)
    replace_file(path, write)
    return checked[0]


def plain_copy(classifier: ImageClassifier) -> ImageClassifier:
    """Copy a classifier in full precision and contiguous layout, on the CPU, in evaluation mode."""
    return copy.deepcopy(classifier).float().cpu().eval().to(memory_format=torch.contiguous_format)


class _Logits(nn.Module):
    def __init__(self, classifier: ImageClassifier):
        super().__init__()
        self.classifier = classifier

    def forward(self, images: Tensor) -> Tensor:
        return self.classifier(images).logits


def _write(classifier: ImageClassifier, path: Path) -> None:
    spec = classifier.spec
    try:
        program = _traced(classifier)
    except torch.onnx.errors.OnnxExporterError as error:
        try:
            program = _traced(_exportable(classifier))
        except (torch.onnx.errors.OnnxExporterError, RuntimeError, ValueError):
            # The first error counts: the second net may be another one, if layers were replaced by hand.
            text = " ".join(str(error.__cause__ or error).split())
            raise ValueError(f"{spec.architecture} can't be exported to ONNX: {text[:300]}") from error
    program.model.metadata_props.update(
        {
            "architecture": spec.architecture,
            "label_names": json.dumps(spec.label_names),
            "image_size": str(spec.image_size),
            "crop_pct": str(spec.crop_pct),
            "interpolation": spec.interpolation,
            "crop_mode": spec.crop_mode,
            "mean": json.dumps(spec.mean),  # the colour of borders
            "hf_icckd": __version__,
        }
    )
    program.save(path, external_data=False)


def _traced(classifier: ImageClassifier) -> torch.onnx.ONNXProgram:
    size = classifier.spec.image_size
    # Two images: a batch of 1 would become a constant.
    example = torch.zeros(2, 3, size, size, dtype=torch.uint8)
    program = torch.onnx.export(
        _Logits(classifier).eval(),
        (example,),
        input_names=["images"],
        output_names=["logits"],
        dynamo=True,
        dynamic_shapes={"images": {0: "batch"}},
        verbose=False,
    )
    assert program is not None  # with `dynamo` there is always one
    return program


def _exportable(classifier: ImageClassifier) -> ImageClassifier:
    """The same classifier, built with those layers of timm that exporters understand: they are chosen in building."""
    spec = classifier.spec
    with set_exportable(True), torch.random.fork_rng(devices=[]):  # new weights are drawn, only to be replaced
        built = create_classifier(
            spec.architecture, spec.label_names, image_size=spec.image_size, model_args=spec.model_args
        )
    built = ImageClassifier(built.net, spec)
    built.load_state_dict(classifier.state_dict())
    return built.eval()


@contextlib.contextmanager
def _readable(architecture: str) -> Iterator[None]:
    """Errors of ONNX Runtime, which share no type, as one line."""
    try:
        yield
    except Exception as error:
        if not type(error).__module__.startswith("onnxruntime"):
            raise
        text = " ".join(str(error).split())[:300]
        raise ValueError(f"ONNX Runtime can't run the file of {architecture}, so it is not written: {text}") from error
