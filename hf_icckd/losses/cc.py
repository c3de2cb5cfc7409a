"""Correlation congruence: the student copies a kernel between the images of a batch.

Reference:
    Peng, Jin, Liu, Zhou, Wu, Liu, Li, Zhang: Correlation Congruence for Knowledge Distillation. ICCV 2019,
    arXiv 1904.01802.
"""

from __future__ import annotations

import math
from typing import ClassVar

from torch import Tensor

from hf_icckd.losses.objective import (
    DistillationBatch,
    OutputObjective,
    at_least_float32,
    embeddings_of_all,
    no_autocast,
)
from hf_icckd.losses.similarities import cosines

_GAMMA, _ORDER = 0.4, 2  # as in the paper


def correlation_congruence_loss(student_embeddings: Tensor, teacher_embeddings: Tensor) -> Tensor:
    """Squared difference of the two matrices of kernels, mean over all B x B pairs.

    The kernel is the Taylor series of a Gaussian between embeddings of length 1, up to the square of their cosine.

    Args:
        student_embeddings: (B, D_s), with gradient.
        teacher_embeddings: (B, D_t).

    Returns:
        Scalar, in at least float32.

    Reference:
        arXiv 1904.01802, with gamma 0.4 and order 2.

    Example:
        >>> import torch
        >>> x = torch.tensor([[1.0, 0.0], [1.0, 1.0]])
        >>> correlation_congruence_loss(3 * x, x).item() < 1e-12
        True
    """
    student, teacher = at_least_float32(student_embeddings, teacher_embeddings)
    with no_autocast(student):
        own, given = (_kernels(each) for each in (student, teacher.to(student.dtype)))
        return (own - given).square().mean()


def _kernels(embeddings: Tensor) -> Tensor:
    similarities = cosines(embeddings)
    factors = [math.exp(-2 * _GAMMA) * (2 * _GAMMA) ** power / math.factorial(power) for power in range(_ORDER + 1)]
    total = factors[-1] * similarities
    for factor in factors[-2:0:-1]:
        total = (total + factor) * similarities
    return total + factors[0]


class CC(OutputObjective):
    """Correlation congruence as an objective with the one term `cc`; see `correlation_congruence_loss`.

    It compares all images of the global batch, whatever the number of processes, and embeddings of any two lengths
    without a projection.

    The weight is ours. RepDistiller's 0.02 belongs to another formula, the products of differences of neighbours in
    the batch after a projection, which is not the paper's.

    Formula:
        `|K_s - K_t|^2 / B^2` with `K = exp(-2 g) sum_p (2 g cos_ij)^p / p!`, g = 0.4 and p from 0 to 2

    Relations:
        SP compares inner products with rows of length 1.

    Example:
        >>> from hf_icckd.losses import parse_objectives
        >>> parse_objectives(["cc:weight=0.5"]).term_weights
        {'cc': 50.0}
    """

    term_weights: ClassVar[dict[str, float]] = {"cc": 100.0}
    teacher_outputs: ClassVar[tuple[str, ...]] = ("embeddings",)
    cost: ClassVar[str] = "B^2 D"
    citation: ClassVar[str] = """@inproceedings{peng2019correlation,
  title = {Correlation Congruence for Knowledge Distillation},
  author = {Peng, Baoyun and Jin, Xiao and Liu, Jiaheng and Zhou, Shunfeng and Wu, Yichao and Liu, Yu and Li, Dongsheng
    and Zhang, Zhaoning},
  booktitle = {ICCV},
  year = {2019}
}"""

    def forward(self, batch: DistillationBatch) -> dict[str, Tensor]:
        """Return `{"cc": scalar}`."""
        return {"cc": correlation_congruence_loss(*embeddings_of_all(batch))}
