"""Where images come from: one string names the embedded digits, a Hub data set, a folder or the synthetic set."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
from datasets import (
    ClassLabel,
    Dataset,
    DatasetDict,
    Features,
    Image,
    List,
    Value,
    load_dataset,
    load_from_disk,
)

from hf_icckd.data.sampling import balanced_subset, stratified_split
from hf_icckd.data.synthetic import make_multi_view_images

BUILT_IN = ("digits", "synthetic")
_TRAIN_SPLITS = ("train", "training")
_TEST_SPLITS = ("test", "testing", "eval", "validation", "valid", "val", "dev")
_VALIDATION_SPLITS = ("validation", "valid", "val", "dev")
_TABLE_SUFFIXES = (".parquet", ".arrow")


@dataclass
class ImageData:
    """A classification data set: every split has the columns `image` (undecoded) and `label` (class index).

    Attributes:
        name: What the user asked for.
        label_names: Name of each class.
        train: Training split.
        test: Test split: read for figures, never for choices.
        validation: Validation split, if asked for.
        mirrored: Whether a mirrored image still shows its class (not so for digits).
        notes: What a reader of the figures should know, such as a test split that had to be cut.
    """

    name: str
    label_names: list[str]
    train: Dataset
    test: Dataset
    validation: Dataset | None = None
    mirrored: bool = True
    notes: list[str] = field(default_factory=list)

    def splits(self) -> dict[str, Dataset]:
        """The splits there are, by name."""
        splits = {"train": self.train, "validation": self.validation, "test": self.test}
        return {name: split for name, split in splits.items() if split is not None}

    def labels(self, split: str) -> np.ndarray:
        """(N,) int64 class indices of a split."""
        return _labels(self.splits()[split])


def load_image_data(
    dataset: str,
    *,
    config_name: str | None = None,
    image_column: str | None = None,
    label_column: str | None = None,
    test_fraction: float = 0.2,
    validation_fraction: float = 0.0,
    max_train_samples: int | None = None,
    max_eval_samples: int | None = None,
) -> ImageData:
    """Load a data set and find its images, labels and splits.

    Args:
        dataset: `digits` (embedded), `synthetic` (generated), a folder (images in one folder per class, parquet or
            arrow files, or what `datasets` saved to disk) or a Hub id such as `uoft-cs/cifar100`.
        config_name: Configuration of a Hub data set that has several.
        image_column: Column of the images; found by its type if there is just one.
        label_column: Column of the labels; found by its type if there is just one.
        test_fraction: Share of every class that becomes the test split where the data set has none.
        validation_fraction: Share of every class of the training split to set aside; 0 for no validation split.
        max_train_samples: Use at most this many training images, classes as equally frequent as possible.
        max_eval_samples: The same for each of the other splits.

    Returns:
        The data set.

    Raises:
        ValueError: If there is no such data set, no training split, or no single image and label column; if a label
            is missing or negative, or there are fewer than two classes.
    """
    splits = _load(dataset, config_name)
    image_column, label_column = _find_columns(splits, image_column, label_column)
    splits = DatasetDict(
        {
            name: split.select_columns([image_column, label_column]).rename_columns(
                {image_column: "image", label_column: "label"}
            )
            for name, split in splits.items()
        }
    )
    splits = splits.cast_column("image", Image(decode=False))
    splits, label_names = _index_labels(splits, label_column)
    data = _arrange_splits(dataset, splits, label_names, test_fraction)
    if validation_fraction:
        keep, cut = stratified_split(_labels(data.train), validation_fraction)
        data.validation, data.train = data.train.select(cut), data.train.select(keep)
    limits = {"train": max_train_samples, "validation": max_eval_samples, "test": max_eval_samples}
    for name, split in data.splits().items():
        _check_labels(split, name, label_names)
        if limits[name] is not None and limits[name] < len(split):
            setattr(data, name, split.select(balanced_subset(_labels(split), limits[name])))
    return data


def _load(dataset: str, config_name: str | None) -> DatasetDict:
    if dataset == "digits":
        return _load_folder(Path(__file__).with_name("digits"))
    if dataset == "synthetic":
        return _synthetic()
    path = Path(dataset).expanduser()
    if path.is_dir():
        return _load_folder(path)
    if path.exists():
        raise ValueError(f"dataset {dataset!r} is a file, expected a folder; give the folder that holds it")
    if not re.fullmatch(r"[\w.-]+(/[\w.-]+)?", dataset) or dataset.startswith((".", "/", "~")):
        raise ValueError(f"dataset folder {dataset!r} does not exist; check the path")
    try:
        loaded = load_dataset(dataset, config_name)
    except Exception as error:  # the Hub client and the builders raise dozens of types; all mean: not to be had
        raise ValueError(
            f"dataset {dataset!r} is none of {', '.join(BUILT_IN)}, no folder here, and could not be loaded from the "
            f"Hub: {type(error).__name__}: {_first_line(error)}"
        ) from error
    return loaded


def _load_folder(path: Path) -> DatasetDict:
    if (path / "dataset_dict.json").is_file() or (path / "state.json").is_file():
        loaded = load_from_disk(str(path))
        return loaded if isinstance(loaded, DatasetDict) else DatasetDict(train=loaded)
    files = [file for file in sorted(path.rglob("*")) if file.is_file() and not file.name.startswith(".")]
    tables = [file for file in files if file.suffix in _TABLE_SUFFIXES]
    if not files:
        raise ValueError(f"dataset folder {str(path)!r} holds no file; expected parquet files or a folder per class")
    try:
        if tables:
            kind = tables[0].suffix.lstrip(".")
            loaded = load_dataset(kind, data_files=_split_files(tables))
        else:
            loaded = load_dataset("imagefolder", data_dir=str(path), drop_labels=False)
    except Exception as error:  # see _load
        raise ValueError(
            f"dataset folder {str(path)!r} could not be read: {type(error).__name__}: {_first_line(error)}"
        ) from error
    return loaded


def _split_files(tables: list[Path]) -> dict[str, list[str]]:
    """Files by split, told by the words of their names or of the folder they lie in; all are training data if none is."""
    splits: dict[str, list[str]] = {}
    for file in tables:
        words = [*re.split(r"[-_.]", file.stem), file.parent.name]
        split = next((word for word in words if word in (*_TRAIN_SPLITS, *_TEST_SPLITS)), "train")
        splits.setdefault(split, []).append(str(file))
    return splits


def _synthetic() -> DatasetDict:
    splits = {}
    for name, per_class in (("train", 200), ("test", 50)):
        images, labels, *_ = make_multi_view_images(num_images_per_class=per_class, split=name)
        pixels = images.permute(0, 2, 3, 1).numpy()
        features = Features({"image": Image(), "label": ClassLabel(names=[f"class {i}" for i in range(10)])})
        columns = {"image": [PIL.Image.fromarray(image) for image in pixels], "label": labels.tolist()}
        splits[name] = Dataset.from_dict(columns, features=features)
    return DatasetDict(splits)


def _find_columns(splits: DatasetDict, image_column: str | None, label_column: str | None) -> tuple[str, str]:
    features = next(iter(splits.values())).features
    images = [name for name, feature in features.items() if _is_image(feature)]
    classes = [name for name, feature in features.items() if isinstance(feature, ClassLabel)]
    # Without a class column, text and integers may hold the classes.
    plain = [name for name, feature in features.items() if _is_plain(feature) and name not in images]
    return (
        _choose("image", images, image_column, list(features)),
        _choose("label", classes or plain, label_column, list(features)),
    )


def _is_image(feature: Any) -> bool:
    if isinstance(feature, dict):
        return "bytes" in feature
    return isinstance(feature, Image) or (isinstance(feature, Value) and feature.dtype in ("binary", "large_binary"))


def _is_plain(feature: Any) -> bool:
    return isinstance(feature, Value) and re.match(r"u?int|string|large_string|bool", feature.dtype) is not None


def _choose(kind: str, candidates: list[str], chosen: str | None, columns: list[str]) -> str:
    if chosen is not None:
        if chosen not in columns:
            raise ValueError(f"--{kind}_column is {chosen!r}, expected one of the columns: {', '.join(columns)}")
        return chosen
    if not candidates:
        raise ValueError(f"no {kind} column found among {', '.join(columns)}; name it with --{kind}_column")
    if len(candidates) > 1:
        raise ValueError(
            f"several columns may hold the {kind}s: {', '.join(candidates)}; choose one with --{kind}_column"
        )
    return candidates[0]


def _index_labels(splits: DatasetDict, column: str) -> tuple[DatasetDict, list[str]]:
    """Turn labels of any type into class indices; names and order come from all splits together."""
    features = {name: split.features["label"] for name, split in splits.items()}
    names = next((feature.names for feature in features.values() if isinstance(feature, ClassLabel)), None)
    for feature in features.values():
        if names is not None and getattr(feature, "names", None) != names:
            raise ValueError(f"the splits give column {column!r} different classes; expected the same names and order")
        if isinstance(feature, list | List | dict) or (isinstance(feature, Value) and not _is_plain(feature)):
            raise ValueError(
                f"label column {column!r} holds {feature}, expected class names or integers; choose another with "
                "--label_column"
            )
    if names is not None:
        return splits, names
    values = {value for split in splits.values() for value in split.unique("label")}
    if None in values:
        raise ValueError(f"label column {column!r} has rows without a label; remove them")
    ordered = sorted(values)
    index = {value: position for position, value in enumerate(ordered)}
    names = [str(value) for value in ordered]

    def convert(labels: list) -> dict[str, list[int]]:
        return {"label": [index[label] for label in labels]}

    splits = splits.map(
        convert,
        batched=True,
        input_columns="label",
        remove_columns="label",
        features=Features({"image": Image(decode=False), "label": ClassLabel(names=names)}),
    )
    return splits, names


def _arrange_splits(name: str, splits: DatasetDict, label_names: list[str], test_fraction: float) -> ImageData:
    notes = []
    train = next((splits[split] for split in _TRAIN_SPLITS if split in splits), None)
    if train is None:
        raise ValueError(f"dataset {name!r} has the splits {', '.join(splits)}, expected one called train")
    test = None
    for split in _TEST_SPLITS:
        if split in splits and len(splits[split]) and (_labels(splits[split]) >= 0).any():
            test = splits[split]
            if split in _VALIDATION_SPLITS:
                notes.append(f"The split {split!r} serves as test split: the data set has no other with labels.")
            break
    if test is None:
        if not 0 < test_fraction < 1:
            raise ValueError(f"test_fraction is {test_fraction}, expected a share between 0 and 1")
        _check_labels(train, "train", label_names)
        keep, cut = stratified_split(_labels(train), test_fraction)
        train, test = train.select(keep), train.select(cut)
        notes.append(
            f"The data set has no test split: {len(cut):,} images ({test_fraction:.0%} of every class, always the same "
            "ones) were cut off the training images."
        )
    return ImageData(name, label_names, train, test, mirrored=name != "digits", notes=notes)


def _labels(split: Dataset) -> np.ndarray:
    column = split.with_format("arrow")["label"][:]
    return column.to_numpy(zero_copy_only=False).astype(np.int64) if column.null_count == 0 else _with_nulls(column)


def _with_nulls(column) -> np.ndarray:
    return column.fill_null(-1).to_numpy(zero_copy_only=False).astype(np.int64)


def _check_labels(split: Dataset, name: str, label_names: list[str]) -> None:
    labels = _labels(split)
    if len(labels) == 0:
        raise ValueError(f"the {name} split is empty, expected images; give a larger data set")
    wrong = np.flatnonzero((labels < 0) | (labels >= len(label_names)))
    if len(wrong):
        raise ValueError(
            f"row {wrong[0]} of the {name} split has no valid label (and {len(wrong) - 1} more rows); expected classes "
            f"0 to {len(label_names) - 1}"
        )
    if len(label_names) < 2:
        raise ValueError(f"the data set has the one class {label_names[0]!r}, expected two or more")


def _first_line(error: Exception) -> str:
    return next(iter(str(error).splitlines()), "")
