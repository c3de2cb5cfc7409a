"""Pseudo-subclasses against oracles: directions within classes, their probabilities, and what a student learns."""

from __future__ import annotations

import math

import pytest
import torch

from hf_icckd import ClassifierOutput, Subclass
from hf_icckd.losses import (
    class_directions,
    knowledge_distillation_loss,
    parse_objectives,
    subclass_log_probs,
    subclass_loss,
)
from tests.losses.test_objectives import SHAPES, build, make_batch, measured


def test_directions_are_those_of_the_covariance():
    output, labels = measured(SHAPES[1])
    axes, offsets = class_directions(output.embeddings, labels, 5, 3)
    for index in range(5):
        rows = output.embeddings[labels == index]
        centre = rows.mean(0)
        values, vectors = torch.linalg.eigh((rows - centre).T @ (rows - centre) / len(rows))
        for place in range(3):
            expected = vectors[:, -1 - place] / values[-1 - place].sqrt()
            axis = axes[index, place]
            assert (axis @ expected).abs().item() == pytest.approx(axis.square().sum().item())
        places = rows @ axes[index].T - offsets[index]
        torch.testing.assert_close(places.mean(0), torch.zeros(3, dtype=torch.float64), atol=1e-12, rtol=0)
        torch.testing.assert_close(places.square().mean(0), torch.ones(3, dtype=torch.float64))
    largest = axes.gather(2, axes.abs().argmax(2, keepdim=True))
    assert (largest > 0).all()  # so that all processes and machines agree on the sign


def test_it_equals_the_oracle():
    objective, batch = build(Subclass(directions=2, temperature=0.5)).double(), make_batch()
    weight, bias = objective.head.weight.tolist(), objective.head.bias.tolist()
    expected = 0.0
    for own, given, logits in zip(
        batch.student.embeddings.tolist(), batch.teacher.embeddings.tolist(), batch.teacher.logits, strict=True
    ):
        scores = [sum(w * v for w, v in zip(row, own, strict=True)) + b for row, b in zip(weight, bias, strict=True)]
        for index, share in enumerate(logits.softmax(0).tolist()):
            axes = zip(objective.axes[index].tolist(), objective.offsets[index].tolist(), strict=True)
            places = [sum(a * e for a, e in zip(axis, given, strict=True)) - offset for axis, offset in axes]
            powers = [math.exp(sign * place / 0.5) for sign in (1, -1) for place in places]
            theirs = [each / sum(powers) for each in powers]
            chances = [math.exp(each) for each in scores[4 * index : 4 * index + 4]]
            expected += share * sum(t * math.log(t * sum(chances) / c) for t, c in zip(theirs, chances, strict=True))
    assert objective(batch)["subclass"].item() == pytest.approx(expected / 6, abs=1e-12)


def test_with_kd_it_is_the_divergence_of_joint_probabilities():
    batch, generator = make_batch(), torch.Generator().manual_seed(2)
    own, given = (torch.randn(6, 5, 4, generator=generator, dtype=torch.float64) for _ in range(2))
    joint = [
        logits.log_softmax(1).unsqueeze(2) + parts.log_softmax(2)
        for logits, parts in ((batch.teacher.logits, given), (batch.student.logits, own))
    ]
    expected = (joint[0].exp() * (joint[0] - joint[1])).sum() / 6
    within = subclass_loss(own, given.log_softmax(2), batch.teacher.logits)
    assert subclass_loss(given, given.log_softmax(2), batch.teacher.logits).item() == pytest.approx(0, abs=1e-12)
    kd = knowledge_distillation_loss(batch.student.logits, batch.teacher.logits, 1.0)
    torch.testing.assert_close(kd + within, expected)
    assert torch.autograd.gradcheck(
        lambda own: subclass_loss(own, given.log_softmax(2), batch.teacher.logits), own.requires_grad_()
    )


def test_subclasses_do_not_see_scale_shift_or_rotation():
    output, labels = measured(SHAPES[1])
    rotation = torch.linalg.qr(torch.randn(7, 7, dtype=torch.float64, generator=torch.Generator().manual_seed(3)))[0]
    moved = 30 * output.embeddings @ rotation - 4
    found = []
    for embeddings in (output.embeddings, moved):
        axes, offsets = class_directions(embeddings, labels, 5, 3)
        places = torch.einsum("nd,ckd->nck", embeddings, axes) - offsets
        found.append(places.abs())  # the sign of a direction is that of its largest number
        doubled = subclass_log_probs(embeddings, axes, offsets, temperature=2.0)
        torch.testing.assert_close(doubled.exp().sum(2), torch.ones(250, 5, dtype=torch.float64))
    torch.testing.assert_close(*found)


def test_classes_of_few_or_equal_images_have_fewer_directions():
    embeddings = torch.randn(159, 7, generator=torch.Generator().manual_seed(0))
    embeddings[100:140] = embeddings[100]
    embeddings[:60, 3:] = 0.5
    labels = torch.tensor([0] * 60 + [3] * 40 + [2] * 40 + [4] * 19)  # none of class 1
    axes, offsets = class_directions(embeddings, labels, 5, 5)
    assert ((axes != 0).any(2).sum(1)).tolist() == [3, 0, 0, 4, 1]  # of class 0 the others are constant
    assert offsets[1:3].abs().max() == 0
    even = subclass_log_probs(embeddings, axes, offsets, 1.0)[:, 1].exp()
    torch.testing.assert_close(even, torch.full_like(even, 0.1))


def test_it_is_not_a_number_before_directions_are_found_and_says_where_there_are_few():
    objective = Subclass(directions=20)
    objective.build(*SHAPES)
    assert objective.axes.shape == (5, 7, 7)  # no more than embeddings have numbers
    assert objective.double()(make_batch())["subclass"].isnan()
    objective.tune(lambda: measured(SHAPES[1]))  # fifty images of a class
    assert objective.notes() == [
        "subclass: 5 of 5 classes have fewer than 7 directions, because they have few training images or the "
        "teacher's embeddings vary in fewer."
    ]
    assert build(Subclass()).notes() == []
    assert objective(make_batch())["subclass"].isfinite()


def test_the_gradient_reaches_its_layer_and_embeddings_alone():
    objective, batch = build(Subclass()), make_batch(dtype=torch.float32)
    leaf = batch.student.embeddings.clone().requires_grad_()
    objective(batch._replace(student=ClassifierOutput(batch.student.logits, leaf)))["subclass"].backward()
    assert leaf.grad.abs().sum() > 0
    assert all(each.grad.abs().sum() > 0 for each in objective.parameters())


def test_wrong_arguments_are_refused():
    with pytest.raises(ValueError, match="subclass directions is 0, expected at least 1, for example 4"):
        parse_objectives(["subclass:directions=0"])
    with pytest.raises(ValueError, match="subclass temperature is -1"):
        parse_objectives(["subclass:temperature=-1"])
