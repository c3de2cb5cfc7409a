"""Checkpoints of the distillation literature's repositories, and what they compute, in our nets."""

from __future__ import annotations

from functools import partial

import pytest
import torch

from hf_icckd import WeightsFile, from_pretrained
from tests.models import literature

NARROW, WIDE = (16, 16, 32, 64), (32, 64, 128, 256)
FORWARDS = {
    **{f"cifar_resnet{n}": partial(literature.resnet, depth=n, widths=NARROW) for n in (8, 14, 20, 32, 44, 56, 110)},
    **{f"cifar_resnet{n}x4": partial(literature.resnet, depth=n, widths=WIDE) for n in (8, 32)},
    **{f"cifar_wrn_{n}_{k}": partial(literature.wrn, depth=n, widen=k) for n in (16, 40) for k in (1, 2)},
    **{f"cifar_vgg{n}": partial(literature.vgg, depth=n) for n in literature.VGG_DEPTHS},
    "cifar_resnet50": literature.resnet50,
    "cifar_mobilenetv2_half": literature.mobilenetv2_half,
    "cifar_shufflenetv1": literature.shufflenetv1,
    "cifar_shufflenetv2": literature.shufflenetv2,
}
KINDS = {
    name: FORWARDS[name]
    for name in (
        "cifar_resnet8x4", "cifar_resnet50", "cifar_wrn_16_1", "cifar_wrn_16_2", "cifar_vgg8", "cifar_vgg13",
        "cifar_mobilenetv2_half", "cifar_shufflenetv1", "cifar_shufflenetv2",
    )
}  # fmt: skip
MEAN, STD = (0.5071, 0.4867, 0.4408), (0.2675, 0.2565, 0.2761)


def saved(path, forward, classes=5, size=32, seed=0):
    """Write a checkpoint as RepDistiller does, and return images with the logits that its weights give."""
    weights = literature.Weights(seed)
    images = torch.randint(0, 256, (3, 3, size, size), generator=weights.generator, dtype=torch.uint8)
    mean, std = (torch.tensor(each).view(3, 1, 1) for each in (MEAN, STD))
    logits = forward((images / 255 - mean) / std, weights, classes)
    torch.save({"epoch": 240, "model": dict(weights), "accuracy": torch.tensor(74.6)}, path)
    return images, logits


def loaded(path, architecture, **options):
    return from_pretrained(path, weights=WeightsFile(architecture, mean=MEAN, std=STD, **options))


def check_same(found, logits):
    assert (found - logits).abs().max() <= 1e-5 * logits.abs().max()


@pytest.mark.parametrize("name", KINDS)
def test_checkpoints_compute_in_our_nets_what_they_did(name, tmp_path):
    images, logits = saved(tmp_path / "net.pth", KINDS[name])
    check_same(loaded(tmp_path / "net.pth", name)(images).logits, logits)


def test_at_64_pixels_a_vgg_pools_once_more(tmp_path):
    images, logits = saved(tmp_path / "net.pth", KINDS["cifar_vgg8"], size=64)
    found = loaded(tmp_path / "net.pth", "cifar_vgg8", image_size=64)(images).logits
    check_same(found, logits)


def test_wrappers_of_several_gpus_and_our_own_names_are_read_too(tmp_path):
    images, logits = saved(tmp_path / "net.pth", KINDS["cifar_vgg8"])
    net = loaded(tmp_path / "net.pth", "cifar_vgg8").net
    torch.save({f"module.{name}": value for name, value in net.state_dict().items()}, tmp_path / "own.pth")
    check_same(loaded(tmp_path / "own.pth", "cifar_vgg8")(images).logits, logits)


def test_another_net_of_the_literature_is_named(tmp_path):
    saved(tmp_path / "net.pth", KINDS["cifar_vgg13"])
    with pytest.raises(ValueError, match=r"not those of cifar_vgg8: .*too many.*; they are those of cifar_vgg13$"):
        loaded(tmp_path / "net.pth", "cifar_vgg8")
    with pytest.raises(ValueError, match=r"no classification layer 'fc', .*: they are those of cifar_vgg13$"):
        loaded(tmp_path / "net.pth", "cifar_resnet20")


def test_tensors_that_are_missing_or_too_many_are_named(tmp_path):
    saved(tmp_path / "net.pth", KINDS["cifar_wrn_16_1"])
    weights = torch.load(tmp_path / "net.pth")["model"]
    del weights["block2.layer.0.convShortcut.weight"]
    weights["extra.weight"] = torch.zeros(2)
    torch.save(weights, tmp_path / "net.pth")
    with pytest.raises(
        ValueError,
        match=r"1 tensors missing \(stages\.1\.blocks\.0\.downsample\.conv\.weight\), 1 tensors too many "
        r"\(extra\.weight\); name the architecture that was trained",
    ):
        loaded(tmp_path / "net.pth", "cifar_wrn_16_1")
