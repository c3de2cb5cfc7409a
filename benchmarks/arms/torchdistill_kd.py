"""torchdistill: its DistillationBox, driven as its example script for image classification drives it.

The configuration has the structure of its sample configurations for CIFAR-100 (`kd`). Nets, batch size and optimiser
are those of all arms; `KDLoss` has the weights 1 and 1 instead of 0.9 and 0.1. Its way to half precision, an
Accelerator, fails with a frozen teacher: it asks accelerate for `state.use_fp16`, which is gone. But the loop is the
user's own, so autocast stands there, around the forward process.
"""

from __future__ import annotations

import itertools
import time

import torch
from torchdistill.core.distillation import get_distillation_box
from torchdistill.misc.log import MetricLogger, SmoothedValue, set_basic_log_config

from benchmarks.arms.common import (
    FOREVER,
    LEARNING_RATE,
    LOG_EVERY,
    MOMENTUM,
    TEMPERATURE,
    WEIGHT_DECAY,
    Spec,
    TorchvisionImages,
    autocast,
    compiled,
    device,
    load_pipeline,
    main,
    nets,
    torchvision_transform,
)
from benchmarks.arms.meter import Meter


def train_config(spec: Spec) -> dict:
    """The part `train` of a sample configuration."""
    model = {
        "forward_proc": "forward_batch_only",
        "sequential": [],
        "forward_hook": {"input": [], "output": []},
        "wrapper": None,
        "frozen_modules": [],
    }
    return {
        "num_epochs": FOREVER,
        "train_data_loader": {
            "dataset_id": "train",
            "sampler": {"class_or_func": torch.utils.data.RandomSampler, "kwargs": {}},
            "kwargs": {
                "batch_size": spec.batch_size,
                "num_workers": spec.workers,
                "pin_memory": device().type == "cuda",
                "persistent_workers": spec.workers > 0,
                "drop_last": False,
            },
        },
        "teacher": model | {"requires_grad": False},
        "student": model | {"requires_grad": True},
        "optimizer": {
            "key": "SGD",
            "kwargs": {"lr": LEARNING_RATE, "momentum": MOMENTUM, "weight_decay": WEIGHT_DECAY},
        },
        "scheduler": {"key": "MultiStepLR", "kwargs": {"milestones": [60, 120, 160], "gamma": 0.2}},
        "criterion": {
            "key": "WeightedSumLoss",
            "kwargs": {
                "sub_terms": {
                    "kd": {
                        "criterion": {
                            "key": "KDLoss",
                            "kwargs": {
                                "student_module_path": ".",
                                "student_module_io": "output",
                                "teacher_module_path": ".",
                                "teacher_module_io": "output",
                                "temperature": TEMPERATURE,
                                "alpha": 1.0,
                                "beta": 1.0,
                                "reduction": "batchmean",
                            },
                        },
                        "weight": 1.0,
                    }
                }
            },
        },
    }


def train(spec: Spec, meter: Meter) -> None:
    """Train until the meter stops it."""
    set_basic_log_config()
    torch.backends.cudnn.benchmark = True  # as the example script
    pipeline = load_pipeline(spec)
    teacher, student = nets(spec, pipeline)
    teacher.eval()  # the example leaves this out; without it the teacher would update its BatchNorm statistics
    teacher, student = compiled(spec, teacher), compiled(spec, student)
    datasets = {"train": TorchvisionImages(pipeline, torchvision_transform(pipeline))}
    box = get_distillation_box(teacher, student, datasets, train_config(spec), device(), None, False, 1)
    for epoch in itertools.count():
        box.pre_epoch_process(epoch=epoch)
        train_one_epoch(spec, box, epoch, meter)
        box.post_epoch_process()


def train_one_epoch(spec: Spec, box, epoch: int, meter: Meter) -> None:
    """An epoch as in the example script, with its records of loss, learning rate and speed at every step."""
    records = MetricLogger(delimiter="  ")
    records.add_meter("lr", SmoothedValue(window_size=1, fmt="{value}"))
    records.add_meter("img/s", SmoothedValue(window_size=10, fmt="{value}"))
    for images, targets, extra in records.log_every(box.train_data_loader, LOG_EVERY, f"Epoch: [{epoch}]"):
        start = time.time()
        images, targets = images.to(device()), targets.to(device())
        with autocast(spec):
            loss = box.forward_process(images, targets, extra)
        box.post_forward_process(loss=loss)
        value = loss.item()
        records.update(loss=value, lr=box.optimizer.param_groups[0]["lr"])
        records.meters["img/s"].update(len(images) / (time.time() - start))
        if torch.isnan(loss) or torch.isinf(loss):
            raise ValueError(f"the loss is {value}")
        meter.step(len(images), value)


if __name__ == "__main__":
    main(train, "torch", "torchvision", "torchdistill")
