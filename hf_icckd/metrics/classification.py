"""How often a classifier is right, how well it knows that, and how closely it follows another."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from hf_icckd.metrics.checks import checked_logits, checked_pair, require_positive
from hf_icckd.metrics.kernels import agrees, by_confidence, calibration_error, confidences, is_correct, kl


def accuracy(logits: Tensor, labels: Tensor, top_k: int = 1) -> Tensor:
    """Fraction of samples whose class is among the `top_k` largest logits; ties count against the sample.

    Args:
        logits: (N, C) pre-softmax scores.
        labels: (N,) integer classes.
        top_k: how many classes may be named; at most C are.

    Returns:
        Fraction in 0..1. A row of equal logits is wrong (unless top_k >= C), and so is a row of NaN.

    Raises:
        ValueError: on empty input, mismatched shapes, labels outside 0..C-1, or top_k < 1.
    """
    logits, labels = checked_logits(logits, labels)
    if top_k < 1:
        raise ValueError(f"top_k is {top_k}, expected at least 1: pass 1 for plain accuracy")
    return is_correct(logits, labels, top_k).mean(dtype=torch.float64)


def negative_log_likelihood(logits: Tensor, labels: Tensor) -> Tensor:
    """Mean of -log p[label].

    Args:
        logits: (N, C) pre-softmax scores.
        labels: (N,) integer classes.

    Returns:
        Nats per sample.

    Raises:
        ValueError: on empty input, mismatched shapes or labels outside 0..C-1.
    """
    logits, labels = checked_logits(logits, labels)
    return F.cross_entropy(logits, labels, reduction="none").mean(dtype=torch.float64)


def reliability_table(logits: Tensor, labels: Tensor, num_bins: int = 15) -> dict[str, Tensor]:
    """Confidence and accuracy per confidence bin, for a reliability diagram.

    Bin m of M holds the samples with (m-1)/M < max_c p[c] <= m/M.

    Args:
        logits: (N, C) pre-softmax scores.
        labels: (N,) integer classes.
        num_bins: number M of equal-width bins on 0..1.

    Returns:
        `count`, mean `confidence` and `accuracy` (fractions), each (num_bins,) in float64; 0 in empty bins.

    Raises:
        ValueError: on empty input, mismatched shapes, labels outside 0..C-1, or num_bins < 1.

    Reference:
        Guo et al. 2017, On Calibration of Modern Neural Networks, arXiv 1706.04599.
    """
    logits, labels = checked_logits(logits, labels)
    if num_bins < 1:
        raise ValueError(f"num_bins is {num_bins}, expected at least 1: 15 is customary")
    return by_confidence(confidences(logits), is_correct(logits, labels), num_bins)


def expected_calibration_error(logits: Tensor, labels: Tensor, num_bins: int = 15) -> Tensor:
    """Gap between confidence and accuracy: sum over bins of count / N * |accuracy - confidence|.

    Args:
        logits: (N, C) pre-softmax scores.
        labels: (N,) integer classes.
        num_bins: number of equal-width bins on 0..1.

    Returns:
        Fraction in 0..1.

    Raises:
        ValueError: as `reliability_table`.

    Reference:
        Guo et al. 2017, On Calibration of Modern Neural Networks, arXiv 1706.04599, equation 3.
    """
    return calibration_error(reliability_table(logits, labels, num_bins))


def agreement(student_logits: Tensor, teacher_logits: Tensor) -> Tensor:
    """Fraction of samples for which student and teacher name the same class; of tied logits the first counts.

    Args:
        student_logits: (N, C) pre-softmax scores.
        teacher_logits: (N, C) pre-softmax scores of the same samples.

    Returns:
        Fraction in 0..1.

    Raises:
        ValueError: on empty input or mismatched shapes.
    """
    return agrees(*checked_pair(student_logits, teacher_logits)).mean(dtype=torch.float64)


def kl_divergence(student_logits: Tensor, teacher_logits: Tensor, temperature: float = 1.0) -> Tensor:
    """Mean KL(teacher || student) of the soft labels, without the T^2 factor of the distillation loss.

    Args:
        student_logits: (N, C) pre-softmax scores.
        teacher_logits: (N, C) pre-softmax scores of the same samples.
        temperature: softmax temperature of both.

    Returns:
        Nats per sample, >= 0.

    Raises:
        ValueError: on empty input, mismatched shapes or temperature <= 0.
    """
    student, teacher = checked_pair(student_logits, teacher_logits)
    require_positive(temperature)
    return kl(student / temperature, teacher / temperature).mean(dtype=torch.float64)
