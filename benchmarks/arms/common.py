"""What the arms share: the specification, the same pixels, the same nets, the same hyperparameters."""

from __future__ import annotations

import contextlib
import importlib.metadata
import io
import json
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import torch
from torch import Tensor, nn
from torchvision import transforms
from transformers import Trainer
from transformers.trainer_callback import TrainerCallback

from benchmarks.arms.meter import Meter, Stopped
from hf_icckd import Augmentation, ImageClassifier, ImagePipeline, create_classifier, load_image_data

LEARNING_RATE, MOMENTUM, WEIGHT_DECAY = 0.05, 0.9, 5e-4
TEMPERATURE = 4.0
INTRA_CLASS_WEIGHT = 0.05
LOG_EVERY = 50
FOREVER = 1000  # epochs; the driver stops an arm long before


@dataclass(frozen=True)
class Spec:
    """What an arm is to train, and how; the driver hands it over as JSON.

    Attributes:
        task: `student` (distillation), `teacher` (cross-entropy on two views) or `input` (views are loaded, nothing is
            trained).
        views: Views of an image.
        teacher: Architecture of the teacher.
        student: Architecture of the student; used for the task `student` only.
        dataset: Name of a data set, folder or Hub id.
        label_column: Column of the labels; None finds it.
        max_train_samples: Use so many training images; None for all.
        image_size: Height and width; None for the images' own if they are small.
        batch_size: Images per step.
        precision: `float32` or `bf16` (autocast).
        channels_last: Memory layout of the nets.
        compile: Mode of torch.compile; empty for none.
        keep_memory: Whether the C library is told to keep what is freed, as tuning guides for CPUs advise; ours and
            the bare loop tell it so by themselves.
        intra_class: Task `teacher`: whether the intra-class term is added.
        replay: Task `student`: whether the teacher's outputs are recorded before the first step, and replayed.
        workers: Loading workers.
        decoding: How ours decodes large images.
        image_cache: Short side of the copies that ours makes of large images; None for no copies.
        threads: Threads of torch.
        seed: Seed of weights and data.
        warmup_steps: See `Meter`.
        segment_steps: See `Meter`.
        lead_steps: See `Meter`.
        rounds: Turns there will be at most.
    """

    task: str = "student"
    views: int = 1
    teacher: str = "cifar_resnet20"
    student: str = "cifar_resnet8"
    dataset: str = "digits"
    label_column: str | None = None
    max_train_samples: int | None = None
    image_size: int | None = None
    batch_size: int = 64
    precision: str = "float32"
    channels_last: bool = True
    compile: str = ""
    keep_memory: bool = False
    intra_class: bool = False
    replay: bool = False
    workers: int = 0
    decoding: str = "scaled"
    image_cache: int | None = None
    threads: int = 1
    seed: int = 0
    warmup_steps: int = 10
    segment_steps: int = 20
    lead_steps: int = 6
    rounds: int = 7

    @property
    def total_steps(self) -> int:
        """Steps until the driver stops the arm."""
        return self.warmup_steps + self.rounds * (self.lead_steps + self.segment_steps) + 1


def main(train: Callable[[Spec, Meter], None], *packages: str) -> None:
    """Run an arm: `python -m benchmarks.arms.NAME SPEC`.

    Args:
        train: Trains until the meter stops it.
        packages: Distributions whose versions belong to the record.
    """
    spec = Spec(**json.loads(sys.argv[1]))
    facts = {"versions": {name: importlib.metadata.version(name) for name in packages}}
    meter = Meter(spec.warmup_steps, spec.segment_steps, spec.lead_steps, facts)
    torch.set_num_threads(spec.threads)
    with contextlib.suppress(Stopped):
        train(spec, meter)
        raise RuntimeError("training ended before the driver said so")


def device() -> torch.device:
    """Where to train."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def autocast(spec: Spec):
    """bfloat16 autocast if the specification wants it."""
    return torch.autocast(device().type, torch.bfloat16, enabled=spec.precision == "bf16")


def sgd(parameters) -> torch.optim.Optimizer:
    """The optimiser of every arm that is not given one by its library."""
    fused = device().type == "cuda" or None
    return torch.optim.SGD(parameters, LEARNING_RATE, momentum=MOMENTUM, weight_decay=WEIGHT_DECAY, fused=fused)


def compiled(spec: Spec, module: nn.Module) -> Callable:
    """The module, through torch.compile if the specification wants it."""
    return torch.compile(module, mode=spec.compile) if spec.compile else module


# ---- nets


def classifiers(spec: Spec, pipeline: ImagePipeline) -> tuple[ImageClassifier, ImageClassifier]:
    """Teacher and student with random weights, the same in every arm; both take uint8 pixels."""
    mean, std = pipeline.channel_statistics()
    made = []
    for offset, architecture in enumerate((spec.teacher, spec.student)):
        torch.manual_seed(spec.seed + offset)
        classifier = create_classifier(
            architecture,
            pipeline.data.label_names,
            image_size=pipeline.image_size,
            mean=mean,
            std=std,
            crop_pct=pipeline.crop_pct,
            interpolation=pipeline.interpolation,  # so that both take the same pixels
            crop_mode=pipeline.crop_mode,
        )
        made.append(classifier)
    return made[0], made[1]


def nets(spec: Spec, pipeline: ImagePipeline) -> tuple[nn.Module, nn.Module]:
    """The timm nets in these classifiers, on the device, for libraries that normalise the pixels themselves."""
    layout = torch.channels_last if spec.channels_last else torch.contiguous_format
    teacher, student = (each.net.to(device(), memory_format=layout) for each in classifiers(spec, pipeline))
    return teacher, student


# ---- images


def load_pipeline(spec: Spec, device: torch.device | str = "cpu") -> ImagePipeline:
    """Our pipeline: what `ours` and the bare loop train on, and where all others get the stored images from."""
    data = load_image_data(spec.dataset, label_column=spec.label_column, max_train_samples=spec.max_train_samples)
    backend = "inductor" if spec.compile else None
    return ImagePipeline(
        data,
        Augmentation(seed=spec.seed),
        image_size=spec.image_size,
        default_size=128,
        device=device,
        compile_backend=backend,
        decoding=spec.decoding,
        image_cache=spec.image_cache,
    )


class TorchvisionImages(torch.utils.data.Dataset):
    """The training split as torchvision's data sets give it: an image at a time, through a transform.

    Small images are held decoded, as torchvision's CIFAR100 holds them; larger ones are decoded from their bytes
    every time, as from a folder, but without the disk.

    Args:
        pipeline: Where the images come from.
        transform: Made from a PIL image; None for later.
    """

    def __init__(self, pipeline: ImagePipeline, transform: Callable | None = None):
        self.transform = transform
        self.labels = pipeline.data.labels("train").tolist()
        if pipeline.resident:
            pixels = pipeline.dataset("train").images.permute(0, 2, 3, 1)
            self.stored = np.array(pixels)  # a copy in memory: the pixels may be mapped from a file
            pipeline._pixels.clear()  # no peer needs them twice
        else:
            self.stored = [_stored_bytes(image) for image in pipeline.data.train["image"]]

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> tuple[Any, int]:
        stored = self.stored[index]
        if isinstance(stored, bytes):
            image = PIL.Image.open(io.BytesIO(stored)).convert("RGB")
        else:
            image = PIL.Image.fromarray(stored)
        return self.transform(image), self.labels[index]


def torchvision_transform(pipeline: ImagePipeline) -> Callable:
    """Our augmentation in torchvision's terms, as the libraries' own examples write it."""
    augmentation, size = pipeline.augmentation, pipeline.image_size
    if augmentation.crop_padding is not None:
        steps = [transforms.RandomCrop(size, padding=augmentation.crop_padding)]
    else:
        steps = [transforms.RandomResizedCrop(size, scale=(augmentation.min_crop_scale, 1.0))]
    if augmentation.horizontal_flip:
        steps.append(transforms.RandomHorizontalFlip())
    return transforms.Compose(
        [*steps, transforms.ToTensor(), transforms.Normalize(*map(list, pipeline.channel_statistics()))]
    )


class TwoViews:
    """Applies a transform twice.

    Args:
        transform: What is done for each view.
    """

    def __init__(self, transform: Callable):
        self.transform = transform

    def __call__(self, image: PIL.Image.Image) -> tuple[Any, Any]:
        return self.transform(image), self.transform(image)


def _stored_bytes(image: dict[str, Any]) -> bytes:
    return image["bytes"] if image["bytes"] is not None else Path(image["path"]).read_bytes()


# ---- transformers' Trainer, which two arms use


def trainer_options(spec: Spec, folder: str) -> dict[str, Any]:
    """Arguments that both Trainers get: logs as a user would have them, no evaluation, nothing saved."""
    return {
        "output_dir": folder,
        "per_device_train_batch_size": spec.batch_size,
        "num_train_epochs": FOREVER,
        "learning_rate": LEARNING_RATE,
        "weight_decay": WEIGHT_DECAY,
        "lr_scheduler_type": "constant",  # a thousand epochs long, any schedule is
        "max_grad_norm": 0.0,
        "bf16": spec.precision == "bf16",
        "torch_compile": bool(spec.compile),
        "torch_compile_mode": spec.compile or None,
        "dataloader_num_workers": spec.workers,
        "logging_steps": LOG_EVERY,
        "eval_strategy": "no",
        "save_strategy": "no",
        "report_to": "none",
        "remove_unused_columns": False,
        "seed": spec.seed,
    }


class MeterCallback(TrainerCallback):
    """Tells the meter about the steps of a Trainer.

    Args:
        trainer: Its `compute_loss` is wrapped, for callbacks see neither the batch nor its loss.
        meter: The meter.
    """

    def __init__(self, trainer: Trainer, meter: Meter):
        self.meter, self.images = meter, 0
        self.loss: Tensor | None = None
        compute_loss = trainer.compute_loss

        def observed(model, inputs, *args, **options):
            loss = compute_loss(model, inputs, *args, **options)
            self.images += len(inputs["labels"])
            self.loss = loss.detach()
            return loss

        trainer.compute_loss = observed

    def on_step_end(self, args, state, control, **kwargs):
        """Count the step."""
        images, self.images = self.images, 0
        self.meter.step(images, self.loss)
