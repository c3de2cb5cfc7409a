"""The temperature at which a teacher's probabilities are half as uncertain as they can be."""

from __future__ import annotations

import math

import torch
from torch import Tensor

SHARE = 0.5  # of the largest entropy, log C
_LOWEST, _HIGHEST, _HALVINGS = 1e-2, 1e4, 60


@torch.no_grad()
def mean_entropy(logits: Tensor, temperature: float) -> float:
    """Mean over images of the entropy of softmax(logits / T) in nats.

    Args:
        logits: (N, C).
        temperature: Softmax temperature T > 0.

    Example:
        >>> round(mean_entropy(torch.zeros(1, 2), 1.0), 4)
        0.6931
    """
    log_probs = (logits / temperature).log_softmax(dim=1)
    return -(log_probs.exp() * log_probs).sum(dim=1).mean().item()


def half_entropy_temperature(logits: Tensor) -> float:
    """The temperature at which the mean entropy is half of log C, to 1e-9 of its value.

    Entropy grows with the temperature, so there is one; it is searched by halving.

    Args:
        logits: (N, C) of a teacher for images as in evaluation.

    Raises:
        ValueError: If there is none between 0.01 and 10,000, as for a teacher that says the same of all classes.

    Example:
        >>> temperature = half_entropy_temperature(torch.tensor([[3.0, 0.0, 0.0], [0.0, 5.0, 1.0]]))
        >>> round(mean_entropy(torch.tensor([[3.0, 0.0, 0.0], [0.0, 5.0, 1.0]]).double(), temperature), 6)
        0.549306
    """
    logits = logits.double()
    wanted = SHARE * math.log(logits.shape[1])
    low, high = math.log(_LOWEST), math.log(_HIGHEST)
    if not mean_entropy(logits, _LOWEST) < wanted < mean_entropy(logits, _HIGHEST):
        raise ValueError(
            f"temperature is auto, but at no temperature from {_LOWEST:g} to {_HIGHEST:g} the teacher's mean entropy "
            f"on the training images is {wanted:.3f} nats, half of the largest; give a number, for example 4"
        )
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        low, high = (middle, high) if mean_entropy(logits, math.exp(middle)) < wanted else (low, middle)
    return math.exp((low + high) / 2)
