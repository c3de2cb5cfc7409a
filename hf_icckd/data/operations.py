"""Operations on the pixels of a batch, with a strength for each image: pure functions on uint8 images.

They use integers, or single operations in float32, so that every device gives the same bits. Results equal those of
torchvision's functions of the same names up to one grey level.
"""

from __future__ import annotations

import torch
from torch import Tensor


def brightness(images: Tensor, factor: Tensor) -> Tensor:
    """Blend (B, 3, H, W) uint8 with black by a factor (B,): 0 is black, 1 the image itself."""
    return _blend(images, torch.zeros_like(images), factor)


def contrast(images: Tensor, factor: Tensor) -> Tensor:
    """Blend with the mean grey of the image by a factor; see `brightness`."""
    grey = _grey(images)
    mean = grey.sum(dim=(1, 2, 3), keepdim=True).float() / grey[0].numel() if len(images) else grey.float()
    return _blend(images, mean, factor)


def saturation(images: Tensor, factor: Tensor) -> Tensor:
    """Blend with the grey image by a factor; see `brightness`."""
    return _blend(images, _grey(images), factor)


def sharpness(images: Tensor, factor: Tensor) -> Tensor:
    """Blend with the smoothed image by a factor, except at its borders; see `brightness`."""
    height, width = images.shape[2:]
    if min(height, width) <= 2:
        return images
    # Sums of three rows and three columns by shifts: a convolution differs between devices.
    wide = images.int()
    rows = wide[:, :, :-2] + wide[:, :, 1:-1] + wide[:, :, 2:]
    square = rows[..., :-2] + rows[..., 1:-1] + rows[..., 2:]
    smooth = wide.clone()
    smooth[:, :, 1:-1, 1:-1] = ((square + 4 * wide[:, :, 1:-1, 1:-1]) * 2 + 13) // 26
    return _blend(images, smooth, factor)


def posterize(images: Tensor, bits: Tensor) -> Tensor:
    """Keep the upper `bits` (B,) int of every value: none below 1, all above 7."""
    return images & ((0xFF << (8 - bits.long()).clamp(0, 8)) & 0xFF).to(torch.uint8).view(-1, 1, 1, 1)


def solarize(images: Tensor, threshold: Tensor) -> Tensor:
    """Invert values of at least `threshold` (B,)."""
    return torch.where(images >= threshold.view(-1, 1, 1, 1), 255 - images, images)


def solarize_add(images: Tensor, addend: Tensor) -> Tensor:
    """Add `addend` (B,) int to the values below 128, up to 255."""
    brighter = (images.int() + addend.int().view(-1, 1, 1, 1)).clamp(max=255).to(torch.uint8)
    return torch.where(images < 128, brighter, images)


def invert(images: Tensor) -> Tensor:
    """Replace every value by 255 minus the value."""
    return 255 - images


def autocontrast(images: Tensor) -> Tensor:
    """Stretch every channel to the full range; a channel of one value stays."""
    low, high = images.amin(dim=(2, 3), keepdim=True).int(), images.amax(dim=(2, 3), keepdim=True).int()
    span = (high - low).clamp(min=1)
    return torch.where(high > low, (images.int() - low) * 255 // span, images).to(torch.uint8)


def equalize(images: Tensor) -> Tensor:
    """Make the histogram of every channel as even as possible."""
    flat = images.flatten(2).long()
    counts = torch.zeros(*flat.shape[:2], 256, dtype=torch.int64, device=images.device)
    counts.scatter_add_(2, flat, torch.ones_like(flat))
    # The largest value in the image does not count, as in Pillow.
    last = counts.gather(2, flat.amax(dim=2, keepdim=True))
    step = (flat.shape[2] - last) // 255
    table = ((counts.cumsum(dim=2) - counts + step // 2) // step.clamp(min=1)).clamp(max=255)
    return torch.where(step > 0, table.gather(2, flat), flat).to(torch.uint8).view_as(images)


def affine(images: Tensor, matrix: Tensor, fill: int = 0) -> Tensor:
    """Move pixels by an affine map, with the nearest pixel.

    Args:
        images: (B, C, H, W) uint8.
        matrix: (B, 2, 3) float32: from the place of an output pixel to its place in the input, both in pixels from the
            centre, x first.
        fill: Grey outside of the image.
    """
    height, width = images.shape[2:]
    y = torch.arange(height, dtype=torch.float32, device=images.device)[:, None] - (height - 1) / 2
    x = torch.arange(width, dtype=torch.float32, device=images.device)[None, :] - (width - 1) / 2
    cells = matrix.view(-1, 6, 1, 1).unbind(1)
    columns = (cells[0] * x + cells[1] * y + cells[2] + (width - 1) / 2).round().long()
    rows = (cells[3] * x + cells[4] * y + cells[5] + (height - 1) / 2).round().long()
    inside = (columns >= 0) & (columns < width) & (rows >= 0) & (rows < height)
    batch = torch.arange(len(images), device=images.device).view(-1, 1, 1)
    moved = images.permute(0, 2, 3, 1)[batch, rows.clamp(0, height - 1), columns.clamp(0, width - 1)]
    return moved.masked_fill(~inside[..., None], fill).permute(0, 3, 1, 2)


def erase(images: Tensor, boxes: Tensor, colours: Tensor) -> Tensor:
    """Paint a box of each image in one colour.

    Args:
        images: (B, 3, H, W) uint8.
        boxes: (B, 4) left, top, right, bottom in pixels; an empty box paints nothing.
        colours: (B, 3) uint8.
    """
    height, width = images.shape[2:]
    left, top, right, bottom = boxes.view(-1, 4, 1, 1).unbind(1)
    y, x = torch.arange(height, device=images.device)[:, None], torch.arange(width, device=images.device)[None, :]
    inside = (x >= left) & (x < right) & (y >= top) & (y < bottom)
    return torch.where(inside[:, None], colours[:, :, None, None], images)


def _grey(images: Tensor) -> Tensor:
    red, green, blue = images.int().unbind(1)
    return ((2989 * red + 5870 * green + 1140 * blue) // 10000)[:, None]


def _blend(images: Tensor, other: Tensor, factor: Tensor) -> Tensor:
    factor = factor.float().view(-1, 1, 1, 1)
    return (images * factor + other * (1 - factor)).clamp(0, 255).to(torch.uint8)
