"""Pseudo-subclasses: what a teacher's embeddings say within a class, which few classes leave out of soft labels.

Reference:
    Loo, Iliopoulos, Hu, Vee: Linear Projections of Teacher Embeddings for Few-Class Distillation. arXiv 2409.20449
    (subclasses from principal directions of a trained teacher's embeddings).
    Müller, Kornblith, Hinton: Subclass Distillation. arXiv 2002.03936 (the student matches
    probabilities of subclasses).
"""

from __future__ import annotations

from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hf_icckd.losses.objective import (
    DistillationBatch,
    Measure,
    OutputObjective,
    at_least_float32,
    check_temperature,
    no_autocast,
)
from hf_icckd.losses.projections import built, embedding_dims
from hf_icckd.models.outputs import OutputShapes
from hf_icckd.utils.distributed import on_first_rank

_SMALLEST_VARIANCE = 1e-8  # of a direction, over the mean square of centred embeddings: below it is rounding
_IMAGES = 10  # of a class for each of its directions: with fewer, a direction is chance


def class_directions(embeddings: Tensor, labels: Tensor, num_classes: int, directions: int) -> tuple[Tensor, Tensor]:
    """Directions in which the embeddings of each class vary most, and where they lie on them.

    Args:
        embeddings: (N, D).
        labels: (N,) class indices.
        num_classes: Number of classes, C.
        directions: Number of directions, K, at most D.

    Returns:
        `axes` (C, K, D) and `offsets` (C, K) in float64. `axes @ e - offsets` has mean 0 and variance 1 over the
        images of the class. Both are 0 for a direction in which it does not vary, and for those beyond one for every
        ten images of the class.

    Example:
        >>> embeddings = torch.tensor([[0.0, 5.0], [4.0, 5.0]] * 5 + [[1.0, 1.0]])
        >>> axes, offsets = class_directions(embeddings, torch.tensor([0] * 10 + [1]), num_classes=2, directions=1)
        >>> axes.tolist(), offsets.tolist()
        ([[[0.5, 0.0]], [[0.0, 0.0]]], [[1.0], [0.0]])
    """
    embeddings = embeddings.double()
    axes = embeddings.new_zeros(num_classes, directions, embeddings.shape[1])
    offsets = embeddings.new_zeros(num_classes, directions)
    least = _SMALLEST_VARIANCE * (embeddings - embeddings.mean(dim=0)).square().sum(dim=1).mean()
    for index in range(num_classes):
        rows = embeddings[labels == index]
        if len(rows) < _IMAGES:
            continue
        centre = rows.mean(dim=0)
        _, values, vectors = torch.linalg.svd(rows - centre, full_matrices=False)  # largest first
        variances = values.square() / len(rows)
        count = min(directions, len(rows) // _IMAGES, int((variances > least).sum()))
        vectors = vectors[:count]
        vectors = vectors * vectors.gather(1, vectors.abs().argmax(dim=1, keepdim=True)).sign()
        axes[index, :count] = vectors / variances[:count].sqrt().unsqueeze(1)
        offsets[index] = axes[index] @ centre
    return axes, offsets


def subclass_log_probs(embeddings: Tensor, axes: Tensor, offsets: Tensor, temperature: float) -> Tensor:
    """Log-probabilities of two subclasses for each direction, one on either side of the mean.

    Args:
        embeddings: (B, D).
        axes: (C, K, D), see `class_directions`.
        offsets: (C, K).
        temperature: Softmax temperature T > 0.

    Returns:
        (B, C, 2K), each row over the last axis a log-softmax, in at least float32.

    Example:
        >>> axes, offsets = torch.tensor([[[0.5, 0.0]]]), torch.ones(1, 1)
        >>> subclass_log_probs(torch.tensor([[4.0, 5.0]]), axes, offsets, temperature=1.0).exp()
        tensor([[[0.8808, 0.1192]]])
    """
    (embeddings,) = at_least_float32(embeddings)
    with no_autocast(embeddings):
        places = torch.einsum("bd,ckd->bck", embeddings, axes.to(embeddings.dtype)) - offsets.to(embeddings.dtype)
    return F.log_softmax(torch.cat([places, -places], dim=2) / temperature, dim=2)


def subclass_loss(student_logits: Tensor, teacher_log_probs: Tensor, teacher_logits: Tensor) -> Tensor:
    """KL divergence within classes, weighted by the teacher's probability of each class, mean over images.

    `sum_c p_t(c) KL(q_t(. | c) || q_s(. | c))`: with KD at temperature 1 it adds up to the divergence of the joint
    probabilities of class and subclass.

    Args:
        student_logits: (B, C, S) of subclasses, with gradient.
        teacher_log_probs: (B, C, S), see `subclass_log_probs`.
        teacher_logits: (B, C).

    Returns:
        Scalar in nats, in at least float32.

    Example:
        >>> subclass_loss(torch.zeros(1, 1, 2), torch.tensor([[[0.75, 0.25]]]).log(), torch.zeros(1, 1))
        tensor(0.1308)
    """
    student_logits, teacher_log_probs, teacher_logits = at_least_float32(
        student_logits, teacher_log_probs, teacher_logits
    )
    gaps = F.kl_div(student_logits.log_softmax(dim=2), teacher_log_probs, reduction="none", log_target=True)
    return (teacher_logits.softmax(dim=1) * gaps.sum(dim=2)).sum(dim=1).mean()


class Subclass(OutputObjective):
    """Distillation of pseudo-subclasses as an objective with the one term `subclass`; see `subclass_loss`.

    Soft labels over few classes say little of how images of one class differ. Here each class is split by the
    directions in which the teacher's embeddings of its training images vary most: an image belongs to either side of
    the mean the more, the farther out it lies. The directions are found before the first step, on at most 20,000
    unaugmented training images, no more than one for ten images of a class, and kept in checkpoints. A linear layer on
    the student's embeddings predicts the subclasses; it is trained with the student and not exported. So it stands
    beside `kd`, which teaches the classes.

    How a class is split is ours. Loo et al. first remove the directions that the teacher's classification layer reads,
    and their student is deployed with the subclasses as its output; Müller et al. (arXiv 2002.03936) let the teacher
    invent subclasses while it trains.

    Formula:
        `sum_c p_t(c) KL(q_t(. | c) || q_s(. | c))` with `q_t = softmax(a / T, -a / T)`, a the coordinates of the
        teacher's embedding along the directions, with variance 1

    Args:
        directions: Directions of each class, at most the length of the embeddings; each makes two subclasses.
        temperature: Softmax temperature of the teacher's subclasses.

    Attributes:
        axes: (C, K, D), NaN before they are found.
        offsets: (C, K).

    Relations:
        With KD at temperature 1, the divergence of joint probabilities. `embedding` copies all of an embedding.

    Example:
        >>> from hf_icckd.losses import parse_objectives
        >>> parse_objectives(["kd", "subclass:directions=2"]).term_weights
        {'kd': 1.0, 'subclass': 1.0}
    """

    term_weights: ClassVar[dict[str, float]] = {"subclass": 1.0}
    teacher_outputs: ClassVar[tuple[str, ...]] = ("logits", "embeddings")
    student_outputs: ClassVar[tuple[str, ...]] = ("embeddings",)
    cost: ClassVar[str] = "B C D"
    citation: ClassVar[str] = """@article{loo2024linear,
  title = {Linear Projections of Teacher Embeddings for Few-Class Distillation},
  author = {Loo, Noel and Iliopoulos, Fotis and Hu, Wei and Vee, Erik},
  journal = {arXiv:2409.20449},
  year = {2024}
}"""

    axes: Tensor
    offsets: Tensor

    def __init__(self, directions: int = 4, temperature: float = 1.0):
        super().__init__()
        check_temperature("subclass", temperature)
        if directions < 1:
            raise ValueError(f"subclass directions is {directions}, expected at least 1, for example 4")
        self.directions, self.temperature = directions, temperature
        self.head: nn.Linear | None = None

    def build(self, student: OutputShapes, teacher: OutputShapes) -> None:
        """Make the layer of subclasses, and room for the directions."""
        own, given = embedding_dims(student, teacher, "subclass")
        count = min(self.directions, given)
        self.head = nn.Linear(own, teacher.num_classes * 2 * count)
        self.register_buffer("axes", torch.full((teacher.num_classes, count, given), torch.nan))
        self.register_buffer("offsets", torch.zeros(teacher.num_classes, count))

    def tune(self, measure: Measure) -> None:
        """Find the directions."""
        output, labels = measure()
        assert output.embeddings is not None
        embeddings, (classes, count, _) = output.embeddings, self.axes.shape
        axes, offsets = on_first_rank(
            lambda: tuple(each.cpu() for each in class_directions(embeddings, labels, classes, count))
        )
        self.axes.copy_(axes)
        self.offsets.copy_(offsets)

    def notes(self) -> list[str]:
        """How many classes have fewer directions than were asked for."""
        short = int((self.axes.abs().sum(dim=2) == 0).any(dim=1).sum())
        if not short:
            return []
        return [
            f"subclass: {short} of {len(self.axes)} classes have fewer than {self.axes.shape[1]} directions, because "
            "they have few training images or the teacher's embeddings vary in fewer."
        ]

    def forward(self, batch: DistillationBatch) -> dict[str, Tensor]:
        """Return `{"subclass": scalar}`; NaN if `tune` was not called."""
        head = built(self.head, "subclass")
        assert batch.student.embeddings is not None and batch.teacher.embeddings is not None
        own = head(batch.student.embeddings).unflatten(1, (len(self.axes), -1))
        given = subclass_log_probs(batch.teacher.embeddings, self.axes, self.offsets, self.temperature)
        return {"subclass": subclass_loss(own, given, batch.teacher.logits)}
