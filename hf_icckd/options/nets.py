"""Options of the nets: which one becomes a teacher, and which one learns from which teacher."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import ClassVar

from hf_icckd.options.checks import check_channels, check_range


@dataclass
class TeacherModelArguments:
    """Which net becomes the teacher."""

    title: ClassVar[str] = "Net"

    model: str = field(default="cifar_resnet20", metadata={"help": "Architecture: any name of timm's registry."})
    pretrained: bool = field(
        default=False, metadata={"help": "Start from timm's pretrained weights and their preprocessing."}
    )
    start_from: str | None = field(
        default=None,
        metadata={
            "help": "A trained classifier to start from, with its architecture and preprocessing: the folder of a "
            "run, a Hub id or the name of a pretrained timm model. Its classification layer is kept if it has the "
            "classes of the data."
        },
    )

    def __post_init__(self):
        if self.start_from is not None and self.pretrained:
            raise ValueError(
                f"start_from is {self.start_from!r} but pretrained is true, expected one of them; leave out "
                "--pretrained"
            )


@dataclass
class StudentModelArguments:
    """Which net learns from which teacher."""

    title: ClassVar[str] = "Nets"

    model: str = field(default="cifar_resnet8", metadata={"help": "Architecture: any name of timm's registry."})
    pretrained: bool = field(
        default=False, metadata={"help": "Start from timm's pretrained weights and their preprocessing."}
    )
    teacher: str = field(
        default="runs/teacher",
        metadata={
            "help": "Folder of a teacher's run, a folder of transformers, a Hub id (me/model, me/model@revision), the "
            "name of a pretrained timm model, or a .pth, .pt, .pth.tar or .safetensors file with --teacher_model."
        },
    )
    teacher_model: str | None = field(
        default=None, metadata={"help": "Architecture in timm's registry of a teacher that is a file of weights."}
    )
    teacher_weights: str | None = field(
        default=None,
        metadata={"help": "Entry of that file that holds the weights, for example state_dict_ema, if several do."},
    )
    teacher_image_size: int | None = field(
        default=None,
        metadata={"help": "Height and width of the images that net was trained on; default: the architecture's."},
    )
    teacher_mean: list[float] | None = field(
        default=None,
        metadata={
            "help": "Channel means it was trained with, three numbers from 0 to 1; default: the architecture's."
        },
    )
    teacher_std: list[float] | None = field(
        default=None, metadata={"help": "Channel standard deviations it was trained with, on the same scale."}
    )

    def __post_init__(self):
        check_range(self, "teacher_image_size", 1, math.inf)
        for name in ("teacher_mean", "teacher_std"):
            check_channels(name, getattr(self, name))
        for name in ("teacher_weights", "teacher_image_size", "teacher_mean", "teacher_std"):
            if self.teacher_model is None and getattr(self, name) is not None:
                raise ValueError(
                    f"{name} is {getattr(self, name)} but there is no teacher_model: it is for a teacher that is a "
                    "file of weights; add --teacher_model, or leave it out"
                )
