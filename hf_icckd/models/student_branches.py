"""A teacher that is trained together with parts of a student: a control for the intra-class contrastive term.

Reference:
    Park, Cha, Jeong, Kim, Han: Learning Student-Friendly Teacher Networks for Knowledge Distillation. NeurIPS 2021,
    arXiv 2102.07650.
"""

from __future__ import annotations

import copy
import math
from typing import ClassVar

import torch
from timm.models.resnet import ResNet
from torch import Tensor, nn

from hf_icckd.models import CifarWideResNet
from hf_icckd.models.classifier import ClassifierOutput, ImageClassifier, create_classifier
from hf_icckd.utils.keyed_random import generator_seed


class StudentBranch(nn.Module):
    """A student behind one of its stages, fed with the teacher's feature map of that stage.

    Args:
        transform: Makes of the teacher's map, (B, C_teacher, H, W), one as the student's stage puts out.
        net: The student's net, with nothing left in front of the next stage.
    """

    def __init__(self, transform: nn.Module, net: nn.Module):
        super().__init__()
        self.transform, self.net = transform, net

    def forward(self, feature_map: Tensor) -> Tensor:
        """Return logits (B, C)."""
        return self.net.forward_head(self.net.forward_features(self.transform(feature_map)))


class TeacherWithBranches(nn.Module):
    """All that is trained of a student-friendly teacher: the teacher, and a branch behind each stage but the last.

    From the paper: where the branches are, what they consist of, and the weights of the terms. Ours: the branches
    share no weights, though those of one stage start alike in all of them; the transform is a 1x1 convolution,
    BatchNorm and ReLU, behind an average pooling where the maps differ in height and width.

    Args:
        teacher: The teacher, the only part that is used afterwards.
        student: Gives the architecture and the first weights of the branches, and stays as it is.

    Attributes:
        term_weights: Weights beside a cross-entropy of the teacher with weight 1; the paper's for CIFAR-100.
        citation: BibTeX of the source.

    Raises:
        ValueError: If one of them is of an architecture whose stages are not known here, or they differ in the number
            of stages.
    """

    term_weights: ClassVar[dict[str, float]] = {"branch_ce": 1.0, "branch_kl": 3.0}
    citation: ClassVar[str] = """@inproceedings{park2021learning,
  title = {Learning Student-Friendly Teacher Networks for Knowledge Distillation},
  author = {Park, Dae Young and Cha, Moon-Hyun and Jeong, Changwook and Kim, Dae Sin and Han, Bohyung},
  booktitle = {Advances in Neural Information Processing Systems},
  year = {2021}
}"""

    def __init__(self, teacher: ImageClassifier, student: ImageClassifier):
        super().__init__()
        stages, expected = len(_sections(teacher)[1]), len(_sections(student)[1])
        if stages != expected:
            raise ValueError(
                f"the teacher {teacher.spec.architecture} has {stages} stages, the student of the branches "
                f"{student.spec.architecture} {expected}, expected as many; choose two of one family, such as "
                "cifar_resnet20 and cifar_resnet8, or resnet34 and resnet18"
            )
        self.teacher = teacher
        branches = [_branch(teacher, student, stage) for stage in range(1, stages)]
        self.branches = nn.ModuleList(branches).to(next(teacher.parameters()))

    def forward(self, images: Tensor) -> tuple[ClassifierOutput, tuple[Tensor, ...]]:
        """Classify images.

        Args:
            images: (B, 3, H, W) uint8.

        Returns:
            The teacher's output, and the logits (B, C) of each branch.
        """
        output = self.teacher(images, feature_maps=True)
        maps = output.feature_maps[1:-1]  # without the stem's and the last stage's
        return output, tuple(branch(each) for branch, each in zip(self.branches, maps, strict=True))


def with_student_branches(teacher: ImageClassifier, architecture: str, seed: int) -> TeacherWithBranches:
    """A teacher with fresh branches, whose weights depend on the seed alone.

    Args:
        teacher: The teacher; its weights stay as they are.
        architecture: Architecture of the student that the branches are parts of.
        seed: Seed of the run. Torch's generator is seeded anew.

    Raises:
        ValueError: As `create_classifier` and `TeacherWithBranches` do.
    """
    # Not the seed itself: a student that is trained with that seed later would start as the branches did.
    torch.manual_seed(generator_seed(seed, -1, 0))
    student = create_classifier(architecture, teacher.spec.label_names, image_size=teacher.spec.image_size)
    return TeacherWithBranches(teacher, student)


def _sections(classifier: ImageClassifier) -> tuple[list[str], list[str]]:
    """Names of the modules in front of a net's first stage, and of its stages."""
    net = classifier.net
    if isinstance(net, ResNet):
        stages = [name for name in ("layer1", "layer2", "layer3", "layer4") if len(net.get_submodule(name))]
        return ["conv1", "bn1", "act1", "maxpool"], stages  # with three stages in the cifar_resnets: layer4 is empty
    if isinstance(net, CifarWideResNet):
        return ["stem"], [f"stages.{name}" for name, _ in net.stages.named_children()]
    raise ValueError(
        f"student branches can't be made with {classifier.spec.architecture}, expected cifar_resnet*, cifar_wrn_* or "
        "a net of timm's ResNet class (resnet*, wide_resnet*, resnext*, seresnet* and others), as teacher and as "
        "student"
    )


def _branch(teacher: ImageClassifier, student: ImageClassifier, stage: int) -> StudentBranch:
    """The branch behind a stage, counted from 1, as in the feature maps, where 0 is the stem."""
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
    info = classifier.net.feature_info[stage]
    return info["num_chs"], math.ceil(classifier.spec.image_size / info["reduction"])
