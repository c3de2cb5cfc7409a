"""Options of the trainers, each documented and checked once, here. Data options are in `options.data`."""

from __future__ import annotations

import math
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import torch
from transformers import TrainingArguments

from hf_icckd.options.checks import changed_options, check_licence, check_range
from hf_icckd.options.launcher import accelerate_uses, check_launcher, threads_per_process
from hf_icckd.options.refused import refuse
from hf_icckd.options.renamed import RENAMED, new_spelling
from hf_icckd.utils.machine import best_device, cores, keep_freed_memory, missing_compiler


@dataclass
class DistillationTrainingArguments(TrainingArguments):
    """`transformers.TrainingArguments` with the defaults of the field and options that both trainers share.

    Attributes:
        changed: The options whose values differ from their defaults.
        threads_from: Where the number of CPU threads came from; empty on other devices.
    """

    optim: str = field(
        default="sgd", metadata={"help": "sgd (with momentum) or any optimiser of the transformers Trainer."}
    )
    momentum: float = field(default=0.9, metadata={"help": "Momentum of SGD (without Nesterov)."})
    learning_rate: float = field(default=0.05, metadata={"help": "Learning rate after the warm-up."})
    weight_decay: float = field(default=5e-4, metadata={"help": "Weight decay."})
    decay_norm_and_bias: bool = field(
        default=True,
        metadata={"help": "Decay biases and normalisation weights too, as the literature's CIFAR recipe does."},
    )
    lr_scheduler_type: str = field(
        default="cosine", metadata={"help": "Any schedule of the transformers Trainer; see lr_milestones."}
    )
    lr_milestones: list[float] | None = field(
        default=None,
        metadata={
            "help": "Multistep schedule instead of lr_scheduler_type: fractions of the training (0 to 1) at which the "
            "learning rate is divided by ten, such as 0.625 0.75 0.875."
        },
    )
    lr_schedule_epochs: float | None = field(
        default=None,
        metadata={
            "help": "Length of the learning-rate schedule in epochs, if more than num_train_epochs: an "
            "early-stopped teacher (some report that it teaches better)."
        },
    )
    num_train_epochs: float = field(default=30.0, metadata={"help": "Passes over the training split."})
    per_device_train_batch_size: int = field(default=64, metadata={"help": "Images per process and step."})
    per_device_eval_batch_size: int = field(default=256, metadata={"help": "Images per process in evaluation."})
    max_grad_norm: float = field(
        default=0.0, metadata={"help": "Largest gradient norm; 0: neither clipped nor computed."}
    )
    label_smoothing: float = field(
        default=0.0,
        metadata={"help": "Label smoothing of the cross-entropy (many report that it hurts distillation)."},
    )
    channels_last: bool = field(
        default=True, metadata={"help": "Memory layout of convolutions; nearly always faster. Ignored with FSDP."}
    )
    sync_batchnorm: bool = field(
        default=False,
        metadata={"help": "With several GPUs: compute BatchNorm statistics over the images of all processes."},
    )
    num_threads: int | None = field(
        default=None,
        metadata={
            "help": "CPU threads per process; default: OMP_NUM_THREADS, unless a launcher set it to 1, else the cores "
            "of the machine divided by its processes."
        },
    )
    seed: int = field(
        default=0, metadata={"help": "Seed of weights, order and, unless augmentation_seed is given, augmentation."}
    )
    output_dir: str = field(default="runs/run", metadata={"help": "Folder of the run."})
    eval_strategy: str = field(default="epoch", metadata={"help": "When to evaluate: no, steps or epoch."})
    save_strategy: str = field(default="epoch", metadata={"help": "When to checkpoint: no, steps or epoch."})
    save_total_limit: int | None = field(default=2, metadata={"help": "How many checkpoints to keep."})
    resume: Literal["auto", "never"] = field(
        default="auto",
        metadata={
            "help": "auto: resume the run in output_dir from its newest intact checkpoint; never: refuse a folder "
            "that holds a run."
        },
    )
    rehearsal: bool = field(
        default=True,
        metadata={"help": "Before the first step, try in seconds what could otherwise fail only at the end."},
    )
    logging_steps: float = field(default=20, metadata={"help": "Optimiser steps between logs."})
    remove_unused_columns: bool = field(default=False, metadata={"help": "Must stay false: batches carry sample ids."})
    logging_nan_inf_filter: bool = field(
        default=False, metadata={"help": "Must stay false: a non-finite loss stops the run."}
    )
    push_to_hub: bool = field(
        default=False,
        metadata={"help": "Push model, card, metrics, options and pictures to the Hub when the run is finished."},
    )
    hub_model_id: str | None = field(
        default=None,
        metadata={"help": "Repository, namespace/name; default: the name of output_dir in your own namespace."},
    )
    hub_strategy: str = field(default="end", metadata={"help": "Must stay end: only finished runs are pushed."})
    ddp_find_unused_parameters: bool | None = field(default=False, metadata={"help": "find_unused_parameters of DDP."})
    control: str | None = field(
        default=None,
        metadata={
            "help": "Folder of a finished run of the same recipe on the same images, to be shown beside this one in "
            "the model card."
        },
    )
    license: str | None = field(
        default=None,
        metadata={"help": "Licence of the model in its card, as the Hub spells it: apache-2.0, cc-by-4.0, other, ..."},
    )

    def __post_init__(self):
        self.changed = changed_options(self)  # before anything is filled in
        check_licence(self.license)
        # Otherwise a CPU run under a launcher would not find its process group.
        self.use_cpu = self.use_cpu or best_device().type == "cpu"
        refuse(self, self.changed)
        self.threads_from = ""
        check_range(self, "momentum", 0, 1, exclude_high=True)
        check_range(self, "label_smoothing", 0, 1, exclude_high=True)
        check_range(self, "learning_rate", 0, math.inf, exclude_low=True)
        check_range(self, "num_train_epochs", 0, math.inf, exclude_low=True)
        check_range(self, "per_device_train_batch_size", 1, math.inf)
        check_range(self, "per_device_eval_batch_size", 1, math.inf)
        check_range(self, "gradient_accumulation_steps", 1, math.inf)
        check_range(self, "weight_decay", 0, math.inf)
        check_range(self, "num_threads", 1, math.inf)
        check_range(self, "dataloader_num_workers", 0, math.inf)
        check_range(self, "dataloader_prefetch_factor", 1, math.inf)
        check_range(self, "save_total_limit", 1, math.inf)
        if self.lr_schedule_epochs is not None and self.lr_schedule_epochs < self.num_train_epochs:
            raise ValueError(
                f"lr_schedule_epochs is {self.lr_schedule_epochs} but num_train_epochs {self.num_train_epochs}, "
                "expected at least as many; the schedule would end before training does"
            )
        for milestone in self.lr_milestones or ():
            if not 0 < milestone < 1:
                raise ValueError(
                    f"lr_milestones holds {milestone}, expected fractions of the training between 0 and 1"
                )
        if self.sync_batchnorm and self.use_cpu:
            raise ValueError("sync_batchnorm is true, expected false on a CPU: torch's SyncBatchNorm needs GPUs")
        check_launcher()
        if self.sharded and self.fp16:
            raise ValueError(
                "fp16 is true, expected bf16 or float32 with FSDP: a gradient scaler was never tried with sharded "
                "weights; give --bf16 true"
            )
        super().__post_init__()
        self._check_processes()
        self._check_compiler()
        if self.mixed_precision != {"float32": "no"}.get(self.precision, self.precision):
            raise ValueError(
                f"accelerate was told mixed_precision {self.mixed_precision!r}, the recipe {self.precision}; expected "
                f"the same: give --{self.mixed_precision} true, which stands in the run's record, or start with "
                "--mixed_precision no"
            )
        if self.use_cpu:
            count, self.threads_from = threads_per_process(self.num_threads, cores())
            torch.set_num_threads(count)
            keep_freed_memory()
        elif self.num_threads is not None:
            torch.set_num_threads(self.num_threads)

    @property
    def precision(self) -> str:
        """Precision of matrix products: float32 (that of the weights), bf16 or fp16."""
        return "bf16" if self.bf16 else "fp16" if self.fp16 else "float32"

    @property
    def loading(self) -> dict[str, Any]:
        """How batches are loaded while training: arguments of `hf_icckd.data.sampling.make_loader`."""
        return {
            "num_workers": self.dataloader_num_workers,
            "prefetch_factor": self.dataloader_prefetch_factor,
            "multiprocessing_context": self.dataloader_multiprocessing_context,
            "pin_memory": self.dataloader_pin_memory,
        }

    @property
    def hub_repo_id(self) -> str:
        """Repository that the run is pushed to, possibly without a namespace."""
        return self.hub_model_id or Path(self.output_dir).absolute().name

    @property
    def sharded(self) -> bool:
        """Whether accelerate was told to shard weights, gradients and optimiser over processes (FSDP2)."""
        return accelerate_uses("FSDP")

    def _check_compiler(self) -> None:
        device = "cpu" if self.use_cpu else self.device.type
        if self.torch_compile and self.torch_compile_backend == "inductor" and (names := missing_compiler(device)):
            raise ValueError(
                f"torch_compile is true but there is no {names} on the PATH, which torch needs to compile for "
                f"{device}; install it, name another in {'CXX' if device == 'cpu' else 'CC'}, or leave "
                "--torch_compile out"
            )

    def _check_processes(self) -> None:
        if self.n_gpu > 1:
            raise ValueError(
                f"one process sees {self.n_gpu} GPUs, expected one each (DataParallel would break the class cache); "
                f"start with `accelerate launch --multi_gpu --num_processes {self.n_gpu}`, or choose "
                "with CUDA_VISIBLE_DEVICES=0"
            )
        announced = int(os.environ.get("WORLD_SIZE", 1))
        if announced != self.world_size:
            raise ValueError(
                f"WORLD_SIZE is {announced} but {self.world_size} process(es) found each other; start through "
                "torchrun or accelerate launch, or unset WORLD_SIZE"
            )


@dataclass
class TeacherTrainingArguments(DistillationTrainingArguments):
    """Options of `TeacherTrainer`; `--terms none` is cross-entropy alone, `--num_views 1` takes one view.

    Example:
        >>> args = TeacherTrainingArguments(output_dir="runs/t", terms=["intra_class:weight=0.5"], num_threads=1)
        >>> args.learning_rate, args.num_views, args.terms
        (0.05, 2, ['intra_class:weight=0.5'])
    """

    output_dir: str = field(default="runs/teacher", metadata={"help": "Folder of the run."})
    num_views: Literal[1, 2] = field(
        default=2, metadata={"help": "Augmented views of each image in a step; the intra-class term needs 2."}
    )
    terms: list[str] = field(
        default_factory=lambda: ["intra_class"],
        metadata={
            "help": "Terms besides cross-entropy, each as name or name:argument=value,..., or none; for example: "
            "intra_class:weight=0.05,margin=0.2 sftn:student=cifar_resnet8. Names: see hf_icckd.losses.TEACHER_TERMS."
        },
    )

    def __new__(cls, *args: Any, **options: Any) -> TeacherTrainingArguments:
        """Answer options of 0.1 with their new spelling; without this they would only be unexpected arguments."""
        if spelling := new_spelling(options):
            old = ", ".join(name for name in options if name in RENAMED)
            raise ValueError(f"{old}: since 0.2 this is written terms={spelling.removeprefix('--terms ').split()}")
        return super().__new__(cls)

    def __post_init__(self):
        self.num_views = int(self.num_views)
        super().__post_init__()


@dataclass
class StudentTrainingArguments(DistillationTrainingArguments):
    """Options of `StudentTrainer`.

    Example:
        >>> args = StudentTrainingArguments(output_dir="runs/s", objectives=["kd:temperature=2"], num_threads=1)
        >>> args.ce_weight, args.objectives
        (1.0, ['kd:temperature=2'])
    """

    output_dir: str = field(default="runs/student", metadata={"help": "Folder of the run."})
    ce_weight: float = field(default=1.0, metadata={"help": "Weight of the cross-entropy with the true labels."})
    objectives: list[str] = field(
        default_factory=lambda: ["kd"],
        metadata={
            "help": "Distillation objectives, each as name or name:argument=value,...; for example: kd:temperature=2 "
            "rkd:weight=0.5. Names: see hf_icckd.losses.OBJECTIVES."
        },
    )
    accept_teacher: bool = field(
        default=False,
        metadata={"help": "Learn from a teacher that is near chance, or far below its own record, on these images."},
    )
    teacher_targets: Literal["live", "record", "replay", "auto"] = field(
        default="live",
        metadata={
            "help": "live: run the teacher in every step. The others train from outputs recorded in "
            "teacher_targets_dir. record: first record all that are missing; auto: record each epoch when it begins; "
            "replay: refuse to train if any are missing."
        },
    )
    teacher_targets_dir: str | None = field(
        default=None,
        metadata={"help": "Folder of recorded teacher outputs, for many students; default: runs/teacher-targets."},
    )

    def __post_init__(self):
        check_range(self, "ce_weight", 0, math.inf)
        if self.teacher_targets == "live" and self.teacher_targets_dir is not None:
            raise ValueError(
                f"teacher_targets_dir is {self.teacher_targets_dir!r} but teacher_targets is 'live', which does not "
                "use it; add --teacher_targets auto"
            )
        if self.sharded:
            raise ValueError(
                "accelerate was told to use FSDP, expected DDP: it is for large teachers; a student is small, and its "
                "teacher has neither gradients nor an optimiser to shard; use recipes/accelerate/ddp.yaml"
            )
        super().__post_init__()
