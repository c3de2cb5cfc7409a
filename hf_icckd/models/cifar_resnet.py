"""CIFAR ResNets in the geometry of the knowledge distillation literature.

The networks: Deep Residual Learning for Image Recognition. Kaiming He, Xiangyu Zhang, Shaoqing Ren, Jian Sun.
arXiv:1512.03385 (section 4.2).

The "x4" widths and projection shortcuts: Contrastive Representation Distillation. Yonglong Tian, Dilip Krishnan,
Phillip Isola. arXiv:1910.10699. ResNet-50 with a stem for small images is from there too.
"""

from collections.abc import Sequence
from typing import Any

from timm.models import build_model_with_cfg, generate_default_cfgs, register_model
from timm.models.resnet import BasicBlock, Bottleneck, ResNet
from torch import Tensor, nn

from hf_icckd.models._cifar import cifar_cfg, correct_reductions, resolve_taps

__all__ = ["CifarResNet"]

NARROW = (16, 16, 32, 64)
WIDE = (32, 64, 128, 256)


class CifarResNet(ResNet):
    """timm's ResNet with a 3x3 stem of stride 1 and no max-pool.

    Maps images `(batch, in_chans, height, width)` of any size to logits `(batch, num_classes)`.

    Args:
        layers: Number of blocks in each of the three or four stages.
        widths: Channels of the stem, and of the 3x3 convolutions in each stage.
        block: Kind of block.
        in_chans: Channels of the images.
        output_stride: Stride of the last feature map, at most 4 with three stages and 8 with four; below that the
            later stages are dilated instead.
        zero_init_last: Whether the last batch norm of each block starts at 0; in the literature it starts at 1.
        **kwargs: Further arguments of `timm.models.resnet.ResNet`.
    """

    def __init__(
        self,
        layers: Sequence[int],
        widths: Sequence[int] = NARROW,
        block: type[nn.Module] = BasicBlock,
        in_chans: int = 3,
        output_stride: int | None = None,
        zero_init_last: bool = False,
        **kwargs: Any,
    ) -> None:
        stem, *channels = widths
        super().__init__(
            block,  # type: ignore[arg-type]  # timm's annotation means the class
            layers=tuple(layers),
            channels=tuple(channels),
            in_chans=in_chans,
            output_stride=4 * (output_stride or 2 ** (len(channels) - 1)),  # timm counts from a stem of stride 4
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
        if len(channels) == 3:
            self.layer4 = nn.Sequential()  # timm's forward spells out four stages
        correct_reductions(self.feature_info)
        self.init_weights(zero_init_last=zero_init_last)

    def forward_intermediates(
        self, x: Tensor, indices: int | Sequence[int] | None = None, *args: Any, **kwargs: Any
    ) -> list[Tensor] | tuple[Tensor, list[Tensor]]:
        """Run the network and return its feature maps too; further arguments go to timm's method of this name.

        Args:
            x: Images, `(batch, in_chans, height, width)`.
            indices: Maps to return out of 0 (stem) to the number of stages; an integer asks for the last n, `None` for
                all.

        Returns:
            The final features and the list of maps, each `(batch, num_chs, height / reduction, width / reduction)`
            with odd sizes rounded up; the list alone if `intermediates_only=True`.
        """
        # Resolved here: timm would count "the last n" and negative numbers from its fourth stage.
        return super().forward_intermediates(x, resolve_taps(indices, len(self.feature_info)), *args, **kwargs)

    def prune_intermediate_layers(
        self, indices: int | Sequence[int] = 1, prune_norm: bool = False, prune_head: bool = True
    ) -> list[int]:
        """Drop the layers that the given feature maps do not need; return the maps kept, counted from 0."""
        taps = resolve_taps(indices, last := len(self.feature_info))
        if not prune_head and max(taps) == last - 1:  # timm would miss its fourth stage and drop the head anyway
            return taps
        return super().prune_intermediate_layers(taps, prune_norm, prune_head)


def _create(variant: str, pretrained: bool, depth: int, widths: Sequence[int], **kwargs: Any) -> CifarResNet:
    options = {"layers": ((depth - 2) // 6,) * 3, "widths": widths, **kwargs}
    return build_model_with_cfg(CifarResNet, variant, pretrained, feature_cfg={"out_indices": (0, 1, 2, 3)}, **options)


_cfg = cifar_cfg(first_conv="conv1", classifier="fc")
_SIZES = ("8", "14", "20", "32", "44", "56", "110", "8x4", "32x4")
default_cfgs = generate_default_cfgs(
    {
        **{f"cifar_resnet{size}": _cfg for size in _SIZES},
        "cifar_resnet50": cifar_cfg(first_conv="conv1", classifier="fc", pool_size=(4, 4)),
    }
)


@register_model
def cifar_resnet8(pretrained: bool = False, **kwargs: Any) -> CifarResNet:
    """ResNet-8, 16 to 64 channels."""
    return _create("cifar_resnet8", pretrained, 8, NARROW, **kwargs)


@register_model
def cifar_resnet14(pretrained: bool = False, **kwargs: Any) -> CifarResNet:
    """ResNet-14, 16 to 64 channels."""
    return _create("cifar_resnet14", pretrained, 14, NARROW, **kwargs)


@register_model
def cifar_resnet20(pretrained: bool = False, **kwargs: Any) -> CifarResNet:
    """ResNet-20, 16 to 64 channels."""
    return _create("cifar_resnet20", pretrained, 20, NARROW, **kwargs)


@register_model
def cifar_resnet32(pretrained: bool = False, **kwargs: Any) -> CifarResNet:
    """ResNet-32, 16 to 64 channels."""
    return _create("cifar_resnet32", pretrained, 32, NARROW, **kwargs)


@register_model
def cifar_resnet44(pretrained: bool = False, **kwargs: Any) -> CifarResNet:
    """ResNet-44, 16 to 64 channels."""
    return _create("cifar_resnet44", pretrained, 44, NARROW, **kwargs)


@register_model
def cifar_resnet56(pretrained: bool = False, **kwargs: Any) -> CifarResNet:
    """ResNet-56, 16 to 64 channels."""
    return _create("cifar_resnet56", pretrained, 56, NARROW, **kwargs)


@register_model
def cifar_resnet110(pretrained: bool = False, **kwargs: Any) -> CifarResNet:
    """ResNet-110, 16 to 64 channels."""
    return _create("cifar_resnet110", pretrained, 110, NARROW, **kwargs)


@register_model
def cifar_resnet8x4(pretrained: bool = False, **kwargs: Any) -> CifarResNet:
    """ResNet-8x4, 64 to 256 channels after a stem of 32."""
    return _create("cifar_resnet8x4", pretrained, 8, WIDE, **kwargs)


@register_model
def cifar_resnet32x4(pretrained: bool = False, **kwargs: Any) -> CifarResNet:
    """ResNet-32x4, 64 to 256 channels after a stem of 32."""
    return _create("cifar_resnet32x4", pretrained, 32, WIDE, **kwargs)


@register_model
def cifar_resnet50(pretrained: bool = False, **kwargs: Any) -> CifarResNet:
    """ResNet-50 of ImageNet with a stem for small images, 256 to 2,048 channels."""
    options = {"layers": (3, 4, 6, 3), "widths": (64, 64, 128, 256, 512), "block": Bottleneck, **kwargs}
    return build_model_with_cfg(
        CifarResNet, "cifar_resnet50", pretrained, feature_cfg={"out_indices": (0, 1, 2, 3, 4)}, **options
    )
