"""Variational information distillation: the student predicts the teacher's maps, and how sure it is of each channel.

Reference:
    Ahn, Hu, Damianou, Lawrence, Dai: Variational Information Distillation for Knowledge Transfer. CVPR 2019,
    arXiv 1904.05835.
"""

from __future__ import annotations

import math
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hf_icckd.losses.objective import DistillationBatch, at_least_float32, no_autocast
from hf_icckd.losses.stages import ALL, MapObjective
from hf_icckd.models.outputs import OutputShapes

_FIRST_VARIANCE, _SMALLEST_VARIANCE = 5.0, 1e-5  # as in RepDistiller; the paper gives neither


def variational_information_loss(mean: Tensor, variance: Tensor, teacher_map: Tensor) -> Tensor:
    """Negative log-likelihood of the teacher's map under a Gaussian at each place, without its constant.

    `((t - mean)^2 / variance + log variance) / 2`, mean over images, channels and places.

    Args:
        mean: (B, C, H, W) prediction from the student's map, with gradient.
        variance: (C,) variance of each channel, above 0, with gradient.
        teacher_map: (B, C, H, W).

    Returns:
        Scalar in nats, in at least float32. It can be below 0.

    Reference:
        arXiv 1904.05835, equation 5.

    Example:
        >>> zeros = torch.zeros(1, 2, 3, 3)
        >>> variational_information_loss(zeros, torch.ones(2), zeros).item()
        0.0
    """
    mean, variance, teacher_map = at_least_float32(mean, variance, teacher_map)
    with no_autocast(mean):
        spread = variance.view(1, -1, 1, 1)
        return ((teacher_map.to(mean.dtype) - mean).square() / spread + spread.log()).mean() / 2


class VID(MapObjective):
    """Variational information distillation as an objective with the one term `vid`, the sum over stages.

    `build` makes three 1x1 convolutions and a variance per channel for each stage, which are trained with the student
    and not exported. See `variational_information_loss`. The weight is RepDistiller's.

    Formula:
        `((m_t - r(m_s))^2 / v + log v) / 2`, mean over elements, v a variance for each channel

    Args:
        stages: The student's feature maps, such as `2/3`; all but the stem by default.

    Example:
        >>> from hf_icckd.losses import parse_objectives
        >>> parse_objectives(["vid:weight=0.5"]).term_weights
        {'vid': 0.5}
    """

    term_weights: ClassVar[dict[str, float]] = {"vid": 1.0}
    cost: ClassVar[str] = "B P D^2"
    citation: ClassVar[str] = """@inproceedings{ahn2019variational,
  title = {Variational Information Distillation for Knowledge Transfer},
  author = {Ahn, Sungsoo and Hu, Shell Xu and Damianou, Andreas and Lawrence, Neil D. and Dai, Zhenwen},
  booktitle = {CVPR},
  year = {2019}
}"""

    def __init__(self, stages: str = ALL):
        super().__init__(stages)
        self.predictors = nn.ModuleList()
        self.raw_variances = nn.ParameterList()

    def build(self, student: OutputShapes, teacher: OutputShapes) -> None:
        """Choose the maps, make convolutions and variances. Raises ValueError if there are no maps."""
        super().build(student, teacher)
        assert student.feature_maps is not None and teacher.feature_maps is not None
        first = math.log(math.expm1(_FIRST_VARIANCE - _SMALLEST_VARIANCE))  # softplus gives the first variance
        for own, given in self.pairs:
            narrow, wide = student.feature_maps[own][0], teacher.feature_maps[given][0]
            widths = [(narrow, wide), (wide, wide), (wide, wide)]
            layers = [layer for pair in widths for layer in (nn.Conv2d(*pair, 1, bias=False), nn.ReLU(inplace=True))]
            self.predictors.append(nn.Sequential(*layers[:-1]))
            self.raw_variances.append(nn.Parameter(torch.full((wide,), first)))

    def forward(self, batch: DistillationBatch) -> dict[str, Tensor]:
        """Return `{"vid": scalar}`."""
        maps = self.maps_of(batch)
        losses = [
            variational_information_loss(predictor(own), F.softplus(raw) + _SMALLEST_VARIANCE, given)
            for predictor, raw, (own, given) in zip(self.predictors, self.raw_variances, maps, strict=True)
        ]
        return {"vid": torch.stack(losses).sum()}
