"""Common to the CIFAR networks: default configs, feature maps, and timm's interface for a plain sequence of stages."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from timm.layers import ClassifierHead
from timm.models import checkpoint_seq
from torch import Tensor, nn

CIFAR_MEAN = (0.5071, 0.4867, 0.4408)
CIFAR_STD = (0.2675, 0.2565, 0.2761)


def cifar_cfg(**kwargs: Any) -> dict[str, Any]:
    """Return timm's default config of a network for CIFAR-100 without published weights."""
    return {
        "url": "",
        "num_classes": 100,
        "input_size": (3, 32, 32),
        "pool_size": (8, 8),
        "fixed_input_size": False,
        "crop_pct": 1.0,
        "interpolation": "bilinear",
        "mean": CIFAR_MEAN,
        "std": CIFAR_STD,
        **kwargs,
    }


def resolve_taps(indices: int | Sequence[int] | None, count: int = 4) -> list[int]:
    """Return the feature maps asked for, as numbers 0 to count - 1: all for `None`, the last n for an integer n."""
    taps = range(count)
    if indices is None:
        return list(taps)
    if isinstance(indices, int):
        indices = range(-indices, 0)
    return [taps[i] for i in indices]


def correct_reductions(feature_info: list[dict[str, Any]]) -> None:
    """Correct the strides in place: timm assumes a stem of stride 4, but these networks have one of stride 1."""
    for info in feature_info:
        info["reduction"] = max(1, info["reduction"] // 4)


def draw_weights(net: nn.Module) -> None:
    """Draw convolutions from N(0, 2 / (k k out)) and the classifier from N(0, 0.01^2), as the literature's nets do."""
    for module in net.modules():
        if isinstance(module, nn.Conv2d):
            # Per group timm would draw wider: the literature counts all channels of a depthwise convolution.
            height, width = module.kernel_size
            nn.init.normal_(module.weight, std=(2 / (height * width * module.out_channels)) ** 0.5)
        elif isinstance(module, nn.Linear):
            nn.init.normal_(module.weight, std=0.01)
        if isinstance(module, (nn.Conv2d, nn.Linear)) and module.bias is not None:
            nn.init.zeros_(module.bias)


class Sections:
    """Feature maps of a net that is a sequence of modules, each of which ends in one, and a last layer after them."""

    def sections(self) -> list[nn.Module]:
        """The modules, in order."""
        raise NotImplementedError

    def last_layer(self) -> nn.Module:
        """What turns the last map into the final features."""
        raise NotImplementedError

    def forward_intermediates(
        self,
        x: Tensor,
        indices: int | Sequence[int] | None = None,
        norm: bool = False,
        stop_early: bool = False,
        output_fmt: str = "NCHW",
        intermediates_only: bool = False,
    ) -> list[Tensor] | tuple[Tensor, list[Tensor]]:
        """Run the network and return its feature maps too, before the last layer.

        Args:
            x: Images, `(batch, in_chans, height, width)`.
            indices: Maps to return out of 0 (stem) to n - 1 (last stage); an integer asks for the last ones, `None`
                for all.
            norm: Whether to apply the last layer to the last stage's map.
            stop_early: Whether to stop at the last map asked for.
            output_fmt: Must be `"NCHW"`.
            intermediates_only: Whether to return the list alone.

        Returns:
            The final features and the list of maps, each `(batch, num_chs, height / reduction, width / reduction)`.
        """
        if output_fmt != "NCHW":
            raise ValueError(f"output_fmt is {output_fmt!r}, expected 'NCHW'; leave it out")
        sections, last_layer = self.sections(), self.last_layer()
        taps = resolve_taps(indices, len(sections))
        ran = sections[: max(taps) + 1] if stop_early else sections
        maps = []
        for tap, section in enumerate(ran):
            x = section(x)
            if tap in taps:
                maps.append(last_layer(x) if norm and tap == len(sections) - 1 else x)
        if intermediates_only:
            return maps
        return last_layer(x) if len(ran) == len(sections) else x, maps


class StagedNet(Sections, nn.Module):
    """timm's interface for a net that is a sequence of stages, perhaps one more layer, and a linear classifier.

    Maps images `(batch, in_chans, height, width)` to logits `(batch, num_classes)`.

    Args:
        stages: The stages; what comes before the first stage counts as one.
        widths: Channels after each stage.
        reductions: Stride of each stage's map.
        num_classes: Number of classes, 0 for no classifier.
        global_pool: Pooling of the last feature map, as timm names it.
        drop_rate: Dropout before the classifier.
        final: Layer between the last stage and the pooling.
        num_features: Channels after it.
    """

    def __init__(
        self,
        stages: Sequence[nn.Module],
        widths: Sequence[int],
        reductions: Sequence[int],
        num_classes: int,
        global_pool: str,
        drop_rate: float,
        final: nn.Module | None = None,
        num_features: int | None = None,
    ) -> None:
        super().__init__()
        self.num_classes = num_classes
        self.num_features = self.head_hidden_size = num_features or widths[-1]
        self.grad_checkpointing = False
        self.stages = nn.Sequential(*stages)
        self.final = final or nn.Identity()
        self.feature_info = [
            {"num_chs": width, "reduction": reduction, "module": f"stages.{number}"}
            for number, (width, reduction) in enumerate(zip(widths, reductions, strict=True))
        ]
        self.head = ClassifierHead(self.num_features, num_classes, pool_type=global_pool, drop_rate=drop_rate)

    def sections(self) -> list[nn.Module]:
        """The stages."""
        return list(self.stages)

    def last_layer(self) -> nn.Module:
        """The layer after the stages."""
        return self.final

    def forward_features(self, x: Tensor) -> Tensor:
        """Final feature map, `(batch, num_features, height, width)`."""
        if self.grad_checkpointing and not torch.jit.is_scripting():
            return self.final(checkpoint_seq(self.stages, x))
        return self.final(self.stages(x))

    def forward_head(self, x: Tensor, pre_logits: bool = False) -> Tensor:
        """Logits of a final feature map, or its pooled embedding `(batch, num_features)`."""
        return self.head(x, pre_logits=pre_logits)

    def forward(self, x: Tensor) -> Tensor:
        """Logits of images."""
        return self.forward_head(self.forward_features(x))

    def get_classifier(self) -> nn.Module:
        """The linear classifier."""
        return self.head.fc

    def reset_classifier(self, num_classes: int, global_pool: str | None = None) -> None:
        """Replace the classifier by a new one; 0 classes remove it."""
        self.num_classes = num_classes
        self.head.reset(num_classes, global_pool)

    def set_grad_checkpointing(self, enable: bool = True) -> None:
        """Compute the stages again in the backward pass instead of keeping their activations."""
        self.grad_checkpointing = enable

    def group_matcher(self, coarse: bool = False) -> dict[str, Any]:
        """Patterns of parameter names, by depth: stages if coarse, else their blocks."""
        blocks = r"^stages\.(\d+)" if coarse else r"^stages\.(\d+)\.(\d+)"
        return {"stem": r"^stages\.0\.", "blocks": [(blocks, None), (r"^final", (99999,))]}

    def prune_intermediate_layers(
        self, indices: int | Sequence[int] = 1, prune_norm: bool = False, prune_head: bool = True
    ) -> list[int]:
        """Drop the layers that the given feature maps do not need; return the maps kept, counted from 0."""
        count = len(self.stages)
        taps = resolve_taps(indices, count)
        self.stages = self.stages[: max(taps) + 1]
        if prune_norm or len(self.stages) < count:
            self.final = nn.Identity()
        if prune_head:
            self.reset_classifier(0, "")
        return taps


def feature_cfg(count: int) -> dict[str, Any]:
    """timm's config of `features_only` for a net with this many maps."""
    return {"out_indices": tuple(range(count)), "flatten_sequential": True}
