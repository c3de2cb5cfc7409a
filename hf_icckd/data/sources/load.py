"""From the name of a data set to its splits: `digits`, `synthetic`, a folder or a Hub id."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from datasets import ClassLabel, Dataset

from hf_icckd.data.readable import leave_out_unreadable
from hf_icckd.data.sampling import balanced_subset
from hf_icckd.data.sources.built_in import BUILT_IN
from hf_icckd.data.sources.class_names import check_classes, check_labels, has_labels, index_labels, without_missing
from hf_icckd.data.sources.classes import group_classes, read_groups, select_classes
from hf_icckd.data.sources.columns import FINE_LABEL, Columns, find_columns, labels_of, reduce_columns
from hf_icckd.data.sources.folder import Folder
from hf_icckd.data.sources.hub import Hub
from hf_icckd.data.sources.image_data import ImageData, LeftOut
from hf_icckd.data.sources.load_stream import load_stream
from hf_icckd.data.sources.mirroring import mirroring_doubt
from hf_icckd.data.sources.source import Reading, Source
from hf_icckd.data.sources.splits import cut
from hf_icckd.options.data import ImageDataArguments
from hf_icckd.utils.atomic_files import user_path


def load_image_data(dataset: str | Path | ImageDataArguments, **options: Any) -> ImageData:
    """Load a data set and find its images, labels and splits.

    Args:
        dataset: `digits` (embedded), `synthetic` (generated), a folder (images in one folder per class, parquet or
            arrow files, or what `datasets` saved to disk) or a Hub id such as `uoft-cs/cifar100`; or an object with
            all options.
        **options: Fields of `ImageDataArguments`, documented there. `config_name` is short for `dataset_config_name`,
            and `label_groups` may also be a dictionary from the name of each group to the names of its classes.

    Raises:
        ValueError: If there is no such data set, no training split, or no single image and label column; if a label
            is missing or negative, there are fewer than two classes, or an option is out of range.

    Example:
        >>> data = load_image_data("digits", max_train_samples=100)
        >>> len(data.train), len(data.test), data.label_names[:3]
        (100, 359, ['0', '1', '2'])
    """
    groups = None
    if not isinstance(dataset, ImageDataArguments):
        if "config_name" in options:
            options["dataset_config_name"] = options.pop("config_name")
        if not isinstance(options.get("label_groups"), str):
            groups = options.pop("label_groups", None)
        dataset = ImageDataArguments(str(dataset), **options)
    elif options:
        raise TypeError(
            f"options are given as an object and as keywords, expected one; leave out {', '.join(options)}"
        )
    if dataset.label_groups is not None:
        groups = read_groups(dataset.label_groups)
    source = find_source(dataset.dataset, dataset.dataset_config_name)
    return load_stream(source, dataset, groups) if dataset.streaming else _load_tables(source, dataset, groups)


def find_source(dataset: str, config_name: str | None = None) -> Source:
    """Return the source for a name that a user gave.

    Raises:
        ValueError: If it can't be a source, or has no configurations and one is given.
    """
    path = user_path(dataset)
    source: Source
    if dataset in BUILT_IN:
        source = BUILT_IN[dataset]()
    elif dataset and path.exists():
        source = Folder(path)
    elif not re.fullmatch(r"[\w-][\w.-]*(/[\w.-]+)?", dataset):
        raise ValueError(f"dataset folder {dataset!r} does not exist; check the path")
    else:
        return Hub(dataset, config_name)
    if config_name is not None:
        raise ValueError(f"configuration {config_name!r} of {dataset!r}: only Hub data sets have them; leave it out")
    return source


def _load_tables(source: Source, options: ImageDataArguments, groups: dict[str, list[str]] | None) -> ImageData:
    reading = source.read(options)
    train = reading.pieces["train"][0].rows
    columns = find_columns(
        train, options.image_column or source.image_column, options.label_column or source.label_column
    )
    notes, left_out = list(reading.notes), list(reading.left_out)
    splits, origins = _choose_splits(reading, columns, options, notes, left_out)
    kept = [FINE_LABEL] if source.has_fine_labels and columns.label != FINE_LABEL else []
    splits = {name: reduce_columns(split, columns, kept, options.group_column) for name, split in splits.items()}
    splits, label_names = index_labels(splits, columns.label)
    for name in list(splits):
        splits[name], missing = without_missing(splits[name], name, options.missing_labels)
        left_out += [] if missing is None else [missing]
    _check_all_labels(splits, label_names)
    if options.classes:
        splits, label_names = select_classes(splits, label_names, options.classes)
        _check_all_labels(splits, label_names)
    doubt = mirroring_doubt(label_names) if source.mirrored else ""
    pixel_range = options.pixel_limits()
    if options.bad_images == "skip":
        splits, unreadable = leave_out_unreadable(splits, pixel_range)
        left_out += unreadable
    if "test" not in splits:
        notes.append(_cut_test(splits, options.test_fraction))
        origins["test"] = f"{options.test_fraction:.0%} of the training images, cut off"
    if options.validation_fraction:
        splits["train"], splits["validation"] = cut("validation", splits["train"], options.validation_fraction)
        origins["validation"] = f"{options.validation_fraction:.0%} of the training images, cut off"
    for name, split in splits.items():
        limit = options.max_train_samples if name == "train" else options.max_eval_samples
        if limit is not None and limit < len(split):
            splits[name] = split.select(balanced_subset(labels_of(split), limit))
    if groups:
        splits, label_names = group_classes(splits, label_names, groups)
        check_classes(label_names)
    notes += _unmatched_classes(splits, label_names, complete=options.max_eval_samples is None)
    return ImageData(
        options.dataset,
        label_names,
        train=splits["train"],
        test=splits["test"],
        validation=splits.get("validation"),
        mirrored=source.mirrored and not doubt,
        notes=notes,
        hub_id=source.hub_id,
        revision=source.revision(train),
        origins=origins,
        label_origin=_label_origin(reading, columns, options),
        left_out=left_out,
        mirroring_doubt=doubt,
        pixel_range=pixel_range,
    )


def _choose_splits(
    reading: Reading, columns: Columns, options: ImageDataArguments, notes: list[str], left_out: list[LeftOut]
) -> tuple[dict[str, Dataset], dict[str, str]]:
    """Take the first candidate with labels for each split; validation serves as test split where there is no other."""
    train = reading.pieces["train"][0]
    splits, origins = {"train": train.rows}, {"train": train.origin}
    for role in ("validation", "test"):
        for piece in reading.pieces.get(role, []):
            missing = _unlabelled(piece.rows, train.rows, columns)
            if missing is None and role not in splits:
                splits[role], origins[role] = piece.rows, piece.origin
            else:
                why = missing or f"another {role} split is used"
                left_out.append(LeftOut(len(piece.rows), f"rows of {piece.origin} ({role} split): {why}"))
    if "test" not in splits and "validation" in splits and options.validation_split is None:
        splits["test"], origins["test"] = splits.pop("validation"), origins.pop("validation")
        notes.append(f"The validation split ({origins['test']}) serves as test split: there is no other with labels.")
    if "validation" in splits and options.validation_fraction:
        dropped = splits.pop("validation")
        what = f"rows of {origins.pop('validation')}: the validation split is cut off the training images instead"
        left_out.append(LeftOut(len(dropped), what))
    return splits, origins


def _unlabelled(rows: Dataset, train: Dataset, columns: Columns) -> str | None:
    """Why a split can't be used to measure; None if it can."""
    if columns.image not in rows.column_names or not has_labels(rows, columns.label):
        return "it has no labels"
    if (
        isinstance(rows.features[columns.label], ClassLabel)
        or rows.features[columns.label] != train.features[columns.label]
    ):
        return None  # their names and types are compared later
    known = set(train.unique(columns.label))
    return None if known & set(rows.unique(columns.label)) else "it has no class of the training split, so no labels"


def _label_origin(reading: Reading, columns: Columns, options: ImageDataArguments) -> str:
    if columns.label == "label" and reading.label_origin == "names of the class folders":
        return reading.label_origin
    if reading.label_origin == "label_pattern":
        return f"paths of the images, by --label_pattern {options.label_pattern!r}"
    return f"column {columns.label!r}{f' of {reading.label_origin}' if reading.label_origin else ''}: {columns.why}"


def _check_all_labels(splits: dict[str, Dataset], label_names: list[str]) -> None:
    for name, split in splits.items():
        check_labels(split, name, label_names)


def _cut_test(splits: dict[str, Dataset], fraction: float) -> str:
    """Cut a test split off the training split, in place, and return a note about it."""
    total = len(splits["train"])
    splits["train"], splits["test"] = cut("test", splits["train"], fraction)
    share = len(splits["test"]) / total  # of small classes at least one image
    return (
        f"The data set has no test split with labels: {len(splits['test']):,} images ({share:.2%}, about the same "
        "share of every class, always the same ones) were cut off the training images."
    )


def _unmatched_classes(splits: dict[str, Dataset], label_names: list[str], complete: bool) -> list[str]:
    """Return notes on classes that are missing in training or test split; a limited test split may lack some."""
    notes = []
    trained, tested = (set(labels_of(splits[name])) for name in ("train", "test"))
    if tested - trained:
        notes.append(f"{len(tested - trained)} classes of the test split have no training image.")
    untested = [name for label, name in enumerate(label_names) if label not in tested]
    if untested and complete:
        notes.append(f"Classes without a test image: {', '.join(untested[:5])}{', ...' if len(untested) > 5 else ''}.")
    return notes
