"""Teacher-free distillation: a teacher that is made up from the label, as a control for what a real one adds.

Reference:
    Yuan, Tay, Li, Wang, Feng: Revisiting Knowledge Distillation via Label Smoothing Regularization. CVPR 2020,
    arXiv 1909.11723.
"""

from __future__ import annotations

from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from hf_icckd.losses.objective import (
    DistillationBatch,
    DistillationObjective,
    at_least_float32,
    check_temperature,
    no_autocast,
)


def virtual_teacher_loss(student_logits: Tensor, labels: Tensor, correct: float, temperature: float) -> Tensor:
    """KL divergence of the student from a teacher that is made up, mean over images.

    The teacher gives the label the value `correct` and shares the rest among the other classes. Those values over the
    temperature are its logits; the student's are at temperature 1.

    Args:
        student_logits: (B, C), with gradient.
        labels: (B,) class indices.
        correct: What the label gets, 0 to 1.
        temperature: Temperature T > 0 of the teacher.

    Returns:
        Scalar in nats, in at least float32.

    Reference:
        arXiv 1909.11723, as in the authors' code. The paper's formula has the student at T too. The code
        takes the mean over classes as well, and multiplies it by 100 on CIFAR-100, which is the sum.

    Example:
        >>> virtual_teacher_loss(torch.zeros(1, 2), torch.tensor([0]), correct=0.99, temperature=0.5)
        tensor(0.3194)
    """
    (student,) = at_least_float32(student_logits)
    with no_autocast(student):
        classes = student.shape[1]
        rest = torch.full_like(student, (1 - correct) / max(classes - 1, 1))
        teacher = rest.scatter(1, labels.unsqueeze(1), correct) / temperature
        own, given = student.log_softmax(dim=1), teacher.log_softmax(dim=1)
        return F.kl_div(own, given, reduction="batchmean", log_target=True)


class TfKD(DistillationObjective):
    """Teacher-free distillation as an objective with the one term `tfkd`; see `virtual_teacher_loss`.

    The teacher of the run is not read. It is a control: what a real teacher adds is the difference to this. The weight
    is 0.1 beside 0.9 of cross-entropy in the authors' configurations. Their other variant, in which a net learns from
    an earlier one of its own kind, is KD with that net as `--teacher`.

    Formula:
        `KL(softmax(u / T) || softmax(s))` with `u_y = correct` and `u_c = (1 - correct) / (C - 1)`

    Relations:
        Label smoothing, with a share of the label that follows from `correct`, the temperature and the classes.

    Args:
        correct: What the made-up teacher gives the label (paper: a).
        temperature: Its softmax temperature (paper: tau).

    Example:
        >>> from hf_icckd.losses import parse_objectives
        >>> parse_objectives(["tfkd:weight=2"]).term_weights
        {'tfkd': 0.2}
    """

    term_weights: ClassVar[dict[str, float]] = {"tfkd": 0.1}
    teacher_outputs: ClassVar[tuple[str, ...]] = ()
    student_outputs: ClassVar[tuple[str, ...] | None] = ("logits",)
    reads_progress: ClassVar[bool] = False
    cost: ClassVar[str] = "B C"
    citation: ClassVar[str] = """@inproceedings{yuan2020revisiting,
  title = {Revisiting Knowledge Distillation via Label Smoothing Regularization},
  author = {Yuan, Li and Tay, Francis E. H. and Li, Guilin and Wang, Tao and Feng, Jiashi},
  booktitle = {CVPR},
  year = {2020}
}"""

    def __init__(self, correct: float = 0.99, temperature: float = 20.0):
        super().__init__()
        check_temperature("TfKD", temperature)
        if not 0 <= correct <= 1:
            raise ValueError(f"TfKD correct is {correct}, expected a share from 0 to 1, for example 0.99")
        self.correct, self.temperature = correct, temperature

    def forward(self, batch: DistillationBatch) -> dict[str, Tensor]:
        """Return `{"tfkd": scalar}`."""
        logits = batch.student.logits
        return {"tfkd": virtual_teacher_loss(logits, batch.labels, self.correct, self.temperature)}
