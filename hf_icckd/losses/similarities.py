"""Cosine similarities between the images of a batch, which several objectives compare."""

from __future__ import annotations

import torch
from torch import Tensor


def directions(embeddings: Tensor) -> Tensor:
    """(B, D) rows of length 1; a row of zeros stays, with gradient 0."""
    squares = embeddings.square().sum(dim=1, keepdim=True)
    positive = squares > 0
    # The inner `where` keeps the root's infinite slope at 0 out of the graph.
    return torch.where(positive, embeddings / torch.where(positive, squares, 1).sqrt(), 0)


def cosines(embeddings: Tensor) -> Tensor:
    """(B, B) cosine similarities of all pairs."""
    rows = directions(embeddings)
    return rows @ rows.T
