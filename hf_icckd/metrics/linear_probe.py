"""What a classifier knows but was never told: the finer class of an image, read off its outputs by a linear probe.

Trained on groups of classes, a collapsed classifier maps all images of a group to one point and its soft labels to
one distribution; whatever still tells the classes within a group apart is intra-class knowledge, measured.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

_L2 = 1e-3  # of standardised features; fixed, so that no probe is tuned more than another
_STEPS = 200


def linear_probe(features: Tensor, labels: Tensor, num_classes: int) -> tuple[Tensor, Tensor]:
    """Multinomial logistic regression: mean cross-entropy plus 1e-3 / 2 times the squared weights, solved by L-BFGS.

    Args:
        features: (N, D), best standardised.
        labels: (N,) class indices.
        num_classes: Number C of classes.

    Returns:
        Weights (C, D) and bias (C,) in float64.
    """
    features = features.double()
    weight = features.new_zeros(num_classes, features.shape[1], requires_grad=True)
    bias = features.new_zeros(num_classes, requires_grad=True)
    solver = torch.optim.LBFGS(
        [weight, bias], max_iter=_STEPS, tolerance_grad=1e-7, tolerance_change=1e-12, line_search_fn="strong_wolfe"
    )

    def loss() -> Tensor:
        solver.zero_grad()
        value = F.cross_entropy(features @ weight.T + bias, labels) + _L2 / 2 * weight.square().sum()
        value.backward()
        return value

    with torch.enable_grad():
        solver.step(loss)
    return weight.detach(), bias.detach()


def probe_within_groups(
    features: tuple[Tensor, Tensor], groups: tuple[Tensor, Tensor], fine_labels: tuple[Tensor, Tensor]
) -> float:
    """How often a linear probe, one for each group, names the right class within the group.

    Every argument is a pair, for the images it is fitted on and for those it is scored on.

    Args:
        features: (N, D) and (M, D); standardised here within each group, by the first ones.
        groups: (N,) and (M,), the true group of each image.
        fine_labels: (N,) and (M,), its class.

    Returns:
        Percent of the M images.

    Raises:
        ValueError: If a group that is scored has nothing to fit on.
    """
    right = 0
    for group in groups[1].unique().tolist():
        fitted, scored = (each == group for each in groups)
        if not fitted.any():
            raise ValueError(f"group {group} has no image to fit a probe on; expected one at least")
        classes, targets = fine_labels[0][fitted].unique(return_inverse=True)
        known = features[0][fitted].double()
        mean, std = known.mean(dim=0), known.std(dim=0, correction=0)
        std = torch.where(std > 1e-12 * (1 + mean.abs()), std, torch.inf)  # what never changes says nothing
        weight, bias = linear_probe((known - mean) / std, targets, len(classes))
        predicted = ((features[1][scored].double() - mean) / std @ weight.T + bias).argmax(dim=1)
        right += (classes[predicted] == fine_labels[1][scored]).sum().item()
    return 100 * right / len(groups[1])


def fine_class_probe(
    logits: tuple[Tensor, Tensor],
    embeddings: tuple[Tensor, Tensor],
    groups: tuple[Tensor, Tensor],
    fine_labels: tuple[Tensor, Tensor],
) -> dict[str, float]:
    """How much of the class within its group can be read off embeddings and soft labels.

    Soft labels are probed as log-probabilities at temperature 1. Another temperature changes them by a factor, which
    standardising undoes, and by an offset of each image, which moves the figure by some tenths of a point.

    Args:
        logits: (N, C) and (M, C), for the images the probes are fitted on and those they are scored on.
        embeddings: (N, D) and (M, D).
        groups: (N,) and (M,), what the classifier was trained to tell.
        fine_labels: (N,) and (M,), what it was not.

    Returns:
        `embeddings` and `soft_labels` in percent of the M images, and `chance`: always the most frequent class of the
        group.
    """
    soft = tuple(each.double().log_softmax(dim=1) for each in logits)
    constant = tuple(torch.zeros(len(each), 1, device=each.device) for each in groups)
    return {
        "embeddings": probe_within_groups(embeddings, groups, fine_labels),
        "soft_labels": probe_within_groups(soft, groups, fine_labels),
        "chance": probe_within_groups(constant, groups, fine_labels),
    }
