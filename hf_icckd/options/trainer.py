"""Options of the trainers by group. Light: nothing here imports torch, so that help comes at once."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar, Literal

_CHOSEN = "where commands take adamw_torch by themselves (see optim)"


@dataclass
class Optimisation:
    """How the net is trained."""

    title: ClassVar[str] = "Training"

    num_train_epochs: float = field(default=30.0, metadata={"help": "Passes over the training split."})
    max_steps: int = field(
        default=-1, metadata={"help": "Optimiser steps of the whole run, instead of num_train_epochs; -1: not given."}
    )
    learning_rate: float = field(
        default=0.05,
        metadata={
            "help": "Learning rate after the warm-up. Unless it, optim or momentum is given, commands take 0.0003 for "
            "pretrained CNNs, 0.0001 for pretrained transformers and 0.0005 for new ones."
        },
    )
    per_device_train_batch_size: int = field(default=64, metadata={"help": "Images per process and step."})
    gradient_accumulation_steps: int = field(
        default=1, metadata={"help": "Batches whose gradients are added up before each optimiser step."}
    )
    optim: str = field(
        default="sgd",
        metadata={
            "help": "sgd (with momentum) or any optimiser of the transformers Trainer. Unless it or momentum is "
            "given, commands take adamw_torch for pretrained nets and for transformers."
        },
    )
    momentum: float = field(default=0.9, metadata={"help": "Momentum of SGD (without Nesterov)."})
    weight_decay: float = field(default=5e-4, metadata={"help": f"Weight decay; 0.05 {_CHOSEN}."})
    decay_norm_and_bias: bool = field(
        default=True,
        metadata={
            "help": "Decay biases and normalisation weights too, as the literature's CIFAR recipe does; "
            f"false {_CHOSEN}."
        },
    )
    lr_scheduler_type: str = field(
        default="cosine", metadata={"help": "Any schedule of the transformers Trainer; see lr_milestones."}
    )
    warmup_steps: float = field(
        default=0,
        metadata={"help": f"Steps of linear warm-up, or below 1 their share of the training; 0.1 {_CHOSEN}."},
    )
    warmup_epochs: float | None = field(
        default=None, metadata={"help": "Epochs of linear warm-up, instead of warmup_steps."}
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
    max_grad_norm: float = field(
        default=0.0, metadata={"help": "Largest gradient norm; 0: neither clipped nor computed."}
    )
    label_smoothing: float = field(
        default=0.0,
        metadata={"help": "Label smoothing of the cross-entropy (many report that it hurts distillation)."},
    )


@dataclass
class RunOptions:
    """Where a run is written, and when it is measured and saved."""

    title: ClassVar[str] = "Run"

    output_dir: str = field(default="runs/run", metadata={"help": "Folder of the run."})
    seed: int = field(
        default=0, metadata={"help": "Seed of weights, order and, unless augmentation_seed is given, augmentation."}
    )
    resume: Literal["auto", "never"] = field(
        default="auto",
        metadata={
            "help": "auto: resume the run in output_dir from its newest intact checkpoint; never: refuse a folder "
            "that holds a run."
        },
    )
    eval_strategy: str = field(default="epoch", metadata={"help": "When to evaluate: no, steps or epoch."})
    save_strategy: str = field(default="epoch", metadata={"help": "When to checkpoint: no, steps or epoch."})
    save_total_limit: int | None = field(default=2, metadata={"help": "How many checkpoints to keep."})
    logging_steps: float = field(default=20, metadata={"help": "Optimiser steps between logs."})
    rehearsal: bool = field(
        default=True,
        metadata={"help": "Before the first step, try in seconds what could otherwise fail only at the end."},
    )
    control: str | None = field(
        default=None,
        metadata={
            "help": "Folder of a finished run of the same recipe on the same images, to be shown beside this one in "
            "the model card.",
            "metavar": "FOLDER",
        },
    )
    license: str | None = field(
        default=None,
        metadata={"help": "Licence of the model in its card, as the Hub spells it: apache-2.0, cc-by-4.0, other, ..."},
    )


@dataclass
class Hardware:
    """What a run is computed on."""

    title: ClassVar[str] = "Hardware and loading"

    bf16: bool = field(default=False, metadata={"help": "Matrix products in bfloat16; weights stay in float32."})
    dataloader_num_workers: int | None = field(
        default=None,
        metadata={
            "help": "Processes that decode images; default: one less than the cores of a process, fewer with little "
            "shared memory, none in scripts of your own where Python does not fork. Small images in memory need none."
        },
    )
    per_device_eval_batch_size: int = field(default=256, metadata={"help": "Images per process in evaluation."})
    channels_last: bool = field(
        default=True, metadata={"help": "Memory layout of convolutions; nearly always faster. Ignored with FSDP."}
    )
    torch_compile: bool = field(default=False, metadata={"help": "Compile the nets with torch.compile."})
    num_threads: int | None = field(
        default=None,
        metadata={
            "help": "CPU threads per process; default: OMP_NUM_THREADS, unless a launcher set it to 1, else the cores "
            "of the machine divided by its processes."
        },
    )
    sync_batchnorm: bool = field(
        default=False,
        metadata={"help": "With several GPUs: compute BatchNorm statistics over the images of all processes."},
    )


@dataclass
class HubOptions:
    """What is pushed to the Hub when a run is finished."""

    title: ClassVar[str] = "Hub"

    push_to_hub: bool = field(
        default=False,
        metadata={"help": "Push model, card, metrics, options and pictures to the Hub when the run is finished."},
    )
    hub_model_id: str | None = field(
        default=None,
        metadata={"help": "Repository, namespace/name; default: the name of output_dir in your own namespace."},
    )


@dataclass
class TeacherOptions:
    """What a teacher minimises."""

    title: ClassVar[str] = "Teacher"

    output_dir: str = field(default="runs/teacher", metadata={"help": "Folder of the run."})
    num_views: Literal[1, 2] = field(
        default=2, metadata={"help": "Augmented views of each image in a step; the intra-class term needs 2."}
    )
    terms: list[str] = field(
        default_factory=lambda: ["none"],
        metadata={
            "help": "Terms besides cross-entropy, each as name or name:argument=value,..., or none; for example: "
            "sftn:student=cifar_resnet8 intra_class:weight=0.05,margin=0.2. The command objectives lists them."
        },
    )


@dataclass
class StudentOptions:
    """What a student minimises, and how its teacher is run."""

    title: ClassVar[str] = "Distillation"

    output_dir: str = field(default="runs/student", metadata={"help": "Folder of the run."})
    ce_weight: float = field(default=1.0, metadata={"help": "Weight of the cross-entropy with the true labels."})
    objectives: list[str] = field(
        default_factory=lambda: ["kd"],
        metadata={
            "help": "Distillation objectives, each as name or name:argument=value,...; for example: kd:temperature=2 "
            "rkd:weight=0.5. The command objectives lists them."
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
