"""What cross-entropy compares logits with: the class of an image, or the classes of a mix in their shares."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from hf_icckd.losses.class_balance import ClassBalance, weigh_targets
from hf_icckd.losses.objective import at_least_float32

_ALIKE = ClassBalance()


def cross_entropy(
    logits: Tensor, targets: Tensor, label_smoothing: float = 0.0, balance: ClassBalance = _ALIKE
) -> Tensor:
    """Mean cross-entropy over images.

    With weights of the classes, the cross-entropy of an image, smoothing included, is multiplied by the weight of its
    class. The sum is divided by the number of images and not by that of the weights: what an image adds then depends
    neither on the images beside it nor on how a batch is cut.

    Args:
        logits: (B, C).
        targets: (B,) class indices, or (B, C) probabilities of mixed images, see `targets_of`.
        label_smoothing: Share of the target that is spread over all classes.
        balance: Weights of the classes, and offsets of the logits.

    Relations:
        torch's `cross_entropy`. Its mean with weights is divided by their sum for class indices, and by the number of
        images for probabilities; its smoothing spreads more over classes of larger weight.
    """
    logits, targets, weights = _adjusted(logits, targets, balance)
    if weights is None:
        return F.cross_entropy(logits, targets, label_smoothing=label_smoothing)
    return (F.cross_entropy(logits, targets, label_smoothing=label_smoothing, reduction="none") * weights).mean()


def _adjusted(logits: Tensor, targets: Tensor, balance: ClassBalance) -> tuple[Tensor, Tensor, Tensor | None]:
    """Logits, targets and weights of the images; None where all weigh the same."""
    if targets.is_floating_point():
        logits, targets = at_least_float32(logits, targets)
    if balance.offsets is not None:
        (logits,) = at_least_float32(logits)
        logits = logits + balance.offsets.to(logits.dtype)
    if balance.weights is None:
        return logits, targets, None
    (logits,) = at_least_float32(logits)
    return logits, *weigh_targets(targets, balance.weights.to(logits.dtype))


def labeled_cross_entropy(
    logits: Tensor, batch: Mapping[str, Any], label_smoothing: float = 0.0, balance: ClassBalance = _ALIKE
) -> Tensor:
    """Cross-entropy of the images that have a label, as this batch's share in their mean over a whole step.

    A trainer takes the mean over images of all batches and processes of a step. So the sum over labelled images is
    divided by the images here, and multiplied by images over labelled images of the step: the trainer's mean is then
    the one over labelled images, however they are spread. A step without any has 0, with a graph.

    Args:
        logits: (B, C).
        batch: As for `targets_of`, with labels -1 where there is none, and perhaps `step_rows` and `labeled_rows`: how
            many images the step has in all, and how many of them with a label; without them the batch is the step.
        label_smoothing: As for `cross_entropy`.
        balance: As for `cross_entropy`.

    Example:
        >>> logits = torch.tensor([[0.0, 0.0], [9.0, 0.0], [0.0, 0.0]])
        >>> labeled_cross_entropy(logits, {"labels": torch.tensor([1, -1, -1])})
        tensor(0.6931)
    """
    known = batch["labels"] >= 0
    there = {name: batch[name].clamp(min=0) for name in ("labels", "mixed_labels") if name in batch}
    logits, targets, weights = _adjusted(logits, targets_of({**batch, **there}, logits), balance)
    each = F.cross_entropy(logits, targets, label_smoothing=label_smoothing, reduction="none")
    each = each if weights is None else each * weights
    labeled = batch["labeled_rows"] if "labeled_rows" in batch else known.sum()
    rows = batch.get("step_rows", len(known))
    return torch.where(known, each, 0).sum() / len(known) * (rows / labeled.clamp(min=1).to(each.dtype))


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
