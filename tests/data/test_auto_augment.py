"""Policies against timm's: the same operations, strengths and pixels, drawn by key."""

from __future__ import annotations

import random

import numpy as np
import pytest
import torch
from PIL import Image
from timm.data import auto_augment as reference

from hf_icckd.data import Augmentation
from hf_icckd.data.augment import augment
from hf_icckd.data.auto_augment import apply_operation, argument_of, auto_augment
from hf_icckd.options.policies import parse_policy

# Noise, and a smooth picture whose blends show rounding and not contrast.
_RAMP = np.add.outer(np.arange(32), np.arange(40))[..., None] * np.array([3, 2, 1]) + np.array([5, 40, 90])
PICTURES = [np.random.default_rng(0).integers(0, 256, (32, 40, 3)).astype(np.uint8), (_RAMP % 256).astype(np.uint8)]
IMAGES = torch.from_numpy(np.stack(PICTURES)).permute(0, 3, 1, 2)
MOVES = ("Rotate", "ShearX", "ShearY", "TranslateXRel", "TranslateYRel")
POLICIES = ("rand-m9-mstd0.5-inc1", "rand-m7-n3-p0.9", "original-mstd0.5", "originalr", "v0", "v0r")
OPERATIONS = sorted({step.operation for text in POLICIES for choice in parse_policy(text).choices for step in choice})
# Grey values: their greys and means are rounded otherwise, and a factor enlarges that.
TOLERANCE = {"Color": 2, "Contrast": 2, "Sharpness": 1, "Brightness": 1, "AutoContrast": 1}


@pytest.fixture
def negated(monkeypatch):
    """Makes timm take one direction."""

    def choose(negative: bool) -> None:
        monkeypatch.setattr(reference.random, "random", lambda: 1.0 if negative else 0.0)

    return choose


@pytest.mark.parametrize("name", OPERATIONS)
@pytest.mark.parametrize("negative", [False, True])
def test_strengths_are_those_of_timm(negated, name, negative):
    negated(negative)
    levels = torch.linspace(0, 10, 101, dtype=torch.float64)
    found = argument_of(name, levels, torch.full((101,), negative))
    function = reference.LEVEL_TO_ARG[name]
    if function is None:
        assert found is None
    else:
        expected = [function(level, {})[0] for level in levels.tolist()]
        assert found.tolist() == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("name", [name for name in OPERATIONS if name not in MOVES])
@pytest.mark.parametrize("level", range(11))
def test_pixels_are_those_of_pillow(negated, name, level):
    negated(False)
    argument = argument_of(name, torch.full((2,), float(level), dtype=torch.float64), torch.zeros(2, dtype=torch.bool))
    ours = apply_operation(name, IMAGES, argument).permute(0, 2, 3, 1)
    if name.startswith("Posterize") and argument[0] == 0:
        assert not ours.any()  # Pillow 13 refuses to keep no bits; before, the image became black
        return
    operation = reference.AugmentOp(name, prob=1.0, magnitude=level)
    for mine, picture in zip(ours, PICTURES, strict=True):
        theirs = torch.from_numpy(np.array(operation(Image.fromarray(picture))))
        difference = (mine.int() - theirs.int()).abs().max()
        assert difference <= TOLERANCE.get(name.removesuffix("Increasing"), 0)


@pytest.mark.parametrize("name", MOVES)
@pytest.mark.parametrize("level", [0, 3, 10])
@pytest.mark.parametrize("negative", [False, True])
def test_moves_are_those_of_pillow_with_the_nearest_pixel(negated, name, level, negative):
    negated(negative)
    argument = argument_of(name, torch.full((2,), float(level), dtype=torch.float64), torch.full((2,), negative))
    ours = apply_operation(name, IMAGES, argument).permute(0, 2, 3, 1)
    operation = reference.AugmentOp(name, prob=1.0, magnitude=level)
    operation.kwargs["resample"] = Image.Resampling.NEAREST
    for mine, picture in zip(ours, PICTURES, strict=True):
        theirs = torch.from_numpy(np.array(operation(Image.fromarray(picture))))
        # Where a place lies half-way between two pixels, either may be taken.
        assert (mine != theirs).any(2).float().mean() < (0.03 if level else 1e-9)


@pytest.mark.parametrize("text", POLICIES)
def test_policies_have_the_steps_of_timm(text):
    ours = parse_policy(text)
    if text.startswith("rand"):
        theirs = reference.rand_augment_transform(text, {})
        choices = [[each] for each in theirs.ops]
        assert ours.layers == theirs.num_layers
    else:
        choices = reference.auto_augment_transform(text, {}).policy
        assert ours.layers == 1
    assert [[tuple(step) for step in choice] for choice in ours.choices] == [
        [(step.name, step.prob, step.magnitude) for step in choice] for choice in choices
    ]
    assert {step.magnitude_std for choice in choices for step in choice} == {ours.noise}
    assert {step.magnitude_max or 10 for choice in choices for step in choice} == {ours.largest}


@pytest.mark.parametrize("text", [*POLICIES, "rand-m9-mstd101-mmax12"])
def test_an_image_gets_the_same_in_any_batch_on_any_device(device, text):
    augmentation = Augmentation(2, None, True, seed=3, aa=text)
    images, ids = IMAGES.repeat(20, 1, 1, 1), torch.arange(40) * 7 + 2**33
    whole = augment(images.to(device), augmentation, 4, ids, 1).cpu()
    order = torch.tensor([31, 0, 17, 2])
    assert torch.equal(augment(images[order], augmentation, 4, ids[order], 1), whole[order])
    for other in (augment(images, augmentation, 5, ids, 1), augment(images, augmentation, 4, ids, 0)):
        assert not torch.equal(other, whole)
    assert not torch.equal(augment(images, Augmentation(2, None, True, seed=3), 4, ids, 1), whole)
    assert augment(images[:0], augmentation, 4, ids[:0], 1).shape == (0, 3, 32, 40)


@pytest.mark.parametrize(
    ("text", "share"), [("rand-m9-n1-p0.5-inc1", 0.5), ("rand-m9-n2-p0.5-inc1", 0.75), ("rand-m0-p0", 0.0)]
)
def test_as_many_images_are_changed_as_the_probability_says(text, share):
    images = (IMAGES[1:].int() * 200 // 255 + 25).byte().expand(2000, -1, -1, -1)
    changed = auto_augment(images, parse_policy(text), 0, 0, torch.arange(2000), 0) != images
    # An operation of strength 9 changes this picture, whichever it is.
    assert changed.flatten(1).any(1).double().mean().item() == pytest.approx(share, abs=0.03)


def test_noise_is_that_of_timm():
    from hf_icckd.data.auto_augment import _levels

    numbers = (torch.arange(4096) / 4096 + 1 / 8192).double()
    for text in ("rand-m9-mstd1", "rand-m9-mstd1-mmax30", "rand-m9-mstd1000"):
        policy, theirs = parse_policy(text), []
        step = reference.rand_augment_transform(text, {}).ops[0]
        step.prob, step.level_fn, step.aug_fn = 1.0, lambda level, _: (level,), lambda _, level, **__: level
        random.seed(0)
        theirs = torch.tensor([step(None) for _ in range(4096)]).double().sort().values
        ours = _levels(torch.full((4096,), 9.0, dtype=torch.float64), policy, numbers)
        assert (ours[50:-50] - theirs[50:-50]).abs().max() < 0.25
