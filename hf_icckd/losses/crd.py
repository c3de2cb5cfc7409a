"""Contrastive representation distillation: embeddings of student and teacher match for one image, against a memory.

Reference:
    Tian, Krishnan, Isola: Contrastive Representation Distillation. ICLR 2020, arXiv 1910.10699.
"""

from __future__ import annotations

from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hf_icckd.losses.objective import (
    DistillationBatch,
    DistillationObjective,
    at_least_float32,
    check_temperature,
    no_autocast,
)
from hf_icckd.losses.projections import built, embedding_dims
from hf_icckd.losses.similarities import directions
from hf_icckd.models.outputs import OutputShapes
from hf_icckd.utils.distributed import gather_rows, gather_rows_with_gradient
from hf_icckd.utils.keyed_random import STREAM_DRAW, random_words

_DIM, _MOMENTUM = 128, 0.5  # length of an embedding in the memory, and how slowly it changes, as in the paper


def contrastive_estimation_loss(
    positive: Tensor, negatives: Tensor, valid: Tensor, log_constant: Tensor, num_images: int
) -> Tensor:
    """Noise-contrastive estimation: tell the pair of one image from pairs of two, mean over images.

    `-log h(positive) - sum log(1 - h(negative))` with `h(s) = exp(s) / Z / (exp(s) / Z + N / M)`.

    Args:
        positive: (B,) similarity over temperature of the two embeddings of an image, with gradient.
        negatives: (B, K) those of images of other classes.
        valid: (B, K) which of them are of another class, N in a row.
        log_constant: () logarithm of the constant Z.
        num_images: Images of the training set, M.

    Returns:
        Scalar in nats.

    Reference:
        arXiv 1910.10699. The constant Z is that of the authors' code.

    Example:
        >>> zeros, there = torch.zeros(1, 2), torch.ones(1, 2, dtype=torch.bool)
        >>> contrastive_estimation_loss(zeros[:, 0], zeros, there, torch.tensor(0.0), num_images=2).item() / 3
        0.6931471824645996
    """
    counts = valid.sum(dim=1).clamp(min=1).to(positive.dtype)
    even = log_constant + (counts / num_images).log()  # at this similarity h is a half
    found = F.softplus(even - positive)
    others = torch.where(valid, F.softplus(negatives - even.unsqueeze(1)), 0).sum(dim=1)
    return (found + others).mean()


class CRD(DistillationObjective):
    """Contrastive representation distillation as an objective with the one term `crd`.

    Two linear layers bring both models' embeddings to 128 numbers of length 1; they are trained with the student and
    not exported. A memory keeps, of every training image, a running mean of both. Each embedding of the student is
    told from the teacher's of other images in the memory, and the other way round; see `contrastive_estimation_loss`.

    Memory: 1 kB an image (1.3 GB for ImageNet), on the device and in checkpoints. Each step draws its candidates once
    for all images, by the number of the step, and leaves out for each image those of its own class; the cost follows
    from `negatives` and not from the size of the data set. The authors draw other ones for each image, which costs B
    times as much. The positive is the other model's embedding of the same crop, as in the paper; in their code it
    comes from the memory.

    Formula:
        `-log h(s_i, t_i) - sum_n log(1 - h(s_i, t_n))`, and with s and t exchanged, where
        `h = e / (e + N / M)` and `e = exp(cos / T) / Z`

    Args:
        negatives: Candidates in each step (paper: N).
        temperature: Temperature of the similarities (paper: tau).

    Example:
        >>> from hf_icckd.losses import parse_objectives
        >>> parse_objectives(["crd:negatives=4096"]).term_weights
        {'crd': 0.8}
    """

    term_weights: ClassVar[dict[str, float]] = {"crd": 0.8}
    teacher_outputs: ClassVar[tuple[str, ...]] = ("embeddings",)
    reads_progress: ClassVar[bool] = False
    cost: ClassVar[str] = "B N"
    citation: ClassVar[str] = """@inproceedings{tian2020contrastive,
  title = {Contrastive Representation Distillation},
  author = {Tian, Yonglong and Krishnan, Dilip and Isola, Phillip},
  booktitle = {ICLR},
  year = {2020}
}"""

    memory: Tensor  # (2, M, D): of the student, of the teacher
    classes: Tensor  # (M,), -1 for an image that was not seen yet: its embedding is random
    log_constants: Tensor  # (2,), not finite before the first step
    steps: Tensor  # ()

    def __init__(self, negatives: int = 16384, temperature: float = 0.07):
        super().__init__()
        check_temperature("CRD", temperature)
        if negatives < 1:
            raise ValueError(f"CRD negatives is {negatives}, expected at least 1, for example 4096")
        self.negatives, self.temperature = negatives, temperature
        self.projections: nn.ModuleList | None = None
        self._seed = 0

    def build(self, student: OutputShapes, teacher: OutputShapes) -> None:
        """Make the two projections."""
        self.projections = nn.ModuleList(nn.Linear(dim, _DIM) for dim in embedding_dims(student, teacher, "crd"))

    def keep_images(self, num_images: int | None) -> None:
        """Make the memory. Raises ValueError for a stream, whose images have no numbers."""
        if num_images is None:
            raise ValueError(
                "the objective crd keeps embeddings of every training image, but their number is not known here, as "
                "of a stream; leave --streaming out, or take --objectives ckd, which compares the images of a batch"
            )
        self._seed = int(torch.randint(2**62, ()))
        self.register_buffer("memory", F.normalize(torch.rand(2, num_images, _DIM) * 2 - 1, dim=2))
        self.register_buffer("classes", torch.full((num_images,), -1))
        self.register_buffer("log_constants", torch.full((2,), torch.inf))
        self.register_buffer("steps", torch.zeros((), dtype=torch.long))

    def forward(self, batch: DistillationBatch) -> dict[str, Tensor]:
        """Return `{"crd": scalar}`, and remember the images."""
        layers = built(self.projections, "crd")
        if "memory" not in self._buffers:
            raise ValueError(
                "the objective crd has no memory yet; call keep_images(number of training images) first, as "
                "StudentTrainer does"
            )
        assert batch.student.embeddings is not None and batch.teacher.embeddings is not None
        outputs = (batch.student.embeddings, batch.teacher.embeddings.to(batch.student.embeddings.dtype))
        rows = [
            gather_rows_with_gradient(layer(each), batch.global_rows)
            for layer, each in zip(layers, outputs, strict=True)
        ]
        labels, ids = (gather_rows(each, batch.global_rows) for each in (batch.labels, batch.sample_ids))
        with no_autocast(rows[0]):
            student, teacher = (directions(each) for each in at_least_float32(*rows))
            losses = self._losses(student, teacher, labels, ids)
            self._remember(torch.stack([student, teacher]).detach(), labels, ids)
        return {"crd": losses}

    def _losses(self, student: Tensor, teacher: Tensor, labels: Tensor, ids: Tensor) -> Tensor:
        """Sum of both directions, of (B, D) rows of length 1."""
        drawn = self._draw()
        others = self.memory.index_select(1, drawn).to(student.dtype)
        valid = (self.classes[drawn] != labels.unsqueeze(1)) & (drawn != ids.unsqueeze(1))
        scaled = student / self.temperature, teacher / self.temperature
        positive = (scaled[0] * teacher).sum(dim=1)
        found = [anchor @ rows.T for anchor, rows in zip(scaled, (others[1], others[0]), strict=True)]
        self._set_constants(found, valid)
        constants = self.log_constants.to(student.dtype)
        losses = [
            contrastive_estimation_loss(positive, each, valid, constant, len(self.classes))
            for each, constant in zip(found, constants, strict=True)
        ]
        return torch.stack(losses).sum()

    def _draw(self) -> Tensor:
        """(K,) numbers of images. Drawing by a counter on the device waits for nothing."""
        slots = torch.arange(self.negatives, device=self.classes.device) + (self.steps << 32)
        words = random_words(self._seed, 0, slots, 0, STREAM_DRAW)[:, 0]
        return (words * len(self.classes)) >> 32

    @torch.no_grad()
    def _set_constants(self, found: list[Tensor], valid: Tensor) -> None:
        """Z is M times the mean of exp(s) over the negatives of the first step, and stays."""
        counts = valid.sum().clamp(min=1).to(found[0].dtype)
        means = [torch.where(valid, each, -torch.inf).flatten().logsumexp(dim=0) - counts.log() for each in found]
        fresh = (torch.stack(means) + torch.tensor(float(len(self.classes))).log()).to(self.log_constants.dtype)
        self.log_constants.copy_(torch.where(self.log_constants.isfinite(), self.log_constants, fresh))

    @torch.no_grad()
    def _remember(self, rows: Tensor, labels: Tensor, ids: Tensor) -> None:
        """Mix (2, B, D) rows into the memory; of an image that is there twice the last row counts."""
        places = torch.arange(len(ids), device=ids.device)
        last = torch.where(ids.unsqueeze(1) == ids, places, -1).amax(dim=1)  # equal writes need no order
        mixed = _MOMENTUM * self.memory[:, ids] + (1 - _MOMENTUM) * rows[:, last].to(self.memory.dtype)
        self.memory[:, ids] = F.normalize(mixed, dim=2)
        self.classes[ids] = labels
        self.steps += 1
