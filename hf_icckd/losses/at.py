"""Attention transfer: the student looks where the teacher looks.

Reference:
    Zagoruyko, Komodakis: Paying More Attention to Attention. ICLR 2017, arXiv 1612.03928.
"""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor

from hf_icckd.losses.objective import DistillationBatch, at_least_float32, no_autocast
from hf_icckd.losses.similarities import directions
from hf_icckd.losses.stages import MapObjective


def attention_transfer_loss(student_map: Tensor, teacher_map: Tensor) -> Tensor:
    """Squared difference of two attention maps, mean over images and places.

    The attention at a place is the mean of the squared channels there; all of an image have length 1.

    Args:
        student_map: (B, C_s, H, W), with gradient.
        teacher_map: (B, C_t, H, W).

    Returns:
        Scalar, in at least float32.

    Reference:
        arXiv 1612.03928, equation 2 with F^2 (sum of squares) and p = 2.

    Example:
        >>> import torch
        >>> x = torch.rand(2, 3, 4, 4)
        >>> attention_transfer_loss(5 * x, x).item() < 1e-12
        True
    """
    student, teacher = at_least_float32(student_map, teacher_map)
    with no_autocast(student):
        own, given = (
            directions(each.square().mean(dim=1).flatten(1)) for each in (student, teacher.to(student.dtype))
        )
        return (own - given).square().mean()


class AT(MapObjective):
    """Attention transfer as an objective with the one term `at`, the sum over stages; see `attention_transfer_loss`.

    The weight is the paper's, and RepDistiller's.

    Formula:
        `|a_s - a_t|^2 / (H W)` with `a = sum_c m_c^2` at length 1

    Args:
        stages: The student's feature maps, such as `2/3`; all but the stem by default.

    Example:
        >>> from hf_icckd.losses import parse_objectives
        >>> parse_objectives(["at:stages=2/3"]).term_weights
        {'at': 1000.0}
    """

    term_weights: ClassVar[dict[str, float]] = {"at": 1000.0}
    cost: ClassVar[str] = "B P D"
    citation: ClassVar[str] = """@inproceedings{zagoruyko2017paying,
  title = {Paying More Attention to Attention: Improving the Performance of Convolutional Neural Networks via Attention
    Transfer},
  author = {Zagoruyko, Sergey and Komodakis, Nikos},
  booktitle = {ICLR},
  year = {2017}
}"""

    def forward(self, batch: DistillationBatch) -> dict[str, Tensor]:
        """Return `{"at": scalar}`."""
        losses = [attention_transfer_loss(*each) for each in self.maps_of(batch)]
        return {"at": torch.stack(losses).sum()}
