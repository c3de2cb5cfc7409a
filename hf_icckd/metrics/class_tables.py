"""The table of classes in metrics.json: how it is made, and what summaries and cards read from it.

`per_class` holds `names`, and for each split one table with a column of numbers for each metric, in the order of the
names. It holds plain values only, as they come from JSON.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from torch import Tensor

from hf_icckd.metrics.per_class import class_counts, confusions, f1, precision, recall

RECORDED_CONFUSIONS = 20


class ClassRow(NamedTuple):
    """One class of a table.

    Attributes:
        name: Name of the class.
        train_images: Number of images in the training split; None if not known.
        images: Number of images in the split that was measured.
        recall: Percent of them that are recognised.
    """

    name: str
    train_images: int | None
    images: int
    recall: float


class Confusion(NamedTuple):
    """A class that is taken for another one.

    Attributes:
        name: Name of the class.
        predicted: Name of the class that it is taken for.
        images: For how many images.
        of: Number of images of the class.
    """

    name: str
    predicted: str
    images: int
    of: int


def image_table(images: Sequence[int], names: Sequence[str]) -> dict[str, Any]:
    """Count the images of each class of a split.

    Args:
        images: (C,) number of images of each class, one at least.
        names: (C,) names.

    Returns:
        `classes`, the number of classes with images; `largest` and `smallest` among them, and their `ratio`; `images`.

    Example:
        >>> image_table([40, 10, 0], ["cat", "dog", "emu"])["smallest"]
        {'class': 'dog', 'images': 10}
    """
    present = [index for index, count in enumerate(images) if count]
    largest = max(present, key=lambda index: images[index])
    smallest = min(present, key=lambda index: images[index])
    return {
        "classes": len(present),
        "largest": {"class": names[largest], "images": images[largest]},
        "smallest": {"class": names[smallest], "images": images[smallest]},
        "ratio": images[largest] / images[smallest],
        "images": list(images),
    }


def class_table(logits: Tensor, labels: Tensor, names: Sequence[str]) -> dict[str, Any]:
    """Measure each class of a split.

    Args:
        logits: (N, C).
        labels: (N,) class indices.
        names: (C,) names.

    Returns:
        What `image_table` returns; `zero_recall`, the number of classes with images of which none is recognised;
        `predicted`, the number of images for which each class is predicted; `recall`, `precision` and `f1` in percent
        with two decimals, None where there is nothing to divide by; `confusions`, the most frequent mistakes.

    Raises:
        ValueError: If shapes don't match, a label is outside 0..C-1, or there is no sample.

    Example:
        >>> import torch
        >>> logits = torch.eye(3)[[0, 0, 0, 2]]
        >>> found = class_table(logits, torch.tensor([0, 0, 1, 2]), ["cat", "dog", "emu"])
        >>> found["recall"], found["zero_recall"]
        ([100.0, 0.0, 100.0], 1)
        >>> found["confusions"]
        [{'class': 'dog', 'predicted': 'cat', 'images': 1}]
    """
    counts = class_counts(logits, labels)
    return {
        **image_table(counts.images.tolist(), names),
        "zero_recall": int(((counts.images > 0) & (counts.correct == 0)).sum()),
        "predicted": counts.predicted.tolist(),
        **{metric.__name__: _percent(metric(counts)) for metric in (recall, precision, f1)},
        "confusions": [
            {"class": names[true], "predicted": names[other], "images": count}
            for true, other, count in confusions(logits, labels, RECORDED_CONFUSIONS)
        ],
    }


def _percent(fractions: Tensor) -> list[float | None]:
    # A number that is not equal to itself is NaN.
    return [round(100 * value, 2) if value == value else None for value in fractions.tolist()]


def worst_classes(per_class: dict[str, Any], split: str, limit: int) -> list[ClassRow]:
    """Classes that are not always recognised, the lowest recall first; of equal ones that with the most images.

    Args:
        per_class: From metrics.json.
        split: Split that was measured.
        limit: How many classes to return at most.
    """
    table, in_training = per_class[split], per_class.get("train", {}).get("images")
    missed = [index for index, value in enumerate(table["recall"]) if value is not None and value < 100]
    missed.sort(key=lambda index: (table["recall"][index], -table["images"][index]))
    return [
        ClassRow(
            per_class["names"][index],
            None if in_training is None else in_training[index],
            table["images"][index],
            table["recall"][index],
        )
        for index in missed[:limit]
    ]


def worst_confusions(per_class: dict[str, Any], split: str, limit: int) -> list[Confusion]:
    """The most frequent mistakes.

    Args:
        per_class: From metrics.json.
        split: Split that was measured.
        limit: How many to return at most.
    """
    images = dict(zip(per_class["names"], per_class[split]["images"], strict=True))
    return [
        Confusion(each["class"], each["predicted"], each["images"], images[each["class"]])
        for each in per_class[split]["confusions"][:limit]
    ]
