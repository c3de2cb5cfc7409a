"""Probabilistic knowledge transfer: the student copies which images are neighbours of which.

Reference:
    Passalis, Tefas: Learning Deep Representations with Probabilistic Knowledge Transfer. ECCV 2018, arXiv 1803.10837.
"""

from __future__ import annotations

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

_EPSILON = 1e-7  # as in the authors' code; a probability is 0 for an opposite direction


def probabilistic_transfer_loss(student_embeddings: Tensor, teacher_embeddings: Tensor) -> Tensor:
    """KL divergence from the teacher's distribution over an image's neighbours, mean over all B x B pairs.

    The probability of a neighbour is `(cosine + 1) / 2` over the sum of its row, the image itself among them.

    Args:
        student_embeddings: (B, D_s), with gradient.
        teacher_embeddings: (B, D_t).

    Returns:
        Scalar, in at least float32.

    Reference:
        arXiv 1803.10837, equations 7 and 8 with the cosine kernel. The paper sums over pairs and the authors' code
        takes the mean, as here.

    Example:
        >>> import torch
        >>> x = torch.tensor([[1.0, 0.0], [1.0, 1.0]])
        >>> abs(probabilistic_transfer_loss(3 * x, x).item()) < 1e-6
        True
    """
    student, teacher = at_least_float32(student_embeddings, teacher_embeddings)
    with no_autocast(student):
        own, given = (_neighbours(each) for each in (student, teacher.to(student.dtype)))
        return (given * ((given + _EPSILON) / (own + _EPSILON)).log()).mean()


def _neighbours(embeddings: Tensor) -> Tensor:
    # Rounding takes cosines a little below -1.
    likeness = ((cosines(embeddings) + 1) / 2).clamp(min=0)
    return likeness / likeness.sum(dim=1, keepdim=True)


class PKT(OutputObjective):
    """Probabilistic knowledge transfer as an objective with the one term `pkt`; see `probabilistic_transfer_loss`.

    It compares all images of the global batch, whatever the number of processes. The weight is RepDistiller's.

    Formula:
        `mean_ij q_t log(q_t / q_s)` with `q = (1 + cos_ij) / 2` over the sum of its row

    Example:
        >>> from hf_icckd.losses import parse_objectives
        >>> parse_objectives(["pkt"]).term_weights
        {'pkt': 30000.0}
    """

    term_weights: ClassVar[dict[str, float]] = {"pkt": 30000.0}
    teacher_outputs: ClassVar[tuple[str, ...]] = ("embeddings",)
    cost: ClassVar[str] = "B^2 D"
    citation: ClassVar[str] = """@inproceedings{passalis2018learning,
  title = {Learning Deep Representations with Probabilistic Knowledge Transfer},
  author = {Passalis, Nikolaos and Tefas, Anastasios},
  booktitle = {ECCV},
  year = {2018}
}"""

    def forward(self, batch: DistillationBatch) -> dict[str, Tensor]:
        """Return `{"pkt": scalar}`."""
        return {"pkt": probabilistic_transfer_loss(*embeddings_of_all(batch))}
