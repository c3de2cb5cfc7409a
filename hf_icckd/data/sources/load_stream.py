"""A data set that is read row by row, instead of being fetched first."""

from __future__ import annotations

from datasets import Image, IterableDataset

from hf_icckd.data.sources.columns import check_classes, check_same_names, find_columns
from hf_icckd.data.sources.image_data import ImageData
from hf_icckd.data.sources.mirroring import mirroring_doubt
from hf_icckd.data.sources.source import Source
from hf_icckd.data.sources.splits import VALIDATION_SPLITS, find_streamed_test, find_train
from hf_icckd.data.sources.stream import StreamedSplit
from hf_icckd.options.data import ImageDataArguments


def load_stream(source: Source, options: ImageDataArguments, groups: dict[str, list[str]] | None = None) -> ImageData:
    """Open the streams of a source; see `load_image_data`."""
    if options.validation_fraction:
        raise ValueError(
            f"validation_fraction is {options.validation_fraction} but streaming is true: a stream can't be cut by "
            "class; leave one of them out"
        )
    if options.classes or groups:
        raise ValueError("streaming is true but classes or label_groups are given, expected all rows; leave one out")
    _refuse_skipping(options)
    dataset = options.dataset
    loaded = {split.lower(): rows for split, rows in source.streams().items()}
    train = find_train(dataset, loaded)
    image_column, label_column = find_columns(train.features, options.image_column, options.label_column)
    names = class_names(train, label_column)
    if names is None:
        raise ValueError(
            f"label column {label_column!r} has no class names, which a stream needs before all its rows are read; "
            "leave streaming out, or choose another with --label_column"
        )
    check_classes(names)
    test = find_streamed_test(loaded, label_column)
    if test is None:
        raise ValueError(
            f"dataset {dataset!r} has no test split with labels, which a stream needs; leave streaming out"
        )
    check_same_names([names, class_names(loaded[test], label_column)], label_column)
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
        columns = rows.select_columns([image_column, label_column])
        if limit is not None and (known is None or limit < known):
            columns = columns.take(limit)  # before any shuffling: every epoch has the same images
        # A stream, unlike a data set, does not take a name for a column that has it.
        new_names = {image_column: "image", label_column: "label"}
        columns = columns.rename_columns({old: new for old, new in new_names.items() if old != new})
        splits[name] = StreamedSplit(columns.cast_column("image", Image(decode=False)), length, len(names), name)
    notes = [f"The split {test!r} serves as test split."] if test in VALIDATION_SPLITS else []
    train_split, test_split = splits["train"], splits["test"]
    doubt = mirroring_doubt(names) if source.mirrored else ""
    return ImageData(
        dataset,
        names,
        train_split,
        test_split,
        mirrored=source.mirrored and not doubt,
        notes=notes,
        hub_id=source.hub_id,
        mirroring_doubt=doubt,
        pixel_range=options.pixel_limits(),
    )


def _refuse_skipping(options: ImageDataArguments) -> None:
    if options.bad_images == "skip":
        raise ValueError(
            "bad_images is 'skip' but streaming is true: images of a stream are decoded when they are used, too late "
            "to leave any out; leave one of them out"
        )


def class_names(rows: IterableDataset, label_column: str) -> list[str] | None:
    """Names of the classes, if the column has them."""
    return getattr((rows.features or {})[label_column], "names", None)


def announced_length(rows: IterableDataset) -> int | None:
    """Number of rows that the data set says a split has."""
    info = (rows.info.splits or {}).get(str(rows.split))
    return getattr(info, "num_examples", None)
