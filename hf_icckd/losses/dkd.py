"""Decoupled knowledge distillation: the target class against all others, and the others among themselves.

Reference:
    Zhao, Cui, Song, Qiu, Liang: Decoupled Knowledge Distillation. CVPR 2022, arXiv 2203.08679.
"""

from __future__ import annotations

import math
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from hf_icckd.losses.objective import (
    DistillationBatch,
    DistillationObjective,
    check_temperature,
    check_warmup,
    checked_logits,
    no_autocast,
    warmed_up,
)
from hf_icckd.losses.standardisation import comparable


def decoupled_distillation_losses(
    student_logits: Tensor, teacher_logits: Tensor, labels: Tensor, temperature: float
) -> tuple[Tensor, Tensor]:
    """Mean over images of the two parts that knowledge distillation is made of, each times `T^2`.

    With p the softmax at temperature T and y the label, the first part compares `[p_y, 1 - p_y]` of teacher and
    student, the second one the softmax over the classes other than y; both by KL divergence from the teacher.

    Args:
        student_logits: (B, C), with gradient.
        teacher_logits: (B, C).
        labels: (B,) class indices.
        temperature: Softmax temperature T > 0.

    Returns:
        TCKD and NCKD, scalars in nats, in at least float32. NCKD is 0 for two classes.

    Raises:
        ValueError: If the shapes differ.

    Reference:
        arXiv 2203.08679, equations 5 to 7.

    Relations:
        KD is TCKD plus NCKD weighted by the teacher's `1 - p_y` of each image.

    Example:
        >>> logits = torch.tensor([[2.0, 1.0, 0.0]])
        >>> [loss.item() for loss in decoupled_distillation_losses(logits, logits, torch.tensor([0]), 4.0)]
        [0.0, 0.0]
    """
    student_logits, teacher_logits = checked_logits(student_logits, teacher_logits)
    with no_autocast(student_logits):
        student, teacher = (
            _target_and_others(logits / temperature, labels) for logits in (student_logits, teacher_logits)
        )
        target, others = (
            F.kl_div(own, given.to(own.dtype), reduction="batchmean", log_target=True) * temperature**2
            for own, given in zip(student, teacher, strict=True)
        )
    return target, others


def _target_and_others(logits: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """Log-probabilities (B, 2) of target and not target, and (B, C - 1) of the other classes among themselves."""
    classes = torch.arange(logits.shape[1] - 1, device=logits.device)
    # Columns of the other classes by index: a mask would have to be counted first, which waits for the device.
    columns = classes + (classes >= labels.unsqueeze(1)).long()
    others = logits.gather(1, columns)
    total = logits.logsumexp(dim=1, keepdim=True)
    own = logits.gather(1, labels.unsqueeze(1))
    binary = torch.cat([own, others.logsumexp(dim=1, keepdim=True)], dim=1) - total
    return binary, others.log_softmax(dim=1)


class DKD(DistillationObjective):
    """Decoupled knowledge distillation as an objective with the one term `dkd`: `alpha TCKD + beta NCKD`.

    The published values of `beta` are 2, 6 or 8 on CIFAR-100, by pair, and 0.5 on ImageNet.

    Formula:
        `alpha T^2 KL(b_t || b_s) + beta T^2 KL(r_t || r_s)` with `b = [p_y, 1 - p_y]` and `r` the softmax of the
        classes other than the label y

    Args:
        temperature: Softmax temperature of both models (paper: T).
        alpha: Weight of the target class's part (paper: alpha).
        beta: Weight of the other classes' part (paper: beta).
        warmup: Share of the training over which the term grows from 0; 20 of the paper's 240 epochs.
        standardise: Whether logits are standardised first (arXiv 2403.01858); then a weight of about 9 is published.

    Example:
        >>> from hf_icckd.losses import parse_objectives
        >>> parse_objectives(["dkd:beta=6"]).term_weights
        {'dkd': 1.0}
    """

    term_weights: ClassVar[dict[str, float]] = {"dkd": 1.0}
    teacher_outputs: ClassVar[tuple[str, ...]] = ("logits",)
    cost: ClassVar[str] = "B C"
    citation: ClassVar[str] = """@inproceedings{zhao2022decoupled,
  title = {Decoupled Knowledge Distillation},
  author = {Zhao, Borui and Cui, Quan and Song, Renjie and Qiu, Yiyu and Liang, Jiajun},
  booktitle = {CVPR},
  year = {2022}
}"""

    def __init__(
        self,
        temperature: float = 4.0,
        alpha: float = 1.0,
        beta: float = 8.0,
        warmup: float = 0.083,
        standardise: bool = False,
    ):
        super().__init__()
        check_temperature("DKD", temperature)
        for name, value in (("alpha", alpha), ("beta", beta)):
            if not 0 <= value < math.inf:
                raise ValueError(f"DKD {name} is {value}, expected a finite number of at least 0")
        check_warmup("DKD", warmup)
        self.temperature, self.alpha, self.beta = temperature, alpha, beta
        self.warmup, self.standardise = warmup, standardise

    def forward(self, batch: DistillationBatch) -> dict[str, Tensor]:
        """Return `{"dkd": scalar}`."""
        student, teacher = comparable(batch.student.logits, batch.teacher.logits, self.standardise)
        target, others = decoupled_distillation_losses(student, teacher, batch.labels, self.temperature)
        loss = self.alpha * target + self.beta * others
        return {"dkd": warmed_up(loss, batch.progress, self.warmup)}
