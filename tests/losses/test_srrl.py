"""SRRL against an oracle, and teachers whose classification layer can't be run alone."""

from __future__ import annotations

import pytest
import torch

from hf_icckd import SRRL, create_classifier
from hf_icckd.losses import check_outputs, parse_objectives
from tests.losses.test_objectives import build, make_batch


def test_it_equals_the_oracle():
    objective, batch = build(SRRL()).double(), make_batch()
    weight, bias = objective.projection.weight.tolist(), objective.projection.bias.tolist()
    read, shift = batch.teacher_layer.weight.tolist(), batch.teacher_layer.bias.tolist()

    def layer(matrix, offsets, x):
        return [sum(w * v for w, v in zip(row, x, strict=True)) + b for row, b in zip(matrix, offsets, strict=True)]

    feature = regression = 0.0
    for own, given in zip(batch.student.embeddings.tolist(), batch.teacher.embeddings.tolist(), strict=True):
        projected = layer(weight, bias, own)
        feature += sum((a - b) ** 2 for a, b in zip(projected, given, strict=True)) / 7
        logits = layer(read, shift, projected), layer(read, shift, given)
        regression += sum((a - b) ** 2 for a, b in zip(*logits, strict=True)) / 5
    terms = objective(batch)
    assert terms["srrl_feature"].item() == pytest.approx(feature / 6, abs=1e-12)
    assert terms["srrl_regression"].item() == pytest.approx(regression / 6, abs=1e-12)


def test_the_gradient_reaches_the_projection_and_not_the_teacher():
    objective, batch = build(SRRL()).double(), make_batch()
    objective(batch)["srrl_regression"].backward()
    assert all(each.grad.abs().sum() > 0 for each in objective.parameters())
    assert all(each.grad is None for each in batch.teacher_layer.parameters())


def test_a_head_of_several_layers_is_refused_before_training():
    objectives = parse_objectives(["srrl"])
    teacher = create_classifier("test_convnext", ["a", "b"], image_size=32)
    check_outputs(objectives, teacher, "teacher")
    layer = teacher.classification_layer
    output = teacher.eval()(torch.zeros(2, 3, 32, 32, dtype=torch.uint8))
    torch.testing.assert_close(layer(output.embeddings), output.logits)
    teacher.head = teacher.head._replace(single_layer=False)
    with pytest.raises(ValueError, match="the objective srrl runs the teacher's classification layer, but test_conv"):
        check_outputs(objectives, teacher, "teacher")
