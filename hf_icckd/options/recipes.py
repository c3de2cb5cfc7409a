"""The option groups of each recipe, in the order in which `--help` shows them."""

from __future__ import annotations

from dataclasses import MISSING, dataclass, field, fields
from typing import Any

from hf_icckd.options.data import TrainingDataArguments
from hf_icckd.options.training import StudentTrainingArguments, TeacherTrainingArguments


@dataclass
class TeacherModelArguments:
    """Which net becomes the teacher."""

    model: str = field(default="cifar_resnet20", metadata={"help": "Architecture: any name of timm's registry."})
    pretrained: bool = field(
        default=False, metadata={"help": "Start from timm's pretrained weights and their preprocessing."}
    )
    start_from: str | None = field(
        default=None,
        metadata={
            "help": "A trained classifier to go on from instead of from scratch, with its architecture and "
            "preprocessing: a run's folder, a Hub id or a pretrained timm model's name. Its classification layer is "
            "kept if its classes are those of the data."
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

    model: str = field(default="cifar_resnet8", metadata={"help": "Architecture: any name of timm's registry."})
    pretrained: bool = field(
        default=False, metadata={"help": "Start from timm's pretrained weights and their preprocessing."}
    )
    teacher: str = field(
        default="runs/teacher",
        metadata={"help": "A folder that recipes/teacher.py wrote, a Hub id or a pretrained timm model's name."},
    )


# What the recipes that train take, in the order in which `--help` shows it.
RECIPES = {
    "teacher": [TrainingDataArguments, TeacherModelArguments, TeacherTrainingArguments],
    "student": [TrainingDataArguments, StudentModelArguments, StudentTrainingArguments],
}


def defaults(recipe: str) -> dict[str, Any]:
    """What the options of a recipe are where nobody gives them."""
    return {
        each.name: each.default if each.default_factory is MISSING else each.default_factory()
        for group in RECIPES[recipe]
        for each in fields(group)
    }
