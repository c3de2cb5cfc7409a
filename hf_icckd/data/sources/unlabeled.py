"""Images without labels beside a labelled data set: `--unlabeled_dataset`."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
from datasets import ClassLabel, Dataset, Image

from hf_icckd.data.labels.columns import find_image_column, is_called_label
from hf_icckd.data.readable import leave_out_unreadable
from hf_icckd.data.sampling import balanced_subset
from hf_icckd.data.sources.image_data import UNLABELED, ImageData, LeftOut
from hf_icckd.data.sources.source import Source
from hf_icckd.data.splits.content import content_of
from hf_icckd.data.splits.fingerprint import stored_images
from hf_icckd.options.data import ImageDataArguments, UnlabeledDataArguments
from hf_icckd.utils.atomic_files import user_path


def add_unlabeled(data: ImageData, source: Source, options: UnlabeledDataArguments) -> ImageData:
    """Return the data set with images without labels as a further split, which training reads after the labelled one.

    Args:
        data: The labelled data set.
        source: Where the images without labels come from.
        options: Options of both.

    Raises:
        ValueError: If there is no image in it, none that can be read, or an image of the labelled data set.
    """
    name = str(options.unlabeled_dataset)
    if name == options.dataset or _same_file(name, options.dataset):
        raise ValueError(
            f"unlabeled_dataset is {name!r}, which is the dataset itself, expected other images; leave it out"
        )
    reading = source.read_unlabeled(
        ImageDataArguments(name, bad_images=options.bad_images, pixel_range=options.pixel_range)
    )
    piece = reading.pieces["train"][0]
    if len(piece.rows) == 0:
        raise ValueError(f"unlabeled_dataset {name!r} holds no image; name a folder or table that does")
    ignored = [column for column in piece.rows.column_names if _says_classes(piece.rows, column)]
    notes = [f"Labels of the unlabelled images are ignored: column {each!r}." for each in ignored]
    rows = _as_split(piece.rows, source.image_column, data.label_names)
    left_out = [replace(each, reason=f"{each.reason} (unlabelled images)") for each in reading.left_out]
    _refuse_shared(rows, data, name)
    if options.bad_images == "skip":
        kept, unreadable = leave_out_unreadable({UNLABELED: rows}, options.pixel_limits())
        rows, left_out = kept[UNLABELED], left_out + unreadable
    if options.duplicates == "drop":
        rows, copies = _without_copies(rows, data)
        left_out += copies
    if options.max_unlabeled_samples is not None and options.max_unlabeled_samples < len(rows):
        left_out.append(LeftOut(len(rows) - options.max_unlabeled_samples, "unlabelled images above their limit"))
        rows = rows.select(balanced_subset(np.zeros(len(rows), dtype=np.int64), options.max_unlabeled_samples))
    return replace(
        data,
        unlabeled=rows,
        unlabeled_only=options.unlabeled_only,
        origins=data.origins | {UNLABELED: piece.origin},
        notes=[*data.notes, *reading.notes, *notes],
        left_out=[*data.left_out, *left_out],
    )


def _same_file(first: str, second: str) -> bool:
    one, other = user_path(first), user_path(second)
    return one.exists() and other.exists() and one.samefile(other)


def _says_classes(rows: Dataset, column: str) -> bool:
    return isinstance(rows.features[column], ClassLabel) or is_called_label(rows, column)


def _as_split(rows: Dataset, image_column: str | None, label_names: list[str]) -> Dataset:
    """The columns of a training split: `image`, `label` with -1 in each row, and `row`."""
    column = find_image_column(rows, image_column)
    rows = rows.select_columns([column])
    if column != "image":
        rows = rows.rename_column(column, "image")
    rows = rows.cast_column("image", Image(decode=False))
    labels = np.full(len(rows), -1)
    rows = rows.add_column("label", labels, feature=ClassLabel(names=label_names))  # type: ignore[arg-type]
    return rows.add_column("row", np.arange(len(rows)))  # type: ignore[arg-type]


def _files(rows: Dataset) -> set[str]:
    """Paths of the images that are files of their own."""
    return {
        str(Path(path).absolute())
        for _, contents, paths in stored_images(rows)
        for path in paths.filter(contents.is_null()).drop_null().to_pylist()
    }


def _refuse_shared(rows: Dataset, data: ImageData, name: str) -> None:
    """Raise ValueError if files of the labelled data set are among the unlabelled ones."""
    own = _files(rows)
    for split, labelled in data.splits().items():
        shared = sorted(own & _files(labelled)) if isinstance(labelled, Dataset) and own else []
        if shared:
            raise ValueError(
                f"unlabeled_dataset {name!r} holds {len(shared):,} images of the {split} split, such as "
                f"{shared[0]!r}, expected other images; name a folder beside those of the dataset"
            )


def _without_copies(rows: Dataset, data: ImageData) -> tuple[Dataset, list[LeftOut]]:
    """Keep one copy of every unlabelled image, and none of an image of another split."""
    hashes = content_of(rows, UNLABELED)
    others = np.concatenate([np.empty(0, dtype=np.uint64), *(data.hashes() or {}).values()])
    first = np.zeros(len(hashes), dtype=bool)
    first[np.unique(hashes, return_index=True)[1]] = True
    kept = np.flatnonzero(first & ~np.isin(hashes, others))
    if len(kept) == 0:
        raise ValueError(
            "duplicates is 'drop' and every unlabelled image is a copy of one with a label, expected some that are "
            "not; give other images with --unlabeled_dataset"
        )
    count = len(hashes) - len(kept)
    reason = "unlabelled images that are exact copies of images that are kept"
    return rows.select(kept), [LeftOut(count, reason)] if count else []
