"""A classifier from a file of weights, whose architecture and normalisation the user names."""

from __future__ import annotations

import logging
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import timm
import torch
from torch import Tensor, nn

from hf_icckd.models.architectures import check_architecture, default_cfg, meta_net, norm_eps
from hf_icckd.models.classifier import ImageClassifier, create_classifier, unnamed
from hf_icckd.models.from_torchvision import MEAN, STD, rename_by_shape, rows_of_last, torchvision_net
from hf_icckd.models.literature_names import from_literature
from hf_icckd.models.same_logits import random_images
from hf_icckd.models.state_dicts import read_state_dict

if TYPE_CHECKING:
    from hf_icckd.models.architectures import TimmNet

logger = logging.getLogger(__name__)
_SHOWN = 3
_TOLERANCE = 1e-4  # between torchvision's logits and timm's, relative to the largest


@dataclass(frozen=True)
class WeightsFile:
    """What a file of weights does not say about its net.

    Example:
        >>> WeightsFile("resnet18", image_size=64).mean is None
        True

    Attributes:
        architecture: Name in timm's registry.
        key: Entry of the file that holds the weights; None if only one entry does.
        image_size: Height and width of the input; None, here and below, for the architecture's default.
        mean: Channel means of its training images, on the scale 0 to 1.
        std: Channel standard deviations on the same scale.
        option: How the options for mean and std begin, for messages.
    """

    architecture: str
    key: str | None = None
    image_size: int | None = None
    mean: tuple[float, float, float] | None = None
    std: tuple[float, float, float] | None = None
    option: str = "--teacher_"


def load_weights_file(path: Path, about: WeightsFile) -> ImageClassifier:
    """Build the net and load its weights, in evaluation mode. Its classes have no names.

    Tensors may have the names of timm, of the distillation literature's repositories (`cifar_*` nets) or of
    torchvision.

    Raises:
        ValueError: If the file can't be read, the weights are those of another net, or nothing says how images are
            normalised.
    """
    name = about.architecture
    check_architecture(name)
    state = from_literature(name, read_state_dict(path, about.key))
    if not _names_fit(name, state) and (source := torchvision_net(name, state)) is not None:
        return _load_from_torchvision(path, about, state, source)
    _check_normalisation(path, about)
    classifier = _classifier(about, _num_classes(state, path, about))
    _load(classifier.net, state, f"the weights in {str(path)!r} are not those of {name}", _likely(name, state))
    return classifier.eval()


def _classifier(about: WeightsFile, num_classes: int, **model_args: float) -> ImageClassifier:
    return create_classifier(
        about.architecture,
        unnamed(num_classes),
        image_size=about.image_size,
        mean=about.mean,
        std=about.std,
        model_args=model_args,
    )


def _load_from_torchvision(
    path: Path, about: WeightsFile, state: dict[str, Tensor], source: nn.Module
) -> ImageClassifier:
    """timm's net with the weights of torchvision's, if both compute the same."""
    if about.mean is None and about.std is None:
        about = replace(about, mean=MEAN, std=STD)
    _check_normalisation(path, about)
    num_classes = rows_of_last(state)
    classifier = _classifier(about, num_classes).eval()
    eps = norm_eps(source)
    if eps is not None and eps != norm_eps(classifier.net):
        classifier = _classifier(about, num_classes, bn_eps=eps).eval()
    failed = f"the weights in {str(path)!r} are those of torchvision's {type(source).__name__}, but timm's"
    try:
        renamed = rename_by_shape(state, classifier.net.state_dict())
    except ValueError as error:
        raise ValueError(f"{failed} {about.architecture} has other tensors: {error}; take another net") from error
    classifier.net.load_state_dict(renamed, strict=False)
    images = random_images(2, classifier.spec.image_size, torch.Generator().manual_seed(0))
    with torch.inference_mode():
        found, expected = classifier(images).logits, source(classifier.preprocess(images))
    difference = float((found - expected).abs().max() / expected.abs().max())
    if not difference <= _TOLERANCE:
        raise ValueError(
            f"{failed} {about.architecture} computes something else with them: logits differ by {difference:.1g} of "
            f"the largest, expected at most {_TOLERANCE:g}; take another net"
        )
    return classifier


def _names_fit(architecture: str, state: dict[str, Tensor]) -> bool:
    """Whether the backbone's tensors have timm's names and shapes, whatever the number of classes."""
    shapes = {name: value.shape for name, value in meta_net(architecture).state_dict().items() if not _is_count(name)}
    return all(name in state and state[name].shape == shapes[name] for name in list(shapes)[:-2])


def _is_count(name: str) -> bool:
    # torch before 0.4.1 did not count batches, and nothing computes with the count.
    return name.endswith("num_batches_tracked")


def _likely(architecture: str, state: dict[str, Tensor]) -> str:
    """What else the weights may be, as advice."""
    if architecture.startswith("cifar_"):
        for other in timm.list_models("cifar_*"):
            renamed = from_literature(other, state)
            if _names_fit(other, renamed) and renamed.keys() <= meta_net(other).state_dict().keys():
                return f"they are those of {other}"
    return "name the architecture that was trained"


def _check_normalisation(path: Path, about: WeightsFile) -> None:
    default = default_cfg(about.architecture)
    if (about.mean is None) != (about.std is None):
        raise ValueError(
            f"mean is {about.mean} and std {about.std} for {str(path)!r}, expected both or neither; give "
            f"{about.option}mean and {about.option}std together"
        )
    if about.mean is not None:
        return
    values = " ".join(map(str, default.mean)), " ".join(map(str, default.std))
    options = f"{about.option}mean {values[0]} {about.option}std {values[1]}"
    if about.architecture.startswith("cifar_"):
        raise ValueError(
            f"{str(path)!r} does not say how images were normalised, and nets of this size have no usual way; give "
            f"what it was trained with, for CIFAR-100 mostly {options}"
        )
    logger.warning(
        "%s does not say how images were normalised: timm's values for %s are taken, %s; change them if it was "
        "trained with others",
        path,
        about.architecture,
        options,
    )


def _num_classes(state: dict[str, Tensor], path: Path, about: WeightsFile) -> int:
    """Rows of the last layer; 0 for an architecture that timm has without one."""
    named = default_cfg(about.architecture).classifier or "fc"
    layer = named if isinstance(named, str) else named[0]
    weight = state.get(f"{layer}.weight")
    if weight is None and default_cfg(about.architecture).num_classes == 0:
        return 0  # as timm has them, they teach by their embeddings
    if weight is None or weight.ndim < 2:
        shown = ", ".join(list(state)[-_SHOWN:])
        raise ValueError(
            f"the weights in {str(path)!r} have no classification layer {layer!r}, expected those of "
            f"{about.architecture}; their last tensors are {shown}: {_likely(about.architecture, state)}"
        )
    return weight.shape[0]


def _load(net: TimmNet, state: dict[str, Tensor], failed: str, advice: str) -> None:
    expected = net.state_dict()
    missing = [name for name in expected if name not in state and not _is_count(name)]
    extra = [name for name in state if name not in expected]
    differing = [
        f"{name} {tuple(state[name].shape)}, expected {tuple(expected[name].shape)}"
        for name in expected
        if name in state and state[name].shape != expected[name].shape
    ]
    found = [
        f"{len(names)} tensors {what} ({'; '.join(names[:_SHOWN])}{'; ...' if len(names) > _SHOWN else ''})"
        for what, names in (("missing", missing), ("too many", extra), ("of another shape", differing))
        if names
    ]
    if found:
        raise ValueError(f"{failed}: {', '.join(found)}; {advice}")
    net.load_state_dict(state, strict=False)
