"""Images that are framed for one classifier and can be framed for another, with the same random changes."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from torch import Tensor

from hf_icckd.data.framing import Framing, StoredSizes, framing_for
from hf_icckd.data.sampling import BatchDataset, BatchKey, KeyedBatchSampler, WrappedDataset
from hf_icckd.options.augmentation import Augmentation

if TYPE_CHECKING:
    from hf_icckd.models.classifier import ClassifierSpec


class FramedImages(BatchDataset):
    """Images that are read once and framed as often as needed; subclasses say how.

    Attributes:
        framing: How images are brought to one size; None if they only come as they are.
        augmentation: Changes to each view; None for evaluation.
        num_views: Views per image, V.
        stored: Sizes of the stored images.
    """

    framed = True
    framing: Framing | None
    augmentation: Augmentation | None
    num_views: int
    stored: StoredSizes

    def read(self, key: BatchKey) -> tuple[Any, Tensor, Tensor]:
        """Return what `views` makes the batch from, the same for every framing, and labels and sample ids (B,)."""
        raise NotImplementedError

    def views(self, images: Any, key: BatchKey, *others: FramedImages) -> list[Tensor]:
        """Frame and augment what was read, for itself and for others, each (B, V, 3, S, S) uint8."""
        raise NotImplementedError

    def reframed(self, framing: Framing, augmentation: Augmentation | None) -> FramedImages:
        """The same images with another framing and augmentation."""
        raise NotImplementedError

    def __getitems__(self, key: BatchKey) -> dict[str, Any]:
        """Read, frame and augment the batch."""
        images, *rest = self.read(key)
        return self.batch(key, *self.views(images, key), *rest)

    @staticmethod
    def batch(key: BatchKey, pixels: Tensor, labels: Tensor, sample_ids: Tensor) -> dict[str, Any]:
        """A batch of its parts."""
        return {
            "pixel_values": pixels,
            "labels": labels,
            "sample_ids": sample_ids,
            "global_rows": key.global_rows,
        }

    def for_classifier(self, spec: ClassifierSpec) -> FramedImages:
        """The images as this classifier's own evaluation frames them, with the same crops and changes in training."""
        if self.framing is None:
            return self
        framing, augmentation = framing_for(spec, self.stored, self.framing), self.augmentation
        if framing == self.framing:
            return self
        if augmentation is not None:
            if augmentation.min_crop_scale is not None:  # boxes replace what only evaluation cuts off
                only = replace(self.framing, size=framing.size, interpolation=framing.interpolation)
                framing = self.framing if only == self.framing else framing
            augmentation = at_size(augmentation, self.framing.size, framing.size)
        return self if framing == self.framing else self.reframed(framing, augmentation)

    def with_teacher(self, spec: ClassifierSpec) -> BatchDataset:
        """Batches that hold the teacher's pixels too, if they differ."""
        teacher = self.for_classifier(spec)
        return self if teacher is self else WithTeacherPixels(self, teacher)


class WithTeacherPixels(WrappedDataset):
    """Batches that also hold the teacher's pixels, as `teacher_pixel_values`; every image is read once for both.

    It is decoded once too, unless one of them is content with a smaller scale; see `StoredImage`.

    Args:
        dataset: The images as the student gets them.
        teacher: The same images as the teacher gets them.

    Example:
        >>> import torch
        >>> import hf_icckd
        >>> data = hf_icckd.load_image_data("digits", max_train_samples=64)
        >>> teacher = hf_icckd.create_classifier("cifar_resnet8", data.label_names, image_size=8)
        >>> images = hf_icckd.ImagePipeline(data, image_size=6).dataset("train", training=True)
        >>> batch = images.with_teacher(teacher.spec).__getitems__(BatchKey(0, torch.arange(4), 4))
        >>> batch["pixel_values"].shape, batch["teacher_pixel_values"].shape
        (torch.Size([4, 1, 3, 6, 6]), torch.Size([4, 1, 3, 8, 8]))
    """

    dataset: FramedImages

    def __init__(self, dataset: FramedImages, teacher: FramedImages):
        super().__init__(dataset)
        self.teacher, self.framed = teacher, True

    @property
    def image_bytes(self) -> int | None:
        own, of_teacher = self.dataset.image_bytes, self.teacher.image_bytes
        return None if own is None or of_teacher is None else own + of_teacher

    def __getitems__(self, key: BatchKey) -> dict[str, Any]:
        """The student's batch and the teacher's pixels."""
        images, *rest = self.dataset.read(key)
        own, of_teacher = self.dataset.views(images, key, self.teacher)
        return self.dataset.batch(key, own, *rest) | {"teacher_pixel_values": of_teacher}

    def batch_sampler(self, batch_size: int, seed: int | None = None) -> KeyedBatchSampler:
        """Keys of the student's data set, which carry the images of a stream."""
        return self.dataset.batch_sampler(batch_size, seed)


def at_size(augmentation: Augmentation, size: int, other: int) -> Augmentation:
    """The augmentation of images of `size` pixels for the same images at another size: its padding is scaled.

    The padding is rounded to the nearest pixel, halves up. Crops are drawn from the same random numbers, so they
    differ by less than a pixel of the smaller image, apart from that rounding.
    """
    if augmentation.crop_padding is None:
        return augmentation
    return replace(augmentation, crop_padding=(2 * augmentation.crop_padding * other + size) // (2 * size))
