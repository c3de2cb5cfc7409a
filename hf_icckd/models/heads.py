"""How logits and embeddings are read from the head of a timm net."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

import torch
from torch import Tensor, nn

from hf_icckd.models.moved import moved_copy

if TYPE_CHECKING:
    from hf_icckd.models.architectures import TimmNet

T = TypeVar("T")


class Head(NamedTuple):
    """What the head of a net is.

    Attributes:
        embedding_dim: Length of the embeddings; None if there are none.
        single_layer: Whether the logits are one layer of timm's pre-logits. Otherwise the head runs as a whole.
    """

    embedding_dim: int | None
    single_layer: bool


def read_head(net: TimmNet, head: Head, features: Tensor) -> tuple[Tensor, Tensor | None]:
    """Logits (B, C) and embeddings (B, D) from what `forward_features` returned, in one pass of the head.

    A net without a classification layer has logits of no class, (B, 0).
    """
    if net.num_classes == 0:
        embeddings = net.forward_head(features, pre_logits=True).flatten(1)
        return embeddings[:, :0], embeddings
    if head.single_layer:
        embeddings = net.forward_head(features, pre_logits=True)
        return net.get_classifier()(embeddings), embeddings
    return _run_head(net, features)


@torch.no_grad()
def find_head(net: TimmNet, image_size: int) -> Head:
    """Find out how to read a net's head, on one image and with moved weights: new ones would hide a norm in the head.

    Raises:
        ValueError: If the net returns no (B, C) logits for such an image.
    """
    if net.num_classes == 0:
        moved = moved_copy(net, keep=list(net.parameters())).eval()
        pooled = moved.forward_head(moved.forward_features(probe_image(moved, image_size)), pre_logits=True)
        return Head(pooled.flatten(1).shape[1], single_layer=False)
    last = {id(weight) for layer in _last_layers(net) for weight in layer.parameters()}
    large = [weight for weight in net.parameters() if weight.ndim > 1 and id(weight) not in last]
    moved = moved_copy(net, keep=large).eval()
    features = moved.forward_features(probe_image(moved, image_size))
    expected = moved.forward_head(features)
    if not isinstance(expected, Tensor) or expected.shape != (1, net.num_classes):
        found = tuple(expected.shape) if isinstance(expected, Tensor) else type(expected).__name__
        raise ValueError(f"forward_head returns {found}, expected logits {(1, net.num_classes)}")
    if _is_single_layer(moved, features, expected):
        return Head(moved.forward_head(features, pre_logits=True).shape[1], single_layer=True)
    for layer in _last_layers(net) + _last_layers(moved):
        keep_input(layer)
    embeddings = _run_head(moved, features)[1]
    return Head(None if embeddings is None else embeddings.shape[1], single_layer=False)


def probe_image(net: TimmNet, size: int) -> Tensor:
    """Not zeros, which a new net maps to zeros throughout; not random, which would advance the generator."""
    return torch.linspace(-1, 1, 3 * size**2).view(1, 3, size, size).to(next(net.parameters()))


def _is_single_layer(net: TimmNet, features: Tensor, expected: Tensor) -> bool:
    try:
        embeddings = net.forward_head(features, pre_logits=True)
        logits = net.get_classifier()(embeddings)
    except (RuntimeError, TypeError, AttributeError, AssertionError, ValueError, IndexError):
        return False  # another kind of head
    return embeddings.ndim == 2 and torch.allclose(logits, expected, atol=1e-4, rtol=1e-3)


def _last_layers(net: TimmNet) -> list[nn.Module]:
    """The layers whose outputs are logits: one, or two in a distilled net."""
    found = net.get_classifier()
    heads = found if isinstance(found, (tuple, list)) else [found]
    layers = [layer for head in heads for layer in head.modules() if isinstance(layer, (nn.Linear, nn.Conv2d))]
    return [layer for layer in layers if layer.weight.shape[0] == net.num_classes]


class _Reading(threading.local):
    """Layers and their inputs in this thread's pass; None outside of one."""

    inputs: list[tuple[nn.Module, Tensor]] | None = None


_reading = _Reading()


def keep_input(layer: nn.Module) -> None:
    """Let `run_with_inputs` return what a layer takes in."""
    if _keep_input not in layer._forward_pre_hooks.values():
        layer.register_forward_pre_hook(_keep_input)


def _keep_input(layer: nn.Module, args: tuple[Any, ...]) -> None:
    if _reading.inputs is not None:
        _reading.inputs.append((layer, args[0]))


def run_with_inputs(run: Callable[[], T]) -> tuple[T, list[tuple[nn.Module, Tensor]]]:
    """What a function returns, and the layers it ran whose input is kept, each with its input.

    The function may itself read the inputs of a net in this way: they are then among those that are returned here.
    """
    outer = _reading.inputs
    own: list[tuple[nn.Module, Tensor]] = []
    _reading.inputs = own
    try:
        return run(), own
    finally:
        if outer is not None:
            outer += own
        _reading.inputs = outer


def _pooled(layer: nn.Module, inputs: Tensor) -> Tensor:
    """(B, D) from an input with further dimensions, by the mean over them."""
    channels = 1 if isinstance(layer, nn.Conv2d) else -1
    return inputs if inputs.ndim == 2 else inputs.movedim(channels, -1).flatten(1, -2).mean(dim=1)


def _run_head(net: TimmNet, features: Tensor) -> tuple[Tensor, Tensor | None]:
    """Logits, and what the last layers read: the mean, as timm averages logits, or side by side if lengths differ."""
    logits, read = run_with_inputs(lambda: net.forward_head(features))
    inputs = [_pooled(layer, each) for layer, each in read]
    if len(inputs) < 2:
        return logits, inputs[0] if inputs else None
    if any(each.shape[1] != inputs[0].shape[1] for each in inputs):
        return logits, torch.cat(inputs, dim=1)
    return logits, torch.stack(inputs).mean(dim=0)
