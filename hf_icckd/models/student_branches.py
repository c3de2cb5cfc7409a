"""Branches of a student that are trained along with a teacher (SFTN).

Reference:
    Park, Cha, Jeong, Kim, Han: Learning Student-Friendly Teacher Networks for Knowledge Distillation. NeurIPS 2021,
    arXiv 2102.07650.
"""

from __future__ import annotations

import copy
import math
from typing import Any

import torch
from timm.models.resnet import ResNet
from torch import Tensor, nn

from hf_icckd.models import CifarWideResNet
from hf_icckd.models._cifar import StagedNet
from hf_icckd.models.classifier import ClassifierOutput, ImageClassifier, create_classifier
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
        ValueError: If the stages of one of them are not known here, or they differ in the number of stages.
    """

    def __init__(self, teacher: ImageClassifier, student: ImageClassifier):
        stages, expected = len(_sections(teacher)[1]), len(_sections(student)[1])
        if stages != expected:
            raise ValueError(
                f"the teacher {teacher.spec.architecture} has {stages} stages, the student of the branches "
                f"{student.spec.architecture} {expected}, expected as many; choose two of one family, such as "
                "cifar_resnet20 and cifar_resnet8, or resnet34 and resnet18"
            )
        super().__init__(_branch(teacher, student, stage) for stage in range(1, stages))
        self.to(next(teacher.parameters()))

    def forward(self, output: ClassifierOutput) -> tuple[Tensor, ...]:
        """Logits (B, C) of each branch from the teacher's output with its feature maps."""
        maps = (output.feature_maps or ())[1:-1]  # without the stem's and the last stage's
        return tuple(branch(each) for branch, each in zip(self, maps, strict=True))


def student_branches(teacher: ImageClassifier, architecture: str, seed: int) -> StudentBranches:
    """Fresh branches for a teacher, whose weights depend on the seed alone.

    Args:
        teacher: The teacher; its weights stay as they are.
        architecture: Architecture of the student that the branches are parts of.
        seed: Seed of the run. Torch's global generator is seeded again.

    Raises:
        ValueError: If the architecture can't be built, or doesn't fit the teacher.
    """
    # Not the seed itself: a student trained later with that seed would start as the branches did.
    torch.manual_seed(generator_seed(seed, -1, 0))
    student = create_classifier(architecture, teacher.spec.label_names, image_size=teacher.spec.image_size)
    return StudentBranches(teacher, student)


def _sections(classifier: ImageClassifier) -> tuple[list[str], list[str]]:
    """Names of the modules before a net's first stage, and of its stages."""
    net = classifier.net
    if isinstance(net, ResNet):
        stages = [
            name for name in ("layer1", "layer2", "layer3", "layer4") if next(net.get_submodule(name).children(), None)
        ]
        return ["conv1", "bn1", "act1", "maxpool"], stages  # with three stages in the cifar_resnets: layer4 is empty
    if isinstance(net, CifarWideResNet):
        return ["stem"], [f"stages.{name}" for name, _ in net.stages.named_children()]
    if isinstance(net, StagedNet):
        stem, *stages = [f"stages.{name}" for name, _ in net.stages.named_children()]
        return [stem], stages
    raise ValueError(
        f"student branches can't be made with {classifier.spec.architecture}, expected cifar_resnet*, cifar_wrn_*, "
        "cifar_vgg*, cifar_shufflenet* or a net of timm's ResNet class (resnet*, wide_resnet*, resnext*, seresnet* "
        "and others), as teacher and as student"
    )


def _branch(teacher: ImageClassifier, student: ImageClassifier, stage: int) -> StudentBranch:
    """The branch after a stage, counted from 1 as in the feature maps, where 0 is the stem."""
    net = copy.deepcopy(student.net)
    stem, stages = _sections(student)
    for name in [*stem, *stages[:stage]]:
        net.set_submodule(name, nn.Identity())
    (channels, size), (wanted_channels, wanted_size) = _map_shape(teacher, stage), _map_shape(student, stage)
    transform = nn.Sequential(
        nn.AdaptiveAvgPool2d(wanted_size) if size != wanted_size else nn.Identity(),
        nn.Conv2d(channels, wanted_channels, kernel_size=1, bias=False),
        nn.BatchNorm2d(wanted_channels),
        nn.ReLU(inplace=True),
    )
    return StudentBranch(transform, net)


def _map_shape(classifier: ImageClassifier, stage: int) -> tuple[int, int]:
    """Channels, and height and width, of a feature map."""
    net: Any = classifier.net
    info = net.feature_info[stage]
    return info["num_chs"], math.ceil(classifier.spec.image_size / info["reduction"])
