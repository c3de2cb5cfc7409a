"""Trains a teacher and a student in float64 and writes what came out, once per process: `worker.py FOLDER`.

Started alone or by torchrun; the global batch is 32 images in both cases. 151 images, so that the last batch of an
epoch does not split evenly. The net has no statistics over the batch.
"""

from __future__ import annotations

import sys

import timm
import torch

from hf_icckd import (
    ClassifierSpec,
    ImageClassifier,
    ImagePipeline,
    StudentTrainer,
    StudentTrainingArguments,
    TeacherTrainer,
    TeacherTrainingArguments,
    create_classifier,
    load_image_data,
)
from hf_icckd.distributed import rank, world_size


def classifier(names, seed):
    torch.manual_seed(seed)
    net = timm.create_model("test_convnext", num_classes=len(names)).double()
    return ImageClassifier(net, ClassifierSpec("test_convnext", tuple(names), (0.3,) * 3, (0.4,) * 3, 32)).double()


def main(folder: str, processes: int) -> None:
    options = {
        "max_steps": 10, "per_device_train_batch_size": 32 // processes, "logging_steps": 1, "disable_tqdm": True,
        "eval_strategy": "no", "save_strategy": "no", "num_threads": 1,
    }  # fmt: skip
    teacher_args = TeacherTrainingArguments(
        output_dir=f"{folder}/teacher",
        intra_class_weight=1.0,
        intra_class_margin=0.0,
        cache_size_per_class=8,
        **options,
    )
    assert world_size() == processes
    data = load_image_data("digits", max_train_samples=151, max_eval_samples=41)
    pipeline = ImagePipeline(data)
    teacher = TeacherTrainer(
        classifier(data.label_names, 0),
        teacher_args,
        pipeline.dataset("train", training=True, num_views=2),
        pipeline.dataset("test"),
    )
    teacher.train()
    student = StudentTrainer(
        classifier(data.label_names, 1),
        teacher.classifier,
        StudentTrainingArguments(output_dir=f"{folder}/student", objectives=["kd", "rkd:weight=0.1"], **options),
        pipeline.dataset("train", training=True),
    )
    student.train()
    # Not the Trainer's own `loss`, which it sums in float32.
    # A net with BatchNorm, whose statistics differ between processes while it trains.
    torch.manual_seed(0)
    normalised = TeacherTrainer(
        create_classifier("cifar_resnet8", data.label_names, image_size=8),
        TeacherTrainingArguments(output_dir=f"{folder}/normalised", **options),
        pipeline.dataset("train", training=True, num_views=2),
    )
    normalised.train()
    state = {name: value.clone() for name, value in normalised.classifier.state_dict().items()}
    names = ("loss/ce", "loss/intra_class", "gated_fraction", "loss/kd", "loss/rkd_distance", "loss/rkd_angle")
    result = {
        "teacher": teacher.classifier.state_dict(),
        "student": student.classifier.state_dict(),
        "cache": teacher.cache.state_dict(),
        "logs": {
            f"{which}/{name}": torch.tensor(
                [entry[name] for entry in trainer.state.log_history if name in entry], dtype=torch.float64
            )
            for which, trainer in (("teacher", teacher), ("student", student))
            for name in names
        },
        "logits": {"test": teacher.predict_split(pipeline.dataset("test")).logits},
        "normalised": {"state": state, "logits": normalised.predict_split(pipeline.dataset("test")).logits},
    }
    torch.save(result, f"{folder}/rank{rank()}.pt")


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
