"""Hard distillation: the class that the teacher says, as a label.

Reference:
    Touvron, Cord, Douze, Massa, Sablayrolles, Jégou: Training Data-Efficient Image Transformers & Distillation through
    Attention. ICML 2021, arXiv 2012.12877.
"""

from __future__ import annotations

from typing import ClassVar

import torch.nn.functional as F
from torch import Tensor

from hf_icckd.losses.objective import DistillationBatch, OutputObjective, checked_logits


def hard_label_loss(student_logits: Tensor, teacher_logits: Tensor) -> Tensor:
    """Cross-entropy of the student with the teacher's largest logit, mean over images.

    Args:
        student_logits: (B, C), with gradient.
        teacher_logits: (B, C).

    Returns:
        Scalar in nats, in at least float32.

    Raises:
        ValueError: If the shapes differ.

    Reference:
        arXiv 2012.12877, hard-label distillation.

    Example:
        >>> import torch
        >>> hard_label_loss(torch.zeros(1, 2), torch.tensor([[2.0, 0.0]]))
        tensor(0.6931)
    """
    student, teacher = checked_logits(student_logits, teacher_logits)
    return F.cross_entropy(student, teacher.argmax(dim=1))


class HardLabel(OutputObjective):
    """Hard distillation as an objective with the one term `hard_label`; see `hard_label_loss`.

    It has the weight of cross-entropy, as in the paper, where both have one half. The paper's distillation token is no
    part of it: one classification layer learns both labels, so any net can be the student.

    Formula:
        `CE(s, argmax t)`

    Example:
        >>> from hf_icckd.losses import parse_objectives
        >>> parse_objectives(["hard_label"]).term_weights
        {'hard_label': 1.0}
    """

    term_weights: ClassVar[dict[str, float]] = {"hard_label": 1.0}
    teacher_outputs: ClassVar[tuple[str, ...]] = ("logits",)
    cost: ClassVar[str] = "B C"
    citation: ClassVar[str] = """@inproceedings{touvron2021training,
  title = {Training Data-Efficient Image Transformers & Distillation through Attention},
  author = {Touvron, Hugo and Cord, Matthieu and Douze, Matthijs and Massa, Francisco and Sablayrolles, Alexandre and
    J{\\'e}gou, Herv{\\'e}},
  booktitle = {ICML},
  year = {2021}
}"""

    def forward(self, batch: DistillationBatch) -> dict[str, Tensor]:
        """Return `{"hard_label": scalar}`."""
        return {"hard_label": hard_label_loss(batch.student.logits, batch.teacher.logits)}
