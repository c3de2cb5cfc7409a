"""A context that leaves a trainer as it was: weights, statistics, caches, sums and generators."""

from __future__ import annotations

import contextlib
import random
from collections.abc import Iterator

import numpy as np
import torch
from torch import nn

from hf_icckd.training.resumable import ResumableTrainer


@contextlib.contextmanager
def untouched(trainer: ResumableTrainer) -> Iterator[None]:
    """Context after which the trainer, all that it trains and all global generators are as before, bit for bit.

    Tensors that are no parameter or buffer, and lists that are changed in place, are not restored.
    """
    parts = list(trainer.stateful.values())
    tops = [trainer.model, *(part for part in parts if isinstance(part, nn.Module))]
    modules = [module for top in tops for module in top.modules()]
    attributes = [(each, dict(vars(each))) for each in (trainer, *parts, *modules)]
    # A module may put a new tensor in the place of a buffer, so the table of its buffers is kept too.
    buffers = [(module._buffers, dict(module._buffers)) for module in modules]
    tensors = [tensor for top in tops for tensor in (*top.parameters(), *top.buffers())]
    gradients = [tensor.grad for tensor in tensors]
    # On the host: the device may have no room for them.
    values = [tensor.detach().to("cpu", copy=True) for tensor in tensors]
    try:
        with _generators(trainer.args.device):
            yield
    finally:
        for each, before in attributes:
            vars(each).clear()
            vars(each).update(before)
        for table, entries in buffers:
            table.clear()
            table.update(entries)
        with torch.no_grad():
            for tensor, value, gradient in zip(tensors, values, gradients, strict=True):
                tensor.copy_(value)
                tensor.grad = gradient


@contextlib.contextmanager
def _generators(device: torch.device) -> Iterator[None]:
    """Context after which the global generators of Python, NumPy and torch are as before."""
    python, numpy = random.getstate(), np.random.get_state()
    has_own = device.type != "cpu"
    try:
        with torch.random.fork_rng([device] if has_own else [], device_type=device.type if has_own else "cuda"):
            yield
    finally:
        random.setstate(python)
        np.random.set_state(numpy)
