"""Distil a student: cross-entropy plus weighted objectives against a frozen teacher."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.data import Dataset
from transformers.trainer_callback import TrainerCallback

from hf_icckd.evaluation import SplitOutputs
from hf_icckd.hub import is_unnamed
from hf_icckd.losses import OBJECTIVES, WeightedObjectives, parse_objectives
from hf_icckd.modeling import ImageClassifier, StudentWithObjective
from hf_icckd.trainer_base import DistillationTrainer
from hf_icckd.training_args import StudentTrainingArguments


class StudentTrainer(DistillationTrainer):
    """Trains a classifier with `ce_weight * CE + objectives(student, teacher)`.

    The teacher sees the same pixels in evaluation mode without gradient; its weights and buffers stay as they are.

    Args:
        model: The student.
        teacher: The teacher; frozen here.
        args: Options.
        train_dataset: Data set of batches with one view; see `hf_icckd.data.ImagePipeline.dataset`.
        eval_dataset: Data set for evaluation while training.
        objectives: Weighted objectives; None for those that `args.objectives` names.
        callbacks: Further callbacks.

    Raises:
        ValueError: If teacher and student differ in their classes or the order of them.
    """

    def __init__(
        self,
        model: ImageClassifier,
        teacher: ImageClassifier,
        args: StudentTrainingArguments,
        train_dataset: Dataset,
        eval_dataset: Dataset | None = None,
        objectives: WeightedObjectives | None = None,
        callbacks: list[TrainerCallback] | None = None,
    ):
        check_same_classes(teacher.spec.label_names, model.spec.label_names)
        objectives = objectives or parse_objectives(args.objectives, OBJECTIVES)
        trained = StudentWithObjective(model, objectives)
        super().__init__(trained, model, args, train_dataset, eval_dataset, callbacks, frozen=(teacher,))
        self.teacher = teacher.requires_grad_(False).eval().to(args.device)
        self.term_weights = {"ce": args.ce_weight, **objectives.term_weights}
        self._teacher_outputs: tuple[Dataset, SplitOutputs] | None = None

    def compute_terms(self, model: nn.Module, batch: dict[str, Any]) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """Cross-entropy and the terms of all objectives."""
        images, labels = batch["pixel_values"][:, 0], batch["labels"]
        # no_grad, not inference_mode: objectives may keep teacher tensors for their backward pass.
        with torch.no_grad(), self.accelerator.autocast():
            teacher = self.teacher(images)
        progress = torch.full((), self.state.global_step / max(self.state.max_steps, 1), device=images.device)
        output, terms = model(images, teacher, labels, batch["sample_ids"], progress, batch["global_rows"])
        ce = F.cross_entropy(output.logits, labels, label_smoothing=self.args.label_smoothing)
        return {"ce": ce, **terms}, {}

    def evaluation_teacher(self, dataset: Dataset) -> SplitOutputs:
        """Outputs of the teacher, computed once for a data set."""
        if self._teacher_outputs is None or self._teacher_outputs[0] is not dataset:
            self._teacher_outputs = dataset, self._predict(self.teacher, dataset, None)
        return self._teacher_outputs[1]


def check_same_classes(
    teacher: tuple[str, ...], student: tuple[str, ...], first: str = "teacher", second: str = "data set"
) -> None:
    """Raise ValueError unless both have the same classes in the same order.

    Args:
        teacher: Class names of the one; those a model came without are not compared.
        student: Class names of the other.
        first: What the one is called in the message.
        second: What the other is called.
    """
    if len(teacher) != len(student):
        raise ValueError(
            f"the {first} has {len(teacher)} classes, the {second} {len(student)}; take a {first} trained on this "
            f"{second}, or the {second} it was trained on"
        )
    if is_unnamed(teacher) or is_unnamed(student):
        return
    differing = [index for index, pair in enumerate(zip(teacher, student, strict=True)) if pair[0] != pair[1]]
    if differing:
        index = differing[0]
        raise ValueError(
            f"{first} and {second} name {len(differing)} classes differently, first class {index}: {teacher[index]!r} "
            f"and {student[index]!r}; both must have the same names in the same order"
        )
