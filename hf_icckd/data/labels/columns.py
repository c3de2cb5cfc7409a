"""Columns of a table: which holds the images, which the labels, and why that one."""

from __future__ import annotations

import math
import re
from typing import Any, NamedTuple, NoReturn

import numpy as np
import pyarrow as pa
from datasets import ClassLabel, Dataset, Features, Image, List, Value

from hf_icckd.data.containers.encoded_images import holds_base64
from hf_icckd.utils.text import listed

FINE_LABEL = "fine_label"  # column of finer classes than those that are trained on
# Text that stands for a missing value, as pandas and databases write it.
MISSING = frozenset({"", "nan", "NaN", "null", "NULL", "None", "N/A", "NA", "<NA>"})
# A column called so is the label, whatever else is there.
LABEL_NAMES = ("label", "labels", "target", "targets", "class", "y", "category")
_LABEL_WORDS = ("label", "labels", "target", "class", "category", "cls")
_LABEL_FORMS = ("name", "names", "id", "ids", "idx", "index", "text", "str", "string", "int", "num", "number", "code")
# pandas leaves its index behind as a column; the others say something else in every table.
_NOT_LABELS = re.compile(
    r"__index_level_.*|Unnamed: \d+|fold|kfold|folds|width|height|img_?(width|height)|image_?(width|height)|"
    r"channels|file_?size|md5|sha\d+",
    re.IGNORECASE,
)
_MOST_ONE_HOT = 1000
_MOST_SAME = 4  # columns that are compared
_SEPARATORS = "|;,"
_MANY = " (several values a row, where one label is expected)"
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
            "files; convert one (lists of pixels: numpy.savez('train.npz', images=..., labels=...)), or choose "
            "another with --image_column"
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
    others = [name for name in features if name != image_column and not _NOT_LABELS.fullmatch(name.strip())]
    for named in _called_labels(others):
        name = named[0] if len(named) == 1 else _one_of_same(rows, named)
        if name is None:
            raise ValueError(f"several columns may hold the labels: {listed(named)}; choose one with --label_column")
        _refuse_unusable(rows, name, _unusable(rows, name))
        return name, "its name says so" + ("" if len(named) == 1 else f", and {listed(named)} say the same")
    classes = [name for name in others if isinstance(features[name], ClassLabel)]
    reasons = _all_unusable(rows, others)
    found = classes or [name for name, unusable in reasons.items() if unusable is None]
    if len(found) > 1:
        name = _one_of_same(rows, found)
        if name is None:
            _refuse_several(rows, found)
        return name, f"{listed(found)} say the same"
    if not found:
        shown = [f"{name} ({unusable or _kind(features[name])})" for name, unusable in reasons.items()]
        raise ValueError(
            f"no label column found among {listed(shown) or _described(features)}; expected class names, text or "
            "whole numbers in a column called label; rename one or choose it with --label_column"
        )
    return found[0], "it names classes" if classes else "no other column can hold them"


def _called_labels(names: list[str]) -> list[list[str]]:
    """Columns that are called `label` or the like, else those called `class_name` or the like; no group is empty."""
    words = {name: re.sub(r"[\W_]+", " ", re.sub(r"(?<=[a-z])(?=[A-Z])", " ", name)).lower().split() for name in names}
    plain = [name for name, own in words.items() if len(own) == 1 and own[0] in LABEL_NAMES]
    more = [
        name
        for name, own in words.items()
        if len(own) == 2 and own[0] in _LABEL_WORDS and own[1] in (*_LABEL_FORMS, *_LABEL_WORDS)
    ]
    return [group for group in (plain, more) if group][:1]


def _one_of_same(rows: Dataset, names: list[str]) -> str | None:
    """Of columns that say the same, the one that holds words beside numbers; None if they differ or several do."""
    if len(names) > _MOST_SAME or any(_wrong_kind(rows, name) for name in names):
        return None
    table = rows.select_columns(names).with_format("arrow")[:]
    columns = [table[name].to_pylist() for name in names]
    pairs = set(zip(*columns, strict=True))
    if any(len(set(column)) != len(pairs) for column in columns):
        return None
    worded = [name for name in names if isinstance(rows.features[name], ClassLabel) or holds_text(rows.features[name])]
    if len(worded) == 1:
        return worded[0]
    return names[0] if all(column == columns[0] for column in columns) else None


def _refuse_several(rows: Dataset, names: list[str]) -> NoReturn:
    table = rows.select_columns(names[:_MOST_ONE_HOT]).with_format("arrow")[:]
    numbers = [column for column in table.columns if not pa.types.is_string(column.type)]
    if len(numbers) == len(names):
        values = np.array([column.to_pylist() for column in numbers], float)
        if np.isin(values, (0, 1)).all() and (values.sum(axis=0) == 1).all():
            raise ValueError(
                f"the columns {listed(names)} hold a 1 for the class of each row and 0 for all others, expected one "
                f"column of labels; write it with pandas: table['label'] = table[{names[:4]}"
                f"{' + [...]' if len(names) > 4 else ''}].idxmax(axis=1)"
            )
    raise ValueError(f"several columns may hold the labels: {listed(names)}; choose one with --label_column")


def _all_unusable(rows: Dataset, names: list[str]) -> dict[str, str | None]:
    """Why each of some columns can't hold the labels, None for those that can; they are read at once."""
    features = rows.features  # `datasets` copies all of them each time it is asked
    plain = {name for name in names if isinstance(features[name], Value)}
    table = rows.select_columns(sorted(plain)).with_format("arrow")[:] if plain else {}
    return {
        name: _unusable_values(features[name], table[name]) if name in plain else _wrong_type(features[name])
        for name in names
    }


def _refuse_unusable(rows: Dataset, name: str, unusable: str | None) -> None:
    if unusable is not None:
        raise ValueError(
            f"label column {name!r} can't be used: {unusable}; expected class names, text or whole numbers; correct "
            f"it, or choose another of {_described(rows.features)} with --label_column"
        )


def _unusable(rows: Dataset, name: str) -> str | None:
    """Why a column called `label` or the like can't hold the labels; None if it can."""
    feature = rows.features[name]
    if not isinstance(feature, Value):
        return _wrong_type(feature)
    return _unusable_values(feature, rows.with_format("arrow")[name][:], called_label=True)


def _unusable_values(feature: Value, values: pa.ChunkedArray, called_label: bool = False) -> str | None:
    """Why the values of a column can't be labels; None if they can."""
    wrong = _wrong_type(feature) or _not_whole(feature, values)
    if wrong is not None:
        return wrong
    counted = {each["values"]: each["counts"] for each in values.value_counts().to_pylist()}
    given = [value for value in counted if is_label(value)]
    missing = len(values) - sum(counted[value] for value in given)
    if not given:
        return None if called_label else "no row has a value"
    if len(given) == 1 and not missing and not called_label:
        return f"all rows have the value {str(given[0])[:40]!r}"
    if missing > _MOST_MISSING * len(values):
        return f"{missing:,} of {len(values):,} rows have no value"
    if len(values) - missing >= _MANY_ROWS and len(given) > _MOST_DISTINCT * (len(values) - missing):
        return f"{len(given):,} different values in {len(values):,} rows, so it names images and not classes"
    several = _several_labels([value for value in given if isinstance(value, str)])
    return f"it holds several labels in one row, such as {several[:60]!r}" if several else None


def _several_labels(values: list[str]) -> str:
    """The first value that is made of other ones, as `cat|dog` of `cat` and `dog`; empty if there is none."""
    for separator in _SEPARATORS:
        joined = {value: {part.strip() for part in value.split(separator)} for value in values if separator in value}
        single = {value for value in values if separator not in value}
        made = [value for value, parts in joined.items() if parts <= single or (separator == "|" and parts & single)]
        if made and len(made) >= len(joined) / 2:
            return made[0]
    return ""


def _wrong_kind(rows: Dataset, name: str) -> str | None:
    """Why the type of a column is none of labels, or its numbers are not whole; None if neither is so."""
    feature = rows.features[name]
    return _wrong_type(feature) or _not_whole(feature, rows.select_columns(name).with_format("arrow")[:][name])


def _wrong_type(feature: Any) -> str | None:
    if isinstance(feature, ClassLabel):
        return None
    if not isinstance(feature, Value) or not re.match(r"u?int|float|string|large_string|bool|null", feature.dtype):
        return f"it holds {_kind(feature)}{_MANY if isinstance(feature, List) else ''}"
    return None


def _not_whole(feature: Any, values: pa.ChunkedArray) -> str | None:
    if isinstance(feature, Value) and feature.dtype.startswith("float"):
        different = values.unique().to_pylist()
        broken = [v for v in different if v is not None and not math.isnan(v) and not float(v).is_integer()]
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


def holds_images(rows: Dataset, name: str) -> bool:
    """Whether a column holds images or bytes that may be some."""
    return _may_hold_images(rows.features[name])


def is_called_label(rows: Dataset, name: str) -> bool:
    """Whether the name of a column says that it holds the labels."""
    return bool(_called_labels([name]))


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
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return False
    return value.strip() not in MISSING if isinstance(value, str) else value >= 0


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
