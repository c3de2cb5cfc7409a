"""Batches of an evaluation split that stay in memory, so that measuring it again decodes nothing."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, Protocol

import torch

Batch = dict[str, Any]


class Loader(Protocol):
    """Batches whose number is known."""

    def __len__(self) -> int: ...
    def __iter__(self) -> Iterator[Batch]: ...


class KeptBatches:
    """Keeps the batches of a split once they have all been read, if they fit.

    Args:
        max_bytes: What may be kept in this process.

    Example:
        >>> kept = KeptBatches(max_bytes=1000)
        >>> read = lambda: [{"pixel_values": torch.zeros(2, 1, 3, 4, 4, dtype=torch.uint8)}]
        >>> len(list(kept.read(2, read))), len(list(kept.read(2, lambda: [])))
        (1, 1)
    """

    def __init__(self, max_bytes: int):
        self.max_bytes = max_bytes
        self._kept: dict[int, list[Batch]] = {}

    def __getstate__(self) -> dict[str, Any]:
        """Without the batches: loading workers make them."""
        return {"max_bytes": self.max_bytes, "_kept": {}}

    def read(self, batch_size: int, load: Callable[[], Loader]) -> Iterator[Batch]:
        """Yield all batches, from memory if they were read to the end before.

        Args:
            batch_size: Images in a batch of this process.
            load: Returns all batches; they can be counted, and the first is a full one.
        """
        if batch_size in self._kept:
            yield from self._kept[batch_size]
            return
        loader, fits = load(), True
        batches: list[Batch] = []
        for batch in loader:
            # Known from the first one, so that nothing is kept in vain.
            fits = fits and (len(batches) > 0 or len(loader) * batch["pixel_values"].nbytes <= self.max_bytes)
            if fits:
                batches.append(_copied(batch))
            yield batch
        if fits:
            self._kept = {batch_size: batches}


def _copied(batch: Batch) -> Batch:
    """A copy of a batch: what a worker sends lies in shared memory, of which there is little."""
    return {name: value.clone() if isinstance(value, torch.Tensor) else value for name, value in batch.items()}
