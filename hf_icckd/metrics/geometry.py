"""Geometry of embeddings: within a class, and between classes."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from hf_icckd.metrics.checks import at_least_two_classes, checked_embeddings
from hf_icckd.metrics.kernels import entropies, sum_by_class


def intra_class_distance(embeddings: Tensor, labels: Tensor, num_classes: int) -> Tensor:
    """Mean over classes of the mean cosine distance between a class's embeddings and its mean direction.

    With unit embeddings u_i and class mean m, the mean of 1 - u_i . m/|m| is 1 - |m|. A zero embedding has distance 1.

    Args:
        embeddings: (N, D); normalised here.
        labels: (N,) class indices; absent classes are skipped.
        num_classes: Number of classes, present or not.

    Returns:
        Distance in 0..1; 0 if all embeddings of a class have one direction.

    Raises:
        ValueError: If shapes don't match, a label is outside 0..num_classes-1, or embeddings are not finite or empty.
    """
    return (1 - _mean_unit_embeddings(embeddings, labels, num_classes).norm(dim=1)).clamp(min=0).mean()


def inter_class_distance(embeddings: Tensor, labels: Tensor, num_classes: int) -> Tensor:
    """Mean cosine distance between the mean directions of two different classes.

    Args:
        embeddings: (N, D); normalised here.
        labels: (N,) class indices; absent classes are skipped.
        num_classes: Number of classes, present or not.

    Returns:
        Distance in 0..2; C / (C-1) if the classes form a simplex.

    Raises:
        ValueError: As for `intra_class_distance`, or if fewer than two classes are present.
    """
    directions = F.normalize(_mean_unit_embeddings(embeddings, labels, num_classes), dim=1)
    present = at_least_two_classes(len(directions))
    # The sum over all pairs is |sum|^2; taking the diagonal away leaves the pairs of different classes.
    cosines = directions.sum(dim=0).square().sum() - directions.square().sum()
    return (1 - cosines / (present * (present - 1))).clamp(min=0)


def distance_ratio(embeddings: Tensor, labels: Tensor, num_classes: int) -> Tensor:
    """Intra-class over inter-class distance, the quantity that the intra-class term should raise.

    Args:
        embeddings: (N, D); normalised here.
        labels: (N,) class indices; absent classes are skipped.
        num_classes: Number of classes, present or not.

    Returns:
        Ratio >= 0; finite (but huge) if all classes share one direction.

    Raises:
        ValueError: As for `inter_class_distance`.

    Reference:
        Yuan et al. 2025, Enriching Knowledge Distillation with Intra-Class Contrastive Learning, arXiv 2509.22053.
    """
    intra = intra_class_distance(embeddings, labels, num_classes)
    inter = inter_class_distance(embeddings, labels, num_classes)
    return intra / inter.clamp(min=torch.finfo(inter.dtype).eps)


def nc1(embeddings: Tensor, labels: Tensor, num_classes: int) -> Tensor:
    """Within-class against between-class spread, tr(Sigma_W pinv(Sigma_B)) / C: 0 under neural collapse.

    Sigma_W averages (x - m_y)(x - m_y)^T over all samples, Sigma_B averages (m_c - m)(m_c - m)^T over the C classes
    present, m being the mean of the class means. With V, s from the SVD of the centred class means the value is
    sum_r mean_i (v_r . (x_i - m_y))^2 / s_r^2, so no D x D matrix is formed.

    Args:
        embeddings: (N, D), raw: neither centred nor normalised. Any rescaling gives the same value.
        labels: (N,) class indices; absent classes are skipped.
        num_classes: Number of classes, present or not.

    Returns:
        Value >= 0. If all class means coincide, pinv makes it 0, so read it together with `inter_class_distance`.

    Raises:
        ValueError: As for `inter_class_distance`.

    Reference:
        Papyan et al. 2020, Prevalence of Neural Collapse, arXiv 2008.08186.
    """
    embeddings, labels = checked_embeddings(embeddings, labels, num_classes)
    embeddings = embeddings.double()
    embeddings = embeddings - embeddings.mean(dim=0)  # a large common offset would cost digits below
    means, present = _mean_by_class(embeddings, labels, num_classes)
    num_present = at_least_two_classes(int(present.sum()))
    centred = means[present] - means[present].mean(dim=0)
    _, scale, axes = torch.linalg.svd(centred, full_matrices=False)
    # Centring takes one rank away; what is left of it is rounding error, which pinv must not invert.
    kept = scale > max(centred.shape) * torch.finfo(scale.dtype).eps * scale[0]
    kept[num_present - 1 :] = False
    scale, axes = scale[kept], axes[kept]
    within = embeddings @ axes.T - (means @ axes.T)[labels]
    return (within.square().mean(dim=0) / scale.square()).sum()


def effective_rank(embeddings: Tensor, labels: Tensor, num_classes: int) -> Tensor:
    """Number of directions in which a class spreads: exp of the entropy of its singular values.

    exp(H(s / sum s)) with s the singular values of the class's centred embeddings.

    Args:
        embeddings: (N, D) raw embeddings.
        labels: (N,) class indices; classes with fewer than two samples are skipped.
        num_classes: Number of classes, present or not.

    Returns:
        Mean over classes, between 1 and min(n - 1, D). A class whose embeddings coincide counts 0; so does an
        input without any class of two samples.

    Raises:
        ValueError: If shapes don't match, a label is outside 0..num_classes-1, or embeddings are not finite or empty.

    Reference:
        Roy & Vetterli 2007, The Effective Rank: A Measure of Effective Dimensionality, EUSIPCO 2007 (no arXiv entry).
    """
    embeddings, labels = checked_embeddings(embeddings, labels, num_classes)
    ranks = []
    for members in embeddings[labels.argsort()].split(labels.bincount().tolist()):
        if len(members) < 2:
            continue
        members = members.double()
        scale = torch.linalg.svdvals(members - members.mean(dim=0))
        noise = max(members.shape) * torch.finfo(scale.dtype).eps * members.norm()
        scale = scale[scale > noise]
        ranks.append(entropies(scale / scale.sum()).exp() if len(scale) else scale.new_zeros(()))
    return torch.stack(ranks).mean() if ranks else embeddings.new_zeros((), dtype=torch.float64)


def _mean_by_class(rows: Tensor, labels: Tensor, num_classes: int) -> tuple[Tensor, Tensor]:
    """Class means (num_classes, D), zero where the class is absent, and which classes are present (num_classes,)."""
    count = labels.bincount(minlength=num_classes)
    return sum_by_class(rows, labels, num_classes) / count.clamp(min=1)[:, None], count > 0


def _mean_unit_embeddings(embeddings: Tensor, labels: Tensor, num_classes: int) -> Tensor:
    """Mean of the unit-norm embeddings of every class present, (classes present, D) in float64."""
    embeddings, labels = checked_embeddings(embeddings, labels, num_classes)
    means, present = _mean_by_class(F.normalize(embeddings.double(), dim=1), labels, num_classes)
    return means[present]
