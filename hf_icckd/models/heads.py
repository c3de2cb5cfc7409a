"""How logits and embeddings are read from the head of a timm net."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor, nn

from hf_icckd.models.moved import moved_copy

if TYPE_CHECKING:
    from hf_icckd.models.architectures import TimmNet


class Head(NamedTuple):
    """What the head of a net is.

    Attributes:
        embedding_dim: Length of the embeddings; None if there are none.
        single_layer: Whether the logits are one layer of timm's pre-logits. Otherwise the head runs as a whole.
    """

    embedding_dim: int | None
    single_layer: bool


def read_head(net: TimmNet, head: Head, features: Tensor) -> tuple[Tensor, Tensor | None]:
    """Logits (B, C) and embeddings (B, D) from what `forward_features` returned, in one pass of the head."""
    if head.single_layer:
        embeddings = net.forward_head(features, pre_logits=True)
        return net.get_classifier()(embeddings), embeddings
    if head.embedding_dim is None:
        return net.forward_head(features), None
    logits, embeddings = _with_inputs(net, features).split((net.num_classes, head.embedding_dim), dim=1)
    return logits, embeddings


@torch.no_grad()
def find_head(net: TimmNet, image_size: int) -> Head:
    """Find out how to read a net's head, on one image and with moved weights: new ones would hide a norm in the head.

    Raises:
        ValueError: If the net returns no (B, C) logits for such an image.
    """
    layers = _last_layers(net)
    last = {id(parameter) for layer in layers for parameter in layer.parameters()}
    keep = [weight for weight in net.parameters() if weight.ndim > 1 and id(weight) not in last]
    for layer in layers:
        if _append_input not in layer._forward_hooks.values():
            layer.register_forward_hook(_append_input)
    net = moved_copy(net, keep=keep).eval()
    weight = next(net.parameters())
    # Not zeros, which a new net maps to zeros throughout; not random, which would advance the generator.
    images = torch.linspace(-1, 1, 3 * image_size**2).view(1, 3, image_size, image_size).to(weight)
    features = net.forward_features(images)
    expected = net.forward_head(features)
    if not isinstance(expected, Tensor) or expected.shape != (1, net.num_classes):
        found = tuple(expected.shape) if isinstance(expected, Tensor) else type(expected).__name__
        raise ValueError(f"forward_head returns {found}, expected logits {(1, net.num_classes)}")
    if _is_single_layer(net, features, expected):
        return Head(net.forward_head(features, pre_logits=True).shape[1], single_layer=True)
    both = _with_inputs(net, features)
    fits = both.ndim == 2 and both.shape[1] > net.num_classes
    if fits and torch.equal(both[:, : net.num_classes], expected):
        return Head(both.shape[1] - net.num_classes, single_layer=False)
    return Head(None, single_layer=False)


def _is_single_layer(net: TimmNet, features: Tensor, expected: Tensor) -> bool:
    try:
        embeddings = net.forward_head(features, pre_logits=True)
        logits = net.get_classifier()(embeddings)
    except (RuntimeError, TypeError, AttributeError, AssertionError, ValueError):
        return False  # another kind of head
    return embeddings.ndim == 2 and torch.allclose(logits, expected, atol=1e-4, rtol=1e-3)


def _last_layers(net: TimmNet) -> list[nn.Module]:
    """The layers whose outputs are logits: one, or two in a distilled net."""
    found = net.get_classifier()
    heads = found if isinstance(found, (tuple, list)) else [found]
    layers = [layer for head in heads for layer in head.modules() if isinstance(layer, (nn.Linear, nn.Conv2d))]
    return [layer for layer in layers if layer.weight.shape[0] == net.num_classes]


class _Appending(threading.local):
    """Whether this thread's pass of a head returns the inputs of the last layers too."""

    on = False


_appending = _Appending()


def _append_input(layer: nn.Module, args: tuple[Tensor, ...], output: Tensor) -> Tensor | None:
    """Forward hook of the last layers: what pools or averages the logits does the same with their inputs."""
    if not _appending.on:
        return None
    return torch.cat([output, args[0]], dim=1 if isinstance(layer, nn.Conv2d) else -1)


def _with_inputs(net: TimmNet, features: Tensor) -> Tensor:
    """Run the head; returns (B, C + D), logits and inputs of the last layer, or of several their mean."""
    _appending.on = True
    try:
        return net.forward_head(features)
    finally:
        _appending.on = False
