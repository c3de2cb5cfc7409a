"""An evaluation split is decoded once where it fits in memory."""

from __future__ import annotations

import pickle

import pytest
import torch
from PIL import Image

from hf_icckd import ImagePipeline, create_classifier, load_image_data
from hf_icckd.data.decoded import DecodedImages
from hf_icckd.data.kept_batches import KeptBatches
from hf_icckd.data.stored_image import StoredImage
from hf_icckd.evaluation.split import predict_split, run_split
from hf_icckd.options.augmentation import Augmentation


def batches(*rows: int) -> list[dict]:
    return [{"pixel_values": torch.zeros(count, 1, 3, 4, 4, dtype=torch.uint8)} for count in rows]


def test_what_was_read_is_not_read_again():
    kept, loads = KeptBatches(10_000), []

    def load():
        loads.append(1)
        return batches(3, 3, 1)

    first, second = list(kept.read(3, load)), list(kept.read(3, load))
    assert loads == [1]
    assert all(
        torch.equal(one["pixel_values"], other["pixel_values"]) for one, other in zip(first, second, strict=True)
    )
    list(kept.read(2, load))
    assert loads == [1, 1]


def test_what_does_not_fit_is_read_again_whole():
    # The last batch alone would fit.
    kept = KeptBatches(3 * 48 * 3 - 1)
    for _ in range(2):
        assert [len(each["pixel_values"]) for each in kept.read(3, lambda: batches(3, 3, 1))] == [3, 3, 1]
    assert [len(each["pixel_values"]) for each in KeptBatches(3 * 48 * 3).read(3, lambda: batches(3, 3, 1))] == [
        3,
        3,
        1,
    ]


def test_a_reading_that_ends_early_keeps_nothing():
    kept = KeptBatches(10_000)
    next(kept.read(3, lambda: batches(3, 3)))
    assert len(list(kept.read(3, lambda: batches(3)))) == 1


def test_workers_get_none():
    kept = KeptBatches(10_000)
    list(kept.read(3, lambda: batches(3)))
    assert len(pickle.dumps(kept)) < 500 and pickle.loads(pickle.dumps(kept)).max_bytes == 10_000


@pytest.fixture(scope="module")
def pipeline(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data") / "photos"
    for number in range(20):
        file = folder / "ab"[number % 2] / f"{number}.jpg"
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (128, 100 + number), (number, 0, 0)).save(file)
    return ImagePipeline(load_image_data(str(folder), test_fraction=0.5), Augmentation(), default_size=32)


def test_a_split_is_decoded_once_with_the_same_results(pipeline, monkeypatch):
    decoded = []
    whole = StoredImage.whole
    monkeypatch.setattr(StoredImage, "whole", lambda self: decoded.append(1) or whole(self))
    images, again = pipeline.dataset("test"), pipeline.dataset("test")
    net = create_classifier("cifar_resnet8", ["a", "b"], image_size=32)
    first, second = (predict_split(net, each, batch_size=4) for each in (images, again))
    assert len(decoded) == len(images)
    assert torch.equal(first.logits, second.logits) and torch.equal(first.labels, second.labels)


def test_training_images_and_other_framings_keep_nothing_of_it(pipeline):
    assert pipeline.dataset("train", training=True).kept is None
    images = pipeline.dataset("test")
    assert isinstance(images, DecodedImages)
    list(run_split(create_classifier("cifar_resnet8", ["a", "b"], image_size=32), images, 4))
    assert images.reframed(images.framing, None).kept is None
