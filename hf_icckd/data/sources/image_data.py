"""A loaded data set: its splits, classes and what a reader should know about it."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field

import numpy as np
from datasets import Dataset

from hf_icckd.data.sources.classes import FINE_LABEL
from hf_icckd.data.sources.columns import labels_of
from hf_icckd.data.sources.fingerprint import split_fingerprint
from hf_icckd.data.sources.stream import StreamedSplit

_FINGERPRINT_ROWS = 256


@dataclass
class ImageData:
    """A classification data set: every split has the columns `image` (undecoded) and `label` (class index).

    A split may have two more: `row`, where the image stood before a split was cut, for errors, and `fine_label`, what
    the label was before classes were grouped, which nothing is trained on.

    Attributes:
        name: What the user asked for.
        label_names: Name of each class.
        train: Training split.
        test: Test split: read for figures, never for choices.
        validation: Validation split, if asked for.
        mirrored: Whether a mirrored image still shows its class (not so for digits).
        notes: What a reader of the figures should know, such as a test split that had to be cut.
        hub_id: Its name on the Hub, if it comes from there.
        revision: Commit of it there, where it is known.
    """

    name: str
    label_names: list[str]
    train: Dataset | StreamedSplit
    test: Dataset | StreamedSplit
    validation: Dataset | None = None
    mirrored: bool = True
    notes: list[str] = field(default_factory=list)
    hub_id: str | None = None
    revision: str | None = None

    @property
    def streamed(self) -> bool:
        """Whether rows can only be read one after the other."""
        return isinstance(self.train, StreamedSplit)

    def splits(self) -> dict[str, Dataset]:
        """The splits there are, by name."""
        splits = {"train": self.train, "validation": self.validation, "test": self.test}
        return {name: split for name, split in splits.items() if split is not None}

    def labels(self, split: str) -> np.ndarray:
        """(N,) int64 class indices of a split."""
        return labels_of(self.splits()[split])

    def fine_labels(self, split: str) -> np.ndarray | None:
        """(N,) int64 finer class indices of a split, which training does not see; None if there are none."""
        rows = self.splits()[split]
        return None if self.streamed or FINE_LABEL not in rows.column_names else labels_of(rows, FINE_LABEL)

    def fingerprint(self) -> str:
        """What identifies images, labels and classes of all splits; of streams, their first rows are looked at."""
        parts = [
            f"{name} {len(split)} {split_fingerprint(split.head(_FINGERPRINT_ROWS) if self.streamed else split)}"
            for name, split in self.splits().items()
        ]
        return hashlib.blake2b("\n".join([*parts, *self.label_names]).encode(), digest_size=16).hexdigest()
