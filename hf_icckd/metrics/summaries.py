"""All metrics of a split at once, as floats."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from hf_icckd.metrics.checks import checked_samples, require_finite, where_float64_is, widened
from hf_icckd.metrics.classification import agreement, kl_divergence
from hf_icckd.metrics.geometry import (
    distance_ratio,
    effective_rank,
    inter_class_distance,
    intra_class_distance,
    nc1,
    unread_variance,
    unread_variance_graded,
)
from hf_icckd.metrics.kernels import (
    agrees,
    by_confidence,
    calibration_error,
    confidences,
    is_correct,
    kl,
    predictions,
)
from hf_icckd.metrics.per_class import balanced_accuracy, count_by_class, lowest_recall, macro_f1
from hf_icckd.metrics.soft_labels import (
    mean_entropy,
    non_target_entropy,
    soft_label_information,
    temperature_for_entropy,
)


def classification_metrics(logits: Tensor, labels: Tensor) -> dict[str, float]:
    """Accuracy and calibration of a classifier.

    Args:
        logits: (N, C).
        labels: (N,) class indices.

    Returns:
        `top1`, `top5`, `balanced_accuracy`, `macro_f1` and `lowest_recall` in percent, `nll` in nats, `ece` (15 bins)
        as a fraction.
        Tied logits count against the sample, and so do NaN.

    Raises:
        ValueError: If shapes don't match, a label is outside 0..C-1, or there is no sample.
    """
    return mean_metrics(sample_metrics(*checked_samples(logits, labels)))


def sample_metrics(logits: Tensor, labels: Tensor, teacher_logits: Tensor | None = None) -> Tensor:
    """Compute what `mean_metrics` needs of each sample, so that a split can be measured batch by batch.

    Nothing is checked: that would wait for the device.

    Args:
        logits: (N, C); N may be 0.
        labels: (N,) class indices.
        teacher_logits: (N, C) for the same samples.

    Returns:
        (N, 6), with a teacher (N, 8), float64; the last two columns are label and predicted class.
    """
    logits, labels = widened(logits), where_float64_is(labels)
    columns = [
        is_correct(logits, labels),
        is_correct(logits, labels, 5),
        F.cross_entropy(logits, labels, reduction="none"),
        confidences(logits),
    ]
    if teacher_logits is not None:
        teacher = widened(teacher_logits)
        columns += [agrees(logits, teacher), kl(logits, teacher)]
    columns += [labels, predictions(logits, labels)]
    return torch.stack([column.double() for column in columns], dim=1)


def mean_metrics(rows: Tensor) -> dict[str, float]:
    """Compute `classification_metrics`, and with a teacher `agreement_metrics`, from the rows of all samples.

    Args:
        rows: What `sample_metrics` returns, for one sample at least.
    """
    measured, (labels, predicted) = rows[:, :-2].contiguous(), rows[:, -2:].long().unbind(dim=1)
    means = measured.mean(dim=0).tolist()
    # Classes after the last one that occurs change nothing.
    counts = count_by_class(predicted, labels, int(torch.maximum(labels, predicted).max()) + 1)
    ece = calibration_error(by_confidence(measured[:, 3], measured[:, 0], 15)).item()
    found = {
        "top1": 100 * means[0],
        "top5": 100 * means[1],
        "balanced_accuracy": 100 * balanced_accuracy(counts).item(),
        "macro_f1": 100 * macro_f1(counts).item(),
        "lowest_recall": 100 * lowest_recall(counts).item(),
        "nll": means[2],
        "ece": ece,
    }
    return found | ({"agreement": 100 * means[4], "kl_to_teacher": means[5]} if len(means) > 4 else {})


def representation_metrics(
    logits: Tensor, embeddings: Tensor | None, labels: Tensor, num_classes: int, weight: Tensor | None = None
) -> dict[str, float]:
    """Geometry of a classifier's embeddings, and the information in its soft labels.

    Args:
        logits: (N, C).
        embeddings: (N, D) pooled pre-logits of the same samples; None leaves the geometry out.
        labels: (N,) class indices.
        num_classes: Number C of classes, present or not.
        weight: (C, D) weight of the layer from embeddings to logits; None, where there is no such layer, leaves out
            what it reads.

    Returns:
        `intra_class_distance`, `inter_class_distance`, `distance_ratio`, `nc1`, `effective_rank`; with the weight
        `unread_variance` and `unread_variance_graded`; in nats
        `soft_label_information` (T = 1), `soft_label_information_t4` (T = 4), `soft_label_information_matched` (at
        `matched_temperature`, where the mean entropy is half of log C), `mean_entropy`, `non_target_entropy` (T = 1).
        The two matched ones are left out if no temperature gives that entropy, as for logits that all tie.

    Raises:
        ValueError: If one of these metrics refuses its input: see `inter_class_distance`.
    """
    geometry = (intra_class_distance, inter_class_distance, distance_ratio, nc1, effective_rank)
    found: dict[str, float] = {}
    if embeddings is not None:
        found |= {metric.__name__: metric(embeddings, labels, num_classes).item() for metric in geometry}
        if weight is not None:
            unread = (unread_variance, unread_variance_graded)
            found |= {metric.__name__: metric(embeddings, labels, weight).item() for metric in unread}
    return {
        **found,
        "soft_label_information": soft_label_information(logits, labels).item(),
        "soft_label_information_t4": soft_label_information(logits, labels, temperature=4.0).item(),
        **_matched_information(logits, labels),
        "mean_entropy": mean_entropy(logits).item(),
        "non_target_entropy": non_target_entropy(logits, labels).item(),
    }


def _matched_information(logits: Tensor, labels: Tensor) -> dict[str, float]:
    require_finite(logits, "logits")
    try:
        temperature = temperature_for_entropy(logits, 0.5 * math.log(logits.shape[1]))
    except ValueError:  # the logits are finite, so they tie, and no temperature changes that
        return {}
    information = soft_label_information(logits, labels, temperature).item()
    return {"soft_label_information_matched": information, "matched_temperature": temperature}


def agreement_metrics(student_logits: Tensor, teacher_logits: Tensor) -> dict[str, float]:
    """How closely a student follows its teacher.

    Args:
        student_logits: (N, C).
        teacher_logits: (N, C) for the same samples.

    Returns:
        `agreement` in percent, `kl_to_teacher` = KL(teacher || student) in nats at temperature 1.
    """
    return {
        "agreement": 100 * agreement(student_logits, teacher_logits).item(),
        "kl_to_teacher": kl_divergence(student_logits, teacher_logits).item(),
    }
