"""Options of the commands that list nets and that import weights. Light: nothing here imports torch."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, field
from typing import ClassVar, Literal

from hf_icckd.options.checks import check_channels, check_range

_UNITS = {"": 1, "K": 10**3, "M": 10**6, "G": 10**9, "B": 10**9}
_STUDENT_PARAMS = "10M"


@dataclass
class ModelsArguments:
    """Which architectures to list."""

    title: ClassVar[str] = "Architectures"

    task: Literal["any", "student", "teacher"] = field(
        default="any",
        metadata={
            "help": f"student: up to {_STUDENT_PARAMS} parameters, if --max_params is not given; teacher: with "
            "pretrained weights."
        },
    )
    max_params: str | None = field(default=None, metadata={"help": "Most parameters, such as 5M or 800K."})
    min_params: str | None = field(default=None, metadata={"help": "Fewest parameters."})
    pattern: str = field(default="*", metadata={"help": "Names to list, with * for any letters, such as 'resnet*'."})
    pretrained_only: bool = field(default=False, metadata={"help": "Only those with pretrained weights."})

    def __post_init__(self) -> None:
        if self.task == "student" and self.max_params is None:
            self.max_params = _STUDENT_PARAMS
        self.pretrained_only = self.pretrained_only or self.task == "teacher"
        low, high = self.params_range()
        if low > high:
            raise ValueError(f"min_params is {self.min_params} but max_params {self.max_params}, expected no more")

    def params_range(self) -> tuple[float, float]:
        """Fewest and most parameters.

        Example:
            >>> ModelsArguments(max_params="5M").params_range()
            (0, 5000000.0)
        """
        low = 0 if self.min_params is None else _count("min_params", self.min_params)
        return low, math.inf if self.max_params is None else _count("max_params", self.max_params)


@dataclass
class ObjectivesArguments:
    """Which objectives and terms are described."""

    title: ClassVar[str] = "Objectives"

    names: list[str] | None = field(
        default=None, metadata={"help": "Objectives and terms to describe in full; none for the table of all."}
    )


def _count(name: str, text: str) -> float:
    match = re.fullmatch(r"([0-9]+|[0-9]*\.[0-9]+)([KMGB]?)", text.upper())
    if match is None or (name == "max_params" and float(match[1]) == 0):
        raise ValueError(f"{name} is {text!r}, expected a number of parameters such as 5M or 800K")
    return float(match[1]) * _UNITS[match[2]]


@dataclass
class ImportArguments:
    """Which file of weights becomes a model folder, and what the file does not say."""

    title: ClassVar[str] = "Import"

    file: str = field(metadata={"help": "A .pth, .pt, .pth.tar or .safetensors file."})
    model: str = field(metadata={"help": "Architecture in timm's registry of its net."})
    output_dir: str = field(metadata={"help": "Folder to write."})
    label_names: list[str] | None = field(
        default=None, metadata={"help": "Names of the classes in the order of the outputs; default: LABEL_0, LABEL_1."}
    )
    key: str | None = field(
        default=None,
        metadata={"help": "Entry of the file that holds the weights, such as state_dict_ema, if several do."},
    )
    image_size: int | None = field(
        default=None, metadata={"help": "Side of the images it was trained on; default: the architecture's."}
    )
    mean: list[float] | None = field(
        default=None,
        metadata={
            "help": "Channel means it was trained with, from 0 to 1; default: timm's for the architecture, none for "
            "cifar_*."
        },
    )
    std: list[float] | None = field(
        default=None, metadata={"help": "Channel standard deviations it was trained with; as for mean."}
    )

    def __post_init__(self) -> None:
        check_range(self, "image_size", 1, math.inf)
        for name in ("mean", "std"):
            check_channels(name, getattr(self, name))
