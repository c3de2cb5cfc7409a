"""Images that were taken out of a container, as Arrow files in the cache folder of `datasets`."""

from __future__ import annotations

import contextlib
import logging
import shutil
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import pyarrow as pa
from datasets import Dataset, Features, concatenate_datasets
from filelock import FileLock

from hf_icckd.data.cache import cache_folder
from hf_icckd.utils.atomic_files import replace_file

logger = logging.getLogger(__name__)

BATCH_BYTES = 16 * 1024**2  # of images that are in memory at a time


def cached_rows(key: str, features: Features, batches: Callable[[], Iterable[pa.Table]], what: str) -> Dataset:
    """Return the rows that are kept under a key; if there are none, write them, a batch at a time.

    One process writes; others that need the same rows wait for it. The rows are mapped from the file, so that they
    take no memory of the process.

    Args:
        key: Hash of all that the rows depend on.
        batches: Called to make the rows. What it reads must raise ValueError and no OSError.
        what: Name of the container for errors.

    Raises:
        ValueError: If the rows can't be made or written.
    """
    file = cache_folder() / f"{key}.arrow"
    with _kept(file, f"the images of {what}"):
        if file.is_file():
            try:
                return Dataset.from_file(str(file))
            except (pa.ArrowInvalid, EOFError) as error:
                logger.warning("%s is damaged (%s), so %s is read again", file, error, what)
        replace_file(file, lambda unfinished: _write(unfinished, features, batches()))
        return Dataset.from_file(str(file))


def cached_file(key: str, name: str, content: Callable[[], bytes], what: str) -> Path:
    """Return the path of a file of that name which is kept under a key; if there is none, write it.

    Args:
        key: Hash of all that the file depends on.
        content: Called for what it holds. What it reads must raise ValueError and no OSError.
        what: Name of the file for errors.

    Raises:
        ValueError: If it can't be read or written.
    """
    file = cache_folder() / key / name
    with _kept(file, what):
        if not file.is_file():
            replace_file(file, lambda unfinished: unfinished.write_bytes(content()))
        return file


@contextlib.contextmanager
def _kept(file: Path, what: str) -> Iterator[None]:
    """Make the folder, let one process in at a time, and say it plainly if the file can't be written."""
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(file.with_name(f"{file.name}.lock")):
            yield
    except OSError as error:
        free = shutil.disk_usage(file.parent).free if file.parent.is_dir() else 0
        raise ValueError(
            f"{what} can't be kept in {str(file.parent)!r} ({error.strerror or error}; {free / 1024**3:.1f} GiB are "
            "free); make room there, or set the environment variable HF_DATASETS_CACHE to another folder"
        ) from error


def _write(path: Path, features: Features, batches: Iterable[pa.Table]) -> None:
    with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_stream(sink, features.arrow_schema) as writer:
        for batch in batches:
            writer.write_table(batch.cast(features.arrow_schema))


def with_columns(rows: Dataset, columns: pa.Table) -> Dataset:
    """Put further columns beside rows that are kept in a file; the file stays as it is."""
    return concatenate_datasets([rows, Dataset(columns)], axis=1) if columns.num_columns else rows
