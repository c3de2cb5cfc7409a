"""The whole path in one command: `hf-icckd distill FOLDER --teacher ARCHITECTURE --student ARCHITECTURE`.

Each part is a run of its own in a folder of its own, so the same command resumes whichever was interrupted.
"""

from __future__ import annotations

import contextlib
import functools
import gc
import itertools
import logging
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import torch

from hf_icckd import export, student, teacher
from hf_icckd.data import ImageData
from hf_icckd.data.from_options import Load, LoadOnce
from hf_icckd.data.pipeline import SMALL_IMAGE
from hf_icckd.data.pixel_reading import pixel_reading
from hf_icckd.data.report import data_report, with_mirroring
from hf_icckd.data.report_text import report_table
from hf_icckd.models.architectures import check_architecture, has_pretrained
from hf_icckd.models.classifier import ImageClassifier
from hf_icckd.options.command_line import UserError, parse_command, readable_errors, set_up_logging
from hf_icckd.options.data import TrainingDataArguments
from hf_icckd.options.distill import DistillOptions
from hf_icckd.options.distill_words import DistillWords, read_command, trains_a_teacher
from hf_icckd.options.recipes import RECIPES
from hf_icckd.options.training import DistillationTrainingArguments
from hf_icckd.plan import (
    PartPlan,
    check_room,
    plan_of,
    plan_of_finished,
    plan_of_given,
    plan_text,
    time_text,
)
from hf_icckd.runs.folder import no_empty_folders
from hf_icckd.runs.layout import ARGS_FILE, METRICS_FILE
from hf_icckd.runs.pair import pair_table
from hf_icckd.runs.provenance import device_name
from hf_icckd.session import check_compared, show_finished
from hf_icckd.training.rehearsal import rehearse
from hf_icckd.utils import distributed
from hf_icckd.utils.atomic_files import user_path
from hf_icckd.utils.formats import FORMATS, check_installed
from hf_icckd.utils.machine import free_memory
from hf_icckd.utils.text import show, size_text

logger = logging.getLogger(__name__)

# Teacher and student if none are named. For small images it is the pair of the literature's CIFAR-100 table whose
# student comes closest to its teacher by KD (74.9 of 75.6 %), at a third of the cost of the most accurate one.
_SMALL = "cifar_wrn_40_2", "cifar_wrn_16_2"
# Quick enough for a CPU, free to use, and made to be quantised: without squeeze-and-excitation, with ReLU6.
_PHOTOGRAPHS = "tf_efficientnet_lite2", "tf_efficientnet_lite0"


class Part(NamedTuple):
    """One run of the path.

    Attributes:
        name: teacher or student.
        main: The function that runs it.
        folder: The folder of its run.
        words: Its command line.
    """

    name: str
    main: Callable[..., None]
    folder: Path
    words: list[str]

    @property
    def finished(self) -> bool:
        """Whether it has ended."""
        return (self.folder / METRICS_FILE).is_file()


class Distillation(NamedTuple):
    """What is to be done.

    Attributes:
        output_dir: Folder of all parts.
        teacher: What the student's options name as its teacher.
        parts: The runs in order, without one of the teacher if that is trained already.
        formats: What the student is exported to.
    """

    output_dir: Path
    teacher: str
    parts: list[Part]
    formats: list[str]


def main(argv: list[str] | None = None) -> None:
    """Train a teacher, distil a student from it and export that, or resume where it was interrupted."""
    options, words = read_command(argv)
    data_args, _, args = parse_command("student", words.student, RECIPES["student"])
    set_up_logging(args.process_index == 0, args.log_level == "debug")
    with readable_errors(), _one_report():
        formats = _formats(options)
        load = LoadOnce()
        with args.main_process_first(desc="reading the data set"):
            data = load(data_args)
        path = _path(options, words, data, formats)
        if options.dry_run or not all(part.finished for part in path.parts):
            _show(_report(data, data_args))
            with no_empty_folders(*(part.folder for part in path.parts)):
                _plan(path, args, load, options.dry_run)
        if not options.dry_run:
            _run(path, load)


def _path(options: DistillOptions, words: DistillWords, data: ImageData, formats: list[str]) -> Distillation:
    """The parts, with all their options."""
    small = (pixel_reading(data).longest or SMALL_IMAGE) <= SMALL_IMAGE
    default_teacher, default_student = _SMALL if small else _PHOTOGRAPHS
    output_dir = Path(options.output_dir or f"runs/{user_path(data.name).resolve().name}")
    _check_folder(output_dir)
    parts = []
    if trains_a_teacher(options):
        folder = output_dir / "teacher"
        own = _words(folder, [], words.teacher, options.teacher, default_teacher)
        parts.append(Part("teacher", teacher.main, folder, own))
        teaches = str(folder)
    else:
        assert options.teacher is not None  # or it would be trained
        teaches = options.teacher
    first = ["--teacher", teaches]
    if _value(words.student, "teacher_targets") not in (None, "live"):
        first += ["--teacher_targets_dir", str(output_dir / "teacher-targets")]
    folder = output_dir / "student"
    own = _words(folder, first, words.student, options.student, default_student)
    parts.append(Part("student", student.main, folder, own))
    return Distillation(output_dir, teaches, parts, formats)


def _words(folder: Path, first: list[str], given: list[str], named: str | None, default: str) -> list[str]:
    """Command line of a part; what the user gives comes late, where it counts.

    Args:
        folder: Folder of the part.
        first: Options of the part that the user may change.
        given: Those that the user gave.
        named: The net that the user named.
        default: The net without a name, unless there is a classifier to start from, which has its own.
    """
    start, net = _value(given, "start_from"), named or default
    if named is not None or start is None:
        check_architecture(net)
        first = [*first, "--model", net]
    if start is None:
        first = [*first, "--pretrained", str(has_pretrained(net)).lower()]
    return [*first, *given, "--output_dir", str(folder)]


def _value(words: list[str], name: str) -> str | None:
    """The last value of an option on a command line."""
    found = None
    for word, following in itertools.pairwise([*words, ""]):
        option, equals, value = word.partition("=")
        if option == f"--{name}":
            found = value if equals else following
    return found


# ---- what is refused before anything is trained


def _formats(options: DistillOptions) -> list[str]:
    """Formats to export to. Raises ValueError for those that can't be written here."""
    formats = [] if options.export == ["none"] else options.export
    if "none" in formats:
        raise ValueError(f"export is {' '.join(formats)}, expected formats, or none alone")
    if formats:
        parse_command("export", _export_words(Path(), formats))
    for name in formats:
        purpose = "the export at the end (--export none leaves it out)"
        check_installed(FORMATS[name].packages, FORMATS[name].extra, purpose)
    return formats


def _check_folder(folder: Path) -> None:
    """Raise ValueError if the folder holds something else."""
    held = {file.name for file in folder.iterdir() if not file.name.startswith(".")} if folder.is_dir() else set()
    what = "is a file" if folder.exists() and not folder.is_dir() else ""
    if ARGS_FILE in held:
        what = "holds a single run, expected the folder of a distillation with teacher/ and student/ in it"
    elif held and not held & {"teacher", "student"}:
        what = "is not empty and holds neither teacher/ nor student/"
    if what:
        raise ValueError(f"output folder {str(folder)!r} {what}; choose another with --output_dir")


# ---- the plan


def _plan(path: Distillation, args: DistillationTrainingArguments, load: Load, dry_run: bool) -> None:
    """Try a step of each part, print the plan, and refuse what could not work.

    Args:
        path: What is to be done.
        args: Options of a part, for the device.
        load: Loads the data set.
        dry_run: Whether this is all that is done.
    """
    free = free_memory()  # before the trials, whose memory the process keeps
    plans: dict[str, PartPlan] = {}
    tried: list[tuple[ImageClassifier, ImageData]] = []  # what was tried, and the data that it will be trained on

    def plan(trainer, pipeline, folder, teaching) -> None:
        check_compared(pipeline, folder, tried[0][1] if tried else None)
        rehearse(trainer)
        plans[folder.values["recipe"]] = plan_of(trainer, pipeline, folder)
        tried.append((trainer.classifier, pipeline.data))

    # Runs say again what is silenced here. A dry run is not silent, and makes no repository on the Hub.
    level, hub = (logging.INFO, ["--push_to_hub", "false"]) if dry_run else (logging.WARNING, [])
    for part in path.parts:
        options = {"record": False, "stand_in": tried[0][0] if tried else None} if part.name == "student" else {}
        logger.info("trying a step of the %s", part.name)
        with _quiet(level), _about(part.name):
            part.main([*part.words, *hub], train=plan, finished=lambda folder, args: None, load=load, **options)
        plans.setdefault(part.name, plan_of_finished(part.folder) if part.finished else PartPlan({}))
    plans.setdefault("teacher", plan_of_given(path.teacher))
    pair = plans["teacher"], plans["student"]
    lines = [
        ("device", f"{args.world_size} x {device_name(args)}, {args.precision}"),
        *([("free memory", size_text(free))] if args.device.type == "cpu" else []),
        ("disk", distributed.on_first_rank(lambda: check_room(path.output_dir, *pair, len(path.formats)))),
        ("export", ", ".join(path.formats) or "none"),
        ("time", time_text(*pair)),
    ]
    _show(plan_text(*pair, f"plan of {path.output_dir}", lines))
    tried.clear()
    gc.collect()
    if args.device.type == "cuda":
        torch.cuda.empty_cache()


# ---- the parts


def _run(path: Distillation, load: Load) -> None:
    """Train what is not trained, export the student, and print the table of both."""
    for number, part in enumerate(path.parts, start=1):
        if not part.finished:
            logger.info("part %d of %d: the %s", number, len(path.parts), part.name)
        with _about(part.name):
            part.main(part.words, finished=functools.partial(show_finished, quiet=True), load=load)
    distributed.on_first_rank(lambda: _finish(path, load))


def _finish(path: Distillation, load: Load) -> None:
    """Export the trained student and print the table of both; for one process alone."""
    folder = path.parts[-1].folder
    if missing := [name for name in path.formats if not (folder / FORMATS[name].file).is_file()]:
        with _about("export"):
            export.main(_export_words(folder, missing), load=load)
    show(pair_table(folder, path.teacher, f"{path.output_dir} is finished"))
    show(_next(path, folder))


def _export_words(folder: Path, formats: list[str]) -> list[str]:
    return [str(folder), "--formats", *formats]


def _next(path: Distillation, folder: Path) -> str:
    commands = [
        (f"hf-icckd predict {folder} IMAGE_OR_FOLDER", "classify images"),
        (f"hf-icckd demo {path.teacher} {folder}", "compare both on a page"),
        (f"hf-icckd push {folder} --repo_id NAME/{path.output_dir.name}", "publish the student"),
    ]
    width = max(len(command) for command, _ in commands)
    return "next\n" + "\n".join(f"  {command:<{width}}  {purpose}" for command, purpose in commands)


# ---- what is printed


def _report(data: ImageData, data_args: TrainingDataArguments) -> str:
    return report_table(with_mirroring(data_report(data), data, data_args.chosen_augmentation(0)))


def _show(text: str) -> None:
    if distributed.rank() == 0:
        show(text)


@contextlib.contextmanager
def _about(name: str) -> Iterator[None]:
    """Context in which an error says which part it is about."""
    try:
        yield
    except UserError as error:
        raise UserError(f"{name}: {str(error).removeprefix('error: ')}") from error


@contextlib.contextmanager
def _quiet(level: int) -> Iterator[None]:
    """Context without messages of the log up to a level: a run says again what its plan would have said."""
    before = logging.root.manager.disable
    logging.disable(level)
    try:
        yield
    finally:
        logging.disable(before)


@contextlib.contextmanager
def _one_report() -> Iterator[None]:
    """Context in which the parts don't print the report on the data set again."""
    reports = logging.getLogger("hf_icckd.data.from_options")
    before = reports.level
    reports.setLevel(logging.WARNING)
    try:
        yield
    finally:
        reports.setLevel(before)


if __name__ == "__main__":
    main()
