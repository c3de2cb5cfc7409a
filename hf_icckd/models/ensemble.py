"""Several classifiers as one teacher: the weighted mean of their logits."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import cast

import torch
from torch import Tensor, nn

from hf_icckd.models.classifier import ImageClassifier, check_same_classes
from hf_icckd.models.outputs import ClassifierOutput


class EnsembleNet(nn.Module):
    """The nets of several classifiers; images come in as the first wants them, each net gets them as it wants them."""

    shares: Tensor
    means: Tensor  # (K, 3) of each member, kept with the weights: they are part of what the ensemble is
    stds: Tensor
    embedding_dim = None  # those of several nets have no common space

    def __init__(self, members: Sequence[ImageClassifier], shares: Sequence[float]):
        super().__init__()
        self.members = nn.ModuleList(members)
        self.num_classes = len(members[0].spec.label_names)
        self.register_buffer("shares", torch.tensor([each / sum(shares) for each in shares]))
        self.register_buffer("means", torch.tensor([each.spec.mean for each in members]))
        self.register_buffer("stds", torch.tensor([each.spec.std for each in members]))

    def classifier_outputs(self, images: Tensor, feature_maps: bool = False) -> ClassifierOutput:
        """Weighted mean of the members' logits."""
        logits = [
            share.to(images.dtype) * cast(ImageClassifier, member).outputs(self._normalised(images, place)).logits
            for place, (member, share) in enumerate(zip(self.members, self.shares, strict=True))
        ]
        return ClassifierOutput(torch.stack(logits).sum(dim=0), None)

    def _normalised(self, images: Tensor, place: int) -> Tensor:
        """From the first member's mean and deviation to those of another; nothing changes where they are the same."""
        specs = [cast(ImageClassifier, self.members[each]).spec for each in (0, place)]
        if (specs[0].mean, specs[0].std) == (specs[1].mean, specs[1].std):
            return images
        (first_mean, first_std), (mean, std) = (
            [each[row].view(1, 3, 1, 1).to(images.dtype) for each in (self.means, self.stds)] for row in (0, place)
        )
        return (images * first_std + first_mean - mean) / std


def members_of(teacher: ImageClassifier) -> list[ImageClassifier]:
    """The classifiers of an ensemble; of any other one it alone."""
    if isinstance(teacher.net, EnsembleNet):
        return [cast(ImageClassifier, each) for each in teacher.net.members]
    return [teacher]


def ensemble(members: Sequence[ImageClassifier], weights: Sequence[float] | None = None) -> ImageClassifier:
    """One teacher of several: its logits are the weighted mean of theirs.

    The mean of logits is the geometric mean of probabilities, at any temperature. An ensemble has neither embeddings
    nor feature maps, so objectives on logits learn from it.

    Args:
        members: At least two classifiers of the same classes, measured on images of one size.
        weights: How much each counts; None for all alike.

    Raises:
        ValueError: If members differ in their classes, their size of images or how evaluation cuts them, or there are
            not as many weights as members, or they are not positive.

    Reference:
        Hinton, Vinyals, Dean: Distilling the Knowledge in a Neural Network. arXiv 1503.02531, section 2 (an ensemble
        as teacher, by the arithmetic or geometric mean).

    Example:
        >>> import torch
        >>> from hf_icckd import create_classifier
        >>> teachers = [create_classifier("cifar_resnet8", ["cat", "dog"], image_size=8).eval() for _ in range(2)]
        >>> ensemble(teachers)(torch.zeros(4, 3, 8, 8, dtype=torch.uint8)).logits.shape
        torch.Size([4, 2])
    """
    if len(members) < 2:
        raise ValueError(f"an ensemble of {len(members)} classifier was asked for, expected two or more")
    weights = [1.0] * len(members) if weights is None else list(weights)
    if len(weights) != len(members) or not all(0 < each < math.inf for each in weights):
        raise ValueError(
            f"the ensemble's weights are {weights} for {len(members)} teachers, expected a number above 0 for each, "
            "the first one's first"
        )
    first = members[0].spec
    for number, each in enumerate(members[1:], start=2):
        check_same_classes(first.label_names, each.spec.label_names, "first teacher", f"teacher {number}")
        for name in ("image_size", "crop_pct", "interpolation", "crop_mode"):
            one, other = getattr(first, name), getattr(each.spec, name)
            if one != other:
                raise ValueError(
                    f"the first teacher has {name} {one!r}, teacher {number} {other!r}; an ensemble gets one image "
                    "for all: take teachers that were trained alike in that"
                )
    title = " + ".join(each.spec.architecture for each in members)
    return ImageClassifier(EnsembleNet(members, weights), replace(first, architecture=title, model_args={})).eval()
