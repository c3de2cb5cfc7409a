"""A copy of a net with no weight or statistic at its initial value, so that a check sees every one of them."""

from __future__ import annotations

import copy
from collections.abc import Iterable
from typing import TypeVar

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

M = TypeVar("M", bound=nn.Module)


@torch.no_grad()
def moved_copy(module: M, seed: int = 0, keep: Iterable[nn.Parameter] = ()) -> M:
    """Copy a module and move its weights and statistics off their initial values.

    A new net hides faults: BatchNorm with mean 0 and variance 1 is nearly the identity, and a last layer of zeros
    makes all logits equal. The global generators are left alone.

    Args:
        module: On any device; it stays as it is.
        seed: Seed of the changes.
        keep: Parameters that are neither moved nor copied, to save time and memory.
    """
    kept = {id(parameter): parameter for parameter in keep}
    moved = copy.deepcopy(module, dict(kept))
    generator = torch.Generator().manual_seed(seed)

    def uniform(tensor: torch.Tensor, low: float, high: float) -> torch.Tensor:
        drawn = torch.rand(tensor.shape, generator=generator)
        return (low + (high - low) * drawn).to(tensor)

    for parameter in moved.parameters():
        if id(parameter) in kept:
            continue
        parameter.mul_(uniform(parameter, 0.8, 1.2)).add_(uniform(parameter, -0.05, 0.05))
    for layer in moved.modules():
        if isinstance(layer, _BatchNorm) and layer.running_mean is not None and layer.running_var is not None:
            layer.running_mean.add_(uniform(layer.running_mean, -0.2, 0.2))
            layer.running_var.mul_(uniform(layer.running_var, 0.3, 1.5))
    return moved
