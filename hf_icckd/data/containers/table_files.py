"""Tables of images: parquet, arrow, CSV and JSON lines, whose cells hold images, bytes, paths, base64 or pixels."""

from __future__ import annotations

import glob
import os
import re
from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq
from datasets import (
    Dataset,
    Features,
    Image,
    IterableDataset,
    SplitDict,
    SplitInfo,
    concatenate_datasets,
    load_dataset,
)

from hf_icckd.data.cache import cache_key, file_state
from hf_icckd.data.containers.encoded_images import decode_base64_column, holds_base64, looks_like_urls
from hf_icckd.data.containers.pixel_tables import read_pixel_table
from hf_icckd.data.labels.columns import find_image_column, holds_text
from hf_icckd.data.layouts.text_tables import ImageIndex, read_text_table, typed
from hf_icckd.data.sources.image_data import LeftOut
from hf_icckd.data.sources.source import Reading
from hf_icckd.data.splits.roles import given_splits, named_reading
from hf_icckd.data.splits.words import SplitName, split_name
from hf_icckd.options.data import ImageDataArguments
from hf_icckd.utils.text import listed

ARROW_SUFFIXES = (".parquet", ".arrow")
_TEXT_SUFFIXES = (".csv", ".tsv", ".jsonl", ".ndjson")
_SAMPLE = 100


class TableGroup(NamedTuple):
    """Tables of one split.

    Attributes:
        name: Name that says which split it is.
        files: Paths relative to the root.
    """

    name: str
    files: list[PurePosixPath]


def read_tables(root: Path, tables: Sequence[PurePosixPath], options: ImageDataArguments, dataset: str) -> Reading:
    """Read tables as splits, which their names or the names of their folders say.

    Args:
        root: Folder of the tables.
        tables: Paths relative to it.
        options: Options that name splits and columns.
        dataset: Name of the data set, for errors.
    """
    groups = group_tables(tables, options)
    loaded: dict[str, Dataset] = {}
    left_out: list[LeftOut] = []
    # One by one: a test split without labels has other columns than the rest.
    for group in groups:
        rows = _read_group(root, group, options)
        loaded[group.name] = _with_images(rows, root / group.files[0].parent, group.name, options, left_out)
    reading = named_reading(dataset, loaded, options, "table")
    reading.left_out += left_out
    return reading


def group_tables(tables: Sequence[PurePosixPath], options: ImageDataArguments) -> list[TableGroup]:
    """Put the tables of each split together.

    The words of a file's name say which split it belongs to, then those of its folders' names.

    Raises:
        ValueError: If some names say a split and others don't.
    """
    kinds = sorted({table.suffix.lower() for table in tables})
    if len(kinds) > 1:
        first = {kind: next(str(table) for table in tables if table.suffix.lower() == kind) for kind in kinds}
        raise ValueError(f"it mixes {listed(list(first.values()))}, expected tables of one kind; move the others away")
    if options.splits == "none":
        return [TableGroup("all tables", list(tables))]
    chosen = {name for names in given_splits(options).values() for name in names}
    groups: dict[str | SplitName, TableGroup] = {}
    wordless: list[PurePosixPath] = []
    for table in tables:
        given = next((name for name in chosen if _is_called(table, name)), None)
        text = next((text for text in (table.stem, *reversed(table.parent.parts)) if split_name(text)), None)
        if given is not None:
            groups.setdefault(given, TableGroup(given, [])).files.append(table)
        elif text is not None and (found := split_name(text)) is not None:
            groups.setdefault(found, TableGroup(text, [])).files.append(table)
        else:
            wordless.append(table)
    if wordless and groups and not chosen:
        raise ValueError(
            f"the name of {listed([str(table) for table in wordless], 3)} says no split, and that of "
            f"{groups[next(iter(groups))].files[0]} does; say which to use with --train_split and --test_split, or "
            "move it away"
        )
    if wordless and not groups:
        groups[""] = TableGroup("all tables" if len(wordless) > 1 else str(wordless[0]), wordless)
    return list(groups.values())


def _is_called(table: PurePosixPath, name: str) -> bool:
    """Whether a user means this table, or a folder that it lies in."""
    path = PurePosixPath(name.rstrip("/"))
    return name in (str(table), table.name, table.stem) or (table.is_relative_to(path) and path.parts != ())


def _read_group(root: Path, group: TableGroup, options: ImageDataArguments) -> Dataset:
    paths = [root / file for file in group.files]
    _check_one_schema(root, group)
    pixels = [read_pixel_table(path, options.pixel_limits()) for path in paths]
    found = [rows for rows in pixels if rows is not None]
    if found and len(found) == len(paths):
        return found[0] if len(found) == 1 else _joined(found)
    suffix = paths[0].suffix.lower()
    if suffix in _TEXT_SUFFIXES:
        return _joined([_read_text(path) for path in paths])
    # Another name for other content: the cache of `datasets` knows a file by its path and time alone.
    name = cache_key(*(file_state(path) for path in paths))
    patterns = [glob.escape(str(path.absolute())) for path in paths]
    return load_dataset(suffix.lstrip("."), name, data_files=patterns, split="train")


def _joined(tables: list[Dataset]) -> Dataset:
    return tables[0] if len(tables) == 1 else concatenate_datasets(tables)


def _check_one_schema(root: Path, group: TableGroup) -> None:
    """Raise ValueError if a table can't be read or has no rows, or tables are those of several data sets.

    A repository on the Hub may hold the tables of several configurations.
    """
    if group.files[0].suffix.lower() != ".parquet":
        return
    names = {}
    for file in group.files:
        try:
            with pq.ParquetFile(root / file) as table:
                names[file], count = tuple(table.schema_arrow.names), table.metadata.num_rows
        except (pa.ArrowException, OSError) as error:
            raise ValueError(
                f"{file} can't be read as parquet ({' '.join(str(error).split())[:200]}); it is damaged or not "
                "complete: copy or download it again"
            ) from error
        twice = next((name for name in names[file] if names[file].count(name) > 1), None)
        if twice is not None:
            raise ValueError(f"{file} has two columns called {twice!r}; rename one of them")
        if count == 0:
            raise ValueError(f"{file} has no rows, expected images; write it once more, or move it away")
    other = next((file for file in group.files if names[file] != names[group.files[0]]), None)
    if other is not None:
        first = group.files[0]
        shown = "; ".join(listed(list(names[file]), 4) for file in (first, other))
        raise ValueError(
            f"{first} and {other} have other columns ({shown}), so they may be two configurations of one data set; "
            "give the folder of one of them, or name the tables with --train_split and --test_split"
        )


def _read_text(path: Path) -> Dataset:
    table = read_text_table(path.read_bytes(), PurePosixPath(path.absolute()), ImageIndex([]))
    cells = {name: typed(column) for name, column in table.columns.items()}
    features = Features({name: type_ for name, (_, type_) in cells.items()})
    return Dataset.from_dict({name: values for name, (values, _) in cells.items()}, features=features)


def _with_images(
    rows: Dataset, folder: Path, name: str, options: ImageDataArguments, left_out: list[LeftOut]
) -> Dataset:
    """Turn a column of base64 or of paths into images; paths are relative to the table."""
    column = find_image_column(rows, options.image_column)
    if not holds_text(rows.features[column]):
        return rows
    values = rows[column][:]
    sample = [value for value in values[:_SAMPLE] if value]
    if looks_like_urls(sample):
        raise ValueError(
            f"column {column!r} of {name!r} holds addresses such as {sample[0]!r}, expected images or paths; download "
            "the images and write their paths into the column"
        )
    if holds_base64(sample):
        return decode_base64_column(rows, column)
    paths = [None if not value else str(folder / _local(value)) for value in values]
    missing = [row for row, path in enumerate(paths) if path is None or not os.path.isfile(path)]
    if missing and options.bad_images != "skip":
        raise ValueError(
            f"row {missing[0]} of {name!r}, column {column!r}: {values[missing[0]]!r} is no file in {str(folder)!r} "
            f"(nor are {len(missing) - 1:,} more rows); fetch the images, or leave such rows out with --bad_images "
            "skip"
        )
    if missing:
        left_out.append(LeftOut(len(missing), f"rows of {name} whose image is not there", str(values[missing[0]])))
        gone = set(missing)
        kept = [row for row in range(len(paths)) if row not in gone]
        rows, paths = rows.select(kept), [paths[row] for row in kept]
    images = Dataset.from_dict({column: paths}, features=Features({column: Image(decode=False)}))
    return _beside(rows.remove_columns(column), images)


def _local(value: str) -> str:
    """A path as it is written here: with `/`, and without the `file://` of an address."""
    return re.sub(r"^file://(localhost)?(?=/)", "", value.strip().replace("\\", "/"))


def _beside(rows: Dataset, images: Dataset) -> Dataset:
    return concatenate_datasets([images, rows], axis=1) if rows.column_names else images


def stream_tables(
    root: Path, tables: Sequence[PurePosixPath], options: ImageDataArguments
) -> dict[str, IterableDataset]:
    """Open tables as streams, with the number of their rows."""
    streams = {}
    for group in group_tables(tables, options):
        paths = [root / file for file in group.files]
        kind = paths[0].suffix.lower().lstrip(".")
        patterns = [glob.escape(str(path.absolute())) for path in paths]
        rows = load_dataset(kind, data_files=patterns, split="train", streaming=True)
        # What the files say of themselves may be about the data set they were taken from: their rows are counted.
        count = sum(_count_rows(path) for path in paths)
        rows.info.splits = SplitDict({"train": SplitInfo("train", num_examples=count)})
        streams[group.name] = rows
    return streams


def _count_rows(path: Path) -> int:
    if path.suffix.lower() == ".parquet":
        return pq.read_metadata(path).num_rows
    with pa.memory_map(str(path)) as source:  # no image is read
        try:
            return sum(batch.num_rows for batch in pa.ipc.open_stream(source))
        except pa.ArrowInvalid:  # arrow has two formats; `datasets` tells them apart in the same way
            reader = pa.ipc.open_file(source)
            return sum(reader.get_batch(i).num_rows for i in range(reader.num_record_batches))


def holds_images(path: Path) -> bool:
    """Whether a parquet or arrow file has a column that may hold images or pixels."""
    try:
        schema = pq.read_schema(path) if path.suffix.lower() == ".parquet" else _arrow_schema(path)
    except (pa.ArrowException, OSError):
        return True  # reading it says what is wrong
    types: list[Any] = [field.type for field in schema]
    kinds = (pa.types.is_binary, pa.types.is_large_binary, pa.types.is_struct, pa.types.is_list)
    return len(schema) > 100 or any(kind(type_) for type_ in types for kind in kinds)


def _arrow_schema(path: Path) -> pa.Schema:
    with pa.memory_map(str(path)) as source:
        try:
            return pa.ipc.open_stream(source).schema
        except pa.ArrowInvalid:
            return pa.ipc.open_file(source).schema
