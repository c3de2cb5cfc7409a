"""Branches of a student that are trained along with a teacher (SFTN).

Reference:
    Park, Cha, Jeong, Kim, Han: Learning Student-Friendly Teacher Networks for Knowledge Distillation. NeurIPS 2021,
    arXiv 2102.07650.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

import timm
import torch
from timm.models.resnet import ResNet
from torch import Tensor, nn

from hf_icckd.models._cifar import Sections
from hf_icckd.models.classifier import ClassifierOutput, ImageClassifier, create_classifier
from hf_icckd.models.embedding_teacher import output_shapes
from hf_icckd.models.foreign import available_outputs
from hf_icckd.models.heads import probe_image
from hf_icckd.utils.keyed_random import generator_seed


class StudentBranch(nn.Module):
    """The part of a student after one of its stages, fed with the teacher's feature map of that stage.

    Args:
        transform: Turns the teacher's map, (B, C_teacher, H, W), into one of the shape the student's stage puts out.
        net: The student's net, with nothing left before the next stage.
    """

    def __init__(self, transform: nn.Module, net: Any):
        super().__init__()
        self.transform, self.net = transform, net

    def forward(self, feature_map: Tensor) -> Tensor:
        """Return logits (B, C)."""
        net: Any = self.net  # torch types attributes of modules as Tensor | Module
        return net.forward_head(net.forward_features(self.transform(feature_map)))


class StudentBranches(nn.ModuleList):
    """A branch after each stage of a teacher but the last.

    From the paper: where the branches are and what they consist of. Ours: the branches share no weights, though those
    of one stage start alike in all of them; the transform is a 1x1 convolution, BatchNorm and ReLU, after an average
    pooling where the maps differ in height and width.

    Args:
        teacher: The teacher; it is looked at only.
        student: Gives the architecture and the first weights of the branches, and stays as it is.

    Raises:
        ValueError: If one of them has no stages, the student's can't be run one by one, or their numbers differ.
    """

    def __init__(self, teacher: ImageClassifier, student: ImageClassifier):
        shapes = [_map_shapes(each) for each in (teacher, student)]
        given, own = _stages(teacher, shapes[0]), _stages(student, shapes[1])
        if len(given) != len(own):
            raise ValueError(
                f"the teacher {teacher.spec.architecture} has {len(given)} stages, the student of the branches "
                f"{student.spec.architecture} {len(own)}, expected as many; choose two of one family, such as "
                "cifar_resnet20 and cifar_resnet8, or resnet34 and resnet18"
            )
        rests = _rests(student, own[:-1])
        super().__init__(
            StudentBranch(_transform(shapes[0][there], shapes[1][here]), rest)
            for there, here, rest in zip(given[:-1], own[:-1], rests, strict=True)
        )
        self._maps = given[:-1]
        self.to(next(teacher.parameters()))

    def forward(self, output: ClassifierOutput) -> tuple[Tensor, ...]:
        """Logits (B, C) of each branch from the teacher's output with its feature maps."""
        maps = output.feature_maps or ()
        return tuple(branch(maps[index]) for branch, index in zip(self, self._maps, strict=True))


def student_branches(
    teacher: ImageClassifier, architecture: str, seed: int, pretrained: bool = False
) -> StudentBranches:
    """Fresh branches for a teacher, whose weights depend on the seed alone.

    Args:
        teacher: The teacher; its weights stay as they are.
        architecture: Architecture of the student that the branches are parts of.
        seed: Seed of the run. Torch's global generator is seeded again.
        pretrained: Whether they start from timm's pretrained weights.

    Raises:
        ValueError: If the architecture can't be built, or doesn't fit the teacher.
    """
    # Not the seed itself: a student trained later with that seed would start as the branches did.
    torch.manual_seed(generator_seed(seed, -1, 0))
    student = create_classifier(
        architecture, teacher.spec.label_names, image_size=teacher.spec.image_size, pretrained=pretrained
    )
    return StudentBranches(teacher, student)


def _map_shapes(classifier: ImageClassifier) -> tuple[tuple[int, ...], ...]:
    """Shapes (C, H, W) of the feature maps; none for a net of timm that returns no maps."""
    there = "feature_maps" in available_outputs(classifier)
    return output_shapes(classifier, feature_maps=there).feature_maps or ()


def _stages(classifier: ImageClassifier, shapes: Sequence[tuple[int, ...]]) -> list[int]:
    """Feature maps that end a stage: of ResNets and most `cifar_*` nets all but the stem's, of others the last four.

    Raises:
        ValueError: If the net returns no maps, or they are all of one size, as in a plain ViT.
    """
    if isinstance(classifier.net, ResNet | Sections):
        return list(range(1, len(shapes)))  # 0 is the stem
    first = max(0, len(shapes) - 4)
    if len({shape[1:] for shape in shapes[first:]}) < 2:
        without_maps = f"of which timm {timm.__version__} returns no feature maps"
        cause = "which has no stages of different sizes" if shapes else without_maps
        raise ValueError(
            f"student branches can't be made with {classifier.spec.architecture}, {cause}; choose convolutional nets "
            "as teacher and as student, such as resnet34 and resnet18"
        )
    return list(range(first, len(shapes)))


def _transform(given: tuple[int, ...], wanted: tuple[int, ...]) -> nn.Module:
    """Turns a feature map of one shape (C, H, W) into one of another."""
    return nn.Sequential(
        nn.AdaptiveAvgPool2d(wanted[1:]) if given[1:] != wanted[1:] else nn.Identity(),
        nn.Conv2d(given[0], wanted[0], kernel_size=1, bias=False),
        nn.BatchNorm2d(wanted[0]),
        nn.ReLU(inplace=True),
    )


@torch.no_grad()
def _rests(student: ImageClassifier, stages: list[int]) -> list[nn.Module]:
    """Copies of the student's net that take a feature map each, without the modules that come before it.

    Raises:
        ValueError: If one of them is another computation, because the net is more than a sequence of modules.
    """
    net: Any = copy.deepcopy(student.net).eval()
    features, maps = net.forward_intermediates(probe_image(net, student.spec.image_size))
    rests = []
    for stage in stages:
        rest, cause = copy.deepcopy(net), None
        try:
            _cut(rest, net.feature_info[stage]["module"])
            same = torch.equal(rest.forward_features(maps[stage]), features)
        except (AttributeError, AssertionError, LookupError, RuntimeError, TypeError, ValueError) as error:
            same, cause = False, error
        if not same:
            raise ValueError(
                f"student branches can't be made of {student.spec.architecture}, whose stages can't be run one by "
                "one; choose another student, such as resnet18, mobilenetv4_conv_small or efficientnet_lite0"
            ) from cause
        rests.append(rest.train(student.training))
    return rests


def _cut(net: nn.Module, path: str) -> None:
    """Take out of a net a module and all that were made before it, which run before it in most nets."""
    parent = net
    for name in path.split("."):
        before = [earlier for earlier, _ in parent.named_children()]
        for earlier in before[: before.index(name)]:
            parent.set_submodule(earlier, nn.Identity())
        parent = parent.get_submodule(name)
    net.set_submodule(path, nn.Identity())
