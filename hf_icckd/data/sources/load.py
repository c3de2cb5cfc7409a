"""Where images come from: one string names the embedded digits, a Hub data set, a folder or the synthetic set."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from datasets import (
    Dataset,
    Image,
    IterableDataset,
    load_dataset,
)

from hf_icckd.data.sampling import balanced_subset, stratified_split
from hf_icckd.data.sources.classes import FINE_LABEL, group_classes, read_groups, select_classes
from hf_icckd.data.sources.columns import (
    check_classes,
    check_labels,
    check_same_names,
    find_columns,
    index_labels,
    is_label,
    labels_of,
    two_columns,
)
from hf_icckd.data.sources.fingerprint import split_fingerprint
from hf_icckd.data.sources.folder import TEST_SPLITS, TRAIN_SPLITS, load_folder, reason
from hf_icckd.data.sources.stream import StreamedSplit
from hf_icckd.data.sources.synthetic import multi_view_splits
from hf_icckd.options.data import ImageDataArguments
from hf_icckd.utils.atomic_files import user_path

BUILT_IN = ("digits", "synthetic")
_FINGERPRINT_ROWS = 256
_VALIDATION_SPLITS = ("validation", "valid", "val", "dev")


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


def load_image_data(dataset: str | ImageDataArguments, **options: Any) -> ImageData:
    """Load a data set and find its images, labels and splits.

    Args:
        dataset: `digits` (embedded), `synthetic` (generated), a folder (images in one folder per class, parquet or
            arrow files, or what `datasets` saved to disk) or a Hub id such as `uoft-cs/cifar100`; or all options in
            one object.
        options: Fields of `ImageDataArguments`, which documents them. `config_name` is short for
            `dataset_config_name`, and `label_groups` may be the groups themselves: name of each group to the names of
            its classes, which remain as fine labels.

    Raises:
        ValueError: If there is no such data set, no training split, or no single image and label column; if a label
            is missing or negative, there are fewer than two classes, or an option is out of range.

    Example:
        >>> data = load_image_data("digits", max_train_samples=100)
        >>> len(data.train), len(data.test), data.label_names[:3]
        (100, 359, ['0', '1', '2'])
    """
    groups = None
    if isinstance(dataset, str):
        if "config_name" in options:
            options["dataset_config_name"] = options.pop("config_name")
        if not isinstance(options.get("label_groups"), str):
            groups = options.pop("label_groups", None)
        dataset = ImageDataArguments(dataset, **options)
    elif options:
        raise TypeError(f"options come in one object or as keywords, not both: leave out {', '.join(options)}")
    if dataset.label_groups is not None:
        groups = read_groups(dataset.label_groups)
    return _streamed(dataset, groups) if dataset.streaming else _tables(dataset, groups)


def _tables(options: ImageDataArguments, groups: dict[str, list[str]] | None) -> ImageData:
    image_column, label_column = options.image_column, options.label_column
    loaded = {
        split.lower(): rows.with_format(None)
        for split, rows in _load(options.dataset, options.dataset_config_name).items()
    }
    train = _find_train(options.dataset, loaded)
    if options.dataset == "synthetic":
        image_column, label_column = image_column or "image", label_column or "label"
    origin = {"hub_id": _hub_id(options.dataset), "revision": _revision(train)}
    image_column, label_column = find_columns(train.features, image_column, label_column)
    splits, notes = {"train": train}, []
    test = _find_test(loaded, image_column, label_column)
    if test is not None:
        splits["test"] = loaded[test]
        if test in _VALIDATION_SPLITS:
            notes.append(f"The split {test!r} serves as test split: the data set has no other with labels.")
    kept = [FINE_LABEL] if options.dataset == "synthetic" and label_column != FINE_LABEL else []
    splits = {name: two_columns(split, image_column, label_column, kept) for name, split in splits.items()}
    splits, label_names = index_labels(splits, label_column)
    for name, split in splits.items():
        check_labels(split, name, label_names)
    if options.classes:
        splits, label_names = select_classes(splits, label_names, options.classes)
        for name, split in splits.items():
            check_labels(split, name, label_names)
    if test is None:
        total = len(splits["train"])
        splits["train"], splits["test"] = _cut("test", splits["train"], options.test_fraction)
        share = len(splits["test"]) / total  # of small classes at least one image
        notes.append(
            f"The data set has no test split with labels: {len(splits['test']):,} images ({share:.2%}, about the same "
            "share of every class, always the same ones) were cut off the training images."
        )
    if options.validation_fraction:
        splits["train"], splits["validation"] = _cut("validation", splits["train"], options.validation_fraction)
    for name, split in splits.items():
        limit = options.max_train_samples if name == "train" else options.max_eval_samples
        if limit is not None and limit < len(split):
            splits[name] = split.select(balanced_subset(labels_of(split), limit))
    if groups:
        splits, label_names = group_classes(splits, label_names, groups)
        check_classes(label_names)
    notes += _unmatched_classes(splits, label_names, whole=options.max_eval_samples is None)
    return ImageData(
        options.dataset, label_names, **splits, mirrored=options.dataset != "digits", notes=notes, **origin
    )


def _unmatched_classes(splits: dict[str, Dataset], label_names: list[str], whole: bool) -> list[str]:
    """Notes on classes that one of training and test split lacks; a test split that is not whole may lack some."""
    notes = []
    trained, tested = (set(labels_of(splits[name])) for name in ("train", "test"))
    if tested - trained:
        notes.append(f"{len(tested - trained)} classes of the test split have no training image.")
    untested = [name for label, name in enumerate(label_names) if label not in tested]
    if untested and whole:
        notes.append(f"Classes without a test image: {', '.join(untested[:5])}{', ...' if len(untested) > 5 else ''}.")
    return notes


def _streamed(options: ImageDataArguments, groups: dict[str, list[str]] | None) -> ImageData:
    if options.validation_fraction:
        raise ValueError(
            f"validation_fraction is {options.validation_fraction} but streaming is true: a stream can't be cut by "
            "class; leave one of them out"
        )
    if options.classes or groups:
        raise ValueError("streaming is true but classes or label_groups are given, expected all rows; leave one out")
    dataset = options.dataset
    loaded = {
        split.lower(): rows for split, rows in _load(dataset, options.dataset_config_name, streaming=True).items()
    }
    rows = {"train": _find_train(dataset, loaded)}
    image_column, label_column = find_columns(rows["train"].features, options.image_column, options.label_column)
    names = getattr(rows["train"].features[label_column], "names", None)
    if names is None:
        raise ValueError(
            f"label column {label_column!r} has no class names, which a stream needs before all its rows are read; "
            "leave streaming out, or choose another with --label_column"
        )
    check_classes(names)
    test = next((name for name in TEST_SPLITS if name in loaded and _has_labels(loaded[name], label_column)), None)
    if test is None:
        raise ValueError(
            f"dataset {dataset!r} has no test split with labels, which a stream needs; leave streaming out"
        )
    rows["test"] = loaded[test]
    check_same_names([getattr(split.features[label_column], "names", None) for split in rows.values()], label_column)
    splits = {}
    for name, limit in (("train", options.max_train_samples), ("test", options.max_eval_samples)):
        info = (rows[name].info.splits or {}).get(str(rows[name].split))
        known = getattr(info, "num_examples", None)
        length = min((number for number in (known, limit) if number), default=None)
        if length is None:
            option = "--max_train_samples" if name == "train" else "--max_eval_samples"
            raise ValueError(f"dataset {dataset!r} does not tell how many images its {name} split has; give {option}")
        columns = rows[name].select_columns([image_column, label_column])
        if limit is not None and (known is None or limit < known):
            columns = columns.take(limit)  # before any shuffling: every epoch has the same images
        # A stream, unlike a data set, does not take a name for a column that has it.
        names_of = {image_column: "image", label_column: "label"}
        columns = columns.rename_columns({old: new for old, new in names_of.items() if old != new})
        splits[name] = StreamedSplit(columns.cast_column("image", Image(decode=False)), length, len(names), name)
    notes = [f"The split {test!r} serves as test split."] if test in _VALIDATION_SPLITS else []
    return ImageData(dataset, names, **splits, notes=notes, hub_id=_hub_id(dataset))


def _hub_id(dataset: str) -> str | None:
    """The name, if it is one on the Hub; for a data set that could be loaded."""
    return None if dataset in BUILT_IN or user_path(dataset).is_dir() else dataset


def _revision(rows: Dataset) -> str | None:
    """Commit of a data set of the Hub: `datasets` names the folder of its copy after it."""
    names = {Path(file["filename"]).parent.name for file in rows.cache_files}
    name = names.pop() if len(names) == 1 else ""
    return name if re.fullmatch("[0-9a-f]{40}", name) else None


def _has_labels(rows: IterableDataset, label_column: str) -> bool:
    first = next(iter(rows.select_columns([label_column])), None) if label_column in rows.features else None
    return first is not None and is_label(first[label_column])


def _load(dataset: str, config_name: str | None, streaming: bool = False) -> dict[str, Any]:
    path = user_path(dataset)
    if config_name is not None and (dataset in BUILT_IN or path.is_dir()):
        raise ValueError(f"configuration {config_name!r} of {dataset!r}: only Hub data sets have them; leave it out")
    if streaming and dataset in BUILT_IN:
        raise ValueError(f"streaming is true but {dataset!r} comes with this package; leave it out")
    if dataset == "digits":
        return load_folder(Path(__file__).with_name("digits"))
    if dataset == "synthetic":
        return multi_view_splits()
    if dataset and path.is_dir():
        return load_folder(path, streaming)
    if path.is_file():
        raise ValueError(f"dataset {dataset!r} is a file, expected a folder; give the folder that holds it")
    if not re.fullmatch(r"[\w-][\w.-]*(/[\w.-]+)?", dataset):
        raise ValueError(f"dataset folder {dataset!r} does not exist; check the path")
    try:
        return load_dataset(dataset, config_name, streaming=streaming)
    except Exception as error:  # the Hub client and the builders raise dozens of types; all mean: not to be had
        raise ValueError(
            f"dataset {dataset!r} is none of {', '.join(BUILT_IN)}, no folder here, and could not be loaded from the "
            f"Hub: {reason(error)}; check the name, its configurations and the connection"
        ) from error


def _find_train(dataset: str, splits: dict[str, Dataset]) -> Dataset:
    names = [name for name in TRAIN_SPLITS if name in splits] or [name for name in splits if len(splits) == 1]
    if not names or names[0] in TEST_SPLITS:
        raise ValueError(f"dataset {dataset!r} has the splits {', '.join(splits)}, expected one called train")
    return splits[names[0]]


def _find_test(splits: dict[str, Dataset], image_column: str, label_column: str) -> str | None:
    """Name of the first test split with labels: those of competitions are missing, empty or -1."""
    for name in TEST_SPLITS:
        has_columns = name in splits and {image_column, label_column} <= set(splits[name].column_names)
        if has_columns and any(is_label(label) for label in splits[name].unique(label_column)):
            return name
    return None


def _cut(name: str, train: Dataset, fraction: float) -> tuple[Dataset, Dataset]:
    keep, cut = stratified_split(labels_of(train), fraction)
    if len(cut) == 0:
        raise ValueError(
            f"the {name} split can't be cut off a training split with one image per class; expected two or more "
            "of some class"
        )
    return train.select(keep), train.select(cut)
