"""The commands of `hf-icckd`, each with its options. Light: nothing here imports torch, so that help comes at once."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from importlib import import_module
from typing import ClassVar

from hf_icckd.options.checks import changed_options, check_licence, check_range
from hf_icckd.options.data import (
    StudentDataArguments,
    TrainingDataArguments,
)
from hf_icckd.options.deployment import BenchmarkArguments, ExportArguments, ExportDataArguments
from hf_icckd.options.distill import NEVER, DistillOptions
from hf_icckd.options.evaluation import MODEL, EvaluationArguments, EvaluationDataArguments
from hf_icckd.options.fine_tuning import FineTuning
from hf_icckd.options.imbalance import ClassBalanceArguments
from hf_icckd.options.kept_weights import KeptWeights
from hf_icckd.options.lookup import ImportArguments, ModelsArguments, ObjectivesArguments
from hf_icckd.options.nets import StudentModelArguments, TeacherModelArguments
from hf_icckd.options.prediction import PredictionArguments
from hf_icckd.options.trainer import Hardware, HubOptions, Optimisation, RunOptions, StudentOptions, TeacherOptions


@dataclass
class ReportArguments:
    """Where the contact sheet goes."""

    title: ClassVar[str] = "Report"

    contact_sheet: str = field(
        default="contact_sheet.png",
        metadata={"help": "PNG file to write: some training images of each class.", "metavar": "FILE"},
    )


@dataclass
class StudyArguments:
    """Which study to run, where, and for how long."""

    title: ClassVar[str] = "Study"

    study: str = field(metadata={"help": "YAML file of the study; recipes/configs/study holds some."})
    output_dir: str = field(metadata={"help": "Folder of records, report and runs."})
    jobs: int = field(default=1, metadata={"help": "Number of runs at a time; they share the cores and GPUs."})
    minutes: float | None = field(
        default=None, metadata={"help": "Stop after this many minutes; the same command resumes the study exactly."}
    )
    dataset: str | None = field(default=None, metadata={"help": "Where the study's data set is on this machine."})
    label_column: str | None = field(
        default=None, metadata={"help": "Its label column, if it is named differently on this machine."}
    )
    max_steps: int | None = field(
        default=None,
        metadata={"help": "Cut every run off after this many steps: a trial of the study, not the study itself."},
    )


@dataclass
class DemoDataArguments(EvaluationDataArguments):
    """Data set of class means and examples."""

    title: ClassVar[str] = "Images"

    # Not options here: each net gets pictures in its own size.
    image_size: int | None = field(default=None, init=False)
    resident_max_bytes: int = field(default=0, init=False)


@dataclass
class DemoArguments:
    """Which models the page shows, and how it is served, or what the Space of it holds."""

    title: ClassVar[str] = "Page"

    models: list[str] = field(
        default_factory=lambda: ["runs/teacher", "runs/student"],
        metadata={"help": f"One classifier, or a teacher and its student. {MODEL}."},
    )
    space: str | None = field(
        default=None,
        metadata={"help": "Write a Gradio Space to this new folder instead of serving the page.", "metavar": "FOLDER"},
    )
    repo_id: list[str] | None = field(
        default=None,
        metadata={"help": "Where each model is on the Hub: the Space loads it from there and does not hold it."},
    )
    license: str | None = field(
        default=None, metadata={"help": "Identifier of the Space's licence; default: that of the last model's run."}
    )
    max_images: int = field(
        default=5000,
        metadata={"help": "Class means are taken over this many training images, up to 200 per class."},
    )
    host: str = field(
        default="127.0.0.1", metadata={"help": "Address to listen on; 0.0.0.0: all addresses of this machine."}
    )
    port: int = field(default=7860, metadata={"help": "Port to listen on."})
    share: bool = field(
        default=False, metadata={"help": "Also give the page a public address, through a server that Gradio runs."}
    )

    def __post_init__(self) -> None:
        check_range(self, "port", 1, 65535)
        check_range(self, "max_images", 1, math.inf)
        check_licence(self.license)
        if not 1 <= len(self.models) <= 2:
            raise ValueError(
                f"models are {', '.join(self.models) or 'none'}, expected one classifier, or a teacher and its student"
            )
        if self.repo_id is not None and len(self.repo_id) != len(self.models):
            raise ValueError(f"repo_id names {len(self.repo_id)} models, expected {len(self.models)}, one for each")
        of_page, of_space = ("max_images", "host", "port", "share"), ("repo_id", "license")
        changed = changed_options(self)
        without_effect = [f"--{name}" for name in (of_space if self.space is None else of_page) if name in changed]
        if without_effect:
            where, fix = ("a Space", ", or add --space FOLDER") if self.space is None else ("the local page", "")
            raise ValueError(f"{', '.join(without_effect)} only matters for {where}; leave it out{fix}")


@dataclass
class PushArguments:
    """What is pushed to the Hub, and where to."""

    title: ClassVar[str] = "Push"

    folder: str = field(metadata={"help": "Folder with config and weights, such as a finished run."})
    repo_id: str | None = field(
        default=None,
        metadata={"help": "Repository; default: hub_model_id of the run, or the folder's name in your own namespace."},
    )
    private: bool = field(
        default=False,
        metadata={"help": "Make a new repository private; a run with hub_private_repo always does."},
    )
    revision: str | None = field(
        default=None, metadata={"help": "Branch, created if missing; default: the run's hub_revision, or main."}
    )
    commit_message: str | None = field(default=None, metadata={"help": "First line of the commit."})
    create_pr: bool = field(default=False, metadata={"help": "Open a pull request instead of a commit."})


@dataclass
class CardArguments:
    """Whose cards are written again."""

    title: ClassVar[str] = "Cards"

    folders: list[str] = field(metadata={"help": "Folders of finished runs."})
    license: str | None = field(
        default=None, metadata={"help": "Identifier of the licence; also recorded in all_args.yaml."}
    )

    def __post_init__(self) -> None:
        check_licence(self.license)


@dataclass(frozen=True)
class Command:
    """A command: what it does, the module whose `main` does it, and its options.

    Attributes:
        summary: One line of help.
        module: Imported only when the command runs.
        options: Dataclasses of its own options.
        positional: Options whose values need no names, in this order; a list takes all that are left.
        common: The most used ones; help explains them first.
        trainer: Whether it also takes the options of the transformers Trainer.
        recipes: Those whose options it takes, each with the name of its recipe in front too.
        never: Options of those that it does not take, and what to do instead.
        function: The function in the module that takes the command line.
    """

    summary: str
    module: str
    options: tuple[type, ...]
    positional: tuple[str, ...] = ()
    common: tuple[str, ...] = ()
    trainer: bool = False
    recipes: tuple[str, ...] = ()
    never: Mapping[str, str] = field(default_factory=dict)
    function: str = "main"

    def load(self) -> Callable[[list[str]], None]:
        """Import the module and return the function that takes the command line."""
        return getattr(import_module(self.module), self.function)


_TRAINING = (Optimisation, FineTuning, KeptWeights, ClassBalanceArguments, RunOptions, Hardware, HubOptions)
COMMANDS = {
    "data": Command(
        "Say what is understood of a data set, and draw some images of each class. Nothing is trained.",
        "hf_icckd.data.__main__",
        (StudentDataArguments, ReportArguments),
        ("dataset",),
        ("dataset", "train_split", "test_split", "label_column", "labels", "test_fraction", "contact_sheet"),
    ),
    "distill": Command(
        "Fine-tune a teacher, distil a student from it and export that: the whole path, in one folder.",
        "hf_icckd.distill",
        (
            DistillOptions, TeacherModelArguments, StudentModelArguments, StudentDataArguments, TeacherOptions,
            StudentOptions, Optimisation, FineTuning, KeptWeights, ClassBalanceArguments, RunOptions, Hardware,
        ),
        ("dataset",),
        (
            "dataset", "teacher", "student", "output_dir", "dry_run", "image_size", "num_train_epochs",
            "per_device_train_batch_size", "dataloader_num_workers", "export",
        ),
        trainer=True,
        recipes=("teacher", "student"),
        never=NEVER,
    ),
    "teacher": Command(
        "Train a teacher, or resume a run that was interrupted.",
        "hf_icckd.teacher",
        (TrainingDataArguments, TeacherModelArguments, TeacherOptions, *_TRAINING),
        ("dataset",),
        (
            "dataset", "model", "pretrained", "image_size", "output_dir", "num_train_epochs", "learning_rate",
            "per_device_train_batch_size", "dataloader_num_workers", "terms",
        ),
        trainer=True,
    ),
    "student": Command(
        "Distil a student from a teacher, or resume a run that was interrupted.",
        "hf_icckd.student",
        (StudentDataArguments, StudentModelArguments, StudentOptions, *_TRAINING),
        ("dataset",),
        (
            "dataset", "model", "teacher", "pretrained", "output_dir", "num_train_epochs", "learning_rate",
            "per_device_train_batch_size", "objectives", "teacher_targets",
        ),
        trainer=True,
    ),
    "predict": Command(
        "Predict the classes of images, the least sure ones first.",
        "hf_icckd.predict",
        (PredictionArguments,),
        ("model", "images"),
        ("model", "images", "output_file", "top_k", "sort", "batch_size", "num_workers", "pixel_range"),
    ),
    "evaluate": Command(
        "Measure classifiers on a split.",
        "hf_icckd.evaluate",
        (EvaluationDataArguments, EvaluationArguments),
        ("model",),
        ("model", "dataset", "split", "teacher", "report", "output_file"),
    ),
    "export": Command(
        "Write a model as ONNX, int8 ONNX or OpenVINO, each checked against torch.",
        "hf_icckd.export",
        (ExportDataArguments, ExportArguments),
        ("folder",),
        ("folder", "formats", "dataset", "output", "tolerance", "calibration_images"),
    ),
    "benchmark": Command(
        "Compare size and latency of models and of what they were exported to.",
        "hf_icckd.benchmark",
        (BenchmarkArguments,),
        ("models",),
        ("models", "batch_sizes", "threads", "output_file"),
    ),
    "demo": Command(
        "Show a classifier, or a teacher and its student, on a local page; or write it as a Gradio Space.",
        "hf_icckd.demo.__main__",
        (DemoDataArguments, DemoArguments),
        ("models",),
        ("models", "dataset", "port", "space", "repo_id", "license"),
    ),
    "push": Command(
        "Publish the folder of a finished run on the Hub, or resume a push that was cut off.",
        "hf_icckd.hub.__main__",
        (PushArguments,),
        ("folder",),
        ("folder", "repo_id", "private"),
        function="push",
    ),
    "import": Command(
        "Make a model folder of a file of weights.",
        "hf_icckd.import_weights",
        (ImportArguments,),
        ("file",),
        ("file", "model", "output_dir", "label_names", "mean", "std", "image_size"),
    ),
    "models": Command(
        "List nets that could teach or learn: parameters, size of their images, licences of their weights.",
        "hf_icckd.find_models",
        (ModelsArguments,),
        ("pattern",),
        ("pattern", "task", "max_params", "min_params", "pretrained_only"),
    ),
    "objectives": Command(
        "List what students and teachers can minimise, with defaults and sources.",
        "hf_icckd.objectives",
        (ObjectivesArguments,),
        ("names",),
        ("names",),
    ),
    "card": Command(
        "Write the model cards of finished runs again, from their records.",
        "hf_icckd.model_card",
        (CardArguments,),
        ("folders",),
        ("folders", "license"),
    ),
    "study": Command(
        "Run a study: teachers and students over seeds, with controls and a report.",
        "hf_icckd.study.__main__",
        (StudyArguments,),
        ("study",),
        ("study", "output_dir", "jobs", "minutes"),
    ),
}  # fmt: skip
