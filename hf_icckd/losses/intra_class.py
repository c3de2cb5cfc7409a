"""Intra-class contrastive loss with a margin gate: the term that keeps a teacher's classes from collapsing.

Reference:
    Yuan, Xu, Geng, Rui: Enriching Knowledge Distillation with Intra-Class Contrastive Learning. arXiv 2509.22053.

What the paper leaves open and we chose: both views serve as anchor in turn, each gated by its own probabilities. The
sum over gated anchors is divided by the number of all anchors, so that the term grows as anchors pass the gate.
Negatives are detached, the positive is not.
"""

from __future__ import annotations

from typing import Any, ClassVar, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hf_icckd.losses.class_cache import CachedNegatives, ClassEmbeddingCache
from hf_icckd.losses.objective import at_least_float32, no_autocast
from hf_icckd.losses.teacher_term import TeacherBatch, TeacherTerm
from hf_icckd.models.classifier import ImageClassifier
from hf_icckd.utils.distributed import gather_rows


def margin_gate(logits: Tensor, labels: Tensor, margin: float) -> Tensor:
    """Which anchors are classified with a margin: `p[y] - max_{c != y} p[c] > margin`.

    Args:
        logits: (N, C).
        labels: (N,) class indices.
        margin: Threshold on the probability scale, -1 to 1.

    Returns:
        (N,) bool, without gradient.

    Reference:
        arXiv 2509.22053, the margin condition on the intra-class term.

    Example:
        >>> import torch
        >>> margin_gate(torch.tensor([[3.0, 0.0], [0.1, 0.0]]), torch.tensor([0, 0]), margin=0.2)
        tensor([ True, False])
    """
    (logits,) = at_least_float32(logits.detach())
    probabilities = logits.softmax(dim=1)
    own = probabilities.gather(1, labels[:, None]).squeeze(1)
    # Other probabilities are at least 0, so replacing the true class's by 0 is neutral, even with a single class.
    other = probabilities.scatter(1, labels[:, None], 0.0).amax(dim=1)
    return own - other > margin


def intra_class_contrastive_loss(
    positive_similarity: Tensor,
    negative_similarity: Tensor,
    negative_mask: Tensor,
    gate: Tensor,
    temperature: float,
) -> Tensor:
    """`sum_i g_i l_i / N` with `l_i = -log(exp(s_i+ / t) / (exp(s_i+ / t) + sum_m exp(s_im / t)))`.

    Args:
        positive_similarity: (N,) cosine similarity of each anchor and its positive.
        negative_similarity: (N, M) cosine similarities of each anchor and its candidates; M may be 0.
        negative_mask: (N, M) True where a candidate is a negative: another image of the anchor's class.
        gate: (N,) True where the term applies.
        temperature: Softmax temperature t > 0.

    Returns:
        Scalar in at least float32. An anchor without a negative contributes 0; the result always has a graph.

    Raises:
        ValueError: If the shapes don't match.

    Reference:
        arXiv 2509.22053, the intra-class contrastive term and its margin.

    Example:
        >>> import torch
        >>> positive, negative = torch.ones(1), torch.zeros(1, 3)
        >>> everywhere = torch.ones(1, 3, dtype=torch.bool)
        >>> intra_class_contrastive_loss(positive, negative, everywhere, everywhere[:, 0], temperature=1.0)
        tensor(0.7437)
    """
    if (
        negative_similarity.shape[:1] != positive_similarity.shape
        or negative_mask.shape != negative_similarity.shape
        or gate.shape != positive_similarity.shape
    ):
        raise ValueError(
            f"got positive_similarity {tuple(positive_similarity.shape)}, negative_similarity "
            f"{tuple(negative_similarity.shape)}, negative_mask {tuple(negative_mask.shape)}, gate "
            f"{tuple(gate.shape)}; expected (N,), (N, M), (N, M), (N,)"
        )
    positive, negative = at_least_float32(positive_similarity, negative_similarity)
    positive = positive / temperature
    negative = (negative / temperature).masked_fill(~negative_mask, -torch.inf)
    # The positive is always finite, so no row is all -inf: log-sum-exp and its gradient are finite.
    losses = torch.cat([positive[:, None], negative], dim=1).logsumexp(dim=1) - positive
    return (losses * gate).sum() / max(len(losses), 1)


_SHORTEST = 1e-6  # embeddings below this length get no gradient


class IntraClassContrastiveLoss(nn.Module):
    """Intra-class contrastive term of a batch of images in two views.

    Every view of every image (the anchor) is compared with the other view (the positive) and with other images of the
    same class (the negatives), from this batch and, if given, from a cache of earlier steps.

    Args:
        margin: Margin of the gate on the probability scale, -1 to 1; see `margin_gate`.
        temperature: Softmax temperature of the similarities.
        gate: Whether only anchors beyond the margin count.
        in_batch_negatives: Whether images of this batch serve as negatives.

    Inputs:
        logits (N, 2, C), embeddings (N, 2, D), labels (N,), sample_ids (N,).

    Relations:
        The teacher minimises cross-entropy plus a weight, usually 0.05, times this term. `ClassEmbeddingCache`
        supplies `cached`; without it and with few images of a class in a batch there is little to contrast.

    Example:
        >>> import torch
        >>> from hf_icckd import ClassEmbeddingCache, IntraClassContrastiveLoss
        >>> labels, sample_ids = torch.tensor([0, 0, 1, 1]), torch.arange(4)
        >>> logits, embeddings = torch.randn(4, 2, 2), torch.randn(4, 2, 8, requires_grad=True)
        >>> cache = ClassEmbeddingCache(num_classes=2, rows_per_class=32, dim=8)
        >>> criterion = IntraClassContrastiveLoss(gate=False)
        >>> terms = criterion(logits, embeddings, labels, sample_ids, cached=cache.lookup(labels))
        >>> (0.05 * terms["intra_class"]).backward()
        >>> cache.update(embeddings, labels, sample_ids)
    """

    def __init__(
        self, margin: float = 0.2, temperature: float = 0.1, gate: bool = True, in_batch_negatives: bool = True
    ):
        super().__init__()
        if not -1 <= margin <= 1:
            raise ValueError(f"margin is {margin}, expected a difference of probabilities between -1 and 1")
        if not temperature > 0:
            raise ValueError(f"temperature is {temperature}, expected a number above 0, for example 0.1")
        self.margin = margin
        self.temperature = temperature
        self.gate = gate
        self.in_batch_negatives = in_batch_negatives

    def forward(
        self,
        logits: Tensor,
        embeddings: Tensor,
        labels: Tensor,
        sample_ids: Tensor,
        cached: CachedNegatives | None = None,
        reference_embeddings: Tensor | None = None,
        reference_labels: Tensor | None = None,
        reference_sample_ids: Tensor | None = None,
    ) -> dict[str, Tensor]:
        """Compute the term.

        Args:
            logits: (N, 2, C) of both views, for the gate.
            embeddings: (N, 2, D) of both views, with gradient; normalised here.
            labels: (N,) class indices.
            sample_ids: (N,) which image; an image is never a negative of itself.
            cached: Rows of earlier steps for each image.
            reference_embeddings: (G, 2, D) candidates of all processes, in place of this batch alone; detached and
                normalised here.
            reference_labels: (G,) their classes.
            reference_sample_ids: (G,) their images.

        Returns:
            `intra_class`, the term, and `gated_fraction`, the fraction of anchors that pass the gate.

        Raises:
            ValueError: If the inputs don't hold two views.
        """
        if embeddings.ndim != 3 or embeddings.shape[1] != 2 or logits.shape[:2] != embeddings.shape[:2]:
            raise ValueError(
                f"got logits {tuple(logits.shape)} and embeddings {tuple(embeddings.shape)}; expected (N, 2, C) and "
                "(N, 2, D): two views of every image"
            )
        (embeddings,) = at_least_float32(embeddings)
        given = [each is not None for each in (reference_embeddings, reference_labels, reference_sample_ids)]
        if any(given) and not all(given):
            raise ValueError(
                "reference_embeddings, reference_labels and reference_sample_ids belong together; pass all or none"
            )
        if reference_embeddings is None or reference_labels is None or reference_sample_ids is None:
            reference_embeddings, reference_labels, reference_sample_ids = embeddings, labels, sample_ids
        with no_autocast(embeddings):
            # An embedding without length has no direction: its gradient would be rounding error times 1e12.
            without_length = embeddings.detach().norm(dim=2, keepdim=True) < _SHORTEST
            anchors = F.normalize(torch.where(without_length, embeddings.detach(), embeddings), dim=2)
            positive = (anchors[:, 0] * anchors[:, 1]).sum(dim=1)  # (N,), the same for both views
            similarities: list[Tensor] = []
            masks: list[Tensor] = []
            if cached is not None:
                rows = cached.embeddings.to(anchors.dtype)
                similarities.append(anchors @ rows.transpose(1, 2))  # (N, 2, K)
                masks.append(cached.filled & (cached.sample_ids != sample_ids[:, None]))  # (N, K)
            if self.in_batch_negatives:
                references = F.normalize(reference_embeddings.detach().to(anchors.dtype), dim=2).flatten(0, 1)
                similarities.append(anchors @ references.T)  # (N, 2, 2G), both views of an image side by side
                other_image = sample_ids[:, None].ne(reference_sample_ids)
                masks.append((labels[:, None].eq(reference_labels) & other_image).repeat_interleave(2, dim=1))
            return self._of_similarities(positive, similarities, masks, self._gate(logits, labels))

    def _gate(self, logits: Tensor, labels: Tensor) -> Tensor:
        """(2N,) which anchors count."""
        if self.gate:
            return margin_gate(logits.flatten(0, 1), labels.repeat_interleave(2), self.margin)
        return torch.ones(2 * len(labels), dtype=torch.bool, device=labels.device)

    def _of_similarities(
        self, positive: Tensor, similarities: list[Tensor], masks: list[Tensor], gate: Tensor
    ) -> dict[str, Tensor]:
        """Positive (N,); similarities (N, 2, M) of several kinds of candidates with their masks (N, M)."""
        count = len(positive)
        negative = torch.cat(similarities, dim=2) if similarities else positive.new_zeros(count, 2, 0)
        mask = torch.cat(masks, dim=1) if masks else gate.new_zeros(count, 0)
        loss = intra_class_contrastive_loss(
            positive.repeat_interleave(2),
            negative.flatten(0, 1),
            mask.repeat_interleave(2, dim=0),
            gate,
            self.temperature,
        )
        return {"intra_class": loss, "gated_fraction": gate.to(positive.dtype).mean()}


class IntraClassTerm(TeacherTerm):
    """`IntraClassContrastiveLoss` with its class cache, as a term of a teacher's loss.

    Formula:
        `-log(e(q, k) / (e(q, k) + sum_n e(q, n)))` with `e(a, b) = exp(cos(a, b) / T)`, for images that are classified
        with a margin

    Args:
        margin: Margin in probability that an image must be classified with for the term to apply to it.
        gate: Whether to apply the margin at all.
        temperature: Softmax temperature of the similarities.
        cache_size: Embeddings of earlier steps that are kept per class as negatives; 0 for no cache.
        embedding: What is contrasted, pooled features or logits.
        in_batch_negatives: Whether other images of the class in the same batch are negatives too.

    Attributes:
        cache: The class cache once the term is attached to a teacher; None without one.

    Raises:
        ValueError: If an argument is out of range, or there would be no negatives.
    """

    default_weight: ClassVar[float] = 0.05
    term_weights: ClassVar[dict[str, float]] = {"intra_class": 1.0}
    num_views: ClassVar[int | None] = 2
    purpose: ClassVar[str] = "The intra-class term keeps images of one class apart, so that soft labels say more."
    citation: ClassVar[str] = """@article{yuan2025enriching,
  title = {Enriching Knowledge Distillation with Intra-Class Contrastive Learning},
  author = {Yuan and Xu and Geng and Rui},
  journal = {arXiv:2509.22053},
  year = {2025}
}"""

    def __init__(
        self,
        margin: float = 0.2,
        gate: bool = True,
        temperature: float = 0.1,
        cache_size: int = 32,
        embedding: Literal["embeddings", "logits"] = "embeddings",
        in_batch_negatives: bool = True,
    ):
        super().__init__()
        if embedding not in ("embeddings", "logits"):
            raise ValueError(f"intra_class embedding is {embedding!r}, expected embeddings or logits")
        if cache_size < 0:
            raise ValueError(f"intra_class cache_size is {cache_size}, expected at least 0")
        if not cache_size and not in_batch_negatives:
            raise ValueError(
                "intra_class has cache_size 0 and in_batch_negatives false, which leaves no negatives; allow one of "
                "them"
            )
        self.loss = IntraClassContrastiveLoss(margin, temperature, gate, in_batch_negatives)
        self.cache_size, self.embedding = cache_size, embedding
        self.cache: ClassEmbeddingCache | None = None

    @staticmethod
    def describe(arguments: dict[str, Any]) -> str:
        """Weight and name of the term."""
        return f"{arguments['weight']:g} x intra-class term"

    def attach(self, teacher: ImageClassifier) -> None:
        """Make the cache. Raises ValueError for a teacher without the embeddings that are compared."""
        if self.embedding == "embeddings" and teacher.embedding_dim is None:
            raise ValueError(
                f"the term intra_class compares embeddings, which {teacher.spec.architecture} does not have; compare "
                "its logits with --terms intra_class:embedding=logits, or take another net or --terms none"
            )
        if self.cache_size:
            num_classes = len(teacher.spec.label_names)
            dim = teacher.embedding_dim if self.embedding == "embeddings" else num_classes
            assert dim is not None  # it was checked
            weight = next(teacher.parameters())
            # At least float32, even for a half-precision model: cached rows are compared with fresh embeddings.
            dtype = torch.promote_types(weight.dtype, torch.float32)
            self.cache = ClassEmbeddingCache(num_classes, self.cache_size, dim, dtype).to(weight.device)

    def forward(self, batch: TeacherBatch) -> dict[str, Tensor]:
        """Return `intra_class` and, to be logged, `gated_fraction`: the share of anchors that pass the gate."""
        contrasted = batch.embeddings if self.embedding == "embeddings" else batch.logits
        assert contrasted is not None  # `attach` checked it
        # Candidates of all processes, gathered once: negatives of this step now, of later steps through the cache.
        candidates = [
            gather_rows(tensor, batch.global_rows) for tensor in (contrasted, batch.labels, batch.sample_ids)
        ]
        cached = None if self.cache is None else self.cache.lookup(batch.labels)
        terms = self.loss(batch.logits, contrasted, batch.labels, batch.sample_ids, cached, *candidates)
        if self.cache is not None:
            self.cache.update(*candidates)
        return terms

    def logs(self) -> dict[str, float]:
        """Fill of the cache, 0 to 1."""
        return {} if self.cache is None else {"cache_fill": self.cache.fill_fraction().item()}
