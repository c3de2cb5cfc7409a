"""For teacher targets: which outputs can be recorded, the rows of one epoch, and batches with what was recorded."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import Tensor

from hf_icckd.data import ImagePipeline
from hf_icckd.data.sampling import BatchDataset, BatchKey, KeyedBatchSampler
from hf_icckd.models.classifier import ImageClassifier


def recordable(teacher: ImageClassifier, pipeline: ImagePipeline, outputs: tuple[str, ...]) -> dict[str, int]:
    """Length of each output that is recorded. Raises ValueError if one that is needed can't be."""
    if pipeline.data.streamed:
        raise ValueError(
            "teacher_targets can't be recorded of a stream, whose images have no row numbers; leave --streaming "
            "out, or take --teacher_targets live"
        )
    dims = {"logits": len(teacher.spec.label_names), "embeddings": teacher.embedding_dim}
    if too_large := sorted(set(outputs) - dims.keys()):
        raise ValueError(
            f"an objective compares {' and '.join(too_large)}, which are too large to record for every image and "
            "epoch; take --teacher_targets live, which runs the teacher in every step"
        )
    wanted = {name: dim for name, dim in dims.items() if name in {"logits", *outputs} and dim != 0}
    found = {name: dim for name, dim in wanted.items() if dim is not None}
    if found.keys() != wanted.keys():
        raise ValueError(f"teacher {teacher.spec.architecture} has no embeddings to record; take --objectives kd")
    return found


class EpochRows(BatchDataset):
    """Rows of a data set at equal distances, as they are in one epoch."""

    def __init__(self, dataset: BatchDataset, epoch: int, rows: range):
        self.dataset, self.epoch, self.rows = dataset, epoch, rows
        self.resident = dataset.resident

    def __len__(self) -> int:
        return len(self.rows)

    def __getitems__(self, key: BatchKey) -> dict[str, Any]:
        """The batch of the data set, `key.indices` counted from the first row."""
        indices = key.indices * self.rows.step + self.rows.start
        return self.dataset.__getitems__(key._replace(epoch=self.epoch, indices=indices))


class WithTargets(BatchDataset):
    """A training data set whose batches also hold the teacher's recorded outputs.

    Args:
        dataset: The training data set.
        read: Returns the recorded outputs of an epoch and (B,) sample ids, as `TeacherTargets.read` does.
    """

    def __init__(self, dataset: BatchDataset, read: Callable[[int, Tensor], dict[str, Tensor]]):
        self.dataset, self.read = dataset, read
        self.resident = dataset.resident

    def __len__(self) -> int:
        return len(self.dataset)

    def class_labels(self) -> Tensor | None:
        """Classes of the training data set."""
        return self.dataset.class_labels()

    def batch_sampler(self, batch_size: int, seed: int | None = None) -> KeyedBatchSampler:
        """Keys of the training data set, which may put rows side by side."""
        return self.dataset.batch_sampler(batch_size, seed)

    def __getitems__(self, key: BatchKey) -> dict[str, Any]:
        """The batch of the data set and, as `teacher`, the recorded outputs."""
        return self.dataset.__getitems__(key) | {"teacher": self.read(key.epoch, key.indices)}
