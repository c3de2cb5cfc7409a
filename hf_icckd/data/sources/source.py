"""What a source of images tells the loader."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple, NoReturn, Protocol

from datasets import Dataset, IterableDataset

from hf_icckd.data.sources.image_data import LeftOut
from hf_icckd.data.splits.words import Role
from hf_icckd.options.data import ImageDataArguments


class Piece(NamedTuple):
    """A split as it was found.

    Attributes:
        origin: Where it came from, in words.
        rows: Its rows, with all their columns.
    """

    origin: str
    rows: Dataset


@dataclass
class Reading:
    """What a source found.

    Attributes:
        pieces: Candidates for each split, the best first: of several test splits the first with labels is taken.
        label_origin: Where the labels are, in words; empty if a column holds them.
        table: Table that the columns are of, where it is not the source itself.
        left_out: What the source holds and no split does.
        notes: Decisions that a reader should know.
    """

    pieces: dict[Role, list[Piece]]
    label_origin: str = ""
    table: str = ""
    left_out: list[LeftOut] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


class Source(Protocol):
    """A place that images come from. Subclass it in a file of its own; `find_source` picks the one a user names.

    Attributes:
        mirrored: Whether a mirrored image still shows its class.
        image_column: Column of the images; None to find it by its type.
        label_column: Column of the labels; None to find it by its name and type.
        has_fine_labels: Whether a column `fine_label` holds finer classes than the labels.
        hub_id: Name of the data set on the Hub, if it comes from there.
    """

    mirrored: bool = True
    image_column: str | None = None
    label_column: str | None = None
    has_fine_labels: bool = False
    hub_id: str | None = None

    def read(self, options: ImageDataArguments) -> Reading:
        """Return what the source holds, read as the options say."""
        ...

    def read_unlabeled(self, options: ImageDataArguments) -> Reading:
        """Return images to be trained on without labels as the training split; here those of its training split."""
        return self.read(options)

    def streams(self, options: ImageDataArguments) -> Mapping[str, IterableDataset]:
        """Return the splits by name, to be read row by row; ValueError if that can't be done."""
        ...

    def revision(self, rows: Dataset) -> str | None:
        """Return the commit that a split was fetched from, if it is known."""
        return None


def refuse_to_stream(dataset: str) -> NoReturn:
    """Say that a data set of this package is not streamed."""
    raise ValueError(f"streaming is true but {dataset!r} comes with this package; leave it out")


def refuse_file_options(dataset: str, options: ImageDataArguments) -> None:
    """Raise ValueError if an option is given that only makes sense for files of images."""
    for name in ("labels", "label_pattern"):
        if getattr(options, name) is not None:
            raise ValueError(
                f"{name} is {getattr(options, name)!r}, but {dataset!r} is a table and not a folder of image files; "
                "choose its labels with --label_column"
            )


def reason(error: BaseException) -> str:
    """Return one line about the first of several chained errors: builders wrap it in one that says nothing."""
    while error.__cause__ is not None:
        error = error.__cause__
    return f"{type(error).__name__}: {' '.join(str(error).split())[:500]}"
