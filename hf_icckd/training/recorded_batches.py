"""For teacher targets: which outputs can be recorded, the rows of one epoch, and batches with what was recorded."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from hf_icckd.data import ImagePipeline
from hf_icckd.data.sampling import BatchDataset, BatchKey, KeyedBatchSampler, WrappedDataset
from hf_icckd.models.classifier import ClassifierOutput, ImageClassifier
from hf_icckd.utils import distributed


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
    if not wanted:
        raise ValueError(
            "nothing of this teacher is recorded: it has no classes, and no objective reads its embeddings; take "
            "--teacher_targets live"
        )
    found = {name: dim for name, dim in wanted.items() if dim is not None}
    if found.keys() != wanted.keys():
        raise ValueError(f"teacher {teacher.spec.architecture} has no embeddings to record; take --objectives kd")
    return found


class EpochRows(WrappedDataset):
    """Some rows of a data set, as they are in one epoch."""

    def __init__(self, dataset: BatchDataset, epoch: int, rows: Tensor):
        super().__init__(dataset)
        self.epoch, self.rows = epoch, rows

    def __len__(self) -> int:
        return len(self.rows)

    def class_labels(self) -> Tensor | None:
        """Classes of the chosen rows."""
        labels = self.dataset.class_labels()
        return None if labels is None else labels[self.rows]

    def __getitems__(self, key: BatchKey) -> dict[str, Any]:
        """The batch of the data set; `key.indices` count the chosen rows."""
        return self.dataset.__getitems__(key._replace(epoch=self.epoch, indices=self.rows[key.indices]))


class Source(NamedTuple):
    """Where recorded outputs come from.

    Attributes:
        dataset: Training data set with one view, as the teacher gets it; see `BatchDataset.for_classifier`.
        run: Runs the teacher over a data set; see `hf_icckd.evaluation.split.run_split`.
        rows: Rows of a block that this teacher is asked about; None for all.
    """

    dataset: BatchDataset
    run: Callable[[BatchDataset], Iterable[tuple[ClassifierOutput, Tensor, int]]]
    rows: Tensor | None = None


def outputs_of(
    sources: Sequence[Source], names: Sequence[str], epoch: int, rows: Tensor
) -> dict[str, list[Tensor]] | None:
    """Outputs for rows of an epoch in half precision, in their order; all processes together, None but on the first.

    Args:
        sources: Teachers, which together are asked about each row once.
        names: Which outputs.
        epoch: The epoch.
        rows: (N,) the rows.
    """
    parts: dict[str, list[Tensor]] = {name: [] for name in names}
    asked = [rows if source.rows is None else source.rows for source in sources]
    for source, own in zip(sources, asked, strict=True):
        for output, _, global_rows in source.run(EpochRows(source.dataset, epoch, own)):
            for name, values in parts.items():
                whole = distributed.gather_rows(getattr(output, name).half(), global_rows)
                if distributed.rank() == 0:
                    values.append(whole.cpu())
    if distributed.rank() != 0:
        return None
    if len(sources) == 1:
        return parts
    order = torch.cat(asked).argsort()
    with torch.autocast("cpu", enabled=False):  # it would refuse float16, and the teachers may have run under it
        return {name: [torch.cat(values)[order]] for name, values in parts.items()}


class WithTargets(WrappedDataset):
    """A training data set whose batches also hold the teacher's recorded outputs.

    Args:
        dataset: The training data set.
        read: Returns the recorded outputs of an epoch and (B,) sample ids, as `TeacherTargets.read` does.
    """

    def __init__(self, dataset: BatchDataset, read: Callable[[int, Tensor], dict[str, Tensor]]):
        super().__init__(dataset)
        self.read = read

    def batch_sampler(self, batch_size: int, seed: int | None = None) -> KeyedBatchSampler:
        """Keys of the training data set, which may put rows side by side."""
        return self.dataset.batch_sampler(batch_size, seed)

    def __getitems__(self, key: BatchKey) -> dict[str, Any]:
        """The batch of the data set and, as `teacher`, the recorded outputs."""
        return self.dataset.__getitems__(key) | {"teacher": self.read(key.epoch, key.indices)}
