"""Regression of the teacher's embeddings by the student's, through a linear projection.

It needs no classes, so it is how a net without a classification layer teaches.

Reference:
    Romero, Ballas, Kahou, Chassang, Gatta, Bengio: FitNets: Hints for Thin Deep Nets. ICLR 2015, arXiv 1412.6550
    (regression through a layer that is trained with the student).
    Wei, Hu, Xie, Zhang, Cao, Bao, Chen, Guo: Contrastive Learning Rivals Masked Image Modeling in Fine-tuning via
    Feature Distillation. arXiv 2205.14141 (normalised features of the teacher, smooth L1).
"""

from __future__ import annotations

from typing import ClassVar

import torch.nn.functional as F
from torch import Tensor, nn

from hf_icckd.losses.objective import DistillationBatch, OutputObjective, at_least_float32
from hf_icckd.losses.projections import built, projection
from hf_icckd.losses.standardisation import standardised
from hf_icckd.models.outputs import OutputShapes


def embedding_loss(projected: Tensor, teacher_embeddings: Tensor) -> Tensor:
    """Smooth L1 distance to the teacher's embeddings, which are normalised first, so that one weight fits any teacher.

    Args:
        projected: (B, D) embeddings of the student in the teacher's space, with gradient.
        teacher_embeddings: (B, D).

    Returns:
        Scalar, the mean over images and dimensions, in at least float32.

    Raises:
        ValueError: If the shapes differ.

    Reference:
        arXiv 2205.14141, section 3.

    Example:
        >>> import torch
        >>> embedding_loss(torch.zeros(1, 2), torch.tensor([[5.0, 7.0]]))
        tensor(0.5000)
    """
    if projected.shape != teacher_embeddings.shape:
        raise ValueError(
            f"projected embeddings {tuple(projected.shape)} and teacher embeddings {tuple(teacher_embeddings.shape)} "
            "must have one shape; project the student's to the length of the teacher's"
        )
    projected, teacher_embeddings = at_least_float32(projected, teacher_embeddings)
    return F.smooth_l1_loss(projected, standardised(teacher_embeddings).to(projected.dtype))


class EmbeddingRegression(OutputObjective):
    """Regression of the teacher's embeddings as an objective with the one term `embedding`; see `embedding_loss`.

    `build` makes the projection, a linear layer from the student's embeddings to the teacher's. It is trained with the
    student and not exported.

    Formula:
        `smooth_l1(W e_s + b, (e_t - mean(e_t)) / std(e_t))`

    Example:
        >>> import torch
        >>> from hf_icckd.losses import parse_objectives
        >>> from hf_icckd.models.outputs import OutputShapes
        >>> objectives = parse_objectives(["embedding:weight=2"])
        >>> objectives.build(OutputShapes(10, 64), OutputShapes(0, 384), seed=0)
        >>> objectives.term_weights, [tuple(each.shape) for each in objectives.parameters()]
        ({'embedding': 20.0}, [(384, 64), (384,)])
    """

    term_weights: ClassVar[dict[str, float]] = {"embedding": 10.0}
    teacher_outputs: ClassVar[tuple[str, ...]] = ("embeddings",)
    cost: ClassVar[str] = "B D^2"
    citation: ClassVar[str] = """@inproceedings{romero2015fitnets,
  title = {{FitNets}: Hints for Thin Deep Nets},
  author = {Romero, Adriana and Ballas, Nicolas and Kahou, Samira Ebrahimi and Chassang, Antoine and Gatta, Carlo and
    Bengio, Yoshua},
  booktitle = {ICLR},
  year = {2015}
}

@article{wei2022contrastive,
  title = {Contrastive Learning Rivals Masked Image Modeling in Fine-tuning via Feature Distillation},
  author = {Wei, Yixuan and Hu, Han and Xie, Zhenda and Zhang, Zheng and Cao, Yue and Bao, Jianmin and Chen, Dong and
    Guo, Baining},
  journal = {arXiv:2205.14141},
  year = {2022}
}"""

    def __init__(self) -> None:
        super().__init__()
        self.projection: nn.Linear | None = None

    def build(self, student: OutputShapes, teacher: OutputShapes) -> None:
        """Make the projection. Raises ValueError if one of the models has no embeddings."""
        self.projection = projection(student, teacher, "embedding")

    def forward(self, batch: DistillationBatch) -> dict[str, Tensor]:
        """Return `{"embedding": scalar}`."""
        assert batch.student.embeddings is not None and batch.teacher.embeddings is not None
        projected = built(self.projection, "embedding")(batch.student.embeddings)
        return {"embedding": embedding_loss(projected, batch.teacher.embeddings)}
