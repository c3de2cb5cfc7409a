"""What was understood of a data set, as plain values: splits, classes, labels, sizes, what stayed out."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np

from hf_icckd.data.labels.mirroring import MIRRORING_ASKS, describe_mirroring
from hf_icckd.data.pipeline import ImagePipeline
from hf_icckd.data.pixel_reading import PixelReading, pixel_reading
from hf_icckd.data.resampling import class_draws
from hf_icckd.data.sources.image_data import UNLABELED, ImageData
from hf_icckd.options.augmentation import Augmentation
from hf_icckd.options.imbalance import Sampling
from hf_icckd.utils.text import shorten

PUBLISHED_CLASSES = 20  # of more, metrics.json and the card hold the first, the last and the extremes
_IMBALANCED = 5  # times as many images in the largest class as in the smallest
_STRONGLY = 10  # times as many: then the warning says what can be done about it
_REMEDIES = (
    "--class_weights balanced, --sampling balanced and --logit_adjustment 1 each make classes count alike in training."
)
_FEW_IMAGES = 5  # of a class
_SMALL_TEST = 100  # images, below which one of them is more than a point of top-1
_EXAMPLES, _NAME = 3, 28  # classes that a warning names, and how much of a name


def data_report(data: ImageData, pipeline: ImagePipeline | None = None) -> dict[str, Any]:
    """Return what was understood of a data set, in values that JSON can hold.

    It has names of files as examples, and all classes; `published_report` leaves both out.

    Args:
        data: The data set.
        pipeline: Its pipeline, which knows whether training images are mirrored.

    Example:
        >>> from hf_icckd import load_image_data
        >>> report = data_report(load_image_data("digits"))
        >>> report["splits"]["test"]["images"], report["classes"]["images"]["test"][:3]
        (359, [36, 36, 35])
    """
    names = list(data.label_names)
    counts = {} if data.streamed else {name: _counts(data, name) for name in data.splits() if name != UNLABELED}
    splits: dict[str, dict[str, Any]] = {name: {"images": len(split)} for name, split in data.splits().items()}
    for name, origin in data.origins.items():
        if name in splits:
            splits[name]["origin"] = origin
    reading = pixel_reading(data) if pipeline is None else pipeline.reading
    report = {
        "name": data.name,
        "hub_id": data.hub_id,
        "revision": data.revision,
        "streamed": data.streamed,
        "splits": splits,
        "classes": {"names": names, "images": counts},
        "labels": data.label_origin,
        "pixels": _pixels(reading),
        "mirrored": "",
        "sampled": "",
        "duplicates": None if data.duplicates is None else data.duplicates.sentences(),
        "left_out": [dataclasses.asdict(left_out) for left_out in data.left_out],
        "warnings": _warnings(names, counts, len(data.test)) + ([reading.warning] if reading.warning else []),
        "notes": list(data.notes),
    }
    if pipeline is None:
        return report
    return with_sampling(with_mirroring(report, data, pipeline.asked_augmentation), pipeline.sampling)


def published_report(report: dict[str, Any]) -> dict[str, Any]:
    """Return the part of a report that metrics.json and the card hold: no file names, and few classes of many.

    The notes are left out as well: metrics.json holds them already.

    Args:
        report: From `data_report`.
    """
    pixels = {name: value for name, value in report["pixels"].items() if name != "unreadable_example"}
    left_out = [{"count": each["count"], "reason": each["reason"]} for each in report["left_out"]]
    names = ("streamed", "splits", "labels", "mirrored", "sampled", "duplicates", "warnings")
    kept = {name: report[name] for name in names}
    return kept | {
        "classes": summarize_classes(report["classes"], PUBLISHED_CLASSES),
        "pixels": pixels,
        "left_out": left_out,
    }


def summarize_classes(classes: dict[str, Any], limit: int | None) -> dict[str, Any]:
    """Return all classes if there are at most `limit`, else the first, the last, the largest and the smallest.

    Args:
        classes: `classes` of a report.
        limit: None for all classes.
    """
    names, images = classes["names"], classes["images"]
    total = len(names)
    edge = total if limit is None or total <= limit else (limit + 2) // 4

    def row(label: int) -> dict[str, Any]:
        return {"name": names[label], "images": {split: counts[label] for split, counts in images.items()}}

    summary: dict[str, Any] = {"number": total, "first": [row(label) for label in range(edge)], "last": []}
    if edge < total:
        summary["last"] = [row(label) for label in range(total - edge, total)]
        summary["omitted"] = total - 2 * edge
        if images and min(images["train"]) < max(images["train"]):
            order = np.argsort(images["train"], kind="stable")
            summary |= {"largest": row(int(order[-1])), "smallest": row(int(order[0]))}
    if images:
        summary["without"] = {split: counts.count(0) for split, counts in images.items() if 0 in counts}
    return summary


def with_mirroring(report: dict[str, Any], data: ImageData, augmentation: Augmentation | None) -> dict[str, Any]:
    """Return a report that says whether training images are mirrored, and asks where class names speak against it.

    Args:
        report: From `data_report`.
        data: The data set.
        augmentation: The augmentation as the user asked for it.
    """
    words = describe_mirroring(data.mirrored, data.mirroring_doubt, augmentation)
    asks = bool(data.mirroring_doubt) and augmentation is not None and augmentation.horizontal_flip is None
    warnings = [MIRRORING_ASKS] if asks else []
    return report | {"mirrored": words, "warnings": [*report["warnings"], *warnings]}


def with_sampling(report: dict[str, Any], sampling: Sampling | None) -> dict[str, Any]:
    """Return a report that says how many images of the classes an epoch shows, if not every image once.

    Args:
        report: From `data_report`.
        sampling: How often classes are shown; None for every image once.
    """
    if sampling is None or report["streamed"]:
        return report
    names, images = report["classes"]["names"], report["classes"]["images"]["train"]
    draws = class_draws(images, sampling, epoch=0)
    present = [label for label, count in enumerate(images) if count]
    shown = [
        f"{shorten(names[label], _NAME)!r} {draws[label]:,} times (it has {images[label]:,})"
        for label in (max(present, key=images.__getitem__), min(present, key=images.__getitem__))
    ]
    words = f"{sampling.kind}: an epoch of {sum(images):,} images shows {' and '.join(shown)}"
    return report | {"sampled": words}


def _counts(data: ImageData, split: str) -> list[int]:
    return np.bincount(data.labels(split), minlength=len(data.label_names)).tolist()


def _pixels(reading: PixelReading) -> dict[str, Any]:
    """Size and kind of the images that were looked at, and how they are read."""
    pixels: dict[str, Any] = {"images": reading.images, "modes": reading.modes, "how": reading.how}
    if any(reading.widths):
        pixels |= {"width": list(reading.widths), "height": list(reading.heights)}
    if reading.unreadable:
        pixels |= {"unreadable": reading.unreadable, "unreadable_example": reading.unreadable_example}
    return pixels


def _warnings(names: list[str], counts: dict[str, list[int]], test_images: int) -> list[str]:
    """What a reader of the metrics should know about the numbers of images. Counts are empty for a stream."""
    warnings = []
    if counts:
        trained = np.array(counts["train"])
        smallest, largest = trained[trained > 0].min(), trained.max()
        if largest >= _IMBALANCED * smallest:
            high, low = (shorten(names[int(np.argmax(trained == count))], _NAME) for count in (largest, smallest))
            warnings.append(
                f"Imbalanced: {high} has {largest:,} training images, {low} {smallest:,}. Top-1 says little about "
                f"small classes.{f' {_REMEDIES}' if largest >= _STRONGLY * smallest else ''}"
            )
        warnings += _few(trained, names, "training")
    if test_images < _SMALL_TEST:
        share = 100 / test_images
        warnings.append(f"The test split is small: each of its {test_images} images is {share:.1f} points of top-1.")
    elif counts:
        warnings += _few(np.array(counts["test"]), names, "test")
    return warnings


def _few(counts: np.ndarray, names: list[str], split: str) -> list[str]:
    """A warning about classes with few images of a split, if there are any."""
    few = np.flatnonzero((counts > 0) & (counts < _FEW_IMAGES))
    if len(few) == 0:
        return []
    shown = ", ".join(shorten(names[label], _NAME) for label in few[:_EXAMPLES])
    if len(few) == 1:
        return [f"The class {shown} has only {counts[few[0]]} {split} image{'s' if counts[few[0]] > 1 else ''}."]
    single = int((counts == 1).sum())
    which = f"{shown}{', ...' if len(few) > _EXAMPLES else ''}"
    least = f", {single:,} of them a single one" if single else ""
    return [f"{len(few):,} classes have fewer than {_FEW_IMAGES} {split} images{least}: {which}."]
