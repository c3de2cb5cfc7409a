"""Distil a student: cross-entropy plus weighted objectives against a frozen teacher."""

from __future__ import annotations

import logging
import math
import time
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import Dataset
from transformers.trainer_callback import TrainerCallback

from hf_icckd.data.plain import as_batches, as_training_batches, first_dataset
from hf_icckd.data.sampling import BatchDataset
from hf_icckd.evaluation.split import SplitOutputs, run_split
from hf_icckd.evaluation.teacher_check import TeacherCheck, check_teacher
from hf_icckd.losses import (
    WeightedObjectives,
    check_outputs,
    cross_entropy,
    labeled_cross_entropy,
    parse_objectives,
    refuse_mixed,
    refuse_unlabeled,
    targets_of,
)
from hf_icckd.models.classifier import ClassifierOutput, ImageClassifier
from hf_icckd.models.embedding_teacher import check_teacher_classes, has_head, output_shapes
from hf_icckd.options.training import StudentTrainingArguments
from hf_icckd.runs.records import RecordedAccuracy
from hf_icckd.training.class_balance import class_balance
from hf_icckd.training.cross_fitting import shared_out
from hf_icckd.training.head_fitting import fit_head, freeze_head, refuse_idle, trains_head
from hf_icckd.training.recorded_batches import Source, WithTargets
from hf_icckd.training.student_checks import check_teaching, images_to_tune_on, made_up_outputs
from hf_icckd.training.student_with_objective import StudentWithObjective
from hf_icckd.training.teacher_targets import TeacherTargets
from hf_icckd.training.trainer import DistillationTrainer
from hf_icckd.utils import distributed

logger = logging.getLogger(__name__)


class StudentTrainer(DistillationTrainer):
    """Trains a classifier with `ce_weight * CE + objectives(student, teacher)`.

    The teacher sees the same crops in the size and scaling that it was measured with, in evaluation mode and without
    gradient. Its weights and buffers don't change.

    Args:
        model: The student.
        teacher: The teacher; frozen here.
        args: Options.
        train_dataset: Data set of batches with one view, see `hf_icckd.data.ImagePipeline.dataset`, or any map-style
            data set of images and labels, see `hf_icckd.data.plain`, of which the teacher gets the pixels scaled.
        eval_dataset: Data set for evaluation while training, or several by name.
        objectives: Weighted objectives; None for those that `args.objectives` names.
        callbacks: Further callbacks.
        targets: Recorded outputs of the teacher, unless `args.teacher_targets` is live.
        teacher_record: Accuracy that the teacher is known to have; see `train`.
        labeled_dataset: Labelled training images as in evaluation. On them the classification layer is fitted if no
            term of the loss trains it, before each evaluation and before the student is saved; and the teacher is
            measured for objectives that ask for that, such as KD with the temperature `auto`.

    Attributes:
        teacher_check: What the teacher knows of the evaluation images, once it was checked.

    Raises:
        ValueError: If teacher and student differ in their classes or their order, targets don't fit the arguments, or
            objectives need what there is not: labels of all images, logits of the teacher.

    Example:
        >>> import tempfile
        >>> import hf_icckd
        >>> data = hf_icckd.load_image_data("digits", max_train_samples=64, max_eval_samples=64)
        >>> pipeline = hf_icckd.ImagePipeline(data)
        >>> nets = ["cifar_resnet20", "cifar_resnet8"]
        >>> teacher, student = (hf_icckd.create_classifier(net, data.label_names, image_size=8) for net in nets)
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     args = hf_icckd.StudentTrainingArguments(folder, max_steps=1, disable_tqdm=True, eval_strategy="no")
        ...     trainer = StudentTrainer(student, teacher, args, pipeline.dataset("train", training=True))
        ...     trainer.train().global_step
        1
    """

    args: StudentTrainingArguments

    def __init__(
        self,
        model: ImageClassifier,
        teacher: ImageClassifier,
        args: StudentTrainingArguments,
        train_dataset: Dataset,
        eval_dataset: Dataset | dict[str, Dataset] | None = None,
        objectives: WeightedObjectives | None = None,
        callbacks: list[TrainerCallback] | None = None,
        targets: TeacherTargets | None = None,
        teacher_record: RecordedAccuracy | None = None,
        labeled_dataset: Dataset | None = None,
    ):
        check_teaching(args, teacher, targets)
        check_teacher_classes(teacher, model.spec.label_names)
        objectives = objectives or parse_objectives(args.objectives)
        check_outputs(objectives, teacher, "teacher")
        check_outputs(objectives, model, "student")
        if targets is not None and not isinstance(train_dataset, BatchDataset):
            raise ValueError(
                f"train_dataset is a {type(train_dataset).__name__} but there are recorded targets, expected the "
                "images they were recorded from: give pipeline.dataset('train', training=True), or leave targets out"
            )
        images = as_training_batches(train_dataset, model.spec.label_names, args.seed)
        if images.mixes:
            refuse_mixed(objectives)
        self._objectives = objectives
        self._maps = objectives.reads_maps("teacher")
        own, others = output_shapes(model, objectives.reads_maps("student")), output_shapes(teacher, self._maps)
        objectives.build(own, others, args.seed, None if images.streamed else len(images))
        objectives.to(next(model.parameters()).dtype)
        trained = StudentWithObjective(
            model, objectives, teacher.classification_layer if objectives.reads_teacher_layer else None
        )
        self._unlabeled = images.unlabeled
        self._labeled = self._unlabeled < len(images)
        if self._unlabeled:
            refuse_unlabeled(objectives)
        head_is_trained = trains_head(objectives) or (self._labeled and args.ce_weight > 0)
        self._labeled_dataset = None if head_is_trained else freeze_head(model, labeled_dataset, args)
        refuse_idle(objectives, args)
        self._fitted_at, self._plain_dataset = -1, labeled_dataset
        self.live_dataset, self.targets = images, targets
        self.balance = class_balance(args, images, model.spec.label_names)
        images = images.with_teacher(teacher.spec) if targets is None else WithTargets(images, targets.read)
        super().__init__(trained, model, args, images, eval_dataset, callbacks, frozen=(teacher,))
        self.teacher = teacher.requires_grad_(False).eval().to(args.device)
        # The Trainer compiles the trained module with the same backend and mode.
        self._run_teacher = (
            torch.compile(self.teacher, backend=args.torch_compile_backend or "inductor", mode=args.torch_compile_mode)
            if args.torch_compile
            else self.teacher
        )
        # With CUDA graphs the teacher's output is overwritten as soon as the student's graph runs.
        self._copy_outputs = args.torch_compile and args.torch_compile_mode in ("reduce-overhead", "max-autotune")
        self._announced = self._warned = self._told = False
        self.term_weights = ({"ce": args.ce_weight} if self._labeled else {}) | objectives.term_weights
        self._teacher_outputs: list[tuple[Dataset, SplitOutputs]] = []
        self.teacher_record = teacher_record
        self.teacher_check: TeacherCheck | None = None

    def train(self, resume_from_checkpoint: str | bool | None = None, trial=None, ignore_keys_for_eval=None):
        """Train as the Trainer does, after `check_teacher` and, in a run that begins, `tune_objectives`."""
        self.check_teacher()
        if not resume_from_checkpoint:
            self.tune_objectives()
            for note in self._objectives.notes():
                logger.info("%s", note)
        output = super().train(resume_from_checkpoint, trial, ignore_keys_for_eval)
        self.notes += [each for each in self._objectives.notes() if each not in self.notes]
        return output

    def tune_objectives(self, trial: bool = False) -> None:
        """Let objectives set what follows from the teacher's outputs for training images; all processes together.

        Args:
            trial: Whether only to try: made-up outputs take the place of the teacher's, which may not be trained yet.

        Raises:
            ValueError: If an objective asks for the outputs and the trainer has no such images.
        """

        def measure() -> tuple[ClassifierOutput, Tensor]:
            images = images_to_tune_on(self._plain_dataset, self.teacher.spec, self.targets)
            if trial:
                return made_up_outputs(self.teacher)
            description = None if self.args.disable_tqdm else "the teacher on training images"
            outputs = self._predict(self.teacher, images, description)
            return ClassifierOutput(outputs.logits, outputs.embeddings), outputs.labels

        for objective in self._objectives:
            objective.tune(measure)

    def check_teacher(self) -> None:
        """Measure the teacher on the evaluation images, if there are any, once; of several sets the first counts.

        Raises:
            ValueError: If it is near chance or far below its record, unless `args.accept_teacher` is set.
        """
        dataset = first_dataset(self.eval_dataset)
        if not has_head(self.teacher):
            if not self._told:
                logger.info("the teacher has no classes here, so there is no accuracy of it: it teaches by embeddings")
            self._told = True
            return
        if dataset is None or self.teacher_check is not None:
            return
        outputs = self.evaluation_teacher(dataset)
        assert outputs is not None  # it has classes
        check = check_teacher(outputs.logits, outputs.labels, self.teacher_record)
        problem = check.problem(self.classifier.spec.label_names)
        if problem and not self.args.accept_teacher:
            raise ValueError(problem)
        logger.info("%s", check.line)
        self.notes = [check.note] if problem else []
        self.teacher_check = check

    def compute_terms(self, model: nn.Module, batch: dict[str, Any]) -> dict[str, Tensor]:
        """Cross-entropy and the terms of all objectives."""
        images, labels = batch["pixel_values"][:, 0], batch["labels"]
        teacher = self._teacher_output(self._teacher_images(batch), batch.get("teacher"))
        progress = self.progress(images.device)
        output, terms = model(images, teacher, labels, batch["sample_ids"], progress, batch["global_rows"])
        if not self._labeled:
            return terms
        if self._unlabeled:
            ce = labeled_cross_entropy(output.logits, batch, self.args.label_smoothing, self.balance)
        else:
            targets = targets_of(batch, output.logits)
            ce = cross_entropy(output.logits, targets, self.args.label_smoothing, self.balance)
        return {"ce": ce, **terms}

    def get_batch_samples(self, epoch_iterator, num_batches, device):
        """Micro-batches of a step; they know how many of all its images have a label."""
        batches, num_items = super().get_batch_samples(epoch_iterator, num_batches, device)
        if self._unlabeled and self._labeled and batches:
            own = torch.stack([(batch["labels"] >= 0).sum() for batch in batches]).sum()
            labeled = distributed.sum_over_ranks(own.to(self.args.device, non_blocking=True))
            rows = sum(batch["global_rows"] for batch in batches)
            for batch in batches:
                batch |= {"labeled_rows": labeled, "step_rows": rows}
        return batches, num_items

    def _teacher_images(self, batch: dict[str, Any]) -> Tensor:
        """The teacher's own pixels, or the student's where both are the same."""
        images = batch.get("teacher_pixel_values", batch["pixel_values"])[:, 0]
        size = self.teacher.spec.image_size
        if not self._warned and not self.live_dataset.framed and images.shape[-1] != size:
            logger.warning(
                "the training data set makes images of %d pixels only, the teacher takes %d and gets them scaled; "
                "a data set of hf_icckd.ImagePipeline cuts the teacher's pixels from the original images",
                images.shape[-1],
                size,
            )
            self._warned = True
        return images

    def _teacher_output(self, images: Tensor, recorded: dict[str, Tensor] | None) -> ClassifierOutput:
        if recorded is not None:
            dtype = next(self.teacher.parameters(), self.teacher.scale).dtype
            values = {name: value.to(dtype) for name, value in recorded.items()}
            # Objectives declare what they read; embeddings that none of them reads are not there.
            embeddings = values.get("embeddings")
            logits = values["logits"] if embeddings is None else values.get("logits", embeddings[:, :0])
            return ClassifierOutput(logits, embeddings)
        # no_grad, not inference_mode: objectives may keep teacher tensors for their backward pass.
        with torch.no_grad(), self.accelerator.autocast():
            output = self._run_teacher(images, self._maps)
        return output.clone() if self._copy_outputs else output

    def begin_epoch(self, epoch: int) -> bool:
        """Record missing teacher targets, of this epoch or (mode record) of all that are left; False if stopped."""
        if self.targets is None:
            return True
        start = time.perf_counter()
        missing = self.targets.missing(range(epoch, math.ceil(self.state.max_steps / self.steps_per_epoch)))
        if self.args.teacher_targets == "auto":
            this_epoch = self.targets.recorded_epoch(epoch)
            now = [block for block in missing if block[0] == this_epoch]
        else:
            now = missing
        if missing:
            self._announce(self.targets, missing)
        for block in now:
            if distributed.any_rank(self.stop_requested):
                return False
            self._record(self.targets, *block)
        self.targets.open_epoch(epoch)
        self._clock += time.perf_counter() - start  # images per second are those of training
        return True

    def _announce(self, targets: TeacherTargets, missing: list[tuple[int, int]]) -> None:
        if self.args.teacher_targets == "replay":
            raise ValueError(
                f"{str(targets.folder)!r} lacks {len(missing)} block(s) that this run needs, the first of epoch "
                f"{missing[0][0]}, rows {missing[0][1]} on; take --teacher_targets auto, which records them, or fewer "
                "epochs"
            )
        if not self._announced:
            megabytes = distributed.on_first_rank(lambda: targets.check_space(missing)) / 1e6
            logger.info("the teacher's outputs are recorded in %s: %.1f MB more", targets.folder, megabytes)
            self._announced = True

    def _record(self, targets: TeacherTargets, epoch: int, start: int) -> None:
        description = None if self.args.disable_tqdm else f"recording the teacher, epoch {epoch + 1}"
        options = self._evaluation_options(description)
        sources = [
            Source(self.live_dataset.for_classifier(each.spec), partial(run_split, each, **options), rows)
            for each, rows in shared_out(self.teacher, targets.rows_of(start), targets.taught_by)
        ]
        with self.accelerator.autocast():
            targets.record(epoch, start, *sources)

    # ---- a classification layer that nothing trains

    def fit_head(self) -> None:
        """Fit the classification layer to labelled images if no term of the loss trains it; all processes together."""
        if self._labeled_dataset is None or self._fitted_at == self.state.global_step:
            return
        start = time.perf_counter()
        note = fit_head(self.measured_classifier, super().predict_split(self._labeled_dataset))
        self._fitted_at = self.state.global_step
        self.notes += [note] if note not in self.notes else []
        self._clock += time.perf_counter() - start  # images per second are those of training

    def begin_sums(self) -> None:
        """As the base class; a layer that was fitted in an earlier training is fitted again."""
        self._fitted_at = -1
        super().begin_sums()

    def predict_split(self, dataset: Dataset, description: str | None = None) -> SplitOutputs:
        """Outputs of the student for a data set, after `fit_head`."""
        self.fit_head()
        return super().predict_split(dataset, description)

    def evaluate(self, *args: Any, **options: Any) -> dict[str, float]:
        """Measure the student, as `DistillationTrainer` does, after `fit_head`."""
        self.fit_head()
        return super().evaluate(*args, **options)

    def export(self, folder: str) -> None:
        """Write the student as a folder that timm and transformers load, after `fit_head`."""
        self.fit_head()
        super().export(folder)

    def evaluation_teacher(self, dataset: Dataset) -> SplitOutputs | None:
        """Outputs of the teacher for its own pixels of these images, computed once; None if it has no classes."""
        if not has_head(self.teacher):
            return None
        for known, outputs in self._teacher_outputs:
            if known is dataset:
                return outputs
        # Those of several evaluation sets are kept; otherwise only the latest, which may be large.
        several = list(self.eval_dataset.values()) if isinstance(self.eval_dataset, dict) else []
        kept = [each for each in self._teacher_outputs if any(each[0] is one for one in several)]
        own = as_batches(dataset, self.teacher.spec.label_names).for_classifier(self.teacher.spec)
        outputs = self._predict(self.teacher, own, None if self.args.disable_tqdm else "measuring the teacher")
        self._teacher_outputs = [*kept, (dataset, outputs)]
        return outputs
