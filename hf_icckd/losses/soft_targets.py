"""What cross-entropy compares logits with: the class of an image, or the classes of a mix in their shares."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from hf_icckd.losses.objective import at_least_float32


def cross_entropy(logits: Tensor, targets: Tensor, label_smoothing: float = 0.0) -> Tensor:
    """Mean cross-entropy over images.

    Args:
        logits: (B, C).
        targets: (B,) class indices, or (B, C) probabilities of mixed images, see `targets_of`.
        label_smoothing: Share of the target that is spread over all classes.
    """
    if targets.is_floating_point():
        logits, targets = at_least_float32(logits, targets)
    return F.cross_entropy(logits, targets, label_smoothing=label_smoothing)


def mixed_targets(labels: Tensor, mixed_labels: Tensor, shares: Tensor, num_classes: int) -> Tensor:
    """Probabilities of the classes of mixed images.

    The cross-entropy with them is that with either label, weighted by the shares; with label smoothing too, it is that
    of timm's soft targets.

    Args:
        labels: (B,) class of each image.
        mixed_labels: (B,) class of the image that is mixed in.
        shares: (B,) share of the first, 0 to 1.
        num_classes: Number of classes, C.

    Returns:
        (B, C) in the precision of the shares.

    Example:
        >>> mixed_targets(torch.tensor([0, 2]), torch.tensor([1, 2]), torch.tensor([0.75, 0.5]), num_classes=3)
        tensor([[0.7500, 0.2500, 0.0000],
                [0.0000, 0.0000, 1.0000]])
    """
    first, second = (F.one_hot(each, num_classes).to(shares.dtype) for each in (labels, mixed_labels))
    return first * shares[:, None] + second * (1 - shares[:, None])


def targets_of(batch: Mapping[str, Any], logits: Tensor) -> Tensor:
    """What cross-entropy compares the logits of a batch with.

    Args:
        batch: With `labels` (B,) and, for mixed images, `mixed_labels` (B,) and `mix` (B,).
        logits: (..., C) for the number of classes and the precision.

    Returns:
        (B,) labels, or (B, C) probabilities for mixed images.
    """
    if "mix" not in batch:
        return batch["labels"]
    shares = batch["mix"].to(torch.promote_types(logits.dtype, torch.float32))
    return mixed_targets(batch["labels"], batch["mixed_labels"], shares, logits.shape[-1])
