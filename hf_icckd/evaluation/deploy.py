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
from hf_icckd.models.same_logits import LogitComparison
from hf_icckd.utils.atomic_files import sync
from hf_icckd.utils.formats import FORMATS, check_installed


@dataclass(frozen=True)
class Checks:
    """What a file must pass, and how int8 is made.

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
        rows: Torch and every format that was written, as `deployed_table` takes them; none if none was written.
        refused: By format, why it was not written.
        notes: A sentence about each format that was written.
        test_images: Number of test images that accuracy was measured on; 0 if no data set is known.
    """

    rows: list[dict[str, Any]] = field(default_factory=list)
    refused: dict[str, str] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    test_images: int = 0


@dataclass
class _Candidate:
    """A model in one format that is not yet known to be kept.

    Attributes:
        open: Takes a number of threads, or None, and returns what runs it.
        size: In bytes.
        facts: What its row says of it.
    """

    open: Callable[[int | None], Run]
    size: int
    facts: dict[str, Any]


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
    for name in targets:
        check_installed(FORMATS[name].packages, FORMATS[name].extra, f"the format {name}")
    if "int8" in targets and data is None:
        raise ValueError("the format int8 needs calibration images, and no data set is given; give one")
    checks, classifier = Checks() if checks is None else checks, plain_copy(model)
    (folder,) = {path.parent for path in targets.values()}
    folder.mkdir(parents=True, exist_ok=True)
    # In the folder where the files go, so that they only have to be renamed.
    with tempfile.TemporaryDirectory(prefix=".export-", dir=folder) as stage:
        staged = {name: Path(stage) / path.name for name, path in targets.items()}
        try:
            result, candidates = _write(classifier, staged, Path(stage) / "source" / "model.onnx", data, checks)
        except ValueError as error:
            raise ValueError(str(error).replace(stage, str(folder))) from error
        if data is not None:
            _measure_accuracy(candidates, data, classifier, checks, result)
        kept = {name: each for name, each in candidates.items() if name not in result.refused}
        if len(kept) > 1:  # beside torch
            _measure_latencies(kept, classifier.spec.image_size, checks, result)
        # Messages name the place where a file would have gone.
        result.refused = {name: text.replace(stage, str(folder)) for name, text in result.refused.items()}
        for name in kept.keys() & staged.keys():
            for file in _files(staged[name]):
                sync(file)
                file.replace(folder / file.name)
    sync(folder)
    return result


def _write(
    classifier: ImageClassifier, staged: dict[str, Path], source: Path, data: ImageData | None, checks: Checks
) -> tuple[Deployment, dict[str, _Candidate]]:
    """Write all formats that can be written; those that can't are `refused`."""
    source = staged.get("onnx", source)
    limits: dict[str, Any] = {"num_images": checks.num_images, "tolerance": checks.logit_tolerance}
    compared = export_onnx(classifier, source, **limits)  # the other formats come from it, also where it is not kept
    result = Deployment()

    def facts(name: str, path: Path) -> dict[str, Any]:
        if name == "int8":
            assert data is not None  # `deploy` has checked it
            images = calibration_images(data, classifier.spec, checks.calibration_images)
            done = quantise_onnx(source, path, images, weight_bits=checks.weight_bits)
            floats = sum(done.float_layers.values())
            return {"calibration_images": len(images), "int8_layers": done.layers, "float_layers": floats}
        if name == "openvino":
            own = export_openvino(classifier, path, onnx_file=source, **limits)
            return _beside_torch(own) | {"precision": openvino_precision()}
        return _beside_torch(compared)

    def opener(path: Path) -> Callable[[int | None], Run]:
        return lambda threads: run_file(path, threads)

    candidates = {"torch": _Candidate(lambda threads: run_torch(classifier, threads), weights_size(classifier), {})}
    for name, path in staged.items():
        try:
            own = {"file": path.name} | facts(name, path)
            candidates[name] = _Candidate(opener(path), file_size(path), own)
        except ValueError as error:
            result.refused[name] = str(error)
    return result, candidates


def _beside_torch(found: OnnxExport | LogitComparison) -> dict[str, float]:
    """What random images showed, as a row says it; `agreement` of a row is that on test images."""
    return {"max_difference": found.max_difference, "random_agreement": 100 * found.agreement}


def _measure_accuracy(
    candidates: dict[str, _Candidate], data: ImageData, classifier: ImageClassifier, checks: Checks, result: Deployment
) -> None:
    """Measure top-1 on the test split, and refuse formats that lose too much of it."""
    images = framed_split(data, "test", classifier.spec)
    result.test_images = len(images)
    runs = {name: each.open(None) for name, each in candidates.items()}
    for name, found in formats_accuracy(runs, images, data.label_names, "test images").items():
        candidates[name].facts |= {"top1": found["top1"]} if name == "torch" else found
        if found["top1_drop"] > checks.tolerance:
            top1, drop = found["top1"], found["top1_drop"]
            better = (
                "deploy a float format, calibrate on more images (--calibration_images), or " if name == "int8" else ""
            )
            result.refused[name] = (
                f"{name}: top-1 drops by {drop:.2f} points on {len(images):,} test images, from {top1 + drop:.2f} to "
                f"{top1:.2f} %, expected at most {checks.tolerance:g}; class {found['class']!r} drops by "
                f"{found['class_drop']:.2f}; {candidates[name].facts['file']} is not written; {better}accept "
                "it with a larger --tolerance"
            )


def _measure_latencies(kept: dict[str, _Candidate], image_size: int, checks: Checks, result: Deployment) -> None:
    timed = [Timed(each.open, image_size) for each in kept.values()]
    for (name, each), measured in zip(kept.items(), measure_latencies(timed, description="timing"), strict=True):
        row = {"format": name, "bytes": each.size, **each.facts, "latencies": measured}
        result.rows.append(row)
        if name != "torch":
            result.notes.append(_note(row, checks))


def _note(row: dict[str, Any], checks: Checks) -> str:
    if row["format"] == "int8":
        floats = f", {row['float_layers']} in float32" if row["float_layers"] else ""
        return (
            f"int8: {row['int8_layers']} layers compute in int8{floats}; calibrated on {row['calibration_images']:,} "
            "training images"
        )
    text = (
        f"{row['format']}: logits differ by up to {row['max_difference']:.1e} on {checks.num_images:,} random images"
    )
    precision = row.get("precision", "f32")
    return text if precision == "f32" else f"{text}, in f32; this processor takes {precision} by default"


def _files(path: Path) -> list[Path]:
    """The files of an exported model, that with the weights first."""
    return [path.with_suffix(".bin"), path] if path.suffix == ".xml" else [path]


def weights_size(classifier: ImageClassifier) -> int:
    """Bytes that the weights of a net take."""
    return sum(tensor.numel() * tensor.element_size() for tensor in classifier.net.state_dict().values())


def file_size(path: Path) -> int:
    """Bytes of an exported model; for OpenVINO with the .bin file."""
    return sum(file.stat().st_size for file in _files(path))
