"""Cross-entropy for classes of very different sizes: weights of the classes, and logits adjusted by their shares.

Reference:
    Cui, Jia, Lin, Song, Belongie: Class-Balanced Loss Based on Effective Number of Samples. CVPR 2019,
    arXiv 1901.05555, section 2, for weights by the inverse of the images and of their root.
    Menon, Jayasumana, Rawat, Jain, Veit, Kumar: Long-tail learning via logit adjustment. ICLR 2021, arXiv 2007.07314.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

from torch import Tensor

LOGIT_ADJUSTMENT_CITATION = """@inproceedings{menon2021longtail,
  title = {Long-tail learning via logit adjustment},
  author = {Menon, Aditya Krishna and Jayasumana, Sadeep and Rawat, Ankit Singh and Jain, Himanshu and Veit, Andreas
    and Kumar, Sanjiv},
  booktitle = {ICLR},
  year = {2021},
  note = {arXiv:2007.07314}
}"""


class ClassBalance(NamedTuple):
    """What makes the classes of a cross-entropy count differently; the default changes nothing.

    Attributes:
        weights: (C,) weight of an image of each class; None for 1.
        offsets: (C,) what is added to the logits; None for nothing.
    """

    weights: Tensor | None = None
    offsets: Tensor | None = None


def scaled_weights(weights: Sequence[float], images: Sequence[int]) -> list[float]:
    """Scale weights of classes so that their mean over the training images is 1.

    So the loss is as large as without weights, and learning rate and weights of other terms keep their meaning.

    Args:
        weights: (C,) above 0.
        images: (C,) training images of each class.

    Example:
        >>> scaled_weights([1, 3], [30, 10])
        [0.6666666666666666, 2.0]
    """
    mean = math.fsum(weight * count for weight, count in zip(weights, images, strict=True)) / sum(images)
    return [weight / mean for weight in weights]


def inverse_weights(images: Sequence[int], power: float = 1.0) -> list[float]:
    """Weights by one over the images of a class, or over a power of them; their mean over images is 1.

    With the power 1, the mean loss over images is the mean over classes of what an image of the class loses on
    average: what balanced accuracy measures. A class without images has no loss, and its weight is 1.

    Args:
        images: (C,) training images of each class.
        power: 1 for the inverse, 0.5 for that of the root.

    Relations:
        scikit-learn's `class_weight="balanced"` for the power 1.

    Example:
        >>> inverse_weights([30, 10, 0])
        [0.6666666666666666, 2.0, 1.0]
    """
    scaled = scaled_weights([count**-power if count else 1.0 for count in images], images)
    return [weight if count else 1.0 for weight, count in zip(scaled, images, strict=True)]


def prior_offsets(images: Sequence[int], factor: float) -> list[float]:
    """Offsets of the logits: a factor times the log of each class's share of the training images.

    Cross-entropy with them makes logits without them balanced: the net learns what speaks for a class, apart from how
    frequent it is.

    Args:
        images: (C,) training images of each class, all above 0.
        factor: tau of the paper; 1 is consistent for balanced accuracy.

    Relations:
        The logit adjusted loss of arXiv 2007.07314; without it the same offsets are taken off the logits afterwards.

    Example:
        >>> [round(offset, 4) for offset in prior_offsets([75, 25], 1.0)]
        [-0.2877, -1.3863]
    """
    total = sum(images)
    return [factor * math.log(count / total) for count in images]


def weigh_targets(targets: Tensor, weights: Tensor) -> tuple[Tensor, Tensor]:
    """Targets and weights of images whose classes have weights.

    A mix of two images is both of them, each with its share and with the weight of its class.

    Args:
        targets: (B,) class indices, or (B, C) probabilities.
        weights: (C,) above 0.

    Returns:
        Targets of the same shape, and (B,) weights.

    Example:
        >>> import torch
        >>> weigh_targets(torch.tensor([[0.5, 0.5]]), torch.tensor([1.0, 3.0]))
        (tensor([[0.2500, 0.7500]]), tensor([2.]))
    """
    if not targets.is_floating_point():
        return targets, weights[targets]
    weighted = targets * weights
    of_images = weighted.sum(dim=1)
    return weighted / of_images[:, None], of_images
