"""Hashes of the stored bytes of images: they tell which images are the same, whatever they are called."""

from __future__ import annotations

import hashlib
import logging
import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from datasets import Dataset

from hf_icckd.data.cache import cached_array
from hf_icckd.data.images import UnreadableImageError
from hf_icckd.data.splits.fingerprint import stored_images
from hf_icckd.utils.progress_bars import progress_bar

logger = logging.getLogger(__name__)

CONTENT = "content"  # column of the hashes, in splits that were hashed while they were loaded
_THREADS = 8
_SAMPLED_ROWS = 64
_HASHER = 1  # increase it whenever the hash of an image changes


def image_hashes(rows: Dataset, name: str) -> np.ndarray:
    """Hash the stored bytes of every image: BLAKE2b, 8 bytes.

    Every file is read once. The result is kept in the cache folder of `datasets`, under a key of path, size and times
    of all files behind the rows, so that changed content is read again. Tables in memory are hashed every time. One
    process reads; others that need the same hashes wait for it.

    Args:
        rows: Data set with the columns `image` (undecoded) and `label`.
        name: Name of the split for the progress bar and errors.

    Returns:
        (N,) uint64.

    Raises:
        UnreadableImageError: If a file is missing or can't be read, or a cell is empty; the message names it.
    """
    key = _cache_key(rows, name)
    if key is None:
        return _hash_all(rows, name)
    return cached_array(
        key,
        lambda: _hash_all(rows, name),
        f"hashes of the {name} split",
        fits=lambda kept: kept.shape == (len(rows),) and kept.dtype == np.uint64,
    )


def content_of(rows: Dataset, name: str) -> np.ndarray:
    """(N,) uint64 hashes of the images of a split, from its column if it has one."""
    if CONTENT not in rows.column_names:
        return image_hashes(rows, name)
    return rows.with_format("arrow")[CONTENT][:].to_numpy(zero_copy_only=False)


def with_content(rows: Dataset, name: str) -> Dataset:
    """Add the column of hashes, so that every selection of the rows keeps them."""
    return rows if CONTENT in rows.column_names else rows.add_column(CONTENT, image_hashes(rows, name))


def hash_of(stored: bytes) -> int:
    """The hash of an image by its bytes, as the signed number that the bits of `image_hashes` are too."""
    return int.from_bytes(hashlib.blake2b(stored, digest_size=8).digest(), "little", signed=True)


def _cache_key(rows: Dataset, name: str) -> str | None:
    """Key of the cache: all files behind the rows, and which rows of tables they are. None for tables in memory."""
    digest = hashlib.blake2b(f"{_HASHER} {len(rows)}".encode(), digest_size=16)
    tables, first = False, 0
    for _, contents, paths in stored_images(rows):
        for row in np.flatnonzero(contents.is_null().to_numpy(zero_copy_only=False)).tolist():
            path = _path(paths[row], name, first + row)
            try:
                digest.update(_stat_line(path))
            except OSError as error:
                raise _unreadable(name, first + row, path, error) from error
        lengths = pc.fill_null(pc.binary_length(contents), -1).to_numpy(zero_copy_only=False).astype(np.int64)
        digest.update(lengths.tobytes())
        tables = tables or bool((lengths >= 0).any())
        first += len(lengths)
    if tables:
        files = [str(file["filename"]) for file in rows.cache_files]
        if not files or "row" not in rows.column_names:
            return None
        for file in files:
            digest.update(_stat_line(file))
        digest.update(rows.with_format("arrow")["row"][:].to_numpy(zero_copy_only=False).astype(np.int64).tobytes())
        # In case some rows of the tables are in memory, which the files don't tell.
        sampled = np.unique(np.linspace(0, len(rows) - 1, min(len(rows), _SAMPLED_ROWS)).astype(int))
        digest.update(_hash_all(rows.select(sampled), name, quiet=True).tobytes())
    return digest.hexdigest()


def _stat_line(path: str) -> bytes:
    status = os.stat(path)
    return f"{os.path.abspath(path)}\0{status.st_size} {status.st_mtime_ns} {status.st_ctime_ns}\n".encode(
        errors="surrogateescape"
    )


def _hash_all(rows: Dataset, name: str, quiet: bool = False) -> np.ndarray:
    hashes = np.empty(len(rows), dtype=np.uint64)
    with (
        progress_bar(f"hashing {name}", total=len(rows), unit="img", hidden=quiet, delay=1) as bar,
        ThreadPoolExecutor(_THREADS) as threads,
    ):
        first = 0
        for _, contents, paths in stored_images(rows):
            for row, digest in enumerate(_digests(contents, paths, name, first, threads), start=first):
                hashes[row] = int.from_bytes(digest, "little")
                bar.update()
            first += len(contents)
    return hashes


def _digests(
    contents: pa.Array, paths: pa.Array, name: str, first: int, threads: ThreadPoolExecutor
) -> Iterator[bytes]:
    """Digests of some rows in their order; files are read by several threads, for disks that are far away."""

    def of_file(row: int) -> bytes:
        path = _path(paths[row], name, first + row)
        try:
            with open(path, "rb") as file:
                return hashlib.file_digest(file, lambda: hashlib.blake2b(digest_size=8)).digest()
        except OSError as error:
            raise _unreadable(name, first + row, path, error) from error

    in_files = np.flatnonzero(contents.is_null().to_numpy(zero_copy_only=False)).tolist()
    of_files = threads.map(of_file, in_files)
    for stored in contents:
        yield hashlib.blake2b(stored.as_buffer(), digest_size=8).digest() if stored.is_valid else next(of_files)


def _path(stored: pa.Scalar, name: str, row: int) -> str:
    if not stored.is_valid or not stored.as_py():
        raise UnreadableImageError(
            f"{name} split: row {row} cannot be read as an image (the cell is empty); remove the row"
        )
    return stored.as_py()


def _unreadable(name: str, row: int, path: str, error: OSError) -> UnreadableImageError:
    reason = error.strerror or error
    return UnreadableImageError(
        f"{name} split: row {row} ({path}) cannot be read ({reason}); restore the file or remove the row"
    )
