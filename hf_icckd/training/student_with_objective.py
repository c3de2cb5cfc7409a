"""A student and its objectives in one module."""

from __future__ import annotations

from torch import Tensor, nn

from hf_icckd.losses import WeightedObjectives
from hf_icckd.losses.objective import DistillationBatch
from hf_icckd.models.classifier import ClassifierOutput, ImageClassifier


class StudentWithObjective(nn.Module):
    """All that is trained in distillation, in one module: what DistributedDataParallel and torch.compile wrap.

    Args:
        student: The student.
        objectives: Weighted objectives; they may have parameters of their own, which are never exported.
        teacher_layer: The teacher's classification layer, for objectives that run it. It is not trained.
    """

    def __init__(
        self, student: ImageClassifier, objectives: WeightedObjectives, teacher_layer: nn.Module | None = None
    ):
        super().__init__()
        self.student, self.objectives = student, objectives
        self._maps = objectives.reads_maps("student")
        self._teacher_layer = (teacher_layer,)  # in a tuple it is no part of this module
        # Buffers of objectives are the same in all processes; DDP would send them around in every step.
        self._ddp_params_and_buffers_to_ignore = [f"objectives.{name}" for name, _ in objectives.named_buffers()]

    def forward(
        self,
        images: Tensor,
        teacher: ClassifierOutput,
        labels: Tensor,
        sample_ids: Tensor,
        progress: Tensor,
        global_rows: int,
    ) -> tuple[ClassifierOutput, dict[str, Tensor]]:
        """Return the student's output and the unweighted terms of all objectives."""
        output = self.student(images, self._maps)
        batch = DistillationBatch(output, teacher, labels, sample_ids, progress, global_rows, self._teacher_layer[0])
        return output, self.objectives(batch)
