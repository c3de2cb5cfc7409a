"""A way round a fault of torch: strided 1x1 convolutions of few channels."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

_FEW = 16  # 3 and 4 are known to crash; kernels work on up to 16 channels at a time


def guard_strided_convolutions(module: nn.Module) -> None:
    """Compute strided 1x1 convolutions of few channels without torch's strided kernel, in place.

    On a CPU with channels_last, the weight gradient of such a layer writes outside its memory: the process may crash
    (seen with the stems of fastvit, repvgg and mobileone). Weights, their names and results stay the same.
    """
    for layer in module.modules():
        if type(layer) is nn.Conv2d and _is_at_risk(layer):
            layer.__class__ = _SlicingConv2d


def _is_at_risk(layer: nn.Conv2d) -> bool:
    return (
        layer.kernel_size == (1, 1)
        and max(layer.stride) > 1
        and layer.padding == (0, 0)
        and layer.in_channels // layer.groups < _FEW
    )


class _SlicingConv2d(nn.Conv2d):
    """A strided 1x1 convolution that leaves out rows and columns first, where torch's own kernel is at fault."""

    def _conv_forward(self, input: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        channels_last = input.is_contiguous(memory_format=torch.channels_last) and not input.is_contiguous()
        if input.device.type != "cpu" or not channels_last:
            return super()._conv_forward(input, weight, bias)
        rows, columns = self.stride
        return F.conv2d(input[..., ::rows, ::columns], weight, bias, groups=self.groups)
