"""What a student's trainer checks of its teacher, and the images on which the teacher is measured for objectives."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.utils.data import Dataset

from hf_icckd.data.plain import as_batches
from hf_icckd.data.sampling import BatchDataset
from hf_icckd.metrics.catalogue import BESIDE_TEACHER
from hf_icckd.models.classifier import ClassifierOutput, ClassifierSpec, ImageClassifier
from hf_icckd.models.embedding_teacher import has_head, output_shapes
from hf_icckd.options.training import StudentTrainingArguments
from hf_icckd.training.recorded_batches import EpochRows
from hf_icckd.training.teacher_targets import TeacherTargets

_MOST_MEASURED = 20_000  # images: their mean entropy is that of millions to some thousandths


def images_to_tune_on(
    dataset: Dataset | None, teacher: ClassifierSpec, targets: TeacherTargets | None = None
) -> BatchDataset:
    """Training images as a teacher gets them in evaluation: all, or of more than 20,000 some at equal distances.

    Raises:
        ValueError: If there are none, or they are a long stream, of which the first would not stand for all, or they
            are taught by several teachers in turn.
    """
    if targets is not None and targets.taught_by is not None:
        raise ValueError(
            "an objective measures the teacher on training images, but cross-fitted teachers share those; take one "
            "that does not, for example kd:temperature=4"
        )
    if dataset is None:
        raise ValueError(
            "an objective reads the teacher's outputs for training images as in evaluation, and there are no such "
            "images; give labeled_dataset=pipeline.dataset('train')"
        )
    own = as_batches(dataset, teacher.label_names).for_classifier(teacher)
    if len(own) <= _MOST_MEASURED:
        return own
    if own.streamed:
        raise ValueError(
            f"an objective measures the teacher on training images, but they are a stream of {len(own):,}; take one "
            "that does not, for example kd:temperature=4, or leave --streaming out"
        )
    return EpochRows(own, 0, torch.arange(0, len(own), -(-len(own) // _MOST_MEASURED)))


def made_up_outputs(teacher: ImageClassifier) -> tuple[ClassifierOutput, Tensor]:
    """Outputs for two images of each class, and their labels, in place of those of a teacher that may be untrained."""
    classes, dim = output_shapes(teacher)[:2]
    labels = torch.arange(classes).repeat(2)
    embeddings = None if dim is None else torch.arange(2.0 * classes).unsqueeze(1).expand(-1, dim)
    return ClassifierOutput(5 * torch.eye(classes)[labels], embeddings), labels


def check_teaching(args: StudentTrainingArguments, teacher: ImageClassifier, targets: TeacherTargets | None) -> None:
    """Raise ValueError if a trainer's teacher or targets are not what it can take, or not what its options say."""
    if (targets is None) != (args.teacher_targets == "live"):
        raise ValueError(
            f"teacher_targets is {args.teacher_targets!r} but the trainer was given "
            f"{'no' if targets is None else 'recorded'} targets; pass TeacherTargets for record, replay and auto "
            "only"
        )
    if targets is not None and targets.precision != args.precision:
        raise ValueError(
            f"the teacher targets are of a teacher in {targets.precision}, the arguments say {args.precision}; "
            "pass TeacherTargets(..., precision=args.precision)"
        )
    if not isinstance(teacher, ImageClassifier):
        raise ValueError(
            f"the teacher is a {type(teacher).__name__}, expected an ImageClassifier; make one of it with "
            "hf_icckd.as_teacher(module, label_names, image_size=..., mean=..., std=...)"
        )
    if args.load_best_model_at_end and args.metric_for_best_model in BESIDE_TEACHER and not has_head(teacher):
        raise ValueError(
            f"metric_for_best_model is {args.metric_for_best_model!r} but the teacher has no classes to agree with, "
            "expected a metric of the student alone, such as top1"
        )
