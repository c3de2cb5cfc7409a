"""Nets of the distillation literature in plain torch, on weights in the names and shapes of their own repositories.

The names are those that RepDistiller and mdistiller save. Nothing here uses the package.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

WRN_STRIDES = RESNET_STRIDES = (1, 2, 2)
VGG_WIDTHS = (64, 128, 256, 512, 512)
VGG_DEPTHS = {8: (1, 1, 1, 1, 1), 11: (1, 1, 2, 2, 2), 13: (2,) * 5, 16: (2, 2, 3, 3, 3), 19: (2, 2, 4, 4, 4)}
MOBILE = [(1, 8, 1, 1), (6, 12, 2, 1), (6, 16, 3, 2), (6, 32, 4, 2), (6, 48, 3, 1), (6, 80, 3, 2), (6, 160, 1, 1)]


class Weights(dict[str, Tensor]):
    """Random weights that are made when a layer is first asked for, and say which were used."""

    def __init__(self, seed: int = 0) -> None:
        super().__init__()
        self.generator = torch.Generator().manual_seed(seed)

    def tensor(self, name: str, shape: tuple[int, ...], low: float, high: float) -> Tensor:
        if name not in self:
            self[name] = torch.rand(shape, generator=self.generator) * (high - low) + low
        assert self[name].shape == shape, name
        return self[name]

    def convolution(self, x: Tensor, name: str, width: int, kernel: int = 1, stride: int = 1, groups: int = 1,
                    bias: bool = False) -> Tensor:  # fmt: skip
        shape = (width, x.shape[1] // groups, kernel, kernel)
        bound = (6 / (shape[1] * kernel**2)) ** 0.5
        weight = self.tensor(f"{name}.weight", shape, -bound, bound)
        added = self.tensor(f"{name}.bias", (width,), -0.5, 0.5) if bias else None
        return F.conv2d(x, weight, added, stride, padding=kernel // 2, groups=groups)

    def norm(self, x: Tensor, name: str) -> Tensor:
        ranges = {"weight": (0.5, 1.5), "bias": (-0.3, 0.3), "running_mean": (-0.3, 0.3), "running_var": (0.5, 1.5)}
        gain, bias, mean, variance = (
            self.tensor(f"{name}.{each}", (x.shape[1],), *ends).view(-1, 1, 1) for each, ends in ranges.items()
        )
        self[f"{name}.num_batches_tracked"] = torch.tensor(7)
        return (x - mean) / torch.sqrt(variance + 1e-5) * gain + bias

    def classifier(self, x: Tensor, name: str, classes: int) -> Tensor:
        pooled = x.mean((2, 3))
        weight = self.tensor(f"{name}.weight", (classes, pooled.shape[1]), -0.3, 0.3)
        return pooled @ weight.T + self.tensor(f"{name}.bias", (classes,), -0.5, 0.5)


def resnet(x: Tensor, w: Weights, classes: int, depth: int, widths: tuple[int, ...]) -> Tensor:
    """He et al., section 4.2, with 1x1 convolutions where the shape changes."""
    x = w.norm(w.convolution(x, "conv1", widths[0], 3), "bn1").relu()
    for stage, (width, first) in enumerate(zip(widths[1:], RESNET_STRIDES, strict=True), 1):
        for block in range((depth - 2) // 6):
            name, stride = f"layer{stage}.{block}", first if block == 0 else 1
            y = w.norm(w.convolution(x, f"{name}.conv1", width, 3, stride), f"{name}.bn1").relu()
            y = w.norm(w.convolution(y, f"{name}.conv2", width, 3), f"{name}.bn2")
            if y.shape != x.shape:
                x = w.norm(w.convolution(x, f"{name}.downsample.0", width, 1, stride), f"{name}.downsample.1")
            x = (x + y).relu()
    return w.classifier(x, "fc", classes)


def resnet50(x: Tensor, w: Weights, classes: int) -> Tensor:
    """ResNet-50 with a 3x3 stem."""
    x = w.norm(w.convolution(x, "conv1", 64, 3), "bn1").relu()
    for stage, (width, blocks) in enumerate(zip((64, 128, 256, 512), (3, 4, 6, 3), strict=True), 1):
        for block in range(blocks):
            name, stride = f"layer{stage}.{block}", 2 if block == 0 and stage > 1 else 1
            y = w.norm(w.convolution(x, f"{name}.conv1", width), f"{name}.bn1").relu()
            y = w.norm(w.convolution(y, f"{name}.conv2", width, 3, stride), f"{name}.bn2").relu()
            y = w.norm(w.convolution(y, f"{name}.conv3", 4 * width), f"{name}.bn3")
            if block == 0:
                x = w.norm(w.convolution(x, f"{name}.shortcut.0", 4 * width, 1, stride), f"{name}.shortcut.1")
            x = (x + y).relu()
    return w.classifier(x, "linear", classes)


def wrn(x: Tensor, w: Weights, classes: int, depth: int, widen: int) -> Tensor:
    """Zagoruyko & Komodakis: where channels change, both branches start from BN-ReLU."""
    x = w.convolution(x, "conv1", 16, 3)
    for stage, (width, first) in enumerate(zip((16, 32, 64), WRN_STRIDES, strict=True), 1):
        for block in range((depth - 4) // 6):
            name, stride = f"block{stage}.layer.{block}", first if block == 0 else 1
            normed = w.norm(x, f"{name}.bn1").relu()
            y = w.convolution(normed, f"{name}.conv1", width * widen, 3, stride)
            y = w.convolution(w.norm(y, f"{name}.bn2").relu(), f"{name}.conv2", width * widen, 3)
            if x.shape[1] != y.shape[1]:
                x = w.convolution(normed, f"{name}.convShortcut", width * widen, 1, stride)
            x = x + y
    return w.classifier(w.norm(x, "bn1").relu(), "fc", classes)


def vgg(x: Tensor, w: Weights, classes: int, depth: int) -> Tensor:
    """Simonyan & Zisserman with batch norm; the fourth pool is for 64 pixels alone."""
    size = x.shape[-1]
    for stage, (width, layers) in enumerate(zip(VGG_WIDTHS, VGG_DEPTHS[depth], strict=True)):
        if 0 < stage < 4 or (stage == 4 and size == 64):
            x = F.max_pool2d(x, 2)
        for layer in range(layers):
            x = w.convolution(x, f"block{stage}.{3 * layer}", width, 3, bias=True)
            x = w.norm(x, f"block{stage}.{3 * layer + 1}").relu()
    return w.classifier(x, "classifier", classes)


def mobilenetv2_half(x: Tensor, w: Weights, classes: int) -> Tensor:
    """Sandler et al., half of the channels; every block has its first 1x1 convolution."""
    x = w.norm(w.convolution(x, "conv1.0", 16, 3, 2), "conv1.1").relu()
    for stage, (expansion, width, blocks, first) in enumerate(MOBILE):
        for block in range(blocks):
            name, inner = f"blocks.{stage}.{block}.conv", expansion * x.shape[1]
            y = w.norm(w.convolution(x, f"{name}.0", inner), f"{name}.1").relu()
            y = w.convolution(y, f"{name}.3", inner, 3, first if block == 0 else 1, groups=inner)
            y = w.norm(y, f"{name}.4").relu()
            y = w.norm(w.convolution(y, f"{name}.6", width), f"{name}.7")
            x = x + y if x.shape == y.shape else y
    x = w.norm(w.convolution(x, "conv2.0", 1280), "conv2.1").relu()
    return w.classifier(x, "classifier.0", classes)


def shuffled(x: Tensor, groups: int) -> Tensor:
    """Channel c of group g becomes channel c * groups + g."""
    size = x.shape[1] // groups
    return x[:, [group * size + channel for channel in range(size) for group in range(groups)]]


def shufflenetv1(x: Tensor, w: Weights, classes: int) -> Tensor:
    """Zhang et al., three groups."""
    x = w.norm(w.convolution(x, "conv1", 24), "bn1").relu()
    for stage, (width, blocks) in enumerate(zip((240, 480, 960), (4, 8, 4), strict=True), 1):
        for block in range(blocks):
            name, down = f"layer{stage}.{block}", block == 0
            out = width - x.shape[1] if down else width
            groups = 1 if x.shape[1] == 24 else 3
            y = w.norm(w.convolution(x, f"{name}.conv1", out // 4, groups=groups), f"{name}.bn1").relu()
            y = w.convolution(shuffled(y, groups), f"{name}.conv2", out // 4, 3, 2 if down else 1, groups=out // 4)
            y = w.norm(w.convolution(w.norm(y, f"{name}.bn2").relu(), f"{name}.conv3", out, groups=3), f"{name}.bn3")
            x = torch.cat([y, F.avg_pool2d(x, 3, 2, padding=1)], 1) if down else x + y
            x = x.relu()
    return w.classifier(x, "linear", classes)


def shufflenetv2(x: Tensor, w: Weights, classes: int) -> Tensor:
    """Ma et al., 1x."""
    x = w.norm(w.convolution(x, "conv1", 24), "bn1").relu()
    for stage, (width, blocks) in enumerate(zip((116, 232, 464), (3, 7, 3), strict=True), 1):
        half, name = width // 2, f"layer{stage}.0"
        left = w.norm(w.convolution(x, f"{name}.conv1", x.shape[1], 3, 2, groups=x.shape[1]), f"{name}.bn1")
        left = w.norm(w.convolution(left, f"{name}.conv2", half), f"{name}.bn2").relu()
        right = w.norm(w.convolution(x, f"{name}.conv3", half), f"{name}.bn3").relu()
        right = w.norm(w.convolution(right, f"{name}.conv4", half, 3, 2, groups=half), f"{name}.bn4")
        right = w.norm(w.convolution(right, f"{name}.conv5", half), f"{name}.bn5").relu()
        x = shuffled(torch.cat([left, right], 1), 2)
        for block in range(1, blocks + 1):
            name, kept, y = f"layer{stage}.{block}", x[:, :half], x[:, half:]
            y = w.norm(w.convolution(y, f"{name}.conv1", half), f"{name}.bn1").relu()
            y = w.norm(w.convolution(y, f"{name}.conv2", half, 3, groups=half), f"{name}.bn2")
            y = w.norm(w.convolution(y, f"{name}.conv3", half), f"{name}.bn3").relu()
            x = shuffled(torch.cat([kept, y], 1), 2)
    x = w.norm(w.convolution(x, "conv2", 1024), "bn2").relu()
    return w.classifier(x, "linear", classes)
