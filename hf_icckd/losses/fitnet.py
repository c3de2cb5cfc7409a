"""Hints: the student's feature map predicts the teacher's through a convolution that is trained along.

Reference:
    Romero, Ballas, Kahou, Chassang, Gatta, Bengio: FitNets: Hints for Thin Deep Nets. ICLR 2015, arXiv 1412.6550.
"""

from __future__ import annotations

from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hf_icckd.losses.objective import DistillationBatch, at_least_float32
from hf_icckd.losses.stages import HINT, MapObjective
from hf_icckd.models.outputs import OutputShapes


def hint_loss(predicted: Tensor, teacher_map: Tensor) -> Tensor:
    """Squared difference of two maps, mean over images, channels and places.

    Args:
        predicted: (B, C, H, W) prediction of the teacher's map, with gradient.
        teacher_map: (B, C, H, W).

    Returns:
        Scalar, in at least float32.

    Raises:
        ValueError: If the shapes differ.

    Reference:
        arXiv 1412.6550, equation 3, as a mean instead of half a sum.
    """
    if predicted.shape != teacher_map.shape:
        raise ValueError(
            f"predicted map {tuple(predicted.shape)} and teacher's map {tuple(teacher_map.shape)} must have one shape"
        )
    predicted, teacher_map = at_least_float32(predicted, teacher_map)
    return F.mse_loss(predicted, teacher_map.to(predicted.dtype))


class FitNet(MapObjective):
    """Hints as an objective with the one term `fitnet`, the sum over stages; see `hint_loss`.

    `build` makes a 1x1 convolution for each stage, which is trained with the student and not exported. The paper
    trains on hints alone first; here, as in RepDistiller, whose weight this is, they are a term beside others from the
    start. RepDistiller's regressors have batch norm and ReLU too, which would make the loss depend on the number of
    processes.

    Formula:
        `|r(m_s) - m_t|^2 / (C H W)`, r a 1x1 convolution

    Args:
        stages: The student's feature maps, such as `2/3`; by default the one at two thirds of the way.

    Example:
        >>> from hf_icckd.losses import parse_objectives
        >>> objectives = parse_objectives(["fitnet"])
        >>> maps = ((8, 4, 4),) * 4
        >>> objectives.build(OutputShapes(10, 8, maps), OutputShapes(10, 8, maps), seed=0)
        >>> objectives.term_weights, sum(each.numel() for each in objectives.parameters())
        ({'fitnet': 100.0}, 72)
    """

    term_weights: ClassVar[dict[str, float]] = {"fitnet": 100.0}
    cost: ClassVar[str] = "B P D^2"
    citation: ClassVar[str] = """@inproceedings{romero2015fitnets,
  title = {{FitNets}: Hints for Thin Deep Nets},
  author = {Romero, Adriana and Ballas, Nicolas and Kahou, Samira Ebrahimi and Chassang, Antoine and Gatta, Carlo and
    Bengio, Yoshua},
  booktitle = {ICLR},
  year = {2015}
}"""

    def __init__(self, stages: str = HINT):
        super().__init__(stages)
        self.regressors = nn.ModuleList()

    def build(self, student: OutputShapes, teacher: OutputShapes) -> None:
        """Choose the maps and make the convolutions. Raises ValueError if there are no maps."""
        super().build(student, teacher)
        assert student.feature_maps is not None and teacher.feature_maps is not None
        for own, given in self.pairs:
            self.regressors.append(nn.Conv2d(student.feature_maps[own][0], teacher.feature_maps[given][0], 1))

    def forward(self, batch: DistillationBatch) -> dict[str, Tensor]:
        """Return `{"fitnet": scalar}`."""
        maps = self.maps_of(batch)
        losses = [
            hint_loss(regressor(own), given) for regressor, (own, given) in zip(self.regressors, maps, strict=True)
        ]
        return {"fitnet": torch.stack(losses).sum()}
