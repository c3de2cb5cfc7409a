"""The seam every term of a teacher's loss plugs into."""

from __future__ import annotations

from typing import Any, ClassVar, NamedTuple

import torch
from torch import Tensor, nn

from hf_icckd.losses.class_balance import ClassBalance
from hf_icckd.models.classifier import ImageClassifier


class TeacherBatch(NamedTuple):
    """Everything a teacher term may look at in one step: B images in V views.

    Attributes:
        logits: (B, V, C) with gradient.
        embeddings: (B, V, D) with gradient; None for a teacher without.
        labels: (B,) class indices.
        sample_ids: (B,) index of each image in the training split.
        global_rows: Number of images in this step over all processes, for `hf_icckd.utils.distributed.gather_rows`.
        label_smoothing: Label smoothing of the cross-entropy, for terms that have one of their own.
        part: What the term's `trained_part` returned for this batch; None without one.
        targets: What cross-entropy compares logits with: (B,) labels, or (B, C) probabilities of mixed images.
        balance: Weights of the classes and offsets of the logits in the cross-entropy, for terms that have one.
        progress: () fraction of the training that is done, 0 to 1.

    Example:
        >>> import torch
        >>> labels = sample_ids = torch.arange(4)
        >>> TeacherBatch(torch.randn(4, 2, 10), torch.randn(4, 2, 64), labels, sample_ids, global_rows=4).part
    """

    logits: Tensor
    embeddings: Tensor | None
    labels: Tensor
    sample_ids: Tensor
    global_rows: int
    label_smoothing: float = 0.0
    part: Any = None
    targets: Tensor | None = None
    balance: ClassBalance = ClassBalance()
    progress: Tensor = torch.zeros(())


class TeacherTerm(nn.Module):
    """A term of a teacher's loss: `forward(batch)` returns named, unweighted scalars; the trainer weighs them.

    To add one: write a file with a subclass and name it in `hf_icckd.losses.TEACHER_TERMS`. Its constructor arguments
    become options of the command line (`--terms name:argument=value`). Its buffers are saved with every checkpoint.

    Attributes:
        default_weight: Weight of the term if nobody gives one.
        term_weights: Weight of each scalar relative to the term's own. Scalars without a weight are logged only.
        num_views: Views of an image that the term compares; None if any number will do.
        takes_mixed: Whether it is right for mixed images, which have two labels and show two images.
        reads_progress: Whether it reads `batch.progress`; a run that is under way can't become longer then.
        purpose: What the term is for, as a sentence of the model card.
        citation: BibTeX of the source.

    Example:
        >>> class Spread(TeacherTerm):
        ...     default_weight = 0.01
        ...     term_weights = {"spread": 1.0}
        ...
        ...     def forward(self, batch):
        ...         return {"spread": -batch.embeddings.flatten(0, 1).std(dim=0).mean()}
    """

    default_weight: ClassVar[float] = 1.0
    term_weights: ClassVar[dict[str, float]] = {}
    num_views: ClassVar[int | None] = None
    takes_mixed: ClassVar[bool] = False
    reads_progress: bool = False
    purpose: ClassVar[str] = ""
    citation: ClassVar[str] = ""

    @staticmethod
    def describe(arguments: dict[str, Any]) -> str:
        """Words for model cards and reports, such as `0.05 x intra-class term`, from all arguments of the term."""
        raise TypeError("a teacher term must define describe(arguments)")

    def trained_part(self, teacher: ImageClassifier, seed: int) -> nn.Module | None:
        """Build a module that is trained along with the teacher and dropped at export; None for no module.

        The module is called with the teacher's `ClassifierOutput`, feature maps included; its result reaches `forward`
        as `batch.part`. A teacher with such a module can't be trained with sharded weights (FSDP2).
        """
        return None

    def attach(self, teacher: ImageClassifier) -> None:
        """Build state whose shape depends on the teacher, before training begins."""

    def forward(self, batch: TeacherBatch) -> dict[str, Tensor]:
        """Return one scalar for each name in `term_weights`, and perhaps further ones to log."""
        raise TypeError(f"{type(self).__name__} must define forward(batch)")

    def logs(self) -> dict[str, float]:
        """Numbers that are read only when the training log is written."""
        return {}
