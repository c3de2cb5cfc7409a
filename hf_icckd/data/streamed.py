"""Streams, for data sets that don't fit on the disk: rows are read one by one, from the Hub or from table files.

The training process reads the stored bytes and hands them to loading workers, which decode them, in the batch key. So
order and pixels are the same with any number of workers and processes; the price is that every process reads all rows.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from hf_icckd.data.decoded import CroppedImages
from hf_icckd.data.sampling import BatchKey, KeyedBatchSampler
from hf_icckd.data.sources.stream import StreamedSplit
from hf_icckd.data.stored_image import StoredImage
from hf_icckd.utils import distributed


class StreamBatchSampler(KeyedBatchSampler):
    """Batch keys of a stream that carry the stored images.

    The sample id of an image is a hash of its stored bytes: the same in every epoch and order.
    """

    def __init__(self, split: StreamedSplit, batch_size: int, seed: int | None = None):
        super().__init__(len(split), batch_size, seed)
        self.split = split

    def __iter__(self) -> Iterator[BatchKey]:
        epoch = self.epoch
        rows = self.split.read(self.seed, epoch)
        for start in range(0, self.num_used, self.global_batch_size):
            size = min(self.global_batch_size, self.num_used - start)
            sizes = distributed.even_split(size, self.world)
            first = sum(sizes[: self.rank])
            batch = [next(rows) for _ in range(size)]
            own = batch[first : first + sizes[self.rank]]
            yield BatchKey(
                epoch, torch.tensor([_sample_id(row["image"]) for row in own], dtype=torch.int64), size, own
            )


class StreamedImages(CroppedImages):
    """A stream whose batch keys carry the stored images.

    Args:
        split: The stream.
        *args: Arguments of `CroppedImages`.
        **options: Keyword arguments of `CroppedImages`.
    """

    streamed = True

    def __init__(self, split: StreamedSplit, *args: Any, **options: Any):
        super().__init__(*args, **options)
        self.split = split

    def __len__(self) -> int:
        return len(self.split)

    def batch_sampler(self, batch_size: int, seed: int | None = None) -> StreamBatchSampler:
        """Return keys that carry the stored images."""
        return StreamBatchSampler(self.split, batch_size, seed)

    def read(self, key: BatchKey) -> tuple[list[StoredImage], Tensor, Tensor]:
        """Open the images that the key carries."""
        if key.rows is None:
            raise ValueError("the batch key carries no images, expected a key of this data set's `batch_sampler`")
        what, remedy = f"{self.name} split: an image of the stream", "; repair or remove it"
        images = [StoredImage(row["image"], what, remedy, self.pixel_range, self.decoding) for row in key.rows]
        return images, torch.tensor([row["label"] for row in key.rows], dtype=torch.int64), key.indices


def _sample_id(image: dict[str, Any] | None) -> int:
    image = image or {}  # the worker that decodes it names the missing image
    content = image["bytes"] if image.get("bytes") is not None else (image.get("path") or "").encode()
    return int.from_bytes(hashlib.blake2b(content, digest_size=8).digest(), "little") >> 2
