"""Keyed augmentation: the changes to an image are a function of (seed, epoch, sample id, view)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from hf_icckd.data import operations
from hf_icckd.data.auto_augment import auto_augment
from hf_icckd.options.augmentation import Augmentation
from hf_icckd.options.policies import parse_policy
from hf_icckd.utils.keyed_random import (
    STREAM_COLOR,
    STREAM_CROP,
    STREAM_ERASE,
    STREAM_FILL,
    STREAM_FLIP,
    STREAM_TRIVIAL,
    random_words,
    uniform,
)


def augment(images: Tensor, augmentation: Augmentation, epoch: int, sample_ids: Tensor, view: int) -> Tensor:
    """Apply all augmentations to a batch: crop with padding, mirroring, a policy, colours, erasing.

    Args:
        images: (B, 3, H, W) uint8 on any device.
        augmentation: With every choice made; see `Augmentation.for_images`.
        epoch: Epoch.
        sample_ids: (B,) int64 on the CPU, where strengths are drawn so that nothing waits for the device.
        view: Index of the view.
    """
    numbers = crop_numbers(augmentation, epoch, sample_ids.to(images.device, non_blocking=True), view)
    images = crop_and_flip(images, numbers, augmentation.crop_padding)
    return augment_further(images, augmentation, epoch, sample_ids, view)


def augment_further(images: Tensor, augmentation: Augmentation, epoch: int, sample_ids: Tensor, view: int) -> Tensor:
    """Apply the augmentations of `augment` that follow crop and mirroring."""
    if augmentation.trivial_augment:
        images = trivial_augment(images, *uniform(augmentation.seed, epoch, sample_ids, view, STREAM_TRIVIAL).T[:3])
    if augmentation.aa is not None:
        images = auto_augment(images, parse_policy(augmentation.aa), augmentation.seed, epoch, sample_ids, view)
    if augmentation.color_jitter:
        numbers = uniform(augmentation.seed, epoch, sample_ids, view, STREAM_COLOR)
        factors = (1 + augmentation.color_jitter * (2 * numbers - 1)).clamp(min=0).float()
        factors = factors.to(images.device, non_blocking=True)
        images = operations.brightness(images, factors[:, 0])
        images = operations.contrast(images, factors[:, 1])
        images = operations.saturation(images, factors[:, 2])
    if augmentation.random_erasing:
        numbers = uniform(augmentation.seed, epoch, sample_ids, view, STREAM_ERASE)
        fill = random_words(augmentation.seed, epoch, sample_ids, view, STREAM_FILL)
        height, width = images.shape[2:]
        boxes = erasing_boxes(numbers, fill[:, 3], augmentation.random_erasing, height, width)
        colours = (fill[:, :3] >> 24).to(torch.uint8)
        there = [values.to(images.device, non_blocking=True) for values in (boxes, colours)]
        images = operations.erase(images, *there)
    return images


def crop_numbers(augmentation: Augmentation, epoch: int, sample_ids: Tensor, view: int) -> Tensor:
    """Draw where each image is cropped and whether it is mirrored.

    Args:
        sample_ids: (N,) int64 on any device.

    Returns:
        (N, 3) int64: first row and first column in the padded image (0 without padding), and 1 to mirror.
    """
    numbers = torch.zeros(len(sample_ids), 3, dtype=torch.int64, device=sample_ids.device)
    if augmentation.crop_padding:
        # Integers throughout: not every device has float64.
        words = random_words(augmentation.seed, epoch, sample_ids, view, STREAM_CROP)[:, :2]
        numbers[:, :2] = words * (2 * augmentation.crop_padding + 1) >> 32
    if augmentation.horizontal_flip:
        numbers[:, 2] = random_words(augmentation.seed, epoch, sample_ids, view, STREAM_FLIP)[:, 0] < 2**31
    return numbers


def crop_and_flip(images: Tensor, numbers: Tensor, padding: int | None) -> Tensor:
    """Crop with padding, if there is any, and mirror all images of a batch at once.

    Args:
        images: (B, C, H, W) uint8.
        numbers: (B, 3) from `crop_numbers`, on the same device.
        padding: Pixels of black padding on every side.
    """
    count, channels, height, width = images.shape
    if not padding:  # whole images are chosen much faster than pixels
        both = torch.cat([images, images.flip(3)]).permute(0, 2, 3, 1).reshape(2 * count, channels * height * width)
        chosen = both.index_select(0, torch.arange(count, device=images.device) + count * numbers[:, 2])
        return chosen.view(count, height, width, channels).permute(0, 3, 1, 2)
    rows = torch.arange(height, device=images.device) + numbers[:, :1]
    columns = torch.arange(width, device=images.device).expand(count, -1)
    columns = torch.where(numbers[:, 2:] == 1, columns.flip(1), columns) + numbers[:, 1:2]
    images = F.pad(images, [padding] * 4)
    first = torch.arange(count, device=images.device) * (images.shape[2] * images.shape[3])
    # One index per pixel is much faster than one per dimension. The result is channels last, which nets want anyway.
    index = first[:, None, None] + rows[:, :, None] * images.shape[3] + columns[:, None, :]
    pixels = images.permute(0, 2, 3, 1).reshape(-1, channels).index_select(0, index.view(-1))
    return pixels.view(count, height, width, channels).permute(0, 3, 1, 2)


def resized_crop_boxes(
    sizes: Tensor, augmentation: Augmentation, epoch: int, sample_ids: Tensor, view: int
) -> list[tuple[int, int, int, int]]:
    """Boxes of random resized crops: area uniform on [min_crop_scale, 1], aspect ratio log-uniform on [3/4, 4/3].

    A box that is too large is cut to the image instead of being drawn again, so that every image uses the same number
    of random numbers.

    Args:
        sizes: (B, 2) widths and heights in pixels.
        sample_ids: (B,) int64.

    Returns:
        For each image (left, top, right, bottom) in pixels.

    Reference:
        Szegedy et al.: Going Deeper with Convolutions. arXiv 1409.4842, section 6.
    """
    if augmentation.min_crop_scale is None:
        raise ValueError("min_crop_scale is None, expected a share of the area; small images are cropped with padding")
    numbers = uniform(augmentation.seed, epoch, sample_ids, view, STREAM_CROP)
    start, box = _boxes(numbers, sizes.double(), augmentation.min_crop_scale, 1, 4 / 3)
    corners = torch.cat([start, start + box], dim=1).long().tolist()
    return [(left, top, right, bottom) for left, top, right, bottom in corners]


def stack_views(views: list[Tensor]) -> Tensor:
    """Stack V batches (B, C, H, W) to (B, V, C, H, W), each image channels last in memory."""
    return torch.stack([view.permute(0, 2, 3, 1) for view in views], dim=1).permute(0, 1, 4, 2, 3)


def erasing_boxes(numbers: Tensor, word: Tensor, share: float, height: int, width: int) -> Tensor:
    """Boxes to paint over: area uniform on 2 % to 33 %, aspect ratio log-uniform on 0.3 to 3.3, cut to the image.

    Args:
        numbers: (B, 4) uniform on [0, 1): area, ratio, place.
        word: (B,) uniform below 2**32: whether there is a box.
        share: Share of images with a box.
        height: Height of the images.
        width: Width of the images.

    Returns:
        (B, 4) int64 left, top, right, bottom; empty boxes for the other images.

    Reference:
        Zhong et al.: Random Erasing Data Augmentation. AAAI 2020.
    """
    start, box = _boxes(numbers, torch.tensor([[width, height]], dtype=torch.float64), 0.02, 0.33, 3.3)
    box = torch.where((word < share * 2**32)[:, None], box, 0)
    return torch.cat([start, start + box], dim=1).long()


def _boxes(numbers: Tensor, sizes: Tensor, least: float, most: float, ratio: float) -> tuple[Tensor, Tensor]:
    """Corner and size, (B, 2) each, of random boxes of `least` to `most` of the area, with sides up to 1 : `ratio`."""
    area = sizes.prod(dim=1) * (least + (most - least) * numbers[:, 0])
    drawn = torch.exp((2 * numbers[:, 1] - 1) * torch.log(torch.tensor(ratio, dtype=torch.float64)))
    box = torch.stack([(area * drawn).sqrt(), (area / drawn).sqrt()], dim=1).round().clamp(min=1)
    box = torch.minimum(box, sizes)
    return ((sizes - box + 1) * numbers[:, 2:]).floor(), box


# Operations of TrivialAugment (Wide); all but the last five have a random sign.
_BINS = 30
_TRIVIAL = (
    "shear_x", "shear_y", "translate_x", "translate_y", "rotate", "brightness", "saturation", "contrast", "sharpness",
    "posterize", "solarize", "autocontrast", "equalize", "identity",
)  # fmt: skip


def trivial_augment(images: Tensor, choice: Tensor, strength: Tensor, sign: Tensor) -> Tensor:
    """Apply one operation to each image, with a random strength.

    Args:
        images: (B, 3, H, W) uint8.
        choice: (B,) uniform on [0, 1), on the CPU: chooses the operation.
        strength: (B,) likewise: chooses one of its 31 strengths.
        sign: (B,) likewise: chooses the direction.

    Reference:
        Müller, Hutter: TrivialAugment. ICCV 2021, the "Wide" space. Translations reach 32 pixels, or the side of
        a smaller image.
    """
    chosen = (choice * len(_TRIVIAL)).long()
    strength = (strength * (_BINS + 1)).floor() / _BINS
    signed = torch.where(sign < 0.5, -strength, strength)
    images = images.clone()
    for index, name in enumerate(_TRIVIAL[:-1]):
        rows = (chosen == index).nonzero()[:, 0]  # on the CPU
        if len(rows):
            there = rows.to(images.device, non_blocking=True)
            part = images[there]
            images[there] = _apply(name, part, strength[rows], signed[rows])
    return images


def _apply(name: str, images: Tensor, strength: Tensor, signed: Tensor) -> Tensor:
    def there(values: Tensor) -> Tensor:
        return values.to(images.device, non_blocking=True)

    if name in ("brightness", "saturation", "contrast", "sharpness"):
        return getattr(operations, name)(images, there((1 + 0.99 * signed).float()))
    if name == "posterize":
        return operations.posterize(images, there(8 - (6 * strength).round().long()))
    if name == "solarize":
        return operations.solarize(images, there((255 * (1 - strength)).float()))
    if name in ("autocontrast", "equalize"):
        return getattr(operations, name)(images)
    height, width = images.shape[2:]
    zero, one = torch.zeros_like(signed), torch.ones_like(signed)
    farthest = min(32, width), min(32, height)
    angle = torch.deg2rad(135 * signed)
    cells = {
        "shear_x": (one, 0.99 * signed, zero, zero, one, zero),
        "shear_y": (one, zero, zero, 0.99 * signed, one, zero),
        "translate_x": (one, zero, farthest[0] * signed, zero, one, zero),
        "translate_y": (one, zero, zero, zero, one, farthest[1] * signed),
        "rotate": (angle.cos(), -angle.sin(), zero, angle.sin(), angle.cos(), zero),
    }[name]
    return operations.affine(images, there(torch.stack(cells, dim=1).float().view(-1, 2, 3)))
