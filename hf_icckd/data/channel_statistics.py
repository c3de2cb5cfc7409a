"""Mean and standard deviation of the colours of images."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor

Channels = tuple[float, float, float]


def channel_statistics(pieces: Iterable[Tensor]) -> tuple[Channels, Channels]:
    """Mean and standard deviation of each RGB channel on the scale 0 to 1, rounded to four digits.

    Args:
        pieces: (B, 3, H, W) int64 pixels each. They are summed in integers, so how they are cut doesn't matter.

    Example:
        >>> channel_statistics([torch.full((1, 3, 2, 2), 51)])
        ((0.2, 0.2, 0.2), (0.0039, 0.0039, 0.0039))
    """
    total, squares, count = torch.zeros(3, dtype=torch.int64), torch.zeros(3, dtype=torch.int64), 0
    for pixels in pieces:
        total += pixels.sum(dim=(0, 2, 3))
        squares += pixels.square().sum(dim=(0, 2, 3))
        count += pixels.numel() // 3
    mean = total.double() / count
    # Images without any contrast would make the normalisation divide by zero.
    std = (squares.double() / count - mean.square()).clamp(min=1).sqrt()
    return _rounded(mean), _rounded(std)


def _rounded(values: Tensor) -> Channels:
    red, green, blue = (round(value / 255, 4) for value in values.tolist())
    return red, green, blue
