"""Contrastive distillation of logits: those of student and teacher match for one image, and for no other.

Reference:
    Zhu, Zhou, Zhu, Wang, Hu: CKD: Contrastive Knowledge Distillation from a Sample-Wise Perspective. arXiv 2404.14109.
"""

from __future__ import annotations

from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from hf_icckd.losses.objective import (
    DistillationBatch,
    OutputObjective,
    check_temperature,
    checked_logits,
    logits_of_all,
    no_autocast,
)
from hf_icckd.losses.similarities import directions


def sample_contrastive_loss(student_logits: Tensor, teacher_logits: Tensor, temperature: float) -> Tensor:
    """Cross-entropy of finding, for the teacher's logits of an image, the student's of the same image.

    The choice is a softmax over the cosine similarities with the student's logits of all B images.

    Args:
        student_logits: (B, C), with gradient.
        teacher_logits: (B, C).
        temperature: Softmax temperature of the similarities, > 0.

    Returns:
        Scalar in nats, mean over images, in at least float32. 0 for one image.

    Raises:
        ValueError: If the shapes differ.

    Reference:
        The authors' code, where rows are the teacher's.

    Example:
        >>> logits = torch.eye(2)
        >>> sample_contrastive_loss(logits, logits, temperature=1.0)
        tensor(0.3133)
    """
    student, teacher = checked_logits(student_logits, teacher_logits)
    with no_autocast(student):
        similarities = directions(teacher).to(student.dtype) @ directions(student).T / temperature
        return F.cross_entropy(similarities, torch.arange(len(student), device=student.device))


class CKD(OutputObjective):
    """Contrastive distillation of logits as an objective with the one term `ckd`; see `sample_contrastive_loss`.

    It compares all images of the global batch, whatever the number of processes. Weight and temperature are those of
    the authors' configurations for CIFAR-100.

    Formula:
        `-log softmax_j(cos(t_i, s_j) / T)[i]`

    Relations:
        CRD contrasts embeddings, with images of a memory that are of another class.

    Args:
        temperature: Softmax temperature of the similarities (code: TEMPERATURE).

    Example:
        >>> from hf_icckd.losses import parse_objectives
        >>> parse_objectives(["ckd:weight=0.1"]).term_weights
        {'ckd': 10.0}
    """

    term_weights: ClassVar[dict[str, float]] = {"ckd": 100.0}
    teacher_outputs: ClassVar[tuple[str, ...]] = ("logits",)
    cost: ClassVar[str] = "B^2 C"
    citation: ClassVar[str] = """@article{zhu2024ckd,
  title = {{CKD}: Contrastive Knowledge Distillation from a Sample-Wise Perspective},
  author = {Zhu, Wencheng and Zhou, Xin and Zhu, Pengfei and Wang, Yu and Hu, Qinghua},
  journal = {arXiv:2404.14109},
  year = {2024}
}"""

    def __init__(self, temperature: float = 1.0):
        super().__init__()
        check_temperature("CKD", temperature)
        self.temperature = temperature

    def forward(self, batch: DistillationBatch) -> dict[str, Tensor]:
        """Return `{"ckd": scalar}`."""
        return {"ckd": sample_contrastive_loss(*logits_of_all(batch), self.temperature)}
