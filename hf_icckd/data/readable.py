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

import datasets
import numpy as np
import PIL
from datasets import Dataset
from filelock import FileLock
from tqdm.auto import tqdm

from hf_icckd.data.depth import Range
from hf_icckd.data.images import READER, PixelRangeError, UnreadableImageError, decode_image, name_of_row
from hf_icckd.data.sources.image_data import LeftOut
from hf_icckd.data.splits.fingerprint import split_fingerprint
from hf_icckd.utils import distributed
from hf_icckd.utils.atomic_files import replace_file

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
    parts = (split_fingerprint(split, read_all=True), pixel_range, PIL.__version__, READER, "readable")
    key = hashlib.blake2b(repr(parts).encode(), digest_size=16).hexdigest()
    file = Path(datasets.config.HF_DATASETS_CACHE) / "hf_icckd" / f"{key}.npy"
    rows = None
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(file.with_suffix(".lock")):
            if file.is_file():
                try:
                    return np.load(file, allow_pickle=False)
                except (ValueError, EOFError) as error:
                    logger.warning("%s is damaged (%s), so the images are decoded again", file, error)
            rows = _decode_all(split, name, pixel_range)
            replace_file(file, lambda path: _write(path, rows))
    except OSError as error:
        logger.info("which images of the %s split can be read is not kept for the next start: %s", name, error)
    return _decode_all(split, name, pixel_range) if rows is None else rows


def _write(path: Path, rows: np.ndarray) -> None:
    with path.open("wb") as file:  # with a path, numpy would add a suffix
        np.save(file, rows)


def _decode_all(split: Dataset, name: str, pixel_range: Range | None) -> np.ndarray:
    """Decode with threads: decoders let others run meanwhile."""

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
    progress = tqdm(total=len(split), desc=f"checking {name}", unit="img", disable=distributed.rank() > 0, leave=False)
    with progress, ThreadPoolExecutor(min(_THREADS, os.cpu_count() or 1)) as threads:
        for jobs in _pieces(split):
            good += threads.map(can_be_read, jobs)
            progress.update(len(jobs))
    return np.flatnonzero(good)


def _pieces(split: Dataset) -> Iterator[list[tuple[int, dict[str, Any]]]]:
    for start in range(0, len(split), _PIECE):
        yield [(row, split[row]) for row in range(start, min(start + _PIECE, len(split)))]


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
