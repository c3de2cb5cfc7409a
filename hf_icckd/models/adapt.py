"""A trained classifier is prepared for more training: for other classes, another image size, other dropout."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from hf_icckd.models.classifier import ClassifierSpec, CropMode, ImageClassifier, build_net

if TYPE_CHECKING:
    from hf_icckd.models.architectures import TimmNet


def adapt_classifier(
    classifier: ImageClassifier,
    label_names: tuple[str, ...] | list[str],
    image_size: int | None = None,
    crop_pct: float | None = None,
    crop_mode: CropMode | None = None,
    drop_args: Mapping[str, float] | None = None,
) -> ImageClassifier:
    """Prepare a trained classifier for more training, perhaps on other classes.

    Args:
        classifier: The trained classifier; its net is used, not copied, unless it must be built again.
        label_names: Name of each class. With the same names in the same order the classification layer is kept,
            otherwise it is replaced by a new one.
        image_size: Height and width of the input; None to keep them. A net with position embeddings of one size is
            built again, and timm scales its embeddings.
        crop_pct: Share of the short side that evaluation keeps; None to keep it.
        crop_mode: What becomes of the longer side of an image in evaluation; None to keep it.
        drop_args: `drop_rate` and `drop_path_rate` of timm; the net is built again with them.

    Raises:
        ValueError: If the net can't be built with that size or dropout, or timm can't fit its weights to the size.

    Example:
        >>> from hf_icckd import create_classifier
        >>> vit = create_classifier("test_vit", ["cat", "dog"], image_size=64)
        >>> adapt_classifier(vit, ["cat", "dog", "emu"], image_size=96).net.pos_embed.shape
        torch.Size([1, 37, 64])
    """
    net, spec = classifier.net, classifier.spec
    size = image_size or spec.image_size
    spec = replace(spec, image_size=size, crop_pct=crop_pct or spec.crop_pct, crop_mode=crop_mode or spec.crop_mode)
    if size != classifier.spec.image_size and net.pretrained_cfg.get("fixed_input_size"):
        spec = replace(spec, model_args=spec.model_args | {"img_size": size})
    if spec.model_args != classifier.spec.model_args or drop_args:
        net = _built_again(net, spec, drop_args or {})
    if tuple(label_names) != spec.label_names:
        net.reset_classifier(len(label_names))
    return ImageClassifier(net, replace(spec, label_names=tuple(label_names)))


def _built_again(net: TimmNet, spec: ClassifierSpec, drop_args: Mapping[str, float]) -> TimmNet:
    """A new net with other arguments and the weights of the old one, which timm fits to its shapes."""
    state = {name: value.detach().cpu() for name, value in net.state_dict().items()}
    weights = {"state_dict": dict(state), "num_classes": net.num_classes, "label_offset": 0}
    options = {**spec.model_args, **drop_args}
    try:
        new = build_net(spec.architecture, net.num_classes, pretrained=True, pretrained_cfg_overlay=weights, **options)
    except ValueError as error:
        if "size mismatch" not in str(error):
            raise
        raise ValueError(
            f"image_size is {spec.image_size} but timm can't fit the weights of this {spec.architecture} to another "
            "size than their own; leave out --image_size"
        ) from error
    new.pretrained_cfg = net.pretrained_cfg  # timm put the weights in
    if lost := _lost(state, dict(new.named_parameters())):
        raise ValueError(
            f"{spec.architecture} can't be built again with {options}: timm does not carry over {lost[0]}; leave out "
            "--image_size, --drop_path and --drop_rate, or choose another net"
        )
    return new


@torch.no_grad()
def _lost(before: Mapping[str, Tensor], now: Mapping[str, Tensor]) -> list[str]:
    """Parameters that have neither been kept nor fitted to another shape."""
    return [
        name
        for name, value in now.items()
        if name not in before or (value.shape == before[name].shape and not torch.equal(value.cpu(), before[name]))
    ]
