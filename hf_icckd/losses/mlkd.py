"""Multi-level logit distillation: images, the batch and the classes, each at several temperatures.

Reference:
    Jin, Wang, Lin: Multi-Level Logit Distillation. CVPR 2023.
"""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor

from hf_icckd.losses.kd import knowledge_distillation_loss
from hf_icckd.losses.objective import DistillationBatch, OutputObjective, checked_logits, logits_of_all, no_autocast
from hf_icckd.losses.standardisation import comparable

_TEMPERATURES = (2.0, 3.0, 4.0, 5.0, 6.0)


def correlation_losses(student_logits: Tensor, teacher_logits: Tensor, temperature: float) -> tuple[Tensor, Tensor]:
    """How the correlations of images, and those of classes, differ between student and teacher.

    With the (B, C) probabilities P at temperature T, the first compares `P P^T` and is divided by B, the second one
    compares `P^T P` and is divided by C; both by the sum of squared differences.

    Args:
        student_logits: (B, C), with gradient.
        teacher_logits: (B, C).
        temperature: Softmax temperature T > 0.

    Returns:
        The loss of the batch and that of the classes, scalars in at least float32. The second grows with the square of
        B, as it does in the authors' code.

    Raises:
        ValueError: If the shapes differ.

    Example:
        >>> logits = torch.tensor([[2.0, 1.0, 0.0]])
        >>> [loss.item() for loss in correlation_losses(logits, logits, 4.0)]
        [0.0, 0.0]
    """
    student, teacher = checked_logits(student_logits, teacher_logits)
    with no_autocast(student):
        own, given = ((each / temperature).softmax(dim=1) for each in (student, teacher.to(student.dtype)))
        of_images = (own @ own.T - given @ given.T).square().sum() / len(own)
        of_classes = (own.T @ own - given.T @ given).square().sum() / own.shape[1]
    return of_images, of_classes


class MLKD(OutputObjective):
    """Multi-level logit distillation with the terms `mlkd_image`, `mlkd_batch` and `mlkd_class`.

    Each is a sum over the temperatures 2, 3, 4, 5 and 6: knowledge distillation, and the two of `correlation_losses`,
    which compare all images of the global batch, whatever the number of processes.

    The authors' code has a second, strongly augmented view of each image, leaves out images and classes of which the
    teacher is sure, and trains for 480 epochs. This has neither: augment strongly with `--aa`.

    Formula:
        `sum_T T^2 KL(p_t || p_s)`, `sum_T |P_s P_s' - P_t P_t'|^2 / B` and `sum_T |P_s' P_s - P_t' P_t|^2 / C`

    Args:
        standardise: Whether logits are standardised first (arXiv 2403.01858, where `mlkd_image` then has weight 9).

    Example:
        >>> from hf_icckd.losses import parse_objectives
        >>> parse_objectives(["mlkd:weight=0.5"]).term_weights
        {'mlkd_image': 0.5, 'mlkd_batch': 0.5, 'mlkd_class': 0.5}
    """

    term_weights: ClassVar[dict[str, float]] = {"mlkd_image": 1.0, "mlkd_batch": 1.0, "mlkd_class": 1.0}
    teacher_outputs: ClassVar[tuple[str, ...]] = ("logits",)
    cost: ClassVar[str] = "B^2 C + B C^2"
    citation: ClassVar[str] = """@inproceedings{jin2023multi,
  title = {Multi-Level Logit Distillation},
  author = {Jin, Ying and Wang, Jiaqi and Lin, Dahua},
  booktitle = {CVPR},
  year = {2023}
}"""

    def __init__(self, standardise: bool = False):
        super().__init__()
        self.standardise = standardise

    def forward(self, batch: DistillationBatch) -> dict[str, Tensor]:
        """Return the three terms."""
        student, teacher = logits_of_all(batch)
        student, teacher = comparable(student, teacher, self.standardise)
        found = [
            (knowledge_distillation_loss(student, teacher, each), *correlation_losses(student, teacher, each))
            for each in _TEMPERATURES
        ]
        levels = zip(*found, strict=True)
        return {name: torch.stack(each).sum() for name, each in zip(self.term_weights, levels, strict=True)}
