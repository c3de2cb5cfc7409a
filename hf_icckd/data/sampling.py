"""Sampling: keyed permutations, cut into batches that don't depend on the number of processes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset, Sampler

from hf_icckd.data.kept_batches import KeptBatches
from hf_icckd.utils import distributed
from hf_icckd.utils.keyed_random import permutation

if TYPE_CHECKING:
    from hf_icckd.models.classifier import ClassifierSpec

_REPEAT_BITS = 40  # rows of a split are fewer than 2**40


class BatchKey(NamedTuple):
    """All that a data set needs to make a batch; the DataLoader passes it on in place of a list of indices.

    Attributes:
        epoch: Epoch, part of the key of the augmentation.
        indices: (B,) int64 rows of the split for this process.
        global_rows: Rows of this step over all processes.
        rows: Stored images and labels of streams, where there is no index to look them up by.
        repeats: (B,) how often each row was in the epoch before, where rows are repeated; None: never.
    """

    epoch: int
    indices: Tensor
    global_rows: int
    rows: list[dict[str, Any]] | None = None
    repeats: Tensor | None = None

    @property
    def pixel_ids(self) -> Tensor:
        """(B,) what random changes are keyed by: the row, and of a repeated one another number each time."""
        return self.indices if self.repeats is None else self.indices + (self.repeats << _REPEAT_BITS)


class KeyedBatchSampler(Sampler[BatchKey]):
    """Batches of row indices for one process.

    A step takes the same images with any number of processes, cut into even slices in rank order. A short last batch
    is kept and split evenly too. Training drops a remainder of fewer images than processes, or of one image, which
    BatchNorm could not use; each epoch drops different images. Evaluation drops nothing.

    Args:
        num_samples: Size of the split.
        batch_size: Images per process and step.
        seed: Seed of the run; None to take rows in order, for evaluation.
        partners: Returns (N,) the partner of each row in an epoch; both are then taken next to each other.

    Attributes:
        epoch: Epoch of the next iteration; see `set_epoch`.

    Raises:
        ValueError: If a batch would be empty, or there are fewer training images than processes, or only one.
    """

    def __init__(
        self,
        num_samples: int,
        batch_size: int,
        seed: int | None = None,
        partners: Callable[[int], Tensor] | None = None,
    ):
        self.num_samples, self.seed, self.partners, self.epoch = num_samples, seed, partners, 0
        self.rank, self.world = distributed.rank(), distributed.world_size()
        if batch_size < 1:
            raise ValueError(f"batch size is {batch_size}, expected at least 1 image per process")
        self.global_batch_size = batch_size * self.world
        remainder = num_samples % self.global_batch_size
        self.num_used = num_samples - (remainder if seed is not None and remainder < max(2, self.world) else 0)
        if seed is not None and self.num_used == 0:
            raise ValueError(
                f"{num_samples} training images for {self.world} processes, expected one for each and at least two, "
                "which BatchNorm needs; use more images or fewer processes"
            )

    def set_epoch(self, epoch: int) -> None:
        """Choose the permutation and key of the next iteration."""
        self.epoch = epoch

    def __len__(self) -> int:
        return -(-self.num_used // self.global_batch_size)

    def __iter__(self) -> Iterator[BatchKey]:
        epoch = self.epoch
        order = (
            torch.arange(self.num_samples) if self.seed is None else permutation(self.seed, epoch, self.num_samples)
        )
        if self.partners is not None:
            order = side_by_side(order, self.partners(epoch))
        for rows in order[: self.num_used].split(self.global_batch_size):
            sizes = distributed.even_split(len(rows), self.world)
            yield BatchKey(epoch, rows.split(sizes)[self.rank], len(rows))


def side_by_side(order: Tensor, partners: Tensor) -> Tensor:
    """Move the second row of each pair next to the first; rows without a partner come last.

    Args:
        order: (N,) rows of an epoch, a permutation.
        partners: (N,) partner of each row; a row without one is its own.
    """
    place = torch.empty_like(order)
    place[order] = torch.arange(len(order))
    first = torch.minimum(place, place[partners])
    first[partners == torch.arange(len(order))] = len(order)
    return order[first[order].argsort(stable=True)]


class BatchDataset(Dataset[dict[str, Any]]):
    """A data set that makes whole batches from keys; everything that is trained on or measured is one.

    Attributes:
        resident: Whether the images are in memory, on the device that makes the batches: then loading workers would
            only be in the way.
        framed: Whether it can make the pixels of another classifier from the stored images.
        mixes: Whether images are mixed with others: then batches hold `mixed_labels` and `mix` too.
        split_name: The split that it is, where that is known.
        resampled: Whether an epoch shows some images more often than others.
        streamed: Whether images come in the order in which they are stored, without a number of their own.
        image_bytes: Bytes of an image in a batch, with all its views; None where nobody knows them before it is read.
        kept: Keeps the batches when they have been read in order, without changes to the images; None for never.
    """

    kept: KeptBatches | None = None
    resident: bool = False
    framed: bool = False
    mixes: bool = False
    split_name: str | None = None
    resampled: bool = False
    streamed: bool = False

    @property
    def image_bytes(self) -> int | None:
        return None

    def __len__(self) -> int:
        """Number of images."""
        raise NotImplementedError

    def __getitems__(self, key: BatchKey) -> dict[str, Any]:
        """Return pixel_values (B, V, 3, S, S) uint8, labels (B,), sample_ids (B,) and global_rows.

        `labels` are class indices, and `global_rows` counts the images of this step over all processes.
        """
        raise NotImplementedError

    def prepare(self) -> None:
        """Do once what takes long, and pays if all images are read."""

    def class_labels(self) -> Tensor | None:
        """(N,) class of every stored image, on the CPU; None where nobody knows it before the image is read."""
        return None

    @property
    def unlabeled(self) -> int:
        """How many stored images, counted from the last one, have no label; their `labels` are -1."""
        labels = self.class_labels()
        return 0 if labels is None else int((labels < 0).sum())

    def for_classifier(self, spec: ClassifierSpec) -> BatchDataset:
        """The same images as a classifier wants them; here, where nothing is known of their origin, as they are."""
        return self

    def with_teacher(self, spec: ClassifierSpec) -> BatchDataset:
        """The same batches with the teacher's pixels as `teacher_pixel_values`, where they differ and can be made."""
        return self

    def batch_sampler(self, batch_size: int, seed: int | None = None) -> KeyedBatchSampler:
        """Return the keys of all batches; the arguments are those of `KeyedBatchSampler`."""
        return KeyedBatchSampler(len(self), batch_size, seed)


class WrappedDataset(BatchDataset):
    """Batches that are made from those of another data set; subclasses say how.

    Args:
        dataset: The other data set.
    """

    def __init__(self, dataset: BatchDataset):
        self.dataset, self.resident = dataset, dataset.resident

    def __len__(self) -> int:
        return len(self.dataset)

    @property
    def image_bytes(self) -> int | None:
        return self.dataset.image_bytes

    def prepare(self) -> None:
        """As the data set."""
        self.dataset.prepare()

    def class_labels(self) -> Tensor | None:
        """Classes of the data set."""
        return self.dataset.class_labels()


def rank_within_class(labels: np.ndarray) -> np.ndarray:
    """For each entry, count the earlier entries of the same class."""
    order = np.argsort(labels, kind="stable")
    ordered = labels[order]
    first = np.r_[True, ordered[1:] != ordered[:-1]]
    starts = np.maximum.accumulate(np.where(first, np.arange(len(labels)), 0))
    ranks = np.empty(len(labels), dtype=np.int64)
    ranks[order] = np.arange(len(labels)) - starts
    return ranks


def stratified_split(labels: np.ndarray, fraction: float, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Cut the same fraction off every class, with the same result every time.

    Args:
        labels: (N,) class indices.
        fraction: Share of each class to cut off, rounded: at least one image of two, and never the only one.
        seed: Seed of the choice.

    Returns:
        Sorted indices of the rest and of the images cut off.
    """
    order = permutation(seed, 0, len(labels)).numpy()
    counts = np.bincount(labels)[labels[order]]
    take = np.minimum(np.maximum(np.rint(counts * fraction), 1), counts - 1)
    cut = rank_within_class(labels[order]) < take
    return np.sort(order[~cut]), np.sort(order[cut])


def balanced_subset(labels: np.ndarray, size: int) -> np.ndarray:
    """Choose `size` images with classes as equally frequent as possible; sorted indices, the same every time."""
    order = permutation(0, 0, len(labels)).numpy()
    by_rank = np.argsort(rank_within_class(labels[order]), kind="stable")
    return np.sort(order[by_rank][:size])
