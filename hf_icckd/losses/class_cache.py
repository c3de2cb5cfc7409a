"""Class cache: recent embeddings of every class, from which the intra-class term takes its negatives."""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class CachedNegatives(NamedTuple):
    """Cached rows of earlier steps for each of N images, as `ClassEmbeddingCache.lookup` returns them.

    Attributes:
        embeddings: (N, K, D) unit-norm embeddings of the image's class.
        sample_ids: (N, K) index of the image that each row shows.
        filled: (N, K) True where a row holds an embedding.
    """

    embeddings: Tensor
    sample_ids: Tensor
    filled: Tensor


class ClassEmbeddingCache(nn.Module):
    """Ring buffers of unit-norm embeddings, one per class, first in first out.

    A batch holds few images of one class (64 images, 100 classes: fewer than one each), so the negatives of an image
    come from earlier steps. Update and lookup cost the same with ten thousand classes as with ten, and neither waits
    for the device.

    With several processes, give every rank the same rows in the same order (`hf_icckd.utils.distributed.gather_rows`);
    then all caches are identical. Keep the cache outside the module that DistributedDataParallel wraps, which would
    broadcast the buffers at every forward, and save its `state_dict` with a checkpoint.

    Args:
        num_classes: Number of classes C.
        rows_per_class: Rows kept for each class, K.
        dim: Length of an embedding, D.
        dtype: Type of the stored embeddings.

    Raises:
        ValueError: If a size is not positive.

    Example:
        >>> import torch
        >>> cache = ClassEmbeddingCache(num_classes=10, rows_per_class=32, dim=64)
        >>> labels, sample_ids = torch.tensor([3, 3, 7]), torch.arange(3)
        >>> cache.update(torch.randn(3, 64), labels, sample_ids)
        >>> cache.lookup(labels).filled.sum(dim=1)
        tensor([2, 2, 1])
    """

    embeddings: Tensor
    sample_ids: Tensor
    fill_counts: Tensor
    positions: Tensor

    def __init__(self, num_classes: int, rows_per_class: int, dim: int, dtype: torch.dtype = torch.float32):
        super().__init__()
        if min(num_classes, rows_per_class, dim) < 1:
            raise ValueError(
                f"num_classes, rows_per_class and dim are {num_classes}, {rows_per_class}, {dim}; expected 1 or more"
            )
        self.num_classes, self.rows_per_class, self.dim = num_classes, rows_per_class, dim
        self.register_buffer("embeddings", torch.zeros(num_classes, rows_per_class, dim, dtype=dtype))
        self.register_buffer("sample_ids", torch.full((num_classes, rows_per_class), -1))
        self.register_buffer("fill_counts", torch.zeros(num_classes, dtype=torch.long))
        self.register_buffer("positions", torch.zeros(num_classes, dtype=torch.long))

    def lookup(self, labels: Tensor) -> CachedNegatives:
        """Rows of each image's class: embeddings (N, K, D), sample ids (N, K) and which rows are filled (N, K)."""
        slots = torch.arange(self.rows_per_class, device=labels.device)
        return CachedNegatives(
            self.embeddings[labels], self.sample_ids[labels], slots < self.fill_counts[labels][:, None]
        )

    @torch.no_grad()
    def update(self, embeddings: Tensor, labels: Tensor, sample_ids: Tensor) -> None:
        """Append embeddings to the buffers of their classes, in the order given.

        Args:
            embeddings: (N, D), or (N, V, D) for V views of each image; normalised here.
            labels: (N,) class indices.
            sample_ids: (N,) index of each image in the training split.

        Raises:
            ValueError: If the embeddings are not D long.
        """
        if embeddings.shape[-1] != self.dim:
            raise ValueError(f"embeddings have length {embeddings.shape[-1]}, expected {self.dim}, the cache's dim")
        if embeddings.ndim == 3:
            views = embeddings.shape[1]
            embeddings = embeddings.flatten(0, 1)
            labels, sample_ids = labels.repeat_interleave(views), sample_ids.repeat_interleave(views)
        if len(labels) == 0:
            return
        labels, order = torch.sort(labels, stable=True)  # rows of one class are adjacent, in their order
        rows = F.normalize(embeddings.to(self.embeddings.dtype), dim=1)[order]
        sample_ids = sample_ids[order]

        index = torch.arange(len(labels), device=labels.device)
        first = torch.ones_like(labels, dtype=torch.bool)
        first[1:] = labels[1:] != labels[:-1]
        start = torch.where(first, index, 0).cummax(dim=0).values  # where the row's class begins
        last = first.roll(-1)
        end = torch.where(last, index, len(labels)).flip(0).cummin(dim=0).values.flip(0)  # its last row
        rank, count = index - start, end - start + 1

        # If a class has more rows than its buffer, several rows claim one slot and the last must win. Each of them
        # writes the winner's values, so the order in which a device writes doesn't matter.
        size = self.rows_per_class
        winner = start + rank + (count - 1 - rank) // size * size
        slot = (self.positions[labels] + rank) % size
        self.embeddings[labels, slot] = rows[winner]
        self.sample_ids[labels, slot] = sample_ids[winner]
        self.positions[labels] = (self.positions[labels] + count) % size
        self.fill_counts[labels] = (self.fill_counts[labels] + count).clamp(max=size)

    def fill_fraction(self) -> Tensor:
        """() fraction of the rows that are filled."""
        return self.fill_counts.sum() / (self.num_classes * self.rows_per_class)
