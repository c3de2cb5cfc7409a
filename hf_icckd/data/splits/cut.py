"""Cut a split off the training images so that the cut stays where it is when the data set changes."""

from __future__ import annotations

import hashlib
from typing import NamedTuple

import numpy as np
from datasets import Dataset

from hf_icckd.data.labels.columns import labels_of
from hf_icckd.data.splits.content import content_of, with_content
from hf_icckd.utils.text import percent

GROUP = "group"  # column of the text of a group that no cut may tear apart
_NAMED = 5


class CutRows(NamedTuple):
    """Which rows are cut off.

    Attributes:
        taken: (N,) whether a row is cut off.
        lowest: Classes without any image below the fraction, which got their lowest one.
        highest: Classes with all images below the fraction, which kept their highest one.
    """

    taken: np.ndarray
    lowest: list[int]
    highest: list[int]


class CutSplit(NamedTuple):
    """What a cut did, in words.

    Attributes:
        splits: All splits, with the new one.
        origin: Where the images of the new split came from.
        share: How many images that are, and by what they were chosen.
        notes: Classes that the cut treated in another way.
    """

    splits: dict[str, Dataset]
    origin: str
    share: str
    notes: list[str]


def positions(values: np.ndarray, key: str) -> np.ndarray:
    """Place of each value in [0, 1), by a keyed hash: BLAKE2b with the key, 53 bits.

    Args:
        values: (N,) uint64 hashes of images, or (N,) text of groups.
        key: Name of the split that is cut. Each split has places of its own.

    Returns:
        (N,) float64, the same for equal values.
    """
    unique, inverse = np.unique(values, return_inverse=True)
    if unique.dtype.kind == "u":
        texts = [int(value).to_bytes(8, "little") for value in unique]
    else:
        texts = [str(value).encode(errors="surrogatepass") for value in unique]
    digests = [hashlib.blake2b(text, digest_size=8, key=key.encode()).digest() for text in texts]
    words = np.array([int.from_bytes(digest, "little") for digest in digests], dtype=np.uint64)
    return ((words >> np.uint64(11)).astype(np.float64) / 2**53)[inverse.reshape(-1)]


def cut_rows(labels: np.ndarray, values: np.ndarray, fraction: float, key: str) -> CutRows:
    """Cut off the rows whose place is below the fraction.

    A class that would get none gets its lowest one, and a class that would keep none keeps its highest one; the only
    value of a class is never cut off. Rows of equal value stay together. Other rows don't matter: adding, removing,
    renaming or reordering them moves none across the cut, except in classes that needed their lowest or highest one.

    Args:
        labels: (N,) class indices.
        values: (N,) hashes of images or text of groups; see `positions`.
        fraction: Share to cut off, above 0 and below 1. A larger one takes all that a smaller one takes.
        key: Name of the new split.
    """
    units, unit_of = np.unique(values, return_inverse=True)
    unit_of = unit_of.reshape(-1)
    place = positions(units, key)
    taken = place < fraction
    # Every class with each of its values once, by place.
    pairs = np.unique(np.stack([labels, unit_of]), axis=1)
    pairs = pairs[:, np.lexsort((pairs[1], place[pairs[1]], pairs[0]))]
    classes, starts = np.unique(pairs[0], return_index=True)
    values_of = dict(zip(classes.tolist(), np.split(pairs[1], starts[1:]), strict=True))
    alone = {int(own[0]) for own in values_of.values() if len(own) == 1}
    # Both steps look at all classes at once, so that their order doesn't matter.
    lowest = {label: own for label, own in values_of.items() if not taken[own].any()}
    for label, own in list(lowest.items()):
        free = [unit for unit in own.tolist() if unit not in alone]
        if free:
            taken[free[0]] = True
        else:
            del lowest[label]
    highest = {label: own for label, own in values_of.items() if taken[own].all()}
    for own in highest.values():
        taken[own[-1]] = False
    return CutRows(
        taken[unit_of],
        [label for label, own in lowest.items() if taken[own].any()],
        [label for label, own in highest.items() if len(own) > 1],
    )


def cut_off(splits: dict[str, Dataset], name: str, fraction: float, label_names: list[str]) -> CutSplit:
    """Cut a new split off the training split, by the content of each image or by its group.

    Args:
        splits: Splits with the columns `image` and `label`; with a column `group`, groups stay together.
        name: Name of the new split.
        fraction: Share to cut off.
        label_names: Name of each class.

    Raises:
        ValueError: If no class has two different images, there is only one group, or an image has no group.
    """
    train = splits["train"]
    grouped = GROUP in train.column_names
    if not grouped:
        train = with_content(train, "train")
    values = groups_of(train, "train") if grouped else content_of(train, "train")
    labels = labels_of(train)
    cut = cut_rows(labels, values, fraction, name)
    if not cut.taken.any():
        raise ValueError(
            f"the {name} split can't be cut off a training split with one "
            f"{'group' if grouped else 'image'} per class; expected two or more of some class"
        )
    taken, kept = np.flatnonzero(cut.taken), np.flatnonzero(~cut.taken)
    chosen = "by the group of each image" if grouped else "by the content of each image"
    return CutSplit(
        {**splits, "train": train.select(kept), name: train.select(taken)},
        f"cut off the training images: {100 * fraction:g} % {chosen}",
        f"{len(taken):,} images ({percent(len(taken) / len(labels))}, asked for {100 * fraction:g} %) were cut off "
        f"the training images {chosen}, so that they stay the same when others are added or removed.",
        _notes_on_classes(cut, name, label_names, "group" if grouped else "image"),
    )


def without_fold(splits: dict[str, Dataset], number: int, folds: int, label_names: list[str]) -> dict[str, Dataset]:
    """Leave one of several parts of the training split out, by the content of each image or by its group.

    Together the parts are all images, and each image is in one of them, whatever others there are.

    Args:
        splits: As for `cut_off`.
        number: Which part, from 0.
        folds: How many there are.
        label_names: Name of each class.

    Raises:
        ValueError: If a class would have no image left, or nothing would be left out.
    """
    train = splits["train"] if GROUP in splits["train"].column_names else with_content(splits["train"], "train")
    values = groups_of(train, "train") if GROUP in train.column_names else content_of(train, "train")
    left_out = (positions(values, "fold") * folds).astype(np.int64) == number
    labels = labels_of(train)
    gone = np.setdiff1d(labels, labels[~left_out])
    if len(gone) or not left_out.any():
        what = f"all images of class {label_names[gone[0]]!r}" if len(gone) else "no image"
        raise ValueError(
            f"fold is {number}/{folds}, which would leave out {what}; take another number of parts, fewer for classes "
            "of few images"
        )
    return {**splits, "train": train.select(np.flatnonzero(~left_out))}


def groups_of(rows: Dataset, name: str) -> np.ndarray:
    """(N,) text of the group of each row.

    Raises:
        ValueError: If a row has no group.
    """
    groups = rows.with_format("arrow")[GROUP][:].to_pylist()
    missing = [row for row, group in enumerate(groups) if group is None]
    if missing:
        raise ValueError(
            f"row {missing[0]} of the {name} split has no group (nor have {len(missing) - 1:,} more rows), expected "
            "one for every image: it says which belong together; fill the column in, or leave --group_column out"
        )
    return np.array(groups, dtype=object).astype(str)


def notes_on_groups(splits: dict[str, Dataset], column: str) -> list[str]:
    """Warn about groups whose images are in two splits of the source.

    Args:
        splits: Splits with the column `group`.
        column: Name of the column that the groups come from.
    """
    groups = {name: set(groups_of(rows, name)) for name, rows in splits.items() if GROUP in rows.column_names}
    notes = []
    names = [name for name in ("train", "validation", "test") if name in groups]
    for index, first in enumerate(names):
        for second in names[index + 1 :]:
            shared = sorted(groups[first] & groups[second])
            if shared:
                notes.append(
                    f"Warning: {len(shared):,} of {len(groups[second]):,} groups ({column}) of the {second} split are "
                    f"in the {first} split too, so its metrics may be too good."
                )
    return notes


def _notes_on_classes(cut: CutRows, name: str, label_names: list[str], unit: str) -> list[str]:
    notes = []
    for labels, text in (
        (cut.lowest, f"had no {unit} below the fraction for the {name} split, and got the lowest one each"),
        (cut.highest, f"had each {unit} below it, and kept the highest one each for training"),
    ):
        if labels:
            named = ", ".join(label_names[label] for label in labels[:_NAMED])
            more = ", ..." if len(labels) > _NAMED else ""
            classes = "1 class" if len(labels) == 1 else f"{len(labels):,} classes"
            notes.append(f"{classes} {text}: {named}{more}. Such small classes may change when images are added.")
    return notes
