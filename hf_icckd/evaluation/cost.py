"""Cost of a net: parameters, floating-point operations, latency."""

from __future__ import annotations

import logging

import torch
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from hf_icckd.models.classifier import ImageClassifier
from hf_icckd.utils.machine import median_ms

logger = logging.getLogger(__name__)


@torch.no_grad()
def cost_metrics(model: ImageClassifier, repeats: int = 20) -> dict[str, float]:
    """Measure the cost of one image on the model's device.

    Returns:
        `parameters`, `flops` (a multiply-add counts as two; left out, with a note in the log, for a net that torch
        can't count) and `latency_ms` (see there).
    """
    training = model.training
    model.eval()
    device = model.scale.device  # a module of the user's may have no parameters
    size = model.spec.image_size
    image = torch.zeros(1, 3, size, size, dtype=torch.uint8, device=device)
    latency, flops = latency_ms(model, image, repeats), _flops(model, image)
    model.train(training)
    return {
        "parameters": sum(parameter.numel() for parameter in model.net.parameters()),
        **({} if flops is None else {"flops": flops}),
        "latency_ms": latency,
    }


def _flops(model: ImageClassifier, image: Tensor) -> int | None:
    """Floating-point operations of a forward pass; None if they can't be counted."""
    try:
        # Attention as plain matrix products: the counter knows fused attention on some devices only. With gradients,
        # or the counter fails on layers that take a parameter as their input.
        with torch.enable_grad(), sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
            model(image)
    except Exception as error:  # a finished training must not be lost for want of this number
        reason = " ".join(str(error).split())[:200]
        logger.warning("the FLOPs of %s can't be counted and are left out: %s", model.spec.architecture, reason)
        return None
    return counter.get_total_flops()


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
