"""What this package keeps in the cache folder of `datasets`: keys, and arrays that took long to compute."""

from __future__ import annotations

import contextlib
import hashlib
import logging
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import datasets
import numpy as np
from filelock import FileLock
from huggingface_hub.constants import HF_HUB_CACHE

from hf_icckd.utils.atomic_files import replace_file

logger = logging.getLogger(__name__)


def cache_folder() -> Path:
    """Folder of this package in the cache of `datasets`."""
    return Path(datasets.config.HF_DATASETS_CACHE) / "hf_icckd"


def cache_key(*parts: object) -> str:
    """Hash of whatever the contents of a cached file depend on."""
    return hashlib.blake2b(repr(parts).encode("utf-8", "surrogateescape"), digest_size=16).hexdigest()


def file_state(path: Path) -> tuple[str, int, int, int]:
    """Path, size and times of a file: they change with its content, even if its own time was set back."""
    status = path.stat()
    return str(path.absolute()), status.st_size, status.st_mtime_ns, status.st_ctime_ns


@contextlib.contextmanager
def cache_errors() -> Iterator[None]:
    """Say of an error at a folder of the Hugging Face caches which one it is, and how to choose another."""
    try:
        yield
    except Exception as error:
        for cause in _causes(error):  # builders wrap it
            if not isinstance(cause, OSError) or not isinstance(cause.filename, str | bytes):
                continue
            path = Path(os.fsdecode(cause.filename))
            for folder in map(Path, (datasets.config.HF_DATASETS_CACHE, HF_HUB_CACHE)):
                if path.is_relative_to(folder) or folder.is_relative_to(path):
                    raise ValueError(
                        f"the cache folder {str(folder)!r} can't be used ({cause.strerror}); set HF_HOME to a folder "
                        "that can be written"
                    ) from error
        raise


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__


def cached_array(
    key: str,
    make: Callable[[], np.ndarray],
    what: str,
    *,
    fits: Callable[[np.ndarray], bool] = lambda kept: True,
    mapped: bool = False,
) -> np.ndarray:
    """Return the array that is kept under a key; if there is none, make it and keep it.

    One process makes it; others that need the same one wait. A cache that can't be written costs time and no result.

    Args:
        key: Hash of all that the array depends on.
        make: Called to make it.
        what: Name of the array for the log.
        fits: Whether a kept array can be the right one; one that can't is made again.
        mapped: Whether a kept array is mapped from its file, so that it takes no memory of the process.
    """
    file = cache_folder() / f"{key}.npy"
    made = None
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(file.with_suffix(".lock")):
            if (kept := _read(file, fits, mapped)) is not None:
                return kept
            made = make()
            replace_file(file, lambda path: _write(path, made))
    except OSError as error:
        logger.info("%s: not kept for the next start: %s", what, error)
    return make() if made is None else made


def _read(file: Path, fits: Callable[[np.ndarray], bool], mapped: bool) -> np.ndarray | None:
    if not file.is_file():
        return None
    try:
        kept = np.load(file, mmap_mode="c" if mapped else None, allow_pickle=False)
        if fits(kept):
            return kept
        reason: object = f"{kept.dtype} of shape {kept.shape}"
    except (ValueError, EOFError) as error:
        reason = error
    logger.warning("%s is damaged (%s), so it is made again", file, reason)
    return None


def _write(path: Path, array: np.ndarray) -> None:
    with path.open("wb") as file:  # with a path, numpy would add a suffix
        np.save(file, array)
