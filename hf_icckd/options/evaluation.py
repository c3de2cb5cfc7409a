"""Options of the command `evaluate` itself. Light: nothing here imports torch, so that help comes at once."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

from hf_icckd.options.data import ALLOW_LEAKAGE, DataArguments

MODEL = "Folder of a run, Hub id or a pretrained timm model's name"


@dataclass
class EvaluationDataArguments(DataArguments):
    """Data set to measure on."""

    title: ClassVar[str] = "Images"

    dataset: str = field(
        default="", metadata={"help": "As for training; default: what the first model was trained on, by its folder."}
    )


@dataclass
class EvaluationArguments:
    """Which model to measure, on which split."""

    title: ClassVar[str] = "Evaluation"

    model: list[str] = field(
        default_factory=lambda: ["runs/student"], metadata={"help": f"{MODEL}; several are compared."}
    )
    teacher: str | None = field(
        default=None, metadata={"help": "Another model, to measure agreement with; for one model."}
    )
    split: str = field(default="test", metadata={"help": "train, validation or test."})
    batch_size: int = field(default=256, metadata={"help": "Images per step."})
    num_workers: int | None = field(
        default=None, metadata={"help": "Processes that decode large images; default: one less than there are cores."}
    )
    allow_leakage: bool = field(default=False, metadata={"help": ALLOW_LEAKAGE})
    output_file: str | None = field(default=None, metadata={"help": "JSON file to write all metrics to."})
    report: str | None = field(
        default=None,
        metadata={
            "help": "Folder to write a page to, as report.html, which holds its pictures, and as report.md: classes, "
            "the worst mistakes with their images, calibration, a map of the embeddings, cost.",
            "metavar": "FOLDER",
        },
    )

    def __post_init__(self) -> None:
        if self.teacher is not None and len(self.model) > 1:
            raise ValueError(
                f"teacher is {self.teacher!r} but there are {len(self.model)} models; give one model, or leave it out"
            )
        if twice := {name for name in self.model if self.model.count(name) > 1}:
            raise ValueError(f"model has {twice.pop()!r} twice, expected different models; leave one out")
