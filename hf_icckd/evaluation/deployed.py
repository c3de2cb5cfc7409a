"""Accuracy of exported formats beside torch's, on the same pixels, and the images to calibrate them on."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from typing import Any

import numpy as np
import torch
from torch import Tensor

from hf_icckd.data import ImageData
from hf_icckd.data.decoded import CroppedImages, DecodedImages
from hf_icckd.data.framing import evaluation_framing
from hf_icckd.data.sampling import BatchKey, balanced_subset
from hf_icckd.data.sources.stream import StreamedSplit
from hf_icckd.data.streamed import StreamedImages
from hf_icckd.metrics.per_class import class_counts, recall
from hf_icckd.models.classifier import ClassifierSpec
from hf_icckd.models.runtimes import Run
from hf_icckd.utils.progress_bars import progress_bar

_BATCH = 64


def framed_split(data: ImageData, split: str, spec: ClassifierSpec) -> CroppedImages:
    """A split as a deployed model gets it: each image framed by `evaluation_framing`, in the size of the model.

    Small images are enlarged here, as whoever runs an exported file must do it: the file does not resize.
    """
    rows, framing = data.splits()[split], evaluation_framing(spec)
    if isinstance(rows, StreamedSplit):
        return StreamedImages(rows, framing, name=split, pixel_range=data.pixel_range)
    labels = torch.from_numpy(data.labels(split))
    return DecodedImages(rows, labels, framing, name=split, pixel_range=data.pixel_range)


def calibration_images(data: ImageData, spec: ClassifierSpec, count: int) -> Tensor:
    """Training images for static quantisation, framed as evaluation does: (n, 3, S, S) uint8, the same every time.

    They are chosen evenly over the classes; of a stream, the first ones of its shuffled order.

    Args:
        count: How many; all if there are fewer.
    """
    images = framed_split(data, "train", spec)
    if isinstance(images, StreamedImages):
        key = _key_of(list(islice(images.split.read(0, 0), count)))
    else:
        rows = torch.from_numpy(balanced_subset(data.labels("train"), count))
        key = BatchKey(0, rows, len(rows))
    return images.__getitems__(key)["pixel_values"][:, 0]


def _all_images(images: CroppedImages) -> Iterator[BatchKey]:
    """Keys of a whole split in order. A batch sampler would leave out what is the share of other processes."""
    if isinstance(images, StreamedImages):
        stored = images.split.read(None, 0)
        while batch := list(islice(stored, _BATCH)):
            yield _key_of(batch)
    else:
        for rows in torch.arange(len(images)).split(_BATCH):
            yield BatchKey(0, rows, len(rows))


def _key_of(stored: list[dict[str, Any]]) -> BatchKey:
    return BatchKey(0, torch.arange(len(stored)), len(stored), stored)


def formats_accuracy(
    runs: Mapping[str, Run], images: CroppedImages, names: Sequence[str], description: str | None = None
) -> dict[str, dict[str, Any]]:
    """Run every format over the same images, all of them on the one process that calls this.

    Args:
        runs: By format; the first one is what the others are compared with.
        images: From `framed_split`.
        names: (C,) names of the classes.
        description: Text in front of the progress bar; None for no bar.

    Returns:
        By format what `accuracy_beside` returns.
    """
    logits: dict[str, list[Tensor]] = {name: [] for name in runs}
    labels: list[Tensor] = []
    total, hidden = math.ceil(len(images) / _BATCH), description is None
    for key in progress_bar(description, _all_images(images), total=total, hidden=hidden):
        batch = images.__getitems__(key)
        pixels = np.ascontiguousarray(batch["pixel_values"][:, 0].numpy())
        for name, run in runs.items():
            logits[name].append(torch.from_numpy(run(pixels)))
        labels.append(batch["labels"])
    known = torch.cat(labels)
    found = {name: torch.cat(parts) for name, parts in logits.items()}
    first = next(iter(found.values()))
    return {name: accuracy_beside(first, each, known, names) for name, each in found.items()}


def accuracy_beside(before: Tensor, after: Tensor, labels: Tensor, names: Sequence[str]) -> dict[str, Any]:
    """Accuracy of a changed model beside that of the model it comes from.

    Args:
        before: (N, C) logits of the one.
        after: (N, C) logits of the other.
        labels: (N,) class indices.
        names: (C,) names of the classes.

    Returns:
        `top1` after, `top1_drop` and `class_drop` in percentage points, and `agreement` of the predictions in
        percent. `class_drop` is the largest fall of a class's recall, and `class` its name if there is one.

    Example:
        >>> before, labels = torch.eye(2)[[0, 0, 1, 1]], torch.tensor([0, 0, 1, 1])
        >>> accuracy_beside(before, torch.eye(2)[[0, 0, 0, 1]], labels, ["cat", "dog"])
        {'top1': 75.0, 'top1_drop': 25.0, 'class_drop': 50.0, 'class': 'dog', 'agreement': 75.0}
    """
    counts, counts_after = class_counts(before, labels), class_counts(after, labels)
    top1, top1_after = (100 * int(each.correct.sum()) / len(labels) for each in (counts, counts_after))
    drops = (100 * (recall(counts) - recall(counts_after))).nan_to_num(0.0)
    worst = int(drops.argmax())
    fell = drops[worst].item() > 0
    return {
        "top1": top1_after,
        "top1_drop": top1 - top1_after,
        "class_drop": drops[worst].item() if fell else 0.0,
        **({"class": names[worst]} if fell else {}),
        "agreement": 100 * (before.argmax(dim=1) == after.argmax(dim=1)).double().mean().item(),
    }
