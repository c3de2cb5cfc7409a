"""Write a classifier in several formats, each checked against torch, and keep those that pass."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from hf_icckd.data import ImageData
from hf_icckd.evaluation.deployed import calibration_images, formats_accuracy, framed_split
from hf_icckd.evaluation.latency import Timed, measure_latencies
from hf_icckd.models.classifier import ImageClassifier
from hf_icckd.models.onnx import OnnxExport, export_onnx, plain_copy
from hf_icckd.models.openvino import export_openvino
from hf_icckd.models.quantise import quantise_onnx
from hf_icckd.models.runtimes import Run, openvino_precision, run_file, run_torch
from hf_icckd.utils.atomic_files import sync
from hf_icckd.utils.formats import FORMATS, check_installed


@dataclass(frozen=True)
class Checks:
    """What a file must pass.

    Attributes:
        tolerance: Largest accepted drop of top-1 on the test split, in percentage points.
        logit_tolerance: Largest accepted difference of a logit in float formats; see `export_onnx`.
        num_images: Random images to compare logits on.
        calibration_images: Training images to calibrate int8 on.
        weight_bits: Of int8; see `quantise_onnx`.
    """

    tolerance: float = 1.0
    logit_tolerance: float = 1e-4
    num_images: int = 1000
    calibration_images: int = 300
    weight_bits: Literal[7, 8] = 8


@dataclass
class Deployment:
    """What was written, and what was measured.

    Attributes:
        rows: Torch and every format that was written, as `deployed_table` takes them.
        refused: By format, why it was not written.
        notes: A sentence about each format that was written.
        test_images: Number of test images that accuracy was measured on; 0 if no data set is known.
        onnx: Comparison of the ONNX file with torch.
    """

    onnx: OnnxExport
    rows: list[dict[str, Any]] = field(default_factory=list)
    refused: dict[str, str] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    test_images: int = 0


def deploy(
    model: ImageClassifier, targets: dict[str, Path], data: ImageData | None, checks: Checks | None = None
) -> Deployment:
    """Write a classifier in several formats. A format that fails its check leaves an existing file as it is.

    Args:
        model: The classifier; it stays as it is.
        targets: Files to write, by name of the format, all in one folder.
        data: Data set whose training images calibrate int8, and whose test images measure every format.
        checks: What the files must pass; None for the defaults.

    Raises:
        ValueError: If packages or calibration images are missing, or the net can't be exported at all.
    """
    checks = Checks() if checks is None else checks
    for name in targets:
        each = FORMATS[name]
        check_installed(each.packages, each.extra, f"the format {name}")
    if "int8" in targets and data is None:
        raise ValueError("the format int8 needs calibration images, and no data set is known; name one")
    classifier = plain_copy(model)
    (folder,) = {path.parent for path in targets.values()}
    folder.mkdir(parents=True, exist_ok=True)
    # In the folder where the files go, so that they only have to be renamed.
    with tempfile.TemporaryDirectory(prefix=".export-", dir=folder) as stage:
        staged = {name: Path(stage) / path.name for name, path in targets.items()}
        try:
            done = _Stage(classifier, Path(stage), staged, data, checks)
        except ValueError as error:
            raise ValueError(str(error).replace(stage, str(folder))) from error
        result = done.result
        result.refused = {name: text.replace(stage, str(folder)) for name, text in result.refused.items()}
        for name, path in staged.items():
            if name not in result.refused:
                for file in (path.with_suffix(".bin"), path) if name == "openvino" else (path,):
                    file.replace(folder / file.name)
    sync(folder)
    result.onnx = result.onnx._replace(path=folder / result.onnx.path.name)
    return result


class _Stage:
    """The files in a folder of their own, before it is known which of them are kept."""

    def __init__(
        self,
        classifier: ImageClassifier,
        stage: Path,
        staged: dict[str, Path],
        data: ImageData | None,
        checks: Checks,
    ):
        self.classifier, self.staged, self.data, self.checks = classifier, staged, data, checks
        source = staged.get("onnx", stage / "source" / "model.onnx")
        self.source = source
        limits: dict[str, Any] = {"num_images": checks.num_images, "tolerance": checks.logit_tolerance}
        # All other formats come from it.
        self.result = Deployment(export_onnx(classifier, source, **limits))
        self.about: dict[str, dict[str, Any]] = {"torch": {}}
        writers: dict[str, Callable[[Path], dict[str, Any]]] = {
            "onnx": lambda path: {"max_difference": self.result.onnx.max_difference},
            "int8": self._int8,
            "openvino": lambda path: {
                "max_difference": export_openvino(classifier, path, onnx_file=source, **limits).max_difference,
                "precision": openvino_precision(),
            },
        }
        for name, path in staged.items():
            try:
                self.about[name] = writers[name](path) | {"file": path.name}
            except ValueError as error:
                self.result.refused[name] = str(error)
        self._measure_accuracy()
        self._measure_latencies()
        self.result.notes = [_note(row, checks) for row in self.result.rows[1:]]

    def _int8(self, path: Path) -> dict[str, Any]:
        assert self.data is not None  # `deploy` has checked it
        images = calibration_images(self.data, self.classifier.spec, self.checks.calibration_images)
        done = quantise_onnx(self.source, path, images, weight_bits=self.checks.weight_bits)
        return {
            "calibration_images": len(images),
            "int8_layers": done.layers,
            "float_layers": sum(done.float_layers.values()),
        }

    def _runs(self, threads: int | None = None) -> dict[str, Run]:
        return {name: self._run(name, threads) for name in self.about}

    def _run(self, name: str, threads: int | None = None) -> Run:
        return run_torch(self.classifier, threads) if name == "torch" else run_file(self.staged[name], threads)

    def _measure_accuracy(self) -> None:
        if self.data is None:
            return
        images = framed_split(self.data, "test", self.classifier.spec)
        self.result.test_images = len(images)
        names = self.classifier.spec.label_names
        for name, measured in formats_accuracy(self._runs(), images, names, "test images").items():
            self.about[name] |= {"top1": measured["top1"]} if name == "torch" else measured
            if measured["top1_drop"] > self.checks.tolerance:
                self.result.refused[name] = self._too_low(name, measured)
        self.about = {name: each for name, each in self.about.items() if name not in self.result.refused}

    def _too_low(self, name: str, measured: dict[str, Any]) -> str:
        top1, drop = measured["top1"], measured["top1_drop"]
        return (
            f"{name}: top-1 drops by {drop:.2f} points on {self.result.test_images:,} test images, from "
            f"{top1 + drop:.2f} to {top1:.2f} %, expected at most {self.checks.tolerance:g}; the largest drop of a "
            f"class is {measured['class_drop']:.2f} points ({measured.get('class')!r}); {self.staged[name]} is not "
            "written. Deploy a float format, calibrate on more images (--calibration_images), or accept it with a "
            "larger --tolerance"
        )

    def _measure_latencies(self) -> None:
        size = self.classifier.spec.image_size

        def timed(name: str) -> Timed:
            return Timed(lambda threads: self._run(name, threads), size)

        latencies = measure_latencies([timed(name) for name in self.about], description="timing")
        for (name, about), measured in zip(self.about.items(), latencies, strict=True):
            row = {"format": name, "bytes": self._size(name), **about, "latencies": measured}
            self.result.rows.append(row)

    def _size(self, name: str) -> int:
        if name == "torch":
            return weights_size(self.classifier)
        return file_size(self.staged[name])


def weights_size(classifier: ImageClassifier) -> int:
    """Bytes that the weights of a net take."""
    return sum(tensor.numel() * tensor.element_size() for tensor in classifier.net.state_dict().values())


def file_size(path: Path) -> int:
    """Bytes of an exported model; for OpenVINO with the .bin file."""
    weights = path.with_suffix(".bin") if path.suffix == ".xml" else None
    return path.stat().st_size + (weights.stat().st_size if weights is not None else 0)


def _note(row: dict[str, Any], checks: Checks) -> str:
    if row["format"] == "int8":
        floats = f", {row['float_layers']} in float32" if row["float_layers"] else ""
        return (
            f"int8: {row['int8_layers']} layers compute in int8{floats}; calibrated on {row['calibration_images']:,} "
            "training images"
        )
    text = (
        f"{row['format']}: logits differ from torch's by up to {row['max_difference']:.1e} on {checks.num_images:,} "
        "random images"
    )
    precision = row.get("precision", "f32")
    return text if precision == "f32" else f"{text}, in float32; on this processor it computes in {precision}"
