"""RandAugment and AutoAugment as timm has them: what a policy draws for each image, and its operations on a batch.

Operations and strengths are timm's. Three things differ. Moved images take the nearest pixel, where timm interpolates
in one of two ways at random; what they leave empty becomes grey 128, timm's own choice where it knows no mean; and the
random numbers are keyed.

Reference:
    Cubuk, Zoph, Mane, Vasudevan, Le: AutoAugment. CVPR 2019, arXiv 1805.09501.
    Cubuk, Zoph, Shlens, Le: RandAugment. NeurIPS 2020, arXiv 1909.13719.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from hf_icckd.data import operations
from hf_icckd.options.policies import Policy, Step
from hf_icckd.utils.keyed_random import STREAM_POLICY, uniform

_FILL = 128
_LEVELS = 10  # magnitudes count tenths of the range of an operation
_STREAMS = 8  # random streams of a layer: one for the choice, then one for each step
_CHANGED = ("Color", "Contrast", "Brightness", "Sharpness")  # by a factor
_WITHOUT = ("AutoContrast", "Equalize", "Invert")  # without a strength


def auto_augment(images: Tensor, policy: Policy, seed: int, epoch: int, sample_ids: Tensor, view: int) -> Tensor:
    """Apply a policy to a batch.

    Args:
        images: (B, 3, H, W) uint8 on any device.
        policy: The policy.
        seed: Seed of the augmentation.
        epoch: Epoch.
        sample_ids: (B,) int64 on the CPU, where everything is drawn so that nothing waits for the device.
        view: Index of the view.
    """
    images = images.clone()
    for layer in range(policy.layers):
        stream = STREAM_POLICY + _STREAMS * layer
        choice = (uniform(seed, epoch, sample_ids, view, stream)[:, 0] * len(policy.choices)).long()
        for index in range(len(policy.choices[0])):
            numbers = uniform(seed, epoch, sample_ids, view, stream + 1 + index)
            for name, rows, level in _drawn([each[index] for each in policy.choices], policy, choice, numbers):
                there = rows.to(images.device, non_blocking=True)
                argument = argument_of(name, level, numbers[rows, 2] > 0.5)
                images[there] = apply_operation(name, images[there], argument)
    return images


def _drawn(steps: list[Step], policy: Policy, choice: Tensor, numbers: Tensor) -> list[tuple[str, Tensor, Tensor]]:
    """Name of each operation that is applied, the rows of the batch that it is applied to, and its levels there."""
    probability, magnitude = torch.tensor([step[1:] for step in steps], dtype=torch.float64)[choice].unbind(1)
    applied = numbers[:, 0] < probability
    level = _levels(magnitude, policy, numbers[:, 1])
    names = sorted({step.operation for step in steps})
    which = torch.tensor([names.index(step.operation) for step in steps])[choice]
    found = []
    for index, name in enumerate(names):
        rows = (applied & (which == index)).nonzero()[:, 0]
        if len(rows):
            found.append((name, rows, level[rows]))
    return found


def _levels(magnitude: Tensor, policy: Policy, number: Tensor) -> Tensor:
    """Magnitudes with the noise of the policy, from numbers that are uniform on [0, 1)."""
    if policy.noise == math.inf:
        magnitude = magnitude * number
    elif policy.noise:
        # The middle of each 2**-32: 0 itself would be infinitely far.
        magnitude = magnitude + policy.noise * torch.special.ndtri(number + 2.0**-33)
    return magnitude.clamp(0, policy.largest)


def argument_of(name: str, level: Tensor, negative: Tensor) -> Tensor | None:
    """What an operation takes at a level: a factor, an angle in degrees, a share of the side, a number of bits, ...

    Args:
        name: timm's name of the operation.
        level: (B,) float64, 0 to 10, or to the policy's bound.
        negative: (B,) bool, the direction where an operation has two.

    Returns:
        (B,) float64; None for an operation without a strength.
    """
    share = level / _LEVELS
    signed = torch.where(negative, -share, share)
    base = name.removesuffix("Increasing").removesuffix("Original")
    if base in _WITHOUT:
        return None
    if base in _CHANGED:
        return share * 1.8 + 0.1 if name == base else (1 + signed * 0.9).clamp(min=0.1)
    if base == "Posterize":
        bits = (share * 4).floor()
        return {"Posterize": bits, "PosterizeIncreasing": 4 - bits, "PosterizeOriginal": bits + 4}[name]
    if base == "Solarize":
        threshold = (share * 256).floor().clamp(max=256)
        return threshold if name == base else 256 - threshold
    if base == "SolarizeAdd":
        return (share * 110).floor().clamp(max=128)
    return signed * {"Rotate": 30, "ShearX": 0.3, "ShearY": 0.3, "TranslateXRel": 0.45, "TranslateYRel": 0.45}[name]


def apply_operation(name: str, images: Tensor, argument: Tensor | None) -> Tensor:
    """Apply one operation of timm's to a batch.

    Args:
        name: timm's name of the operation.
        images: (B, 3, H, W) uint8.
        argument: (B,) from `argument_of`, on the CPU.
    """
    base = name.removesuffix("Increasing").removesuffix("Original")
    if argument is None:
        plain = {
            "AutoContrast": operations.autocontrast,
            "Equalize": operations.equalize,
            "Invert": operations.invert,
        }
        return plain[base](images)
    if base in ("Rotate", "ShearX", "ShearY", "TranslateXRel", "TranslateYRel"):
        matrix = _matrix(base, argument, *images.shape[2:])
        return operations.affine(images, matrix.to(images.device, non_blocking=True), _FILL)
    changed = {
        "Color": operations.saturation,
        "Contrast": operations.contrast,
        "Brightness": operations.brightness,
        "Sharpness": operations.sharpness,
        "Posterize": operations.posterize,
        "Solarize": operations.solarize,
        "SolarizeAdd": operations.solarize_add,
    }
    return changed[base](images, argument.float().to(images.device, non_blocking=True))


def _matrix(name: str, argument: Tensor, height: int, width: int) -> Tensor:
    """(B, 2, 3) float32 affine map of `operations.affine`. Shears keep the first row or column, not the middle."""
    zero, one = torch.zeros_like(argument), torch.ones_like(argument)
    angle = torch.deg2rad(argument)
    cells = {
        "Rotate": (angle.cos(), -angle.sin(), zero, angle.sin(), angle.cos(), zero),
        "ShearX": (one, argument, argument * height / 2, zero, one, zero),
        "ShearY": (one, zero, zero, argument, one, argument * width / 2),
        "TranslateXRel": (one, zero, argument * width, zero, one, zero),
        "TranslateYRel": (one, zero, zero, zero, one, argument * height),
    }[name]
    return torch.stack(cells, dim=1).float().view(-1, 2, 3)
