"""Small images: the whole split is one uint8 tensor on the device, indexed and augmented batch by batch."""

from __future__ import annotations

from collections.abc import Callable
from typing import cast

import numpy as np
import PIL
import torch
from datasets import Dataset
from torch import Tensor

from hf_icckd.data.augment import augment_further, crop_and_flip, crop_numbers, stack_views
from hf_icckd.data.cache import cache_key, cached_array
from hf_icckd.data.depth import Range
from hf_icckd.data.framed import FramedImages
from hf_icckd.data.framing import LARGE, Framing, StoredSizes
from hf_icckd.data.images import READER, read_image
from hf_icckd.data.sampling import BatchKey
from hf_icckd.data.splits.fingerprint import split_fingerprint
from hf_icckd.options.augmentation import Augmentation
from hf_icckd.utils.progress_bars import progress_bar

_CACHED_IMAGES = 10_000  # fewer are read again within a second or two


def load_split(split: Dataset, framing: Framing, name: str, pixel_range: Range | None = None) -> Tensor:
    """Read a split as `read_split` does, but cache the pixels of large splits in the cache folder of `datasets`.

    The key of the cache is made from the bytes of all stored images, how they are read and framed, and the version of
    Pillow. One process reads; others that need the same pixels wait for it.

    Returns:
        (N, 3, size, size) uint8 on the CPU, mapped from the cached file if there is one.
    """
    if len(split) < _CACHED_IMAGES:
        return read_split(split, framing, name, pixel_range)
    key = cache_key(split_fingerprint(split, read_all=True), framing, pixel_range, PIL.__version__, READER)

    def read() -> np.ndarray:
        return read_split(split, framing, name, pixel_range).permute(0, 2, 3, 1).numpy()

    return torch.from_numpy(cached_array(key, read, f"pixels of the {name} split", mapped=True)).permute(0, 3, 1, 2)


def read_split(split: Dataset, framing: Framing, name: str, pixel_range: Range | None = None) -> Tensor:
    """Decode a split into one tensor.

    Args:
        split: Data set with an `image` column.
        framing: How images are brought to one size.
        name: Name of the split for the progress bar and errors.
        pixel_range: Values of black and white in deep images; None for the range of their type.

    Returns:
        (N, 3, size, size) uint8 on the CPU.

    Raises:
        UnreadableImageError: If an image can't be read; the message names split and row.
    """
    images = np.empty((len(split), framing.size, framing.size, 3), dtype=np.uint8)
    for row in progress_bar(f"reading {name}", range(len(split)), unit="img"):
        images[row] = np.asarray(framing(read_image(split, row, name, pixel_range)))
    return torch.from_numpy(images).permute(0, 3, 1, 2)


class ResidentImages(FramedImages):
    """A split in memory.

    Args:
        images: (N, 3, S, S) uint8; batches are made on its device.
        labels: (N,) class indices, -1 for an image without a label.
        augmentation: Changes to each view; None for evaluation.
        num_views: Views per image, V.
        compile_backend: Backend of torch.compile for crops and mirroring; None to not compile.
        framing: How the images were framed; None if they can't be framed in another way.
        stored: Sizes of the stored images.
        load: Returns the images in another framing.
    """

    resident = True

    def __init__(
        self,
        images: Tensor,
        labels: Tensor,
        augmentation: Augmentation | None = None,
        num_views: int = 1,
        compile_backend: str | None = None,
        *,
        framing: Framing | None = None,
        stored: StoredSizes = LARGE,
        load: Callable[[Framing], Tensor] | None = None,
    ):
        self.images, self.labels = images, labels.to(images.device)
        self.augmentation, self.num_views, self.compile_backend = augmentation, num_views, compile_backend
        self.framing, self.stored, self._load = framing, stored, load
        # Integers throughout: the same bits, compiled or not.
        self._crop = crop_and_flip
        if compile_backend is not None:
            self._crop = torch.compile(crop_and_flip, backend=compile_backend)
        self._numbers: dict[tuple[int, int], Tensor] = {}

    def __len__(self) -> int:
        return len(self.labels)

    def read(self, key: BatchKey) -> tuple[Tensor, Tensor, Tensor]:
        """Return the rows of the batch, on the device, as images and as sample ids."""
        ids = key.indices.to(self.images.device, non_blocking=True)
        return ids, self.labels[ids], ids

    def class_labels(self) -> Tensor:
        """(N,) class of every image, on the CPU."""
        return self.labels.cpu()

    def views(self, ids: Tensor, key: BatchKey, *others: FramedImages) -> list[Tensor]:
        """Crop and augment these rows on the device."""
        return [each._views(ids, key) for each in cast("tuple[ResidentImages, ...]", (self, *others))]

    def _views(self, ids: Tensor, key: BatchKey) -> Tensor:
        images = self.images[ids]
        views = [images] * self.num_views
        if self.augmentation is not None:
            views = [self._augment(images, self.augmentation, key, ids, view) for view in range(self.num_views)]
        return stack_views(views)

    def reframed(self, framing: Framing, augmentation: Augmentation | None) -> ResidentImages:
        """The same images, read again in another framing."""
        if self._load is None:
            raise ValueError("these images were given without a way to read them in another framing; pass `load`")
        return ResidentImages(
            self._load(framing),
            self.labels,
            augmentation,
            self.num_views,
            self.compile_backend,
            framing=framing,
            stored=self.stored,
            load=self._load,
        )

    def _augment(self, images: Tensor, augmentation: Augmentation, key: BatchKey, ids: Tensor, view: int) -> Tensor:
        if key.repeats is not None:
            numbers = crop_numbers(augmentation, key.epoch, key.pixel_ids.to(ids.device, non_blocking=True), view)
        else:
            numbers = self._numbers_of_all(augmentation, key.epoch, ids.device, view)[ids]
        images = self._crop(images, numbers, augmentation.crop_padding)
        return augment_further(images, augmentation, key.epoch, key.pixel_ids, view)

    def _numbers_of_all(self, augmentation: Augmentation, epoch: int, device: torch.device, view: int) -> Tensor:
        if (epoch, view) not in self._numbers:
            # For all images at once: per batch, these dozens of small operations would take longer than the crop.
            self._numbers = {drawn: numbers for drawn, numbers in self._numbers.items() if drawn[0] == epoch}
            rows = torch.arange(len(self), device=device)
            self._numbers[epoch, view] = crop_numbers(augmentation, epoch, rows, view)
        return self._numbers[epoch, view]
