"""Tables of pixels: a column for each pixel (Kaggle's MNIST), or a column of text that holds them all (FER2013)."""

from __future__ import annotations

import contextlib
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pacsv
import pyarrow.parquet as pq
from datasets import Dataset, Features, Image

from hf_icckd.data.cache import cache_key, file_state
from hf_icckd.data.containers.arrow_cache import BATCH_BYTES, cached_rows, with_columns
from hf_icckd.data.containers.netpbm import check_brightness, netpbm, to_8_bits
from hf_icckd.data.containers.pixel_columns import TEXT_SUFFIXES, PixelColumns, find_pixel_columns

_VERSION = 1  # increase it whenever other bytes are made of a table


def read_pixel_table(path: Path, pixel_range: Sequence[float] | None = None) -> Dataset | None:
    """Read a CSV, TSV or parquet file whose columns are pixels; None if it holds something else.

    The images become the column `image`; all other columns stay as they are, such as `label`, `emotion` or `Usage`. A
    file without a header is read if only its first or only its last column can be the label, which is called `label`.

    Args:
        pixel_range: Values of black and white; None for 0 and 255.

    Raises:
        ValueError: If it is a table of pixels that can't be read for certain, or a value is missing or out of range.

    Example:
        >>> import tempfile
        >>> file = Path(tempfile.mkdtemp()) / "train.csv"
        >>> names = ["label", *(f"pixel{i}" for i in range(16))]
        >>> _ = file.write_text(",".join(names) + chr(10) + "3" + ",255" * 16)
        >>> read_pixel_table(file)["label"][:]
        [3]
    """
    with _readable(path):
        columns = find_pixel_columns(path)
        if columns is None:
            return None
        rows = cached_rows(
            cache_key("pixel table", _VERSION, file_state(path), columns, pixel_range and tuple(pixel_range)),
            Features({"image": Image(decode=False)}),
            lambda: _image_batches(path, columns, pixel_range),
            path.name,
        )
        return with_columns(rows, _other_columns(path, columns))


@contextlib.contextmanager
def _readable(path: Path) -> Iterator[None]:
    try:
        yield
    except (pa.ArrowException, OSError, EOFError, zlib.error) as error:
        raise ValueError(
            f"{path.name} can't be read: {' '.join(str(error).split())[:300]}; correct the file, or download it again"
        ) from error


def _image_batches(path: Path, columns: PixelColumns, pixel_range: Sequence[float] | None) -> Iterator[pa.Table]:
    black, white = pixel_range or (0, 255)
    start, brightest = 0, 0
    for batch in _pixel_batches(path, columns):
        if batch.num_rows == 0:
            continue
        read = _written_pixels if columns.written else _pixels
        values = read(batch, columns, path, start)
        pixels = to_8_bits(values.reshape(-1, *columns.side), black, white, path.name, start)
        start, brightest = start + len(pixels), max(brightest, int(pixels.max()))
        yield pa.table({"image": netpbm(pixels)})
    if start == 0:
        raise ValueError(f"{path.name} has columns of pixels and no rows, expected an image a row; correct the file")
    if pixel_range is None:
        check_brightness(brightest, path.name)


def _pixel_batches(path: Path, columns: PixelColumns) -> Iterator[pa.RecordBatch]:
    with _readable(path):
        if not path.name.lower().endswith(TEXT_SUFFIXES):
            size = max(1, BATCH_BYTES // (8 * columns.side[0] * columns.side[1]))
            yield from pq.ParquetFile(path).iter_batches(batch_size=size, columns=columns.pixels)
            return
        kind = pa.string() if columns.written else pa.float64()
        with pacsv.open_csv(
            str(path),
            read_options=columns.read_options(BATCH_BYTES // 2),
            parse_options=pacsv.ParseOptions(delimiter=columns.delimiter),
            convert_options=pacsv.ConvertOptions(
                include_columns=columns.pixels, column_types=dict.fromkeys(columns.pixels, kind)
            ),
        ) as batches:
            yield from batches


def _pixels(batch: pa.RecordBatch, columns: PixelColumns, path: Path, start: int) -> np.ndarray:
    """(N, H * W) values of a batch whose columns are pixels."""
    values = np.empty((batch.num_rows, len(columns.pixels)))
    for number, name in enumerate(columns.pixels):
        column = batch.column(name).cast(pa.float64())
        if column.null_count:
            row = start + column.is_null().index(True).as_py()
            raise ValueError(f"{path.name}: column {name!r} of row {row} is empty, expected a pixel value; fill it in")
        values[:, number] = column.to_numpy()
    return values


def _written_pixels(batch: pa.RecordBatch, columns: PixelColumns, path: Path, start: int) -> np.ndarray:
    """(N, H * W) values of a batch whose pixels are text."""
    lists = pc.split_pattern(pc.utf8_trim_whitespace(batch.column(columns.pixels[0])), " ")
    expected = columns.side[0] * columns.side[1]
    lengths = pc.fill_null(pc.list_value_length(lists), 0).to_numpy()
    wrong = np.flatnonzero(lengths != expected)
    if len(wrong):
        raise ValueError(
            f"{path.name}: column {columns.pixels[0]!r} of row {start + wrong[0]} holds {lengths[wrong[0]]} numbers, "
            f"expected {expected} as in the first row; correct or remove the row"
        )
    return lists.flatten().cast(pa.float64()).to_numpy()


def _other_columns(path: Path, columns: PixelColumns) -> pa.Table:
    names = [name for name in columns.names if name not in set(columns.pixels)]
    if not names:
        return pa.table({})
    if path.name.lower().endswith(TEXT_SUFFIXES):
        table = pacsv.read_csv(
            str(path),
            read_options=columns.read_options(BATCH_BYTES),
            parse_options=pacsv.ParseOptions(delimiter=columns.delimiter),
            convert_options=pacsv.ConvertOptions(include_columns=names, strings_can_be_null=True),
        )
    else:
        table = pq.read_table(path, columns=names)
    # The images take the name.
    return table.rename_columns({"image": "image_"}) if "image" in names else table
