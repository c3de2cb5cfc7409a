"""From the name of a data set to its splits: `digits`, `synthetic`, a folder or a Hub id."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from datasets import ClassLabel, Dataset

from hf_icckd.data.cache import cache_errors
from hf_icckd.data.labels.class_names import (
    check_classes,
    check_labels,
    has_labels,
    index_labels,
    same_name,
    without_missing,
)
from hf_icckd.data.labels.classes import group_classes, read_groups, select_classes
from hf_icckd.data.labels.columns import (
    FINE_LABEL,
    Columns,
    find_columns,
    holds_images,
    is_called_label,
    labels_of,
    reduce_columns,
)
from hf_icckd.data.labels.mirroring import mirroring_doubt
from hf_icckd.data.readable import leave_out_unreadable
from hf_icckd.data.sampling import balanced_subset
from hf_icckd.data.sources.built_in import BUILT_IN
from hf_icckd.data.sources.folder import Folder
from hf_icckd.data.sources.hub import Hub
from hf_icckd.data.sources.image_data import ImageData, LeftOut
from hf_icckd.data.sources.load_stream import load_stream
from hf_icckd.data.sources.source import Reading, Source
from hf_icckd.data.sources.unlabeled import add_unlabeled
from hf_icckd.data.splits.cut import cut_off, notes_on_groups, without_fold
from hf_icckd.data.splits.drop import drop_duplicates
from hf_icckd.options.data import ImageDataArguments, UnlabeledDataArguments
from hf_icckd.utils.atomic_files import user_path
from hf_icckd.utils.text import listed, suggest


def load_image_data(dataset: str | Path | ImageDataArguments, **options: Any) -> ImageData:
    """Load a data set and find its images, labels and splits.

    Args:
        dataset: `digits` (embedded), `synthetic` (generated), a folder (images in one folder per class, parquet or
            arrow files, or what `datasets` saved to disk) or a Hub id such as `uoft-cs/cifar100`; or an object with
            all options.
        **options: Fields of `UnlabeledDataArguments`, documented there. `config_name` is short for
            `dataset_config_name`, and `label_groups` may also be a dictionary from the name of each group to the
            names of its classes.

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
        dataset = UnlabeledDataArguments(str(dataset), **options)
    elif options:
        raise TypeError(
            f"options are given as an object and as keywords, expected one; leave out {', '.join(options)}"
        )
    if dataset.label_groups is not None:
        groups = read_groups(dataset.label_groups)
    source = find_source(dataset.dataset, dataset.dataset_config_name)
    with cache_errors():
        if dataset.streaming:
            return load_stream(source, dataset, groups)
        data = _load_tables(source, dataset, groups)
        if not isinstance(dataset, UnlabeledDataArguments) or dataset.unlabeled_dataset is None:
            return data
        return add_unlabeled(data, find_source(dataset.unlabeled_dataset), dataset)


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
    elif "/" in dataset and path.parent.is_dir():
        here = [each.name for each in path.parent.iterdir()]
        raise ValueError(
            f"dataset {dataset!r} does not exist in the folder {str(path.parent)!r}{suggest(path.name, here)}; check "
            "the path"
        )
    else:
        return Hub(dataset, config_name)
    if config_name is not None:
        raise ValueError(f"configuration {config_name!r} of {dataset!r}: only Hub data sets have them; leave it out")
    return source


@dataclass
class _Loading:
    """A data set on its way from a source to `ImageData`; every step changes what it has to."""

    splits: dict[str, Dataset]
    origins: dict[str, str]
    notes: list[str]
    left_out: list[LeftOut]
    label_names: list[str] = field(default_factory=list)


def _load_tables(source: Source, options: ImageDataArguments, groups: dict[str, list[str]] | None) -> ImageData:
    reading = source.read(options)
    train = reading.pieces["train"][0].rows
    columns = find_columns(
        train, options.image_column or source.image_column, options.label_column or source.label_column
    )
    loading = _choose_splits(reading, columns, options)
    kept = [FINE_LABEL] if source.has_fine_labels and columns.label != FINE_LABEL else []
    for name, split in loading.splits.items():
        loading.splits[name] = reduce_columns(split, columns, kept, options.group_column)
    _label(loading, columns, options)
    doubt = mirroring_doubt(loading.label_names) if source.mirrored else ""
    _drop(loading, options)
    _cut(loading, options)
    _limit(loading, options)
    if groups:
        loading.splits, loading.label_names = group_classes(loading.splits, loading.label_names, groups)
        check_classes(loading.label_names)
    _leave_out_fold(loading, options)
    complete = options.max_eval_samples is None
    loading.notes += _unmatched_classes(loading.splits, loading.label_names, complete)
    return ImageData(
        options.dataset,
        loading.label_names,
        train=loading.splits["train"],
        test=loading.splits["test"],
        validation=loading.splits.get("validation"),
        mirrored=source.mirrored and not doubt,
        notes=loading.notes,
        hub_id=source.hub_id,
        revision=source.revision(train),
        origins=loading.origins,
        label_origin=_label_origin(reading, columns),
        left_out=loading.left_out,
        mirroring_doubt=doubt,
        pixel_range=options.pixel_limits(),
    )


def _label(loading: _Loading, columns: Columns, options: ImageDataArguments) -> None:
    """Turn labels into class indices, without rows that have none and classes that are not chosen."""
    loading.splits, loading.label_names = index_labels(loading.splits, columns.label)
    for name, split in loading.splits.items():
        loading.splits[name], missing = without_missing(split, name, options.missing_labels)
        loading.left_out += [] if missing is None else [missing]
    _check_all_labels(loading.splits, loading.label_names)
    if options.classes:
        before = sum(map(len, loading.splits.values()))
        loading.splits, loading.label_names = select_classes(loading.splits, loading.label_names, options.classes)
        count = before - sum(map(len, loading.splits.values()))
        if count:
            loading.left_out.append(LeftOut(count, "images of classes that --classes does not name"))
        _check_all_labels(loading.splits, loading.label_names)


def _drop(loading: _Loading, options: ImageDataArguments) -> None:
    """Leave out unreadable images and copies, if the options say so."""
    if options.bad_images == "skip":
        loading.splits, unreadable = leave_out_unreadable(loading.splits, options.pixel_limits())
        loading.left_out += unreadable
    if options.group_column is not None:
        loading.notes += notes_on_groups(loading.splits, options.group_column)
    if options.duplicates == "drop":
        loading.splits, copies = drop_duplicates(loading.splits)
        loading.left_out += copies


def _cut(loading: _Loading, options: ImageDataArguments) -> None:
    """Cut the splits that the data set has not off the training split."""
    if "test" not in loading.splits:
        cut = cut_off(loading.splits, "test", options.test_fraction, loading.label_names)
        loading.splits, loading.origins["test"] = cut.splits, cut.origin
        loading.notes += [f"The data set has no test split with labels: {cut.share}", *cut.notes]
    if options.validation_fraction:
        cut = cut_off(loading.splits, "validation", options.validation_fraction, loading.label_names)
        loading.splits, loading.origins["validation"] = cut.splits, cut.origin
        loading.notes += cut.notes


def _limit(loading: _Loading, options: ImageDataArguments) -> None:
    """Take as many images of each split as the options allow, evenly over the classes."""
    for name, split in loading.splits.items():
        limit = options.max_train_samples if name == "train" else options.max_eval_samples
        if limit is not None and limit < len(split):
            loading.left_out.append(LeftOut(len(split) - limit, f"images of the {name} split above its limit"))
            loading.splits[name] = split.select(balanced_subset(labels_of(split), limit))


def _leave_out_fold(loading: _Loading, options: ImageDataArguments) -> None:
    """Leave a part of the training images out, after all else: without it the same images would be there."""
    fold = options.fold_numbers()
    if fold is None:
        return
    before = len(loading.splits["train"])
    loading.splits = without_fold(loading.splits, *fold, loading.label_names)
    count = before - len(loading.splits["train"])
    loading.left_out.append(LeftOut(count, f"images of part {options.fold} of the training split (--fold)"))


def _choose_splits(reading: Reading, columns: Columns, options: ImageDataArguments) -> _Loading:
    """Take the first candidate with labels for each split; validation serves as test split where there is no other."""
    train = reading.pieces["train"][0]
    splits, origins = {"train": train.rows}, {"train": train.origin}
    notes, left_out = list(reading.notes), list(reading.left_out)
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
    return _Loading(splits, origins, notes, left_out)


def _unlabelled(rows: Dataset, train: Dataset, columns: Columns) -> str | None:
    """Why a split can't be used to measure; None if it can."""
    _check_same_columns(rows, train, columns)
    if columns.image not in rows.column_names:
        return f"it has no column {columns.image!r}"
    if not has_labels(rows, columns.label):
        return "it has no labels"
    if (
        isinstance(rows.features[columns.label], ClassLabel)
        or rows.features[columns.label] != train.features[columns.label]
    ):
        return None  # their names and types are compared later
    known, own = ({same_name(str(label)) for label in split.unique(columns.label)} for split in (train, rows))
    return None if known & own else "it has no class of the training split, so no labels"


def _check_same_columns(rows: Dataset, train: Dataset, columns: Columns) -> None:
    """Raise ValueError if a split has its images or labels under another name than the training split."""
    for column, is_such in ((columns.image, holds_images), (columns.label, is_called_label)):
        new = [name for name in rows.column_names if name not in train.column_names and is_such(rows, name)]
        if column not in rows.column_names and new:
            raise ValueError(
                f"the training split has the column {column!r} and another split {new[0]!r} in its place, expected "
                "the same name; rename one, or choose other splits with --train_split and --test_split"
            )


def _label_origin(reading: Reading, columns: Columns) -> str:
    of = f" of {reading.table}" if reading.table else ""
    return reading.label_origin or f"column {columns.label!r}{of}: {columns.why}"


def _check_all_labels(splits: dict[str, Dataset], label_names: list[str]) -> None:
    for name, split in splits.items():
        check_labels(split, name, label_names)


def _unmatched_classes(splits: dict[str, Dataset], label_names: list[str], complete: bool) -> list[str]:
    """Return notes on classes that are missing in training or test split; a limited test split may lack some."""
    notes = []
    trained, tested = (set(labels_of(splits[name])) for name in ("train", "test"))
    if tested - trained:
        unseen = listed([label_names[label] for label in sorted(tested - trained)], 5)
        notes.append(f"Classes of the test split without a training image: {unseen}.")
    untested = [name for label, name in enumerate(label_names) if label not in tested]
    if untested and complete:
        notes.append(f"Classes without a test image: {', '.join(untested[:5])}{', ...' if len(untested) > 5 else ''}.")
    return notes
