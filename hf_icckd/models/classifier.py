"""The classifier that is trained: a timm net that takes raw pixels and returns logits and embeddings."""

from __future__ import annotations

import shlex
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, cast

import timm
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import hf_icckd.models  # noqa: F401  registers the cifar_* architectures
from hf_icckd.models.architectures import check_architecture, check_drop_args, default_cfg, switched_args
from hf_icckd.models.heads import Head, find_head, read_head
from hf_icckd.models.outputs import ClassifierOutput

if TYPE_CHECKING:
    from hf_icckd.models.architectures import TimmNet

CropMode: TypeAlias = Literal["center", "border", "squash"]  # timm's


@dataclass(frozen=True)
class ClassifierSpec:
    """Everything about a classifier but its weights: the content of `config.json`.

    Example:
        >>> spec = ClassifierSpec("cifar_resnet8", ("cat", "dog"), mean=(0.5,) * 3, std=(0.2,) * 3, image_size=32)
        >>> spec.crop_pct, spec.interpolation
        (1.0, 'bilinear')

    Attributes:
        architecture: Name in timm's registry.
        label_names: Name of each class.
        mean: Mean of each RGB channel on the scale 0 to 1.
        std: Standard deviation of each RGB channel on the same scale.
        image_size: Height and width of the input in pixels.
        crop_pct: Share of the short side that evaluation keeps.
        interpolation: How images are scaled in evaluation.
        model_args: Further arguments of `timm.create_model`.
        crop_mode: What becomes of the longer side of an image in evaluation: center cuts it off, border keeps it and
            adds borders in the colour of the mean, squash distorts the image.
    """

    architecture: str
    label_names: tuple[str, ...]
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    image_size: int
    crop_pct: float = 1.0
    interpolation: str = "bilinear"
    model_args: dict[str, Any] = field(default_factory=dict)
    crop_mode: CropMode = "center"


class ImageClassifier(nn.Module):
    """A timm net with its preprocessing: (B, 3, H, W) uint8 in, logits and embeddings out.

    Images are normalised, and resized if needed, on the device. So teacher and student can take the same batch and
    each preprocess it in its own way.

    Args:
        net: timm model with logits as its output. Any other module fits too if it defines `num_classes`,
            `embedding_dim` (None without embeddings) and `classifier_outputs(images, feature_maps)`, which takes
            normalised images and returns a `ClassifierOutput`.
        spec: Its description; `len(spec.label_names)` must be its number of classes.

    Raises:
        ValueError: If the number of classes differs, the net returns no logits for an image of the size in
            `spec`, or mean or std don't have three values.

    Example:
        >>> model = create_classifier("cifar_resnet8", ["cat", "dog"], image_size=32).eval()
        >>> output = model(torch.zeros(4, 3, 32, 32, dtype=torch.uint8))
        >>> output.logits.shape, output.embeddings.shape
        (torch.Size([4, 2]), torch.Size([4, 64]))
    """

    scale: Tensor
    shift: Tensor
    embedding_dim: int | None  # None: without embeddings

    def __init__(self, net: nn.Module, spec: ClassifierSpec):
        super().__init__()
        if net.num_classes != len(spec.label_names):
            raise ValueError(
                f"{spec.architecture} has {net.num_classes} classes but there are {len(spec.label_names)} class "
                "names; create it with the number of classes of the data set"
            )
        if not len(spec.mean) == len(spec.std) == 3 or min(spec.std) <= 0:
            raise ValueError(
                f"mean is {spec.mean} and std {spec.std}, expected three numbers each, and std above 0; correct "
                "them in the configuration"
            )
        self.net, self.spec = cast("TimmNet", net), spec
        self.head = _find_head(self.net, spec)
        self.embedding_dim = self.head.embedding_dim
        self.fixed: list[nn.Module] = []  # layers that keep their statistics in training; see `freezing`
        # Not persistent: they are in config.json, and exported weights should be those of the plain timm net.
        mean, std = (torch.tensor(values, dtype=torch.float64).view(1, 3, 1, 1) for values in (spec.mean, spec.std))
        self.register_buffer("scale", (1 / (255 * std)).float(), persistent=False)
        self.register_buffer("shift", (-mean / std).float(), persistent=False)

    @property
    def _no_split_modules(self) -> list[str]:
        """Classes of the net's repeated blocks; accelerate reads this name to learn what FSDP gathers at a time."""
        blocks = set()
        for stage in self.net.modules():
            kinds = Counter(type(block) for block in stage.children() if next(block.children(), None) is not None)
            if isinstance(stage, (nn.Sequential, nn.ModuleList)) or len({*map(type, stage.children())}) == 1:
                blocks |= {kind for kind, count in kinds.items() if count > 1}
        return sorted(kind.__name__ for kind in blocks - {nn.Sequential, nn.ModuleList})

    @property
    def classification_layer(self) -> nn.Module | None:
        """The layer from embeddings (B, D) to logits (B, C); None where the head is more than one layer, or none."""
        return cast(nn.Module, self.net.get_classifier()) if self.head.single_layer else None

    def train(self, mode: bool = True) -> ImageClassifier:
        """Set the mode of all layers; those that are `fixed` stay in evaluation mode."""
        super().train(mode)
        for layer in self.fixed:
            layer.eval()
        return self

    def preprocess(self, images: Tensor) -> Tensor:
        """Convert (B, 3, H, W) uint8 to normalised floating point in the size and memory layout of the net."""
        images = _normalised(images, self.shift, self.scale)
        if images.shape[-2:] != (self.spec.image_size, self.spec.image_size):
            size = (self.spec.image_size, self.spec.image_size)
            images = F.interpolate(images, size=size, mode="bilinear", antialias=True, align_corners=False)
        # The first convolution's weights decide; otherwise the net would work in the layout of the incoming data.
        weight = next((weight for weight in self.net.parameters() if weight.ndim == 4), images)
        return images.contiguous(
            memory_format=torch.contiguous_format if weight.is_contiguous() else torch.channels_last
        )

    def forward(self, images: Tensor, feature_maps: bool = False) -> ClassifierOutput:
        """Classify images.

        Args:
            images: (B, 3, H, W) uint8. Other sizes than `spec.image_size` are scaled to it without cropping; for
                pictures that are not square, crop the centre first (`hf_icckd.data.images.resize_and_crop`), as
                evaluation does.
            feature_maps: Whether to return the maps of all stages too.
        """
        return self.outputs(self.preprocess(images), feature_maps)

    def outputs(self, images: Tensor, feature_maps: bool = False) -> ClassifierOutput:
        """Classify images that are preprocessed already: (B, 3, H, W), normalised, in the size of the net."""
        if hasattr(self.net, "classifier_outputs"):
            return self.net.classifier_outputs(images, feature_maps)
        maps = None
        if feature_maps:
            features, maps = self.net.forward_intermediates(images)
        else:
            features = self.net.forward_features(images)
        logits, embeddings = read_head(self.net, self.head, features)
        return ClassifierOutput(logits, embeddings, tuple(maps) if maps is not None else None)


def _normalised(images: Tensor, shift: Tensor, scale: Tensor) -> Tensor:
    """(images / 255 - mean) / std in one pass, in the type of the statistics and the memory layout of the images.

    Channels last, a CPU would take the three numbers of each pixel by themselves: by rows of pixels the results are
    the same and come sooner.
    """
    channels_last = images.is_contiguous(memory_format=torch.channels_last) and not images.is_contiguous()
    if images.device.type != "cpu" or not channels_last:
        return torch.addcmul(shift, images, scale)
    count, channels, height, width = images.shape
    rows = images.permute(0, 2, 3, 1).view(count * height, width * channels).to(scale.dtype)
    made = torch.addcmul(shift.flatten().repeat(width), rows, scale.flatten().repeat(width))
    return made.view(count, height, width, channels).permute(0, 3, 1, 2)


def create_classifier(
    architecture: str,
    label_names: tuple[str, ...] | list[str],
    *,
    image_size: int | None = None,
    mean: tuple[float, float, float] | None = None,
    std: tuple[float, float, float] | None = None,
    crop_pct: float | None = None,
    interpolation: str | None = None,
    pretrained: bool = False,
    model_args: dict[str, Any] | None = None,
    crop_mode: CropMode | None = None,
    drop_args: dict[str, float] | None = None,
) -> ImageClassifier:
    """Build a classifier of any timm architecture, `cifar_*` among them.

    Args:
        architecture: Name in timm's registry.
        label_names: Name of each class.
        image_size: Height and width of the input; None, here and below, for the architecture's default.
        mean: Channel means, on the scale 0 to 1.
        std: Channel standard deviations on the same scale.
        crop_pct: Share of the short side that evaluation keeps.
        interpolation: How images are scaled in evaluation.
        pretrained: Whether to start from timm's pretrained weights.
        model_args: Further arguments of `timm.create_model`.
        crop_mode: What becomes of the longer side of an image in evaluation.
        drop_args: `drop_rate` and `drop_path_rate` of timm. They act in training only, so they are not part of the
            description that is saved.

    Raises:
        ValueError: If timm does not know the architecture or can't build it.

    Example:
        >>> model = create_classifier("cifar_resnet20", ["cat", "dog"], image_size=32)
        >>> model.spec.architecture, model.embedding_dim
        ('cifar_resnet20', 64)
    """
    check_architecture(architecture)
    default = default_cfg(architecture)
    model_args = {**switched_args(architecture, pretrained), **(model_args or {})}
    height, width = default.input_size[-2:]
    if default.fixed_input_size and (image_size is not None or height != width):
        model_args.setdefault("img_size", image_size or width)
    image_size = image_size or width
    net = build_net(architecture, len(label_names), pretrained=pretrained, **model_args, **(drop_args or {}))
    return ImageClassifier(
        net,
        ClassifierSpec(
            architecture=architecture,
            label_names=tuple(label_names),
            mean=_channels(default.mean if mean is None else mean),
            std=_channels(default.std if std is None else std),
            image_size=image_size,
            crop_pct=default.crop_pct if crop_pct is None else crop_pct,
            interpolation=default.interpolation if interpolation is None else interpolation,
            model_args=model_args,
            crop_mode=crop_mode or cast("CropMode", default.crop_mode or "center"),
        ),
    )


def build_net(architecture: str, num_classes: int, **options: Any) -> TimmNet:
    """As `timm.create_model`. Raises ValueError if timm can't build it."""
    check_drop_args(architecture, options)
    try:
        return cast("TimmNet", timm.create_model(architecture, num_classes=num_classes, **options))
    except OSError as error:  # all that the Hub's client raises
        reason = " ".join(str(error).split()).partition(". ")[0].rstrip(".")
        raise ValueError(
            f"the pretrained weights of {architecture!r} can't be fetched: {reason}; check the connection to the Hub "
            "(to train from scratch, --pretrained false or a term's pretrained=false, needs none)"
        ) from error
    except (RuntimeError, ValueError, TypeError, AssertionError, LookupError) as error:
        shown = {
            name: value for name, value in options.items() if name not in ("pretrained", "pretrained_cfg_overlay")
        }
        raise ValueError(f"timm can't build {architecture!r} with {shown or 'its defaults'}: {error}") from error


def _channels(values: Iterable[float]) -> tuple[float, float, float]:
    return cast("tuple[float, float, float]", tuple(values))  # `ImageClassifier` checks that there are three


def name_classes(classifier: ImageClassifier, label_names: tuple[str, ...]) -> ImageClassifier:
    """The same classifier with names for its classes.

    Raises:
        ValueError: If there are more or fewer names than classes, or one twice.
    """
    number = len(classifier.spec.label_names)
    if len(label_names) != number or len({*label_names}) != number:
        raise ValueError(
            f"label_names has {len({*label_names})} different names, expected {number}, one for each output of the net"
        )
    return ImageClassifier(classifier.net, replace(classifier.spec, label_names=label_names))


def _find_head(net: TimmNet, spec: ClassifierSpec) -> Head:
    if hasattr(net, "classifier_outputs"):  # not timm's
        return Head(net.embedding_dim, single_layer=False)
    try:
        return find_head(net, spec.image_size)
    except (RuntimeError, TypeError, AttributeError, AssertionError, ValueError, IndexError) as error:
        size = (getattr(net, "pretrained_cfg", {}).get("input_size") or [spec.image_size])[-1]
        options = "--image_size, or --teacher_image_size for a teacher's file of weights"
        hint = f"; its own size is {size}, give that ({options})" if size != spec.image_size else ""
        raise ValueError(
            f"{spec.architecture} can't classify an image of {spec.image_size} x {spec.image_size} pixels: "
            f"{str(error) or f'timm raises {type(error).__name__}'}{hint}"
        ) from error


def check_same_classes(
    teacher: tuple[str, ...], student: tuple[str, ...], first: str = "teacher", second: str = "data set"
) -> None:
    """Raise ValueError unless both have the same classes in the same order.

    A model that was loaded without class names is compared by their number only.

    Args:
        first: What the error message calls the first.
        second: What the error message calls the second.
    """
    if len(teacher) != len(student):
        remedy = f"take a {first} trained on this {second}, or the {second} it was trained on"
        if second != "data set":
            remedy = "take two that were trained on the same classes"
        raise ValueError(f"the {first} has {len(teacher)} classes, the {second} {len(student)}; {remedy}")
    if is_unnamed(teacher) or is_unnamed(student):
        return
    differing = [index for index, pair in enumerate(zip(teacher, student, strict=True)) if pair[0] != pair[1]]
    if differing:
        index = differing[0]
        remedy = (
            f"if they mean the same, give them the same names, in the {first}'s config.json (label_names or id2label)"
        )
        if second == "data set" and set(teacher) == set(student):
            remedy = f"number the data set's classes as the {first} does, with --classes {shlex.join(teacher)}"
        raise ValueError(
            f"{first} and {second} name {len(differing)} classes differently, first class {index}: {teacher[index]!r} "
            f"and {student[index]!r}; both must have the same names in the same order: {remedy}"
        )


def unnamed(num_classes: int) -> tuple[str, ...]:
    """Return class names for a model without any, as transformers writes them."""
    return tuple(f"LABEL_{index}" for index in range(num_classes))


def is_unnamed(label_names: tuple[str, ...]) -> bool:
    """Whether a model was loaded without class names."""
    return label_names == unnamed(len(label_names))
