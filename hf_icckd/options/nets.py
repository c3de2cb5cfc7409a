"""Options of the nets: which one becomes a teacher, and which one learns from which teacher."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import ClassVar

from hf_icckd.options.checks import check_channels, check_range
from hf_icckd.options.pairs import HELP, check_pair


@dataclass
class TrainedNet:
    """What the weights of the net that is trained start from, and its dropout."""

    title: ClassVar[str] = "Fine-tuning"

    pretrained: bool = field(
        default=False, metadata={"help": "Start from timm's pretrained weights and their preprocessing."}
    )
    start_from: str | None = field(
        default=None,
        metadata={
            "help": "A trained classifier to start from, with its architecture and preprocessing: the folder of a "
            "run, a Hub id or the name of a pretrained timm model. Its classification layer is kept if it has the "
            "classes of the data.",
            "metavar": "MODEL",
        },
    )
    drop_path: float | None = field(
        default=None,
        metadata={
            "help": "Stochastic depth, timm's drop_path_rate: share of images that skip the last block, less in "
            "earlier ones; default: the architecture's own, mostly 0.",
            "metavar": "RATE",
        },
    )
    drop_rate: float | None = field(
        default=None,
        metadata={"help": "Dropout before the classification layer, as in timm; default: the architecture's own."},
    )

    def __post_init__(self):
        check_range(self, "drop_path", 0, 1, exclude_high=True)
        check_range(self, "drop_rate", 0, 1, exclude_high=True)
        if self.start_from is not None and self.pretrained:
            raise ValueError(
                f"start_from is {self.start_from!r} but pretrained is true, expected one of them; leave out "
                "--pretrained"
            )

    @property
    def drop_args(self) -> dict[str, float]:
        """Arguments of `timm.create_model` that act in training only."""
        asked = {"drop_path_rate": self.drop_path, "drop_rate": self.drop_rate}
        return {name: value for name, value in asked.items() if value is not None}


@dataclass
class TeacherModelArguments(TrainedNet):
    """Which net becomes the teacher."""

    title: ClassVar[str] = "Net"
    of_pair: ClassVar[dict[str, int]] = {"model": 0}

    model: str = field(default="cifar_resnet20", metadata={"help": "Architecture: any name of timm's registry."})
    pair: str | None = field(default=None, metadata={"help": HELP.format("model"), "metavar": "PAIR"})

    def __post_init__(self):
        super().__post_init__()
        check_pair(self)


@dataclass
class StudentModelArguments(TrainedNet):
    """Which net learns from which teacher."""

    title: ClassVar[str] = "Nets"
    of_pair: ClassVar[dict[str, int]] = {"model": 1}

    model: str = field(default="cifar_resnet8", metadata={"help": "Architecture: any name of timm's registry."})
    pair: str | None = field(
        default=None,
        metadata={"help": HELP.format("model") + " teacher says where the trained teacher is.", "metavar": "PAIR"},
    )
    teacher: str = field(
        default="runs/teacher",
        metadata={
            "help": "Folder of a teacher's run, a folder of transformers, a Hub id (me/model, me/model@revision), the "
            "name of a pretrained timm model, or a .pth, .pt, .pth.tar or .safetensors file with --teacher_model."
        },
    )
    ensemble_with: list[str] | None = field(
        default=None,
        metadata={
            "help": "Further teachers, folders, Hub ids or names of timm: the mean of all logits teaches. They must "
            "have the same classes and size of images; for objectives on logits."
        },
    )
    ensemble_weights: list[float] | None = field(
        default=None,
        metadata={"help": "How much each teacher of the ensemble counts, --teacher first; default: all alike."},
    )
    cross_fitted_with: list[str] | None = field(
        default=None,
        metadata={
            "help": "Further runs of teachers: each image is taught by the first one that was not trained on it. "
            "Train them with fold 0/5, 1/5 and so on; needs recorded teacher_targets."
        },
    )
    teacher_head: bool = field(
        default=True,
        metadata={
            "help": "false: the teacher teaches by its embeddings alone, whatever its classes are; for --objectives "
            "embedding or rkd."
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
            "help": "Channel means it was trained with, three numbers from 0 to 1; default: timm's for the "
            "architecture, none for cifar_*."
        },
    )
    teacher_std: list[float] | None = field(
        default=None, metadata={"help": "Channel standard deviations it was trained with; as for teacher_mean."}
    )

    def __post_init__(self):
        super().__post_init__()
        check_pair(self)
        check_range(self, "teacher_image_size", 1, math.inf)
        if self.ensemble_with and self.cross_fitted_with:
            raise ValueError(
                f"ensemble_with is {self.ensemble_with} and cross_fitted_with {self.cross_fitted_with}: an image is "
                "taught by all or by one; leave one of the two out"
            )
        if self.ensemble_weights is not None and self.ensemble_with is None:
            raise ValueError(
                f"ensemble_weights is {self.ensemble_weights} but there is no ensemble_with: one teacher has no "
                "weight; name the others with --ensemble_with, or leave it out"
            )
        for name in ("teacher_mean", "teacher_std"):
            check_channels(name, getattr(self, name))
        for name in ("teacher_weights", "teacher_image_size", "teacher_mean", "teacher_std"):
            if self.teacher_model is None and getattr(self, name) is not None:
                raise ValueError(
                    f"{name} is {getattr(self, name)} but there is no teacher_model: it is for a teacher that is a "
                    "file of weights; add --teacher_model, or leave it out"
                )
