"""Student-friendly teacher networks (SFTN): parts of a student are trained along with the teacher.

Reference:
    Park, Cha, Jeong, Kim, Han: Learning Student-Friendly Teacher Networks for Knowledge Distillation. NeurIPS 2021,
    arXiv 2102.07650.
"""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from torch import Tensor

from hf_icckd.losses.class_balance import ClassBalance
from hf_icckd.losses.kd import knowledge_distillation_loss
from hf_icckd.losses.soft_targets import cross_entropy
from hf_icckd.losses.teacher_term import TeacherBatch, TeacherTerm
from hf_icckd.models.architectures import check_architecture, has_pretrained
from hf_icckd.models.classifier import ImageClassifier
from hf_icckd.models.student_branches import StudentBranches, student_branches

_ALIKE = ClassBalance()


def student_branch_terms(
    logits: Tensor,
    branch_logits: tuple[Tensor, ...],
    targets: Tensor,
    label_smoothing: float = 0.0,
    balance: ClassBalance = _ALIKE,
) -> dict[str, Tensor]:
    """Cross-entropy of the branches, and their KL divergence from the teacher: means over images and branches.

    The temperature is 1, as in the paper. Our reading of it: the divergence is the one of distillation (the teacher's
    probabilities come first). Its gradient reaches the teacher through the feature maps and through its logits, which
    are not detached, so that the teacher learns to say what a student can follow.

    Args:
        logits: (B, C) of the teacher, with gradient.
        branch_logits: (B, C) of each branch, with gradient.
        targets: (B,) class indices, or (B, C) probabilities of mixed images.
        label_smoothing: Label smoothing of the cross-entropy, which is ours.
        balance: Weights of the classes and offsets of the logits in the cross-entropy, ours too.

    Returns:
        `branch_ce` and `branch_kl` in nats.

    Reference:
        arXiv 2102.07650, section 3.
    """
    stacked, count = torch.cat(branch_logits), len(branch_logits)
    return {
        "branch_ce": cross_entropy(stacked, torch.cat([targets] * count), label_smoothing, balance),
        "branch_kl": knowledge_distillation_loss(stacked, logits.repeat(count, 1), temperature=1.0),
    }


class SFTN(TeacherTerm):
    """The terms of a student-friendly teacher, with the paper's weights for CIFAR-100.

    Formula:
        `CE(b, y)` of the branches b and `3 KL(p_t || p_b)`, mean over branches

    Args:
        student: Architecture of the student whose branches are trained along.
        pretrained: Whether they start from timm's pretrained weights, for a student that does; ours.

    Raises:
        ValueError: If timm has no such architecture, or no weights of it.
    """

    term_weights: ClassVar[dict[str, float]] = {"branch_ce": 1.0, "branch_kl": 3.0}
    takes_mixed: ClassVar[bool] = True
    purpose: ClassVar[str] = "Branches like the later stages of a student make the teacher learn what it can follow."
    citation: ClassVar[str] = """@inproceedings{park2021learning,
  title = {Learning Student-Friendly Teacher Networks for Knowledge Distillation},
  author = {Park, Dae Young and Cha, Moon-Hyun and Jeong, Changwook and Kim, Dae Sin and Han, Bohyung},
  booktitle = {Advances in Neural Information Processing Systems},
  year = {2021}
}"""

    def __init__(self, student: str, pretrained: bool = False):
        super().__init__()
        check_architecture(student)
        if pretrained and not has_pretrained(student):
            raise ValueError(
                f"sftn pretrained is true but timm has no pretrained weights of {student}; leave it out, or choose "
                "another student"
            )
        self.student, self.pretrained = student, pretrained

    @staticmethod
    def describe(arguments: dict[str, Any]) -> str:
        """Whose branches they are."""
        weight = f"{arguments['weight']:g} x " if arguments["weight"] != 1 else ""
        start = ", pretrained" if arguments.get("pretrained") else ""
        return f"{weight}branches of {arguments['student']}{start} (SFTN)"

    def trained_part(self, teacher: ImageClassifier, seed: int) -> StudentBranches:
        """Make the branches."""
        return student_branches(teacher, self.student, seed, self.pretrained)

    def forward(self, batch: TeacherBatch) -> dict[str, Tensor]:
        """Return `branch_ce` and `branch_kl`; `batch.part` holds the (B * V, C) logits of each branch."""
        targets = batch.labels if batch.targets is None else batch.targets
        targets = targets.repeat_interleave(batch.logits.shape[1], dim=0)
        logits = batch.logits.flatten(0, 1)
        return student_branch_terms(logits, batch.part, targets, batch.label_smoothing, batch.balance)
