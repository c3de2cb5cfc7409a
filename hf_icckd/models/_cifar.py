"""What the CIFAR networks have in common: a default config and four feature maps (stem and three stages)."""

from collections.abc import Sequence
from typing import Any

CIFAR_MEAN = (0.5071, 0.4867, 0.4408)
CIFAR_STD = (0.2675, 0.2565, 0.2761)


def cifar_cfg(**kwargs: Any) -> dict[str, Any]:
    """Returns timm's default config of a network that is trained on CIFAR-100 and has no published weights."""
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
    """Returns the feature maps asked for, as numbers 0 to 3: all for `None`, the last n for an integer n."""
    taps = range(4)
    if indices is None:
        return list(taps)
    if isinstance(indices, int):
        indices = range(-indices, 0)
    return [taps[i] for i in indices]


def mend_reductions(feature_info: list[dict[str, Any]]) -> None:
    """Sets the strides right in place: timm counts from a stem of stride 4, these networks' have stride 1."""
    for info in feature_info:
        info["reduction"] = max(1, info["reduction"] // 4)
