"""Curriculum temperature: a temperature that is trained against the student, so that its task grows harder.

Reference:
    Li, Li, Yang, Zhao, Song, Luo, Li, Yang: Curriculum Temperature for Knowledge Distillation. AAAI 2023,
    arXiv 2211.16231.
"""

from __future__ import annotations

import math
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from hf_icckd.losses.kd import knowledge_distillation_loss
from hf_icckd.losses.objective import (
    DistillationBatch,
    OutputObjective,
    at_least_float32,
    check_warmup,
)
from hf_icckd.losses.standardisation import comparable

_LOWEST, _RANGE = 1.0, 20.0  # of the temperature, as in the paper


class _Reversal(torch.autograd.Function):
    """The same value, with the gradient times a factor of at most 0."""

    @staticmethod
    def forward(ctx: Any, value: Tensor, strength: Tensor) -> Tensor:
        ctx.save_for_backward(strength)
        return value.clone()

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        (strength,) = ctx.saved_tensors
        return -strength.to(gradients[0].dtype) * gradients[0], None


def curriculum_temperature(raw: Tensor, strength: Tensor) -> Tensor:
    """`1 + 20 sigmoid(raw)`, of which the optimiser sees the gradient reversed and multiplied by the strength.

    Args:
        raw: () trained number.
        strength: () 0 to 1.

    Reference:
        arXiv 2211.16231, the global temperature and its reversed gradient.

    Example:
        >>> raw = torch.zeros((), requires_grad=True)
        >>> temperature = curriculum_temperature(raw, torch.tensor(0.5))
        >>> temperature.backward()
        >>> temperature.item(), raw.grad.item()
        (11.0, -2.5)
    """
    return _LOWEST + _RANGE * _Reversal.apply(raw, strength).sigmoid()


def curriculum_strength(progress: Tensor, warmup: float) -> Tensor:
    """Strength of the reversed gradient: from 0 to 1 by half a cosine over a share of the training, 1 after it.

    Reference:
        arXiv 2211.16231, the curriculum.

    Example:
        >>> [round(curriculum_strength(torch.tensor(each), 0.2).item(), 2) for each in (0.0, 0.1, 0.5)]
        [0.0, 0.5, 1.0]
    """
    if warmup == 0:
        return torch.ones_like(progress)
    return (1 - (math.pi * (progress / warmup).clamp(max=1)).cos()) / 2


class CTKD(OutputObjective):
    """KD with a curriculum temperature as an objective with the one term `ctkd`; see `curriculum_temperature`.

    It is the paper's global temperature, one number for all images, trained with the student and not exported. It
    begins at 15.6 and has a gradient through KD's factor `T^2` too, both as in the authors' code. The paper's other
    variant, a small net that gives each image a temperature, is left out.

    Formula:
        `T^2 KL(p_t || p_s)` with `T = 1 + 20 sigmoid(theta)`, where theta ascends

    Args:
        warmup: Share of the training over which the temperature's gradient grows; 10 of 240 epochs (paper: E_loops).
        standardise: Whether logits are standardised first (arXiv 2403.01858).

    Example:
        >>> from hf_icckd.losses import parse_objectives
        >>> parse_objectives(["ctkd"]).term_weights
        {'ctkd': 1.0}
    """

    term_weights: ClassVar[dict[str, float]] = {"ctkd": 1.0}
    teacher_outputs: ClassVar[tuple[str, ...]] = ("logits",)
    reads_progress: ClassVar[bool] = True
    cost: ClassVar[str] = "B C"
    citation: ClassVar[str] = """@inproceedings{li2023curriculum,
  title = {Curriculum Temperature for Knowledge Distillation},
  author = {Li, Zheng and Li, Xiang and Yang, Lingfeng and Zhao, Borui and Song, Renjie and Luo, Lei and Li, Jun and
    Yang, Jian},
  booktitle = {AAAI},
  year = {2023}
}"""

    def __init__(self, warmup: float = 0.042, standardise: bool = False):
        super().__init__()
        check_warmup("CTKD", warmup)
        self.warmup, self.standardise = warmup, standardise
        self.raw_temperature = nn.Parameter(torch.ones(1))

    def forward(self, batch: DistillationBatch) -> dict[str, Tensor]:
        """Return `{"ctkd": scalar}`."""
        student, teacher = comparable(batch.student.logits, batch.teacher.logits, self.standardise)
        (raw,) = at_least_float32(self.raw_temperature.squeeze())
        temperature = curriculum_temperature(raw, curriculum_strength(batch.progress, self.warmup))
        return {"ctkd": knowledge_distillation_loss(student, teacher, temperature)}
