"""What the entry points share: the folder of a run, the data of its options, and how it ends."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import logging
import platform
import shlex
import shutil
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import accelerate
import timm
import torch
import transformers
import yaml
from transformers import TrainingArguments, set_seed

from hf_icckd import __version__, distributed
from hf_icckd.checkpointing import checkpoints
from hf_icckd.cli import UserError, argument_values
from hf_icckd.data import ImageData, ImagePipeline, load_image_data
from hf_icckd.evaluation import cost_metrics, split_metrics
from hf_icckd.hub import CARD_FILE
from hf_icckd.model_card import render_card
from hf_icckd.modeling import ImageClassifier, create_classifier
from hf_icckd.progress import format_table
from hf_icckd.trainer_base import DistillationTrainer
from hf_icckd.training_args import (
    DataArguments,
    DistillationTrainingArguments,
    StudentModelArguments,
    TeacherModelArguments,
    TrainingDataArguments,
)

logger = logging.getLogger(__name__)

ARGS_FILE, METRICS_FILE = "all_args.yaml", "metrics.json"

_OUTPUTS_MAX_BYTES = 2 * 1024**3  # of the training split, whose outputs are held for its figures

# Options that don't change what a run computes, so that it may go on with other values of them.
_FREE_OPTIONS = {
    "disable_tqdm",
    "local_rank",
    "num_threads",
    "output_dir",
    "per_device_eval_batch_size",
    "per_device_train_batch_size",  # the global batch size is compared in its place
    "project",
    "report_to",
    "resident_max_bytes",
    "resume_from_checkpoint",
    "run_name",
    "use_cpu",
}
_FREE_PREFIXES = ("accelerator_", "dataloader_", "ddp_", "eval_", "hub_", "log_", "logging_", "save_", "trackio_")


@contextlib.contextmanager
def readable_errors() -> Iterator[None]:
    """End the program with one line for what a user can mend; `--log_level debug` shows where it arose."""
    try:
        yield
    except (ValueError, FloatingPointError) as error:
        logger.debug("the error in full", exc_info=True)
        raise UserError(error) from error
    except KeyboardInterrupt:
        sys.stderr.write("\ninterrupted; the same command goes on from the last checkpoint, if there is one\n")
        raise SystemExit(130) from None
    except OSError as error:  # a full disk, a folder that can't be written
        logger.debug("the error in full", exc_info=True)
        raise UserError(f"{error}; mend that, or choose another folder with --output_dir") from error


class RunFolder:
    """The output folder of a run: new, begun or finished; never that of another run.

    Args:
        recipe: `teacher` or `student`.
        args: Options of the trainer, with the folder.
        data_args: Options of the data.
        model_args: Options of the model.
        **identity: Further values that make it this run.

    Attributes:
        finished: Whether the run in it has ended and its figures stand in metrics.json.
        checkpoint: The checkpoint to go on from; None for a new run.

    Raises:
        ValueError: If another run, or something that is none, is in the folder.
    """

    def __init__(
        self,
        recipe: str,
        args: DistillationTrainingArguments,
        data_args: TrainingDataArguments,
        model_args: TeacherModelArguments | StudentModelArguments,
        **identity: Any,
    ):
        self.path = Path(args.output_dir)
        if self.path.exists() and not self.path.is_dir():
            raise ValueError(f"output folder {str(self.path)!r} is a file; choose another with --output_dir")
        values = {"recipe": recipe} | argument_values(data_args, model_args, args) | identity
        values["global_batch_size"] = (
            values["per_device_train_batch_size"] * values["gradient_accumulation_steps"] * args.world_size
        )
        # Through text, so that what is compared is what a file would give.
        self.values = yaml.safe_load(yaml.safe_dump(json.loads(json.dumps(values, default=str))))
        known = self.path / ARGS_FILE
        if known.is_file():
            self._check_same(yaml.safe_load(known.read_text()))
        elif self.path.exists() and any(self.path.iterdir()):
            raise ValueError(
                f"output folder {str(self.path)!r} is not empty and holds no run of this package; choose another with "
                "--output_dir, or empty it"
            )
        self.finished = (self.path / METRICS_FILE).is_file()
        self.checkpoint = next(iter(reversed(checkpoints(self.path))), None)

    def _check_same(self, before: dict[str, Any]) -> None:
        def matters(name: str) -> bool:
            return name not in _FREE_OPTIONS and not name.startswith(_FREE_PREFIXES)

        # Another version of transformers may have options that this one lacks, or lack some: those are no difference.
        theirs = {each.name for each in dataclasses.fields(TrainingArguments)}
        names = sorted(filter(matters, (before.keys() & self.values.keys()) | (self.values.keys() - theirs)))
        differing = [
            f"{name} {before.get(name)!r} -> {self.values.get(name)!r}"
            for name in names
            if before.get(name) != self.values.get(name)
        ]
        if differing:
            raise ValueError(
                f"output folder {str(self.path)!r} holds another run; it differs in: {'; '.join(differing)}. Choose "
                "another folder with --output_dir, or delete this one"
            )

    def begin(self) -> None:
        """Write the options."""
        if distributed.rank() == 0:
            self.path.mkdir(parents=True, exist_ok=True)
            _write(self.path / ARGS_FILE, yaml.safe_dump(self.values, sort_keys=True))

    def show_finished(self) -> None:
        """Print the figures of a finished run."""
        if distributed.rank() == 0:
            results = json.loads((self.path / METRICS_FILE).read_text())
            show(summary_table(results, f"{self.path} is finished"))


def load_pipeline(
    data_args: TrainingDataArguments,
    args: DistillationTrainingArguments,
    default_size: int,
    crop_pct: float,
    interpolation: str,
    max_size: int | None = None,
) -> ImagePipeline:
    """Data set and pipeline as the options say; the other arguments are those of `ImagePipeline`."""
    with args.main_process_first(desc="reading the data set"):
        data = load_data(data_args)
    return ImagePipeline(
        data,
        image_size=data_args.image_size,
        default_size=default_size,
        max_size=max_size,
        crop_pct=crop_pct,
        interpolation=interpolation,
        augmentation=data_args.augmentation == "standard",
        crop_padding=data_args.crop_padding,
        min_crop_scale=data_args.min_crop_scale,
        horizontal_flip=data_args.horizontal_flip,
        resident_max_bytes=data_args.resident_max_bytes,
        seed=args.seed,
        device=args.device,
    )


def build_classifier(
    model_args: TeacherModelArguments | StudentModelArguments,
    data_args: TrainingDataArguments,
    pipeline: ImagePipeline,
    seed: int,
    normalisation: tuple[tuple[float, ...], tuple[float, ...]],
) -> ImageClassifier:
    """The net that is trained: from scratch for the pixels and `normalisation` given, or pretrained for its own."""
    set_seed(seed)
    mean, std = (None, None) if model_args.pretrained else normalisation
    return create_classifier(
        model_args.model,
        pipeline.data.label_names,
        # Pretrained weights want the size they were made with, and get it on the device, unless told otherwise.
        image_size=data_args.image_size if model_args.pretrained else pipeline.image_size,
        mean=mean,
        std=std,
        crop_pct=pipeline.crop_pct,
        interpolation=pipeline.interpolation,
        pretrained=model_args.pretrained,
    )


def load_data(data_args: DataArguments) -> ImageData:
    """Data set as the options say; notes about it are logged."""
    data = load_image_data(
        data_args.dataset,
        config_name=data_args.dataset_config_name,
        image_column=data_args.image_column,
        label_column=data_args.label_column,
        test_fraction=data_args.test_fraction,
        validation_fraction=data_args.validation_fraction,
        max_train_samples=data_args.max_train_samples,
        max_eval_samples=data_args.max_eval_samples,
    )
    for note in data.notes:
        logger.info("%s", note)
    return data


def train_and_report(
    trainer: DistillationTrainer, pipeline: ImagePipeline, folder: RunFolder, teacher: ImageClassifier | None = None
) -> dict[str, Any]:
    """Train or go on, measure the last epoch, and write model, figures, options and card.

    Args:
        trainer: The trainer.
        pipeline: Its data.
        folder: Folder of the run.
        teacher: Teacher of a student, for its figures beside the student's.

    Returns:
        What metrics.json holds.
    """
    folder.begin()
    if folder.checkpoint:
        logger.info("going on from %s", folder.checkpoint)
    start = time.perf_counter()
    trainer.train(resume_from_checkpoint=str(folder.checkpoint) if folder.checkpoint else None)
    seconds = time.perf_counter() - start
    trainer.save_model()  # before the figures: whatever happens to them, the model is there
    test = pipeline.dataset("test")
    results: dict[str, Any] = {"test": _figures(trainer, test)}
    if pipeline.data.validation is not None:
        results["validation"] = _figures(trainer, pipeline.dataset("validation"))
    if teacher is not None:
        results["teacher_test"] = split_metrics(trainer.evaluation_teacher(test))
    train = pipeline.dataset("train")
    outputs_bytes = 4 * len(train) * (len(trainer.classifier.spec.label_names) + trainer.classifier.embedding_dim)
    if outputs_bytes <= _OUTPUTS_MAX_BYTES:
        results["train"] = _figures(trainer, train)
    else:
        logger.info("no figures of the training split: its outputs would take %.1f GiB", outputs_bytes / 2**30)
    if trainer.is_world_process_zero():
        results |= {
            "cost": cost_metrics(trainer.classifier),
            "training": _last_training_log(trainer) | {"seconds_of_last_session": seconds},
            "history": [entry for entry in trainer.state.log_history if "eval_top1" in entry],
            "notes": pipeline.data.notes,
            "environment": _environment(trainer.args),
        }
        card = render_card(trainer.classifier.spec, folder.values, results)
        _write(folder.path / CARD_FILE, card)
        # Last, because it marks the run as finished.
        _write(folder.path / METRICS_FILE, json.dumps(results, indent=2) + "\n")
        for checkpoint in checkpoints(folder.path):  # a finished run holds no pickle, and nothing to go on from
            shutil.rmtree(checkpoint)
        show(summary_table(results, str(folder.path)))
    distributed.barrier()
    return results


def _write(path: Path, text: str) -> None:
    """A text file that appears whole or not at all."""
    temporary = path.with_name(f".{path.name}.unfinished")
    temporary.write_text(text)
    temporary.replace(path)


def _command() -> str:
    """The command line of this run, without secrets and without the path of the program."""
    words, secret = [], False
    for word in sys.argv[1:]:
        if not secret and "token" not in word:
            words.append(word)
        secret = word.startswith("--") and "token" in word and "=" not in word
    return f"python -m hf_icckd.{Path(sys.argv[0]).stem} {shlex.join(words)}".rstrip()


def _figures(trainer: DistillationTrainer, dataset) -> dict[str, float]:
    figures = split_metrics(trainer.predict_split(dataset), trainer.evaluation_teacher(dataset))
    return {"images": len(dataset), **figures}


def _last_training_log(trainer: DistillationTrainer) -> dict[str, float]:
    logs = [entry for entry in trainer.state.log_history if "images_per_second" in entry]
    return logs[-1] if logs else {}


def _environment(args: DistillationTrainingArguments) -> dict[str, Any]:
    cpu = f"CPU ({platform.machine()}, {torch.backends.cpu.get_cpu_capability()})"
    device = torch.cuda.get_device_name(args.device) if args.device.type == "cuda" else cpu
    return {
        "hf_icckd": __version__,
        "torch": torch.__version__,
        "timm": timm.__version__,
        "transformers": transformers.__version__,
        "accelerate": accelerate.__version__,
        "python": platform.python_version(),
        "device": device,
        "processes": args.world_size,
        "threads": torch.get_num_threads(),
        "command": _command(),
    }


def summary_table(results: dict[str, Any], title: str, split: str = "test") -> str:
    """The figures a person looks at first."""
    figures = results[split]
    rows = [(f"{split} top-1", f"{figures['top1']:.2f} % ({figures['images']:,} images)")]
    if f"teacher_{split}" in results:
        rows.append(("teacher's top-1", f"{results[f'teacher_{split}']['top1']:.2f} %"))
        rows.append(("agreement with teacher", f"{figures['agreement']:.2f} %"))
    rows.append((f"{split} top-5", f"{figures['top5']:.2f} %"))
    rows.append((f"{split} NLL, ECE", f"{figures['nll']:.4f}, {figures['ece']:.4f}"))
    if "distance_ratio" in figures:
        information = [figures["soft_label_information"], figures["soft_label_information_t4"]]
        rows.append(("distance ratio (intra / inter)", f"{figures['distance_ratio']:.4f}"))
        rows.append(("soft-label information, T = 1, 4", "{:.4f}, {:.4f} nats".format(*information)))
    if "validation" in results and split != "validation":
        rows.append(("validation top-1", f"{results['validation']['top1']:.2f} %"))
    if "nc1" in results.get("train", {}) and split != "train":
        rows.append(("training top-1, NC1", f"{results['train']['top1']:.2f} %, {results['train']['nc1']:.4f}"))
    if "gated_fraction" in results.get("training", {}):
        rows.append(("anchors past the gate", f"{results['training']['gated_fraction']:.1%}"))
    cost = results["cost"]
    rows.append(
        ("parameters, FLOPs, latency", f"{cost['parameters']:,}, {cost['flops']:,}, {cost['latency_ms']:.2f} ms")
    )
    return format_table(rows, title)


def show(text: str) -> None:
    """Write to standard output."""
    sys.stdout.write(f"\n{text}\n\n")
    sys.stdout.flush()
