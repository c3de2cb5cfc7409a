"""What models return and what distillation objectives receive."""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor


class ClassifierOutput(NamedTuple):
    """Output of a classifier for a batch of B images.

    Attributes:
        logits: (B, C) pre-softmax scores.
        embeddings: (B, D) pooled features in front of the classification layer, not normalised.
        feature_maps: Tuple of (B, C_l, H_l, W_l), as timm's `forward_intermediates`; None unless asked for.
    """

    logits: Tensor
    embeddings: Tensor
    feature_maps: tuple[Tensor, ...] | None = None

    def clone(self) -> ClassifierOutput:
        """The same values in memory of their own."""
        maps = None if self.feature_maps is None else tuple(each.clone() for each in self.feature_maps)
        return ClassifierOutput(self.logits.clone(), self.embeddings.clone(), maps)


class DistillationBatch(NamedTuple):
    """Everything an objective may look at in one step.

    Attributes:
        student: Output of the student, with gradient.
        teacher: Output of the frozen teacher for the same pixels; of a recorded one only what objectives say they
            read.
        labels: (B,) class indices.
        sample_ids: (B,) index of each image in the training split.
        progress: () fraction of the training that is done, 0 to 1, for scheduled objectives.
        global_rows: Number of images in this step over all processes; what `hf_icckd.distributed.gather_rows` needs.
    """

    student: ClassifierOutput
    teacher: ClassifierOutput
    labels: Tensor
    sample_ids: Tensor
    progress: Tensor
    global_rows: int
