"""Values with mean 0 and standard deviation 1: of logits over classes, of embeddings over dimensions.

Reference:
    Sun, Ren, Li, Wang, Cao: Logit Standardization in Knowledge Distillation. CVPR 2024, arXiv 2403.01858.
"""

from __future__ import annotations

import torch
from torch import Tensor

from hf_icckd.losses.objective import checked_logits


def comparable(student: Tensor, teacher: Tensor, standardise: bool) -> tuple[Tensor, Tensor]:
    """Logits (B, C) of both models in at least float32, standardised if asked for.

    Raises:
        ValueError: If their shapes differ.
    """
    student, teacher = checked_logits(student, teacher)
    return (standardised(student), standardised(teacher)) if standardise else (student, teacher)


def standardised(values: Tensor) -> Tensor:
    """(B, C) rows with mean 0 and standard deviation 1 over their C values; constant ones become 0.

    The standard deviation is that of the C values (divided by C), as in algorithm 1 of arXiv 2403.01858; the authors'
    code divides by C - 1, which is a temperature of sqrt(C / (C - 1)) beside ours.

    Example:
        >>> standardised(torch.tensor([[1.0, 3.0], [5.0, 5.0]]))
        tensor([[-1.,  1.],
                [ 0.,  0.]])
    """
    centred = values - values.mean(dim=1, keepdim=True)
    variance = centred.square().mean(dim=1, keepdim=True)
    varies = variance > 0
    # The inner `where` keeps the root's infinite slope at 0 out of the graph.
    return torch.where(varies, centred / torch.where(varies, variance, 1).sqrt(), 0)
