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


class OutputShapes(NamedTuple):
    """Shapes of what a classifier puts out for one image: what parameters between two models are made from.

    Attributes:
        num_classes: Length of the logits; 0 for a net without a classification layer.
        embedding_dim: Length of the embeddings; None for a net that has none.
        feature_maps: Shape (C, H, W) of each feature map; None unless asked for.
    """

    num_classes: int
    embedding_dim: int | None
    feature_maps: tuple[tuple[int, ...], ...] | None = None
