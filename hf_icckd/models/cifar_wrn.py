"""CIFAR wide ResNets in the geometry of the knowledge distillation literature.

Wide Residual Networks. Sergey Zagoruyko, Nikos Komodakis. arXiv:1605.07146.
"""

from collections import OrderedDict
from collections.abc import Sequence
from typing import Any

from timm.layers import BatchNormAct2d, ClassifierHead, create_conv2d
from timm.models import build_model_with_cfg, generate_default_cfgs, register_model
from timm.models.resnetv2 import ResNetV2
from torch import Tensor, nn

from hf_icckd.models._cifar import cifar_cfg, correct_reductions, resolve_taps

__all__ = ["CifarWideResNet"]


class CifarWideResNet(ResNetV2):
    """timm's pre-activation ResNet with a 3x3 stem of stride 1, three stages of basic blocks and a linear head.

    Maps images `(batch, in_chans, height, width)` of any size to logits `(batch, num_classes)`.

    Args:
        depth: Number of layers with weights, 6 n + 4 for n blocks per stage.
        widen: Factor on the 16, 32 and 64 channels of the stages; the stem keeps 16.
        num_classes: Number of classes, 0 for no classifier.
        in_chans: Channels of the images.
        global_pool: Pooling of the last feature map, as timm names it.
        output_stride: Stride of the last feature map; below 4 the later stages are dilated instead.
        drop_rate: Dropout before the classifier (the paper's own dropout, inside the blocks, is not offered).
        zero_init_last: Whether the last convolution of each block starts at 0; in the literature it does not.
        **kwargs: Further arguments of `timm.models.resnetv2.ResNetV2`.
    """

    def __init__(
        self,
        depth: int,
        widen: int,
        num_classes: int = 100,
        in_chans: int = 3,
        global_pool: str = "avg",
        output_stride: int = 4,
        drop_rate: float = 0.0,
        zero_init_last: bool = False,
        **kwargs: Any,
    ) -> None:
        super().__init__(
            layers=[(depth - 4) // 6] * 3,
            channels=(16 * widen, 32 * widen, 64 * widen),
            num_classes=num_classes,
            in_chans=in_chans,
            global_pool=global_pool,
            output_stride=4 * output_stride,  # timm counts from a stem of stride 4
            drop_rate=drop_rate,
            stem_chs=16,
            basic=True,
            bottle_ratio=1.0,
            conv_layer=create_conv2d,
            norm_layer=BatchNormAct2d,
            **kwargs,
        )
        weight = next(self.parameters())
        stem = nn.Conv2d(in_chans, 16, kernel_size=3, padding=1, bias=False, device=weight.device, dtype=weight.dtype)
        self.stem = nn.Sequential(OrderedDict(conv=stem))
        # timm's own head is a 1x1 convolution; methods that read the classifier's weight expect a matrix.
        head = ClassifierHead(self.num_features, num_classes, pool_type=global_pool, drop_rate=drop_rate)
        self.head = head.to(device=weight.device, dtype=weight.dtype)
        correct_reductions(self.feature_info)
        self.init_weights(zero_init_last=zero_init_last)

    def init_weights(self, zero_init_last: bool = False) -> None:
        """Draw convolutions from N(0, 2 / (k k out)) and the classifier's weight as PyTorch does, with bias 0."""
        super().init_weights(zero_init_last=zero_init_last)
        if isinstance(self.head.fc, nn.Linear):
            self.head.fc.reset_parameters()  # timm draws it from N(0, 0.01^2)
            nn.init.zeros_(self.head.fc.bias)

    def forward_intermediates(
        self,
        x: Tensor,
        indices: int | Sequence[int] | None = None,
        norm: bool = False,
        stop_early: bool = False,
        output_fmt: str = "NCHW",
        intermediates_only: bool = False,
    ) -> list[Tensor] | tuple[Tensor, list[Tensor]]:
        """Run the network and return its feature maps too, before the next batch norm and ReLU.

        Written out here because older releases of timm look for a stem of stride 2.

        Args:
            x: Images, `(batch, in_chans, height, width)`.
            indices: Maps to return out of 0 (stem) to 3 (last stage); an integer asks for the last n, `None` for all.
            norm: Whether to apply the final batch norm and ReLU to the last stage's map.
            stop_early: Whether to stop at the last map asked for.
            output_fmt: Must be `"NCHW"`.
            intermediates_only: Whether to return the list alone.

        Returns:
            The final features and the list of maps, each `(batch, num_chs, height / reduction, width / reduction)`
            with odd sizes rounded up.
        """
        if output_fmt != "NCHW":
            raise ValueError(f"output_fmt is {output_fmt!r}, expected 'NCHW'; leave it out")
        taps = resolve_taps(indices)
        sections = [self.stem, *self.stages]
        if stop_early:
            sections = sections[: max(taps) + 1]
        maps = []
        for tap, section in enumerate(sections):
            x = section(x)
            if tap in taps:
                maps.append(self.norm(x) if norm and tap == 3 else x)
        if intermediates_only:
            return maps
        return self.norm(x) if len(sections) == 4 else x, maps

    def prune_intermediate_layers(
        self, indices: int | Sequence[int] = 1, prune_norm: bool = False, prune_head: bool = True
    ) -> list[int]:
        """Drop the layers that the given feature maps do not need; return the maps kept, as numbers 0 to 3."""
        return super().prune_intermediate_layers(resolve_taps(indices), prune_norm, prune_head)


def _create(variant: str, pretrained: bool, **kwargs: Any) -> CifarWideResNet:
    feature_cfg = {"out_indices": (0, 1, 2, 3), "flatten_sequential": True}
    return build_model_with_cfg(CifarWideResNet, variant, pretrained, feature_cfg=feature_cfg, **kwargs)


_cfg = cifar_cfg(first_conv="stem.conv", classifier="head.fc")
default_cfgs = generate_default_cfgs({"cifar_wrn_16_2": _cfg, "cifar_wrn_40_2": _cfg})


@register_model
def cifar_wrn_16_2(pretrained: bool = False, **kwargs: Any) -> CifarWideResNet:
    """WRN-16-2, 32 to 128 channels."""
    return _create("cifar_wrn_16_2", pretrained, **{"depth": 16, "widen": 2, **kwargs})


@register_model
def cifar_wrn_40_2(pretrained: bool = False, **kwargs: Any) -> CifarWideResNet:
    """WRN-40-2, 32 to 128 channels."""
    return _create("cifar_wrn_40_2", pretrained, **{"depth": 40, "widen": 2, **kwargs})
