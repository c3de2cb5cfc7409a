"""Targets of mixed images, against an oracle in plain Python; which objectives and terms take them."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from timm.data.mixup import mixup_target

from hf_icckd.losses import (
    OBJECTIVES,
    TEACHER_TERMS,
    DistillationObjective,
    WeightedObjectives,
    cross_entropy,
    mixed_targets,
    parse_objectives,
    parse_terms,
    refuse_mixed,
    targets_of,
)
from hf_icckd.losses.sftn import student_branch_terms


def mixed_batch(n: int = 6, classes: int = 5, dtype: torch.dtype = torch.float64) -> tuple[torch.Tensor, dict]:
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(n, classes, generator=generator, dtype=dtype)
    labels, others = torch.randint(classes, (2, n), generator=generator)
    return logits, {"labels": labels, "mixed_labels": others, "mix": torch.rand(n, generator=generator)}


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_it_is_the_weighted_sum_of_two_cross_entropies(smoothing):
    logits, batch = mixed_batch()
    expected = 0.0
    columns = (logits.tolist(), *(batch[name].tolist() for name in ("labels", "mixed_labels", "mix")))
    for row, label, other, share in zip(*columns, strict=True):
        total = math.log(sum(map(math.exp, row)))
        for target, weight in ((label, share), (other, 1 - share)):
            for index, value in enumerate(row):
                wanted = (1 - smoothing) * (index == target) + smoothing / 5
                expected += weight * wanted * (total - value) / 6
    assert cross_entropy(logits, targets_of(batch, logits), smoothing).item() == pytest.approx(expected, rel=1e-12)


def test_they_are_those_of_timm():
    labels, shares = torch.tensor([0, 1, 2, 2]), torch.tensor([0.3, 0.8, 0.8, 0.3])
    theirs = mixup_target(labels, 4, shares[:, None])
    torch.testing.assert_close(mixed_targets(labels, labels.flip(0), shares, 4), theirs, rtol=0, atol=1e-6)


def test_without_mixing_it_is_torch_to_the_bit():
    logits, batch = mixed_batch()
    plain = {"labels": batch["labels"]}
    assert targets_of(plain, logits) is batch["labels"]
    ours = cross_entropy(logits, targets_of(plain, logits), 0.1)
    assert torch.equal(ours, F.cross_entropy(logits, batch["labels"], label_smoothing=0.1))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_summed_in_float32(dtype):
    logits, batch = mixed_batch(dtype=dtype)
    loss = cross_entropy(logits, targets_of(batch, logits))
    assert loss.dtype == torch.float32
    assert loss.item() == pytest.approx(cross_entropy(logits.float(), targets_of(batch, logits.float())).item())


def test_the_gradient_is_that_of_the_formula():
    logits, batch = mixed_batch(n=3)
    targets = targets_of(batch, logits)
    assert torch.autograd.gradcheck(lambda each: cross_entropy(each, targets, 0.1), logits.requires_grad_())


def test_branches_of_a_student_friendly_teacher_take_them():
    logits, batch = mixed_batch()
    branches = (logits * 0.5, logits - 1)
    whole = student_branch_terms(logits, branches, targets_of(batch, logits), 0.1)["branch_ce"]
    each = [cross_entropy(branch, targets_of(batch, logits), 0.1) for branch in branches]
    assert whole.item() == pytest.approx((each[0] + each[1]).item() / 2, rel=1e-12)


def test_who_takes_mixed_images():
    assert [name for name, kind in OBJECTIVES.items() if not kind.takes_mixed] == ["dkd", "wsld", "tfkd", "crd"]
    assert [name for name, kind in TEACHER_TERMS.items() if not kind.takes_mixed] == ["intra_class", "cmi"]
    refuse_mixed(parse_objectives(["kd", "rkd"]))
    refuse_mixed(parse_terms(["sftn:student=cifar_resnet8"]))
    refuse_mixed(parse_terms(["intra_class:weight=0"]))
    with pytest.raises(ValueError, match=r"terms name intra_class, which needs .* or take --terms none"):
        refuse_mixed(parse_terms(["intra_class"]))
    with pytest.raises(ValueError, match=r"terms name intra_class.*, or take --terms sftn"):
        refuse_mixed(parse_terms(["intra_class", "sftn:student=cifar_resnet8"]))


def test_an_objective_of_a_user_is_refused_unless_it_says_otherwise():
    class Own(DistillationObjective):
        pass

    class Fine(Own):
        takes_mixed = True

    with pytest.raises(
        ValueError, match=r"objectives name Own, which .*takes_mixed is false.* or take --objectives kd"
    ):
        refuse_mixed(WeightedObjectives([(Own(), 1.0)]))
    refuse_mixed(WeightedObjectives([(Fine(), 1.0)]))
