"""This package: StudentTrainer or TeacherTrainer over an ImagePipeline, as the entry points set them up."""

from __future__ import annotations

import itertools
import math
import tempfile
from typing import Any

import torch

from benchmarks.arms.common import (
    INTRA_CLASS_WEIGHT,
    TEMPERATURE,
    MeterCallback,
    Spec,
    classifiers,
    device,
    load_pipeline,
    main,
    trainer_options,
)
from benchmarks.arms.meter import Meter
from hf_icckd import (
    ImageClassifier,
    ImagePipeline,
    StudentTrainer,
    StudentTrainingArguments,
    TeacherTargets,
    TeacherTrainer,
    TeacherTrainingArguments,
)
from hf_icckd.data.loading import make_loader
from hf_icckd.utils.machine import keep_freed_memory


def train(spec: Spec, meter: Meter) -> None:
    """Train until the meter stops it."""
    pipeline = load_pipeline(spec, device())
    teacher, student = classifiers(spec, pipeline)
    if spec.task == "input":
        load(spec, pipeline, teacher, meter)
    with tempfile.TemporaryDirectory() as folder:
        options = trainer_options(spec, folder) | {"channels_last": spec.channels_last, "num_threads": spec.threads}
        if spec.task == "student":
            trainer = student_trainer(spec, pipeline, teacher, student, options)
        else:
            terms = [f"intra_class:weight={INTRA_CLASS_WEIGHT}"] if spec.intra_class else ["none"]
            args = TeacherTrainingArguments(**options, num_views=spec.views, terms=terms)
            trainer = TeacherTrainer(teacher, args, pipeline.dataset("train", training=True, num_views=spec.views))
        trainer.add_callback(MeterCallback(trainer, meter))
        trainer.train()


def student_trainer(
    spec: Spec, pipeline: ImagePipeline, teacher: ImageClassifier, student: ImageClassifier, options: dict[str, Any]
) -> StudentTrainer:
    """With the live teacher, or with its outputs, recorded before the first step for as many steps as will come."""
    dataset, targets = pipeline.dataset("train", training=True), None
    if spec.replay:
        steps_per_epoch = len(dataset.batch_sampler(spec.batch_size, spec.seed))
        options |= {"teacher_targets": "record", "num_train_epochs": math.ceil(spec.total_steps / steps_per_epoch)}
        targets = TeacherTargets(f"{options['output_dir']}/targets", teacher, pipeline, precision=spec.precision)
    args = StudentTrainingArguments(**options, objectives=[f"kd:temperature={TEMPERATURE}"])
    return StudentTrainer(student, teacher, args, dataset, targets=targets)


def load(spec: Spec, pipeline: ImagePipeline, model: ImageClassifier, meter: Meter) -> None:
    """The views, and what the net does to pixels before it computes with them, in the layout that training has."""
    model.to(memory_format=torch.channels_last if spec.channels_last else torch.contiguous_format)
    dataset = pipeline.dataset("train", training=True, num_views=spec.views)
    sampler = dataset.batch_sampler(spec.batch_size, spec.seed)
    loader = make_loader(dataset, sampler, spec.workers)
    keep_freed_memory()
    for epoch in itertools.count():
        sampler.set_epoch(epoch)
        for batch in loader:
            model.preprocess(batch["pixel_values"].to(device()).flatten(0, 1))
            meter.step(len(batch["labels"]))


if __name__ == "__main__":
    main(train, "torch", "transformers", "accelerate", "timm")
