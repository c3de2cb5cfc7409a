"""Weights of classes and adjusted logits in the cross-entropy, against an oracle in plain Python."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F

from hf_icckd.losses import (
    ClassBalance,
    TeacherBatch,
    cross_entropy,
    inverse_weights,
    prior_offsets,
    scaled_weights,
    targets_of,
)
from hf_icckd.losses.class_balance import weigh_targets
from hf_icckd.losses.sftn import student_branch_terms
from tests.losses.test_soft_targets import mixed_batch

IMAGES = [400, 30, 7, 20, 43]
WEIGHTS = torch.tensor(inverse_weights(IMAGES), dtype=torch.float64)
OFFSETS = torch.tensor(prior_offsets(IMAGES, 1.3), dtype=torch.float64)


def oracle(logits, targets, smoothing, weights, offsets) -> float:
    """Each image is several labelled ones with shares; each is weighted by its class, and its target smoothed."""
    total = 0.0
    for row, classes in zip(logits.tolist(), targets, strict=True):
        adjusted = [value + offset for value, offset in zip(row, offsets, strict=True)]
        log_sum = math.log(sum(map(math.exp, adjusted)))
        for label, share in classes:
            wanted = [(1 - smoothing) * (index == label) + smoothing / len(row) for index in range(len(row))]
            loss = sum(each * (log_sum - value) for each, value in zip(wanted, adjusted, strict=True))
            total += share * weights[label] * loss
    return total / len(logits)


@pytest.mark.parametrize("mixed", [False, True])
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("adjusted", [False, True])
def test_it_equals_the_oracle(mixed, smoothing, weighted, adjusted):
    logits, batch = mixed_batch()
    if not mixed:
        batch = {"labels": batch["labels"]}
    columns = [batch[name].tolist() for name in ("labels", "mixed_labels", "mix") if name in batch]
    targets = [
        [(row[0], row[2]), (row[1], 1 - row[2])] if mixed else [(row[0], 1.0)] for row in zip(*columns, strict=True)
    ]
    balance = ClassBalance(WEIGHTS if weighted else None, OFFSETS if adjusted else None)
    weights, offsets = (WEIGHTS.tolist() if weighted else [1] * 5), (OFFSETS.tolist() if adjusted else [0] * 5)
    expected = oracle(logits, targets, smoothing, weights, offsets)
    found = cross_entropy(logits, targets_of(batch, logits), smoothing, balance)
    assert found.item() == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("mixed", [False, True])
def test_without_smoothing_it_is_the_sum_of_torch_over_the_number_of_images(mixed):
    logits, batch = mixed_batch()
    targets = targets_of(batch, logits) if mixed else batch["labels"]
    theirs = F.cross_entropy(logits, targets, weight=WEIGHTS, reduction="sum") / len(logits)
    assert cross_entropy(logits, targets, balance=ClassBalance(WEIGHTS)).item() == pytest.approx(theirs.item())


def test_parts_of_a_batch_add_up_to_it():
    """As they don't where torch divides by the sum of the weights."""
    logits, batch = mixed_batch()
    labels, balance = batch["labels"], ClassBalance(WEIGHTS)
    parts = [cross_entropy(logits[rows], labels[rows], 0.1, balance) * len(rows) for rows in ([0, 1, 2, 3], [4, 5])]
    assert sum(parts).item() / 6 == pytest.approx(cross_entropy(logits, labels, 0.1, balance).item(), rel=1e-12)


def test_balanced_weights_make_it_the_mean_over_classes():
    labels = torch.tensor([0] * 6 + [1] * 3 + [2])
    logits = torch.randn(10, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    weights = torch.tensor(inverse_weights([6, 3, 1]), dtype=torch.float64)
    each = F.cross_entropy(logits, labels, reduction="none")
    expected = (each[:6].mean() + each[6:9].mean() + each[9]) / 3
    assert cross_entropy(logits, labels, balance=ClassBalance(weights)).item() == pytest.approx(expected.item())


@pytest.mark.parametrize("power", [0.5, 1.0])
def test_weights_have_the_mean_one_over_images(power):
    weights = inverse_weights([*IMAGES, 0], power)
    assert sum(weight * count for weight, count in zip(weights, IMAGES, strict=False)) / 500 == pytest.approx(1)
    assert weights[0] / weights[1] == pytest.approx((30 / 400) ** power) and weights[5] == 1
    assert inverse_weights([8, 8], power) == [1, 1]
    assert scaled_weights([2, 6], [1, 1]) == [0.5, 1.5]


def test_balanced_weights_are_those_of_scikit_learn():
    assert inverse_weights(IMAGES) == pytest.approx([500 / (5 * count) for count in IMAGES])


def test_adjusted_logits_are_best_where_they_ignore_how_frequent_classes_are():
    """Three pictures, two classes of 90 and 10 images: the loss is least at the log of p(picture | class)."""
    counts = torch.tensor([[60.0, 1.0], [24.0, 3.0], [6.0, 6.0]], dtype=torch.float64)
    logits = (counts / counts.sum(dim=0)).log().requires_grad_()
    offsets = torch.tensor(prior_offsets([90, 10], 1.0), dtype=torch.float64)
    pictures, labels = (each.repeat_interleave(counts.long().flatten()) for each in _grid())
    cross_entropy(logits[pictures], labels, balance=ClassBalance(offsets=offsets)).backward()
    assert logits.grad.abs().max() < 1e-12
    logits.grad = None
    cross_entropy(logits[pictures], labels).backward()
    assert logits.grad.abs().max() > 1e-2


def _grid():
    pictures, labels = torch.meshgrid(torch.arange(3), torch.arange(2), indexing="ij")
    return pictures.flatten(), labels.flatten()


@pytest.mark.parametrize("mixed", [False, True])
def test_the_gradient_is_that_of_the_formula(mixed):
    logits, batch = mixed_batch(n=3)
    targets = targets_of(batch, logits) if mixed else batch["labels"]
    balance = ClassBalance(WEIGHTS, OFFSETS)
    assert torch.autograd.gradcheck(lambda each: cross_entropy(each, targets, 0.1, balance), logits.requires_grad_())


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_summed_in_float32(dtype):
    logits, batch = mixed_batch(dtype=dtype)
    balance = ClassBalance(WEIGHTS.float(), OFFSETS.float())
    loss = cross_entropy(logits, batch["labels"], 0.1, balance)
    assert loss.dtype == torch.float32
    assert loss.item() == cross_entropy(logits.float(), batch["labels"], 0.1, balance).item()


def test_equal_weights_change_no_target():
    targets, weights = weigh_targets(torch.tensor([[0.25, 0.75, 0.0]]), torch.ones(3))
    assert targets.tolist() == [[0.25, 0.75, 0.0]] and weights.tolist() == [1.0]


def test_branches_of_a_student_friendly_teacher_are_balanced_too():
    logits, batch = mixed_batch()
    balance = ClassBalance(WEIGHTS, OFFSETS)
    found = student_branch_terms(logits, (logits * 0.5,), batch["labels"], 0.1, balance)
    plain = student_branch_terms(logits, (logits * 0.5,), batch["labels"], 0.1)
    assert found["branch_ce"].item() == cross_entropy(logits * 0.5, batch["labels"], 0.1, balance).item()
    assert found["branch_ce"] != plain["branch_ce"] and found["branch_kl"] == plain["branch_kl"]


def test_a_batch_of_a_term_is_not_balanced_unless_said():
    assert TeacherBatch(torch.zeros(1, 1, 2), None, torch.zeros(1), torch.zeros(1), 1).balance == (None, None)
