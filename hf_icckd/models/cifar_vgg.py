"""VGG for CIFAR in the geometry of the knowledge distillation literature.

The networks: Very Deep Convolutional Networks for Large-Scale Image Recognition. Karen Simonyan, Andrew Zisserman.
arXiv:1409.1556 (table 1, columns A, B, D, E).

VGG-8, batch norm and one linear layer as classifier: Contrastive Representation Distillation. Yonglong Tian, Dilip
Krishnan, Phillip Isola. arXiv:1910.10699.
"""

from __future__ import annotations

import itertools
import operator
from collections import OrderedDict
from collections.abc import Sequence
from typing import Any

from timm.layers import ConvNormAct, to_2tuple
from timm.models import build_model_with_cfg, generate_default_cfgs, register_model
from torch import nn

from hf_icckd.models._cifar import StagedNet, cifar_cfg, draw_weights, feature_cfg

__all__ = ["CifarVgg"]

WIDTHS = (64, 128, 256, 512, 512)
# From this size on the last stage is pooled too, so that its map has 4 x 4 pixels at 32 and at 64.
POOLED_SIZE = 64


class CifarVgg(StagedNet):
    """Five stages of 3x3 convolutions with batch norm, max-pools between them, and a linear classifier.

    Args:
        layers: Convolutions of each stage.
        num_classes: Number of classes, 0 for no classifier.
        in_chans: Channels of the images.
        img_size: Height and width that the net is made for: from 64 pixels on (Tiny ImageNet) there is a pool before
            the last stage, at 32 there is none. Its weights are the same.
        global_pool: Pooling of the last feature map, as timm names it.
        drop_rate: Dropout before the classifier.
    """

    def __init__(
        self,
        layers: Sequence[int],
        num_classes: int = 100,
        in_chans: int = 3,
        img_size: int | tuple[int, int] = 32,
        global_pool: str = "avg",
        drop_rate: float = 0.0,
    ) -> None:
        strides = (1, 2, 2, 2, 2 if min(to_2tuple(img_size)) >= POOLED_SIZE else 1)
        stages, channels = [], in_chans
        for stride, depth, width in zip(strides, layers, WIDTHS, strict=True):
            stages.append(_stage(channels, width, depth, stride))
            channels = width
        reductions = list(itertools.accumulate(strides, operator.mul))
        super().__init__(stages, WIDTHS, reductions, num_classes, global_pool, drop_rate)
        draw_weights(self)


def _stage(channels: int, width: int, depth: int, stride: int) -> nn.Sequential:
    inputs = [channels] + [width] * (depth - 1)
    convolutions = [(str(n), ConvNormAct(each, width, 3, bias=True)) for n, each in enumerate(inputs)]
    pool = [("pool", nn.MaxPool2d(stride))] if stride > 1 else []
    return nn.Sequential(OrderedDict([*pool, *convolutions]))


def _create(variant: str, pretrained: bool, **kwargs: Any) -> CifarVgg:
    return build_model_with_cfg(CifarVgg, variant, pretrained, feature_cfg=feature_cfg(5), **kwargs)


# A net for another size is another net, though its weights fit.
_cfg = cifar_cfg(first_conv="stages.0.0.conv", classifier="head.fc", pool_size=(4, 4), fixed_input_size=True)
default_cfgs = generate_default_cfgs({f"cifar_vgg{depth}": _cfg for depth in (8, 11, 13, 16, 19)})


@register_model
def cifar_vgg8(pretrained: bool = False, **kwargs: Any) -> CifarVgg:
    """VGG-8 with batch norm."""
    return _create("cifar_vgg8", pretrained, **{"layers": (1, 1, 1, 1, 1), **kwargs})


@register_model
def cifar_vgg11(pretrained: bool = False, **kwargs: Any) -> CifarVgg:
    """VGG-11 with batch norm."""
    return _create("cifar_vgg11", pretrained, **{"layers": (1, 1, 2, 2, 2), **kwargs})


@register_model
def cifar_vgg13(pretrained: bool = False, **kwargs: Any) -> CifarVgg:
    """VGG-13 with batch norm."""
    return _create("cifar_vgg13", pretrained, **{"layers": (2, 2, 2, 2, 2), **kwargs})


@register_model
def cifar_vgg16(pretrained: bool = False, **kwargs: Any) -> CifarVgg:
    """VGG-16 with batch norm."""
    return _create("cifar_vgg16", pretrained, **{"layers": (2, 2, 3, 3, 3), **kwargs})


@register_model
def cifar_vgg19(pretrained: bool = False, **kwargs: Any) -> CifarVgg:
    """VGG-19 with batch norm."""
    return _create("cifar_vgg19", pretrained, **{"layers": (2, 2, 4, 4, 4), **kwargs})
