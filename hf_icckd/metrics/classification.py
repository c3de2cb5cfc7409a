"""Calibration of a classifier, and how closely it follows another."""

from __future__ import annotations

import torch
from torch import Tensor

from hf_icckd.metrics.checks import checked_pair, checked_samples, require_positive
from hf_icckd.metrics.kernels import agrees, by_confidence, confidences, is_correct, kl


def reliability_table(logits: Tensor, labels: Tensor, num_bins: int = 15) -> dict[str, Tensor]:
    """Confidence and accuracy per confidence bin, for a reliability diagram.

    Bin m of M holds the samples with (m-1)/M < max_c p[c] <= m/M.

    Args:
        logits: (N, C).
        labels: (N,) class indices.
        num_bins: Number M of equal-width bins on 0..1.

    Returns:
        `count`, mean `confidence` and `accuracy` (fractions), each (num_bins,) in float64; 0 in empty bins.

    Raises:
        ValueError: If shapes don't match, a label is outside 0..C-1, or there is no sample or no bin.

    Reference:
        Guo et al. 2017, On Calibration of Modern Neural Networks, arXiv 1706.04599.
    """
    logits, labels = checked_samples(logits, labels)
    if num_bins < 1:
        raise ValueError(f"num_bins is {num_bins}, expected at least 1: 15 is customary")
    return by_confidence(confidences(logits), is_correct(logits, labels), num_bins)


def agreement(student_logits: Tensor, teacher_logits: Tensor) -> Tensor:
    """Fraction of samples for which student and teacher predict the same class; of tied logits the first counts.

    Args:
        student_logits: (N, C).
        teacher_logits: (N, C) for the same samples.
    """
    return agrees(*checked_pair(student_logits, teacher_logits)).mean(dtype=torch.float64)


def kl_divergence(student_logits: Tensor, teacher_logits: Tensor, temperature: float = 1.0) -> Tensor:
    """Mean KL(teacher || student) of the soft labels in nats, without the T^2 factor of the distillation loss.

    Args:
        student_logits: (N, C).
        teacher_logits: (N, C) for the same samples.
        temperature: Softmax temperature of both.
    """
    student, teacher = checked_pair(student_logits, teacher_logits)
    require_positive(temperature)
    return kl(student / temperature, teacher / temperature).mean(dtype=torch.float64)
