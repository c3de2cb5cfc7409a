"""Which pixels the options of a student ask for."""

from __future__ import annotations

import pytest

from hf_icckd import create_classifier, student
from hf_icckd.models.architectures import default_cfg
from hf_icckd.options.recipes import StudentModelArguments


@pytest.fixture
def guide():
    return create_classifier(
        "cifar_resnet8", ["a", "b"], image_size=40, mean=(0.3,) * 3, crop_pct=0.7, interpolation="nearest",
        crop_mode="squash",
    )  # fmt: skip


def test_from_scratch_it_takes_those_of_its_teacher(guide):
    wanted = student._wanted_pixels(StudentModelArguments(model="resnet18"), guide)
    assert wanted == ((40, 0.7, "nearest", 40), "squash", (0.3, 0.3, 0.3))


def test_pretrained_it_takes_those_of_its_weights(guide):
    name = "mobilenetv3_small_100.lamb_in1k"
    default = default_cfg(name)
    pixels, crop_mode, mean = student._wanted_pixels(StudentModelArguments(model=name, pretrained=True), guide)
    assert pixels == (224, default.crop_pct, "bicubic", 224)
    assert (crop_mode, mean) == (None, tuple(default.mean))
