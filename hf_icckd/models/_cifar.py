"""Common to the CIFAR networks: a default config and four feature maps (stem and three stages)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

CIFAR_MEAN = (0.5071, 0.4867, 0.4408)
CIFAR_STD = (0.2675, 0.2565, 0.2761)


def cifar_cfg(**kwargs: Any) -> dict[str, Any]:
    """Return timm's default config of a network for CIFAR-100 without published weights."""
    return {
        "url": "",
        "num_classes": 100,
        "input_size": (3, 32, 32),
        "pool_size": (8, 8),
        "fixed_input_size": False,
        "crop_pct": 1.0,
        "interpolation": "bilinear",
        "mean": CIFAR_MEAN,
        "std": CIFAR_STD,
        **kwargs,
    }


def resolve_taps(indices: int | Sequence[int] | None) -> list[int]:
    """Return the feature maps asked for, as numbers 0 to 3: all for `None`, the last n for an integer n."""
    taps = range(4)
    if indices is None:
        return list(taps)
    if isinstance(indices, int):
        indices = range(-indices, 0)
    return [taps[i] for i in indices]


def correct_reductions(feature_info: list[dict[str, Any]]) -> None:
    """Correct the strides in place: timm assumes a stem of stride 4, but these networks have one of stride 1."""
    for info in feature_info:
        info["reduction"] = max(1, info["reduction"] // 4)
