"""The backbone of a classifier, apart from its classification layer: found, frozen and thawed."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import nn

from hf_icckd.models.classifier import ImageClassifier

if TYPE_CHECKING:
    from hf_icckd.models.architectures import TimmNet


def backbone_parameters(classifier: ImageClassifier) -> list[nn.Parameter]:
    """All parameters of a net but those of its classification layer, or of the two of a distilled net.

    Raises:
        ValueError: If there is no layer that could be trained by itself.

    Example:
        >>> from hf_icckd import create_classifier
        >>> model = create_classifier("cifar_resnet8", ["cat", "dog"], image_size=32)
        >>> len(list(model.net.parameters())) - len(backbone_parameters(model))
        2
    """
    head = {id(parameter) for layer in _classification_layers(classifier.net) for parameter in layer.parameters()}
    backbone = [parameter for parameter in classifier.net.parameters() if id(parameter) not in head]
    if not head or not backbone:
        raise ValueError(
            f"{classifier.spec.architecture} can't be frozen: timm names no classification layer that is apart from "
            "the rest; leave out --freeze_backbone and --freeze_epochs, or choose another net"
        )
    return backbone


def freeze(classifier: ImageClassifier) -> None:
    """Let a backbone keep its weights and its normalisation's statistics, also in training mode.

    Dropout and stochastic depth stay as they are.

    Raises:
        ValueError: As `backbone_parameters`.
    """
    backbone = backbone_parameters(classifier)
    for parameter in backbone:
        parameter.requires_grad = False
        parameter.grad = None
    head = {id(module) for layer in _classification_layers(classifier.net) for module in layer.modules()}
    classifier.fixed = [
        module for module in classifier.net.modules() if id(module) not in head and _has_statistics(module)
    ]
    classifier.train(classifier.training)


def thaw(classifier: ImageClassifier) -> None:
    """Undo `freeze`."""
    for parameter in backbone_parameters(classifier):
        parameter.requires_grad = True
    classifier.fixed = []
    classifier.train(classifier.training)


def _classification_layers(net: TimmNet) -> list[nn.Module]:
    """What timm calls the classifier, in the net and in its configuration; some have a second head there only."""
    if not hasattr(net, "get_classifier"):  # not timm's
        return []
    found = net.get_classifier()
    named = (getattr(net, "pretrained_cfg", None) or {}).get("classifier") or ()
    modules = dict(net.named_modules())
    layers = [
        *(found if isinstance(found, (tuple, list)) else [found]),
        *(modules.get(name) for name in ([named] if isinstance(named, str) else named)),
    ]
    return [layer for layer in layers if layer is not None]


def _has_statistics(module: nn.Module) -> bool:
    """Whether a layer averages over the batches that it sees in training, as BatchNorm does."""
    return any(name.startswith("running_") for name, _ in module.named_buffers(recurse=False))
