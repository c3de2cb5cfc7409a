"""What a source of images tells the loader."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NoReturn, Protocol

from datasets import Dataset, IterableDataset


class Source(Protocol):
    """A place that images come from. Subclass it in a file of its own; `find_source` picks the one a user names.

    Attributes:
        mirrored: Whether a mirrored image still shows its class.
        image_column: Column of the images; None to find it by its type.
        label_column: Column of the labels; None to find it by its type.
        has_fine_labels: Whether a column `fine_label` holds finer classes than the labels.
        hub_id: Name of the data set on the Hub, if it comes from there.
    """

    mirrored: bool = True
    image_column: str | None = None
    label_column: str | None = None
    has_fine_labels: bool = False
    hub_id: str | None = None

    def splits(self) -> Mapping[str, Dataset]:
        """Return the splits by name."""
        ...

    def streams(self) -> Mapping[str, IterableDataset]:
        """Return the splits by name, to be read row by row; ValueError if that can't be done."""
        ...

    def revision(self, rows: Dataset) -> str | None:
        """Return the commit that a split was fetched from, if it is known."""
        return None


def refuse_to_stream(dataset: str) -> NoReturn:
    """Say that a data set of this package is not streamed."""
    raise ValueError(f"streaming is true but {dataset!r} comes with this package; leave it out")


def reason(error: BaseException) -> str:
    """Return one line about the first of several chained errors: builders wrap it in one that says nothing."""
    while error.__cause__ is not None:
        error = error.__cause__
    return f"{type(error).__name__}: {' '.join(str(error).split())[:500]}"
