"""The plan of a distillation in one command: what each part does, what it takes, and its text."""

from __future__ import annotations

import math
import shutil
from pathlib import Path
from typing import Any, NamedTuple

from hf_icckd.data import ImagePipeline
from hf_icckd.data.pixel_reading import PixelReading
from hf_icckd.data.sampling import KeyedBatchSampler
from hf_icckd.losses import describe_terms
from hf_icckd.models.pretrained import WEIGHTS_FILE
from hf_icckd.options.schedule import steps_in_epoch, training_steps
from hf_icckd.options.training import (
    DistillationTrainingArguments,
    StudentTrainingArguments,
    TeacherTrainingArguments,
)
from hf_icckd.runs import checkpoints
from hf_icckd.runs.folder import RunFolder
from hf_icckd.runs.records import read_records
from hf_icckd.training.recorded_batches import recordable
from hf_icckd.training.student_trainer import StudentTrainer
from hf_icckd.training.student_with_objective import StudentWithObjective
from hf_icckd.training.trainer import DistillationTrainer
from hf_icckd.training.trial import Trial, try_steps
from hf_icckd.utils import distributed
from hf_icckd.utils.atomic_files import existing_folder
from hf_icckd.utils.machine import cores, free_memory
from hf_icckd.utils.text import columns, listed, percent, size_text

_FORWARD_ONLY = 2  # passes over all splits at the end, which measure and compare
_NAME, _COLUMN = 20, 38
_TARGET_BYTES = 2  # of a recorded number
_LONG = 5_000_000  # images that a run trains on


class PartPlan(NamedTuple):
    """What one part is going to do.

    Attributes:
        facts: Titles and words of the plan's rows.
        seconds: An estimate of its time; 0 if there is nothing left to do.
        peak_bytes: What it needs on the disk while it trains.
        kept_bytes: What stays of it.
    """

    facts: dict[str, str]
    seconds: float = 0.0
    peak_bytes: int = 0
    kept_bytes: int = 0


def plan_of(trainer: DistillationTrainer, pipeline: ImagePipeline, folder: RunFolder) -> PartPlan:
    """Try a part's first steps and plan the rest; the trainer stays as it is.

    Args:
        trainer: The trainer of the part.
        pipeline: Its data.
        folder: The folder of its run.
    """
    args, spec = trainer.args, trainer.classifier.spec
    sampler, per_epoch, steps = _length(trainer)
    newest = checkpoints.newest_intact(folder.path)
    done = 0 if newest is None else int(newest.name.rpartition("-")[2])
    trial = try_steps(trainer)
    parameters = sum(each.numel() for each in trainer.classifier.net.parameters())
    epochs = steps / per_epoch
    facts = {
        "net": spec.architecture,
        "parameters": f"{parameters:,}",
        "starts from": _start(folder.values) if newest is None else f"its checkpoint of step {done:,}",
        "images": f"{spec.image_size} x {spec.image_size} pixels" + _enlarged(spec.image_size, pipeline.reading),
        "learns by": _learns_by(trainer),
        "length": f"{steps:,} steps: {epochs:.4g} epochs of {per_epoch:,}",
        "batch": _batch(args, sampler.global_batch_size),
        "optimiser": _optimiser(args),
        "schedule": _schedule(args),
        "memory": f"about {size_text(trial.memory)} for a step",
    }
    recorded = _recorded_bytes(trainer, pipeline, epochs) if folder.values.get("recorded_targets") else 0
    saved = math.ceil(_times(args.save_strategy, args.save_steps, steps, per_epoch))
    if args.save_total_limit is not None:
        saved = min(saved, args.save_total_limit + 1)  # a new one is complete before the oldest is removed
    evaluations = _times(args.eval_strategy, args.eval_steps, steps, per_epoch)
    filled = sampler.num_used / (len(sampler) * sampler.global_batch_size)  # the last batch of an epoch is a short one
    return PartPlan(
        facts,
        _seconds(trial, args, steps, done, evaluations, pipeline, filled),
        saved * trial.checkpoint + recorded,
        4 * parameters + recorded,
    )


def foretell(trainer: DistillationTrainer, pipeline: ImagePipeline, folder: RunFolder) -> str:
    """Words about the time, memory and disk of a long run; empty for one that is over sooner than they are wanted.

    Raises:
        ValueError: If the disk has too little room.
    """
    args, (sampler, _, steps) = trainer.args, _length(trainer)
    if steps * args.gradient_accumulation_steps * sampler.global_batch_size < _LONG:
        return ""
    free = free_memory()  # before the trial, whose memory the process keeps
    plan = plan_of(trainer, pipeline, folder)
    room = distributed.on_first_rank(lambda: check_room(folder.path, PartPlan({}), plan, formats=0))
    memory = plan.facts["memory"] + (f", {size_text(free)} free" if args.device.type == "cpu" else "")
    return f"about {duration(plan.seconds)} of training; memory: {memory}; disk: {room}"


def _length(trainer: DistillationTrainer) -> tuple[KeyedBatchSampler, int, int]:
    """Keys of the batches, steps of an epoch, and of the run."""
    args = trainer.args
    sampler = trainer.train_dataset.batch_sampler(args.train_batch_size, args.seed)
    per_epoch = steps_in_epoch(len(sampler), args)
    return sampler, per_epoch, training_steps(args.num_train_epochs, args.max_steps, per_epoch)


def _recorded_bytes(trainer: DistillationTrainer, pipeline: ImagePipeline, epochs: float) -> int:
    """What the teacher's recorded outputs will take on the disk."""
    assert isinstance(trainer, StudentTrainer) and isinstance(trainer.model, StudentWithObjective)
    dims = recordable(trainer.teacher, pipeline, trainer.model.objectives.teacher_outputs)
    times = 1 if pipeline.constant else math.ceil(epochs)
    return _TARGET_BYTES * sum(dims.values()) * len(pipeline.data.trained) * times


def _times(strategy: str, every: float | None, steps: int, per_epoch: int) -> float:
    """How often something is done in a run: never, after each epoch, or every so many steps or that share of all."""
    if strategy == "no":
        return 0
    if strategy == "epoch" or not every:
        return steps / per_epoch
    return steps / every if every >= 1 else 1 / every


def plan_of_finished(folder: Path) -> PartPlan:
    """Plan of a part that has nothing left to do."""
    _, results = read_records(folder)
    return PartPlan(
        {
            "net": results["model"]["architecture"] if "model" in results else "",
            "parameters": f"{results['cost']['parameters']:,}",
            "starts from": "is finished",
            "top-1": f"{results['test']['top1']:.2f} %",
        },
        kept_bytes=(folder / WEIGHTS_FILE).stat().st_size,
    )


def plan_of_given(name: str) -> PartPlan:
    """Plan of a teacher that is trained already.

    Args:
        name: What it is loaded by.
    """
    return PartPlan({"net": name, "starts from": "teaches as it is"})


def plan_text(teacher: PartPlan, student: PartPlan, title: str, further: list[tuple[str, str]]) -> str:
    """The plan as a table for a terminal.

    Args:
        teacher: Plan of the first column.
        student: Plan of the second column.
        title: First line.
        further: Titles and words of lines that are about both.
    """
    names = list(dict.fromkeys([*teacher.facts, *student.facts]))
    order = list(student.facts if len(student.facts) > len(teacher.facts) else teacher.facts)
    names.sort(key=lambda name: order.index(name) if name in order else len(order))
    rows = [("", "teacher", "student")] + [
        (name, teacher.facts.get(name, ""), student.facts.get(name, "")) for name in names
    ]
    lines = [title, "-" * (_NAME + 2 * _COLUMN)]
    for name, *cells in rows:
        lines += _row(name, [_wrapped(cell, _COLUMN - 2) for cell in cells])
    lines += [f"{name:<{_NAME}}{words}" for name, words in further]
    return "\n".join(line.rstrip() for line in lines)


def time_text(teacher: PartPlan, student: PartPlan) -> str:
    """The estimate of the time in words.

    Example:
        >>> time_text(PartPlan({}, seconds=840), PartPlan({}, seconds=350))
        'about 14 minutes for the teacher, 6 minutes for the student'
        >>> time_text(PartPlan({}), PartPlan({}))
        'nothing is left to train'
    """
    parts = [(plan.seconds, name) for plan, name in ((teacher, "teacher"), (student, "student")) if plan.seconds]
    if not parts:
        return "nothing is left to train"
    return "about " + ", ".join(f"{duration(seconds)} for the {name}" for seconds, name in parts)


def duration(seconds: float) -> str:
    """A time in one unit, rounded.

    Example:
        >>> [duration(seconds) for seconds in (4.2, 59.8, 100, 9000, 190_000)]
        ['4 seconds', '1 minute', '2 minutes', '2.5 hours', '2.2 days']
    """
    for unit, length, below in (("second", 1, 59.5), ("minute", 60, 59.5), ("hour", 3600, 24)):
        if seconds < below * length:
            count = max(round(seconds / length), 1) if unit != "hour" else round(seconds / length, 1)
            return f"{count:g} {unit}{'' if count == 1 else 's'}"
    return f"{seconds / 86_400:.1f} days"


def check_room(output_dir: Path, teacher: PartPlan, student: PartPlan, formats: int) -> str:
    """Words about the disk that all parts need.

    Args:
        output_dir: Folder of the parts; what it holds already is counted.
        teacher: Plan of the teacher.
        student: Plan of the student.
        formats: Number of files that the student is exported to.

    Raises:
        ValueError: If the disk has too little room.
    """
    needed = max(teacher.peak_bytes, teacher.kept_bytes + student.peak_bytes)
    needed += (1 + formats) * student.kept_bytes
    free = shutil.disk_usage(existing_folder(output_dir)).free
    there = sum(file.stat().st_size for file in output_dir.rglob("*") if file.is_file()) if output_dir.is_dir() else 0
    if free + there < needed:
        raise ValueError(
            f"{output_dir} needs up to {size_text(needed)}, for checkpoints above all; {size_text(free)} are free: "
            "make room, choose another --output_dir, or keep fewer checkpoints with --save_total_limit 1"
        )
    return f"up to {size_text(needed)}, {size_text(free)} free"


# ---- words of the rows


def _start(values: dict[str, Any]) -> str:
    if values.get("start_from") is not None:
        return str(values["start_from"])
    return "timm's pretrained weights" if values["pretrained"] else "scratch"


def _enlarged(size: int, reading: PixelReading) -> str:
    """Words about images that are all smaller than what the net takes: they cost as much as large ones."""
    if not 0 < max(reading.widths[2], reading.heights[2]) < size:
        return ""
    same = reading.widths[0] == reading.widths[2] and reading.heights[0] == reading.heights[2]
    return f", enlarged from {'' if same else 'at most '}{reading.widths[2]} x {reading.heights[2]}"


def _learns_by(trainer: DistillationTrainer) -> str:
    args = trainer.args
    if isinstance(args, TeacherTrainingArguments):
        terms = ["cross-entropy", *describe_terms(args.terms)]
        return " + ".join(terms) + (", two views" if args.num_views == 2 else "")
    assert isinstance(args, StudentTrainingArguments)
    weight = trainer.term_weights.get("ce", 0)  # no such term where no image has a label
    ce = ["cross-entropy" if weight == 1 else f"{weight:g} x cross-entropy"] if weight else []
    return " + ".join([*ce, *args.objectives])


def _batch(args: DistillationTrainingArguments, rows: int) -> str:
    words = f"{rows * args.gradient_accumulation_steps} images"
    by = [(args.world_size, "processes"), (args.gradient_accumulation_steps, "accumulated")]
    detail = [f"{count} {what}" for count, what in by if count > 1]
    return words + (f" ({args.per_device_train_batch_size} each, {', '.join(detail)})" if detail else "")


def _optimiser(args: DistillationTrainingArguments) -> str:
    name = str(getattr(args.optim, "value", args.optim))
    return f"{name}, learning rate {args.learning_rate:g}, weight decay {args.weight_decay:g}"


def _schedule(args: DistillationTrainingArguments) -> str:
    words = str(getattr(args.lr_scheduler_type, "value", args.lr_scheduler_type))
    if args.lr_milestones is not None:
        words = "divided by ten at " + listed([f"{each:g}" for each in args.lr_milestones])
    if args.lr_schedule_epochs is not None:
        words += f", as for {args.lr_schedule_epochs:g} epochs"
    if args.warmup_epochs is not None:
        return words + (f", warm-up {args.warmup_epochs:g} epochs" if args.warmup_epochs else "")
    warmup = args.warmup_steps
    return words + (f", warm-up {percent(warmup, 0) if warmup < 1 else f'{warmup:g} steps'}" if warmup else "")


# ---- time


def _seconds(
    trial: Trial,
    args: DistillationTrainingArguments,
    steps: int,
    done: int,
    evaluations: float,
    pipeline: ImagePipeline,
    filled: float,
) -> float:
    """Copies of images, steps that are left, evaluations while training, and what is measured at the end."""
    workers = 0 if pipeline.resident else args.loading["num_workers"]
    batch = max(trial.step, trial.loading / workers) if workers else trial.step + trial.loading
    splits = {name: len(rows) for name, rows in pipeline.data.splits().items()}
    times, evaluated = evaluations * (steps - done) / steps, splits[pipeline.evaluation_split]
    images = times * evaluated + _FORWARD_ONLY * sum(splits.values())
    read = 0 if pipeline.resident else images - (max(times - 1, 0) * evaluated if pipeline.keeps_evaluated else 0)
    reading = trial.loading / args.train_batch_size / max(workers, 1)
    measuring = (images * trial.evaluation + read * reading) / args.world_size
    copying = 0.0
    if pipeline.image_cache is not None and done == 0:
        copying = (trial.first_loading - trial.loading) / args.train_batch_size * len(pipeline.data.trained) / cores()
    return (steps - done) * args.gradient_accumulation_steps * filled * batch + measuring + max(0.0, copying)


# ---- the table


def _row(name: str, cells: list[list[str]]) -> list[str]:
    height = max(map(len, cells))
    lines = []
    for index in range(height):
        words = [cell[index] if index < len(cell) else "" for cell in cells]
        padded = "".join(each + " " * (_COLUMN - columns(each)) for each in words)
        lines.append(f"{name if index == 0 else '':<{_NAME}}{padded}")
    return lines


def _wrapped(text: str, width: int) -> list[str]:
    lines = [""]
    for word in text.split():
        joined = f"{lines[-1]} {word}".strip()
        if columns(joined) <= width or not lines[-1]:
            lines[-1] = joined
        else:
            lines.append(word)
    return lines
