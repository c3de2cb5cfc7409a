"""Linear probe: how well the outputs of a classifier tell finer classes apart than those it was trained on.

A collapsed classifier maps all images of a group of classes to one point, and its soft labels to one distribution.
Whatever still tells the classes within a group apart is intra-class knowledge.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

_L2 = 1e-3  # of standardised features; fixed, so that no probe is tuned more than another
_STEPS = 200


def linear_probe(features: Tensor, labels: Tensor, num_classes: int) -> tuple[Tensor, Tensor]:
    """Fit a multinomial logistic regression: mean cross-entropy plus 1e-3 / 2 times the squared weights, by L-BFGS.

    Args:
        features: (N, D), preferably standardised.
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
    """Fit a linear probe for each group, and return how often it finds the right class within the group.

    Every argument is a pair: for the images that probes are fitted on, and for the images they are scored on.

    Args:
        features: (N, D) and (M, D); standardised here within each group, by the statistics of the fitted images.
        groups: (N,) and (M,), the true group of each image.
        fine_labels: (N,) and (M,), the class of each image.

    Returns:
        Percent of the M images.

    Raises:
        ValueError: If there is no image to fit the probe of a group on.
    """
    right = 0
    for group in groups[1].unique().tolist():
        fitted, scored = (each == group for each in groups)
        if not fitted.any():
            raise ValueError(f"group {group} has no image to fit a probe on, expected at least one")
        classes, targets = fine_labels[0][fitted].unique(return_inverse=True)
        known = features[0][fitted].double()
        mean, std = known.mean(dim=0), known.std(dim=0, correction=0)
        std = torch.where(std > 1e-12 * (1 + mean.abs()), std, torch.inf)  # a constant feature says nothing
        weight, bias = linear_probe((known - mean) / std, targets, len(classes))
        predicted = ((features[1][scored].double() - mean) / std @ weight.T + bias).argmax(dim=1)
        right += int((classes[predicted] == fine_labels[1][scored]).sum())
    return 100 * right / len(groups[1])


def fine_class_probe(
    logits: tuple[Tensor, Tensor],
    embeddings: tuple[Tensor, Tensor],
    groups: tuple[Tensor, Tensor],
    fine_labels: tuple[Tensor, Tensor],
) -> dict[str, float]:
    """Measure how well embeddings and soft labels tell the classes within a group apart.

    Soft labels are probed as log-probabilities at temperature 1. Another temperature changes them by a factor, which
    standardising undoes, and by an offset for each image, which changes the result by some tenths of a point.

    Args:
        logits: (N, C) and (M, C), for the images that probes are fitted on and the images they are scored on.
        embeddings: (N, D) and (M, D).
        groups: (N,) and (M,), the labels that the classifier was trained on.
        fine_labels: (N,) and (M,), the finer labels that it never saw.

    Returns:
        `embeddings` and `soft_labels` in percent of the M images, and `chance`, the score of always naming the most
        frequent class of the group.
    """
    soft = logits[0].double().log_softmax(dim=1), logits[1].double().log_softmax(dim=1)
    constant = torch.zeros_like(groups[0])[:, None], torch.zeros_like(groups[1])[:, None]
    return {
        "embeddings": probe_within_groups(embeddings, groups, fine_labels),
        "soft_labels": probe_within_groups(soft, groups, fine_labels),
        "chance": probe_within_groups(constant, groups, fine_labels),
    }
