"""The seam every distillation objective plugs into."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import ClassVar, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hf_icckd.models.outputs import ClassifierOutput, OutputShapes
from hf_icckd.utils.distributed import gather_rows, gather_rows_with_gradient

Measure = Callable[[], tuple[ClassifierOutput, Tensor]]


class DistillationObjective(nn.Module):
    """A student's objective: `forward(batch)` returns named, unweighted scalars; the trainer weighs and logs them.

    To add one: write a file with a subclass and name it in `hf_icckd.losses.OBJECTIVES`. Its constructor arguments
    become options of the command line (`--objectives "name:argument=value"`).

    An objective that compares images with one another gathers them over processes
    (`hf_icckd.utils.distributed.gather_rows_with_gradient`), so that its value does not depend on their number. An
    objective that is a mean over images needs no gathering.

    Attributes:
        term_weights: Weight of each term in the literature.
        teacher_outputs: Fields of the teacher's `ClassifierOutput` that it reads; only these are sure to be there.
            Feature maps are computed if an objective names them, and can't be recorded.
        student_outputs: Fields of the student's output that it reads, if they are not the same.
        reads_progress: Whether it may read `batch.progress`. A run that is under way can become longer only if no
            objective does; say False where that is so.
        takes_mixed: Whether it is right for mixed images, whose `labels` and `sample_ids` tell only one of the two
            images that they show; say True where it reads neither.
        takes_unlabeled: Whether it is right for images without a label, whose `labels` are -1; say True where it does
            not read them.
        reads_teacher_layer: Whether it runs the teacher's classification layer, `batch.teacher_layer`.
        cost: What its computation grows with: B images in a step, C classes, D numbers in an embedding or channels of
            a map, P places in a map, N further images.
        citation: BibTeX of the source.

    Example:
        >>> import torch
        >>> class MeanSquaredLogits(DistillationObjective):
        ...     term_weights = {"mse": 1.0}
        ...     teacher_outputs = ("logits",)
        ...
        ...     def forward(self, batch):
        ...         return {"mse": (batch.student.logits - batch.teacher.logits).square().mean()}
    """

    term_weights: ClassVar[dict[str, float]] = {}
    teacher_outputs: ClassVar[tuple[str, ...]] = ("logits", "embeddings")
    student_outputs: ClassVar[tuple[str, ...] | None] = None
    reads_progress: ClassVar[bool] = True
    takes_mixed: ClassVar[bool] = False
    takes_unlabeled: ClassVar[bool] = False
    reads_teacher_layer: ClassVar[bool] = False
    cost: ClassVar[str] = "B C"
    citation: ClassVar[str] = ""

    def build(self, student: OutputShapes, teacher: OutputShapes) -> None:
        """Make parameters that follow from what the two models put out, such as a projection; here there are none.

        It is called once, before training, on a generator that is seeded by the run. The parameters are trained with
        the student and kept in checkpoints, and never exported.
        """

    def keep_images(self, num_images: int | None) -> None:
        """Make buffers with a row for each training image, if the objective needs some; here there are none.

        It is called after `build`. Checkpoints hold the buffers. All processes must write the same into them.

        Args:
            num_images: How many images there are; `batch.sample_ids` are below it. None for a stream.
        """

    def tune(self, measure: Measure) -> None:
        """Set what follows from the teacher's outputs for training images, if something does; here nothing.

        All processes call it together before the first step of a run. What it sets must be buffers: a run that resumes
        takes them from its checkpoint.

        Args:
            measure: Runs the teacher over training images as in evaluation, and returns its output, logits (N, C) and
                embeddings (N, D), and the labels (N,).
        """

    def notes(self) -> list[str]:
        """Sentences for the record of a finished run; here none."""
        return []

    def forward(self, batch: DistillationBatch) -> dict[str, Tensor]:
        """Return one scalar for each name in `term_weights`."""
        raise TypeError(f"{type(self).__name__} must define forward(batch)")


class OutputObjective(DistillationObjective):
    """An objective that looks at the outputs of both models alone: at no label, no image's number and no progress."""

    reads_progress: ClassVar[bool] = False
    takes_mixed: ClassVar[bool] = True
    takes_unlabeled: ClassVar[bool] = True


def outputs_read(objective: DistillationObjective | type[DistillationObjective], role: str) -> tuple[str, ...]:
    """Fields of a `ClassifierOutput` that an objective reads of the `student` or the `teacher`."""
    if role == "student" and objective.student_outputs is not None:
        return objective.student_outputs
    return objective.teacher_outputs


def mean_square(one: Tensor, other: Tensor) -> Tensor:
    """Mean of the squared differences, in at least float32."""
    raised = at_least_float32(one, other)
    return F.mse_loss(raised[0], raised[1])


def at_least_float32(*tensors: Tensor) -> tuple[Tensor, ...]:
    """Half precision is raised to float32; float32 and float64 stay."""
    return tuple(tensor.to(torch.promote_types(tensor.dtype, torch.float32)) for tensor in tensors)


def checked_logits(student: Tensor, teacher: Tensor) -> tuple[Tensor, Tensor]:
    """Logits (B, C) of both models in at least float32. Raises ValueError if their shapes differ."""
    if student.shape != teacher.shape:
        raise ValueError(
            f"student logits {tuple(student.shape)} and teacher logits {tuple(teacher.shape)} must have one shape; "
            "distil between models of the same classes"
        )
    raised = at_least_float32(student, teacher)
    return raised[0], raised[1]


def check_temperature(objective: str, temperature: float) -> None:
    """Raise ValueError unless a softmax temperature is a number above 0."""
    if not 0 < temperature < math.inf:
        raise ValueError(f"{objective} temperature is {temperature}, expected a number above 0, for example 4")


def check_warmup(objective: str, warmup: float) -> None:
    """Raise ValueError unless a warm-up is a share of the training."""
    if not 0 <= warmup <= 1:
        raise ValueError(f"{objective} warmup is {warmup}, expected a share of the training from 0 to 1")


def warmed_up(loss: Tensor, progress: Tensor, warmup: float) -> Tensor:
    """A loss that grows from 0 over a share of the training."""
    return loss * (progress / warmup).clamp(max=1) if warmup else loss


def no_autocast(tensor: Tensor) -> torch.autocast:
    """Context in which matrix products keep the precision of their operands, even under autocast."""
    return torch.autocast(device_type=tensor.device.type, enabled=False)


class DistillationBatch(NamedTuple):
    """Everything an objective may look at in one step.

    Attributes:
        student: Output of the student, with gradient.
        teacher: Output of the frozen teacher for the same crops, in its own pixels. A recorded one holds only what
            objectives say they read.
        labels: (B,) class indices, -1 for an image without a label.
        sample_ids: (B,) index of each image in the training set.
        progress: () fraction of the training that is done, 0 to 1, for scheduled objectives.
        global_rows: Number of images in this step over all processes, for `hf_icckd.utils.distributed.gather_rows`.
        teacher_layer: The teacher's classification layer, frozen, from embeddings (N, D) to logits (N, C); None unless
            an objective `reads_teacher_layer`.

    Example:
        >>> import torch
        >>> from hf_icckd import KD, ClassifierOutput
        >>> outputs = [ClassifierOutput(torch.randn(4, 10), torch.randn(4, 64)) for _ in range(2)]
        >>> labels = sample_ids = torch.arange(4)
        >>> batch = DistillationBatch(*outputs, labels, sample_ids, progress=torch.zeros(()), global_rows=4)
        >>> list(KD()(batch))
        ['kd']
    """

    student: ClassifierOutput
    teacher: ClassifierOutput
    labels: Tensor
    sample_ids: Tensor
    progress: Tensor
    global_rows: int
    teacher_layer: Callable[[Tensor], Tensor] | None = None


def logits_of_all(batch: DistillationBatch) -> tuple[Tensor, Tensor]:
    """Logits of student and teacher for all images of the global batch. Raises ValueError if their shapes differ."""
    return checked_logits(
        gather_rows_with_gradient(batch.student.logits, batch.global_rows),
        gather_rows(batch.teacher.logits, batch.global_rows),
    )


def embeddings_of_all(batch: DistillationBatch) -> tuple[Tensor, Tensor]:
    """Embeddings of student and teacher for all images of the global batch, for objectives that compare images."""
    assert batch.student.embeddings is not None and batch.teacher.embeddings is not None
    student = gather_rows_with_gradient(batch.student.embeddings, batch.global_rows)
    return student, gather_rows(batch.teacher.embeddings, batch.global_rows)
