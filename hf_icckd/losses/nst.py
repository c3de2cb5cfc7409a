"""Neuron selectivity transfer: the student's channels are active where the teacher's are, as two sets of patterns.

Reference:
    Huang, Wang: Like What You Like: Knowledge Distill via Neuron Selectivity Transfer. arXiv 1707.01219.
"""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor

from hf_icckd.losses.objective import DistillationBatch, at_least_float32, no_autocast
from hf_icckd.losses.similarities import directions
from hf_icckd.losses.stages import MapObjective


def selectivity_transfer_loss(student_map: Tensor, teacher_map: Tensor) -> Tensor:
    """Squared maximum mean discrepancy between the channels of two maps, mean over images.

    A channel is its pattern over the places of an image, at length 1; the kernel of two patterns is their inner
    product squared. Memory is B C^2.

    Args:
        student_map: (B, C_s, H, W), with gradient.
        teacher_map: (B, C_t, H, W).

    Returns:
        Scalar, in at least float32.

    Reference:
        arXiv 1707.01219, equation 8 with the polynomial kernel (d = 2, c = 0).

    Example:
        >>> x = torch.rand(2, 3, 4, 4)
        >>> abs(selectivity_transfer_loss(5 * x, x).item()) < 1e-6
        True
    """
    student, teacher = at_least_float32(student_map, teacher_map)
    with no_autocast(student):
        own, given = (_patterns(each) for each in (student, teacher.to(student.dtype)))
        return _kernel(own, own) + _kernel(given, given) - 2 * _kernel(own, given)


def _patterns(maps: Tensor) -> Tensor:
    """(B, C, H W) channels at length 1."""
    flat = maps.flatten(2)
    return directions(flat.flatten(0, 1)).view_as(flat)


def _kernel(first: Tensor, second: Tensor) -> Tensor:
    return (first @ second.transpose(1, 2)).square().mean()


class NST(MapObjective):
    """Neuron selectivity transfer as an objective with the one term `nst`, the sum over stages.

    See `selectivity_transfer_loss`. The weight is the paper's for this kernel, and RepDistiller's.

    Formula:
        `mean (f_s f_s')^2 + mean (f_t f_t')^2 - 2 mean (f_s f_t')^2`, f the channels of a map at length 1

    Args:
        stages: The student's feature maps, such as `2/3`; all but the stem by default.

    Example:
        >>> from hf_icckd.losses import parse_objectives
        >>> parse_objectives(["nst:stages=3"]).term_weights
        {'nst': 50.0}
    """

    term_weights: ClassVar[dict[str, float]] = {"nst": 50.0}
    cost: ClassVar[str] = "B P D^2"
    citation: ClassVar[str] = """@article{huang2017like,
  title = {Like What You Like: Knowledge Distill via Neuron Selectivity Transfer},
  author = {Huang, Zehao and Wang, Naiyan},
  journal = {arXiv:1707.01219},
  year = {2017}
}"""

    def forward(self, batch: DistillationBatch) -> dict[str, Tensor]:
        """Return `{"nst": scalar}`."""
        losses = [selectivity_transfer_loss(*each) for each in self.maps_of(batch)]
        return {"nst": torch.stack(losses).sum()}
