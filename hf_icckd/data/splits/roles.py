"""Which split is which, by its name or by what the user says, and splits that have to be cut."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from datasets import Dataset, Value, concatenate_datasets

from hf_icckd.data.labels.columns import holds_text
from hf_icckd.data.sources.image_data import LeftOut
from hf_icckd.data.sources.source import Piece, Reading
from hf_icckd.data.splits.split_column import is_called_split, splits_of_column
from hf_icckd.data.splits.words import ROLES, Role, SplitName, split_name
from hf_icckd.options.data import ImageDataArguments
from hf_icckd.utils.text import listed, suggest


class Roles(NamedTuple):
    """Names of splits by what they are for.

    Attributes:
        train: Names of the splits to train on, which are joined.
        others: Candidates for validation and test, the best first; several names in one entry are joined.
        unused: All other names.
    """

    train: list[str]
    others: dict[Role, list[list[str]]]
    unused: list[str]


def given_splits(options: ImageDataArguments) -> dict[Role, list[str]]:
    """Return the splits that the options name."""
    given: dict[Role, list[str] | None] = {
        "train": options.train_split,
        "validation": options.validation_split,
        "test": options.test_split,
    }
    return {role: names for role, names in given.items() if names}


def assign_roles(dataset: str, names: Sequence[str], options: ImageDataArguments) -> Roles:
    """Decide which of several named splits are for training, validation and test.

    Args:
        dataset: Name of the data set, for errors.
        names: Names of its splits, or of the files that may be splits.
        options: They may name splits, or say that no name is one of a split.

    Raises:
        ValueError: If no split is for training, or a split that an option names is not there.
    """
    given = given_splits(options)
    chosen = {role: [_find(dataset, name, names, role) for name in wanted] for role, wanted in given.items()}
    used = {name for found in chosen.values() for name in found}
    rest = [name for name in names if name not in used]
    if options.splits == "none" and not given:
        return Roles(list(names), {}, [])
    by_words = _by_words(rest)
    if not chosen.get("train") and not by_words.get("train") and len(rest) == 1 and split_name(rest[0]) is None:
        by_words["train"] = [rest]
    train = chosen.get("train") or next(iter(by_words.get("train", [])), [])
    if not train:
        raise ValueError(
            f"dataset {dataset!r} has the splits {listed(names)}, expected one called train; choose one with "
            f"--train_split, for example --train_split {names[0]}"
        )
    others: dict[Role, list[list[str]]] = {
        role: [chosen[role]] if role in chosen else by_words.get(role, []) for role in ROLES if role != "train"
    }
    used = {*train, *(name for candidates in others.values() for group in candidates for name in group)}
    return Roles(train, others, [name for name in names if name not in used])


def _find(dataset: str, wanted: str, names: Sequence[str], role: Role) -> str:
    same = [name for name in names if name == wanted] or [n for n in names if n.lower() == wanted.lower()]
    if len(same) != 1:
        raise ValueError(
            f"{role}_split is {wanted!r}, expected a split of {dataset!r}: {listed(names)}{suggest(wanted, names)}"
        )
    return same[0]


def _by_words(names: Sequence[str]) -> dict[Role, list[list[str]]]:
    """Candidates for each split by the words in the names: plain words first, then those with other words beside."""
    found: dict[Role, dict[tuple[int, int], list[str]]] = {}
    for name in names:
        split: SplitName | None = split_name(name)
        if split is not None:
            found.setdefault(split.role, {}).setdefault((len(split.rest), split.rank), []).append(name)
    return {role: [ranked[key] for key in sorted(ranked)] for role, ranked in found.items()}


def _by_column(rows: Dataset, options: ImageDataArguments) -> tuple[dict[str, Dataset], list[LeftOut]]:
    """Splits that a column such as `split` names, and the rows it names none for; nothing if no column does."""
    found: dict[str, dict[Any, str]] = {}
    for column, feature in rows.features.items():
        may_say = holds_text(feature) or (isinstance(feature, Value) and is_called_split(column))
        if not may_say or column == options.label_column:
            continue
        said = splits_of_column(column, rows.unique(column))
        if said is not None:
            found[column] = said
    if len(found) > 1:
        raise ValueError(
            f"the columns {listed(list(found))} say which split each row is, expected one; remove the others"
        )
    for column, said in found.items():
        cells = np.array([said.get(value, "") for value in rows[column][:]], dtype=object)
        left = int((cells == "").sum())
        rest = rows.remove_columns(column)
        splits = {name: rest.select(np.flatnonzero(cells == name)) for name in dict.fromkeys(said.values())}
        return splits, [LeftOut(left, f"rows whose column {column!r} names no split")] if left else []
    return {}, []


def named_reading(dataset: str, splits: Mapping[str, Dataset], options: ImageDataArguments, what: str) -> Reading:
    """Make a reading of named splits.

    Args:
        dataset: Name of the data set, for errors.
        splits: Splits by name.
        options: Options that name splits.
        what: What a split is in this source, such as `split` or `file`.
    """
    splits = {name: rows.with_format(None) for name, rows in splits.items()}
    nameless: list[LeftOut] = []
    if len(splits) == 1 and options.splits == "auto":
        (name, rows), *_ = splits.items()
        by_column, nameless = _by_column(rows, options)
        what, splits = (f"{what} {name}, rows of", by_column) if by_column else (what, splits)
    roles = assign_roles(dataset, list(splits), options)

    def piece(names: list[str]) -> Piece:
        rows = splits[names[0]] if len(names) == 1 else concatenate_datasets([splits[name] for name in names])
        return Piece(f"{what} {listed(names)}", rows)

    pieces: dict[Role, list[Piece]] = {"train": [piece(roles.train)]}
    for role, candidates in roles.others.items():
        pieces[role] = [piece(names) for names in candidates]
    unused = "which no word and no option calls a split"
    left_out = nameless + [LeftOut(len(splits[name]), f"rows of {name}, {unused}") for name in roles.unused]
    return Reading(pieces, left_out=left_out)
