"""Which groups of options each recipe takes."""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from typing import Any

from hf_icckd.options.checks import default_of
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

    model: str = field(default="cifar_resnet8", metadata={"help": "Architecture: any name of timm's registry."})
    pretrained: bool = field(
        default=False, metadata={"help": "Start from timm's pretrained weights and their preprocessing."}
    )
    teacher: str = field(
        default="runs/teacher",
        metadata={"help": "Folder of a teacher's run, a Hub id or the name of a pretrained timm model."},
    )


# In the order in which `--help` shows them.
RECIPES: dict[str, list[Any]] = {
    "teacher": [TrainingDataArguments, TeacherModelArguments, TeacherTrainingArguments],
    "student": [TrainingDataArguments, StudentModelArguments, StudentTrainingArguments],
}


def defaults(recipe: str) -> dict[str, Any]:
    """Default of each option of a recipe."""
    return {each.name: default_of(each) for group in RECIPES[recipe] for each in fields(group)}
