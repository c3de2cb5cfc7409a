"""Relational knowledge distillation: the student copies distances and angles between embeddings.

Reference:
    Park, Kim, Lu, Cho: Relational Knowledge Distillation. CVPR 2019, arXiv 1904.05068.
"""

from __future__ import annotations

from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from hf_icckd.losses.objective import (
    DistillationBatch,
    OutputObjective,
    at_least_float32,
    embeddings_of_all,
    no_autocast,
)


def _relative_distances(embeddings: Tensor) -> Tensor:
    """(B, B) pairwise distances over their mean; duplicates have distance 0 and gradient 0."""
    # Not |a|^2 + |b|^2 - 2ab, which cancels for close pairs: those are what intra-class knowledge is about.
    distances = torch.cdist(embeddings, embeddings, compute_mode="donot_use_mm_for_euclid_dist")
    positive = distances > 0
    mean = distances.sum() / positive.sum().clamp(min=1)
    return distances / torch.where(mean > 0, mean, torch.ones_like(mean))


def _angles(embeddings: Tensor) -> Tensor:
    """(B, B, B) cosines: entry (i, j, k) is the angle at i between j and k; 0 where a side has no length."""
    sides = embeddings.unsqueeze(0) - embeddings.unsqueeze(1)
    squared = sides.square().sum(dim=2, keepdim=True)
    positive = squared > 0
    # The inner `where` keeps the root's infinite slope at 0 out of the graph; the outer one sets the direction to 0.
    length = torch.where(positive, squared, torch.ones_like(squared)).sqrt()
    directions = torch.where(positive, sides / length, torch.zeros_like(sides))
    return directions @ directions.transpose(1, 2)


def rkd_distance_loss(student_embeddings: Tensor, teacher_embeddings: Tensor) -> Tensor:
    """Huber loss between the mean-normalised pairwise distances of student and teacher.

    Args:
        student_embeddings: (B, D_s), with gradient.
        teacher_embeddings: (B, D_t).

    Returns:
        Scalar, the mean over all B x B ordered pairs, in at least float32; 0 with a graph for B = 1.

    Reference:
        arXiv 1904.05068, equations 4 to 6.
    """
    student, teacher = at_least_float32(student_embeddings, teacher_embeddings)
    with no_autocast(student):
        return F.smooth_l1_loss(_relative_distances(student), _relative_distances(teacher).to(student.dtype))


def rkd_angle_loss(student_embeddings: Tensor, teacher_embeddings: Tensor) -> Tensor:
    """Huber loss between the cosines of all angles that triplets of embeddings form.

    Memory is B^3 + B^2 D: for global batches of a thousand images and more use the distance term alone.

    Args:
        student_embeddings: (B, D_s), with gradient.
        teacher_embeddings: (B, D_t).

    Returns:
        Scalar, the mean over all B^3 triplets, in at least float32.

    Reference:
        arXiv 1904.05068, equations 7 and 8.
    """
    student, teacher = at_least_float32(student_embeddings, teacher_embeddings)
    with no_autocast(student):
        return F.smooth_l1_loss(_angles(student), _angles(teacher).to(student.dtype))


class RKD(OutputObjective):
    """Relational knowledge distillation as an objective with the terms `rkd_distance` and `rkd_angle`.

    Both compare all images of the global batch, whatever the number of processes.

    Formula:
        `huber(|e_i - e_j| / mean)` over pairs and `huber(cos angle(i, j, k))` over triplets, student against teacher

    Relations:
        Usually added to KD: `--objectives kd rkd`.

    Example:
        >>> from hf_icckd.losses import parse_objectives
        >>> parse_objectives(["rkd:weight=0.5"]).term_weights
        {'rkd_distance': 12.5, 'rkd_angle': 25.0}
    """

    term_weights: ClassVar[dict[str, float]] = {"rkd_distance": 25.0, "rkd_angle": 50.0}
    teacher_outputs: ClassVar[tuple[str, ...]] = ("embeddings",)
    cost: ClassVar[str] = "B^3 + B^2 D"
    citation: ClassVar[str] = """@inproceedings{park2019relational,
  title = {Relational Knowledge Distillation},
  author = {Park, Wonpyo and Kim, Dongju and Lu, Yan and Cho, Minsu},
  booktitle = {CVPR},
  year = {2019}
}"""

    def forward(self, batch: DistillationBatch) -> dict[str, Tensor]:
        """Return `{"rkd_distance": scalar, "rkd_angle": scalar}`."""
        student, teacher = embeddings_of_all(batch)
        return {
            "rkd_distance": rkd_distance_loss(student, teacher),
            "rkd_angle": rkd_angle_loss(student, teacher),
        }
