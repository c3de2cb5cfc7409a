"""Similarity-preserving distillation: the student copies how much alike the images of a batch are.

Reference:
    Tung, Mori: Similarity-Preserving Knowledge Distillation. ICCV 2019, arXiv 1907.09682.
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
from hf_icckd.losses.similarities import directions


def similarity_preserving_loss(student_embeddings: Tensor, teacher_embeddings: Tensor) -> Tensor:
    """Squared difference of the two matrices of inner products, each row at length 1, mean over all B x B pairs.

    Args:
        student_embeddings: (B, D_s), with gradient.
        teacher_embeddings: (B, D_t).

    Returns:
        Scalar, in at least float32.

    Reference:
        arXiv 1907.09682, equations 1 to 4. The paper takes the flattened last feature map where this takes embeddings,
        its mean over the image, so that recorded outputs of the teacher serve.

    Example:
        >>> import torch
        >>> x = torch.tensor([[1.0, 0.0], [1.0, 1.0]])
        >>> similarity_preserving_loss(3 * x, x).item() < 1e-12
        True
    """
    student, teacher = at_least_float32(student_embeddings, teacher_embeddings)
    with no_autocast(student):
        own, given = (directions(each @ each.T) for each in (student, teacher.to(student.dtype)))
        return (own - given).square().mean()


class SP(OutputObjective):
    """Similarity-preserving distillation as an objective with the one term `sp`; see `similarity_preserving_loss`.

    It compares all images of the global batch, whatever the number of processes. The weight is the paper's, and
    RepDistiller's.

    Formula:
        `|G_s - G_t|^2 / B^2` with `G = E E'`, rows of length 1

    Example:
        >>> from hf_icckd.losses import parse_objectives
        >>> parse_objectives(["sp:weight=0.5"]).term_weights
        {'sp': 1500.0}
    """

    term_weights: ClassVar[dict[str, float]] = {"sp": 3000.0}
    teacher_outputs: ClassVar[tuple[str, ...]] = ("embeddings",)
    cost: ClassVar[str] = "B^2 D"
    citation: ClassVar[str] = """@inproceedings{tung2019similarity,
  title = {Similarity-Preserving Knowledge Distillation},
  author = {Tung, Frederick and Mori, Greg},
  booktitle = {ICCV},
  year = {2019}
}"""

    def forward(self, batch: DistillationBatch) -> dict[str, Tensor]:
        """Return `{"sp": scalar}`."""
        return {"sp": similarity_preserving_loss(*embeddings_of_all(batch))}
