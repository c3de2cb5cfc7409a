"""FitNet, AT, VID, NST and ReviewKD against oracles written from the papers, and which maps they compare."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from hf_icckd import AT, NST, VID, FitNet, ReviewKD
from hf_icckd.losses import (
    attention_transfer_loss,
    hierarchical_context_loss,
    hint_loss,
    parse_objectives,
    selectivity_transfer_loss,
    variational_information_loss,
)
from hf_icckd.losses.stages import at_one_size, pair_stages
from hf_icckd.models.outputs import OutputShapes
from tests.losses.test_objectives import SHAPES, build, make_batch


def maps(channels, seed, size=3, images=2):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(images, channels, size, size, generator=generator, dtype=torch.float64)


def length(values):
    return math.sqrt(sum(value**2 for value in values))


def test_at_equals_the_oracle():
    student, teacher = maps(3, 0), maps(5, 1)

    def attention(image):
        _, height, width = image.shape
        squares = [
            sum(image[c, i, j].item() ** 2 for c in range(len(image))) for i in range(height) for j in range(width)
        ]
        return [value / length(squares) for value in squares]

    expected = 0.0
    for own, given in zip(student, teacher, strict=True):
        expected += sum((a - b) ** 2 for a, b in zip(attention(own), attention(given), strict=True))
    assert attention_transfer_loss(student, teacher).item() == pytest.approx(expected / (2 * 9), abs=1e-14)


def test_nst_equals_the_oracle():
    student, teacher = maps(3, 0), maps(5, 1)

    def patterns(image):
        return [[value / length(channel) for value in channel] for channel in image.flatten(1).tolist()]

    def kernel(a, b):
        products = [sum(x * y for x, y in zip(one, other, strict=True)) ** 2 for one in a for other in b]
        return sum(products) / len(products)

    expected = 0.0
    for own, given in zip(map(patterns, student), map(patterns, teacher), strict=True):
        expected += kernel(own, own) + kernel(given, given) - 2 * kernel(own, given)
    assert selectivity_transfer_loss(student, teacher).item() == pytest.approx(expected / 2, abs=1e-14)


def test_vid_is_the_likelihood_of_a_gaussian():
    mean, teacher = maps(4, 0), maps(4, 1)
    variance = torch.tensor([0.5, 1.0, 2.0, 5.0], dtype=torch.float64)
    spread = variance.sqrt().view(1, -1, 1, 1).expand_as(mean)
    likelihood = torch.distributions.Normal(mean, spread).log_prob(teacher).mean().item()
    found = variational_information_loss(mean, variance, teacher).item()
    assert found == pytest.approx(-likelihood - math.log(2 * math.pi) / 2, abs=1e-12)


def test_vid_begins_with_the_variance_of_the_literature():
    objective = VID()
    objective.build(*SHAPES)
    variances = [nn.functional.softplus(raw) + 1e-5 for raw in objective.raw_variances]
    assert len(variances) == 3 and all(torch.allclose(each, torch.tensor(5.0)) for each in variances)


@pytest.mark.parametrize("loss", [attention_transfer_loss, selectivity_transfer_loss])
def test_identical_maps_of_any_scale_cost_nothing(loss):
    own = maps(3, 0)
    assert loss(4 * own, own).item() == pytest.approx(0, abs=1e-14)
    if loss is selectivity_transfer_loss:  # channels are a set
        assert loss(own[:, [2, 0, 1]], own).item() == pytest.approx(0, abs=1e-14)


@pytest.mark.parametrize(
    "loss", [attention_transfer_loss, selectivity_transfer_loss, hint_loss, hierarchical_context_loss]
)
def test_gradients_are_those_of_the_formulas(loss):
    student, teacher = maps(3, 0, size=2).requires_grad_(), maps(3, 1, size=2)
    assert torch.autograd.gradcheck(lambda own: loss(own, teacher), student)


def test_gradients_of_vid():
    arguments = maps(3, 0, size=2).requires_grad_(), torch.rand(3, dtype=torch.float64).add(0.5).requires_grad_()
    teacher = maps(3, 1, size=2)
    assert torch.autograd.gradcheck(lambda *made: variational_information_loss(*made, teacher), arguments)


@pytest.mark.parametrize("kind", [FitNet, VID, ReviewKD])
def test_the_gradient_reaches_every_adapter(kind):
    objective = build(kind(stages="1/2/3"))
    batch = make_batch(dtype=torch.float32)._replace(progress=torch.ones(()))
    sum(objective(batch).values()).backward()
    assert list(objective.parameters())
    assert all(each.grad is not None and each.grad.abs().sum() > 0 for each in objective.parameters())


def test_fitnet_predicts_the_teachers_map():
    objective = FitNet()
    objective.build(*SHAPES)
    batch = make_batch(dtype=torch.float32)
    assert objective.pairs == [(2, 2)]
    own, given = at_one_size(batch.student.feature_maps[2], batch.teacher.feature_maps[2])
    assert own.shape == (6, 4, 2, 2) and given.shape == (6, 7, 2, 2)
    torch.testing.assert_close(objective(batch)["fitnet"], hint_loss(objective.regressors[0](own), given))


def shapes(count, channels=8):
    return OutputShapes(10, 64, tuple((channels, 4, 4) for _ in range(count)))


@pytest.mark.parametrize(
    ("own", "given", "stages", "expected"),
    [
        (4, 4, "all", [(1, 1), (2, 2), (3, 3)]),
        (4, 4, "hint", [(2, 2)]),
        (4, 4, "0/3", [(0, 0), (3, 3)]),
        (12, 5, "3/7/11", [(3, 1), (7, 3), (11, 4)]),
        (5, 12, "all", [(1, 3), (2, 5), (3, 8), (4, 11)]),
        (1, 4, "all", [(0, 3)]),
        (4, 1, "all", [(1, 0), (2, 0), (3, 0)]),
    ],
)
def test_maps_are_paired_by_how_far_they_are(own, given, stages, expected):
    assert pair_stages(shapes(own), shapes(given), stages, "at") == expected


@pytest.mark.parametrize("stages", ["4", "1/1", "x", "", "-1", "1-2"])
def test_maps_that_are_not_there_are_refused(stages):
    with pytest.raises(ValueError, match=r"stages is .* in the objective at, expected all, hint, or .* from 0 to 3"):
        pair_stages(shapes(4), shapes(4), stages, "at")


def test_a_net_without_maps_is_refused():
    with pytest.raises(ValueError, match="compares feature maps, but the teacher has none"):
        pair_stages(shapes(4), OutputShapes(10, 64), "all", "at")


@pytest.mark.parametrize("kind", [AT, FitNet, NST, VID])
def test_without_shapes_there_is_nothing_to_compare(kind):
    with pytest.raises(ValueError, match="knows no shapes yet"):
        kind()(make_batch(dtype=torch.float32))


def test_stages_are_an_option():
    objectives = parse_objectives(["at:stages=2/3", "kd"])
    objectives.build(*SHAPES, seed=0)
    assert next(iter(objectives)).pairs == [(2, 2), (3, 3)]


def test_the_hierarchical_loss_equals_the_oracle():
    student, teacher = maps(2, 0, size=8), maps(2, 1, size=8)

    def mean_square(own, given):
        return ((own - given) ** 2).mean().item()

    def pooled(x, side):
        cell = 8 // side
        return torch.stack(
            [
                x[:, :, i * cell : (i + 1) * cell, j * cell : (j + 1) * cell].mean(dim=(2, 3))
                for i in range(side) for j in range(side)
            ]
        )  # fmt: skip

    levels = [(1.0, mean_square(student, teacher))]
    levels += [
        (w, mean_square(pooled(student, side), pooled(teacher, side))) for w, side in ((0.5, 4), (0.25, 2), (0.125, 1))
    ]
    expected = sum(weight * value for weight, value in levels) / 1.875
    assert hierarchical_context_loss(student, teacher).item() == pytest.approx(expected, abs=1e-14)
    assert hierarchical_context_loss(student, student).item() == 0


def test_review_kd_merges_from_the_last_map_on():
    objective = build(ReviewKD(stages="1/3", warmup=0))
    batch = make_batch(dtype=torch.float32)
    own, given = batch.student, batch.teacher
    deep, second, first = objective.fusions[2], objective.fusions[1], objective.fusions[0]
    merged = deep.narrow(own.embeddings[:, :, None, None])
    expected = hierarchical_context_loss(deep.predict(merged), given.embeddings[:, :, None, None])
    for fusion, mine, wanted in ((second, own.feature_maps[3], given.feature_maps[3]),
                                 (first, own.feature_maps[1], given.feature_maps[1])):  # fmt: skip
        here, deeper = fusion.narrow(mine), nn.functional.interpolate(merged, (2, 2))
        shares = fusion.attention(torch.cat([here, deeper], dim=1)).sigmoid()
        merged = nn.functional.interpolate(here * shares[:, :1] + deeper * shares[:, 1:], (4, 4))
        expected = expected + hierarchical_context_loss(fusion.predict(merged), wanted)
    torch.testing.assert_close(objective(batch)["review_kd"], expected)


def test_review_kd_takes_maps_in_any_order():
    batch = make_batch(dtype=torch.float32)
    one, other = (build(ReviewKD(stages=each, warmup=0))(batch)["review_kd"] for each in ("1/3", "3/1"))
    torch.testing.assert_close(one, other)


def test_review_kd_warms_up():
    batch = make_batch(dtype=torch.float32)
    objective = build(ReviewKD(warmup=0.5))
    values = [objective(batch._replace(progress=torch.tensor(each)))["review_kd"].item() for each in (0.0, 0.25, 1.0)]
    assert values[0] == 0 and values[1] == pytest.approx(values[2] / 2)
