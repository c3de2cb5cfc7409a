"""All figures of a split at once, as floats."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from hf_icckd.metrics.checks import checked_logits, require_finite, widened
from hf_icckd.metrics.classification import agreement, kl_divergence
from hf_icckd.metrics.geometry import distance_ratio, effective_rank, inter_class_distance, intra_class_distance, nc1
from hf_icckd.metrics.kernels import agrees, by_confidence, calibration_error, confidences, is_correct, kl
from hf_icckd.metrics.soft_labels import (
    mean_entropy,
    non_target_entropy,
    soft_label_information,
    temperature_for_entropy,
)


def classification_metrics(logits: Tensor, labels: Tensor) -> dict[str, float]:
    """Accuracy and calibration of a classifier.

    Args:
        logits: (N, C) pre-softmax scores.
        labels: (N,) integer classes.

    Returns:
        `top1` and `top5` in percent, `nll` in nats, `ece` (15 bins) as a fraction.

    Raises:
        ValueError: on empty input, mismatched shapes or labels outside 0..C-1.
    """
    return mean_figures(sample_figures(*checked_logits(logits, labels)))


def sample_figures(logits: Tensor, labels: Tensor, teacher_logits: Tensor | None = None) -> Tensor:
    """What `mean_figures` needs of each sample: a split can be measured batch by batch, its logits need not be kept.

    Args:
        logits: (N, C) pre-softmax scores; N may be 0, and nothing is checked, which would wait for the device.
        labels: (N,) integer classes.
        teacher_logits: (N, C) pre-softmax scores of a teacher for the same samples.

    Returns:
        (N, 4), with a teacher (N, 6), float64.
    """
    logits = widened(logits)
    columns = [
        is_correct(logits, labels),
        is_correct(logits, labels, 5),
        F.cross_entropy(logits, labels, reduction="none"),
        confidences(logits),
    ]
    if teacher_logits is not None:
        teacher = widened(teacher_logits)
        columns += [agrees(logits, teacher), kl(logits, teacher)]
    return torch.stack([column.double() for column in columns], dim=1)


def mean_figures(rows: Tensor) -> dict[str, float]:
    """`classification_metrics` and, with a teacher, `agreement_metrics` of a split.

    Args:
        rows: `sample_figures` of all its samples, at least one.

    Returns:
        Names and values as in these two functions.
    """
    means = rows.mean(dim=0).tolist()
    ece = calibration_error(by_confidence(rows[:, 3], rows[:, 0], 15)).item()
    figures = {"top1": 100 * means[0], "top5": 100 * means[1], "nll": means[2], "ece": ece}
    return figures | ({"agreement": 100 * means[4], "kl_to_teacher": means[5]} if len(means) > 4 else {})


def representation_metrics(logits: Tensor, embeddings: Tensor, labels: Tensor, num_classes: int) -> dict[str, float]:
    """What a teacher knows beyond the classes: geometry of its embeddings, information in its soft labels.

    Args:
        logits: (N, C) pre-softmax scores.
        embeddings: (N, D) pooled pre-logits of the same samples.
        labels: (N,) integer classes.
        num_classes: number of classes, present or not.

    Returns:
        `intra_class_distance`, `inter_class_distance`, `distance_ratio`, `nc1`, `effective_rank`; in nats
        `soft_label_information` (T = 1), `soft_label_information_t4` (T = 4), `soft_label_information_matched` (at
        `matched_temperature`, where the mean entropy is half of log C; both are left out where no temperature gives
        it, as of a net that says the same of all classes), `mean_entropy`, `non_target_entropy` (T = 1).

    Raises:
        ValueError: on input that any of these refuses: see `inter_class_distance`.
    """
    geometry = (intra_class_distance, inter_class_distance, distance_ratio, nc1, effective_rank)
    return {
        **{metric.__name__: metric(embeddings, labels, num_classes).item() for metric in geometry},
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
    except ValueError:  # of finite logits: they tie, and no temperature parts them
        return {}
    information = soft_label_information(logits, labels, temperature).item()
    return {"soft_label_information_matched": information, "matched_temperature": temperature}


def agreement_metrics(student_logits: Tensor, teacher_logits: Tensor) -> dict[str, float]:
    """How closely a student follows its teacher.

    Args:
        student_logits: (N, C) pre-softmax scores.
        teacher_logits: (N, C) pre-softmax scores of the same samples.

    Returns:
        `agreement` in percent, `kl_to_teacher` = KL(teacher || student) in nats at temperature 1.

    Raises:
        ValueError: on empty input or mismatched shapes.
    """
    return {
        "agreement": 100 * agreement(student_logits, teacher_logits).item(),
        "kl_to_teacher": kl_divergence(student_logits, teacher_logits).item(),
    }
