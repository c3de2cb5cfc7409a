"""Columns of a table that say which split each row belongs to: `split`, `Usage`, `is_train`."""

from __future__ import annotations

import re
from collections.abc import Collection
from typing import Any

from hf_icckd.data.splits.words import Role, is_split_word, split_name
from hf_icckd.utils.text import listed

_NAMES = {"split", "splits", "subset", "partition", "usage", "phase", "set", "data_split", "dataset_split"}
# Columns of yes and no, and the split of the rows that say yes.
_YES: dict[str, Role] = {
    "is_train": "train", "istrain": "train", "is_training": "train", "is_training_image": "train", "is_test": "test",
    "istest": "test", "is_val": "validation", "is_validation": "validation",
}  # fmt: skip
_YES_OR_NO = {"1": True, "1.0": True, "true": True, "yes": True, "0": False, "0.0": False, "false": False, "no": False}
_MOST_VALUES = 50  # with more, a column is about something else


def is_called_split(name: str) -> bool:
    """Whether the name of a column says that it holds splits, whatever its values are."""
    return _plain(name) in _NAMES | set(_YES)


def splits_of_column(name: str, values: Collection[Any]) -> dict[Any, str] | None:
    """Return the name of the split for each value of a column; None if the column is about something else.

    Args:
        name: Name of the column.
        values: Its different values; missing ones don't count.

    Raises:
        ValueError: If its name says splits and its values are numbers, which don't say which split is which.

    Example:
        >>> splits_of_column("is_train", [0, 1]), splits_of_column("site", ["A", "B"])
        ({0: 'test', 1: 'train'}, None)
    """
    given = [value for value in values if value is not None and value != ""]
    called = _plain(name)
    if not 2 <= len(given) <= _MOST_VALUES:
        return None
    if called in _YES:
        said = {value: _YES_OR_NO.get(str(value).lower()) for value in given}
        if len(given) != 2 or set(said.values()) != {True, False}:
            return None
        role = _YES[called]
        return {value: role if yes else ("test" if role == "train" else "train") for value, yes in said.items()}
    if all(isinstance(value, str) and split_name(value) for value in given):
        roles = {found.role for value in given if (found := split_name(value))}
        sure = "train" in roles and len(roles) > 1 and all(map(is_split_word, given))
        return {value: value for value in given} if called in _NAMES or sure else None
    numbered = all(re.fullmatch(r"\d(\.0)?", str(value)) for value in given)
    if called in _NAMES - {"set", "subset"} and numbered and len(given) <= 3:
        raise ValueError(
            f"column {name!r} seems to say which split each row is, by the numbers {listed(sorted(map(str, given)))}, "
            "and not which number is which; write train, validation and test into it, or, if it is about something "
            "else, rename it"
        )
    return None


def _plain(name: str) -> str:
    return re.sub(r"[\W_]+", "_", name.strip().lower())
