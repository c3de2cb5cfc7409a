"""Probes of finer classes: the optimum is one, nothing leaks, chance is chance."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from hf_icckd.metrics.linear_probe import fine_class_probe, linear_probe, probe_within_groups


def clusters(count: int, spread: float, seed: int):
    """Two groups of two classes each, in the plane: the group decides about one axis, the class about the other."""
    generator = torch.Generator().manual_seed(seed)
    fine = torch.arange(count) % 4
    centres = torch.tensor([[0.0, 0.0], [0.0, 1.0], [5.0, 0.0], [5.0, 1.0]])
    return centres[fine] + spread * torch.randn(count, 2, generator=generator), fine // 2, fine


def test_the_probe_is_at_its_optimum():
    """The gradient of what it minimises vanishes; the problem is convex, so there is no other such point."""
    features, _, labels = clusters(200, spread=0.5, seed=0)
    weight, bias = (each.requires_grad_() for each in linear_probe(features, labels, 4))
    loss = F.cross_entropy(features.double() @ weight.T + bias, labels) + 1e-3 / 2 * weight.square().sum()
    for gradient in torch.autograd.grad(loss, (weight, bias)):
        assert gradient.abs().max() < 1e-5


def test_separable_classes_are_told_and_mixed_ones_are_not():
    known, groups, fine = clusters(400, spread=0.05, seed=0)
    new, new_groups, new_fine = clusters(200, spread=0.05, seed=1)
    assert probe_within_groups((known, new), (groups, new_groups), (fine, new_fine)) == 100
    collapsed = torch.stack([groups, groups], dim=1).float(), torch.stack([new_groups, new_groups], dim=1).float()
    assert probe_within_groups(collapsed, (groups, new_groups), (fine, new_fine)) == 50
    noise = torch.randn(400, 2, generator=torch.Generator().manual_seed(2)), torch.randn(200, 2)
    assert 30 < probe_within_groups(noise, (groups, new_groups), (fine, new_fine)) < 70


def test_scale_and_offset_of_features_do_not_matter():
    known, groups, fine = clusters(400, spread=0.4, seed=0)
    new, new_groups, new_fine = clusters(400, spread=0.4, seed=1)
    plain = probe_within_groups((known, new), (groups, new_groups), (fine, new_fine))
    moved = probe_within_groups((100 * known + 7, 100 * new + 7), (groups, new_groups), (fine, new_fine))
    assert 60 < plain < 100 and moved == pytest.approx(plain, abs=0.5)


def test_soft_labels_of_any_temperature_say_the_same():
    known, groups, fine = clusters(400, spread=0.4, seed=0)
    new, new_groups, new_fine = clusters(200, spread=0.4, seed=1)
    probes = [
        fine_class_probe((known / t, new / t), (known, new), (groups, new_groups), (fine, new_fine)) for t in (1, 4)
    ]
    assert probes[0] == pytest.approx(probes[1], abs=0.5)
    assert probes[0]["chance"] == 50


def test_a_group_without_images_to_fit_on():
    ones = torch.ones(3, 2)
    with pytest.raises(ValueError, match="group 1 has no image to fit"):
        probe_within_groups((ones, ones), (torch.zeros(3).long(), torch.ones(3).long()), (torch.arange(3),) * 2)
