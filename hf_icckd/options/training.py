"""The trainers' options as transformers takes them. `options.trainer` documents them, and here they are checked."""

from __future__ import annotations

import math
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import torch
from transformers import TrainingArguments

from hf_icckd.metrics.catalogue import BESIDE_TEACHER, METRICS, WHILE_TRAINING
from hf_icckd.options.checks import changed_options, check_licence, check_range
from hf_icckd.options.fine_tuning import FineTuning, check_fine_tuning
from hf_icckd.options.imbalance import (
    ClassBalanceArguments,
    check_cross_entropy_counts,
    check_logit_adjustment,
    check_one_remedy,
    class_weight_words,
)
from hf_icckd.options.kept_weights import KeptWeights, check_kept_weights
from hf_icckd.options.launcher import accelerate_uses, check_launcher, loading_workers, threads_per_process
from hf_icckd.options.refused import refuse
from hf_icckd.options.renamed import RENAMED, new_spelling
from hf_icckd.options.trainer import (
    Hardware,
    HubOptions,
    Optimisation,
    RunOptions,
    StudentOptions,
    TeacherOptions,
)
from hf_icckd.utils.distributed import leave_at_exit
from hf_icckd.utils.machine import best_device, cores, keep_freed_memory, missing_compiler


# Their output_dir may be None, ours not; that is what mypy is told to ignore, here and below.
@dataclass
class DistillationTrainingArguments(  # type: ignore[misc]
    Optimisation, FineTuning, KeptWeights, ClassBalanceArguments, RunOptions, Hardware, HubOptions, TrainingArguments
):
    """`transformers.TrainingArguments` with the defaults of the field and options that both trainers share.

    Attributes:
        evaluation_metrics: What is measured while training.
        changed: The options whose values differ from their defaults.
        threads_from: Where the number of CPU threads came from; empty on other devices.
    """

    evaluation_metrics: ClassVar[tuple[str, ...]] = WHILE_TRAINING

    remove_unused_columns: bool = field(default=False, metadata={"help": "Must stay false: batches carry sample ids."})
    logging_nan_inf_filter: bool = field(
        default=False, metadata={"help": "Must stay false: a non-finite loss stops the run."}
    )
    hub_strategy: str = field(default="end", metadata={"help": "Must stay end: only finished runs are pushed."})
    ddp_find_unused_parameters: bool | None = field(default=False, metadata={"help": "find_unused_parameters of DDP."})

    def __post_init__(self):
        self.changed = changed_options(self)  # before anything is filled in
        self.dataloader_num_workers = loading_workers(self.dataloader_num_workers, cores())
        check_licence(self.license)
        # Otherwise a CPU run under a launcher would not find its process group.
        self.use_cpu = self.use_cpu or best_device().type == "cpu"
        refuse(self, self.changed)
        self.threads_from = ""
        self._check_ranges()
        check_fine_tuning(self)
        # While the backbone is frozen, DDP must not wait for its gradients.
        self.ddp_find_unused_parameters = self.ddp_find_unused_parameters or self.freeze_epochs > 0
        if self.sync_batchnorm and self.use_cpu:
            raise ValueError("sync_batchnorm is true, expected false on a CPU: torch's SyncBatchNorm needs GPUs")
        check_launcher()
        if self.sharded and self.fp16:
            raise ValueError(
                "fp16 is true, expected bf16 or float32 with FSDP: a gradient scaler was never tried with sharded "
                "weights; give --bf16 true"
            )
        if self.sharded and (self.freeze_backbone or self.freeze_epochs):
            raise ValueError(
                "accelerate was told to use FSDP, expected DDP with a frozen backbone: it has no gradients and no "
                "optimiser to shard; use recipes/accelerate/ddp.yaml"
            )
        directions = {name: METRICS[name].higher_is_better for name in self.evaluation_metrics}
        check_kept_weights(self, self.changed, directions)
        self._complete()
        leave_at_exit()
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

    def _check_ranges(self) -> None:
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
        self._check_class_balance()
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

    def _complete(self) -> None:
        """Let transformers complete and check its options.

        It would want checkpoints and evaluations at the same steps where the best weights are kept. Here every
        checkpoint holds the best weights so far, so the steps don't matter.
        """
        keep_best, self.load_best_model_at_end = self.load_best_model_at_end, False
        super().__post_init__()
        self.load_best_model_at_end = keep_best

    @property
    def precision(self) -> str:
        """Precision of matrix products: float32 (that of the weights), bf16 or fp16."""
        return "bf16" if self.bf16 else "fp16" if self.fp16 else "float32"

    @property
    def loading(self) -> dict[str, Any]:
        """How batches are loaded while training: arguments of `hf_icckd.data.loading.make_loader`."""
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

    def _check_class_balance(self) -> None:
        self.class_weights = class_weight_words(self.class_weights)
        check_logit_adjustment(self.logit_adjustment)
        check_one_remedy(self.class_weights, self.logit_adjustment)

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
class TeacherTrainingArguments(TeacherOptions, DistillationTrainingArguments):  # type: ignore[misc]
    """Options of `TeacherTrainer`; cross-entropy on two views of each image unless `terms` adds to it.

    Example:
        >>> args = TeacherTrainingArguments(output_dir="runs/t", terms=["intra_class:weight=0.5"], num_threads=1)
        >>> args.learning_rate, args.num_views, args.terms
        (0.05, 2, ['intra_class:weight=0.5'])
    """

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
class StudentTrainingArguments(StudentOptions, DistillationTrainingArguments):  # type: ignore[misc]
    """Options of `StudentTrainer`.

    Example:
        >>> args = StudentTrainingArguments(output_dir="runs/s", objectives=["kd:temperature=2"], num_threads=1)
        >>> args.ce_weight, args.objectives
        (1.0, ['kd:temperature=2'])
    """

    evaluation_metrics: ClassVar[tuple[str, ...]] = (*WHILE_TRAINING, *BESIDE_TEACHER)

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
        check_cross_entropy_counts(self.ce_weight, self.class_weights, self.logit_adjustment)
