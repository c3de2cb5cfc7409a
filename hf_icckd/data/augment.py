"""Keyed augmentation: what happens to a pixel is a function of (seed, epoch, sample id, view)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from hf_icckd.keyed_random import STREAM_CROP, STREAM_FLIP, random_words, uniform


@dataclass(frozen=True)
class Augmentation:
    """What is done to a training image: a crop, of one kind or the other, and mirroring.

    Attributes:
        crop_padding: Pixels of black padding around a small image before a random crop of its own size.
        min_crop_scale: Smallest share of the area that a random resized crop of a large image keeps; None for small
            images.
        horizontal_flip: Whether half of the images are mirrored.
        seed: Seed of the run.
    """

    crop_padding: int | None
    min_crop_scale: float | None
    horizontal_flip: bool
    seed: int


def crop_and_flip(images: Tensor, augmentation: Augmentation, epoch: int, sample_ids: Tensor, view: int) -> Tensor:
    """Random crop with padding (if the augmentation has one) and random mirroring, for a batch at once.

    Args:
        images: (B, C, H, W) uint8.
        augmentation: What to do.
        epoch: Epoch.
        sample_ids: (B,) int64 on the device of the images.
        view: Index of the view.

    Returns:
        (B, C, H, W) uint8.
    """
    height, width = images.shape[2:]
    padding = augmentation.crop_padding
    rows = torch.arange(height, device=images.device).expand(len(images), -1)
    columns = torch.arange(width, device=images.device).expand(len(images), -1)
    if augmentation.horizontal_flip:
        mirrored = random_words(augmentation.seed, epoch, sample_ids, view, STREAM_FLIP)[:, :1] < 2**31
        columns = torch.where(mirrored, columns.flip(1), columns)
    if padding:
        images = F.pad(images, [padding] * 4)
        # Whole numbers throughout: not every device has float64.
        offsets = random_words(augmentation.seed, epoch, sample_ids, view, STREAM_CROP) * (2 * padding + 1) >> 32
        rows, columns = rows + offsets[:, :1], columns + offsets[:, 1:2]
    batch = torch.arange(len(images), device=images.device)[:, None, None]
    # Channels move last with this index, which is the memory layout the nets want anyway.
    return images.permute(0, 2, 3, 1)[batch, rows[:, :, None], columns[:, None, :]].permute(0, 3, 1, 2)


def resized_crop_boxes(
    sizes: Tensor, augmentation: Augmentation, epoch: int, sample_ids: Tensor, view: int
) -> list[tuple[int, int, int, int]]:
    """Boxes of random resized crops: area uniform on [min_crop_scale, 1], aspect ratio log-uniform on [3/4, 4/3].

    A box that would stick out is cut to the image instead of being drawn again, so that every image takes the same
    count of random numbers.

    Args:
        sizes: (B, 2) widths and heights in pixels.
        augmentation: What to do.
        epoch: Epoch.
        sample_ids: (B,) int64.
        view: Index of the view.

    Returns:
        For each image (left, top, right, bottom) in pixels.

    Reference:
        Szegedy et al.: Going Deeper with Convolutions. arXiv 1409.4842, section 6.
    """
    numbers = uniform(augmentation.seed, epoch, sample_ids, view, STREAM_CROP)
    sizes = sizes.double()
    area = sizes.prod(dim=1) * (augmentation.min_crop_scale + (1 - augmentation.min_crop_scale) * numbers[:, 0])
    ratio = torch.exp((2 * numbers[:, 1] - 1) * torch.log(torch.tensor(4 / 3, dtype=torch.float64)))
    box = torch.stack([(area * ratio).sqrt(), (area / ratio).sqrt()], dim=1).round().clamp(min=1)
    box = torch.minimum(box, sizes)
    start = ((sizes - box + 1) * numbers[:, 2:]).floor()
    return [tuple(row) for row in torch.cat([start, start + box], dim=1).long().tolist()]


def stack_views(views: list[Tensor]) -> Tensor:
    """V batches (B, C, H, W) as one (B, V, C, H, W) whose images lie in memory channels last, one after the other."""
    return torch.stack([view.permute(0, 2, 3, 1) for view in views], dim=1).permute(0, 1, 4, 2, 3)
