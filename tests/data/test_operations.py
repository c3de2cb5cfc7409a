"""Pixel operations against torchvision's, and that each image gets its own and nothing of its neighbours'."""

from __future__ import annotations

import math

import pytest
import torch
from torchvision.transforms.v2 import InterpolationMode
from torchvision.transforms.v2 import functional as reference

from hf_icckd.data import Augmentation, operations
from hf_icckd.data.augment import _TRIVIAL, augment, erasing_boxes, trivial_augment

IMAGES = torch.randint(0, 256, (12, 3, 15, 18), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
IMAGES[1] = 7  # without contrast
IMAGES[2, 0] //= 4
IMAGES[3] = IMAGES[3] % 16 + 100
FACTORS = torch.linspace(0, 2, 12)


def same(ours, theirs, tolerance: int = 0) -> None:
    assert ours.dtype == torch.uint8 and ours.shape == theirs.shape
    assert (ours.int() - theirs.int()).abs().max() <= tolerance


@pytest.mark.parametrize(
    ("name", "theirs"),
    [
        ("brightness", "adjust_brightness"),
        ("contrast", "adjust_contrast"),
        ("saturation", "adjust_saturation"),
        ("sharpness", "adjust_sharpness"),
    ],
)
def test_blends(device, name, theirs):
    ours = getattr(operations, name)(IMAGES.to(device), FACTORS.to(device)).cpu()
    pairs = zip(IMAGES, FACTORS.tolist(), strict=True)
    expected = torch.stack([getattr(reference, theirs)(image, factor) for image, factor in pairs])
    same(ours, expected, tolerance=1)
    one = FACTORS.new_ones(12)
    same(getattr(operations, name)(IMAGES.to(device), one.to(device)).cpu(), IMAGES)
    assert torch.equal(ours, getattr(operations, name)(IMAGES, FACTORS))  # the same bits on any device


def test_values(device):
    images = IMAGES.to(device)
    bits = torch.arange(12) % 8 + 1
    expected = [reference.posterize(image, bit) for image, bit in zip(IMAGES, bits.tolist(), strict=True)]
    same(operations.posterize(images, bits.to(device)).cpu(), torch.stack(expected))
    thresholds = torch.linspace(0, 255, 12)
    expected = [reference.solarize(image, value) for image, value in zip(IMAGES, thresholds.tolist(), strict=True)]
    same(operations.solarize(images, thresholds.to(device)).cpu(), torch.stack(expected))
    same(operations.autocontrast(images).cpu(), reference.autocontrast(IMAGES), tolerance=1)
    same(operations.equalize(images).cpu(), reference.equalize(IMAGES))


def test_large_images_are_equalized_too():
    image = (torch.randn(2, 3, 64, 70, generator=torch.Generator().manual_seed(1)) * 30 + 90).clamp(0, 255).byte()
    same(operations.equalize(image), reference.equalize(image))


@pytest.mark.parametrize("angle", [0.0, 30.0, -77.0, 90.0, 180.0])
def test_rotation(device, angle):
    angles = torch.full((12,), math.radians(angle))
    zero = torch.zeros(12)
    cells = (angles.cos(), -angles.sin(), zero, angles.sin(), angles.cos(), zero)
    images = IMAGES[..., :15]
    ours = operations.affine(images.to(device), torch.stack(cells, 1).view(-1, 2, 3).to(device)).cpu()
    expected = reference.rotate(images, angle, InterpolationMode.NEAREST)
    # Where a place lies half-way between two pixels, either may be taken.
    assert (ours != expected).any(1).float().mean() < 0.02


def test_translation_and_shear():
    def matrix(*cells):
        return torch.tensor(cells).view(1, 2, 3).expand(12, -1, -1)

    moved = operations.affine(IMAGES, matrix(1.0, 0.0, 3.0, 0.0, 1.0, -2.0))
    assert torch.equal(moved[:, :, 2:, :-3], IMAGES[:, :, :-2, 3:])
    assert not moved[:, :, :2].any() and not moved[:, :, :, -3:].any()
    sheared = operations.affine(IMAGES, matrix(1.0, 1.0, 0.0, 0.0, 1.0, 0.0))
    assert torch.equal(sheared[:, :, 7], IMAGES[:, :, 7])  # the middle row stays
    assert torch.equal(sheared[:, :, 8, :-1], IMAGES[:, :, 8, 1:])


def test_erasing():
    boxes = torch.tensor([[2, 3, 5, 9]] + [[0, 0, 0, 0]] * 11)
    painted = operations.erase(IMAGES, boxes, torch.full((12, 3), 9, dtype=torch.uint8))
    assert (painted[0, :, 3:9, 2:5] == 9).all()
    assert torch.equal(painted[1:], IMAGES[1:])
    changed = (painted[0] != IMAGES[0]).any(0)
    changed[3:9, 2:5] = False
    assert not changed.any()


def test_boxes_to_erase():
    numbers = torch.rand(4000, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    word = torch.randint(0, 2**32, (4000,), generator=torch.Generator().manual_seed(1))
    boxes = erasing_boxes(numbers, word, 0.25, 32, 24)
    width, height = boxes[:, 2] - boxes[:, 0], boxes[:, 3] - boxes[:, 1]
    there = width * height > 0
    assert 0.22 < there.double().mean() < 0.28
    assert (boxes >= 0).all() and (boxes[:, 2] <= 24).all() and (boxes[:, 3] <= 32).all()
    share = (width * height)[there] / (24 * 32)
    assert 0.01 < share.min() < 0.03 and 0.3 < share.max() < 0.36
    assert (erasing_boxes(numbers, word, 0.0, 32, 24)[:, 2:] == erasing_boxes(numbers, word, 0.0, 32, 24)[:, :2]).all()


def test_trivial_augment_takes_every_operation_at_every_strength():
    count = 14 * 31
    images = IMAGES[:1].expand(count, -1, -1, -1)
    choice = torch.arange(14).repeat_interleave(31) / 14 + 0.01
    strength = torch.arange(31).repeat(14) / 31 + 0.001
    sign = torch.full((count,), 0.7)
    results = trivial_augment(images, choice, strength, sign).view(14, 31, *IMAGES.shape[1:])
    for name, rows in zip(_TRIVIAL, results, strict=True):
        different = (rows != IMAGES[0]).flatten(1).any(1)
        if name == "identity":
            assert not different.any()
        elif name in ("autocontrast", "equalize"):
            assert torch.equal(rows, rows[:1].expand_as(rows))
        else:
            assert not different[0] or name == "solarize", name
            assert different[-1], name
    assert torch.equal(results[0, 3], trivial_augment(images[:1], choice[3:4], strength[3:4], sign[3:4])[0])
    other = trivial_augment(images, choice, strength, 1 - sign).view_as(results)
    assert not torch.equal(other[0, -1], results[0, -1])  # a sign of a shear
    assert torch.equal(other[-4:], results[-4:])


@pytest.mark.parametrize(
    "options", [{"color_jitter": 0.4}, {"trivial_augment": True}, {"random_erasing": 0.5}], ids=lambda o: next(iter(o))
)
def test_an_image_gets_the_same_in_any_batch_on_any_device(device, options):
    augmentation = Augmentation(2, None, True, seed=3, **options)
    ids = torch.tensor([5, 70, 3, 9, 12, 8, 4, 44, 10, 11, 100, 2**40])
    whole = augment(IMAGES.to(device), augmentation, 4, ids, 1).cpu()
    order = torch.tensor([7, 0, 11, 2])
    some = augment(IMAGES[order], augmentation, 4, ids[order], 1)
    assert torch.equal(some, whole[order])
    for other in (augment(IMAGES, augmentation, 5, ids, 1), augment(IMAGES, augmentation, 4, ids, 0)):
        assert not torch.equal(other, whole)
    plain = augment(IMAGES, Augmentation(2, None, True, seed=3), 4, ids, 1)
    assert not torch.equal(plain, whole)
    assert augment(IMAGES[:0], augmentation, 4, ids[:0], 1).shape == (0, 3, 15, 18)
