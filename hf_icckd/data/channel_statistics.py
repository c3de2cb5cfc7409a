"""Mean and standard deviation of the colours of images."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor

import torch
from torch import Tensor

from hf_icckd.utils.machine import cores

Channels = tuple[float, float, float]


def channel_statistics(read: Callable[[Tensor], Tensor], pieces: Iterable[Tensor]) -> tuple[Channels, Channels]:
    """Mean and standard deviation of each RGB channel on the scale 0 to 1, rounded to four digits.

    Args:
        read: Returns the (B, 3, H, W) pixels of some rows, 0 to 255; called by several threads, as decoders let others
            run.
        pieces: Rows. Pixels are summed in integers, so how rows are cut doesn't matter.

    Example:
        >>> channel_statistics(lambda rows: torch.full((len(rows), 3, 2, 2), 51), [torch.arange(4)])
        ((0.2, 0.2, 0.2), (0.0039, 0.0039, 0.0039))
    """

    def sums(piece: Tensor) -> tuple[Tensor, Tensor, int]:
        pixels = read(piece).long()
        return pixels.sum(dim=(0, 2, 3)), pixels.square().sum(dim=(0, 2, 3)), pixels.numel() // 3

    total, squares, count = torch.zeros(3, dtype=torch.int64), torch.zeros(3, dtype=torch.int64), 0
    with ThreadPoolExecutor(cores()) as threads:
        for own, own_squares, own_count in threads.map(sums, pieces):
            total, squares, count = total + own, squares + own_squares, count + own_count
    mean = total.double() / count
    # Images without any contrast would make the normalisation divide by zero.
    std = (squares.double() / count - mean.square()).clamp(min=1).sqrt()
    return _rounded(mean), _rounded(std)


def _rounded(values: Tensor) -> Channels:
    red, green, blue = (round(value / 255, 4) for value in values.tolist())
    return red, green, blue
