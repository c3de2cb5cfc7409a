"""ShuffleNets for CIFAR in the geometry of the knowledge distillation literature.

V1: ShuffleNet: An Extremely Efficient Convolutional Neural Network for Mobile Devices. Xiangyu Zhang, Xinyu Zhou,
Mengxiao Lin, Jian Sun. arXiv:1707.01083 (table 1, three groups).

V2: ShuffleNet V2: Practical Guidelines for Efficient CNN Architecture Design. Ningning Ma, Xiangyu Zhang, Hai-Tao
Zheng, Jian Sun. arXiv:1807.11164 (table 5, 1x).

A 1x1 stem without strides: Contrastive Representation Distillation. Yonglong Tian, Dilip Krishnan, Phillip Isola.
arXiv:1910.10699.
"""

from __future__ import annotations

from typing import Any

import torch
from timm.models import build_model_with_cfg, generate_default_cfgs, register_model
from torch import Tensor, nn
from torch.nn.functional import relu

from hf_icckd.models._cifar import StagedNet, cifar_cfg, feature_cfg

__all__ = ["CifarShuffleNetV1", "CifarShuffleNetV2"]

STEM = 24
REDUCTIONS = (1, 2, 4, 8)


class CifarShuffleNetV1(StagedNet):
    """A stem and three stages of residual blocks with grouped 1x1 convolutions, whose channels are shuffled.

    Args:
        num_classes: Number of classes, 0 for no classifier.
        in_chans: Channels of the images.
        global_pool: Pooling of the last feature map, as timm names it.
        drop_rate: Dropout before the classifier.
    """

    def __init__(
        self, num_classes: int = 100, in_chans: int = 3, global_pool: str = "avg", drop_rate: float = 0.0
    ) -> None:
        widths = (STEM, 240, 480, 960)
        stages = [_convolution(in_chans, STEM)]
        for channels, width, depth in zip(widths, widths[1:], (4, 8, 4), strict=False):
            first = ShuffleBlockV1(channels, width - channels, stride=2)
            stages.append(nn.Sequential(first, *(ShuffleBlockV1(width, width) for _ in range(depth - 1))))
        super().__init__(stages, widths, REDUCTIONS, num_classes, global_pool, drop_rate)


class CifarShuffleNetV2(StagedNet):
    """A stem, three stages whose blocks work on half of the channels each, and a 1x1 convolution.

    Args:
        num_classes: Number of classes, 0 for no classifier.
        in_chans: Channels of the images.
        global_pool: Pooling of the last feature map, as timm names it.
        drop_rate: Dropout before the classifier.
    """

    def __init__(
        self, num_classes: int = 100, in_chans: int = 3, global_pool: str = "avg", drop_rate: float = 0.0
    ) -> None:
        widths = (STEM, 116, 232, 464)
        stages = [_convolution(in_chans, STEM)]
        for channels, width, depth in zip(widths, widths[1:], (3, 7, 3), strict=False):
            stages.append(nn.Sequential(ShuffleDown(channels, width), *(ShuffleBlockV2(width) for _ in range(depth))))
        final = _convolution(widths[-1], 1024)
        super().__init__(stages, widths, REDUCTIONS, num_classes, global_pool, drop_rate, final, 1024)


class ShuffleBlockV1(nn.Module):
    """A residual block of V1; at stride 2 the pooled input is appended instead of added.

    Args:
        channels: Channels of the input.
        width: Channels of the branch's output.
        stride: 1 or 2.
    """

    def __init__(self, channels: int, width: int, stride: int = 1) -> None:
        super().__init__()
        middle = width // 4
        self.groups = 1 if channels == STEM else 3  # the stem has too few channels for groups
        self.conv1 = nn.Conv2d(channels, middle, 1, groups=self.groups, bias=False)
        self.bn1 = nn.BatchNorm2d(middle)
        self.conv2 = nn.Conv2d(middle, middle, 3, stride, padding=1, groups=middle, bias=False)
        self.bn2 = nn.BatchNorm2d(middle)
        self.conv3 = nn.Conv2d(middle, width, 1, groups=3, bias=False)
        self.bn3 = nn.BatchNorm2d(width)
        self.shortcut = nn.AvgPool2d(3, stride=2, padding=1) if stride == 2 else None

    def forward(self, x: Tensor) -> Tensor:
        """Map `(B, channels, H, W)` to the block's output."""
        out = shuffle(relu(self.bn1(self.conv1(x))), self.groups)
        out = relu(self.bn2(self.conv2(out)))
        out = self.bn3(self.conv3(out))
        return relu(out + x if self.shortcut is None else torch.cat([out, self.shortcut(x)], 1))


class ShuffleBlockV2(nn.Module):
    """A block of V2: half of the channels pass unchanged, then all are shuffled.

    Args:
        width: Channels of input and output.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        half = width // 2
        self.branch = nn.Sequential(_convolution(half, half), _depthwise(half), _convolution(half, half))

    def forward(self, x: Tensor) -> Tensor:
        """Map `(B, width, H, W)` to the same shape."""
        kept, used = x.chunk(2, 1)
        return shuffle(torch.cat([kept, self.branch(used)], 1), 2)


class ShuffleDown(nn.Module):
    """The first block of a stage of V2: two branches at stride 2, whose channels are shuffled.

    Args:
        channels: Channels of the input.
        width: Channels of the output.
    """

    def __init__(self, channels: int, width: int) -> None:
        super().__init__()
        half = width // 2
        self.left = nn.Sequential(_depthwise(channels, stride=2), _convolution(channels, half))
        self.right = nn.Sequential(_convolution(channels, half), _depthwise(half, stride=2), _convolution(half, half))

    def forward(self, x: Tensor) -> Tensor:
        """Map `(B, channels, H, W)` to `(B, width, H / 2, W / 2)`."""
        return shuffle(torch.cat([self.left(x), self.right(x)], 1), 2)


def shuffle(x: Tensor, groups: int) -> Tensor:
    """Interleave the channels of the groups."""
    batch, channels, height, width = x.shape
    return x.view(batch, groups, channels // groups, height, width).transpose(1, 2).reshape_as(x)


def _convolution(channels: int, width: int) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(channels, width, 1, bias=False), nn.BatchNorm2d(width), nn.ReLU(inplace=True))


def _depthwise(channels: int, stride: int = 1) -> nn.Sequential:
    convolution = nn.Conv2d(channels, channels, 3, stride, padding=1, groups=channels, bias=False)
    return nn.Sequential(convolution, nn.BatchNorm2d(channels))


default_cfgs = generate_default_cfgs(
    {
        name: cifar_cfg(first_conv="stages.0.0", classifier="head.fc", pool_size=(4, 4))
        for name in ("cifar_shufflenetv1", "cifar_shufflenetv2")
    }
)


@register_model
def cifar_shufflenetv1(pretrained: bool = False, **kwargs: Any) -> CifarShuffleNetV1:
    """ShuffleNetV1 with three groups."""
    return build_model_with_cfg(
        CifarShuffleNetV1, "cifar_shufflenetv1", pretrained, feature_cfg=feature_cfg(4), **kwargs
    )


@register_model
def cifar_shufflenetv2(pretrained: bool = False, **kwargs: Any) -> CifarShuffleNetV2:
    """ShuffleNetV2 1x."""
    return build_model_with_cfg(
        CifarShuffleNetV2, "cifar_shufflenetv2", pretrained, feature_cfg=feature_cfg(4), **kwargs
    )
