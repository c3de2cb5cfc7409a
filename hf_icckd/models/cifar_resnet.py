"""CIFAR ResNets in the geometry of the knowledge distillation literature.

The networks: Deep Residual Learning for Image Recognition. Kaiming He, Xiangyu Zhang, Shaoqing Ren, Jian Sun.
arXiv:1512.03385 (section 4.2).

The "x4" widths and projection shortcuts: Contrastive Representation Distillation. Yonglong Tian, Dilip Krishnan,
Phillip Isola. arXiv:1910.10699.
"""

from collections.abc import Sequence
from typing import Any

from timm.models import build_model_with_cfg, generate_default_cfgs, register_model
from timm.models.resnet import BasicBlock, ResNet
from torch import Tensor, nn

from hf_icckd.models._cifar import cifar_cfg, correct_reductions, resolve_taps

__all__ = ["CifarResNet"]

NARROW = (16, 16, 32, 64)
WIDE = (32, 64, 128, 256)


class CifarResNet(ResNet):
    """timm's ResNet with a 3x3 stem of stride 1, no max-pool and three stages of basic blocks.

    Maps images `(batch, in_chans, height, width)` of any size to logits `(batch, num_classes)`.

    Args:
        depth: Number of layers with weights, 6 n + 2 for n blocks per stage.
        widths: Channels of the stem and of the three stages.
        in_chans: Channels of the images.
        output_stride: Stride of the last feature map, 4 or 2; at 2 the last stage is dilated instead.
        zero_init_last: Whether the last batch norm of each block starts at 0; in the literature it starts at 1.
        **kwargs: Further arguments of `timm.models.resnet.ResNet`.
    """

    def __init__(
        self,
        depth: int,
        widths: Sequence[int] = NARROW,
        in_chans: int = 3,
        output_stride: int = 4,
        zero_init_last: bool = False,
        **kwargs: Any,
    ) -> None:
        stem, *channels = widths
        super().__init__(
            BasicBlock,  # type: ignore[arg-type]  # timm's annotation means the class
            layers=((depth - 2) // 6,) * len(channels),
            channels=tuple(channels),
            in_chans=in_chans,
            output_stride=4 * output_stride,  # timm counts from a stem of stride 4
            stem_type="deep",  # the one kind of stem with a free width, which is twice `stem_width`
            stem_width=stem // 2,
            zero_init_last=zero_init_last,
            **kwargs,
        )
        weight = next(self.parameters())
        # timm annotates neither: mypy takes the deep stem and the pool that it happens to see for their types.
        self.conv1 = nn.Conv2d(  # type: ignore[assignment]
            in_chans, stem, kernel_size=3, padding=1, bias=False, device=weight.device, dtype=weight.dtype
        )
        self.maxpool = nn.Identity()  # type: ignore[assignment]
        self.layer4 = nn.Sequential()  # timm's forward spells out four stages
        correct_reductions(self.feature_info)
        self.init_weights(zero_init_last=zero_init_last)

    def forward_intermediates(
        self, x: Tensor, indices: int | Sequence[int] | None = None, *args: Any, **kwargs: Any
    ) -> list[Tensor] | tuple[Tensor, list[Tensor]]:
        """Run the network and return its feature maps too; further arguments go to timm's method of this name.

        Args:
            x: Images, `(batch, in_chans, height, width)`.
            indices: Maps to return out of 0 (stem) to 3 (last stage); an integer asks for the last n, `None` for all.

        Returns:
            The final features and the list of maps, each `(batch, num_chs, height / reduction, width / reduction)`
            with odd sizes rounded up; the list alone if `intermediates_only=True`.
        """
        # Resolved here: timm would count "the last n" and negative numbers from its fourth stage.
        return super().forward_intermediates(x, resolve_taps(indices), *args, **kwargs)

    def prune_intermediate_layers(
        self, indices: int | Sequence[int] = 1, prune_norm: bool = False, prune_head: bool = True
    ) -> list[int]:
        """Drop the layers that the given feature maps do not need; return the maps kept, as numbers 0 to 3."""
        taps = resolve_taps(indices)
        if not prune_head and max(taps) == 3:  # timm would miss its fourth stage and drop the head anyway
            return taps
        return super().prune_intermediate_layers(taps, prune_norm, prune_head)


def _create(variant: str, pretrained: bool, **kwargs: Any) -> CifarResNet:
    return build_model_with_cfg(CifarResNet, variant, pretrained, feature_cfg={"out_indices": (0, 1, 2, 3)}, **kwargs)


_cfg = cifar_cfg(first_conv="conv1", classifier="fc")
default_cfgs = generate_default_cfgs(
    {
        "cifar_resnet8": _cfg,
        "cifar_resnet20": _cfg,
        "cifar_resnet56": _cfg,
        "cifar_resnet8x4": _cfg,
        "cifar_resnet32x4": _cfg,
    }
)


@register_model
def cifar_resnet8(pretrained: bool = False, **kwargs: Any) -> CifarResNet:
    """ResNet-8, 16 to 64 channels."""
    return _create("cifar_resnet8", pretrained, **{"depth": 8, "widths": NARROW, **kwargs})


@register_model
def cifar_resnet20(pretrained: bool = False, **kwargs: Any) -> CifarResNet:
    """ResNet-20, 16 to 64 channels."""
    return _create("cifar_resnet20", pretrained, **{"depth": 20, "widths": NARROW, **kwargs})


@register_model
def cifar_resnet56(pretrained: bool = False, **kwargs: Any) -> CifarResNet:
    """ResNet-56, 16 to 64 channels."""
    return _create("cifar_resnet56", pretrained, **{"depth": 56, "widths": NARROW, **kwargs})


@register_model
def cifar_resnet8x4(pretrained: bool = False, **kwargs: Any) -> CifarResNet:
    """ResNet-8x4, 64 to 256 channels after a stem of 32."""
    return _create("cifar_resnet8x4", pretrained, **{"depth": 8, "widths": WIDE, **kwargs})


@register_model
def cifar_resnet32x4(pretrained: bool = False, **kwargs: Any) -> CifarResNet:
    """ResNet-32x4, 64 to 256 channels after a stem of 32."""
    return _create("cifar_resnet32x4", pretrained, **{"depth": 32, "widths": WIDE, **kwargs})
