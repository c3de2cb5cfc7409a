"""CRD against an oracle written from the paper, and its memory."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F

from hf_icckd import CRD
from hf_icckd.losses import contrastive_estimation_loss
from hf_icckd.utils.keyed_random import STREAM_DRAW, random_words
from tests.losses.test_objectives import SHAPES, build, make_batch


def with_classes(batch, classes=(0, 1, 2, 0, 1, 2)):
    return batch._replace(labels=torch.tensor(classes))


def test_the_estimation_loss_equals_the_oracle():
    generator = torch.Generator().manual_seed(0)
    positive = torch.randn(3, generator=generator, dtype=torch.float64).requires_grad_()
    negatives = torch.randn(3, 5, generator=generator, dtype=torch.float64).requires_grad_()
    valid = torch.rand(3, 5, generator=generator) > 0.3
    constant, images, expected = 1.5, 40, 0.0
    for row in range(3):
        count = int(valid[row].sum())

        def chance(score, count=count):
            likelihood = math.exp(score.item()) / math.exp(constant)
            return likelihood / (likelihood + count / images)

        expected -= math.log(chance(positive[row]))
        expected -= sum(math.log(1 - chance(negatives[row, k])) for k in range(5) if valid[row, k])
    arguments = valid, torch.tensor(constant, dtype=torch.float64), images
    found = contrastive_estimation_loss(positive, negatives, *arguments)
    assert found.item() == pytest.approx(expected / 3, abs=1e-12)
    assert torch.autograd.gradcheck(lambda *scores: contrastive_estimation_loss(*scores, *arguments),
                                    (positive, negatives))  # fmt: skip


def test_crd_equals_the_oracle():
    """Two steps: the first fills the memory and fixes the constants, the second is compared."""
    objective = build(CRD(negatives=20, temperature=0.5), num_images=9).double()
    batch = with_classes(make_batch())
    objective(batch)
    memory, classes, constants = (
        each.clone() for each in (objective.memory, objective.classes, objective.log_constants)
    )
    drawn = random_words(objective._seed, 0, torch.arange(20) + (1 << 32), 0, STREAM_DRAW)[:, 0] * 9 >> 32
    later = with_classes(make_batch(seed=1))
    found = objective(later)["crd"].item()
    rows = [
        F.normalize(layer(each), dim=1)
        for layer, each in zip(
            objective.projections, (later.student.embeddings, later.teacher.embeddings), strict=True
        )
    ]
    expected = 0.0
    for place, (own, other) in enumerate(((0, 1), (1, 0))):
        z = math.exp(constants[place])
        for i in range(6):
            kept = [k for k in drawn.tolist() if classes[k] != later.labels[i] and k != i]
            positive = math.exp(rows[0][i] @ rows[1][i] / 0.5) / z
            expected -= math.log(positive / (positive + len(kept) / 9)) / 6
            for k in kept:
                negative = math.exp(rows[own][i] @ memory[other, k] / 0.5) / z
                expected -= math.log(1 - negative / (negative + len(kept) / 9)) / 6
    assert found == pytest.approx(expected, abs=1e-9)


def test_the_constants_are_those_of_the_first_step():
    objective = build(CRD(negatives=50, temperature=0.5), num_images=9).double()
    first = objective.memory.clone()
    batch = with_classes(make_batch())
    student = F.normalize(objective.projections[0](batch.student.embeddings), dim=1)
    drawn = objective._draw()
    scores = [math.exp(student[i] @ first[1, k] / 0.5) for i in range(6) for k in drawn.tolist() if k != i]
    objective(batch)
    constants = objective.log_constants.clone()
    assert math.exp(constants[0]) == pytest.approx(9 * sum(scores) / len(scores))
    objective(with_classes(make_batch(seed=1)))
    assert torch.equal(objective.log_constants, constants)


def test_the_memory_is_a_running_mean_of_length_one():
    objective = build(CRD(negatives=4), num_images=9).double()
    batch = with_classes(make_batch())._replace(sample_ids=torch.tensor([8, 1, 2, 3, 4, 1]))
    before = objective.memory.clone()
    objective(batch)
    assert objective.classes.tolist() == [-1, 2, 2, 0, 1, -1, -1, -1, 0]
    untouched = [0, 5, 6, 7]
    assert torch.equal(objective.memory[:, untouched], before[:, untouched])
    torch.testing.assert_close(objective.memory.norm(dim=2), torch.ones(2, 9, dtype=torch.float64))
    row = F.normalize(objective.projections[0](batch.student.embeddings), dim=1)[5]  # the last of image 1 counts
    torch.testing.assert_close(objective.memory[0, 1], F.normalize(before[0, 1] + row, dim=0))


def test_candidates_are_keyed_by_the_step():
    objective = build(CRD(negatives=4000), num_images=40)
    other = build(CRD(negatives=4000), num_images=40)
    first = objective._draw()
    assert torch.equal(first, other._draw())
    assert first.bincount(minlength=40).min() > 60
    objective.steps += 1
    assert not torch.equal(first, objective._draw())


def test_the_gradient_reaches_both_projections():
    objective = build(CRD(negatives=20))
    objective(with_classes(make_batch(dtype=torch.float32)))["crd"].backward()
    assert all(each.grad.abs().sum() > 0 for each in objective.parameters())


def test_it_must_know_the_number_of_images():
    objective = CRD()
    with pytest.raises(ValueError, match="crd knows no shapes yet; call build"):
        objective(make_batch())
    objective.build(*SHAPES)
    with pytest.raises(ValueError, match="crd has no memory yet; call keep_images"):
        objective(make_batch())
    with pytest.raises(ValueError, match="as of a stream; leave --streaming out, or take --objectives ckd"):
        objective.keep_images(None)
