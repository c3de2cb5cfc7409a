"""A data set that is read row by row, instead of being fetched first."""

from __future__ import annotations

from datasets import Dataset, Image, IterableDataset

from hf_icckd.data.labels.class_names import check_classes, check_same_names
from hf_icckd.data.labels.columns import Columns, find_columns, is_label
from hf_icckd.data.labels.mirroring import mirroring_doubt
from hf_icckd.data.sources.image_data import ImageData
from hf_icckd.data.sources.source import Source
from hf_icckd.data.sources.stream import StreamedSplit
from hf_icckd.data.splits.roles import assign_roles
from hf_icckd.options.data import ImageDataArguments

_NOT_STREAMED = {
    "duplicates": "keep", "missing_labels": "error", "group_column": None, "labels": None, "label_pattern": None,
    "fold": None,
}  # fmt: skip


def load_stream(source: Source, options: ImageDataArguments, groups: dict[str, list[str]] | None = None) -> ImageData:
    """Open the streams of a source; see `load_image_data`."""
    _check_options(options, groups)
    dataset = options.dataset
    loaded = dict(source.streams(options))
    roles = assign_roles(dataset, list(loaded), options)
    if len(roles.train) > 1:
        raise ValueError(f"streaming is true and train_split is {roles.train}, expected one split; name one of them")
    train = loaded[roles.train[0]]
    columns = _columns(train, options)
    names = class_names(train, columns.label)
    if names is None:
        raise ValueError(
            f"label column {columns.label!r} has no class names, which a stream needs before all its rows are read; "
            "leave streaming out, or choose another with --label_column"
        )
    check_classes(names)
    candidates = [name for role in ("test", "validation") for group in roles.others.get(role, []) for name in group]
    test = next((name for name in candidates if _has_labels(loaded[name], columns.label)), None)
    if test is None:
        raise ValueError(
            f"dataset {dataset!r} has no test split with labels, which a stream needs; leave streaming out"
        )
    check_same_names([names, class_names(loaded[test], columns.label)], columns.label)
    splits = {}
    for name, rows, limit in (
        ("train", train, options.max_train_samples),
        ("test", loaded[test], options.max_eval_samples),
    ):
        known = announced_length(rows)
        length = min((number for number in (known, limit) if number), default=None)
        if length is None:
            option = "--max_train_samples" if name == "train" else "--max_eval_samples"
            raise ValueError(f"dataset {dataset!r} does not tell how many images its {name} split has; give {option}")
        chosen = rows.select_columns([columns.image, columns.label])
        if limit is not None and (known is None or limit < known):
            chosen = chosen.take(limit)  # before any shuffling: every epoch has the same images
        # A stream, unlike a data set, does not take a name for a column that has it.
        new_names = {columns.image: "image", columns.label: "label"}
        chosen = chosen.rename_columns({old: new for old, new in new_names.items() if old != new})
        splits[name] = StreamedSplit(chosen.cast_column("image", Image(decode=False)), length, len(names), name)
    doubt = mirroring_doubt(names) if source.mirrored else ""
    in_place_of_test = any(test in group for group in roles.others.get("validation", []))
    return ImageData(
        dataset,
        names,
        splits["train"],
        splits["test"],
        mirrored=source.mirrored and not doubt,
        notes=[f"The split {test!r} serves as test split."] if in_place_of_test else [],
        hub_id=source.hub_id,
        origins={"train": f"split {roles.train[0]}", "test": f"split {test}"},
        label_origin=f"column {columns.label!r}: {columns.why}",
        mirroring_doubt=doubt,
        pixel_range=options.pixel_limits(),
    )


def _check_options(options: ImageDataArguments, groups: dict[str, list[str]] | None) -> None:
    """Raise ValueError if an option needs all rows before training."""
    if options.validation_fraction:
        raise ValueError(
            f"validation_fraction is {options.validation_fraction} but streaming is true: a stream can't be cut by "
            "class; leave one of them out"
        )
    if options.classes or groups:
        raise ValueError("streaming is true but classes or label_groups are given, expected all rows; leave one out")
    for name, default in _NOT_STREAMED.items():
        if getattr(options, name) != default:
            raise ValueError(
                f"{name} is {getattr(options, name)!r} but streaming is true: that needs all rows before training; "
                "leave one of them out"
            )
    if options.bad_images == "skip":
        raise ValueError(
            "bad_images is 'skip' but streaming is true: images of a stream are decoded when they are used, too late "
            "to leave any out; leave one of them out"
        )


def _columns(rows: IterableDataset, options: ImageDataArguments) -> Columns:
    """Find the columns by names and types alone: rows of a stream are not read for it."""
    features = rows.features or {}
    empty = Dataset.from_dict({name: [] for name in features}, features=features)
    return find_columns(empty, options.image_column, options.label_column)


def _has_labels(rows: IterableDataset, label_column: str) -> bool:
    """Whether the first row of a split has a label."""
    if label_column not in (rows.features or {}):
        return False
    first = next(iter(rows.select_columns([label_column])), None)
    return first is not None and is_label(first[label_column])


def class_names(rows: IterableDataset, label_column: str) -> list[str] | None:
    """Names of the classes, if the column has them."""
    return getattr((rows.features or {})[label_column], "names", None)


def announced_length(rows: IterableDataset) -> int | None:
    """Number of rows that the data set says a split has."""
    info = (rows.info.splits or {}).get(str(rows.split))
    return getattr(info, "num_examples", None)
