"""MobileNetV2 at half width for CIFAR, in the geometry of the knowledge distillation literature.

The network: MobileNetV2: Inverted Residuals and Linear Bottlenecks. Mark Sandler, Andrew Howard, Menglong Zhu, Andrey
Zhmoginov, Liang-Chieh Chen. arXiv:1801.04381 (table 2).

Half width, strides for 32 pixels and ReLU: Contrastive Representation Distillation. Yonglong Tian, Dilip Krishnan,
Phillip Isola. arXiv:1910.10699.
"""

from __future__ import annotations

from typing import Any

from timm.models import build_model_with_cfg, generate_default_cfgs, register_model
from timm.models._efficientnet_builder import decode_arch_def
from timm.models.efficientnet import EfficientNet

from hf_icckd.models._cifar import cifar_cfg, draw_weights, feature_cfg

__all__ = ["CifarMobileNetV2"]

# Repeats, strides, expansions and half of the paper's channels, without timm's rounding to multiples of eight.
_STAGES = [
    ["ir_r1_k3_s1_e1_c8"],  # with expansion 1 the literature keeps the first 1x1 convolution
    ["ir_r2_k3_s1_e6_c12"],
    ["ir_r3_k3_s2_e6_c16"],
    ["ir_r4_k3_s2_e6_c32"],
    ["ir_r3_k3_s1_e6_c48"],
    ["ir_r3_k3_s2_e6_c80"],
    ["ir_r1_k3_s1_e6_c160"],
]


class CifarMobileNetV2(EfficientNet):
    """timm's EfficientNet with the blocks of MobileNetV2 at half width.

    Maps images `(batch, in_chans, height, width)` of any size to logits `(batch, num_classes)`.

    Args:
        **kwargs: Arguments of `timm.models.efficientnet.EfficientNet`, except those that make the geometry.
    """

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(decode_arch_def(_STAGES), stem_size=16, fix_stem=True, round_chs_fn=int, **kwargs)
        draw_weights(self)


_cfg = cifar_cfg(first_conv="conv_stem", classifier="classifier", pool_size=(2, 2))
default_cfgs = generate_default_cfgs({"cifar_mobilenetv2_half": _cfg})


@register_model
def cifar_mobilenetv2_half(pretrained: bool = False, **kwargs: Any) -> CifarMobileNetV2:
    """MobileNetV2 with half of its channels."""
    return build_model_with_cfg(
        CifarMobileNetV2, "cifar_mobilenetv2_half", pretrained, feature_cfg=feature_cfg(4), **kwargs
    )
