"""This package: StudentTrainer or TeacherTrainer over an ImagePipeline, as the entry points set them up."""

from __future__ import annotations

import tempfile

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
from hf_icckd import StudentTrainer, StudentTrainingArguments, TeacherTrainer, TeacherTrainingArguments


def train(spec: Spec, meter: Meter) -> None:
    """Train until the meter stops it."""
    pipeline = load_pipeline(spec, device())
    teacher, student = classifiers(spec, pipeline)
    with tempfile.TemporaryDirectory() as folder:
        options = trainer_options(spec, folder) | {"channels_last": spec.channels_last, "num_threads": spec.threads}
        if spec.task == "student":
            args = StudentTrainingArguments(**options, objectives=[f"kd:temperature={TEMPERATURE}"])
            trainer = StudentTrainer(student, teacher, args, pipeline.dataset("train", training=True))
        else:
            weight = INTRA_CLASS_WEIGHT if spec.intra_class else 0.0
            args = TeacherTrainingArguments(**options, num_views=2, intra_class_weight=weight)
            trainer = TeacherTrainer(teacher, args, pipeline.dataset("train", training=True, num_views=2))
        trainer.add_callback(MeterCallback(trainer, meter))
        trainer.train()


if __name__ == "__main__":
    main(train, "torch", "transformers", "accelerate", "timm")
