"""Train a teacher: cross-entropy plus weighted teacher terms."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn
from torch.utils.data import Dataset
from transformers.trainer_callback import TrainerCallback

from hf_icckd.data.plain import as_training_batches
from hf_icckd.losses import (
    TeacherBatch,
    TeacherTerm,
    WeightedTerms,
    cross_entropy,
    parse_terms,
    refuse_mixed,
    targets_of,
)
from hf_icckd.models.classifier import ClassifierOutput, ImageClassifier
from hf_icckd.options.training import TeacherTrainingArguments
from hf_icckd.training.class_balance import class_balance
from hf_icckd.training.trainer import DistillationTrainer


class TeacherTrainer(DistillationTrainer):
    """Trains a classifier with `CE + terms(teacher)`.

    All views of an image go through the net in one forward pass, whatever the terms, so that BatchNorm sees the same
    batches in every arm of a comparison.

    Args:
        model: The teacher.
        args: Options.
        train_dataset: Data set of batches with `args.num_views` views, see `hf_icckd.data.ImagePipeline.dataset`, or
            any map-style data set of images and labels, see `hf_icckd.data.plain`.
        eval_dataset: Data set for evaluation while training, or several by name.
        callbacks: Further callbacks.
        terms: Weighted teacher terms; None for those that `args.terms` names.

    Attributes:
        terms: The terms. Their buffers are part of every checkpoint, and none of them is exported.

    Raises:
        ValueError: If a term does not fit the options or the teacher.

    Example:
        >>> import tempfile
        >>> import hf_icckd
        >>> data = hf_icckd.load_image_data("digits", max_train_samples=64, max_eval_samples=64)
        >>> pipeline = hf_icckd.ImagePipeline(data)
        >>> teacher = hf_icckd.create_classifier("cifar_resnet8", data.label_names, image_size=pipeline.image_size)
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     args = hf_icckd.TeacherTrainingArguments(folder, max_steps=1, disable_tqdm=True, eval_strategy="no")
        ...     trainer = TeacherTrainer(teacher, args, pipeline.dataset("train", training=True, num_views=2))
        ...     trainer.train().global_step
        1
    """

    args: TeacherTrainingArguments

    def __init__(
        self,
        model: ImageClassifier,
        args: TeacherTrainingArguments,
        train_dataset: Dataset,
        eval_dataset: Dataset | dict[str, Dataset] | None = None,
        callbacks: list[TrainerCallback] | None = None,
        terms: WeightedTerms | None = None,
    ):
        terms = parse_terms(args.terms) if terms is None else terms
        check_terms(terms, args)
        made = {name: term.trained_part(model, args.seed) for name, term in terms.items()}
        parts = {name: part for name, part in made.items() if part is not None}
        # Without parts the teacher itself: FSDP gathers weights only where the module that it wrapped is called, and
        # evaluation calls the teacher.
        trained = TeacherWithParts(model, parts) if parts else model
        images = as_training_batches(train_dataset, model.spec.label_names, args.seed, args.num_views)
        if images.mixes:
            refuse_mixed(terms)
        if images.unlabeled:
            raise ValueError(
                f"{images.unlabeled} training images have no label, expected a label for each: a teacher learns from "
                "labels alone; load the data without unlabeled_dataset"
            )
        self.balance = class_balance(args, images, model.spec.label_names)
        super().__init__(trained, model, args, images, eval_dataset, callbacks)
        self.term_weights = {"ce": 1.0, **terms.term_weights}
        for _, term in terms.items():
            term.attach(model)
        self.terms = self.stateful["terms"] = terms.to(args.device)

    def compute_terms(self, model: nn.Module, batch: dict[str, Any]) -> dict[str, Tensor]:
        """Cross-entropy over all views, and what the teacher terms return."""
        images, views, smoothing = batch["pixel_values"], batch["pixel_values"].shape[1], self.args.label_smoothing
        output = model(images.flatten(0, 1))
        output, parts = (output, {}) if isinstance(output, ClassifierOutput) else output
        targets = targets_of(batch, output.logits)
        ce = cross_entropy(output.logits, targets.repeat_interleave(views, dim=0), smoothing, self.balance)
        scalars = {"ce": ce}
        for name, term in self.terms.items():
            scalars |= term(
                TeacherBatch(
                    output.logits.unflatten(0, (-1, views)),
                    None if output.embeddings is None else output.embeddings.unflatten(0, (-1, views)),
                    batch["labels"],
                    batch["sample_ids"],
                    batch["global_rows"],
                    smoothing,
                    parts.get(name),
                    targets,
                    self.balance,
                    self.progress(images.device),
                )
            )
        return scalars

    def extra_logs(self) -> dict[str, float]:
        """Numbers that terms add to the log, such as how full a cache is."""
        return self.terms.logs()


class TeacherWithParts(nn.Module):
    """All that is trained of a teacher, in one module: what DistributedDataParallel and torch.compile wrap.

    Args:
        teacher: The teacher, the only part that is exported.
        parts: What the terms train along with it, by the name of the term.
    """

    def __init__(self, teacher: ImageClassifier, parts: dict[str, nn.Module]):
        super().__init__()
        self.teacher, self.parts = teacher, nn.ModuleDict(parts)

    def forward(self, images: Tensor) -> tuple[ClassifierOutput, dict[str, Any]]:
        """Return the teacher's output for (B, 3, H, W) uint8 images, and what each part makes of it."""
        output = self.teacher(images, feature_maps=len(self.parts) > 0)
        return output, {name: part(output) for name, part in self.parts.items()}


def check_terms(terms: WeightedTerms, args: TeacherTrainingArguments) -> None:
    """Raise ValueError if a term does not fit the options."""
    for name, term in terms.items():
        if term.num_views not in (None, args.num_views):
            raise ValueError(
                f"num_views is {args.num_views} but the term {name} compares {term.num_views} views; set --num_views "
                f"{term.num_views}, or --terms none for cross-entropy alone"
            )
        if args.sharded and type(term).trained_part is not TeacherTerm.trained_part:
            raise ValueError(
                f"terms name {name} but accelerate was told to use FSDP, expected DDP: the extra modules that it "
                "trains would hide the teacher's sharded weights from evaluation; use recipes/accelerate/ddp.yaml"
            )
