"""Tables of text beside the images: CSV, TSV, JSON lines and lists, and which image each row is about."""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any

from datasets import Value

from hf_icckd.data.splits.words import Role, split_name

TABLE_SUFFIXES = {".csv", ".tsv", ".jsonl", ".ndjson", ".txt", ".lst"}
_SNIFFED_CHARACTERS = 65536
_CANONICAL_INT = re.compile(r"-?(0|[1-9]\d{0,17})")
_CANONICAL_FLOAT = re.compile(r"-?(0|[1-9]\d*)\.\d+([eE][-+]?\d+)?|nan|-?inf", re.IGNORECASE)
_MISSING = {"", "nan", "NaN", "null", "NULL", "None", "N/A", "NA", "<NA>"}
_NOWHERE = PurePosixPath()
Column = list[str | None]


class ImageIndex:
    """Finds the image that a cell of a table means: by its path, by the end of it, by its name, without suffix too.

    Args:
        images: Paths of all images.
    """

    def __init__(self, images: Sequence[PurePosixPath]):
        self.images = images
        self._exact = {str(image): image for image in images}
        self._by_name: dict[str, list[PurePosixPath]] = {}
        for image in images:
            for name in {image.name, image.stem}:
                self._by_name.setdefault(name, []).append(image)

    def find(self, cell: str | None, table: PurePosixPath = _NOWHERE) -> PurePosixPath | None:
        """Return the image of a cell; None if there is none, or several.

        Args:
            cell: Path or name, with or without suffix.
            table: Path of the table. Paths in it may start from its folder; of images with the same name it means
                those in its folder, and `train.csv` those in a folder of the training split.
        """
        if not cell:
            return None
        path = cell.strip().replace("\\", "/").removeprefix("./")
        for exact in (str(table.parent / path), path):
            if exact in self._exact:
                return self._exact[exact]
        parts = PurePosixPath(path).parts
        named = self._by_name.get(parts[-1], []) if parts else []
        if not named:
            return None
        for start in range(len(parts)):  # the longest common end decides
            end = parts[start:]
            same = [image for image in named if _ends_with(image, end)]
            if len(same) > 1 and table.parent.parts:
                same = [image for image in same if image.is_relative_to(table.parent)] or same
            if len(same) > 1 and (split := split_name(table.stem)) is not None:
                same = [image for image in same if _lies_in_split(image, split.role)] or same
            if len(same) == 1:
                return same[0]
            if same:
                return None
        return None


def _lies_in_split(image: PurePosixPath, role: Role) -> bool:
    return any(found.role == role for part in image.parts[:-1] if (found := split_name(part)))


def _ends_with(image: PurePosixPath, end: tuple[str, ...]) -> bool:
    own = image.parts[-len(end) :]
    return own == end or (own[:-1] == end[:-1] and len(own) == len(end) and image.stem == end[-1])


@dataclass
class TextTable:
    """A table whose rows are about images.

    Attributes:
        name: Name of the file, for messages.
        columns: Cells by column; None for an empty one.
        file_column: Column that names the images; None if no column does.
        rows: Row of each image that is named.
        unknown: Cells of the file column that name no image.
    """

    name: str
    columns: dict[str, Column]
    file_column: str | None
    rows: dict[PurePosixPath, int]
    unknown: list[str]

    def __len__(self) -> int:
        return len(next(iter(self.columns.values()), []))

    def cells(self, column: str, images: Sequence[PurePosixPath]) -> Column:
        """Return the cells of a column for some images; None for an image that the table does not name."""
        values = self.columns[column]
        return [values[self.rows[image]] if image in self.rows else None for image in images]


def read_text_table(content: bytes, path: PurePosixPath, index: ImageIndex) -> TextTable:
    """Read a table and find the column that names images.

    Args:
        content: Content of the file.
        path: Path of the file, relative to the root of the images if it lies there.
        index: The images.

    Raises:
        ValueError: If the file is not UTF-8 or no table, or if it says different things about one image.
    """
    name = str(path)
    place = PurePosixPath(path.name) if path.is_absolute() else path
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(f"table {name!r} is not UTF-8 (byte {error.start:,}); save it as UTF-8") from None
    if path.suffix.lower() in (".jsonl", ".ndjson"):
        columns = _json_columns(text, name)
    else:
        columns = _delimited_columns(text, name, index, place)
    shares = {}
    for column, cells in columns.items():
        found = [index.find(cell, place) for cell in cells]
        if any(found):
            shares[column] = found
    if not shares:
        return TextTable(name, columns, None, {}, [])
    file_column = max(shares, key=lambda column: sum(image is not None for image in shares[column]))
    rows: dict[PurePosixPath, int] = {}
    for row, image in enumerate(shares[file_column]):
        if image is not None:
            rows.setdefault(image, row)
    cells = columns[file_column]
    unknown = [cell or "" for cell, image in zip(cells, shares[file_column], strict=True) if image is None]
    return TextTable(name, columns, file_column, rows, unknown)


def check_one_row_each(table: TextTable, column: str, index: ImageIndex) -> None:
    """Raise ValueError if rows about the same image differ in a column."""
    assert table.file_column is not None
    path = PurePosixPath(table.name)
    place = PurePosixPath(path.name) if path.is_absolute() else path
    values: dict[PurePosixPath, str | None] = {}
    differing: dict[PurePosixPath, tuple[str | None, str | None]] = {}
    for cell, value in zip(table.columns[table.file_column], table.columns[column], strict=True):
        image = index.find(cell, place)
        if image is not None and values.setdefault(image, value) != value:
            differing[image] = (values[image], value)
    if differing:
        image, (first, second) = next(iter(differing.items()))
        raise ValueError(
            f"table {table.name!r} gives {len(differing):,} images several values of {column!r}, such as {first!r} "
            f"and {second!r} for {str(image)!r}; expected one label an image: keep one row each"
        )


def _json_columns(text: str, name: str) -> dict[str, Column]:
    rows: list[dict[str, Any]] = []
    for number, line in enumerate(text.splitlines(), start=1):
        if line.strip():
            try:
                row = json.loads(line)
            except json.JSONDecodeError as error:
                raise ValueError(f"table {name!r}, line {number}: {error}; expected one JSON object a line") from None
            if not isinstance(row, dict):
                raise ValueError(f"table {name!r}, line {number}: expected one JSON object a line")
            rows.append(row)
    names = list(dict.fromkeys(key for row in rows for key in row))
    return {key: [_as_text(row.get(key)) for row in rows] for key in names}


def _as_text(value: Any) -> str | None:
    if value is None or isinstance(value, str):
        return None if value in _MISSING else value
    return json.dumps(value)


def _delimited_columns(text: str, name: str, index: ImageIndex, place: PurePosixPath) -> dict[str, Column]:
    lines = [line for line in text.splitlines() if line.strip()]
    if not lines:
        raise ValueError(f"table {name!r} is empty; expected file names and labels")
    if _is_list_of_paths(lines, index, place):
        return {"column 1": [line.strip() for line in lines]}
    delimiter = _delimiter(text[:_SNIFFED_CHARACTERS])
    rows = list(csv.reader(io.StringIO(text), delimiter=delimiter, skipinitialspace=True))
    rows = [row for row in rows if any(cell.strip() for cell in row)]
    width = len(rows[0])
    for number, row in enumerate(rows, start=1):
        if len(row) != width and not (len(row) == width + 1 and not row[-1]):
            raise ValueError(
                f"table {name!r}, row {number} has {len(row)} cells, expected {width} as in the first; correct it"
            )
    has_header = not any(index.find(cell, place) for cell in rows[0])
    if has_header and PurePosixPath(name).suffix.lower() in (".txt", ".lst"):
        has_header = not any(_CANONICAL_INT.fullmatch(cell.strip()) for cell in rows[0])
    header = [cell.strip() for cell in rows[0]] if has_header else [f"column {i}" for i in range(1, width + 1)]
    header = [cell or f"column {i}" for i, cell in enumerate(header, start=1)]
    if len(set(header)) < len(header):
        twice = next(cell for cell in header if header.count(cell) > 1)
        raise ValueError(f"table {name!r} has two columns called {twice!r}; rename one")
    body = rows[1:] if has_header else rows
    columns = zip(*(row[:width] for row in body), strict=True) if body else [()] * width
    return {
        column: [None if cell.strip() in _MISSING else cell.strip() for cell in cells]
        for column, cells in zip(header, columns, strict=True)
    }


def _is_list_of_paths(lines: Sequence[str], index: ImageIndex, place: PurePosixPath) -> bool:
    """Whether lines are paths, which may hold spaces and commas, and no rows whose last cell is a path."""
    above: set[str] = set()
    count = 0
    for line in lines:
        image = index.find(line, place)
        if image is not None:
            count += 1
            parts = PurePosixPath(line.strip().replace("\\", "/")).parts
            own = (*image.parts[:-1], parts[-1])
            while parts and own and parts[-1] == own[-1]:
                parts, own = parts[:-1], own[:-1]
            above.add("/".join(parts))
    return count > len(lines) / 2 and len(above) == 1 and not re.search(r"[,;\t|]", above.pop())


def _delimiter(sample: str) -> str:
    """The delimiter that cuts most lines into the same number of cells, two at least."""
    lines = [line for line in sample.splitlines() if line.strip()][:50]
    best, most = ",", 0
    for delimiter in (",", "\t", ";", "|", " "):
        widths = [len(next(csv.reader([line], delimiter=delimiter))) for line in lines]
        common = max(set(widths), key=widths.count)
        if common > 1 and widths.count(common) > most:
            best, most = delimiter, widths.count(common)
    return best


def typed(cells: Column) -> tuple[list[Any], Value]:
    """Cells as whole numbers, as numbers or as text, whichever they all are; `00` is text and stays `00`.

    Example:
        >>> typed(["1", None, "12"])[0], typed(["00", "01"])[0]
        ([1, None, 12], ['00', '01'])
    """
    given = [cell for cell in cells if cell is not None]
    if given and all(_CANONICAL_INT.fullmatch(cell) for cell in given):
        return [None if cell is None else int(cell) for cell in cells], Value("int64")
    if given and all(_CANONICAL_INT.fullmatch(cell) or _CANONICAL_FLOAT.fullmatch(cell) for cell in given):
        return [None if cell is None else float(cell) for cell in cells], Value("float64")
    return list(cells), Value("string")
