"""Pictures of a card: small, the same every time, and drawn whatever classes are called."""

from __future__ import annotations

import warnings

import numpy as np
import PIL.Image
import pytest
import torch

from hf_icckd.cards import pictures

MAX_BYTES = 200_000
NAMES = [
    "$5 or $10",
    "_hidden",
    "猫",
    "a name that is much too long to stand beside an axis",
    "cat\nfish",
    "<b>&",
    "7",
]
BINS = [{"count": index * 7, "confidence": index / 15, "accuracy": index / 16} for index in range(15)]
LOSSES = [
    {"epoch": step / 10, "step": step, "loss": 2 / step, "ce": 1 / step, "intra_class": 1.0} for step in (1, 5, 9)
]
EVALUATIONS = [{"epoch": epoch, "eval_top1": 50 + epoch, "eval_agreement": 60 + epoch} for epoch in range(3)]


def soft_labels(classes: int = 5) -> dict[str, list[dict[str, float]]]:
    one = dict(zip(NAMES[:classes], np.linspace(0.6, 0.1, classes).tolist(), strict=True))
    return {"teacher": [one] * 3, "control's teacher": [one] * 3, "student": [one] * 3}


def noise(size: int) -> np.ndarray:
    return np.random.default_rng(0).integers(256, size=(3, size, size, 3), dtype=np.uint8)


DRAWINGS = {
    "curves": lambda path: pictures.draw_training_curves(path, LOSSES, EVALUATIONS, "test"),
    "curves with a gate": lambda path: pictures.draw_training_curves(
        path, [row | {"gated_fraction": 0.5} for row in LOSSES], EVALUATIONS, "validation"
    ),
    "losses alone": lambda path: pictures.draw_training_curves(path, LOSSES[:1], [], "test"),
    "evaluations alone": lambda path: pictures.draw_training_curves(path, [], EVALUATIONS[:1], "test"),
    "reliability": lambda path: pictures.draw_reliability(path, BINS),
    "reliability of nothing": lambda path: pictures.draw_reliability(path, [dict.fromkeys(BINS[0], 0)] * 15),
    "map": lambda path: pictures.draw_embedding_map(
        path,
        np.random.default_rng(0).normal(size=(1500, 2)),
        np.arange(1500) % 14,
        dict(enumerate(NAMES)) | {9: "nine", 10: "ten", 11: "eleven"},
    ),
    "map of two": lambda path: pictures.draw_embedding_map(path, np.zeros((2, 2)), np.array([0, 1]), {0: "a", 1: "b"}),
    "small images": lambda path: pictures.draw_soft_labels(path, noise(8), NAMES[:3], soft_labels()),
    "photographs": lambda path: pictures.draw_soft_labels(path, noise(224), NAMES[3:6], soft_labels()),
    "two classes": lambda path: pictures.draw_soft_labels(path, noise(16), NAMES[:3], soft_labels(2)),
    "no class in common": lambda path: pictures.draw_soft_labels(path, noise(16), NAMES[:3], soft_labels(0)),
}


@pytest.mark.parametrize("name", DRAWINGS)
def test_pictures_are_small_opaque_and_always_the_same(tmp_path, name):
    before = torch.get_rng_state()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for file in ("one.png", "two.png"):
            DRAWINGS[name](tmp_path / file)
    assert (tmp_path / "one.png").read_bytes() == (tmp_path / "two.png").read_bytes()
    assert torch.equal(torch.get_rng_state(), before)
    assert (tmp_path / "one.png").stat().st_size < MAX_BYTES
    with PIL.Image.open(tmp_path / "one.png") as image:
        assert image.format == "PNG" and "transparency" not in image.info and image.mode == "P"
        assert 1000 < image.width < 1600 and len(image.convert("RGB").getcolors(256)) > 4
    assert sorted(path.name for path in tmp_path.iterdir()) == ["one.png", "two.png"]


def test_style_stays_in_the_pictures(tmp_path):
    import matplotlib

    before = dict(matplotlib.rcParams)
    DRAWINGS["reliability"](tmp_path / "one.png")
    assert dict(matplotlib.rcParams) == before


def test_nothing_to_draw_is_an_error(tmp_path):
    with pytest.raises(ValueError, match="neither losses nor evaluations"):
        pictures.draw_training_curves(tmp_path / "one.png", [], [], "test")
