"""From labels of any type to class indices and class names, and what is wrong with them."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from typing import Any

import numpy as np
from datasets import ClassLabel, Dataset

from hf_icckd.data.labels.columns import MISSING, is_label, labels_of
from hf_icckd.data.sources.image_data import LeftOut
from hf_icckd.utils.text import listed


def index_labels(splits: dict[str, Dataset], column: str) -> tuple[dict[str, Dataset], list[str]]:
    """Turn labels of any type into class indices, -1 for none; all splits together give the class names.

    Args:
        splits: Splits with a column `label`.
        column: Name of that column in the source, for errors.

    Raises:
        ValueError: If splits differ in type or in named classes, or names can hardly be told apart.
    """
    splits = {name: _by_name(split, splits["train"]) for name, split in splits.items()}
    given = [getattr(split.features["label"], "names", None) for split in splits.values()]
    check_same_names(given, column)
    if given[0] is not None:
        return splits, given[0]
    cells = {name: [_plain(value) for value in split["label"][:]] for name, split in splits.items()}
    values = {value for column_cells in cells.values() for value in column_cells if value is not None}
    if len({isinstance(value, str) for value in values}) > 1:
        raise ValueError(
            f"column {column!r} holds text in one split and numbers in another, expected the same in all; "
            "convert one, or choose splits that agree with --train_split and --test_split"
        )
    index = {value: position for position, value in enumerate(sorted(values))}
    names = [str(value) for value in index]
    check_distinct(names, column)
    # Replaced, not mapped: `map` would write all images to disk once more.
    for name, split in splits.items():
        labels = np.array([-1 if value is None else index[value] for value in cells[name]], dtype=np.int64)
        splits[name] = relabel(split, labels, names)
    return splits, names


def _by_name(split: Dataset, train: Dataset) -> Dataset:
    """Number the classes of a split as those of training, if their names are the same in another order or form."""
    known = getattr(train.features["label"], "names", None)
    own = getattr(split.features["label"], "names", None)
    if known is None or own == known or len(set(known)) < len(known):
        return split
    if own is not None:
        names = [own[label] if 0 <= label < len(own) else None for label in labels_of(split)]
        if not set(own) <= set(known) or any(label >= len(own) for label in labels_of(split)):
            return split
    else:
        names = [value if is_label(value) else None for value in split["label"]]
        if not all(name is None or name in known for name in names):
            return split
    index = {name: position for position, name in enumerate(known)}
    return relabel(split, np.array([-1 if name is None else index[name] for name in names], dtype=np.int64), known)


def relabel(split: Dataset, labels: np.ndarray, names: list[str]) -> Dataset:
    """Replace the column `label` by (N,) class indices with these names, -1 for none."""
    if "label" in split.column_names:
        split = split.remove_columns("label")
    return split.add_column("label", labels.astype(np.int64), feature=ClassLabel(names=names))  # type: ignore[arg-type]


def _plain(value: Any) -> Any:
    """A label as text or whole number; None if it is missing or negative."""
    if not is_label(value):
        return None
    return value if isinstance(value, str | bool) else int(value)


def same_name(name: str) -> str:
    """Return a name without case, spaces and Unicode form; a single letter as it is.

    Example:
        >>> same_name("Big  Cat") == same_name("big cat"), same_name("a") == same_name("A")
        (True, False)
    """
    return name if len(name) == 1 else "".join(unicodedata.normalize("NFKC", name).casefold().split())


def check_distinct(names: Sequence[str], column: str) -> None:
    """Raise ValueError if names differ only in case, spaces or Unicode form: they are likely one class."""
    if all(len(name) == 1 for name in names):
        return  # letters, of which `a` and `A` may be two classes
    alike: dict[str, list[str]] = {}
    for name in names:
        alike.setdefault(same_name(name), []).append(name)
    doubtful = [" and ".join(map(repr, same)) for same in alike.values() if len(same) > 1]
    if doubtful:
        raise ValueError(
            f"class names of {column!r} differ only in case, spaces or Unicode form: {listed(doubtful, 4)}; give each "
            "class one name"
        )


def check_same_names(names: list[list[str] | None], column: str) -> None:
    """Raise ValueError unless all splits name the same classes in the same order, or none names any."""
    other = next((other for other in names if other != names[0]), names[0])
    if other != names[0]:
        shown = " and ".join("no names" if own is None else listed(own, 5) for own in (names[0], other))
        raise ValueError(
            f"the splits give column {column!r} different classes ({shown}), expected the same names and order; "
            "correct one, or choose splits that agree with --train_split and --test_split"
        )


def has_labels(rows: Dataset, column: str) -> bool:
    """Whether any row of a split has a label: in competitions they are missing, empty or -1 in the test split."""
    return column in rows.column_names and any(is_label(value) for value in rows.unique(column))


def without_missing(split: Dataset, name: str, missing_labels: str) -> tuple[Dataset, LeftOut | None]:
    """Leave out rows without a label if that is asked for.

    Args:
        split: Split with class indices in `label`, -1 for none.
        name: Name of the split, for errors.
        missing_labels: `error` or `skip`.

    Raises:
        ValueError: If labels are missing and that is an error.
    """
    missing = np.flatnonzero(labels_of(split) < 0)
    if not len(missing):
        return split, None
    if missing_labels != "skip":
        raise ValueError(
            f"{len(missing):,} of {len(split):,} rows of the {name} split have no label (the first is row "
            f"{missing[0]}): the cell is empty, negative, or one of {', '.join(sorted(MISSING - {''}))}; fill "
            "them in, rename a class that is called so, or leave such rows out with --missing_labels skip"
        )
    kept = split.select(np.flatnonzero(labels_of(split) >= 0))
    return kept, LeftOut(len(missing), f"rows of the {name} split without a label", f"row {missing[0]}")


def check_labels(split: Dataset, name: str, label_names: list[str]) -> None:
    """Raise ValueError unless a split has images, all with a valid label, and there are at least two classes."""
    labels = labels_of(split)
    if len(labels) == 0:
        raise ValueError(f"the {name} split is empty, expected images; give a larger data set")
    wrong = np.flatnonzero(labels >= len(label_names))
    if len(wrong):
        raise ValueError(
            f"row {wrong[0]} of the {name} split has the label {labels[wrong[0]]} (and {len(wrong) - 1:,} more rows "
            f"have one without a name), expected 0 to {len(label_names) - 1}; correct or remove such rows"
        )
    check_classes(label_names)


def check_classes(label_names: list[str]) -> None:
    """Raise ValueError unless there are at least two classes."""
    if len(label_names) < 2:
        raise ValueError(
            f"the data set has the one class {label_names[0]!r}, expected two or more; add images of another class"
            if label_names
            else "the data set has no class, expected two or more; check the labels"
        )
