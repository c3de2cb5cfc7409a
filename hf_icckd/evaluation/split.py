"""Measure a classifier on a split: one pass over the images, then the pure functions of `metrics`."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from hf_icckd import metrics
from hf_icckd.data.loading import make_loader
from hf_icckd.data.plain import as_batches
from hf_icckd.metrics.checks import where_float64_is
from hf_icckd.models.classifier import ClassifierOutput, ImageClassifier
from hf_icckd.utils import distributed
from hf_icckd.utils.progress_bars import progress_bar


class SplitOutputs(NamedTuple):
    """Outputs for all N images of a split, in its order, the same on every process.

    Attributes:
        logits: (N, C) float32.
        embeddings: (N, D) float32; None for a net without.
        labels: (N,) class indices.
        weight: (C, D) weight of the linear layer from embeddings to logits; None for a net without.
    """

    logits: Tensor
    embeddings: Tensor | None
    labels: Tensor
    weight: Tensor | None = None


def predict_split(
    model: ImageClassifier,
    dataset: Dataset,
    *,
    batch_size: int = 256,
    num_workers: int = 0,
    description: str | None = None,
    **loading: Any,
) -> SplitOutputs:
    """Run a classifier over a split, each process over its share, and gather the outputs of all images.

    It runs in the precision of its weights, without autocast: logits in bf16 often tie, which costs top-1. The outputs
    are on the model's device, or on the CPU if that device lacks the float64 of metrics.

    Args:
        dataset: A split of an `ImagePipeline`, or any map-style data set of images and labels, see
            `hf_icckd.data.plain`.
        batch_size: Images per process and step.
        num_workers: Workers that decode; images in memory need none.
        description: Text in front of the progress bar; None for no bar.
        **loading: Further arguments of `hf_icckd.data.loading.make_loader`.

    Example:
        >>> from hf_icckd import ImagePipeline, create_classifier, load_image_data
        >>> data = load_image_data("digits", max_eval_samples=20)
        >>> model = create_classifier("cifar_resnet8", data.label_names, image_size=8)
        >>> outputs = predict_split(model, ImagePipeline(data).dataset("test"))
        >>> outputs.logits.shape, outputs.embeddings.shape
        (torch.Size([20, 10]), torch.Size([20, 64]))
    """
    logits, embeddings, labels = [], [], []
    for output, own_labels, rows in run_split(model, dataset, batch_size, num_workers, description, **loading):
        logits.append(distributed.gather_rows(output.logits.float(), rows))
        if output.embeddings is not None:
            embeddings.append(distributed.gather_rows(output.embeddings.float(), rows))
        labels.append(distributed.gather_rows(own_labels, rows))

    def whole(parts: list[Tensor]) -> Tensor:
        return where_float64_is(torch.cat(parts))

    layer = model.classification_layer
    weight = whole([distributed.whole(layer.weight.detach()).float()]) if isinstance(layer, nn.Linear) else None
    return SplitOutputs(whole(logits), whole(embeddings) if embeddings else None, whole(labels), weight)


def measure_split(
    model: ImageClassifier,
    dataset: Dataset,
    teacher_logits: Tensor | None = None,
    *,
    batch_size: int = 256,
    num_workers: int = 0,
    description: str | None = None,
    **loading: Any,
) -> dict[str, float]:
    """Measure accuracy, calibration and agreement in one pass that keeps a few numbers for each image.

    Args:
        teacher_logits: (N, C) logits of the teacher for the same images, for agreement with it.

    Returns:
        The metrics of `hf_icckd.metrics.mean_metrics`.
    """
    rows_of_metrics, first = [], 0
    for output, labels, rows in run_split(model, dataset, batch_size, num_workers, description, **loading):
        shares = distributed.even_split(rows, distributed.world_size())
        own = first + sum(shares[: distributed.rank()])
        teacher = None if teacher_logits is None else teacher_logits[own : own + len(labels)]
        own_metrics = metrics.sample_metrics(output.logits.float(), labels, teacher)
        rows_of_metrics.append(distributed.gather_rows(own_metrics, rows))
        first += rows
    return metrics.mean_metrics(torch.cat(rows_of_metrics))


@torch.no_grad()
def run_split(
    model: ImageClassifier,
    dataset: Dataset,
    batch_size: int = 256,
    num_workers: int = 0,
    description: str | None = None,
    **loading: Any,
) -> Iterator[tuple[ClassifierOutput, Tensor, int]]:
    """Yield outputs and labels of this process's share of each batch, and the number of rows over all processes.

    Read it to the end: only then is the model's training mode restored.
    """
    dataset = as_batches(dataset, model.spec.label_names)
    training = model.training
    model.eval()
    device = model.scale.device  # a module of the user's may have no parameters
    distributed.broadcast_buffers(model)
    sampler = dataset.batch_sampler(batch_size)

    def load() -> DataLoader:
        return make_loader(dataset, sampler, num_workers, **loading)

    batches = load() if dataset.kept is None else dataset.kept.read(batch_size, load)
    hidden = description is None
    for batch in progress_bar(description, batches, total=len(sampler), hidden=hidden, unit="batch", delay=2):
        output = model(batch["pixel_values"][:, 0].to(device, non_blocking=True))
        yield output, batch["labels"].to(device, non_blocking=True), batch["global_rows"]
    model.train(training)


def split_metrics(outputs: SplitOutputs, teacher: SplitOutputs | None = None) -> dict[str, float]:
    """Compute all metrics of a split, by the names of `hf_icckd.metrics.catalogue`.

    Geometry and soft-label information need two classes among the labels, geometry also embeddings, what the
    classification layer reads also its weight, and agreement a teacher.

    Args:
        teacher: Outputs of the teacher for the same images.

    Example:
        >>> outputs = SplitOutputs(torch.randn(50, 3), torch.randn(50, 8), torch.arange(50) % 3)
        >>> sorted(split_metrics(outputs))[:4]
        ['balanced_accuracy', 'distance_ratio', 'ece', 'effective_rank']
    """
    logits, embeddings, labels, weight = outputs
    results = metrics.classification_metrics(logits, labels)
    if teacher is not None:
        results |= metrics.agreement_metrics(logits, teacher.logits)
    if labels.unique().numel() > 1:
        results |= metrics.representation_metrics(logits, embeddings, labels, logits.shape[1], weight)
    return results
