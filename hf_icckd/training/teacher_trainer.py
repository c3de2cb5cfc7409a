"""Train a teacher: cross-entropy plus the intra-class contrastive term, or with the branches of a student."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.data import Dataset
from transformers.trainer_callback import TrainerCallback

from hf_icckd.losses import IntraClassContrastiveLoss
from hf_icckd.losses.class_cache import ClassEmbeddingCache
from hf_icckd.losses.sftn import student_branch_terms
from hf_icckd.models.classifier import ImageClassifier
from hf_icckd.models.student_branches import with_student_branches
from hf_icckd.options.training import TeacherTrainingArguments
from hf_icckd.runs.checkpoints import part_of
from hf_icckd.training.trainer import DistillationTrainer
from hf_icckd.utils.distributed import gather_rows


class TeacherTrainer(DistillationTrainer):
    """Trains a classifier with `CE + intra_class_weight * L_intra` (arXiv 2509.22053).

    Both views of an image go through the net in one forward pass of 2N images, with any weight: BatchNorm sees the
    same in every arm of a comparison. Weight 0 is plain cross-entropy, computed without the term.

    With `args.student_branches` parts of a student are trained along instead (`CE + CE of the branches + 3 KL`,
    arXiv 2102.07650). Checkpoints hold them, the saved model does not.

    Args:
        model: The teacher.
        args: Options.
        train_dataset: Data set of batches with `args.num_views` views; see `hf_icckd.data.ImagePipeline.dataset`.
        eval_dataset: Data set for evaluation while training.
        callbacks: Further callbacks.

    Attributes:
        has_branches: Whether a student's branches are trained along.
        cache: Memory of embeddings; None if the arguments want none.
    """

    def __init__(
        self,
        model: ImageClassifier,
        args: TeacherTrainingArguments,
        train_dataset: Dataset,
        eval_dataset: Dataset | None = None,
        callbacks: list[TrainerCallback] | None = None,
    ):
        self.has_branches = args.student_branches is not None
        trained = with_student_branches(model, args.student_branches, args.seed) if self.has_branches else model
        super().__init__(trained, model, args, train_dataset, eval_dataset, callbacks)
        self.term_weights = {"ce": 1.0}
        if self.has_branches:
            self.term_weights |= trained.term_weights
        self.criterion, self.cache = None, None
        if not args.intra_class_weight:
            return
        self.term_weights["intra_class"] = args.intra_class_weight
        self.criterion = IntraClassContrastiveLoss(
            margin=args.intra_class_margin,
            temperature=args.intra_class_temperature,
            gate=args.intra_class_gate,
            in_batch_negatives=args.in_batch_negatives,
        )
        if args.cache_size_per_class:
            num_classes = len(model.spec.label_names)
            dim = model.embedding_dim if args.intra_class_embedding == "embeddings" else num_classes
            # Never narrower than float32, also in a half-precision model: rows are compared with fresh embeddings.
            dtype = torch.promote_types(next(model.parameters()).dtype, torch.float32)
            self.cache = ClassEmbeddingCache(num_classes, args.cache_size_per_class, dim, dtype).to(args.device)

    def compute_terms(self, model: nn.Module, batch: dict[str, Any]) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """Cross-entropy over all views and, with a weight, the intra-class term, or the terms of the branches."""
        images, labels, sample_ids = batch["pixel_values"], batch["labels"], batch["sample_ids"]
        views, smoothing = images.shape[1], self.args.label_smoothing
        view_labels = labels.repeat_interleave(views)
        output = model(images.flatten(0, 1))
        if self.has_branches:
            output, branch_logits = output
        ce = F.cross_entropy(output.logits, view_labels, label_smoothing=smoothing)
        if self.has_branches:
            return {"ce": ce, **student_branch_terms(output.logits, branch_logits, view_labels, smoothing)}, {}
        if self.criterion is None:
            return {"ce": ce}, {}
        contrasted = output.embeddings if self.args.intra_class_embedding == "embeddings" else output.logits
        embeddings = contrasted.unflatten(0, (-1, views))
        # Candidates of all processes, gathered once: negatives of this step now, of later steps through the cache.
        candidates = [gather_rows(tensor, batch["global_rows"]) for tensor in (embeddings, labels, sample_ids)]
        terms = self.criterion(
            output.logits.unflatten(0, (-1, views)),
            embeddings,
            labels,
            sample_ids,
            None if self.cache is None else self.cache.lookup(labels),
            *candidates,
        )
        if self.cache is not None:
            self.cache.update(*candidates)
        gated_fraction = terms.pop("gated_fraction")
        return {"ce": ce, **terms}, {"gated_fraction": gated_fraction}

    def extra_logs(self) -> dict[str, float]:
        """Fill of the cache, 0 to 1."""
        return {} if self.cache is None else {"cache_fill": self.cache.fill_fraction().item()}

    def extra_state(self) -> dict[str, Tensor]:
        """The cache too."""
        return super().extra_state() | ({} if self.cache is None else self.cache.state_dict(prefix="cache."))

    def load_extra_state(self, state: dict[str, Tensor]) -> None:
        """The cache too."""
        super().load_extra_state(state)
        if self.cache is not None:
            self.cache.load_state_dict(part_of(state, "cache."))
