"""Fingerprint of a data set, to tell it from another of the same name."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from datasets import Dataset

_READ_WHOLE_BYTES = 1024**3
_SAMPLED_ROWS = 1024


def split_fingerprint(split: Dataset, read_all: bool = False) -> str:
    """Hash a split: all labels, the length of every stored image or the name of every file, and image bytes.

    If images are files or take more than 1 GiB, the bytes of 1,024 evenly spaced images count, else of all. The folder
    of the files does not count, so that a data set may be moved. A change is missed if it keeps all lengths and names
    and affects only images that are not read.

    Args:
        split: Data set with the columns `image` (undecoded) and `label`.
        read_all: Whether to read the bytes of all images in any case.
    """
    digest = hashlib.blake2b(digest_size=16)
    total, files = 0, 0
    for labels, contents, paths in stored_images(split):
        lengths = pc.fill_null(pc.binary_length(contents), -1).to_numpy(zero_copy_only=False)
        digest.update(labels.to_numpy(zero_copy_only=False).astype(np.int64).tobytes())
        digest.update(lengths.astype(np.int64).tobytes())
        total += int(lengths.clip(0).sum())
        for path in paths.filter(contents.is_null()).drop_null().to_pylist():
            digest.update(f"{Path(path).name}\n".encode())
            files += 1
    if not read_all and (files or total > _READ_WHOLE_BYTES):
        split = split.select(np.unique(np.linspace(0, len(split) - 1, min(len(split), _SAMPLED_ROWS)).astype(int)))
    for _, contents, paths in stored_images(split):
        for stored, path in zip(contents, paths, strict=True):
            if stored.is_valid:
                digest.update(stored.as_buffer())
            elif path.is_valid and os.path.isfile(path.as_py()):
                digest.update(Path(path.as_py()).read_bytes())
    return digest.hexdigest()


def stored_images(split: Dataset) -> Iterator[tuple[pa.Array, pa.Array, pa.Array]]:
    """Labels, stored bytes and paths, some thousand rows at a time."""
    for table in split.with_format("arrow").iter(batch_size=4096):
        images = table["image"].combine_chunks()
        labels = pc.fill_null(table["label"].combine_chunks(), -1)
        # The fields of a null struct need not be null.
        present = images.is_valid()
        null = pa.scalar(None)
        contents = pc.if_else(present, images.field("bytes"), null.cast(images.field("bytes").type))
        paths = pc.if_else(present, images.field("path"), null.cast(images.field("path").type))
        yield labels, contents, paths
