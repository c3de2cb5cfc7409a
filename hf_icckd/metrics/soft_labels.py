"""Information in soft labels beyond the class."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from hf_icckd.metrics.checks import checked_logits, checked_samples, require_finite, require_positive
from hf_icckd.metrics.kernels import entropies

ROWS_PER_CHUNK = 4096  # rows held in float64 at a time: 50,000 x 1,000 probabilities would need 400 MB a copy


def soft_label_information(logits: Tensor, labels: Tensor, temperature: float = 1.0) -> Tensor:
    """How much the soft labels of one class differ: H(mean_i p_i) - mean_i H(p_i) per class, averaged over classes.

    This is the mutual information between a sample's identity and its soft label, given the class. It rises with
    temperature and with under-training: compare teachers at equal `mean_entropy` (see `temperature_for_entropy`).

    Args:
        logits: (N, C).
        labels: (N,) class indices; absent classes are skipped.
        temperature: Softmax temperature of p = softmax(logits / temperature).

    Returns:
        Nats, between 0 (all soft labels of a class alike) and log C.

    Raises:
        ValueError: If shapes don't match, a label is outside 0..C-1, there is no sample, or temperature <= 0.

    Reference:
        The intra-class information of Yuan et al. 2025, arXiv 2509.22053, measured as a Jensen-Shannon divergence.
    """
    logits, labels = checked_samples(logits, labels)
    num_classes = logits.shape[1]
    mixture = logits.new_zeros(num_classes, num_classes, dtype=torch.float64)
    entropy = logits.new_zeros(num_classes, dtype=torch.float64)
    for rows, classes in zip(logits.split(ROWS_PER_CHUNK), labels.split(ROWS_PER_CHUNK), strict=True):
        p = _soft_labels(rows.double(), temperature)
        mixture.index_add_(0, classes, p)
        entropy.index_add_(0, classes, entropies(p))
    count = labels.bincount(minlength=num_classes)
    present = count > 0
    count = count[present]
    information = entropies(mixture[present] / count[:, None]) - entropy[present] / count
    return information.clamp(min=0).mean()  # Jensen: below 0 is rounding


def mean_entropy(logits: Tensor, temperature: float = 1.0) -> Tensor:
    """Mean entropy H(p) of the soft labels p = softmax(logits / temperature).

    Args:
        logits: (N, C).
        temperature: Softmax temperature.

    Returns:
        Nats, between 0 and log C.

    Raises:
        ValueError: If the shape is wrong, there is no sample, or temperature <= 0.
    """
    return entropies(_soft_labels(checked_logits(logits), temperature)).mean(dtype=torch.float64)


def temperature_for_entropy(logits: Tensor, target_entropy: float) -> float:
    """Find the temperature at which soft labels have a given mean entropy, to compare teachers on equal terms.

    H grows with temperature (dH / dlog T is the variance of logits / T under p), so bisection on log T finds it.

    Args:
        logits: (N, C), finite.
        target_entropy: Nats, strictly between 0 and log C.

    Returns:
        The temperature, its logarithm to 1e-6.

    Raises:
        ValueError: If logits are empty, not finite or of a wrong shape; if the target is outside (0, log C), or no
            temperature reaches it, as with rows of equal logits.
    """
    logits = checked_logits(logits)
    require_finite(logits, "logits")
    limit = math.log(logits.shape[1])
    if not 0 < target_entropy < limit:
        raise ValueError(
            f"target_entropy is {target_entropy}, expected strictly between 0 and log C = {limit:.4f} for "
            f"{logits.shape[1]} classes: pass a fraction of log C"
        )

    def falls_short(log_temperature: float) -> bool:
        return mean_entropy(logits, math.exp(log_temperature)).item() < target_entropy

    low = high = 0.0
    while not falls_short(low):
        low -= 4
        if low < -40:
            raise ValueError(
                f"target_entropy {target_entropy} isn't reached at any temperature, expected logits that differ "
                "within a row (equal ones stay at log C): pick a larger target or check the model"
            )
    while falls_short(high):
        high += 4
    while high - low > 1e-6:
        middle = (low + high) / 2
        low, high = (middle, high) if falls_short(middle) else (low, middle)
    return math.exp((low + high) / 2)


def non_target_entropy(logits: Tensor, labels: Tensor, temperature: float = 1.0) -> Tensor:
    """Mean entropy of p without the true class, renormalised: how evenly a teacher rates the wrong classes.

    Args:
        logits: (N, C).
        labels: (N,) class indices.
        temperature: Softmax temperature.

    Returns:
        Nats, between 0 and log(C - 1); 0 for two classes.

    Raises:
        ValueError: If shapes don't match, a label is outside 0..C-1, there is no sample, or temperature <= 0.
    """
    logits, labels = checked_samples(logits, labels)
    # Removing the class before the softmax stays exact where 1 - p[label] would be 0.
    others = logits.scatter(1, labels[:, None], -math.inf)
    return entropies(_soft_labels(others, temperature)).mean(dtype=torch.float64)


def _soft_labels(logits: Tensor, temperature: float) -> Tensor:
    require_positive(temperature)
    # The largest logit is subtracted first: divided by a small temperature it could overflow.
    return ((logits - logits.amax(dim=1, keepdim=True)) / temperature).softmax(dim=1)
