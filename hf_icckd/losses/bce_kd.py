"""Distillation of each class by itself: sigmoids in place of the softmax.

Reference:
    Yang, Xie, Zong, Feng, Niu, Sugiyama, Huang: Multi-Label Knowledge Distillation. ICCV 2023, arXiv 2308.06453
    (its distillation of logits).
"""

from __future__ import annotations

from typing import ClassVar

import torch.nn.functional as F
from torch import Tensor

from hf_icckd.losses.objective import (
    DistillationBatch,
    OutputObjective,
    check_temperature,
    checked_logits,
    no_autocast,
)


def binary_distillation_loss(student_logits: Tensor, teacher_logits: Tensor, temperature: float) -> Tensor:
    """Binary KL divergence from the teacher's sigmoids times `T^2`, summed over classes, mean over images.

    Args:
        student_logits: (B, C), with gradient.
        teacher_logits: (B, C).
        temperature: Temperature T > 0 of the sigmoids.

    Returns:
        Scalar in nats, in at least float32.

    Raises:
        ValueError: If the shapes differ.

    Reference:
        arXiv 2308.06453, its distillation of logits.

    Example:
        >>> import torch
        >>> binary_distillation_loss(torch.zeros(1, 2), torch.tensor([[2.0, 0.0]]), temperature=1.0)
        tensor(0.3278)
    """
    student, teacher = checked_logits(student_logits, teacher_logits)
    with no_autocast(student):
        own, given = student / temperature, teacher / temperature
        # KL(p || q) of two classes = p (log p - log q) + (1 - p) (log (1 - p) - log (1 - q)).
        yes = given.sigmoid() * (F.logsigmoid(given) - F.logsigmoid(own))
        no = (-given).sigmoid() * (F.logsigmoid(-given) - F.logsigmoid(-own))
        return (yes + no).sum(dim=1).mean() * temperature**2


class BCEKD(OutputObjective):
    """Distillation class by class as an objective with the one term `bce_kd`; see `binary_distillation_loss`.

    Formula:
        `T^2 sum_c KL(sigmoid(t_c / T) || sigmoid(s_c / T))`

    Relations:
        KD sees differences between logits only; a sigmoid also sees how large they are. That says something where the
        teacher was trained with sigmoids, too. One trained with a softmax has logits whose common shift is an
        accident, and the student copies it.

    Args:
        temperature: Temperature of both models' sigmoids.

    Example:
        >>> from hf_icckd.losses import parse_objectives
        >>> parse_objectives(["bce_kd:temperature=2"]).term_weights
        {'bce_kd': 1.0}
    """

    term_weights: ClassVar[dict[str, float]] = {"bce_kd": 1.0}
    teacher_outputs: ClassVar[tuple[str, ...]] = ("logits",)
    cost: ClassVar[str] = "B C"
    citation: ClassVar[str] = """@inproceedings{yang2023multi,
  title = {Multi-Label Knowledge Distillation},
  author = {Yang, Penghui and Xie, Ming-Kun and Zong, Chen-Chen and Feng, Lei and Niu, Gang and Sugiyama, Masashi and
    Huang, Sheng-Jun},
  booktitle = {ICCV},
  year = {2023}
}"""

    def __init__(self, temperature: float = 1.0):
        super().__init__()
        check_temperature("BCEKD", temperature)
        self.temperature = temperature

    def forward(self, batch: DistillationBatch) -> dict[str, Tensor]:
        """Return `{"bce_kd": scalar}`."""
        return {"bce_kd": binary_distillation_loss(batch.student.logits, batch.teacher.logits, self.temperature)}
