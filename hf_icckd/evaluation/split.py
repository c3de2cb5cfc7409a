"""Measure a classifier on a split: every figure comes from one pass and the pure functions of `metrics`."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor
from torch.utils.data import Dataset
from tqdm.auto import tqdm

from hf_icckd import metrics
from hf_icckd.data.sampling import batch_sampler, make_loader
from hf_icckd.models.classifier import ClassifierOutput, ImageClassifier
from hf_icckd.utils import distributed


class SplitOutputs(NamedTuple):
    """Outputs for all N images of a split, in its order, the same on every process.

    Attributes:
        logits: (N, C) float32.
        embeddings: (N, D) float32.
        labels: (N,) class indices.
    """

    logits: Tensor
    embeddings: Tensor
    labels: Tensor


def predict_split(
    model: ImageClassifier,
    dataset: Dataset,
    *,
    batch_size: int = 256,
    num_workers: int = 0,
    description: str | None = None,
) -> SplitOutputs:
    """Run a classifier over a split, each process over its share, and keep what it says.

    In the precision of its weights, whatever it was trained in: logits in bf16 often tie, which costs top-1.

    Args:
        model: Classifier; its training mode is restored.
        dataset: Data set whose `__getitems__` takes a `BatchKey`.
        batch_size: Images per process and step.
        num_workers: Workers that decode.
        description: Text in front of the progress bar; None for no bar.

    Returns:
        Outputs of all images on the model's device.
    """
    logits, embeddings, labels = [], [], []
    for output, own_labels, rows in run_split(model, dataset, batch_size, num_workers, description):
        logits.append(distributed.gather_rows(output.logits.float(), rows))
        embeddings.append(distributed.gather_rows(output.embeddings.float(), rows))
        labels.append(distributed.gather_rows(own_labels, rows))
    return SplitOutputs(torch.cat(logits), torch.cat(embeddings), torch.cat(labels))


def measure_split(
    model: ImageClassifier,
    dataset: Dataset,
    teacher_logits: Tensor | None = None,
    *,
    batch_size: int = 256,
    num_workers: int = 0,
    description: str | None = None,
) -> dict[str, float]:
    """Accuracy, calibration and agreement of a split, in one pass that keeps a few numbers for each image.

    Args:
        model: As in `predict_split`.
        dataset: As in `predict_split`.
        teacher_logits: (N, C) of its teacher for the same images, for agreement.
        batch_size: As in `predict_split`.
        num_workers: As in `predict_split`.
        description: As in `predict_split`.

    Returns:
        Names and values as in `hf_icckd.metrics.mean_figures`.
    """
    figures, first = [], 0
    for output, labels, rows in run_split(model, dataset, batch_size, num_workers, description):
        shares = distributed.even_split(rows, distributed.world_size())
        own = first + sum(shares[: distributed.rank()])
        teacher = None if teacher_logits is None else teacher_logits[own : own + len(labels)]
        figures.append(distributed.gather_rows(metrics.sample_figures(output.logits.float(), labels, teacher), rows))
        first += rows
    return metrics.mean_figures(torch.cat(figures))


@torch.no_grad()
def run_split(
    model: ImageClassifier,
    dataset: Dataset,
    batch_size: int = 256,
    num_workers: int = 0,
    description: str | None = None,
) -> Iterator[tuple[ClassifierOutput, Tensor, int]]:
    """Output and labels of this process's share of each batch, and the rows of all shares.

    Arguments are those of `predict_split`; take all batches, or the model is left in evaluation mode.
    """
    training = model.training
    model.eval()
    device = next(model.parameters()).device
    distributed.broadcast_buffers(model)
    loader = make_loader(dataset, batch_sampler(dataset, batch_size), num_workers)
    hidden = description is None or distributed.rank() > 0
    for batch in tqdm(loader, desc=description, leave=False, disable=hidden, unit="batch", delay=2):
        output = model(batch["pixel_values"][:, 0].to(device, non_blocking=True))
        yield output, batch["labels"].to(device, non_blocking=True), batch["global_rows"]
    model.train(training)


def split_metrics(outputs: SplitOutputs, teacher: SplitOutputs | None = None) -> dict[str, float]:
    """Figures of a split.

    Args:
        outputs: Outputs of the model.
        teacher: Outputs of its teacher for the same images, for agreement.

    Returns:
        Names and values as in `hf_icckd.metrics`: accuracy and calibration, agreement if there is a teacher, geometry
        and soft-label figures if there are two classes.
    """
    logits, embeddings, labels = outputs
    figures = metrics.classification_metrics(logits, labels)
    if teacher is not None:
        figures |= metrics.agreement_metrics(logits, teacher.logits)
    if labels.unique().numel() > 1:
        figures |= metrics.representation_metrics(logits, embeddings, labels, logits.shape[1])
    return figures
