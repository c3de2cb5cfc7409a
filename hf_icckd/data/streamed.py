"""Data sets too large for the disk: rows are read one after the other, from the Hub or from table files.

The process that trains reads the stored bytes; loading workers get them with the batch key and decode. So order and
pixels are the same with any number of workers and processes, at the price that every process reads all rows.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from typing import Any

import PIL.Image
import torch
from torch import Tensor

from hf_icckd.data.decoded import DecodedImages
from hf_icckd.data.images import decode_image
from hf_icckd.data.sampling import BatchKey, KeyedBatchSampler
from hf_icckd.data.sources.stream import StreamedSplit
from hf_icckd.utils import distributed


class StreamBatchSampler(KeyedBatchSampler):
    """Batches of a stream, with the stored images in their keys.

    An image's sample id is a hash of its stored bytes: the same in every epoch and order.

    Args:
        split: The stream.
        batch_size: Images per process and step.
        seed: Seed of the run; None takes the rows in their order, for evaluation.
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
            whole = [next(rows) for _ in range(size)]
            own = whole[first : first + sizes[self.rank]]
            yield BatchKey(
                epoch, torch.tensor([_sample_id(row["image"]) for row in own], dtype=torch.int64), size, own
            )


class StreamedImages(DecodedImages):
    """A stream as batches; arguments as `DecodedImages`, without labels."""

    def __init__(self, split: StreamedSplit, *args, **options):
        super().__init__(split, torch.empty(0), *args, **options)

    def __len__(self) -> int:
        return len(self.split)

    def batch_sampler(self, batch_size: int, seed: int | None = None) -> StreamBatchSampler:
        """Keys of this data set's batches."""
        return StreamBatchSampler(self.split, batch_size, seed)

    def _read(self, key: BatchKey) -> tuple[list[PIL.Image.Image], Tensor]:
        images = [
            decode_image(row["image"], f"{self.name} split: an image of the stream", "; repair or remove it")
            for row in key.rows
        ]
        return images, torch.tensor([row["label"] for row in key.rows], dtype=torch.int64)


def _sample_id(image: dict[str, Any] | None) -> int:
    image = image or {}  # a worker will say which image is missing
    content = image["bytes"] if image.get("bytes") is not None else (image.get("path") or "").encode()
    return int.from_bytes(hashlib.blake2b(content, digest_size=8).digest(), "little") >> 2
