"""Geometry of embeddings: within a class, between classes, and beside what the classification layer reads."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from hf_icckd.metrics.checks import at_least_two_classes, checked_embeddings, require_finite, widened
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


def unread_variance(embeddings: Tensor, labels: Tensor, weight: Tensor) -> Tensor:
    """Share of the variance within classes in directions that the classification layer does not read.

    Soft labels say nothing of it: moving an embedding x along a direction that W, centred over the classes, maps to 0
    adds the same to all logits. There are D - C + 1 such directions at least, so none if C > D.

    Args:
        embeddings: (N, D), raw, as the layer takes them.
        labels: (N,) class indices; absent classes are skipped.
        weight: (C, D) weight W of the layer that maps embeddings to logits.

    Returns:
        Share in 0..1; 0 if the embeddings of each class coincide.

    Raises:
        ValueError: If shapes don't match, a label is outside 0..C-1, or embeddings or weights are not finite.
    """
    total, read, scale = _read_by_layer(embeddings, labels, weight)
    return _unread(total, (read * (scale > 0)).sum())


def unread_variance_graded(embeddings: Tensor, labels: Tensor, weight: Tensor) -> Tensor:
    """As `unread_variance`, but a direction counts by how strongly it is read: with C > D no direction is unread.

    1 - sum_r (s_r / s_1)^2 v_r / v, where s_r are the singular values of W, centred over the classes, v_r the variance
    within classes along the r-th singular direction and v all of it.

    Args:
        embeddings: (N, D), raw, as the layer takes them.
        labels: (N,) class indices; absent classes are skipped.
        weight: (C, D) weight W of the layer that maps embeddings to logits.

    Returns:
        Share in 0..1, never below `unread_variance` and equal to it where all s_r above 0 are equal, as under neural
        collapse; 0 if the embeddings of each class coincide.

    Raises:
        ValueError: As for `unread_variance`.
    """
    total, read, scale = _read_by_layer(embeddings, labels, weight)
    return _unread(total, (read * scale.square()).sum())


def _read_by_layer(embeddings: Tensor, labels: Tensor, weight: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """All of the variance within classes (); that along the layer's singular directions (R,), and s / s_1 (R,)."""
    if weight.ndim != 2 or embeddings.ndim != 2 or weight.shape[1] != embeddings.shape[1]:
        raise ValueError(
            f"weight has shape {tuple(weight.shape)} and embeddings {tuple(embeddings.shape)}, expected (C, D) and "
            "(N, D): pass the weight of the layer that takes these embeddings"
        )
    require_finite(weight, "weights")
    weight = widened(weight).double()
    embeddings, labels = checked_embeddings(embeddings, labels, len(weight))
    embeddings = embeddings.double()
    embeddings = embeddings - embeddings.mean(dim=0)  # a large common offset would cost digits below
    means, _ = _mean_by_class(embeddings, labels, len(weight))
    within = embeddings - means[labels]
    within = torch.where(within.abs() > 1e-12 * embeddings.abs().amax(), within, 0)  # rounding is no variance
    _, scale, axes = torch.linalg.svd(weight - weight.mean(dim=0), full_matrices=False)
    kept = scale > max(weight.shape) * torch.finfo(scale.dtype).eps * weight.norm()
    scale = torch.where(kept, scale / scale[0], 0)
    return within.square().sum(), (within @ axes.T).square().sum(dim=0), scale


def _unread(total: Tensor, read: Tensor) -> Tensor:
    return torch.where(total > 0, 1 - read / total, 0).clamp(min=0)


def _mean_by_class(rows: Tensor, labels: Tensor, num_classes: int) -> tuple[Tensor, Tensor]:
    """Class means (num_classes, D), zero where the class is absent, and which classes are present (num_classes,)."""
    count = labels.bincount(minlength=num_classes)
    return sum_by_class(rows, labels, num_classes) / count.clamp(min=1)[:, None], count > 0


def _mean_unit_embeddings(embeddings: Tensor, labels: Tensor, num_classes: int) -> Tensor:
    """Mean of the unit-norm embeddings of every class present, (classes present, D) in float64."""
    embeddings, labels = checked_embeddings(embeddings, labels, num_classes)
    means, present = _mean_by_class(F.normalize(embeddings.double(), dim=1), labels, num_classes)
    return means[present]
