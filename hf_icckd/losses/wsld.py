"""Weighted soft labels: distillation counts less for images on which the student is ahead of the teacher.

Reference:
    Zhou, Song, Chen, Zhou, Wang, Yuan, Zhang: Rethinking Soft Labels for Knowledge Distillation: A Bias-Variance
    Tradeoff Perspective. ICLR 2021, arXiv 2102.00650.
"""

from __future__ import annotations

from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from hf_icckd.losses.objective import (
    DistillationBatch,
    DistillationObjective,
    check_temperature,
    checked_logits,
    no_autocast,
)

_EPSILON = 1e-7  # as in the authors' code


def soft_label_weights(student_logits: Tensor, teacher_logits: Tensor, labels: Tensor) -> Tensor:
    """(B,) weight of each image, `1 - exp(-L_s / L_t)` with the cross-entropies L of student and teacher, no gradient.

    Reference:
        arXiv 2102.00650, weighted soft labels.

    Example:
        >>> soft_label_weights(torch.zeros(1, 2), torch.zeros(1, 2), torch.tensor([0]))
        tensor([0.6321])
    """
    own, given = (
        F.cross_entropy(each.detach(), labels, reduction="none") for each in (student_logits, teacher_logits)
    )
    return -torch.expm1(-own / (given + _EPSILON))


def weighted_soft_label_loss(
    student_logits: Tensor, teacher_logits: Tensor, labels: Tensor, temperature: float
) -> Tensor:
    """Knowledge distillation with `soft_label_weights`: their product, mean over images.

    Args:
        student_logits: (B, C), with gradient.
        teacher_logits: (B, C).
        labels: (B,) class indices.
        temperature: Softmax temperature T > 0.

    Returns:
        Scalar in nats, in at least float32. The authors' code has the cross-entropy with soft labels where this has
        the KL divergence; the gradient is the same, and this is 0 where both models agree.

    Raises:
        ValueError: If the shapes differ.

    Reference:
        arXiv 2102.00650, weighted soft labels.

    Example:
        >>> logits = torch.tensor([[2.0, 0.0]])
        >>> weighted_soft_label_loss(logits, logits, torch.tensor([0]), temperature=2.0)
        tensor(0.)
    """
    student, teacher = checked_logits(student_logits, teacher_logits)
    with no_autocast(student):
        weights = soft_label_weights(student, teacher, labels)
        own, given = ((each / temperature).log_softmax(dim=1) for each in (student, teacher))
        each = F.kl_div(own, given.to(own.dtype), reduction="none", log_target=True).sum(dim=1)
        return (weights * each).mean() * temperature**2


class WSLD(DistillationObjective):
    """Weighted soft labels as an objective with the one term `wsld`; see `weighted_soft_label_loss`.

    Temperature and weight are those of the authors' code for ImageNet.

    Formula:
        `(1 - exp(-L_s / L_t)) T^2 KL(p_t || p_s)`, L the cross-entropy with the label

    Args:
        temperature: Softmax temperature of both models (paper: tau).

    Example:
        >>> from hf_icckd.losses import parse_objectives
        >>> parse_objectives(["wsld:temperature=4"]).term_weights
        {'wsld': 2.5}
    """

    term_weights: ClassVar[dict[str, float]] = {"wsld": 2.5}
    teacher_outputs: ClassVar[tuple[str, ...]] = ("logits",)
    reads_progress: ClassVar[bool] = False
    cost: ClassVar[str] = "B C"
    citation: ClassVar[str] = """@inproceedings{zhou2021rethinking,
  title = {Rethinking Soft Labels for Knowledge Distillation: A Bias-Variance Tradeoff Perspective},
  author = {Zhou, Helong and Song, Liangchen and Chen, Jiajie and Zhou, Ye and Wang, Guoli and Yuan, Junsong and
    Zhang, Qian},
  booktitle = {ICLR},
  year = {2021}
}"""

    def __init__(self, temperature: float = 2.0):
        super().__init__()
        check_temperature("WSLD", temperature)
        self.temperature = temperature

    def forward(self, batch: DistillationBatch) -> dict[str, Tensor]:
        """Return `{"wsld": scalar}`."""
        logits = batch.student.logits, batch.teacher.logits
        return {"wsld": weighted_soft_label_loss(*logits, batch.labels, self.temperature)}
