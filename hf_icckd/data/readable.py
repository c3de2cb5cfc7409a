"""Leave images out that can't be read: `--bad_images skip`."""

from __future__ import annotations

import errno
import hashlib
import logging
import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import PIL
from datasets import Dataset

from hf_icckd.data.cache import cache_key, cached_array
from hf_icckd.data.depth import Range
from hf_icckd.data.formats import readable_formats
from hf_icckd.data.images import READER, PixelRangeError, UnreadableImageError, decode_image, name_of_row, read_image
from hf_icckd.data.sources.image_data import LeftOut
from hf_icckd.data.splits.fingerprint import split_fingerprint
from hf_icckd.utils.progress_bars import progress_bar

logger = logging.getLogger(__name__)

_THREADS = 8
_PIECE = 256  # images that are decoded while the next ones are fetched
_ABSENT = (errno.ENOENT, errno.EISDIR, errno.ENOTDIR)  # other errors of the system may be gone a moment later


def leave_out_unreadable(
    splits: dict[str, Dataset], pixel_range: Range | None = None
) -> tuple[dict[str, Dataset], list[LeftOut]]:
    """Keep the images of each split that can be read, and count the others.

    Raises:
        ValueError: If a split has no image that can be read.
        PixelRangeError: If an image has values outside the range: an option is wrong, not the file.
    """
    kept, left_out = {}, []
    for name, split in splits.items():
        rows = readable_rows(split, name, pixel_range)
        kept[name] = split
        if len(rows) == len(split):
            continue
        bad = np.setdiff1d(np.arange(len(split)), rows)
        if len(rows) == 0:
            raise ValueError(
                f"none of the {len(split):,} images of the {name} split can be read, expected images; leave out "
                "--bad_images skip to see why"
            )
        kept[name] = split.select(rows)
        example = name_of_row(split[int(bad[0])], int(bad[0]), name)
        reason = f"unreadable images of the {name} split (--bad_images skip; key of their bytes {_key(split, bad)})"
        left_out.append(LeftOut(len(bad), reason, example))
        logger.warning("%s %s stay out, such as %s", f"{len(bad):,}", reason, example)
    return kept, left_out


def readable_rows(split: Dataset, name: str = "train", pixel_range: Range | None = None) -> np.ndarray:
    """Decode every image of a split once, and return the rows (M,) int64 that can be read.

    The answer is kept in the cache folder of `datasets`, under a key of the bytes of all images: one process decodes,
    the others and later starts read it.

    Raises:
        PixelRangeError: If an image has values outside the range.
        UnreadableImageError: If a file can't be opened for a reason of the system, such as missing permission.
    """
    bytes_of_all = split_fingerprint(split, read_all=True)
    key = cache_key(bytes_of_all, pixel_range, PIL.__version__, readable_formats(), READER, "readable")
    return cached_array(key, lambda: _decode_all(split, name, pixel_range), f"readable images of the {name} split")


def find_unreadable(split: Dataset, name: str, pixel_range: Range | None, most: int) -> tuple[int, int, str]:
    """Decode up to `most` evenly spaced images of a split.

    Returns:
        How many were decoded, how many of them can't be read, and the error of the first, as training raises it.

    Raises:
        PixelRangeError: If an image has values outside the range.
    """
    rows = np.unique(np.linspace(0, len(split) - 1, min(len(split), most)).astype(np.int64))
    whole = len(rows) == len(split)
    good = readable_rows(split, name, pixel_range) if whole else _decode_all(split, name, pixel_range, rows)
    bad = np.setdiff1d(rows, good)
    if len(bad) == 0:
        return len(rows), 0, ""
    first = int(bad[0])
    error = f"{name_of_row(split[first], first, name)} could not be read"  # should it be repaired just now
    try:
        read_image(split, first, name, pixel_range)
    except UnreadableImageError as known:
        error = str(known)
    return len(rows), len(bad), error


def _decode_all(split: Dataset, name: str, pixel_range: Range | None, rows: np.ndarray | None = None) -> np.ndarray:
    """Decode all or some rows with threads, which decoders let run meanwhile; return those that can be read."""
    rows = np.arange(len(split)) if rows is None else rows

    def can_be_read(job: tuple[int, dict[str, Any]]) -> bool:
        row, record = job
        try:
            decode_image(record["image"], name_of_row(record, row, name), pixel_range=pixel_range)
        except PixelRangeError:
            raise
        except UnreadableImageError as error:
            code = getattr(error.__cause__, "errno", None)
            if code is not None and code not in _ABSENT:
                raise
            return False
        return True

    good: list[bool] = []
    progress = progress_bar(f"checking {name}", total=len(rows), unit="img", delay=1)
    with progress, ThreadPoolExecutor(min(_THREADS, os.cpu_count() or 1)) as threads:
        for jobs in _pieces(split, rows):
            good += threads.map(can_be_read, jobs)
            progress.update(len(jobs))
    return rows[np.array(good, dtype=bool)]


def _pieces(split: Dataset, rows: np.ndarray) -> Iterator[list[tuple[int, dict[str, Any]]]]:
    for start in range(0, len(rows), _PIECE):
        yield [(row, split[row]) for row in rows[start : start + _PIECE].tolist()]


def _key(split: Dataset, rows: np.ndarray) -> str:
    """Short digest of the stored bytes of some images: the same files give the same key in any order."""
    contents = (_content(split[int(row)]["image"]) for row in rows)
    digests = sorted(hashlib.blake2b(content, digest_size=16).digest() for content in contents)
    return hashlib.blake2b(b"".join(digests), digest_size=4).hexdigest()


def _content(stored: dict[str, Any] | None) -> bytes:
    stored = stored or {}
    if stored.get("bytes") is not None:
        return stored["bytes"]
    path = Path(stored.get("path") or "")
    return path.read_bytes() if path.is_file() else str(path.name).encode()
