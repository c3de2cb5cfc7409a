"""CIFAR wide ResNets in the geometry of the knowledge distillation literature.

Wide Residual Networks. Sergey Zagoruyko, Nikos Komodakis. arXiv:1605.07146.
"""

from collections import OrderedDict
from collections.abc import Sequence
from typing import Any

from timm.layers import BatchNormAct2d, ClassifierHead, create_conv2d
from timm.models import build_model_with_cfg, generate_default_cfgs, register_model
from timm.models.resnetv2 import ResNetV2
from torch import nn

from hf_icckd.models._cifar import Sections, cifar_cfg, correct_reductions, feature_cfg, resolve_taps

__all__ = ["CifarWideResNet"]


class CifarWideResNet(Sections, ResNetV2):
    """timm's pre-activation ResNet with a 3x3 stem of stride 1, three stages of basic blocks and a linear head.

    Maps images `(batch, in_chans, height, width)` of any size to logits `(batch, num_classes)`.

    Args:
        depth: Number of layers with weights, 6 n + 4 for n blocks per stage.
        widen: Factor on the 16, 32 and 64 channels of the stages; the stem keeps 16.
        num_classes: Number of classes, 0 for no classifier.
        in_chans: Channels of the images.
        global_pool: Pooling of the last feature map, as timm names it.
        output_stride: Stride of the last feature map; below 4 the later stages are dilated instead.
        drop_rate: Dropout before the classifier (the paper's own dropout, inside the blocks, is not offered).
        zero_init_last: Whether the last convolution of each block starts at 0; in the literature it does not.
        **kwargs: Further arguments of `timm.models.resnetv2.ResNetV2`.
    """

    def __init__(
        self,
        depth: int,
        widen: int,
        num_classes: int = 100,
        in_chans: int = 3,
        global_pool: str = "avg",
        output_stride: int = 4,
        drop_rate: float = 0.0,
        zero_init_last: bool = False,
        **kwargs: Any,
    ) -> None:
        super().__init__(
            layers=[(depth - 4) // 6] * 3,
            channels=(16 * widen, 32 * widen, 64 * widen),
            num_classes=num_classes,
            in_chans=in_chans,
            global_pool=global_pool,
            output_stride=4 * output_stride,  # timm counts from a stem of stride 4
            drop_rate=drop_rate,
            stem_chs=16,
            basic=True,
            bottle_ratio=1.0,
            conv_layer=create_conv2d,
            norm_layer=BatchNormAct2d,
            **kwargs,
        )
        weight = next(self.parameters())
        stem = nn.Conv2d(in_chans, 16, kernel_size=3, padding=1, bias=False, device=weight.device, dtype=weight.dtype)
        self.stem = nn.Sequential(OrderedDict(conv=stem))
        # timm's own head is a 1x1 convolution; methods that read the classifier's weight expect a matrix.
        head = ClassifierHead(self.num_features, num_classes, pool_type=global_pool, drop_rate=drop_rate)
        self.head = head.to(device=weight.device, dtype=weight.dtype)
        correct_reductions(self.feature_info)
        self.init_weights(zero_init_last=zero_init_last)

    def init_weights(self, zero_init_last: bool = False) -> None:
        """Draw convolutions from N(0, 2 / (k k out)) and the classifier's weight as PyTorch does, with bias 0."""
        super().init_weights(zero_init_last=zero_init_last)
        if isinstance(self.head.fc, nn.Linear):
            self.head.fc.reset_parameters()  # timm draws it from N(0, 0.01^2)
            nn.init.zeros_(self.head.fc.bias)

    def sections(self) -> list[nn.Module]:
        """Stem and stages, each with its feature map before the next batch norm and ReLU."""
        return [self.stem, *self.stages]

    def last_layer(self) -> nn.Module:
        """Batch norm and ReLU after the last stage."""
        return self.norm

    def prune_intermediate_layers(
        self, indices: int | Sequence[int] = 1, prune_norm: bool = False, prune_head: bool = True
    ) -> list[int]:
        """Drop the layers that the given feature maps do not need; return the maps kept, as numbers 0 to 3."""
        return super().prune_intermediate_layers(resolve_taps(indices), prune_norm, prune_head)


def _create(variant: str, pretrained: bool, **kwargs: Any) -> CifarWideResNet:
    return build_model_with_cfg(CifarWideResNet, variant, pretrained, feature_cfg=feature_cfg(4), **kwargs)


_cfg = cifar_cfg(first_conv="stem.conv", classifier="head.fc")
default_cfgs = generate_default_cfgs({f"cifar_wrn_{size}": _cfg for size in ("16_1", "16_2", "40_1", "40_2")})


@register_model
def cifar_wrn_16_1(pretrained: bool = False, **kwargs: Any) -> CifarWideResNet:
    """WRN-16-1, 16 to 64 channels."""
    return _create("cifar_wrn_16_1", pretrained, **{"depth": 16, "widen": 1, **kwargs})


@register_model
def cifar_wrn_16_2(pretrained: bool = False, **kwargs: Any) -> CifarWideResNet:
    """WRN-16-2, 32 to 128 channels."""
    return _create("cifar_wrn_16_2", pretrained, **{"depth": 16, "widen": 2, **kwargs})


@register_model
def cifar_wrn_40_1(pretrained: bool = False, **kwargs: Any) -> CifarWideResNet:
    """WRN-40-1, 16 to 64 channels."""
    return _create("cifar_wrn_40_1", pretrained, **{"depth": 40, "widen": 1, **kwargs})


@register_model
def cifar_wrn_40_2(pretrained: bool = False, **kwargs: Any) -> CifarWideResNet:
    """WRN-40-2, 32 to 128 channels."""
    return _create("cifar_wrn_40_2", pretrained, **{"depth": 40, "widen": 2, **kwargs})
