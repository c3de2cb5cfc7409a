"""Regression of embeddings against an oracle, and its projection."""

from __future__ import annotations

import math

import pytest
import torch

from hf_icckd.losses import EmbeddingRegression, embedding_loss, parse_objectives
from hf_icckd.models.outputs import OutputShapes
from tests.losses.test_objectives import huber, make_batch


def built(seed: int = 0) -> EmbeddingRegression:
    objectives = parse_objectives(["embedding"])
    objectives.build(OutputShapes(5, 4), OutputShapes(0, 7), seed)
    return next(iter(objectives)).double()


def test_it_equals_the_oracle(device):
    objective, batch = built().to(device), make_batch(device=device)
    weight, bias = objective.projection.weight.tolist(), objective.projection.bias.tolist()
    total = 0.0
    for own, other in zip(batch.student.embeddings.tolist(), batch.teacher.embeddings.tolist(), strict=True):
        mean = sum(other) / 7
        std = math.sqrt(sum((value - mean) ** 2 for value in other) / 7)
        for row, shift, value in zip(weight, bias, other, strict=True):
            projected = sum(w * x for w, x in zip(row, own, strict=True)) + shift
            total += huber(projected, (value - mean) / std)
    assert objective(batch)["embedding"].item() == pytest.approx(total / (6 * 7), abs=1e-12)


def test_the_teachers_scale_and_shift_do_not_matter():
    batch = make_batch()
    moved = 3e-4 * batch.teacher.embeddings - 2
    first = embedding_loss(torch.zeros_like(moved), batch.teacher.embeddings)
    assert embedding_loss(torch.zeros_like(moved), moved).item() == pytest.approx(first.item(), rel=1e-9)
    assert first.item() > 0.1


def test_the_gradient_is_that_of_the_formula():
    teacher = make_batch(n=3).teacher.embeddings
    projected = make_batch(n=3, student_dim=7, seed=1).student.embeddings.requires_grad_()
    assert torch.autograd.gradcheck(lambda own: embedding_loss(own, teacher), projected)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("case", ["constant", "zeros", "huge", "one image"])
def test_hard_inputs_stay_finite(case, dtype):
    batch = make_batch(dtype=torch.float32)
    student, teacher = batch.student.embeddings, batch.teacher.embeddings
    if case == "constant":
        teacher = torch.full_like(teacher, 3)
    if case == "zeros":
        student, teacher = torch.zeros_like(student), torch.zeros_like(teacher)
    if case == "huge":
        student, teacher = 1e4 * student, 1e4 * teacher
    if case == "one image":
        student, teacher = student[:1], teacher[:1]
    leaf, projection = student.to(dtype).clone().requires_grad_(), built().float().projection
    with torch.autocast("cpu", dtype=torch.bfloat16, enabled=dtype != torch.float32):
        loss = embedding_loss(projection(leaf), teacher.to(dtype))
    loss.backward()
    assert loss.dtype == torch.float32 and torch.isfinite(loss) and torch.isfinite(leaf.grad).all()


def test_parameters_follow_from_the_seed_and_draw_no_other_number():
    torch.manual_seed(3)
    expected = torch.rand(2)
    torch.manual_seed(3)
    first, again, other = (built(seed).projection.weight for seed in (0, 0, 1))
    assert torch.equal(torch.rand(2), expected)
    assert torch.equal(first, again) and not torch.equal(first, other)


def test_what_is_wrong_is_said():
    with pytest.raises(ValueError, match="the objective embedding knows no shapes yet; call build"):
        EmbeddingRegression()(make_batch())
    with pytest.raises(ValueError, match="compares embeddings, but the student has none; take --objectives kd"):
        EmbeddingRegression().build(OutputShapes(5, None), OutputShapes(0, 7))
    with pytest.raises(ValueError, match=r"projected embeddings \(6, 4\) and teacher embeddings \(6, 7\) must have"):
        embedding_loss(make_batch().student.embeddings, make_batch().teacher.embeddings)
