"""Architectures of timm's registry: their common interface, their names and default configurations."""

from __future__ import annotations

import difflib
import functools
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import timm
import torch
from timm.models import PretrainedCfg, get_deprecated_models, get_pretrained_cfg, is_model
from torch import Tensor, nn

if TYPE_CHECKING:
    from hf_icckd.models.outputs import ClassifierOutput

    class TimmNet(nn.Module):
        """Interface of every timm net; the last two lines stand for nets that are not timm's."""

        num_classes: int
        pretrained_cfg: dict[str, Any]

        def forward_features(self, images: Tensor) -> Tensor: ...
        def forward_head(self, features: Tensor, pre_logits: bool = False) -> Tensor: ...
        def forward_intermediates(self, images: Tensor) -> tuple[Tensor, list[Tensor]]: ...
        def get_classifier(self) -> nn.Module: ...
        def reset_classifier(self, num_classes: int) -> None: ...

        embedding_dim: int | None

        def classifier_outputs(self, images: Tensor, feature_maps: bool) -> ClassifierOutput: ...


def check_architecture(architecture: str) -> None:
    """Raise ValueError, with a suggestion, unless timm has this architecture and weights with its tag."""
    base, _, tag = architecture.partition(".")
    old = get_deprecated_models()
    if base in old:
        hint = f"it is called {old[base]!r} now" if old[base] else "it has no successor; choose another"
        raise ValueError(f"timm no longer has a model {base!r}: {hint}")
    if is_model(base) and tag and architecture not in timm.list_models(f"{base}.*", pretrained=True):
        known = [name.partition(".")[2] for name in timm.list_models(f"{base}.*", pretrained=True)]
        raise ValueError(f"unknown weights {tag!r} of {base!r}, expected one of: {', '.join(known)}")
    if not is_model(base):
        close = difflib.get_close_matches(architecture, timm.list_models(), n=3)
        hint = f"; did you mean {' or '.join(close)}?" if close else "; `timm.list_models()` lists them"
        raise ValueError(f"unknown model {architecture!r}, expected an architecture of timm's registry{hint}")


def default_cfg(architecture: str) -> PretrainedCfg:
    """Return timm's default configuration of an architecture."""
    cfg = get_pretrained_cfg(architecture)
    if cfg is None:
        raise ValueError(f"timm has no default configuration of {architecture!r}; choose another architecture")
    return cfg


def has_pretrained(architecture: str) -> bool:
    """Whether timm has pretrained weights of an architecture."""
    cfg = default_cfg(architecture)
    return bool(cfg.has_weights if hasattr(cfg, "has_weights") else cfg.url or cfg.hf_hub_id)


def switched_args(architecture: str, pretrained: bool) -> dict[str, Any]:
    """Arguments of `timm.create_model` whose default depends on its `pretrained`, with their values.

    timm reads a folder with `pretrained=True` and transformers with False. With these arguments both build one net.
    """
    eps = [_norm_eps(architecture, switch) for switch in (False, True)]
    return {} if eps[0] == eps[1] else {"bn_eps": eps[pretrained]}


def check_drop_args(architecture: str, options: Mapping[str, Any]) -> None:
    """Raise ValueError if a net does not take an argument of dropout that is among the options of its builder."""
    for name, option in (("drop_path_rate", "drop_path"), ("drop_rate", "drop_rate")):
        if name not in options:
            continue
        try:
            meta_net(architecture, **{name: options[name]})
        except TypeError as error:
            raise ValueError(
                f"{option} is {options[name]} but {architecture} has no {name} in timm; leave out --{option}"
            ) from error


@functools.cache
def is_transformer_like(architecture: str) -> bool:
    """Whether a net has attention or layer normalisation. The papers of such nets train them with AdamW, not SGD.

    Example:
        >>> [is_transformer_like(name) for name in ("resnet18", "test_vit", "convnext_atto", "levit_128s")]
        [False, True, True, True]
    """
    check_architecture(architecture)
    kinds = {kind.__name__ for module in meta_net(architecture).modules() for kind in type(module).__mro__}
    return any("Attention" in kind or "LayerNorm" in kind or "RmsNorm" in kind for kind in kinds)


def meta_net(architecture: str, **options: Any) -> nn.Module:
    """A net without values, and none of the global generator's numbers taken."""
    with torch.random.fork_rng(devices=[]):
        try:
            with torch.device("meta"):
                return _built(architecture, **options)
        except NotImplementedError:  # an older torch can't compute everything without values
            return _built(architecture, **options)


def norm_eps(net: nn.Module) -> float | None:
    """Epsilon of all BatchNorm layers; None if there are none, or it isn't the same in all."""
    values = {layer.eps for layer in net.modules() if isinstance(layer, nn.BatchNorm2d)}
    return values.pop() if len(values) == 1 else None


@functools.cache
def _norm_eps(architecture: str, pretrained: bool) -> float | None:
    return norm_eps(meta_net(architecture, pretrained=pretrained))


def _built(architecture: str, pretrained: bool = False, **options: Any) -> nn.Module:
    net = timm.create_model(architecture, num_classes=2, **options)
    if not pretrained:
        return net
    weights = {"state_dict": net.state_dict(), "label_offset": 0}  # in place of those that timm would fetch
    return timm.create_model(architecture, pretrained=True, num_classes=2, pretrained_cfg_overlay=weights)
