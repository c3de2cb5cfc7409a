"""Large images: workers decode them as needed, and the batch key decides the crops, whichever worker makes them."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import PIL.Image
import torch
from datasets import Dataset
from torch import Tensor

from hf_icckd.data.augment import augment, resized_crop_boxes, stack_views
from hf_icckd.data.depth import Range
from hf_icckd.data.framed import FramedImages
from hf_icckd.data.framing import LARGE, Framing, StoredSizes
from hf_icckd.data.images import read_image, resampling
from hf_icckd.data.sampling import BatchKey
from hf_icckd.options.augmentation import Augmentation


class CroppedImages(FramedImages):
    """Images that are decoded and cropped batch by batch; subclasses say where they are read from.

    Args:
        framing: How evaluation brings images to one size; training too if there is no random crop.
        augmentation: Changes to each view; None for evaluation.
        num_views: Views per image, V.
        name: Name of the split for errors.
        pixel_range: Values of black and white in deep images; None for the range of their type.
        stored: Sizes of the stored images.
    """

    framing: Framing

    def __init__(
        self,
        framing: Framing,
        augmentation: Augmentation | None = None,
        num_views: int = 1,
        name: str = "train",
        pixel_range: Range | None = None,
        stored: StoredSizes = LARGE,
    ):
        self.framing, self.stored = framing, stored
        self.augmentation, self.num_views = augmentation, num_views
        self.name, self.pixel_range = name, pixel_range

    def views(self, images: list[PIL.Image.Image], key: BatchKey) -> Tensor:
        """Crop and augment decoded images."""
        if self.augmentation is None:
            views = [self._stack([self.framing(image) for image in images])] * self.num_views
        else:
            views = [self._view(images, self.augmentation, key, view) for view in range(self.num_views)]
        return stack_views(views)

    def read(self, key: BatchKey) -> tuple[list[PIL.Image.Image], Tensor, Tensor]:
        """Return the RGB images of a batch, their labels (B,) and their sample ids (B,)."""
        raise NotImplementedError

    def reframed(self, framing: Framing, augmentation: Augmentation | None) -> CroppedImages:
        """The same images with another framing and augmentation."""
        other = copy.copy(self)
        other.framing, other.augmentation = framing, augmentation
        return other

    def _view(self, images: list[PIL.Image.Image], augmentation: Augmentation, key: BatchKey, view: int) -> Tensor:
        if augmentation.min_crop_scale is None:
            crops = [self.framing(image) for image in images]
        else:
            sizes = torch.tensor([image.size for image in images]).reshape(-1, 2)
            boxes = resized_crop_boxes(sizes, augmentation, key.epoch, key.pixel_ids, view)
            size = self.framing.size
            crops = [
                image.resize((size, size), resampling(self.framing.interpolation), box=box)
                for image, box in zip(images, boxes, strict=True)
            ]
        return augment(self._stack(crops), augmentation, key.epoch, key.pixel_ids, view)

    def _stack(self, images: list[PIL.Image.Image]) -> Tensor:
        """(B, 3, S, S) uint8; B is 0 where a process has no row of a short last batch."""
        pixels = np.empty((len(images), self.framing.size, self.framing.size, 3), dtype=np.uint8)
        for row, image in enumerate(images):
            pixels[row] = np.asarray(image)
        return torch.from_numpy(pixels).permute(0, 3, 1, 2)


class DecodedImages(CroppedImages):
    """A split whose images are read by row number.

    Args:
        split: Data set with an `image` column.
        labels: (N,) class indices, -1 for an image without a label.
        *args: Arguments of `CroppedImages`.
        **options: Keyword arguments of `CroppedImages`.
    """

    def __init__(self, split: Dataset, labels: Tensor, *args: Any, **options: Any):
        super().__init__(*args, **options)
        self.split, self.labels = split, labels

    def __len__(self) -> int:
        return len(self.labels)

    def class_labels(self) -> Tensor:
        """(N,) class of every image."""
        return self.labels

    def read(self, key: BatchKey) -> tuple[list[PIL.Image.Image], Tensor, Tensor]:
        """Decode the images of these rows."""
        images = [read_image(self.split, row, self.name, self.pixel_range) for row in key.indices.tolist()]
        return images, self.labels[key.indices], key.indices
