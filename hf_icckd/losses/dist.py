"""DIST: correlations between the probabilities of student and teacher, over classes and over images.

Reference:
    Huang, You, Wang, Qian, Xu: Knowledge Distillation from A Stronger Teacher. NeurIPS 2022, arXiv 2205.10536.
"""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor

from hf_icckd.losses.objective import (
    DistillationBatch,
    OutputObjective,
    check_temperature,
    logits_of_all,
    no_autocast,
)


def correlation_loss(student: Tensor, teacher: Tensor) -> Tensor:
    """One minus the Pearson correlation of two rows, mean over the rows in which both vary.

    Args:
        student: (N, M), with gradient.
        teacher: (N, M).

    Returns:
        Scalar from 0 to 2; 0 with a graph if no row varies in both.

    Reference:
        arXiv 2205.10536, equations 6 to 9.

    Example:
        >>> correlation_loss(torch.tensor([[0.0, 1.0, 2.0]]), torch.tensor([[5.0, 7.0, 9.0]])).item()
        0.0
    """
    student, teacher = (each - each.mean(dim=1, keepdim=True) for each in (student, teacher))
    squares = student.square().sum(dim=1) * teacher.square().sum(dim=1)
    varies = squares > 0
    # The inner `where` keeps the root's infinite slope at 0 out of the graph.
    lengths = torch.where(varies, squares, 1).sqrt()
    losses = torch.where(varies, 1 - (student * teacher).sum(dim=1) / lengths, 0 * squares)
    return losses.sum() / varies.sum().clamp(min=1)


class DIST(OutputObjective):
    """DIST as an objective with the terms `dist_inter` and `dist_intra`; see `correlation_loss`.

    `dist_inter` correlates the class probabilities of each image, `dist_intra` those of each class over all images of
    the global batch, whatever the number of processes. Both are multiplied by the squared temperature, which the paper
    leaves out and the authors' code has.

    Formula:
        `T^2 mean_i (1 - corr(p_s[i, :], p_t[i, :]))` and `T^2 mean_c (1 - corr(p_s[:, c], p_t[:, c]))`

    Args:
        temperature: Softmax temperature of both models; 4 on CIFAR-100 and 1 on ImageNet (paper: tau).

    Example:
        >>> from hf_icckd.losses import parse_objectives
        >>> parse_objectives(["dist"]).term_weights
        {'dist_inter': 2.0, 'dist_intra': 2.0}
    """

    term_weights: ClassVar[dict[str, float]] = {"dist_inter": 2.0, "dist_intra": 2.0}
    teacher_outputs: ClassVar[tuple[str, ...]] = ("logits",)
    cost: ClassVar[str] = "B C"
    citation: ClassVar[str] = """@inproceedings{huang2022knowledge,
  title = {Knowledge Distillation from A Stronger Teacher},
  author = {Huang, Tao and You, Shan and Wang, Fei and Qian, Chen and Xu, Chang},
  booktitle = {NeurIPS},
  year = {2022}
}"""

    def __init__(self, temperature: float = 4.0):
        super().__init__()
        check_temperature("DIST", temperature)
        self.temperature = temperature

    def forward(self, batch: DistillationBatch) -> dict[str, Tensor]:
        """Return `{"dist_inter": scalar, "dist_intra": scalar}`."""
        student, teacher = logits_of_all(batch)
        with no_autocast(student):
            own, given = ((each / self.temperature).softmax(dim=1) for each in (student, teacher))
            scale = self.temperature**2
            return {
                "dist_inter": scale * correlation_loss(own, given.to(own.dtype)),
                "dist_intra": scale * correlation_loss(own.T, given.T.to(own.dtype)),
            }
