"""Which columns of a table are pixels: by their names, by their text, or, without a header, by their values."""

from __future__ import annotations

import csv
import gzip
import math
import re
from collections import defaultdict
from dataclasses import dataclass, replace
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pacsv
import pyarrow.parquet as pq

TEXT_SUFFIXES = (".csv", ".tsv", ".csv.gz", ".tsv.gz")
_NUMBERED = re.compile(r"(pixels?|px|pix|p|)[ _-]*(\d+)", re.IGNORECASE)  # pixel0, pixel_0, 0
_PLACED = re.compile(r"(?:(?:pixel|px|p)[ _-]*)?(\d+)[x_](\d+)", re.IGNORECASE)  # 1x1, pixel_0_0
_NUMBER = re.compile(r"-?\d+(\.\d+)?")
_WRITTEN = re.compile(r"\s*\d{1,5}( \d{1,5})+\s*")
_LEAST_PIXELS = 16  # of columns that are called pixel
_LEAST_UNNAMED = 64  # of other numbered columns: tables of measurements have some dozens


@dataclass(frozen=True)
class PixelColumns:
    """How a table holds its pixels.

    Attributes:
        names: Names of all columns; of a table without a header those that it gets.
        pixels: Columns of the pixels in order, or the one column that holds them as text.
        side: (height, width) of the images.
        written: Whether the pixels are text in one column.
        delimiter: What stands between two columns of a text file.
        skipped_lines: Lines above the first row of a text file: 1 if it has a header.
    """

    names: list[str]
    pixels: list[str]
    side: tuple[int, int]
    written: bool = False
    delimiter: str = ","
    skipped_lines: int = 1

    def read_options(self, block_size: int) -> pacsv.ReadOptions:
        """How Arrow reads the text file."""
        return pacsv.ReadOptions(column_names=self.names, skip_rows=self.skipped_lines, block_size=block_size)


def find_pixel_columns(path: Path) -> PixelColumns | None:
    """Find the columns of pixels in a CSV, TSV or parquet file; None if there are none.

    Raises:
        ValueError: If there are, and they can't be put in order for certain.
    """
    if path.name.lower().endswith(TEXT_SUFFIXES):
        return _in_text(path)
    if path.suffix.lower() != ".parquet":
        return None
    file = pq.ParquetFile(path)
    names = list(file.schema_arrow.names)
    text = [field.name for field in file.schema_arrow if pa.types.is_string(field.type)]
    first: dict[str, str] = {}
    if text and len(names) < _LEAST_UNNAMED:
        head = next(file.iter_batches(batch_size=1, columns=text), None)
        first = {name: head.column(name)[0].as_py() or "" for name in text} if head is not None and len(head) else {}
    return _by_name(path, names) or _by_text(path, names, first)


def _in_text(path: Path) -> PixelColumns | None:
    opener = gzip.open if path.suffix.lower() == ".gz" else open
    with opener(path, "rt", encoding="utf-8-sig", errors="replace", newline="") as lines:
        first, second = lines.readline(1 << 24), lines.readline(1 << 24)
    delimiter = max(",;\t", key=first.count)
    names, values = ([field.strip() for field in _fields(line, delimiter)] for line in (first, second))
    numbers = [_NUMBER.fullmatch(name) is not None for name in names]
    counted = [name for name, number in zip(names, numbers, strict=True) if number]
    # pandas numbers columns without a name: these numbers are a header, and say nothing.
    is_header = counted == [str(i) for i in range(len(counted))]
    found: PixelColumns | None
    if all(numbers) or (numbers.count(False) == 1 and not is_header and not (numbers[0] and numbers[-1])):
        found = _without_names(path, numbers, delimiter, skipped=int(is_header))
    else:
        names = [name or f"__index_level_{place}__" for place, name in enumerate(names)]
        found = _by_name(path, names) or _by_text(path, names, dict(zip(names, values, strict=False)))
    return found and replace(found, delimiter=delimiter)


def _fields(line: str, delimiter: str) -> list[str]:
    limit = csv.field_size_limit(1 << 24)
    try:
        return next(csv.reader([line], delimiter=delimiter), [])
    except csv.Error:
        return []
    finally:
        csv.field_size_limit(limit)


def _by_name(path: Path, names: list[str]) -> PixelColumns | None:
    return _by_place(path, names) or _by_number(path, names)


def _by_place(path: Path, names: list[str]) -> PixelColumns | None:
    """Columns that are called after the row and the column of their pixel."""
    places = {name: (int(match[1]), int(match[2])) for name in names if (match := _PLACED.fullmatch(name))}
    if len(places) < _LEAST_PIXELS:
        return None
    ordered = sorted(places, key=places.__getitem__)
    low, high = places[ordered[0]], places[ordered[-1]]
    side = high[0] - low[0] + 1, high[1] - low[1] + 1
    if low in ((0, 0), (1, 1)) and side[0] * side[1] == len(set(places.values())) == len(places):
        return PixelColumns(names, ordered, side)
    raise ValueError(
        f"{path.name} has {len(places)} columns of pixels from {ordered[0]!r} to {ordered[-1]!r}, expected one for "
        "each row and column of an image; add those that are missing"
    )


def _by_number(path: Path, names: list[str]) -> PixelColumns | None:
    """Columns that are called after the number of their pixel."""
    prefixes: dict[str, dict[str, int]] = defaultdict(dict)
    for name in names:
        if match := _NUMBERED.fullmatch(name):
            prefixes[match[1].lower()][name] = int(match[2])
    prefix = max(prefixes, key=lambda each: len(prefixes[each]), default="")
    numbers = prefixes[prefix]
    side = math.isqrt(len(numbers))
    is_square = side**2 == len(numbers)
    named = prefix.startswith("pix")
    if len(numbers) < (_LEAST_PIXELS if named else _LEAST_UNNAMED) or not (named or is_square):
        return None
    ordered = sorted(numbers, key=numbers.__getitem__)
    first = numbers[ordered[0]]
    complete = first in (0, 1) and [numbers[name] for name in ordered] == list(range(first, first + len(ordered)))
    if complete and is_square:
        return PixelColumns(names, ordered, (side, side))
    raise _unordered(path, len(numbers), f"from {ordered[0]!r} to {ordered[-1]!r}", complete)


def _unordered(path: Path, count: int, which: str, complete: bool = True) -> ValueError:
    side = math.isqrt(count // 3)
    if complete and 3 * side**2 == count:
        return ValueError(
            f"{path.name} has {count} pixels an image, 3 x {side} x {side}, and does not say in which order the "
            "colours stand; expected grey images; save it as numpy.savez(file, train_images=pixels.reshape(-1, "
            f"{side}, {side}, 3), train_labels=labels), or with reshape(-1, 3, {side}, {side}) if all red values come "
            "first"
        )
    return ValueError(
        f"{path.name} has {count} pixels an image, {which}, expected a square number of them, without gaps, such as "
        "784; add those that are missing, or save the images as numpy.savez(file, train_images=..., train_labels=...)"
    )


def _by_text(path: Path, names: list[str], first: dict[str, str]) -> PixelColumns | None:
    """The column whose first value is a row of numbers."""
    found = [name for name, value in first.items() if _WRITTEN.fullmatch(value)]
    found = [name for name in found if len(first[name].split()) >= _LEAST_UNNAMED]
    if not found:
        return None
    if len(found) > 1:
        raise ValueError(
            f"{path.name} has pixels in the columns {', '.join(found)}, expected them in one; remove the others"
        )
    count = len(first[found[0]].split())
    side = math.isqrt(count)
    if side**2 != count:
        raise _unordered(path, count, f"in column {found[0]!r}")
    return PixelColumns(names, found, (side, side), written=True)


def _without_names(path: Path, numbers: list[bool], delimiter: str, skipped: int) -> PixelColumns | None:
    """Columns of a file without a header: the label is the one column that can be it, at the start or the end."""
    count = len(numbers)
    unlabelled = math.isqrt(count) ** 2 == count
    side = math.isqrt(count if unlabelled else count - 1)
    if side**2 < _LEAST_UNNAMED or side**2 + (not unlabelled) != count:
        return None
    columns = PixelColumns([f"column {i}" for i in range(count)], [], (side, side), False, delimiter, skipped)
    labels = [place for place in (0, count - 1) if not numbers[place]]
    if not unlabelled and not labels:
        ends = pacsv.read_csv(
            str(path),
            read_options=columns.read_options(1 << 24),
            parse_options=pacsv.ParseOptions(delimiter=delimiter),
            convert_options=pacsv.ConvertOptions(include_columns=[columns.names[0], columns.names[-1]]),
        )
        labels = [place for place in (0, count - 1) if _may_be_labels(ends[columns.names[place]])]
    if not unlabelled and len(labels) != 1:
        raise ValueError(
            f"{path.name} has {count} columns of numbers and no header, and {'both' if labels else 'neither'} of the "
            f"first and the last column can be the label; expected a first line such as label,pixel0,...,"
            f"pixel{side**2 - 1}; add it"
        )
    names = ["label" if place in labels else name for place, name in enumerate(columns.names)]
    return replace(columns, names=names, pixels=[name for name in names if name != "label"])


def _may_be_labels(values: pa.ChunkedArray) -> bool:
    """Whether integers are numbers of classes: all from 0 or 1 on, each several times."""
    if not pa.types.is_integer(values.type) or values.null_count:
        return False
    distinct = sorted(pc.unique(values).to_pylist())
    first = distinct[0] if distinct else -1
    return (
        first in (0, 1)
        and 2 <= len(distinct) <= len(values) // 2
        and distinct == list(range(first, first + len(distinct)))
    )
