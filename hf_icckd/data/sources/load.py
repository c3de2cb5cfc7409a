"""From the name of a data set to its splits: `digits`, `synthetic`, a folder or a Hub id."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from datasets import Dataset

from hf_icckd.data.readable import leave_out_unreadable
from hf_icckd.data.sampling import balanced_subset
from hf_icckd.data.sources.built_in import BUILT_IN
from hf_icckd.data.sources.classes import FINE_LABEL, group_classes, read_groups, select_classes
from hf_icckd.data.sources.columns import (
    check_classes,
    check_labels,
    find_columns,
    index_labels,
    labels_of,
    two_columns,
)
from hf_icckd.data.sources.folder import Folder
from hf_icckd.data.sources.hub import Hub
from hf_icckd.data.sources.image_data import ImageData, LeftOut
from hf_icckd.data.sources.load_stream import load_stream
from hf_icckd.data.sources.mirroring import mirroring_doubt
from hf_icckd.data.sources.source import Source
from hf_icckd.data.sources.splits import VALIDATION_SPLITS, cut, find_test, find_train
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
    elif dataset and path.is_dir():
        source = Folder(path)
    elif path.is_file():
        raise ValueError(f"dataset {dataset!r} is a file, expected a folder; give the folder that holds it")
    elif not re.fullmatch(r"[\w-][\w.-]*(/[\w.-]+)?", dataset):
        raise ValueError(f"dataset folder {dataset!r} does not exist; check the path")
    else:
        return Hub(dataset, config_name)
    if config_name is not None:
        raise ValueError(f"configuration {config_name!r} of {dataset!r}: only Hub data sets have them; leave it out")
    return source


def _load_tables(source: Source, options: ImageDataArguments, groups: dict[str, list[str]] | None) -> ImageData:
    loaded = {name.lower(): rows.with_format(None) for name, rows in source.splits().items()}
    train = find_train(options.dataset, loaded)
    image_column, label_column = find_columns(
        train.features, options.image_column or source.image_column, options.label_column or source.label_column
    )
    test = find_test(loaded, image_column, label_column)
    splits = {"train": train} if test is None else {"train": train, "test": loaded[test]}
    kept = [FINE_LABEL] if source.has_fine_labels and label_column != FINE_LABEL else []
    splits = {name: two_columns(split, image_column, label_column, kept) for name, split in splits.items()}
    splits, label_names = index_labels(splits, label_column)
    _check_all_labels(splits, label_names)
    if options.classes:
        splits, label_names = select_classes(splits, label_names, options.classes)
        _check_all_labels(splits, label_names)
    doubt = mirroring_doubt(label_names) if source.mirrored else ""
    pixel_range = options.pixel_limits()
    left_out: list[LeftOut] = []
    if options.bad_images == "skip":
        splits, left_out = leave_out_unreadable(splits, pixel_range)
    notes = []
    if test is None:
        notes.append(_cut_test(splits, options.test_fraction))
    elif test in VALIDATION_SPLITS:
        notes.append(f"The split {test!r} serves as test split: the data set has no other with labels.")
    if options.validation_fraction:
        splits["train"], splits["validation"] = cut("validation", splits["train"], options.validation_fraction)
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
        left_out=left_out,
        mirroring_doubt=doubt,
        pixel_range=pixel_range,
    )


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
