"""Whether an exported file computes what torch computes, on random images."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from hf_icckd.models.runtimes import Run
from hf_icckd.utils.text import percent

if TYPE_CHECKING:
    from hf_icckd.models.classifier import ImageClassifier

_MIN_AGREEMENT = 0.999


class LogitComparison(NamedTuple):
    """How the logits of an exported file compare with torch's.

    Attributes:
        max_difference: Largest difference between logits.
        agreement: Share of the images, 0 to 1, for which both predict the same class.
    """

    max_difference: float
    agreement: float


def check_same_logits(
    classifier: ImageClassifier, run: Run, kind: str, path: Path, num_images: int, tolerance: float
) -> LogitComparison:
    """Compare an exported file with torch.

    Args:
        classifier: In evaluation mode, on the CPU.
        run: Runs the file.
        kind: Name of the format, for the message.
        path: Where the file is to go, for the message.
        num_images: Random images, from plain colours to noise, to compare on.
        tolerance: Largest accepted difference between logits, as a share of the largest logit if that is above 1.

    Raises:
        ValueError: If logits differ by more, or the same class is predicted for less than 99.9 % of the images.
    """
    generator = torch.Generator().manual_seed(0)
    difference, largest, same, size = 0.0, 1.0, 0, classifier.spec.image_size
    for first in range(0, num_images, 50):
        images = random_images(min(50, num_images - first), size, generator)
        with torch.no_grad():
            expected = classifier(images).logits
        found = torch.from_numpy(run(images.numpy()))
        difference = max(difference, (found - expected).abs().max().nan_to_num(torch.inf).item())
        largest = max(largest, expected.abs().max().item())
        same += int((found.argmax(dim=1) == expected.argmax(dim=1)).sum())
    agreement = same / num_images
    if difference > tolerance * largest or agreement < _MIN_AGREEMENT:
        raise ValueError(
            f"the {kind} file of {classifier.spec.architecture} differs from torch on {num_images} images: logits by "
            f"up to {difference:.2g} where the largest is {largest:.2g}, expected at most {tolerance * largest:.2g}; "
            f"the same class in {percent(agreement)}, expected at least {percent(_MIN_AGREEMENT, 1)}; {path} is not "
            "written. If logits are only rounded differently, pass a larger --logit_tolerance (tolerance in Python)"
        )
    return LogitComparison(difference, agreement)


def check_comparison_options(num_images: int, tolerance: float) -> None:
    """Raise ValueError for a comparison that can't be made."""
    if num_images < 1:
        raise ValueError(f"num_images is {num_images}, expected at least 1: the file is compared with torch")
    if not tolerance >= 0:
        raise ValueError(f"the tolerance of logits is {tolerance}, expected 0 or more, such as 1e-4")


def random_images(rows: int, size: int, generator: torch.Generator) -> Tensor:
    """(rows, 3, size, size) uint8, from smooth colours to noise: on noise alone nets tend to predict one class."""
    coarse = torch.rand(rows, 3, 4, 4, generator=generator)
    smooth = F.interpolate(coarse, size=(size, size), mode="bilinear", align_corners=False)
    noise, share = (torch.rand(rows, 3, side, side, generator=generator) for side in (size, 1))
    return torch.lerp(smooth, noise, share).mul(256).byte()
