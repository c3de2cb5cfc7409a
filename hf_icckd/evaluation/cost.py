"""Cost of a net: parameters, floating-point operations, latency."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from hf_icckd.models.classifier import ImageClassifier
from hf_icckd.utils.machine import median_ms


@torch.no_grad()
def cost_metrics(model: ImageClassifier, repeats: int = 20) -> dict[str, float]:
    """Measure the cost of one image on the model's device.

    Returns:
        `parameters`, `flops` (a multiply-add counts as two) and `latency_ms` (see there).
    """
    training = model.training
    model.eval()
    device = next(model.parameters()).device
    size = model.spec.image_size
    image = torch.zeros(1, 3, size, size, dtype=torch.uint8, device=device)
    # Attention as plain matrix products: the counter knows fused attention on some devices only.
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        model(image)
    latency = latency_ms(model, image, repeats)
    model.train(training)
    return {
        "parameters": sum(parameter.numel() for parameter in model.net.parameters()),
        "flops": counter.get_total_flops(),
        "latency_ms": latency,
    }


@torch.no_grad()
def latency_ms(model: ImageClassifier, images: Tensor, repeats: int = 20) -> float:
    """Median time of a forward pass in milliseconds.

    Args:
        model: Classifier in evaluation mode.
        images: (B, 3, H, W) uint8 on its device.
        repeats: Timed passes, after a quarter as many to warm up.
    """

    def whole_pass() -> None:
        model(images)
        if images.device.type != "cpu":
            torch.accelerator.synchronize(images.device)

    return median_ms(whole_pass, repeats)
