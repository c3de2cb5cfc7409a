"""Options of the command `distill` itself. Light: nothing here imports torch, so that help comes at once."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

from hf_icckd.options.pairs import HELP, check_pair

# Options of the parts that the command does not take, and what to do instead.
NEVER = {
    "model": "give the nets as --teacher and --student",
    "resume_from_checkpoint": "the same command resumes by itself",
    "fold": "train each teacher with hf-icckd teacher --fold, then take hf-icckd student --cross_fitted_with",
    "cross_fitted_with": "train its teachers before, with hf-icckd teacher --fold, then take hf-icckd student",
}


@dataclass
class DistillOptions:
    """Which net teaches, which one learns, and what is made of them."""

    title: ClassVar[str] = "Nets and folder"
    of_pair: ClassVar[dict[str, int]] = {"teacher": 0, "student": 1}

    teacher: str | None = field(
        default=None,
        metadata={
            "help": "Architecture of timm, which is fine-tuned first; or a classifier of these classes that teaches "
            "as it is: a folder, a Hub id or a file of weights. Default: tf_efficientnet_lite2, for images of up to "
            "96 pixels cifar_wrn_40_2."
        },
    )
    student: str | None = field(
        default=None,
        metadata={
            "help": "Architecture of timm that learns from it. Default: tf_efficientnet_lite0, for images of up to "
            "96 pixels cifar_wrn_16_2."
        },
    )
    pair: str | None = field(default=None, metadata={"help": HELP.format("teacher and student"), "metavar": "PAIR"})
    pretrained: bool | None = field(
        default=None, metadata={"help": "Start from timm's pretrained weights. Default: if timm has some for the net."}
    )
    output_dir: str | None = field(
        default=None,
        metadata={"help": "Folder of teacher/ and student/. Default: runs/ and the name of the data set."},
    )
    export: list[str] = field(
        default_factory=lambda: ["onnx"],
        metadata={"help": "Formats to write the student in, as the command export does, or none."},
    )
    dry_run: bool = field(
        default=False,
        metadata={"help": "Try a step of teacher and student, print the plan, and leave no run."},
    )

    def __post_init__(self) -> None:
        check_pair(self)
