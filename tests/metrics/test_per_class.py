"""Metrics of single classes against plain loops, identities, ties, NaN, and classes that are missing."""

from __future__ import annotations

import math
from collections import Counter

import numpy as np
import pytest
import torch

from hf_icckd import metrics
from hf_icckd.metrics.kernels import is_correct, predictions
from hf_icckd.metrics.per_class import count_by_class


def make_data(num_samples: int, num_classes: int, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    """Imbalanced labels, the last class absent, and float64 logits that are right about half of the time."""
    generator = torch.Generator().manual_seed(seed)
    labels = (torch.rand(num_samples, generator=generator).square() * (num_classes - 1)).long()
    logits = torch.randn(num_samples, num_classes, generator=generator, dtype=torch.float64)
    logits[torch.arange(num_samples), labels] += 1
    return logits, labels


def one_hot(predicted: list[int], num_classes: int) -> torch.Tensor:
    """Logits that predict these classes."""
    return torch.eye(num_classes, dtype=torch.float64)[predicted]


@pytest.mark.parametrize("size", [(200, 7), (30, 2), (40, 30), (1, 3)])
def test_every_metric_equals_the_naive_loop(size):
    logits, labels = make_data(*size)
    y, predicted = labels.numpy(), logits.numpy().argmax(axis=1)
    recall, precision, f1 = [], [], []
    for c in range(size[1]):
        correct = sum((y == c) & (predicted == c))
        recall.append(correct / sum(y == c) if (y == c).any() else math.nan)
        precision.append(correct / sum(predicted == c) if (predicted == c).any() else math.nan)
        either = sum(y == c) + sum(predicted == c)
        f1.append(2 * correct / either if either else math.nan)
    counts = metrics.class_counts(logits, labels)
    assert [column.dtype for column in counts] == [torch.int64] * 3
    assert counts.images.tolist() == np.bincount(y, minlength=size[1]).tolist()
    assert counts.predicted.tolist() == np.bincount(predicted, minlength=size[1]).tolist()
    for metric, expected in ((metrics.recall, recall), (metrics.precision, precision), (metrics.f1, f1)):
        assert metric(counts).dtype == torch.float64
        np.testing.assert_allclose(metric(counts).numpy(), expected, rtol=1e-12)
    assert metrics.balanced_accuracy(counts).item() == pytest.approx(np.nanmean(recall), rel=1e-12)
    assert metrics.macro_f1(counts).item() == pytest.approx(np.nanmean(f1), rel=1e-12)
    expected = Counter(pair for pair in zip(y.tolist(), predicted.tolist(), strict=True) if pair[0] != pair[1])
    found = metrics.confusions(logits, labels, limit=1000)
    assert found == [(*pair, count) for pair, count in sorted(expected.items(), key=lambda each: (-each[1], each[0]))]
    assert metrics.confusions(logits, labels, limit=3) == found[:3]


def test_values_of_scikit_learn():
    """`recall_score`, `balanced_accuracy_score` and macro `f1_score` of scikit-learn's documentation of the latter."""
    counts = metrics.class_counts(one_hot([0, 2, 1, 0, 0, 1], 3), torch.tensor([0, 1, 2, 0, 1, 2]))
    assert metrics.recall(counts).tolist() == [1, 0, 0]
    assert metrics.f1(counts).tolist() == pytest.approx([0.8, 0, 0])
    assert metrics.macro_f1(counts).item() == pytest.approx(0.26666666666666666)
    assert metrics.balanced_accuracy(counts).item() == pytest.approx(1 / 3)


def test_balanced_data_have_a_balanced_accuracy_of_top1():
    logits, _ = make_data(210, 7)
    labels = torch.arange(210) % 7
    found = metrics.classification_metrics(logits, labels)
    assert found["balanced_accuracy"] == pytest.approx(found["top1"], rel=1e-12)
    counts = metrics.class_counts(logits, labels)
    assert metrics.recall(counts).mean().item() == pytest.approx(found["top1"] / 100, rel=1e-12)


def test_one_large_class_hides_in_top1_and_shows_in_the_means_over_classes():
    labels = torch.tensor([0] * 96 + [1, 1, 2, 2])
    found = metrics.classification_metrics(one_hot([0] * 100, 3), labels)
    assert found["top1"] == pytest.approx(96) and found["balanced_accuracy"] == pytest.approx(100 / 3)
    assert found["macro_f1"] == pytest.approx(100 * (2 * 96 / 196) / 3)


def test_weighted_recall_is_top1_and_every_prediction_is_counted():
    logits, labels = make_data(300, 9)
    counts = metrics.class_counts(logits, labels)
    weighted = (metrics.recall(counts).nan_to_num() * counts.images).sum() / 300
    assert weighted.item() == pytest.approx(metrics.classification_metrics(logits, labels)["top1"] / 100, rel=1e-12)
    assert counts.images.sum() == counts.predicted.sum() == 300
    mistakes = sum(count for *_, count in metrics.confusions(logits, labels, limit=1000))
    assert counts.correct.sum() + mistakes == 300


def test_a_class_without_samples_counts_only_where_it_is_predicted():
    labels = torch.tensor([0, 0, 1, 1])
    never, wrongly = (metrics.class_counts(one_hot(each, 4), labels) for each in ([0, 0, 1, 1], [0, 0, 1, 3]))
    assert metrics.recall(never).isnan().tolist() == metrics.f1(never).isnan().tolist() == [False, False, True, True]
    assert metrics.balanced_accuracy(never) == metrics.macro_f1(never) == 1
    assert metrics.balanced_accuracy(wrongly) == 0.75
    assert metrics.recall(wrongly).isnan().tolist() == [False, False, True, True]
    assert metrics.f1(wrongly).isnan().tolist() == [False, False, True, False]
    assert metrics.macro_f1(wrongly).item() == pytest.approx((1 + 2 / 3 + 0) / 3)


def test_labels_of_a_single_class():
    counts = metrics.class_counts(one_hot([1, 1, 0], 3), torch.tensor([1, 1, 1]))
    assert metrics.balanced_accuracy(counts).item() == pytest.approx(2 / 3)
    assert metrics.macro_f1(counts).item() == pytest.approx((0.8 + 0) / 2)


@pytest.mark.parametrize(
    ("row", "label", "predicted"),
    [
        ([2, 2, 1], 0, 1),
        ([2, 2, 1], 1, 0),
        ([2, 2, 1], 2, 0),  # of a tie without its own class, the first counts
        ([0, 0, 0], 0, 1),
        ([0, 0, 0], 2, 0),
        ([-math.inf, -math.inf, -math.inf], 0, 1),
        ([math.inf, math.inf, 0], 0, 1),
        ([math.inf, 0, 0], 0, 0),
        ([-math.inf, 0, -math.inf], 1, 1),
        ([math.nan, 0, 1], 0, -1),
        ([math.nan, 0, 1], 2, -1),
        ([math.nan, math.nan, math.nan], 1, -1),
    ],
)
def test_ties_and_nan_count_against_the_sample(row, label, predicted):
    logits, labels = torch.tensor([row], dtype=torch.float64), torch.tensor([label])
    assert predictions(logits, labels).tolist() == [predicted]
    assert is_correct(logits, labels).item() == (predicted == label)
    counts = metrics.class_counts(logits, labels)
    assert metrics.recall(counts)[label] == (predicted == label)
    assert counts.predicted.sum() == (predicted >= 0)  # what has no prediction is nobody's false alarm
    expected = [] if predicted in (-1, label) else [(label, predicted, 1)]
    assert metrics.confusions(logits, labels) == expected


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32])
def test_predictions_agree_with_top1_where_many_logits_tie(dtype):
    generator = torch.Generator().manual_seed(0)
    logits = torch.randint(3, (500, 4), generator=generator).to(dtype)
    logits[::50, 1] = torch.nan
    labels = torch.randint(4, (500,), generator=generator)
    found = predictions(logits, labels) == labels
    assert torch.equal(found, is_correct(logits, labels).bool()) and 0 < found.sum() < 250


def test_the_order_of_samples_does_not_matter():
    logits, labels = make_data(300, 9)
    order = torch.randperm(300, generator=torch.Generator().manual_seed(0))
    assert metrics.confusions(logits, labels) == metrics.confusions(logits[order], labels[order])
    for one, other in zip(
        metrics.class_counts(logits, labels), metrics.class_counts(logits[order], labels[order]), strict=True
    ):
        assert torch.equal(one, other)


def test_ten_thousand_classes_need_no_square_table():
    labels = torch.arange(50)
    predicted = labels + 1
    logits = torch.zeros(50, 10_000).scatter(1, predicted[:, None], 1.0)
    assert metrics.confusions(logits, labels, limit=2) == [(0, 1, 1), (1, 2, 1)]
    assert metrics.balanced_accuracy(count_by_class(predicted, labels, 10_000)) == 0


@pytest.mark.parametrize("function", [metrics.class_counts, metrics.confusions])
def test_wrong_input_is_refused(function):
    with pytest.raises(ValueError, match=r"labels span 0\.\.3, expected 0\.\.2"):
        function(torch.zeros(2, 3), torch.tensor([0, 3]))
    with pytest.raises(ValueError, match=r"logits have shape \(0, 3\)"):
        function(torch.zeros(0, 3), torch.zeros(0, dtype=torch.long))
