"""Conditional mutual information: a teacher whose probabilities differ within a class.

Reference:
    Ye, Hamidi, Tan, Yang: Bayes Conditional Distribution Estimation for Knowledge Distillation Based on Conditional
    Mutual Information. ICLR 2024, arXiv 2401.08732.
"""

from __future__ import annotations

from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from hf_icckd.losses.objective import at_least_float32, no_autocast
from hf_icckd.losses.teacher_term import TeacherBatch, TeacherTerm
from hf_icckd.models.classifier import ImageClassifier
from hf_icckd.utils.distributed import gather_rows
from hf_icckd.utils.text import percent

_MOMENTUM = 0.9


def class_divergence(logits: Tensor, class_means: Tensor) -> Tensor:
    """Mean over images of `KL(p || q)`, p the probabilities of an image and q the mean ones of its class.

    Over all images of a data set that is the mutual information of image and prediction, given the class.

    Args:
        logits: (N, C), with gradient.
        class_means: (N, C) probabilities above 0 wherever p is.

    Returns:
        Scalar in nats, in at least float32.

    Reference:
        arXiv 2401.08732, conditional mutual information.

    Example:
        >>> class_divergence(torch.zeros(1, 2), torch.tensor([[0.5, 0.5]]))
        tensor(0.)
    """
    logits, means = at_least_float32(logits, class_means)
    with no_autocast(logits):
        own = logits.log_softmax(dim=1)
        # Below the smallest normal number a logarithm would be that of 0.
        given = means.to(own.dtype).clamp(min=torch.finfo(own.dtype).tiny).log()
        return F.kl_div(given, own, reduction="batchmean", log_target=True)


class CMI(TeacherTerm):
    """Conditional mutual information, which is subtracted; see `class_divergence`.

    The mean of a class is a running one over steps, detached, with all views of all processes. It is brought up to
    date before an image is compared with it, so that no image is ever without. The paper gives an already trained
    teacher some epochs with the term: `--start_from`, or `start`. Its weight there differs by net; the one here is
    ours.

    Formula:
        `-KL(p || q_y)`, q_y the running mean of p over images of class y

    Args:
        start: Share of the training after which the term begins, 0 to 1.

    Raises:
        ValueError: If `start` is not such a share.

    Relations:
        The intra-class term keeps embeddings of a class apart, this one what a student sees of them: probabilities.

    Example:
        >>> from hf_icckd.losses import parse_terms
        >>> parse_terms(["cmi:weight=0.3"]).term_weights
        {'cmi': 0.3}
    """

    default_weight: ClassVar[float] = 0.15
    term_weights: ClassVar[dict[str, float]] = {"cmi": 1.0}
    purpose: ClassVar[str] = "The CMI term keeps the probabilities of one class apart, so that soft labels say more."
    citation: ClassVar[str] = """@inproceedings{ye2024bayes,
  title = {Bayes Conditional Distribution Estimation for Knowledge Distillation Based on Conditional Mutual
    Information},
  author = {Ye, Linfeng and Hamidi, Shayan Mohajer and Tan, Renhao and Yang, En-Hui},
  booktitle = {ICLR},
  year = {2024}
}"""

    means: Tensor  # (C, C), zeros for a class that was not seen yet

    def __init__(self, start: float = 0.0):
        super().__init__()
        if not 0 <= start < 1:
            raise ValueError(f"cmi start is {start}, expected a share of the training from 0 to below 1")
        self.start, self.reads_progress = start, start > 0

    @staticmethod
    def describe(arguments: dict[str, Any]) -> str:
        """Weight and name of the term."""
        begins = f", after {percent(arguments['start'], 0)} of the training" if arguments.get("start") else ""
        return f"-{arguments['weight']:g} x conditional mutual information (CMI){begins}"

    def attach(self, teacher: ImageClassifier) -> None:
        """Make the running means."""
        weight, classes = next(teacher.parameters()), len(teacher.spec.label_names)
        dtype = torch.promote_types(weight.dtype, torch.float32)
        self.register_buffer("means", torch.zeros(classes, classes, dtype=dtype, device=weight.device))

    def forward(self, batch: TeacherBatch) -> dict[str, Tensor]:
        """Return `{"cmi": scalar}`, at most 0."""
        views = batch.logits.shape[1]
        self._update(*(gather_rows(each, batch.global_rows) for each in (batch.logits.detach(), batch.labels)))
        labels = batch.labels.repeat_interleave(views)
        divergence = class_divergence(batch.logits.flatten(0, 1), self.means[labels])
        return {"cmi": -divergence * (batch.progress >= self.start)}

    @torch.no_grad()
    def _update(self, logits: Tensor, labels: Tensor) -> None:
        """Move the means of the classes that are in a step of (N, V, C) logits towards their mean there."""
        with no_autocast(logits):
            # `one_hot` would read the largest label, which waits for the device.
            classes = torch.arange(len(self.means), device=labels.device)
            chosen = (labels.unsqueeze(1) == classes).to(self.means.dtype)
            sums = chosen.T @ logits.to(self.means.dtype).softmax(dim=2).mean(dim=1)
        counts = chosen.sum(dim=0).unsqueeze(1)
        fresh = sums / counts.clamp(min=1)
        moved = torch.where(self.means.sum(dim=1, keepdim=True) > 0, self.means.lerp(fresh, 1 - _MOMENTUM), fresh)
        self.means.copy_(torch.where(counts > 0, moved, self.means))
