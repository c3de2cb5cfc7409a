"""What was understood of a data set, as plain values: splits, classes, labels, sizes, what stayed out."""

from __future__ import annotations

from typing import Any

import numpy as np

from hf_icckd.data.images import UnreadableImageError, read_image
from hf_icckd.data.pipeline import ImagePipeline, image_sizes, some_rows
from hf_icckd.data.sources.image_data import ImageData
from hf_icckd.options.augmentation import Augmentation
from hf_icckd.utils.text import shorten

PUBLISHED_CLASSES = 20  # of more, metrics.json and the card hold the first, the last and the extremes
_IMBALANCED = 5  # times as many images in the largest class as in the smallest
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
    counts = {} if data.streamed else {name: _counts(data, name) for name in data.splits()}
    splits: dict[str, dict[str, Any]] = {name: {"images": len(split)} for name, split in data.splits().items()}
    for name, origin in data.origins.items():
        if name in splits:
            splits[name]["origin"] = origin
    return {
        "name": data.name,
        "hub_id": data.hub_id,
        "revision": data.revision,
        "streamed": data.streamed,
        "splits": splits,
        "classes": {"names": names, "images": counts},
        "labels": data.label_origin,
        "sizes": _sizes(data, image_sizes(data) if pipeline is None else pipeline.sizes),
        "mirrored": None if pipeline is None else mirroring(data.mirrored, pipeline.asked_augmentation),
        "left_out": [left_out._asdict() for left_out in data.left_out],
        "warnings": _warnings(names, counts, len(data.test)),
        "notes": list(data.notes),
    }


def published_report(report: dict[str, Any]) -> dict[str, Any]:
    """Return the part of a report that metrics.json and the card hold: no file names, and few classes of many.

    The notes are left out as well: metrics.json holds them already.

    Args:
        report: From `data_report`.
    """
    sizes = {name: value for name, value in report["sizes"].items() if name != "unreadable_example"}
    left_out = [{"count": each["count"], "reason": each["reason"]} for each in report["left_out"]]
    kept = {name: report[name] for name in ("streamed", "splits", "labels", "mirrored", "warnings")}
    return kept | {
        "classes": summarize_classes(report["classes"], PUBLISHED_CLASSES),
        "sizes": sizes,
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


def mirroring(mirrored: bool, augmentation: Augmentation | None) -> dict[str, Any]:
    """Return whether training images are mirrored, and why.

    Args:
        mirrored: Whether a mirrored image still shows its class.
        augmentation: The augmentation as the user asked for it.
    """
    if augmentation is None:
        return {"done": False, "reason": "training images are not augmented"}
    if augmentation.horizontal_flip is not None:
        done = augmentation.horizontal_flip
        return {"done": done, "reason": f"chosen with --horizontal_flip {str(done).lower()}"}
    if mirrored:
        return {"done": True, "reason": "the default; --horizontal_flip false turns it off"}
    return {"done": False, "reason": "a mirrored image may show another class; --horizontal_flip true turns it on"}


def _counts(data: ImageData, split: str) -> list[int]:
    return np.bincount(data.labels(split), minlength=len(data.label_names)).tolist()


def _sizes(data: ImageData, found: list[tuple[int, int] | None]) -> dict[str, Any]:
    """Smallest, median and largest width and height of the images that were looked at."""
    readable = np.array([size for size in found if size is not None]).reshape(-1, 2)
    sizes: dict[str, Any] = {"images": len(found)}
    if len(readable):
        for name, values in zip(("width", "height"), readable.T, strict=True):
            sizes[name] = [int(values.min()), int(np.median(values)), int(values.max())]
    if len(readable) < len(found):
        sizes |= {"unreadable": len(found) - len(readable), "unreadable_example": _first_error(data, found)}
    return sizes


def _first_error(data: ImageData, found: list[tuple[int, int] | None]) -> str:
    """What is wrong with the first image whose header can't be read."""
    train, rows = some_rows(data.train, len(found))
    row = int(rows[found.index(None)])
    try:
        read_image(train, row)
    except UnreadableImageError as error:
        return str(error)
    return f"train split: row {row} has no readable header"


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
                "small classes."
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
