"""Building blocks of several metrics. They check nothing, so that a GPU need not wait."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def is_correct(logits: Tensor, labels: Tensor, top_k: int = 1) -> Tensor:
    """(N,) 1 where the class is among the top k, else 0; ties count against the sample."""
    true_logit = logits.gather(1, labels[:, None])
    # Not "logits >= true_logit": NaN compares false with everything, and a diverged model would score 100 %.
    rank = (~(logits < true_logit)).sum(dim=1)
    return (rank <= min(top_k, logits.shape[1])).float()


def predictions(logits: Tensor, labels: Tensor) -> Tensor:
    """(N,) predicted classes, which equal the labels where `is_correct`; -1 for logits with NaN.

    Of tied logits the first other class counts if the true one is among them, else the first.
    """
    first = logits.argmax(dim=1)
    tied = (logits == logits.gather(1, labels[:, None])).scatter(1, labels[:, None], False)
    in_a_tie = (first == labels) & tied.any(dim=1)
    predicted = torch.where(in_a_tie, tied.to(torch.uint8).argmax(dim=1), first)
    return predicted.masked_fill(logits.isnan().any(dim=1), -1)


def confidences(logits: Tensor) -> Tensor:
    """(N,) largest probabilities."""
    return logits.softmax(dim=1).amax(dim=1)


def agrees(student: Tensor, teacher: Tensor) -> Tensor:
    """(N,) whether both predict the same class."""
    return student.argmax(dim=1) == teacher.argmax(dim=1)


def kl(student: Tensor, teacher: Tensor) -> Tensor:
    """(N,) KL(teacher || student) in nats, of logits."""
    return F.kl_div(student.log_softmax(dim=1), teacher.log_softmax(dim=1), reduction="none", log_target=True).sum(
        dim=1
    )


def entropies(p: Tensor) -> Tensor:
    """Entropies in nats of distributions along the last dimension."""
    return torch.special.entr(p).sum(dim=-1)  # entr(0) = 0


def sum_by_class(rows: Tensor, labels: Tensor, num_classes: int) -> Tensor:
    """(num_classes, D) sums of the (N, D) rows of each class."""
    return rows.new_zeros(num_classes, rows.shape[1]).index_add_(0, labels, rows)


def by_confidence(confidence: Tensor, correct: Tensor, num_bins: int) -> dict[str, Tensor]:
    """Compute the table that `reliability_table` returns."""
    confidence = confidence.double().contiguous()
    edges = torch.linspace(0, 1, num_bins + 1, dtype=torch.float64, device=confidence.device)
    bins = torch.bucketize(confidence, edges[1:-1])
    rows = torch.stack([torch.ones_like(confidence), confidence, correct.double()], dim=1)
    count, confidence, correct = sum_by_class(rows, bins, num_bins).unbind(dim=1)
    return {"count": count, "confidence": confidence / count.clamp(min=1), "accuracy": correct / count.clamp(min=1)}


def calibration_error(table: dict[str, Tensor]) -> Tensor:
    """Expected calibration error: sum over bins of count / N * |accuracy - confidence|.

    Reference:
        Guo et al. 2017, On Calibration of Modern Neural Networks, arXiv 1706.04599, equation 3.
    """
    return (table["count"] * (table["accuracy"] - table["confidence"]).abs()).sum() / table["count"].sum()
