"""Which split is which, by its name."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeVar

from datasets import Dataset, IterableDataset

from hf_icckd.data.sources.columns import is_label

TRAIN_SPLITS = ("train", "training")
VALIDATION_SPLITS = ("validation", "valid", "val", "dev")
TEST_SPLITS = ("test", "testing", "eval", *VALIDATION_SPLITS)
Split = TypeVar("Split", Dataset, IterableDataset)


def find_train(dataset: str, splits: Mapping[str, Split]) -> Split:
    """Return the training split: the one called so, or the only one there is."""
    names = [name for name in TRAIN_SPLITS if name in splits] or [name for name in splits if len(splits) == 1]
    if not names or names[0] in TEST_SPLITS:
        raise ValueError(f"dataset {dataset!r} has the splits {', '.join(splits)}, expected one called train")
    return splits[names[0]]


def find_test(splits: Mapping[str, Dataset], image_column: str, label_column: str) -> str | None:
    """Name of the first test split with labels: in competitions they are missing, empty or -1."""
    for name in TEST_SPLITS:
        has_columns = name in splits and {image_column, label_column} <= set(splits[name].column_names)
        if has_columns and any(is_label(label) for label in splits[name].unique(label_column)):
            return name
    return None


def find_streamed_test(splits: Mapping[str, IterableDataset], label_column: str) -> str | None:
    """Name of the first test split whose first row has a label."""
    for name in TEST_SPLITS:
        rows = splits.get(name)
        if rows is not None and label_column in (rows.features or {}):
            first = next(iter(rows.select_columns([label_column])), None)
            if first is not None and is_label(first[label_column]):
                return name
    return None
