"""Classifiers whose net is not timm's: any module that returns logits."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from hf_icckd.models.classifier import ClassifierSpec, CropMode, ImageClassifier
from hf_icckd.models.heads import keep_input, run_with_inputs
from hf_icckd.models.outputs import ClassifierOutput


class ForeignNet(nn.Module):
    """A module that returns logits, and perhaps a layer whose input are the embeddings.

    Args:
        module: Takes normalised (B, 3, H, W) images; returns (B, C) logits, or an object with such `logits`.
        num_classes: Number of classes C.
        image_size: Height and width of the images.
        layer: Name of the layer that takes in the embeddings; None for a net without.

    Raises:
        ValueError: If the module has no such layer, or returns something else for an image.
    """

    def __init__(self, module: nn.Module, num_classes: int, image_size: int, layer: str | None = None):
        super().__init__()
        self.module, self.num_classes = module, num_classes
        self.embedding_dim: int | None = None
        self._layer = layer  # its name: a copy of this net has a layer of its own
        if layer is not None:
            keep_input(_layer(module, layer))
        embeddings = _try_out(self, image_size, layer).embeddings
        self.embedding_dim = None if embeddings is None else embeddings.shape[1]

    def classifier_outputs(self, images: Tensor, feature_maps: bool = False) -> ClassifierOutput:
        """Classify normalised images in the precision of the weights. Raises ValueError for feature maps."""
        if feature_maps:
            raise ValueError(f"{type(self.module).__name__} has no feature maps; choose an objective without them")
        weight = next((each for each in self.module.parameters() if each.is_floating_point()), images)
        output, read = run_with_inputs(lambda: self.module(images.to(weight.dtype)))
        embeddings = None
        if self._layer is not None:
            layer = self.module.get_submodule(self._layer)
            embeddings = next((taken for other, taken in reversed(read) if other is layer), None)
        return ClassifierOutput(_logits(output), embeddings)


def as_teacher(
    module: nn.Module,
    label_names: Sequence[str],
    *,
    image_size: int,
    mean: tuple[float, float, float],
    std: tuple[float, float, float],
    embeddings: str | None = None,
    crop_pct: float = 1.0,
    interpolation: str = "bilinear",
    crop_mode: CropMode = "center",
) -> ImageClassifier:
    """Make any module a teacher, in evaluation mode: one that takes normalised images and returns logits.

    Args:
        module: Takes (B, 3, H, W) and returns (B, C) logits, or an object that has them as `logits`.
        label_names: Name of each class, in the order of the logits.
        image_size: Height and width of its images.
        mean: Channel means it was trained with, on the scale 0 to 1.
        std: Channel standard deviations on the same scale.
        embeddings: Name of the classification layer, as in `module.named_modules()`: what it takes in are the
            embeddings. Without it the teacher has logits only, which is enough for `kd`.
        crop_pct: Share of the short side that evaluation keeps.
        interpolation: How images are scaled.
        crop_mode: What becomes of the longer side of an image.

    Raises:
        ValueError: If the module has no such layer, or returns something else for an image of that size.

    Example:
        >>> from torch import nn
        >>> module = nn.Sequential(nn.AvgPool2d(8), nn.Flatten(), nn.Linear(3, 2))
        >>> teacher = as_teacher(module, ["cat", "dog"], image_size=8, mean=(0.5,) * 3, std=(0.2,) * 3, embeddings="2")
        >>> teacher.embedding_dim
        3
    """
    net = ForeignNet(module, len(label_names), image_size, embeddings)
    spec = ClassifierSpec(
        type(module).__name__, tuple(label_names), mean, std, image_size, crop_pct, interpolation, {}, crop_mode
    )
    return ImageClassifier(net, spec).eval()


def is_foreign(classifier: ImageClassifier) -> bool:
    """Whether the net is not timm's, so that it can teach but not be trained or saved here."""
    return hasattr(classifier.net, "classifier_outputs")


def available_outputs(classifier: ImageClassifier) -> set[str]:
    """Fields of a `ClassifierOutput` that a classifier can fill."""
    return {
        *(["logits"] if classifier.spec.label_names else []),
        *(["embeddings"] if classifier.embedding_dim is not None else []),
        *(["feature_maps"] if hasattr(classifier.net, "forward_intermediates") else []),
    }


@torch.no_grad()
def classification_layer(module: nn.Module, num_classes: int, image_size: int) -> str | None:
    """Name of the linear layer whose output are the logits, and whose input is one vector an image; None without one.

    Args:
        module: Takes normalised (B, 3, H, W) images; in evaluation mode.
    """
    seen: dict[str, tuple[Tensor, Tensor]] = {}
    hooks = [
        layer.register_forward_hook(lambda _, inputs, output, name=name: seen.update({name: (inputs[0], output)}))
        for name, layer in module.named_modules()
        if isinstance(layer, nn.Linear) and layer.out_features == num_classes
    ]
    try:
        logits = _logits(module(_test_images(module, image_size)))
    finally:
        for hook in hooks:
            hook.remove()
    found = [
        name for name, (taken, given) in seen.items() if taken.ndim == 2 and given.shape == logits.shape
        and torch.equal(given, logits)
    ]  # fmt: skip
    return found[0] if len(found) == 1 else None


def _layer(module: nn.Module, name: str) -> nn.Module:
    layers = dict(module.named_modules())
    if name not in layers or not name:
        known = ", ".join(each for each in list(layers)[-5:] if each)
        raise ValueError(f"{type(module).__name__} has no layer {name!r}; its last ones are {known}")
    return layers[name]


def _logits(output: Any) -> Tensor:
    logits = output if isinstance(output, Tensor) else getattr(output, "logits", None)
    if not isinstance(logits, Tensor):
        raise ValueError(
            f"the net returns a {type(output).__name__}, expected (B, C) logits or an object with `logits`; wrap it "
            "in a module that does"
        )
    return logits


def _test_images(module: nn.Module, size: int) -> Tensor:
    """Two different images: not zeros, and without a random generator."""
    weight = next((each for each in module.parameters() if each.is_floating_point()), torch.zeros(()))
    return torch.linspace(-1, 1, 2 * 3 * size * size).view(2, 3, size, size).to(weight)


def _try_out(net: ForeignNet, image_size: int, layer: str | None) -> ClassifierOutput:
    name, training = type(net.module).__name__, net.training
    net.eval()
    try:
        with torch.no_grad():
            output = net.classifier_outputs(_test_images(net, image_size))
    except (RuntimeError, TypeError, AttributeError, AssertionError, LookupError, NotImplementedError) as error:
        raise ValueError(f"{name} can't classify images of {image_size} x {image_size} pixels: {error}") from error
    finally:
        net.train(training)
    if tuple(output.logits.shape) != (2, net.num_classes):
        raise ValueError(
            f"{name} returns logits {tuple(output.logits.shape)} for 2 images, expected (2, {net.num_classes}); give "
            "the names of all its classes"
        )
    if layer is not None and (output.embeddings is None or tuple(output.embeddings.shape[:1]) != (2,)
                              or output.embeddings.ndim != 2):  # fmt: skip
        found = "nothing" if output.embeddings is None else tuple(output.embeddings.shape)
        raise ValueError(
            f"layer {layer!r} of {name} takes in {found} for 2 images, expected one vector an image (2, D); name the "
            "classification layer, or leave out `embeddings`"
        )
    return output
