"""A loaded data set: its splits, classes and what a reader should know about it."""

from __future__ import annotations

import functools
import hashlib
from dataclasses import dataclass, field

import numpy as np
from datasets import Dataset, concatenate_datasets

from hf_icckd.data.labels.columns import FINE_LABEL, labels_of
from hf_icckd.data.sources.stream import StreamedSplit
from hf_icckd.data.splits.content import content_of
from hf_icckd.data.splits.duplicates import Duplicates, count_duplicates
from hf_icckd.data.splits.fingerprint import split_fingerprint

UNLABELED = "unlabeled"  # name of the split without labels
_FINGERPRINT_ROWS = 256


@dataclass(frozen=True)
class LeftOut:
    """Files or rows that a data set holds and no split does.

    Attributes:
        count: How many.
        reason: What they are and why they stay out, in words that follow the number.
        example: Name of one of them. It is shown in the log and never in a card, which may become public.
    """

    count: int
    reason: str
    example: str = ""


@dataclass
class ImageData:
    """A classification data set: every split has the columns `image` (undecoded) and `label` (class index).

    A split may have more columns, which nothing is trained on: `row`, the row before a split was cut, for error
    messages; `fine_label`, the class before classes were grouped; `content`, a hash of the stored bytes; and `group`,
    what no cut may tear apart.

    Attributes:
        name: Name, folder or Hub id that the user gave.
        label_names: Name of each class.
        train: Training split.
        test: Test split, for final metrics and never for choices.
        validation: Validation split, if asked for.
        mirrored: Whether a mirrored image still shows its class (not for digits).
        notes: Remarks for readers of the metrics, such as that a test split had to be cut.
        hub_id: Name on the Hub, if it comes from there.
        revision: Commit on the Hub, if known.
        origins: Where each split came from, in words: a folder, a file, a split of the source, or a cut.
        label_origin: Where the labels came from, and why from there.
        left_out: What the source holds and no split does.
        mirroring_doubt: Why a mirrored image may show another class, if the class names speak against it.
        pixel_range: Values of black and white in deep images; None for the range of their type.
        unlabeled: Images without labels, which are learned from too; their `label` is -1.
        unlabeled_only: Whether only those are trained on.

    Example:
        >>> from hf_icckd import load_image_data
        >>> data = load_image_data("digits", validation_fraction=0.1)
        >>> {name: len(split) for name, split in data.splits().items()}
        {'train': 1299, 'validation': 139, 'test': 359}
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
    origins: dict[str, str] = field(default_factory=dict)
    label_origin: str = ""
    left_out: list[LeftOut] = field(default_factory=list)
    mirroring_doubt: str = ""
    pixel_range: tuple[float, float] | None = None
    unlabeled: Dataset | None = None
    unlabeled_only: bool = False

    @functools.cached_property
    def trained(self) -> Dataset | StreamedSplit:
        """Rows that a student is trained on: the training split, then the images without labels."""
        if self.unlabeled is None or isinstance(self.train, StreamedSplit):
            return self.train
        columns = ["image", "label", "row"]
        parts = [self.train] * (not self.unlabeled_only) + [self.unlabeled]
        return concatenate_datasets([each.select_columns(columns) for each in parts])

    @property
    def streamed(self) -> bool:
        """Whether rows can only be read in order."""
        return isinstance(self.train, StreamedSplit)

    def splits(self) -> dict[str, Dataset | StreamedSplit]:
        """Return the existing splits by name."""
        splits = {
            "train": self.train, UNLABELED: self.unlabeled, "validation": self.validation, "test": self.test,
        }  # fmt: skip
        return {name: split for name, split in splits.items() if split is not None}

    def labels(self, split: str) -> np.ndarray:
        """(N,) int64 class indices of a split.

        Raises:
            ValueError: If the split is a stream.
        """
        rows = self.splits()[split]
        if isinstance(rows, StreamedSplit):
            raise ValueError(f"the {split} split is a stream, expected rows in a table; leave streaming out")
        return labels_of(rows)

    def fine_labels(self, split: str) -> np.ndarray | None:
        """(N,) int64 indices of finer classes, which training does not see; None if there are none."""
        rows = self.splits()[split]
        if isinstance(rows, StreamedSplit) or FINE_LABEL not in rows.column_names:
            return None
        return labels_of(rows, FINE_LABEL)

    def hashes(self) -> dict[str, np.ndarray] | None:
        """By split, an (N,) uint64 hash of the stored bytes of each image; None for streams.

        The first call reads all images; later ones don't.

        Raises:
            UnreadableImageError: If a file is missing.
        """
        return None if self.streamed else self._hashes

    @functools.cached_property
    def _hashes(self) -> dict[str, np.ndarray]:
        return {name: content_of(split, name) for name, split in self.splits().items() if isinstance(split, Dataset)}

    @functools.cached_property
    def duplicates(self) -> Duplicates | None:
        """Exact copies within and across the splits, and under two labels; None for streams."""
        hashes = self.hashes()
        return None if hashes is None else count_duplicates(hashes, {name: self.labels(name) for name in hashes})

    def fingerprint(self) -> str:
        """Hash of the images, labels and class names of all splits; of streams, only the first rows are read."""
        parts = []
        for name, split in self.splits().items():
            table = split.head(_FINGERPRINT_ROWS) if isinstance(split, StreamedSplit) else split
            parts.append(f"{name} {len(split)} {split_fingerprint(table)}")
        return hashlib.blake2b("\n".join([*parts, *self.label_names]).encode(), digest_size=16).hexdigest()


def file_of(rows: Dataset, row: int) -> str:
    """Name of the file that an image of a split comes from; empty if it has none."""
    stored = rows.select([row]).select_columns(["image"])[0]["image"]
    return (stored or {}).get("path") or ""
