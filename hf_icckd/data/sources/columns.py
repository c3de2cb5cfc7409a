"""Columns of a table: which holds the images, which the labels, and what the labels mean."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
from datasets import ClassLabel, Dataset, Features, Image, Value


def find_columns(features: Features, image_column: str | None, label_column: str | None) -> tuple[str, str]:
    """Return the names of image and label column: the chosen ones, else the only ones of a fitting type.

    Raises:
        ValueError: If a chosen column is unknown or does not fit, or none or several fit.
    """
    images = [name for name, feature in features.items() if isinstance(feature, Image)]
    # Without an image column, bytes may be images; without a class column, text and integers may hold the classes.
    images = images or [name for name, feature in features.items() if _may_hold_images(feature)]
    classes = [name for name, feature in features.items() if isinstance(feature, ClassLabel)]
    # pandas leaves its index behind as a column.
    plain = [
        name for name, feature in features.items() if _is_plain(feature) and not name.startswith("__index_level_")
    ]
    image_column = _choose("image", images, image_column, features)
    label_column = _choose("label", classes or plain, label_column, features)
    if not _may_hold_images(features[image_column]) and getattr(features[image_column], "dtype", "") != "string":
        raise ValueError(
            f"image column {image_column!r} holds {_kind(features[image_column])}, expected images, their bytes or "
            "their paths; choose another with --image_column"
        )
    if image_column == label_column:
        raise ValueError(f"column {image_column!r} can't hold both images and labels; choose with --label_column")
    return image_column, label_column


def _may_hold_images(feature: Any) -> bool:
    if isinstance(feature, dict):
        return "bytes" in feature
    return isinstance(feature, Image) or (isinstance(feature, Value) and feature.dtype in ("binary", "large_binary"))


def _is_plain(feature: Any) -> bool:
    return isinstance(feature, Value) and re.match(r"u?int|string|large_string|bool", feature.dtype) is not None


def _kind(feature: Any) -> str:
    return feature.dtype if isinstance(feature, Value) else type(feature).__name__


def _choose(kind: str, candidates: list[str], chosen: str | None, features: Features) -> str:
    expected = {"image": "images or their bytes", "label": "class names, text or integers"}[kind]
    columns = ", ".join(f"{name} ({_kind(feature)})" for name, feature in features.items())
    if chosen is not None:
        if chosen not in features:
            raise ValueError(f"--{kind}_column is {chosen!r}, expected one of the columns: {columns}")
        return chosen
    if not candidates:
        raise ValueError(
            f"no {kind} column found among {columns}; expected {expected}; convert one or choose another with "
            f"--{kind}_column"
        )
    if len(candidates) > 1:
        raise ValueError(
            f"several columns may hold the {kind}s: {', '.join(candidates)}; choose one with --{kind}_column"
        )
    return candidates[0]


def two_columns(split: Dataset, image_column: str, label_column: str, kept: list[str]) -> Dataset:
    """Reduce a split to `image` (undecoded), `label`, columns to keep, and `row`: the row in the source."""
    split = split.select_columns([image_column, label_column, *kept])
    split = split.rename_columns({image_column: "image", label_column: "label"}).cast_column(
        "image", Image(decode=False)
    )
    return split.add_column("row", np.arange(len(split)))


def index_labels(splits: dict[str, Dataset], column: str) -> tuple[dict[str, Dataset], list[str]]:
    """Turn labels of any type into class indices, -1 for none; all splits together give the class names."""
    features = {name: split.features["label"] for name, split in splits.items()}
    for name, feature in features.items():
        if not isinstance(feature, ClassLabel) and not _is_plain(feature):
            raise ValueError(
                f"label column {column!r} of the {name} split holds {_kind(feature)}, expected class names or "
                "integers; choose another with --label_column"
            )
    given = [getattr(feature, "names", None) for feature in features.values()]
    check_same_names(given, column)
    if given[0] is not None:
        return splits, given[0]
    values = {value for split in splits.values() for value in split.unique("label") if is_label(value)}
    if len({isinstance(value, str) for value in values}) > 1:
        raise ValueError(f"column {column!r} holds text in one split and numbers in another; expected the same in all")
    index = {value: position for position, value in enumerate(sorted(values))}
    names = [str(value) for value in index]
    # Replaced, not mapped: `map` would write all images to disk once more.
    for name, split in splits.items():
        labels = np.array([index.get(value, -1) for value in split["label"]], dtype=np.int64)
        split = split.remove_columns("label").add_column("label", labels)
        splits[name] = split.cast_column("label", ClassLabel(names=names))
    return splits, names


def check_same_names(names: list[list[str] | None], column: str) -> None:
    """Raise ValueError unless all splits name the same classes in the same order, or none names any."""
    if any(other != names[0] for other in names):
        raise ValueError(f"the splits give column {column!r} different classes; expected the same names and order")


def is_label(value: Any) -> bool:
    """Whether a value is a label: neither missing nor negative, which stands for a hidden label."""
    return value is not None and not (isinstance(value, int) and value < 0)


def labels_of(split: Dataset, column: str = "label") -> np.ndarray:
    """(N,) int64 class indices of a split, -1 for none."""
    values = split.with_format("arrow")[column][:]
    return values.fill_null(-1).to_numpy(zero_copy_only=False).astype(np.int64)


def check_labels(split: Dataset, name: str, label_names: list[str]) -> None:
    """Raise ValueError unless a split has images, all with a valid label, and there are at least two classes."""
    labels = labels_of(split)
    if len(labels) == 0:
        raise ValueError(f"the {name} split is empty, expected images; give a larger data set")
    wrong = np.flatnonzero((labels < 0) | (labels >= len(label_names)))
    if len(wrong):
        raise ValueError(
            f"row {wrong[0]} of the {name} split has no valid label (nor have {len(wrong) - 1:,} more rows): it is "
            "missing, negative or without a name; correct or remove such rows"
        )
    check_classes(label_names)


def check_classes(label_names: list[str]) -> None:
    """Raise ValueError unless there are at least two classes."""
    if len(label_names) < 2:
        raise ValueError(
            f"the data set has the one class {label_names[0]!r}, expected two or more; add images of another class"
        )
