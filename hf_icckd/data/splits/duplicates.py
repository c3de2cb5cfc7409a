"""Exact copies of images: within a split, in two splits, under two labels."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

# A copy in two splits stays in the first of these.
_KEPT_FIRST = ("test", "validation", "train", "unlabeled")


@dataclass(frozen=True)
class Duplicates:
    """How many images have the same stored bytes as another one.

    Attributes:
        within: By split, images that an earlier row of the same split holds already.
        across: By pair of splits, as in `test in train`: images of the first that the second holds too.
        two_labels: Images that stand under more than one label, in any split. One without a label contradicts none.
    """

    within: dict[str, int]
    across: dict[str, int]
    two_labels: int

    @property
    def any(self) -> bool:
        """Whether there is a copy at all."""
        return any([*self.within.values(), *self.across.values(), self.two_labels])

    def sentences(self) -> list[str]:
        """What a reader should know, without file names; empty if there are no copies."""
        texts = [
            f"Images of the {name} split that are copies of others in it: {count:,}."
            for name, count in self.within.items()
            if count
        ]
        for pair, count in self.across.items():
            first, _, second = pair.partition(" in ")
            if count:
                texts.append(f"Images of the {first} split that the {second} split holds too: {count:,}.")
        if self.two_labels:
            texts.append(f"Images under more than one label: {self.two_labels:,}.")
        return texts


class Kept(NamedTuple):
    """Which rows of a split stay when copies are dropped.

    Attributes:
        rows: Rows that stay, in order.
        copies: Rows that go because another row with the same image stays.
        two_labels: Rows that go because their image stands under more than one label.
    """

    rows: np.ndarray
    copies: np.ndarray
    two_labels: np.ndarray


def count_duplicates(hashes: Mapping[str, np.ndarray], labels: Mapping[str, np.ndarray]) -> Duplicates:
    """Count exact copies.

    Args:
        hashes: (N,) hash of each image, by split.
        labels: (N,) class indices, by split.

    Example:
        >>> hashes = {"train": np.array([1, 1, 2, 3]), "test": np.array([2, 4])}
        >>> count_duplicates(hashes, {"train": np.array([0, 0, 1, 1]), "test": np.array([0, 0])})
        Duplicates(within={'train': 1, 'test': 0}, across={'test in train': 1}, two_labels=2)
    """
    names = [name for name in _KEPT_FIRST if name in hashes]
    across = {
        f"{first} in {second}": int(np.isin(hashes[first], hashes[second]).sum())
        for index, first in enumerate(names)
        for second in names[index + 1 :]
    }
    contradicted = _contradicted(hashes, labels)
    return Duplicates(
        {name: len(values) - len(np.unique(values)) for name, values in hashes.items()},
        across,
        sum(int(np.isin(values, contradicted).sum()) for values in hashes.values()),
    )


def keep_one(hashes: Mapping[str, np.ndarray], labels: Mapping[str, np.ndarray]) -> dict[str, Kept]:
    """Choose the rows that stay if every image is to be there once, under one label.

    A copy in the test split stays there, then one in the validation split; within a split the first row stays. Of an
    image under two labels no copy stays, because nobody knows which label is right.

    Args:
        hashes: (N,) hash of each image, by split.
        labels: (N,) class indices, by split.
    """
    contradicted = _contradicted(hashes, labels)
    seen = np.empty(0, dtype=np.uint64)
    kept = {}
    for name in (name for name in _KEPT_FIRST if name in hashes):
        values = hashes[name]
        first = np.zeros(len(values), dtype=bool)
        first[np.unique(values, return_index=True)[1]] = True
        wrong = np.isin(values, contradicted)
        stays = first & ~wrong & ~np.isin(values, seen)
        kept[name] = Kept(*(np.flatnonzero(chosen) for chosen in (stays, ~stays & ~wrong, wrong)))
        seen = np.union1d(seen, values)
    return {name: kept[name] for name in hashes}


def copies(hashes: Mapping[str, np.ndarray]) -> Iterator[tuple[int, str, int]]:
    """Yield hash, split and row of every image that is there more than once, copies beside each other."""
    names = list(hashes)
    values = np.concatenate([hashes[name] for name in names])
    splits = np.repeat(np.arange(len(names)), [len(hashes[name]) for name in names])
    rows = np.concatenate([np.arange(len(hashes[name])) for name in names])
    unique, counts = np.unique(values, return_counts=True)
    repeated = np.flatnonzero(np.isin(values, unique[counts > 1]))
    for index in repeated[np.argsort(values[repeated], kind="stable")].tolist():
        yield int(values[index]), names[splits[index]], int(rows[index])


def _contradicted(hashes: Mapping[str, np.ndarray], labels: Mapping[str, np.ndarray]) -> np.ndarray:
    """Hashes of images that stand under more than one label."""
    values = np.concatenate(list(hashes.values()))
    classes = np.concatenate([labels[name] for name in hashes])
    values, classes = values[classes >= 0], classes[classes >= 0]
    _, index = np.unique(values, return_inverse=True)
    index = index.reshape(-1)
    lowest = np.full(index.max(initial=-1) + 1, np.iinfo(np.int64).max)
    highest = np.full(len(lowest), np.iinfo(np.int64).min)
    np.minimum.at(lowest, index, classes)
    np.maximum.at(highest, index, classes)
    return np.unique(values[(lowest != highest)[index]])
