"""Objectives on logits against oracles written from the papers."""

from __future__ import annotations

import math
from typing import ClassVar

import pytest
import torch

from hf_icckd import (
    BCEKD,
    CKD,
    CTKD,
    DIST,
    DKD,
    KD,
    MLKD,
    WSLD,
    DistillationObjective,
    HardLabel,
    TfKD,
    WeightedObjectives,
    create_classifier,
)
from hf_icckd.losses import (
    check_outputs,
    correlation_loss,
    decoupled_distillation_losses,
    knowledge_distillation_loss,
    parse_objectives,
    soft_label_weights,
    standardised,
)
from hf_icckd.models.embedding_teacher import by_embeddings
from hf_icckd.training.head_fitting import trains_head
from hf_icckd.training.student_with_objective import StudentWithObjective
from tests.losses.test_objectives import make_batch

TEMPERED = ("kd", "dkd", "wsld", "ckd", "bce_kd", "tfkd", "crd")


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
    own = (BCEKD(), TfKD(), CKD(), MLKD(), MLKD(standardise=True), CTKD().double(), HardLabel())
    for objective in (DKD(), DKD(standardise=True), DIST(), KD(2.0, standardise=True), *own):

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
        ("tfkd:correct=2", "TfKD correct is 2.0, expected a share from 0 to 1"),
        ("ctkd:warmup=-1", "CTKD warmup is -1.0, expected a share of the training"),
        ("crd:negatives=0", "CRD negatives is 0, expected at least 1"),
        ("review_kd:warmup=3", "ReviewKD warmup is 3.0, expected a share of the training"),
        *((f"{name}:temperature=0", "temperature is 0.0, expected a number above 0") for name in TEMPERED),
    ],
)
def test_wrong_arguments_are_explained(spec, message):
    with pytest.raises(ValueError, match=message):
        parse_objectives([spec])


def test_models_of_other_classes_are_refused():
    with pytest.raises(ValueError, match="models of the same classes"):
        decoupled_distillation_losses(torch.zeros(2, 3), torch.zeros(2, 4), torch.zeros(2, dtype=torch.long), 1.0)


def test_hard_labels_are_what_the_teacher_says(device):
    batch = make_batch(device=device)
    said = batch.teacher.logits.argmax(1).tolist()
    rows = [softmax(row) for row in batch.student.logits.tolist()]
    expected = -sum(math.log(row[label]) for row, label in zip(rows, said, strict=True)) / len(rows)
    assert HardLabel()(batch)["hard_label"].item() == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("temperature", [1.0, 3.0])
def test_bce_kd_equals_the_oracle(device, temperature):
    batch = make_batch(device=device)
    expected = 0.0
    for student, teacher in zip(batch.student.logits.tolist(), batch.teacher.logits.tolist(), strict=True):
        for s, t in zip(student, teacher, strict=True):
            p, q = (1 / (1 + math.exp(-value / temperature)) for value in (t, s))
            expected += kl([p, 1 - p], [q, 1 - q])
    expected *= temperature**2 / len(batch.labels)
    assert BCEKD(temperature)(batch)["bce_kd"].item() == pytest.approx(expected, abs=1e-12)
    assert BCEKD()(batch._replace(student=batch.teacher))["bce_kd"].item() == 0


def test_tfkd_equals_the_oracle():
    batch = with_labels(make_batch())
    classes, expected = batch.student.logits.shape[1], 0.0
    for row, label in zip(batch.student.logits.tolist(), batch.labels.tolist(), strict=True):
        made_up = [0.9 if place == label else 0.1 / (classes - 1) for place in range(classes)]
        expected += kl(softmax([value / 2 for value in made_up]), softmax(row)) / len(batch.labels)
    objective = TfKD(correct=0.9, temperature=2.0)
    assert objective(batch)["tfkd"].item() == pytest.approx(expected, abs=1e-12)
    other = batch._replace(teacher=batch.student)
    assert objective(other)["tfkd"].item() == objective(batch)["tfkd"].item()


def test_wsld_equals_the_oracle():
    batch = with_labels(make_batch())
    expected = 0.0
    for student, teacher, label in zip(batch.student.logits, batch.teacher.logits, batch.labels.tolist(), strict=True):
        own, given = (-math.log(softmax(each.tolist())[label]) for each in (student, teacher))
        p, q = (softmax([value / 2 for value in each.tolist()]) for each in (teacher, student))
        expected += (1 - math.exp(-own / (given + 1e-7))) * kl(p, q) * 4 / len(batch.labels)
    assert WSLD()(batch)["wsld"].item() == pytest.approx(expected, abs=1e-12)
    assert WSLD()(batch._replace(student=batch.teacher))["wsld"].item() == 0


def test_wsld_leaves_out_images_that_the_student_is_sure_of():
    student, teacher = torch.tensor([[50.0, 0.0]]), torch.tensor([[0.0, 0.0]])
    assert soft_label_weights(student, teacher, torch.tensor([0])).item() < 1e-6
    assert soft_label_weights(teacher, student, torch.tensor([0])).item() == 1


def test_ckd_equals_the_oracle(device):
    batch = make_batch(device=device)
    own, given = (
        [[value / math.sqrt(sum(each**2 for each in row)) for value in row] for row in each.logits.tolist()]
        for each in (batch.student, batch.teacher)
    )
    expected = 0.0
    for place, anchor in enumerate(given):
        chances = softmax([sum(a * b for a, b in zip(anchor, row, strict=True)) / 0.5 for row in own])
        expected -= math.log(chances[place]) / len(given)
    assert CKD(temperature=0.5)(batch)["ckd"].item() == pytest.approx(expected, abs=1e-12)
    moved = batch._replace(student=batch.student._replace(logits=3 * batch.student.logits))
    assert CKD(temperature=0.5)(moved)["ckd"].item() == pytest.approx(expected, abs=1e-12)
    assert CKD()(make_batch(n=1))["ckd"].item() == 0


def test_mlkd_equals_the_oracle(device):
    batch = make_batch(device=device)
    n, c = batch.student.logits.shape
    images = of_batch = of_classes = 0.0
    for temperature in (2, 3, 4, 5, 6):
        p, q = (
            [softmax([value / temperature for value in row]) for row in each.logits.tolist()]
            for each in (batch.teacher, batch.student)
        )
        images += temperature**2 * sum(kl(a, b) for a, b in zip(p, q, strict=True)) / n
        for i in range(n):
            for j in range(n):
                inner = [sum(a * b for a, b in zip(each[i], each[j], strict=True)) for each in (p, q)]
                of_batch += (inner[0] - inner[1]) ** 2 / n
        for a in range(c):
            for b in range(c):
                inner = [sum(row[a] * row[b] for row in each) for each in (p, q)]
                of_classes += (inner[0] - inner[1]) ** 2 / c
    terms = MLKD()(batch)
    assert terms["mlkd_image"].item() == pytest.approx(images, abs=1e-12)
    assert terms["mlkd_batch"].item() == pytest.approx(of_batch, abs=1e-12)
    assert terms["mlkd_class"].item() == pytest.approx(of_classes, abs=1e-12)
    assert all(term.item() == pytest.approx(0) for term in MLKD()(batch._replace(student=batch.teacher)).values())


def test_ctkd_is_kd_at_a_temperature_that_works_against_the_student():
    batch = with_labels(make_batch())
    objective = CTKD(warmup=0.5).double()
    temperature = 1 + 20 / (1 + math.exp(-1))
    expected = knowledge_distillation_loss(batch.student.logits, batch.teacher.logits, temperature)
    (value,) = objective(batch).values()
    torch.testing.assert_close(value, expected)
    value.backward()
    step = 1e-6
    raised = 1 + 20 / (1 + math.exp(-1 - step))
    slope = knowledge_distillation_loss(batch.student.logits, batch.teacher.logits, raised) - expected
    assert objective.raw_temperature.grad.item() == pytest.approx(-slope.item() / step, rel=1e-4)
    objective.raw_temperature.grad = None
    sum(objective(with_labels(batch, progress=0.0)).values()).backward()
    assert objective.raw_temperature.grad.item() == 0  # the curriculum begins with a temperature that stays


@pytest.mark.parametrize("kind", [MLKD, CTKD])
def test_standardised_variants_forget_range_and_mean(kind):
    batch = with_labels(make_batch())
    moved = batch._replace(student=batch.student._replace(logits=7 * batch.student.logits - 2))
    objective = kind(standardise=True).double()
    for found, expected in zip(objective(moved).values(), objective(batch).values(), strict=True):
        torch.testing.assert_close(found, expected)


def test_tfkd_needs_no_teacher_with_classes():
    objectives = parse_objectives(["tfkd"])
    check_outputs(objectives, by_embeddings(create_classifier("cifar_resnet8", ["a", "b"], image_size=8)), "teacher")
    assert trains_head(objectives)


def test_maps_of_the_student_alone_can_be_read():
    class Small(DistillationObjective):
        term_weights: ClassVar = {"small": 1.0}
        teacher_outputs: ClassVar = ("logits",)
        student_outputs: ClassVar = ("logits", "feature_maps")

        def forward(self, batch):
            return {"small": batch.student.feature_maps[-1].square().mean()}

    objectives = WeightedObjectives([(Small(), 1.0)])
    assert objectives.reads_maps("student") and not objectives.reads_maps("teacher")
    net = create_classifier("cifar_resnet8", ["a", "b"], image_size=8)
    images = torch.zeros(2, 3, 8, 8, dtype=torch.uint8)
    batch = make_batch(n=2, dtype=torch.float32)
    found = StudentWithObjective(net, objectives)(images, batch.teacher, *batch[2:6])
    assert found[1]["small"].isfinite()
