"""Checks of what metrics take. Each raises an error that names the value, what was expected and the fix."""

from __future__ import annotations

import math

import torch
from torch import Tensor


def has_float64(device: torch.device) -> bool:
    """Whether a device computes in float64; Apple's GPUs don't."""
    return device.type != "mps"


def where_float64_is(tensor: Tensor) -> Tensor:
    """Return a tensor on its device, or on the CPU if its device has no float64."""
    return tensor if has_float64(tensor.device) else tensor.cpu()


def widened(values: Tensor) -> Tensor:
    """Return the values in float32 at least, without a graph, on a device that has float64."""
    return where_float64_is(values.detach()).to(torch.promote_types(values.dtype, torch.float32))


def checked_logits(logits: Tensor) -> Tensor:
    if logits.ndim != 2 or logits.shape[0] < 1 or logits.shape[1] < 2:
        raise ValueError(
            f"logits have shape {tuple(logits.shape)}, expected (N, C) with N >= 1 and C >= 2: pass one row per sample"
        )
    return widened(logits)


def checked_samples(logits: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    return checked_logits(logits), checked_labels(labels, len(logits), logits.shape[1])


def checked_embeddings(embeddings: Tensor, labels: Tensor, num_classes: int) -> tuple[Tensor, Tensor]:
    if embeddings.ndim != 2 or 0 in embeddings.shape:
        raise ValueError(
            f"embeddings have shape {tuple(embeddings.shape)}, expected (N, D) with N >= 1 and D >= 1: "
            "pool feature maps and pass one row per sample"
        )
    require_finite(embeddings, "embeddings")
    return widened(embeddings), checked_labels(labels, len(embeddings), num_classes)


def checked_labels(labels: Tensor, num_samples: int, num_classes: int) -> Tensor:
    if labels.shape != (num_samples,):
        raise ValueError(
            f"labels have shape {tuple(labels.shape)}, expected ({num_samples},): pass one class index per sample"
        )
    if labels.is_floating_point() or labels.dtype == torch.bool:
        raise ValueError(f"labels have dtype {labels.dtype}, expected integers: pass class indices, not one-hot rows")
    smallest, largest = int(labels.min()), int(labels.max())
    if smallest < 0 or largest >= num_classes:
        raise ValueError(
            f"labels span {smallest}..{largest}, expected 0..{num_classes - 1}: drop unlabelled samples or check the "
            "number of classes"
        )
    return where_float64_is(labels.long())


def checked_pair(student_logits: Tensor, teacher_logits: Tensor) -> tuple[Tensor, Tensor]:
    if student_logits.shape != teacher_logits.shape:
        raise ValueError(
            f"student_logits have shape {tuple(student_logits.shape)}, teacher_logits {tuple(teacher_logits.shape)}, "
            "expected the same (N, C): run both on the same samples and classes"
        )
    return checked_logits(student_logits), checked_logits(teacher_logits)


def at_least_two_classes(present: int) -> int:
    if present < 2:
        raise ValueError(f"labels hold {present} class, expected at least 2: evaluate on samples of several classes")
    return present


def require_finite(values: Tensor, name: str) -> None:
    if not values.isfinite().all():
        wrong = int((~values.isfinite()).sum())
        raise ValueError(f"{name} hold {wrong} NaN or infinite values, expected none: check whether training diverged")


def require_positive(temperature: float) -> None:
    if not 0 < temperature < math.inf:
        raise ValueError(f"temperature is {temperature}, expected a positive number: pass 1.0 for plain probabilities")
