"""Recall, precision and F1 of each class, their means, and which classes are taken for which."""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor

from hf_icckd.metrics.checks import checked_samples
from hf_icckd.metrics.kernels import predictions


class ClassCounts(NamedTuple):
    """Samples of each class, all that recall, precision and F1 are made of; each (C,) int64.

    Attributes:
        images: Samples whose label is the class.
        predicted: Samples for which the class is predicted.
        correct: Samples for which it is both.
    """

    images: Tensor
    predicted: Tensor
    correct: Tensor


def class_counts(logits: Tensor, labels: Tensor) -> ClassCounts:
    """Count the samples and the predictions of each class.

    A sample whose largest logits tie with that of its class is predicted as another class of the tie, so that recall
    agrees with `top1`. A sample with NaN has no prediction.

    Args:
        logits: (N, C).
        labels: (N,) class indices.

    Raises:
        ValueError: If shapes don't match, a label is outside 0..C-1, or there is no sample.

    Example:
        >>> import torch
        >>> from hf_icckd.metrics import balanced_accuracy, class_counts, recall
        >>> logits = torch.tensor([[2.0, 1.0], [2.0, 1.0], [2.0, 1.0], [1.0, 2.0]])
        >>> counts = class_counts(logits, torch.tensor([0, 0, 1, 1]))
        >>> recall(counts).tolist(), balanced_accuracy(counts).item()
        ([1.0, 0.5], 0.75)
    """
    logits, labels = checked_samples(logits, labels)
    return count_by_class(predictions(logits, labels), labels, logits.shape[1])


def count_by_class(predicted: Tensor, labels: Tensor, num_classes: int) -> ClassCounts:
    """Count from predictions that are known already; nothing is checked.

    Args:
        predicted: (N,) class indices; -1 where there is no prediction.
        labels: (N,) class indices.
        num_classes: Number of classes, present or not.
    """
    images, found, correct = (
        chosen.bincount(minlength=num_classes)
        for chosen in (labels, predicted[predicted >= 0], labels[predicted == labels])
    )
    return ClassCounts(images, found, correct)


def recall(counts: ClassCounts) -> Tensor:
    """(C,) share of a class's samples that are recognised, float64; NaN for a class without samples."""
    return counts.correct.double() / counts.images


def precision(counts: ClassCounts) -> Tensor:
    """(C,) share of a class's predictions that are right, float64; NaN for a class that is never predicted."""
    return counts.correct.double() / counts.predicted


def f1(counts: ClassCounts) -> Tensor:
    """(C,) harmonic mean of recall and precision, float64; NaN for a class without samples and predictions."""
    return 2 * counts.correct.double() / (counts.images + counts.predicted)


def lowest_recall(counts: ClassCounts) -> Tensor:
    """The lowest recall of a class that has samples."""
    return recall(counts).nan_to_num(nan=1.0).min()


def balanced_accuracy(counts: ClassCounts) -> Tensor:
    """Mean recall of the classes that have samples; top-1 if all have the same number.

    Relations:
        scikit-learn's `balanced_accuracy_score` without adjustment.
    """
    return recall(counts).nanmean()


def macro_f1(counts: ClassCounts) -> Tensor:
    """Mean F1 of the classes that have samples or are predicted; F1 is 0 for a class that has only one of the two.

    Relations:
        scikit-learn's `f1_score(average="macro", zero_division=0)`.
    """
    return f1(counts).nanmean()


def confusions(logits: Tensor, labels: Tensor, limit: int = 20) -> list[tuple[int, int, int]]:
    """Find the most frequent mistakes.

    Args:
        logits: (N, C).
        labels: (N,) class indices.
        limit: How many pairs of classes to return at most.

    Returns:
        Class, predicted class and number of samples, the most frequent first; at the same number by class index.

    Raises:
        ValueError: If shapes don't match, a label is outside 0..C-1, or there is no sample.
    """
    logits, labels = checked_samples(logits, labels)
    predicted = predictions(logits, labels)
    wrong = (predicted != labels) & (predicted >= 0)
    # Only the pairs that occur: a table of all would take 800 MB for 10,000 classes.
    pairs, counts = (labels[wrong] * logits.shape[1] + predicted[wrong]).unique(return_counts=True)
    first = counts.argsort(descending=True, stable=True)[:limit]
    found = zip(pairs[first].tolist(), counts[first].tolist(), strict=True)
    return [(*divmod(pair, logits.shape[1]), count) for pair, count in found]


def worst_mistakes(logits: Tensor, labels: Tensor, true: int, other: int, limit: int) -> list[tuple[int, float]]:
    """Find the samples of one class that are taken for another with the highest probability.

    Args:
        logits: (N, C).
        labels: (N,) class indices.
        true: The class.
        other: The class that is predicted.
        limit: How many samples to return at most.

    Returns:
        Number of the sample and the predicted class's probability, the most probable first; at the same probability by
        number.

    Example:
        >>> import torch
        >>> logits = torch.tensor([[2.0, 0.0], [0.0, 1.0], [0.0, 3.0]])
        >>> [row for row, _ in worst_mistakes(logits, torch.tensor([0, 0, 0]), 0, 1, limit=5)]
        [2, 1]
    """
    logits, labels = checked_samples(logits, labels)
    rows = ((labels == true) & (predictions(logits, labels) == other)).nonzero()[:, 0]
    probabilities = logits[rows].double().softmax(dim=1)[:, other]
    first = probabilities.argsort(descending=True, stable=True)[:limit]
    return list(zip(rows[first].tolist(), probabilities[first].tolist(), strict=True))
