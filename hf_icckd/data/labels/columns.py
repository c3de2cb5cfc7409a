"""Columns of a table: which holds the images, which the labels, and why that one."""

from __future__ import annotations

import math
import re
from typing import Any, NamedTuple

import numpy as np
from datasets import ClassLabel, Dataset, Features, Image, Value

from hf_icckd.data.containers.encoded_images import holds_base64
from hf_icckd.utils.text import listed

FINE_LABEL = "fine_label"  # column of finer classes than those that are trained on
# A column called so is the label, whatever else is there.
LABEL_NAMES = ("label", "labels", "target", "targets", "class", "y", "category")
_IMAGE_SUFFIX = re.compile(r"\.(png|jpe?g|jfif|webp|bmp|gif|tiff?|ppm|pgm|avif|jp2|hei[cf])$", re.IGNORECASE)
_MOST_MISSING = 0.5  # of a column called label: with more, it is not what its name says
_MOST_DISTINCT = 0.8  # values per row: with more, a column names images and not classes
_MANY_ROWS = 10  # fewer say nothing about that
_SAMPLE = 1000


class Columns(NamedTuple):
    """The columns of a data set.

    Attributes:
        image: Column of the images.
        label: Column of the labels.
        why: Why that label column, in words.
    """

    image: str
    label: str
    why: str


def find_columns(rows: Dataset, image_column: str | None, label_column: str | None) -> Columns:
    """Find image and label column of a split: the chosen ones, else by name and by type.

    Raises:
        ValueError: If a chosen column is unknown or does not fit, or none or several fit.
    """
    image = find_image_column(rows, image_column)
    label, why = find_label_column(rows, label_column, image)
    return Columns(image, label, why)


def find_image_column(rows: Dataset, chosen: str | None) -> str:
    """Return the column of the images: the chosen one, else the only one of images, of bytes, or of image files."""
    features = rows.features
    if chosen is not None:
        _check_exists("image", chosen, features)
        if not _may_hold_images(features[chosen]) and not holds_text(features[chosen]):
            raise ValueError(
                f"image column {chosen!r} holds {_kind(features[chosen])}, expected images, their bytes or their "
                "paths; choose another with --image_column"
            )
        return chosen
    found = [name for name, feature in features.items() if isinstance(feature, Image)]
    # Without an image column, bytes may be images, and so may the names of files.
    found = found or [name for name, feature in features.items() if _may_hold_images(feature)]
    found = found or [name for name, feature in features.items() if holds_text(feature) and _names_images(rows, name)]
    if len(found) > 1:
        raise ValueError(f"several columns may hold the images: {listed(found)}; choose one with --image_column")
    if not found:
        raise ValueError(
            f"no image column found among {_described(features)}; expected images, their bytes or the paths of their "
            "files; convert one or choose another with --image_column"
        )
    return found[0]


def find_label_column(rows: Dataset, chosen: str | None, image_column: str) -> tuple[str, str]:
    """Return the column of the labels, and why it is that one.

    A name such as `label` decides, then a column of named classes, then the only column of text or whole numbers that
    has far fewer values than rows.
    """
    features = rows.features
    if chosen is not None:
        _check_exists("label", chosen, features)
        if chosen == image_column:
            raise ValueError(f"column {chosen!r} can't hold both images and labels; choose with --label_column")
        _refuse_unusable(rows, chosen, _wrong_kind(rows, chosen))
        return chosen, "chosen with --label_column"
    # pandas leaves its index behind as a column.
    others = [name for name in features if name != image_column and not name.startswith("__index_level_")]
    named = [name for name in others if name.lower() in LABEL_NAMES]
    if len(named) == 1:
        _refuse_unusable(rows, named[0], _unusable(rows, named[0], called_label=True))
        return named[0], "its name says so"
    if len(named) > 1:
        raise ValueError(f"several columns may hold the labels: {listed(named)}; choose one with --label_column")
    classes = [name for name in others if isinstance(features[name], ClassLabel)]
    reasons = {name: _unusable(rows, name) for name in others}
    found = classes or [name for name, unusable in reasons.items() if unusable is None]
    if len(found) > 1:
        raise ValueError(f"several columns may hold the labels: {listed(found)}; choose one with --label_column")
    if not found:
        shown = [f"{name} ({unusable or _kind(features[name])})" for name, unusable in reasons.items()]
        raise ValueError(
            f"no label column found among {listed(shown)}; expected class names, text or whole numbers in a column "
            "called label; rename one or choose it with --label_column"
        )
    return found[0], "it names classes" if classes else "no other column can hold them"


def _refuse_unusable(rows: Dataset, name: str, unusable: str | None) -> None:
    if unusable is not None:
        raise ValueError(
            f"label column {name!r} can't be used: {unusable}; expected class names, text or whole numbers; correct "
            f"it, or choose another of {_described(rows.features)} with --label_column"
        )


def _unusable(rows: Dataset, name: str, called_label: bool = False) -> str | None:
    """Why a column can't hold the labels; None if it can."""
    if isinstance(rows.features[name], ClassLabel):
        return None
    wrong = _wrong_kind(rows, name)
    if wrong is not None:
        return wrong
    values = rows.with_format("arrow")[name][:]
    given = [value for value in values.unique().to_pylist() if is_label(value)]
    missing = sum(not is_label(value) for value in values.to_pylist())
    if not given:
        return None if called_label else "no row has a value"
    if missing > _MOST_MISSING * len(values):
        return f"{missing:,} of {len(values):,} rows have no value"
    if len(values) - missing >= _MANY_ROWS and len(given) > _MOST_DISTINCT * (len(values) - missing):
        return f"{len(given):,} different values in {len(values):,} rows, so it names images and not classes"
    return None


def _wrong_kind(rows: Dataset, name: str) -> str | None:
    feature = rows.features[name]
    if isinstance(feature, ClassLabel):
        return None
    if not isinstance(feature, Value) or not re.match(r"u?int|float|string|large_string|bool|null", feature.dtype):
        return f"it holds {_kind(feature)}"
    if feature.dtype.startswith("float"):
        broken = [v for v in rows.unique(name) if v is not None and not math.isnan(v) and not float(v).is_integer()]
        if broken:
            return f"it holds numbers that are not whole, such as {broken[0]:g}"
    return None


def _check_exists(kind: str, chosen: str, features: Features) -> None:
    if chosen not in features:
        raise ValueError(f"--{kind}_column is {chosen!r}, expected one of the columns: {_described(features)}")


def _described(features: Features) -> str:
    return listed([f"{name} ({_kind(feature)})" for name, feature in features.items()])


def _may_hold_images(feature: Any) -> bool:
    if isinstance(feature, dict):
        return "bytes" in feature
    return isinstance(feature, Image) or (isinstance(feature, Value) and feature.dtype in ("binary", "large_binary"))


def holds_text(feature: Any) -> bool:
    """Whether a column holds text."""
    return isinstance(feature, Value) and feature.dtype in ("string", "large_string")


def _names_images(rows: Dataset, name: str) -> bool:
    sample = [value for value in rows[: min(len(rows), _SAMPLE)][name] if value]
    return bool(sample) and (all(_IMAGE_SUFFIX.search(value) for value in sample) or holds_base64(sample))


def _kind(feature: Any) -> str:
    return feature.dtype if isinstance(feature, Value) else type(feature).__name__


def is_label(value: Any) -> bool:
    """Whether a value is a label: neither missing nor negative, which stands for a hidden label."""
    if value is None or value == "" or (isinstance(value, float) and math.isnan(value)):
        return False
    return isinstance(value, str) or value >= 0


def reduce_columns(split: Dataset, columns: Columns, kept: list[str], group_column: str | None = None) -> Dataset:
    """Reduce a split to `image` (undecoded), `label`, `group` if asked for, columns to keep, and `row`.

    `row` is the row in the source, for messages.
    """
    renamed = {columns.image: "image", columns.label: "label"} | ({group_column: "group"} if group_column else {})
    if group_column in (columns.image, columns.label):
        raise ValueError(
            f"group_column is {group_column!r}, which is the column of the images or labels; name the one of the "
            "patients, sites or videos"
        )
    if group_column is not None and group_column not in split.column_names:
        raise ValueError(
            f"group_column is {group_column!r}, expected one of the columns: {_described(split.features)}"
        )
    split = split.select_columns([*renamed, *kept])
    split = split.rename_columns({old: new for old, new in renamed.items() if old != new})
    split = split.cast_column("image", Image(decode=False))
    if group_column is not None:
        split = split.cast_column("group", Value("string"))
    return split.add_column("row", np.arange(len(split)))


def labels_of(split: Dataset, column: str = "label") -> np.ndarray:
    """(N,) int64 class indices of a split, -1 for none."""
    values = split.with_format("arrow")[column][:]
    return values.fill_null(-1).to_numpy(zero_copy_only=False).astype(np.int64)
