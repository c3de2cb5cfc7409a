"""Weights of torchvision's classifiers, for the same nets in timm, whose tensors have other names."""

from __future__ import annotations

from collections import OrderedDict, defaultdict
from collections.abc import Mapping

import torchvision
from torch import Tensor, nn

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
# Nets that have another name there. Those with the same name need no line.
NAMES = {
    "mobilenetv2_100": "mobilenet_v2",
    "mobilenetv3_large_100": "mobilenet_v3_large",
    "mobilenetv3_small_100": "mobilenet_v3_small",
    "efficientnetv2_s": "efficientnet_v2_s",
    "efficientnetv2_m": "efficientnet_v2_m",
    "efficientnetv2_l": "efficientnet_v2_l",
    "mnasnet_050": "mnasnet0_5",
    "mnasnet_075": "mnasnet0_75",
    "mnasnet_100": "mnasnet1_0",
    "mnasnet_140": "mnasnet1_3",
    "swin_tiny_patch4_window7_224": "swin_t",
    "swin_small_patch4_window7_224": "swin_s",
    "swin_base_patch4_window7_224": "swin_b",
    "vit_base_patch16_224": "vit_b_16",
    "vit_base_patch32_224": "vit_b_32",
    "vit_large_patch16_224": "vit_l_16",
    "vit_large_patch32_224": "vit_l_32",
}


def torchvision_net(architecture: str, state: Mapping[str, Tensor]) -> nn.Module | None:
    """torchvision's net of this kind with these weights; None if it has none, or the weights are not its.

    Args:
        architecture: Name in timm's registry.
        state: Weights by name.
    """
    name = NAMES.get(architecture, architecture)
    if name not in torchvision.models.list_models(module=torchvision.models):
        return None
    net = torchvision.models.get_model(name, num_classes=rows_of_last(state))
    versioned = OrderedDict(state)
    versioned._metadata = net.state_dict()._metadata  # type: ignore[attr-defined]  # versions of layers
    try:
        net.load_state_dict(versioned)
    except RuntimeError:
        return None
    return net.eval()


def rows_of_last(state: Mapping[str, Tensor]) -> int:
    """Rows of the last tensor: in torchvision's nets the classes, as the classification layer comes last."""
    last = list(state.values())[-1]
    return last.shape[0] if last.ndim else 1


def rename_by_shape(state: Mapping[str, Tensor], expected: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Weights under other names: the n-th tensor of a shape is the n-th of that shape there.

    A linear layer and a 1x1 convolution count as one shape. Whether the result is right is for `same_logits` to say.

    Raises:
        ValueError: If there are more or fewer tensors of a shape.

    Example:
        >>> import torch
        >>> rename_by_shape({"a": torch.ones(2, 3)}, {"b": torch.zeros(2, 3, 1, 1)})["b"].shape
        torch.Size([2, 3, 1, 1])
    """
    waiting = defaultdict(list)
    for name, tensor in _weights(state).items():
        waiting[_size(tensor)].append((name, tensor))
    renamed = {}
    for name, tensor in _weights(expected).items():
        if not waiting[_size(tensor)]:
            raise ValueError(f"there are too few tensors of shape {tuple(tensor.shape)} for {name!r}")
        renamed[name] = waiting[_size(tensor)].pop(0)[1].reshape(tensor.shape)
    if left := [name for each in waiting.values() for name, _ in each]:
        raise ValueError(f"there are {len(left)} tensors too many, such as {left[0]!r}")
    return renamed


def _weights(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """All but counters and tables of indices, which nets compute by themselves."""
    return {name: tensor for name, tensor in state.items() if tensor.is_floating_point()}


def _size(tensor: Tensor) -> tuple[int, int]:
    return (tensor.shape[0] if tensor.ndim else 0, tensor.numel())
