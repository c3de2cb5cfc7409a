"""DKD, DIST and standardised logits against oracles written from the papers."""

from __future__ import annotations

import math

import pytest
import torch

from hf_icckd import DIST, DKD, KD
from hf_icckd.losses import (
    correlation_loss,
    decoupled_distillation_losses,
    knowledge_distillation_loss,
    parse_objectives,
    standardised,
)
from tests.losses.test_objectives import make_batch


def with_labels(batch, progress=1.0):
    labels = torch.arange(len(batch.labels), device=batch.labels.device) % batch.student.logits.shape[1]
    return batch._replace(labels=labels, progress=torch.tensor(progress, device=labels.device))


def softmax(row):
    largest = max(row)
    powers = [math.exp(value - largest) for value in row]
    return [power / sum(powers) for power in powers]


def kl(p, q):
    return sum(a * math.log(a / b) for a, b in zip(p, q, strict=True) if a > 0)


def pearson(a, b):
    ma, mb = sum(a) / len(a), sum(b) / len(b)
    cov = sum((x - ma) * (y - mb) for x, y in zip(a, b, strict=True))
    return cov / math.sqrt(sum((x - ma) ** 2 for x in a) * sum((y - mb) ** 2 for y in b))


def decoupled_oracle(batch, temperature):
    """Equations 5 to 7 of arXiv 2203.08679, image by image."""
    target = others = 0.0
    for student, teacher, label in zip(batch.student.logits, batch.teacher.logits, batch.labels.tolist(), strict=True):
        p, q = (softmax([value / temperature for value in each.tolist()]) for each in (teacher, student))
        target += kl([p[label], 1 - p[label]], [q[label], 1 - q[label]])
        rest = [[value / (1 - each[label]) for place, value in enumerate(each) if place != label] for each in (p, q)]
        others += kl(*rest)
    return target * temperature**2 / len(batch.labels), others * temperature**2 / len(batch.labels)


@pytest.mark.parametrize("temperature", [1.0, 4.0])
def test_dkd_equals_the_oracle(device, temperature):
    batch = with_labels(make_batch(device=device))
    target, others = decoupled_oracle(batch, temperature)
    (loss,) = DKD(temperature, alpha=0.5, beta=6.0)(batch).values()
    assert loss.item() == pytest.approx(0.5 * target + 6 * others, abs=1e-12)


def test_kd_is_the_weighted_sum_of_the_two_parts():
    """Equation 5: KD = TCKD + (1 - p_y of the teacher) NCKD, for one image."""
    batch = with_labels(make_batch(n=1))
    student, teacher, labels = batch.student.logits, batch.teacher.logits, batch.labels
    target, others = decoupled_distillation_losses(student, teacher, labels, 2.0)
    rest = 1 - (teacher / 2).softmax(1)[0, labels[0]]
    torch.testing.assert_close(knowledge_distillation_loss(student, teacher, 2.0), target + rest * others)


def test_dkd_warms_up_and_ignores_shifts():
    batch = make_batch()
    values = [DKD(warmup=0.5)(with_labels(batch, progress))["dkd"].item() for progress in (0.0, 0.25, 0.5, 1.0)]
    assert values[0] == 0 and values[1] == pytest.approx(values[2] / 2) and values[2] == values[3]
    moved = batch._replace(student=batch.student._replace(logits=batch.student.logits + 5))
    assert DKD()(with_labels(moved))["dkd"].item() == pytest.approx(DKD()(with_labels(batch))["dkd"].item())
    same = batch._replace(student=batch.teacher)
    assert DKD()(with_labels(same))["dkd"].item() == pytest.approx(0, abs=1e-12)


def test_dkd_of_two_classes_is_the_target_part():
    batch = with_labels(make_batch(classes=2))
    target, others = decoupled_distillation_losses(batch.student.logits, batch.teacher.logits, batch.labels, 4.0)
    assert others.item() == 0
    torch.testing.assert_close(target, knowledge_distillation_loss(batch.student.logits, batch.teacher.logits, 4.0))


def test_dist_equals_the_oracle(device):
    batch = make_batch(device=device)
    p, q = ([softmax([v / 4 for v in row]) for row in each.logits.tolist()] for each in (batch.teacher, batch.student))
    inter = sum(1 - pearson(a, b) for a, b in zip(p, q, strict=True)) / len(p)
    columns = list(zip(*p, strict=True)), list(zip(*q, strict=True))
    intra = sum(1 - pearson(a, b) for a, b in zip(*columns, strict=True)) / len(columns[0])
    terms = DIST()(batch)
    assert terms["dist_inter"].item() == pytest.approx(16 * inter, abs=1e-10)
    assert terms["dist_intra"].item() == pytest.approx(16 * intra, abs=1e-10)


def test_correlations_ignore_scale_and_shift_of_a_row():
    rows = torch.randn(5, 7, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    scale = torch.rand(5, 1, generator=torch.Generator().manual_seed(1), dtype=torch.float64) + 0.5
    assert correlation_loss(scale * rows - 3, rows).item() == pytest.approx(0, abs=1e-12)
    assert correlation_loss(-rows, rows).item() == pytest.approx(2, abs=1e-12)


def test_rows_that_do_not_vary_are_left_out():
    rows = torch.randn(2, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    other = rows.flip(1)
    flat = torch.cat([rows, torch.ones(1, 4)]).requires_grad_()
    loss = correlation_loss(flat, torch.cat([other, other[:1]]))
    torch.testing.assert_close(loss, correlation_loss(rows, other))
    loss.backward()
    assert (flat.grad[2] == 0).all() and flat.grad.isfinite().all()


def test_standardised_logits_forget_range_and_mean(device):
    batch = make_batch(device=device)
    moved = batch._replace(student=batch.student._replace(logits=7 * batch.student.logits - 2))
    objective = KD(2.0, standardise=True)
    assert objective(moved)["kd"].item() == pytest.approx(objective(batch)["kd"].item(), abs=1e-12)
    rows = batch.student.logits
    expected = (rows - rows.mean(1, keepdim=True)) / rows.std(1, keepdim=True, correction=0)
    torch.testing.assert_close(standardised(rows), expected)
    expected_loss = knowledge_distillation_loss(expected, standardised(batch.teacher.logits), 2.0)
    torch.testing.assert_close(objective(batch)["kd"], expected_loss)
    labeled = with_labels(batch)
    assert DKD(standardise=True)(with_labels(moved))["dkd"].item() == pytest.approx(
        DKD(standardise=True)(labeled)["dkd"].item(), abs=1e-11
    )


def test_gradients_are_those_of_the_formulas():
    batch = with_labels(make_batch(n=4))
    teacher = batch.teacher.logits
    for objective in (DKD(), DKD(standardise=True), DIST(), KD(2.0, standardise=True)):

        def loss(logits, objective=objective):
            terms = objective(batch._replace(student=batch.student._replace(logits=logits)))
            return sum(terms.values())

        assert torch.autograd.gradcheck(loss, batch.student.logits.clone().requires_grad_())
    assert teacher.grad is None


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("dkd:temperature=0", "DKD temperature is 0.0, expected a number above 0"),
        ("dkd:beta=-1", "DKD beta is -1.0, expected a finite number of at least 0"),
        ("dkd:warmup=2", "DKD warmup is 2.0, expected a share of the training from 0 to 1"),
        ("dist:temperature=-1", "DIST temperature is -1.0"),
    ],
)
def test_wrong_arguments_are_explained(spec, message):
    with pytest.raises(ValueError, match=message):
        parse_objectives([spec])


def test_models_of_other_classes_are_refused():
    with pytest.raises(ValueError, match="models of the same classes"):
        decoupled_distillation_losses(torch.zeros(2, 3), torch.zeros(2, 4), torch.zeros(2, dtype=torch.long), 1.0)
