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
from datasets import Dataset, IterableDataset
from torch import Tensor

from hf_icckd import distributed
from hf_icckd.data.decoded import DecodedImages
from hf_icckd.data.images import decode_image
from hf_icckd.data.sampling import BatchKey, KeyedBatchSampler
from hf_icckd.keyed_random import generator_seed

_SHUFFLED_ROWS = 4096  # held in memory, some hundred MiB of photographs


class StreamedSplit:
    """A split that is only read from its beginning on.

    Args:
        rows: Columns `image` (undecoded) and `label` (class index).
        length: Number of rows that make an epoch.
        num_classes: Number of classes.
        name: Name of the split for errors.
    """

    def __init__(self, rows: IterableDataset, length: int, num_classes: int, name: str):
        self.rows, self.length, self.num_classes, self.name = rows, length, num_classes, name

    def __len__(self) -> int:
        return self.length

    def head(self, count: int) -> Dataset:
        """The first rows."""
        return Dataset.from_list(list(self.rows.take(min(count, self.length))), features=self.rows.features)

    def read(self, seed: int | None, epoch: int) -> Iterator[dict[str, Any]]:
        """Rows of an epoch; with a seed, files and neighbouring rows are shuffled, another way in each epoch.

        Raises:
            ValueError: If there are fewer rows than announced, or one has no valid label.
        """
        rows = self.rows
        if seed is not None:
            rows = rows.shuffle(seed=generator_seed(seed, epoch, 0) % 2**32, buffer_size=_SHUFFLED_ROWS)
        count = 0
        for count, row in enumerate(rows.take(self.length), start=1):  # noqa: B007 (its last value is read)
            if row["label"] is None or not 0 <= row["label"] < self.num_classes:
                raise ValueError(
                    f"{self.name} split: an image has the label {row['label']}, expected 0 to {self.num_classes - 1}; "
                    "mend or remove such rows"
                )
            yield row
        if count < self.length:
            raise ValueError(
                f"{self.name} split: the data set ends after {count:,} images, {self.length:,} were announced; give "
                "their number with --max_train_samples or --max_eval_samples"
            )


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
