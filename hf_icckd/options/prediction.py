"""Options of predictions: which model, which images, and what becomes of the results."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from pathlib import PurePath
from typing import ClassVar, Literal

from hf_icckd.options.checks import check_pixel_range, check_range

RESULT_SUFFIXES = (".csv", ".json")


@dataclass
class PredictionArguments:
    """Which model predicts the classes of which images."""

    title: ClassVar[str] = "Prediction"

    model: str = field(
        metadata={
            "help": "Folder of a run, Hub id, a pretrained timm model's name, or an ONNX file that export wrote."
        }
    )
    images: list[str] = field(
        metadata={"help": "Image files, folders (with all folders in them), or patterns such as 'photos/**/*.jpg'."}
    )
    output_file: str | None = field(
        default=None, metadata={"help": "File for all predictions: .csv or .json, by its suffix."}
    )
    top_k: int | None = field(
        default=None, metadata={"help": "Classes for each image; default: 5, or all if there are fewer."}
    )
    sort: Literal["margin", "name"] = field(
        default="margin",
        metadata={
            "help": "margin: those images first whose two most probable classes are closest; name: by their names."
        },
    )
    batch_size: int = field(default=64, metadata={"help": "Images per step."})
    num_workers: int | None = field(
        default=None, metadata={"help": "Threads that read images; default: one for each core, up to 8."}
    )
    pixel_range: list[float] | None = field(
        default=None,
        metadata={
            "help": "Values of black and white in deep images: LOW HIGH; default: those of the model's run, else the "
            "range of their type."
        },
    )

    def __post_init__(self) -> None:
        check_range(self, "top_k", 1, math.inf)
        check_range(self, "batch_size", 1, math.inf)
        check_range(self, "num_workers", 1, math.inf)
        check_pixel_range(self.pixel_range)
        if self.output_file is not None and PurePath(self.output_file).suffix.lower() not in RESULT_SUFFIXES:
            raise ValueError(
                f"output_file is {self.output_file!r}, expected a name that ends in {' or '.join(RESULT_SUFFIXES)}"
            )
