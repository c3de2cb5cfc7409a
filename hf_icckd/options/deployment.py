"""Options of export and benchmark. Light: nothing here imports torch or a runtime."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import ClassVar

from hf_icckd.options.checks import changed_options, check_number, check_range
from hf_icckd.options.data import ImageDataArguments
from hf_icckd.utils.formats import FORMATS
from hf_icckd.utils.text import suggest


@dataclass
class ExportDataArguments(ImageDataArguments):
    """Data set to calibrate int8 on and to measure accuracy on."""

    title: ClassVar[str] = "Images"

    dataset: str = field(
        default="", metadata={"help": "As for training; default: what the model was trained on, by its folder."}
    )


@dataclass
class ExportArguments:
    """Which model is written in which formats, and what a file must pass."""

    title: ClassVar[str] = "Export"

    folder: str = field(metadata={"help": "Folder of a run, Hub id or a pretrained timm model's name."})
    formats: list[str] = field(
        default_factory=lambda: ["onnx"],
        metadata={"help": "onnx (float32), int8 (ONNX, statically quantised), openvino: one or several."},
    )
    output: str | None = field(
        default=None,
        metadata={"help": "File to write (.onnx, for openvino .xml) or folder; default: the model's own folder."},
    )
    tolerance: float = field(
        default=1.0,
        metadata={"help": "Largest drop of top-1 on the test split, in percentage points; else it is not written."},
    )
    calibration_images: int = field(
        default=300, metadata={"help": "Training images that int8 is calibrated on, evenly over the classes."}
    )
    weight_bits: int = field(
        default=8, metadata={"help": "Of int8: 8, or 7 so that x86 processors without VNNI compute the same."}
    )
    logit_tolerance: float = field(
        default=1e-4,
        metadata={"help": "Largest difference of a logit in float32, as a share of the largest if that is above 1."},
    )
    num_images: int = field(default=1000, metadata={"help": "Random images to compare logits on."})

    def __post_init__(self) -> None:
        for name in self.formats:
            if name not in FORMATS:
                raise ValueError(
                    f"formats has {name!r}, expected some of: {', '.join(FORMATS)}{suggest(name, FORMATS)}"
                )
        self.formats = list(dict.fromkeys(self.formats))
        check_range(self, "tolerance", 0, 100)
        check_range(self, "logit_tolerance", 0, math.inf)
        check_range(self, "calibration_images", 1, math.inf)
        check_range(self, "num_images", 1, math.inf)
        if self.weight_bits not in (7, 8):
            raise ValueError(f"weight_bits is {self.weight_bits}, expected 8, or 7 for x86 processors without VNNI")
        changed = changed_options(self)
        of_int8 = [f"--{name}" for name in ("calibration_images", "weight_bits") if name in changed]
        if of_int8 and "int8" not in self.formats:
            names, formats = " and ".join(of_int8), " ".join(self.formats)
            raise ValueError(
                f"{names} would change nothing with --formats {formats}: only int8 is calibrated and has bits to "
                f"choose; add it, --formats {formats} int8, or leave {names} out"
            )


@dataclass
class BenchmarkArguments:
    """Which models are timed, and how."""

    title: ClassVar[str] = "Benchmark"

    models: list[str] = field(
        metadata={
            "help": "Folders of runs, with every file that was exported to them; single .onnx or .xml files; Hub ids "
            "or pretrained timm models."
        }
    )
    batch_sizes: list[int] = field(default_factory=lambda: [1, 64], metadata={"help": "Images per call."})
    threads: list[int] | None = field(
        default=None, metadata={"help": "Numbers of threads; default: one, and all cores."}
    )
    rounds: int = field(default=5, metadata={"help": "Turns of each model; the median counts."})
    output_file: str | None = field(default=None, metadata={"help": "JSON file to write the table to."})

    def __post_init__(self) -> None:
        for name in ("batch_sizes", "threads"):
            for value in getattr(self, name) or ():
                check_number(name, value, 1)
        check_range(self, "rounds", 1, math.inf)
