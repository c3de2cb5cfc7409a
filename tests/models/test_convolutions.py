"""Strided 1x1 convolutions of few channels never reach torch's strided kernel with channels_last on a CPU."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from hf_icckd import create_classifier
from hf_icckd.models.convolutions import guard_strided_convolutions


class Strides(TorchDispatchMode):
    """Notes the strides of all convolutions, forwards and backwards."""

    def __init__(self):
        super().__init__()
        self.seen = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        if func is torch.ops.aten.convolution.default:
            self.seen.append(("forward", tuple(args[3])))
        if func is torch.ops.aten.convolution_backward.default:
            self.seen.append(("backward", tuple(args[4])))
        return func(*args, **(kwargs or {}))


def passed(layer, images):
    images = images.detach().requires_grad_()
    with Strides() as strides:
        output = layer(images)
        output.square().sum().backward()
    return strides.seen, [output, images.grad, *(parameter.grad for parameter in layer.parameters())]


@pytest.mark.parametrize(("channels", "groups"), [(3, 1), (4, 2), (8, 8)])
def test_same_results_without_the_strided_kernel(channels, groups):
    torch.manual_seed(0)
    plain = nn.Conv2d(channels, 8, kernel_size=1, stride=(2, 3), groups=groups).double()
    guarded = copy.deepcopy(plain).to(memory_format=torch.channels_last)
    guard_strided_convolutions(guarded)
    guarded = copy.deepcopy(guarded)
    images = torch.randn(2, channels, 9, 12, dtype=torch.double)
    seen, results = passed(guarded, images.to(memory_format=torch.channels_last))
    assert seen == [("forward", (1, 1)), ("backward", (1, 1))]
    torch.testing.assert_close(results, passed(plain, images)[1])
    assert guarded.state_dict().keys() == plain.state_dict().keys()
    assert passed(guarded, images)[0][0] == ("forward", (2, 3))  # contiguous images are safe


@pytest.mark.parametrize("options", [{"kernel_size": 3}, {"stride": 1}, {"in_channels": 16}])
def test_other_layers_stay(options):
    layer = nn.Conv2d(**{"in_channels": 3, "out_channels": 4, "kernel_size": 1, "stride": 2} | options)
    guard_strided_convolutions(layer)
    assert type(layer) is nn.Conv2d


@pytest.mark.parametrize("architecture", ["repvgg_a0", "mobileone_s0"])
def test_stems_of_known_nets(architecture):
    net = create_classifier(architecture, ["a", "b"], image_size=64).net.to(memory_format=torch.channels_last)
    guard_strided_convolutions(net)
    at_risk = [m for m in net.modules() if isinstance(m, nn.Conv2d) and m.kernel_size == (1, 1) and m.in_channels == 3]
    assert at_risk and all(type(m) is not nn.Conv2d for m in at_risk)
