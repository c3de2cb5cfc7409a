"""Knowledge review: the student's deep maps, merged step by step into the earlier ones, predict the teacher's.

Reference:
    Chen, Liu, Zhao, Jia: Distilling Knowledge via Knowledge Review. CVPR 2021, arXiv 2104.09044.
"""

from __future__ import annotations

from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hf_icckd.losses.objective import DistillationBatch, check_warmup, mean_square, warmed_up
from hf_icckd.losses.projections import built, embedding_dims
from hf_icckd.losses.stages import ALL, MapObjective
from hf_icckd.models.outputs import OutputShapes

_WIDEST = 512  # channels in which maps are merged
_LEVELS = (4, 2, 1)  # sides to which maps are pooled


def hierarchical_context_loss(student: Tensor, teacher: Tensor) -> Tensor:
    """Squared difference of two maps at their own size and pooled to sides of 4, 2 and 1, mean over elements.

    Each smaller level has half the weight of the one before; the weights are divided by their sum.

    Args:
        student: (B, C, H, W), with gradient.
        teacher: (B, C, H, W).

    Returns:
        Scalar, in at least float32.

    Reference:
        arXiv 2104.09044, hierarchical context loss; weights and levels are those of the authors' code.

    Example:
        >>> hierarchical_context_loss(torch.zeros(1, 2, 8, 8), torch.ones(1, 2, 8, 8))
        tensor(1.)
    """
    total, weight, weights = mean_square(student, teacher), 1.0, 1.0
    for side in _LEVELS:
        if side < student.shape[2]:
            weight /= 2
            own, given = (F.adaptive_avg_pool2d(each, (side, side)) for each in (student, teacher))
            total, weights = total + weight * mean_square(own, given), weights + weight
    return total / weights


class _Norm(nn.BatchNorm2d):
    """BatchNorm by the batch alone: nothing is measured with it. One value of each channel is only scaled."""

    def __init__(self, channels: int):
        super().__init__(channels, track_running_stats=False)

    def forward(self, input: Tensor) -> Tensor:
        if input.numel() == input.shape[1]:
            return input * self.weight.view(1, -1, 1, 1) + self.bias.view(1, -1, 1, 1)
        return super().forward(input)


class _Fusion(nn.Module):
    """Attention-based fusion of a map with what the deeper ones gave, and the prediction of the teacher's map."""

    def __init__(self, own: int, merged: int, given: int, deepest: bool):
        super().__init__()
        self.narrow = nn.Sequential(nn.Conv2d(own, merged, 1, bias=False), _Norm(merged))
        self.attention = None if deepest else nn.Conv2d(2 * merged, 2, 1)
        self.predict = nn.Sequential(nn.Conv2d(merged, given, 3, padding=1, bias=False), _Norm(given))

    def forward(self, own: Tensor, deeper: Tensor | None, size: torch.Size) -> tuple[Tensor, Tensor]:
        """The prediction at a size, and what the next map is merged with."""
        merged = self.narrow(own)
        if self.attention is not None and deeper is not None:
            deeper = F.interpolate(deeper, merged.shape[2:])
            weights = self.attention(torch.cat([merged, deeper], dim=1)).sigmoid()
            merged = merged * weights[:, :1] + deeper * weights[:, 1:]
        if merged.shape[2:] != size:
            merged = F.interpolate(merged, size)
        return self.predict(merged), merged


class ReviewKD(MapObjective):
    """Knowledge review as an objective with the one term `review_kd`, the sum over stages.

    The student's embeddings and feature maps, from the last on, are merged one after the other and predict the
    teacher's; see `hierarchical_context_loss`. The layers for that are trained with the student and not exported.
    Their BatchNorm has statistics of each process, as the student's own has.

    The weight is that of the authors' scripts for most pairs on CIFAR-100; others there have 0.6 to 8. They read the
    maps before the last ReLU of a stage, this reads them after it, as timm returns them.

    Formula:
        `sum_l w_l |pool_l(f(m_s)) - pool_l(m_t)|^2 / n_l`, f the fusion of a map with deeper ones

    Args:
        stages: The student's feature maps, such as `2/3`; all but the stem by default.
        warmup: Share of the training over which the term grows from 0; 20 of 240 epochs (code: kd_warm_up).

    Example:
        >>> from hf_icckd.losses import parse_objectives
        >>> parse_objectives(["review_kd:weight=0.2"]).term_weights
        {'review_kd': 1.0}
    """

    term_weights: ClassVar[dict[str, float]] = {"review_kd": 5.0}
    teacher_outputs: ClassVar[tuple[str, ...]] = ("embeddings", "feature_maps")
    reads_progress: ClassVar[bool] = True
    cost: ClassVar[str] = "B P D^2"
    citation: ClassVar[str] = """@inproceedings{chen2021distilling,
  title = {Distilling Knowledge via Knowledge Review},
  author = {Chen, Pengguang and Liu, Shu and Zhao, Hengshuang and Jia, Jiaya},
  booktitle = {CVPR},
  year = {2021}
}"""

    def __init__(self, stages: str = ALL, warmup: float = 0.083):
        super().__init__(stages)
        check_warmup("ReviewKD", warmup)
        self.warmup = warmup
        self.fusions: nn.ModuleList | None = None

    def build(self, student: OutputShapes, teacher: OutputShapes) -> None:
        """Choose the maps and make the layers. Raises ValueError if there are no maps or no embeddings."""
        super().build(student, teacher)
        self.pairs.sort()  # from the last on, in whatever order they were named
        assert student.feature_maps is not None and teacher.feature_maps is not None
        widths = [(student.feature_maps[own][0], teacher.feature_maps[given][0]) for own, given in self.pairs]
        widths.append(embedding_dims(student, teacher, "review_kd"))
        merged = min(_WIDEST, widths[-1][0])
        self.fusions = nn.ModuleList(_Fusion(own, merged, given, deepest=False) for own, given in widths[:-1])
        self.fusions.append(_Fusion(widths[-1][0], merged, widths[-1][1], deepest=True))

    def forward(self, batch: DistillationBatch) -> dict[str, Tensor]:
        """Return `{"review_kd": scalar}`."""
        fusions = built(self.fusions, "review_kd")
        student, teacher = batch.student, batch.teacher
        assert student.feature_maps is not None and teacher.feature_maps is not None
        assert student.embeddings is not None and teacher.embeddings is not None
        own = [*(student.feature_maps[each] for each, _ in self.pairs), student.embeddings[:, :, None, None]]
        given = [*(teacher.feature_maps[each] for _, each in self.pairs), teacher.embeddings[:, :, None, None]]
        losses, deeper = [], None
        for fusion, mine, wanted in reversed(list(zip(fusions, own, given, strict=True))):
            predicted, deeper = fusion(mine, deeper, wanted.shape[2:])
            losses.append(hierarchical_context_loss(predicted, wanted))
        loss = torch.stack(losses).sum()
        return {"review_kd": warmed_up(loss, batch.progress, self.warmup)}
