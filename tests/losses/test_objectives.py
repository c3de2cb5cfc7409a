"""KD and RKD against oracles, weighted sums, and the strings that name them."""

from __future__ import annotations

import math
from typing import ClassVar

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from hf_icckd import KD, OBJECTIVES, RKD, ClassifierOutput, DistillationBatch, WeightedObjectives
from hf_icckd.losses import knowledge_distillation_loss, parse_objectives, rkd_angle_loss, rkd_distance_loss
from hf_icckd.models.outputs import OutputShapes

SHAPES = (
    OutputShapes(5, 4, tuple((width, 2, 2) for width in (3, 3, 4, 4))),
    OutputShapes(5, 7, tuple((width, 4, 4) for width in (5, 5, 7, 7))),
)


def make_batch(n=6, classes=5, student_dim=4, teacher_dim=7, seed=0, dtype=torch.float64, device="cpu"):
    generator = torch.Generator().manual_seed(seed)

    def randn(*shape):
        return torch.randn(*shape, generator=generator, dtype=torch.float64).to(device, dtype)

    def maps(first, last, size):
        return tuple(randn(n, width, size, size) for width in (first, first, last, last))

    layer = nn.Linear(teacher_dim, classes).requires_grad_(False).to(device, dtype)
    return DistillationBatch(
        student=ClassifierOutput(randn(n, classes), randn(n, student_dim), maps(3, 4, 2)),
        teacher=ClassifierOutput(randn(n, classes), randn(n, teacher_dim), maps(5, 7, 4)),
        labels=torch.zeros(n, dtype=torch.long, device=device),
        sample_ids=torch.arange(n, device=device),
        progress=torch.zeros((), device=device),
        global_rows=n,
        teacher_layer=layer,
    )


def build(objective, num_images=6):
    """With what the trainer gives it."""
    torch.manual_seed(0)
    objective.build(*SHAPES)
    objective.keep_images(num_images)
    objective.tune(lambda: measured(SHAPES[1]))
    return objective


def measured(shapes, images=250):
    """A teacher's output for training images, and their labels."""
    generator = torch.Generator().manual_seed(1)
    sizes = (images, shapes.num_classes), (images, shapes.embedding_dim)
    logits, embeddings = (torch.randn(*size, generator=generator, dtype=torch.float64) for size in sizes)
    return ClassifierOutput(logits, embeddings), torch.arange(images) % shapes.num_classes


def huber(a, b):
    d = abs(a - b)
    return d * d / 2 if d < 1 else d - 0.5


def test_kd_equals_the_oracle(device):
    batch = make_batch(device=device)
    for temperature in (0.5, 1.0, 4.0):
        expected = 0.0
        for student, teacher in zip(batch.student.logits, batch.teacher.logits, strict=True):
            p, q = (teacher / temperature).softmax(0), (student / temperature).softmax(0)
            expected += sum((p[c] * (p[c].log() - q[c].log())).item() for c in range(len(p)))
        expected *= temperature**2 / len(batch.labels)
        (term,) = KD(temperature)(batch).values()
        assert term.item() == pytest.approx(expected, abs=1e-12)


def test_kd_of_equal_logits_is_zero_and_its_gradient_independent_of_temperature():
    logits = torch.randn(4, 3, generator=torch.Generator().manual_seed(0))
    assert knowledge_distillation_loss(logits, logits, 4.0).item() == pytest.approx(0, abs=1e-7)
    # For small logits the gradient is (student - teacher) / (B C) whatever the temperature (arXiv 1503.02531, 2.1).
    student = torch.zeros(1, 2, requires_grad=True)
    teacher = torch.tensor([[0.01, -0.01]])
    for temperature in (1.0, 10.0):
        (gradient,) = torch.autograd.grad(knowledge_distillation_loss(student, teacher, temperature), student)
        torch.testing.assert_close(gradient, -teacher / 2, rtol=1e-3, atol=0)


def test_rkd_equals_the_oracle(device):
    batch = make_batch(device=device)

    def distances(x):
        d = [[math.dist(a.tolist(), b.tolist()) for b in x] for a in x]
        mean = sum(map(sum, d)) / (len(x) * (len(x) - 1))
        return [[value / mean for value in row] for row in d]

    def cosine(x, i, j, k):
        a, b = x[j] - x[i], x[k] - x[i]
        return 0.0 if j == i or k == i else (a @ b / (a.norm() * b.norm())).item()

    n = len(batch.labels)
    student, teacher = batch.student.embeddings, batch.teacher.embeddings
    ds, dt = distances(student), distances(teacher)
    distance = sum(huber(ds[i][j], dt[i][j]) for i in range(n) for j in range(n)) / n**2
    triples = [(i, j, k) for i in range(n) for j in range(n) for k in range(n)]
    angle = sum(huber(cosine(student, *t), cosine(teacher, *t)) for t in triples) / n**3
    terms = RKD()(batch)
    assert terms["rkd_distance"].item() == pytest.approx(distance, abs=1e-10)
    assert terms["rkd_angle"].item() == pytest.approx(angle, abs=1e-10)


def test_rkd_does_not_see_scale_shift_or_rotation():
    batch = make_batch()
    rotation = torch.linalg.qr(torch.randn(7, 7, dtype=torch.float64, generator=torch.Generator().manual_seed(1)))[0]
    moved = 3 * batch.teacher.embeddings @ rotation + 1
    assert rkd_distance_loss(moved, batch.teacher.embeddings).item() == pytest.approx(0, abs=1e-12)
    assert rkd_angle_loss(moved, batch.teacher.embeddings).item() == pytest.approx(0, abs=1e-12)


def test_gradients_are_those_of_the_formulas():
    batch = make_batch(n=4)
    for loss in (rkd_distance_loss, rkd_angle_loss):
        student = batch.student.embeddings.clone().requires_grad_()
        assert torch.autograd.gradcheck(lambda s, loss=loss: loss(s, batch.teacher.embeddings), student)
    logits = batch.student.logits.clone().requires_grad_()
    assert torch.autograd.gradcheck(lambda s: knowledge_distillation_loss(s, batch.teacher.logits, 4.0), logits)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("case", ["duplicates", "all equal", "zero vectors", "one image", "huge"])
def test_hard_inputs_stay_finite(case, dtype, device):
    batch = make_batch(dtype=torch.float32, device=device)
    student, teacher = batch.student.embeddings, batch.teacher.embeddings
    if case == "duplicates":
        student, teacher = student[[0, 0, 1, 1, 2, 3]], teacher[[0, 0, 1, 1, 2, 3]]
    if case == "all equal":
        student, teacher = student[:1].expand_as(student), teacher[:1].expand_as(teacher)
    if case == "zero vectors":
        student, teacher = torch.zeros_like(student), torch.zeros_like(teacher)
    if case == "one image":
        student, teacher = student[:1], teacher[:1]
    if case == "huge":
        student, teacher = student * 1e4, teacher * 1e4
    leaf = student.to(dtype).clone().requires_grad_()
    enabled = dtype != torch.float32
    with torch.autocast(device, dtype=dtype if enabled else torch.bfloat16, enabled=enabled):
        loss = rkd_distance_loss(leaf, teacher.to(dtype)) + rkd_angle_loss(leaf, teacher.to(dtype))
    loss.backward()
    assert loss.dtype == torch.float32
    assert torch.isfinite(loss) and torch.isfinite(leaf.grad).all()
    if case != "huge":
        assert leaf.grad.abs().max() < 1e3


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("case", ["duplicates", "all equal", "zeros", "one image", "one class", "huge"])
@pytest.mark.parametrize("name", OBJECTIVES)
def test_every_objective_stays_finite(name, case, dtype, device):
    batch = make_batch(dtype=torch.float32, device=device)
    rows = {"duplicates": [0, 0, 1, 1, 2, 3], "all equal": [0] * 6, "one image": [0]}.get(case, list(range(6)))
    scale = {"zeros": 0.0, "huge": 100.0}.get(case, 1.0)
    labels = torch.arange(len(rows), device=device) % (1 if case == "one class" else 5)

    def chosen(output):
        maps = tuple((scale * each[rows]).to(dtype) for each in output.feature_maps)
        return ClassifierOutput(*((scale * each[rows]).to(dtype) for each in output[:2]), maps)

    given = chosen(batch.student)
    leaves = [each.clone().requires_grad_() for each in (*given[:2], *given.feature_maps)]
    student = ClassifierOutput(*leaves[:2], tuple(leaves[2:]))
    objective = build(OBJECTIVES[name]()).to(device)
    made = batch._replace(
        student=student, teacher=chosen(batch.teacher), labels=labels, sample_ids=labels, global_rows=len(rows),
        progress=torch.ones((), device=device),
    )  # fmt: skip
    enabled = dtype != torch.float32
    with torch.autocast(device, dtype=dtype if enabled else torch.bfloat16, enabled=enabled):
        terms = objective(made)
    assert all(term.dtype == torch.float32 and term.isfinite() for term in terms.values()), terms
    sum(terms.values()).backward()
    assert all(each.grad is None or each.grad.isfinite().all() for each in leaves)


def half_of(output):
    maps = tuple(each.bfloat16() for each in output.feature_maps)
    return ClassifierOutput(*(each.bfloat16() for each in output[:2]), maps)


@pytest.mark.parametrize("name", OBJECTIVES)
def test_bf16_logits_and_embeddings_change_little(name):
    batch = make_batch(dtype=torch.float32)._replace(progress=torch.ones(()), labels=torch.arange(6) % 5)
    objective, again = (build(OBJECTIVES[name]()) for _ in range(2))
    rounded = batch._replace(
        student=half_of(batch.student),
        teacher=half_of(batch.teacher),
    )
    with torch.autocast("cpu", dtype=torch.bfloat16):
        half = objective(rounded)
    for term, value in again(batch).items():
        assert half[term].item() == pytest.approx(value.item(), rel=0.05), term


def test_close_pairs_keep_their_distance():
    """The usual |a|^2 + |b|^2 - 2ab would have lost it in float32."""
    base = torch.full((2, 64), 100.0)
    base[1, 0] += 1e-2
    embeddings = torch.cat([base, torch.randn(2, 64, generator=torch.Generator().manual_seed(0))])
    exact = rkd_distance_loss(embeddings.double(), torch.eye(4, dtype=torch.float64))
    assert rkd_distance_loss(embeddings, torch.eye(4)).item() == pytest.approx(exact.item(), rel=1e-5)


def test_weighted_sum_names_and_weighs_terms():
    objectives = parse_objectives(["kd:weight=0.5,temperature=2", "rkd:weight=2"], OBJECTIVES)
    assert objectives.term_weights == {"kd": 0.5, "rkd_distance": 50.0, "rkd_angle": 100.0}
    batch = make_batch()
    terms = objectives(batch)
    torch.testing.assert_close(terms["kd"], KD(2.0)(batch)["kd"])
    assert set(terms) == set(objectives.term_weights)
    assert parse_objectives(["kd:weight=1e-3"], OBJECTIVES).term_weights == {"kd": 0.001}


def test_every_objective_has_weights_for_its_terms_and_a_citation():
    for objective in OBJECTIVES.values():
        made = build(objective())
        assert set(made.double()(make_batch())) == set(objective.term_weights)
        assert objective.citation.startswith("@")


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        (
            ["rdk"],
            r"unknown objective 'rdk', expected one of: kd, dkd, dist, .* \(did you mean 'rkd'\?\)",
        ),
        (["kd:temprature=3"], r"cannot read 'temprature=3'.*weight, temperature.*did you mean 'temperature'"),
        (["kd:temperature"], "cannot read 'temperature'"),
        (["kd:temperature=warm"], "temperature is 'warm'.*expected a number"),
        (["kd:temperature=[4]"], r"temperature is '\[4\]'.*expected a number"),
        (["kd:temperature=["], r"temperature is '\['.*expected a number"),
        (["kd:temperature=0"], "KD temperature is 0.0, expected a number above 0"),
        (["kd:temperature=inf"], "KD temperature is inf, expected a number above 0"),
        (["kd:temperature=true"], "temperature is 'true'.*expected a number"),
        (["kd:weight=-1"], "KD has weight -1.*, expected a finite number of at least 0"),
        (["kd:weight=nan"], "KD has weight nan"),
        (["kd", "rkd:weight=inf"], "RKD has weight inf"),
        (["rkd:temperature=4"], "cannot read 'temperature=4'.*arguments: weight"),
        (["kd", "kd"], "two objectives have a term called 'kd'"),
        ([], "no objective given"),
    ],
)
def test_wrong_specs_are_explained(spec, message):
    with pytest.raises(ValueError, match=message):
        parse_objectives(spec, OBJECTIVES)


def test_shapes_must_agree():
    with pytest.raises(ValueError, match="models of the same classes"):
        knowledge_distillation_loss(torch.zeros(2, 3), torch.zeros(2, 4), 1.0)


def test_objectives_can_hold_parameters():
    class Regressor(KD):
        term_weights: ClassVar = {"regressor": 1.0}

        def __init__(self):
            super().__init__()
            self.layer = torch.nn.Linear(4, 7)

        def forward(self, batch):
            return {"regressor": F.mse_loss(self.layer(batch.student.embeddings), batch.teacher.embeddings)}

    objectives = WeightedObjectives([(Regressor(), 1.0), (KD(), 1.0)])
    terms = objectives(make_batch(dtype=torch.float32))
    terms["regressor"].backward()
    assert all(parameter.grad is not None for parameter in objectives.parameters())
