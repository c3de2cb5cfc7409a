"""Large images: workers decode them as needed, and the batch key decides the crops, whichever worker makes them."""

from __future__ import annotations

import copy
from typing import Any, cast

import numpy as np
import torch
from datasets import Dataset
from torch import Tensor

from hf_icckd.data.augment import augment, resized_crop_boxes
from hf_icckd.data.depth import Range
from hf_icckd.data.framed import FramedImages
from hf_icckd.data.framing import LARGE, Framing, StoredSizes
from hf_icckd.data.image_cache import ShrunkImages
from hf_icckd.data.images import REMEDY, name_of_row
from hf_icckd.data.sampling import BatchKey
from hf_icckd.data.stored_image import Box, Decoding, StoredImage
from hf_icckd.options.augmentation import Augmentation

_DECODED_AT_ONCE = 8


class CroppedImages(FramedImages):
    """Images that are decoded and cropped batch by batch; subclasses say where they are read from.

    Args:
        framing: How evaluation brings images to one size; training too if there is no random crop.
        augmentation: Changes to each view; None for evaluation.
        num_views: Views per image, V.
        name: Name of the split for errors.
        pixel_range: Values of black and white in deep images; None for the range of their type.
        stored: Sizes of the stored images.
        decoding: How images are decoded for random crops, see `StoredImage`; all others are decoded whole.
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
        decoding: Decoding = "scaled",
    ):
        self.framing, self.stored, self.decoding = framing, stored, decoding
        self.augmentation, self.num_views = augmentation, num_views
        self.name, self.pixel_range = name, pixel_range

    @property
    def image_bytes(self) -> int:
        return self.num_views * 3 * self.framing.size**2

    def views(self, images: list[StoredImage], key: BatchKey, *others: FramedImages) -> list[Tensor]:
        """Decode, crop and augment; every image is decoded once for all views of all."""
        framed = cast("tuple[CroppedImages, ...]", (self, *others))
        shapes = [(len(images), each.num_views, each.framing.size, each.framing.size, 3) for each in framed]
        pixels = [np.empty(shape, dtype=np.uint8) for shape in shapes]
        # A few at a time: a whole batch of decoded photographs in each worker would fill the memory.
        for start in range(0, len(images), _DECODED_AT_ONCE):
            few = images[start : start + _DECODED_AT_ONCE]
            for each, into in zip(framed, pixels, strict=True):
                each._crop(few, key.epoch, key.pixel_ids[start : start + len(few)], into[start:])
            for image in few:
                image.release()
        return [each._changed(torch.from_numpy(into), key) for each, into in zip(framed, pixels, strict=True)]

    def _crop(self, images: list[StoredImage], epoch: int, pixel_ids: Tensor, into: np.ndarray) -> None:
        """Write views of some images into the first rows of an array."""
        if self.augmentation is None or self.augmentation.min_crop_scale is None:
            for row, image in enumerate(images):
                into[row] = np.asarray(self.framing(image.whole()))
            return
        boxes = self._boxes(images, self.augmentation, epoch, pixel_ids)
        for row, (image, *of_image) in enumerate(zip(images, *boxes, strict=True)):
            into[row] = image.crops(of_image, self.framing.size, self.framing.interpolation)

    def _changed(self, pixels: Tensor, key: BatchKey) -> Tensor:
        """Views (B, V, 3, S, S) with their random changes, from (B, V, S, S, 3)."""
        views = pixels.permute(0, 1, 4, 2, 3)
        if self.augmentation is not None:
            for view in range(self.num_views):
                views[:, view] = augment(views[:, view], self.augmentation, key.epoch, key.pixel_ids, view)
        return views

    def read(self, key: BatchKey) -> tuple[list[StoredImage], Tensor, Tensor]:
        """Return the stored images of a batch, their labels (B,) and their sample ids (B,)."""
        raise NotImplementedError

    def reframed(self, framing: Framing, augmentation: Augmentation | None) -> CroppedImages:
        """The same images with another framing and augmentation."""
        other = copy.copy(self)
        other.framing, other.augmentation, other.kept = framing, augmentation, None
        return other

    def _boxes(
        self, images: list[StoredImage], augmentation: Augmentation, epoch: int, pixel_ids: Tensor
    ) -> list[list[Box]]:
        """For each view the boxes of the images."""
        sizes = torch.tensor([image.size for image in images])
        return [resized_crop_boxes(sizes, augmentation, epoch, pixel_ids, view) for view in range(self.num_views)]


class DecodedImages(CroppedImages):
    """A split whose images are read by row number.

    Args:
        split: Data set with an `image` column, or copies of its images.
        labels: (N,) class indices, -1 for an image without a label.
        *args: Arguments of `CroppedImages`.
        **options: Keyword arguments of `CroppedImages`.
    """

    def __init__(self, split: Dataset | ShrunkImages, labels: Tensor, *args: Any, **options: Any):
        super().__init__(*args, **options)
        self.split, self.labels = split, labels

    def __len__(self) -> int:
        return len(self.labels)

    def prepare(self) -> None:
        """Make copies of the images, if there are to be any."""
        if isinstance(self.split, ShrunkImages):
            self.split.prepare()

    def class_labels(self) -> Tensor:
        """(N,) class of every image."""
        return self.labels

    def read(self, key: BatchKey) -> tuple[list[StoredImage], Tensor, Tensor]:
        """Open the images of these rows."""
        images = [self._open(row) for row in key.indices.tolist()]
        return images, self.labels[key.indices], key.indices

    def _open(self, row: int) -> StoredImage:
        record = self.split[row]
        what = name_of_row(record, row, self.name)
        return StoredImage(record["image"], what, REMEDY, self.pixel_range, self.decoding)
