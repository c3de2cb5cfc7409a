"""Shrunk copies of large training images on the disk, each made once: `--image_cache 512`."""

from __future__ import annotations

import contextlib
import functools
import io
import logging
import os
import shutil
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import PIL
import PIL.Image
from datasets import Dataset
from datasets.arrow_writer import ArrowWriter
from filelock import FileLock, Timeout

from hf_icckd.data.cache import cache_errors, cache_folder, cache_key
from hf_icckd.data.depth import Range
from hf_icckd.data.images import READER, REMEDY, UnreadableImageError, name_of_row
from hf_icckd.data.splits.content import content_of, hash_of
from hf_icckd.data.stored_image import Decoding, StoredImage, jpeg_decoder
from hf_icckd.options.checks import check_number
from hf_icckd.utils.atomic_files import replace_file
from hf_icckd.utils.machine import cores
from hf_icckd.utils.progress_bars import progress_bar
from hf_icckd.utils.text import size_text

logger = logging.getLogger(__name__)

_QUALITY = 95
_PIECE = 512  # images in a file; a run that is killed loses no more than one file
_PROBED = 32  # images that are shrunk to estimate the room
_MARGIN = 1.1  # of an estimate
_LONGEST = 65_500  # side of a JPEG
_FEATURES = datasets.Features({"image": datasets.Image(decode=False), "content": datasets.Value("int64")})


class ShrunkImages:
    """Rows of a data set with copies in place of images whose short side has more than `short_side` pixels.

    Copies are JPEGs of quality 95. `prepare` makes those that are missing, and keeps them in the cache folder of
    `datasets`, found by the bytes of their images: all data sets and runs share them, and a process that is stopped
    leaves what it has made. Until then an image is shrunk whenever it is read, to the same pixels.

    Args:
        rows: Data set with an undecoded `image` column.
        short_side: Short side in pixels. Smaller images are kept as they are stored.
        name: Name of the split for the progress bar and errors.
        pixel_range: Values of black and white in deep images; None for the range of their type.
        decoding: How images are decoded to be shrunk, see `StoredImage`.
    """

    def __init__(
        self,
        rows: Dataset,
        short_side: int,
        name: str,
        pixel_range: Range | None = None,
        decoding: Decoding = "scaled",
    ):
        self.rows, self.short_side, self.name = rows, short_side, name
        self.pixel_range, self.decoding = pixel_range, decoding
        self._others = rows.remove_columns("image")
        self._copies: tuple[Dataset, np.ndarray] | None = None  # with the place of each row in them
        self._early: dict[int, bytes] = {}  # made before there were any: a trial reads its batch more than once

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, row: int) -> dict[str, Any]:
        """The columns of a row, its image undecoded."""
        if self._copies is None:
            if len(self._early) >= _PIECE:
                self._early.clear()
            content = self._early[row] = self._early.get(row) or self._shrink(row)
        else:
            copies, places = self._copies
            content = copies[int(places[row])]["image"]["bytes"]
        return self._others[row] | {"image": {"bytes": content, "path": None}}

    def prepare(self) -> None:
        """Make the copies that are missing. Of several processes one makes them, and the others wait.

        Raises:
            UnreadableImageError: If an image can't be read, or is another one than when the data set was read.
            ValueError: If the disk has too little room.
        """
        if self._copies is not None:
            return
        versions = PIL.__version__, jpeg_decoder(), READER, _QUALITY
        folder = cache_folder() / f"images-{cache_key(self.short_side, self.pixel_range, self.decoding, versions)}"
        content = content_of(self.rows, self.name).view(np.int64)
        self._fill(folder, content)
        copies = _copies_in(folder)
        known = _content_of_copies(copies)
        order = known.argsort()
        self._copies = copies, order[np.searchsorted(known, content, sorter=order)]
        self._early.clear()

    def _fill(self, folder: Path, content: np.ndarray) -> None:
        with cache_errors():
            folder.mkdir(parents=True, exist_ok=True)
            with _locked(folder):
                for file in folder.glob(".*.unfinished"):  # of a process that was killed
                    file.unlink()
                images, first = np.unique(content, return_index=True)
                missing = np.sort(first[~np.isin(images, _content_of_copies(_copies_in(folder)))])
                if len(missing):
                    self._make(folder, missing, content)

    def _make(self, folder: Path, rows: np.ndarray, content: np.ndarray) -> None:
        """Write copies of these rows."""

        def copy_of(row: int) -> bytes:
            return self._shrink(row, int(content[row]))

        with ThreadPoolExecutor(cores()) as threads:  # decoders let others run
            probed = np.unique(np.linspace(0, len(rows) - 1, min(len(rows), _PROBED)).astype(int))
            sizes = [len(each) for each in threads.map(copy_of, rows[probed].tolist())]
            self._check_room(folder, len(rows) * sum(sizes) // len(sizes), len(rows))
            with progress_bar(f"shrinking {self.name}", total=len(rows), unit="img") as bar:
                for start in range(0, len(rows), _PIECE):
                    piece = rows[start : start + _PIECE]
                    images = []
                    for image in threads.map(copy_of, piece.tolist()):
                        images.append({"bytes": image, "path": None})
                        bar.update()
                    columns = {"image": images, "content": content[piece].tolist()}
                    file = folder / f"{cache_key(content[piece].tobytes())}.arrow"
                    with _named(file):
                        replace_file(file, functools.partial(_write, columns))

    def _shrink(self, row: int, content: int | None = None) -> bytes:
        """The bytes of a copy; with a hash, of the image that had it."""
        record = self.rows[row]
        what = name_of_row(record, row, self.name)
        image = StoredImage(record["image"], what, REMEDY, self.pixel_range, self.decoding)
        if content is not None and hash_of(image.content) != content:
            raise UnreadableImageError(
                f"{what} was changed while copies of the images were made, expected the file that was there when the "
                "data set was read; start again"
            )
        shrunk = image.shrunk(self.short_side)
        if shrunk is None or max(shrunk.size) > _LONGEST:
            image.whole()  # for its error: it will be decoded without the name of its file
            return image.content
        file = io.BytesIO()
        shrunk.save(file, "JPEG", quality=_QUALITY)
        return file.getvalue()

    def _check_room(self, folder: Path, needed: int, count: int) -> None:
        free = shutil.disk_usage(folder).free
        words = f"{count:,} copies with a short side of {self.short_side} pixels take about {size_text(needed)}"
        if _MARGIN * needed > free:
            raise ValueError(
                f"image_cache is {self.short_side}, but {words} in {folder} and {size_text(free)} are free; make "
                "room, set HF_HOME to a folder on a larger disk, take a smaller side, or leave the option out"
            )
        logger.info("%s in %s, of %s that are free", words, folder, size_text(free))


def check_side(short_side: int, largest: int, why_none: str) -> None:
    """Refuse copies that nothing reads, or that are smaller than the batches.

    Args:
        short_side: Their short side in pixels.
        largest: Side of the batches, of student or teacher.
        why_none: Why no copies would be made; empty if they are.

    Raises:
        ValueError: If they are of no use.
    """
    check_number("image_cache", short_side, 1)
    if why_none:
        raise ValueError(f"image_cache is {short_side}, but {why_none}, so there are no copies; leave it out")
    if short_side < largest:
        raise ValueError(
            f"image_cache is {short_side}, expected at least the side of the batches, {largest}: smaller copies would "
            "be enlarged again"
        )


@contextlib.contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Context in which no other process makes copies in the folder."""
    lock = FileLock(folder / "lock")
    try:
        lock.acquire(timeout=0)
    except Timeout:
        logger.info("another process makes copies in %s: waiting for it", folder)
        lock.acquire()
    try:
        yield
    finally:
        lock.release()


@contextlib.contextmanager
def _named(file: Path) -> Iterator[None]:
    """Context that names the file in errors of the system: those of pyarrow, such as of a full disk, have no name."""
    try:
        yield
    except OSError as error:
        raise OSError(error.errno, os.strerror(error.errno) if error.errno else str(error), str(file)) from error


def _write(columns: dict[str, list], path: Path) -> None:
    with ArrowWriter(path=str(path), features=_FEATURES) as writer:
        writer.write_batch(columns)
        writer.finalize()


def _copies_in(folder: Path) -> Dataset:
    """All copies in a folder, mapped from their files."""
    found = [Dataset.from_file(str(file)) for file in sorted(folder.glob("*.arrow"))]
    empty = Dataset.from_dict({"image": [], "content": []}, features=_FEATURES)
    return datasets.concatenate_datasets(found) if found else empty


def _content_of_copies(copies: Dataset) -> np.ndarray:
    return copies.with_format("arrow")["content"][:].to_numpy(zero_copy_only=False)
