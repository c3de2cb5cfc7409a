"""What a classifier puts out."""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor


class ClassifierOutput(NamedTuple):
    """Output of a classifier for a batch of B images.

    Attributes:
        logits: (B, C) pre-softmax scores.
        embeddings: (B, D) pooled features before the classification layer, not normalised; None for a net that has
            none.
        feature_maps: Tuple of (B, C_l, H_l, W_l), as timm's `forward_intermediates`; None unless asked for.

    Example:
        >>> import torch
        >>> output = ClassifierOutput(logits=torch.zeros(2, 10), embeddings=torch.zeros(2, 64))
        >>> output.feature_maps is None
        True
    """

    logits: Tensor
    embeddings: Tensor | None
    feature_maps: tuple[Tensor, ...] | None = None

    def clone(self) -> ClassifierOutput:
        """Return a copy in its own memory."""
        maps = None if self.feature_maps is None else tuple(each.clone() for each in self.feature_maps)
        embeddings = None if self.embeddings is None else self.embeddings.clone()
        return ClassifierOutput(self.logits.clone(), embeddings, maps)
