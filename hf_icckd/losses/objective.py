"""The seam every distillation objective plugs into."""

from __future__ import annotations

import math
from typing import ClassVar, NamedTuple

import torch
from torch import Tensor, nn

from hf_icckd.models.outputs import ClassifierOutput, OutputShapes
from hf_icckd.utils.distributed import gather_rows, gather_rows_with_gradient


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
        reads_progress: Whether it may read `batch.progress`. A run that is under way can become longer only if no
            objective does; say False where that is so.
        takes_mixed: Whether it is right for mixed images, whose `labels` and `sample_ids` tell only one of the two
            images that they show; say True where it reads neither.
        takes_unlabeled: Whether it is right for images without a label, whose `labels` are -1; say True where it does
            not read them.
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
    reads_progress: ClassVar[bool] = True
    takes_mixed: ClassVar[bool] = False
    takes_unlabeled: ClassVar[bool] = False
    citation: ClassVar[str] = ""

    def build(self, student: OutputShapes, teacher: OutputShapes) -> None:
        """Make parameters that follow from what the two models put out, such as a projection; here there are none.

        It is called once, before training, on a generator that is seeded by the run. The parameters are trained with
        the student and kept in checkpoints, and never exported.
        """

    def forward(self, batch: DistillationBatch) -> dict[str, Tensor]:
        """Return one scalar for each name in `term_weights`."""
        raise TypeError(f"{type(self).__name__} must define forward(batch)")


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


def embeddings_of_all(batch: DistillationBatch) -> tuple[Tensor, Tensor]:
    """Embeddings of student and teacher for all images of the global batch, for objectives that compare images."""
    assert batch.student.embeddings is not None and batch.teacher.embeddings is not None
    student = gather_rows_with_gradient(batch.student.embeddings, batch.global_rows)
    return student, gather_rows(batch.teacher.embeddings, batch.global_rows)
