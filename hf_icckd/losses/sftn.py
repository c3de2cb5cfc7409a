"""Student-friendly teacher networks: the terms of the branches."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from hf_icckd.losses import knowledge_distillation_loss


def student_branch_terms(
    logits: Tensor, branch_logits: tuple[Tensor, ...], labels: Tensor, label_smoothing: float = 0.0
) -> dict[str, Tensor]:
    """Cross-entropy of the branches, and their KL divergence from the teacher: means over images and branches.

    The temperature is 1, as in the paper. Our reading of it: the divergence is that of distillation (the teacher's
    probabilities come first), and its gradient reaches the teacher through the feature maps and through its logits,
    which are not detached, so that the teacher learns to say what a student can follow.

    Args:
        logits: (B, C) of the teacher, with gradient.
        branch_logits: (B, C) of each branch, with gradient.
        labels: (B,) classes.
        label_smoothing: Label smoothing of the cross-entropy; ours.

    Returns:
        `branch_ce` and `branch_kl` in nats.

    Reference:
        arXiv 2102.07650, section 3.
    """
    stacked, count = torch.cat(branch_logits), len(branch_logits)
    return {
        "branch_ce": F.cross_entropy(stacked, labels.repeat(count), label_smoothing=label_smoothing),
        "branch_kl": knowledge_distillation_loss(stacked, logits.repeat(count, 1), temperature=1.0),
    }
