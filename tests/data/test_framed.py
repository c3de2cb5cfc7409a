"""Pixels for two classifiers: each its own size and scaling, the same crops and changes, every image decoded once."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image

from hf_icckd import Augmentation, ImagePipeline, load_image_data
from hf_icckd.data import decoded
from hf_icckd.data.augment import crop_numbers
from hf_icckd.data.framed import WithTeacherPixels, at_size
from hf_icckd.data.framing import evaluation_framing
from hf_icckd.data.images import read_image
from hf_icckd.data.loading import make_loader
from hf_icckd.data.sampling import BatchKey, KeyedBatchSampler
from hf_icckd.data.sources.image_data import ImageData
from hf_icckd.data.stored_image import StoredImage
from hf_icckd.models.classifier import ClassifierSpec
from tests.data.test_pipeline import data_of, noise, split_of
from tests.data.test_stored_image import photo, stored

ALL = Augmentation(color_jitter=0.4, trivial_augment=True, random_erasing=0.5, horizontal_flip=True, seed=3)
KEY = BatchKey(2, torch.tensor([5, 0, 3, 1]), 4)


def spec_of(image_size: int, **options) -> ClassifierSpec:
    return ClassifierSpec("cifar_resnet8", ("a", "b"), (0.5,) * 3, (0.2,) * 3, image_size, **options)


@pytest.fixture(scope="module")
def large():
    """Eight images above the bound of small ones, of several sizes."""
    return data_of([noise(100 + 9 * seed, 120 - 3 * seed, seed) for seed in range(8)])


@pytest.fixture(scope="module")
def photos():
    """Eight JPEGs that are decoded at different scales for different nets, some of them turned."""
    images = [stored(photo(600 + 8 * seed, 520).rotate(seed), orientation=(1, 6, 3)[seed % 3]) for seed in range(8)]
    split = split_of([image["bytes"] for image in images])
    return ImageData("photos", ["a", "b"], split, split)


@pytest.fixture(scope="module")
def small():
    """Eight images of 16 x 16."""
    return data_of([noise(16, 16, seed) for seed in range(8)])


def teacher_and_student(data, size, spec, **options):
    pipeline = ImagePipeline(data, ALL, image_size=size, **options)
    return pipeline.dataset("train", training=True).with_teacher(spec).__getitems__(KEY)


@pytest.mark.parametrize(
    ("images", "sizes", "options"),
    [
        ("large", (24, 48), {}),
        ("large", (48, 20), {}),
        ("large", (32, 32), {"interpolation": "bicubic"}),
        ("photos", (32, 224), {}),
        ("photos", (224, 48), {}),
        ("photos", (64, 64), {"interpolation": "bicubic"}),
        ("small", (8, 16), {}),
        ("small", (8, 16), {"resident_max_bytes": 0}),
        ("small", (24, 16), {}),
    ],
)
def test_each_gets_what_a_pipeline_of_its_own_would_give(request, images, sizes, options):
    data = request.getfixturevalue(images)
    where = {name: value for name, value in options.items() if name == "resident_max_bytes"}
    interpolation = options.get("interpolation", "bilinear")
    batch = teacher_and_student(data, sizes[0], spec_of(sizes[1], interpolation=interpolation), **where)
    own = {
        name: ImagePipeline(data, ALL, image_size=size, interpolation=scaling, **where).dataset("train", training=True)
        for name, size, scaling in zip(("student", "teacher"), sizes, ("bilinear", interpolation), strict=True)
    }
    assert torch.equal(batch["pixel_values"], own["student"].__getitems__(KEY)["pixel_values"])
    assert torch.equal(batch["teacher_pixel_values"], own["teacher"].__getitems__(KEY)["pixel_values"])
    assert (
        batch["labels"].tolist() == data.labels("train")[KEY.indices].tolist()
        and batch["sample_ids"].tolist() == KEY.indices.tolist()
    )


@pytest.mark.parametrize("images", ["large", "photos"])
def test_the_smaller_picture_is_the_larger_one_scaled(request, images):
    pipeline = ImagePipeline(request.getfixturevalue(images), Augmentation(seed=5), image_size=16)
    batch = pipeline.dataset("train", training=True).with_teacher(spec_of(64)).__getitems__(KEY)
    ours, teachers = batch["pixel_values"][:, 0].float(), batch["teacher_pixel_values"][:, 0].float()
    scaled = torch.nn.functional.interpolate(teachers, size=(16, 16), mode="bilinear", antialias=True)
    assert (scaled - ours).abs().mean() < 3
    assert (scaled.roll(1, 0) - ours).abs().mean() > 10


@pytest.mark.parametrize("spec", [spec_of(16), spec_of(16, interpolation="bicubic", crop_pct=0.9), spec_of(224)])
def test_small_images_are_taken_whole_and_once(small, spec):
    """A net that wants larger images enlarges them on the device, in training and in every evaluation."""
    for training in (False, True):
        dataset = ImagePipeline(small).dataset("train", training=training)
        assert dataset.with_teacher(spec) is dataset
        assert dataset.for_classifier(spec) is dataset


def test_what_only_evaluation_cuts_off_makes_no_second_pixels_in_training(large):
    pipeline, spec = ImagePipeline(large, image_size=32), spec_of(32, crop_pct=1.0, crop_mode="squash")
    trained_on, measured_on = pipeline.dataset("train", training=True), pipeline.dataset("train")
    assert trained_on.with_teacher(spec) is trained_on
    assert isinstance(measured_on.with_teacher(spec), WithTeacherPixels)


@pytest.mark.parametrize("mode", ["center", "border", "squash"])
def test_evaluation_frames_as_the_classifier_says(large, mode):
    spec = spec_of(40, crop_pct=0.8, interpolation="bicubic", crop_mode=mode)
    batch = ImagePipeline(large, image_size=24).dataset("test").for_classifier(spec).__getitems__(KEY._replace(
        indices=torch.tensor([2, 0]), global_rows=2
    ))  # fmt: skip
    for pixels, row in zip(batch["pixel_values"][:, 0], (2, 0), strict=True):
        expected = np.asarray(evaluation_framing(spec)(read_image(large.test, row)))
        assert np.array_equal(pixels.permute(1, 2, 0).numpy(), expected)


def test_every_image_is_decoded_once(large, monkeypatch):
    read = []
    original = StoredImage.whole
    monkeypatch.setattr(StoredImage, "whole", lambda image: read.append(image.what) or original(image))
    assert teacher_and_student(large, 24, spec_of(48))["teacher_pixel_values"].shape == (4, 1, 3, 48, 48)
    assert read == [f"train split: row {row}" for row in KEY.indices.tolist()]


@pytest.mark.parametrize("images", ["large", "photos"])
def test_decoded_images_are_not_held(request, images, monkeypatch):
    """Two at a time here; with a teacher of another size until it has seen them."""
    monkeypatch.setattr(decoded, "_DECODED_AT_ONCE", 2)
    opened, held = [], []
    crops, created = StoredImage.crops, StoredImage.__init__

    def create(image, *args, **options):
        created(image, *args, **options)
        opened.append(image)

    def crop(image, *args):
        made = crops(image, *args)
        held.append(sum(each._decoded is not None for each in opened))
        return made

    monkeypatch.setattr(StoredImage, "__init__", create)
    monkeypatch.setattr(StoredImage, "crops", crop)
    dataset = ImagePipeline(request.getfixturevalue(images), ALL, image_size=16).dataset("train", training=True)
    dataset.__getitems__(KEY)
    assert len(held) == 4 and max(held) <= 2
    opened.clear()
    held.clear()
    dataset.with_teacher(spec_of(24)).__getitems__(KEY)
    assert len(held) == 8 and max(held) <= 2 and all(each._decoded is None for each in opened)


@pytest.mark.parametrize("images", ["large", "photos"])
def test_workers_do_not_matter(request, images):
    dataset = (
        ImagePipeline(request.getfixturevalue(images), ALL, image_size=16)
        .dataset("train", training=True)
        .with_teacher(spec_of(24))
    )
    loaded = list(make_loader(dataset, dataset.batch_sampler(4, 7), num_workers=1))
    for batch, key in zip(loaded, KeyedBatchSampler(8, 4, 7), strict=True):
        own = dataset.__getitems__(key)
        for name in ("pixel_values", "teacher_pixel_values"):
            assert torch.equal(batch[name], own[name])


def test_a_stream_has_both_too(tmp_path):
    for label in ("a", "b"):
        (tmp_path / "train" / label).mkdir(parents=True)
        (tmp_path / "test" / label).mkdir(parents=True)
        for number in range(4):
            noise(120, 110, 10 * number + (label == "a")).save(tmp_path / "train" / label / f"{number}.png")
            Image.new("RGB", (100, 100)).save(tmp_path / "test" / label / f"{number}.png")
    table = load_image_data(str(tmp_path))
    table.train.to_parquet(tmp_path / "train-0.parquet")
    table.test.to_parquet(tmp_path / "test-0.parquet")
    files = tmp_path / "tables"
    files.mkdir()
    for name in ("train", "test"):
        (tmp_path / f"{name}-0.parquet").rename(files / f"{name}-0.parquet")
    data = load_image_data(str(files), streaming=True)
    datasets = [
        ImagePipeline(data, ALL, image_size=16).dataset("train", training=True).with_teacher(spec_of(24)),
        ImagePipeline(data, ALL, image_size=24).dataset("train", training=True),
    ]
    both, own = (list(make_loader(each, each.batch_sampler(4, 7))) for each in datasets)
    assert len(both) == 2
    for batch, expected in zip(both, own, strict=True):
        assert batch["pixel_values"].shape[-1] == 16
        assert torch.equal(batch["teacher_pixel_values"], expected["pixel_values"])


def test_the_pixels_of_both_must_fit_into_memory(small, caplog):
    one, two = 8 * 3 * 8**2, 8 * 3 * 16**2
    assert ImagePipeline(small, image_size=8, teacher=spec_of(16), resident_max_bytes=one + two).resident
    pipeline = ImagePipeline(small, image_size=8, teacher=spec_of(16), resident_max_bytes=one + two - 1)
    assert not pipeline.resident
    assert ImagePipeline(small, image_size=16, teacher=spec_of(16), resident_max_bytes=two).resident
    untold = ImagePipeline(small, image_size=8, resident_max_bytes=one + two - 1)
    assert untold.resident
    with pytest.raises(ValueError, match=r"resident_max_bytes is 7,679; give .* ImagePipeline\(..., teacher="):
        untold.dataset("train").for_classifier(spec_of(16))


@pytest.mark.parametrize(("size", "other"), [(32, 64), (64, 32), (28, 42), (32, 8)])
def test_padding_is_scaled_and_crops_agree(size, other):
    ours = Augmentation(crop_padding=size // 8, horizontal_flip=True)
    theirs = at_size(ours, size, other)
    assert theirs.crop_padding == int(size // 8 * other / size + 0.5)
    moved = [
        (crop_numbers(each, 1, torch.arange(500), 0)[:, :2] - each.crop_padding) / side
        for each, side in ((ours, size), (theirs, other))
    ]
    rounding = abs(ours.crop_padding / size - theirs.crop_padding / other)
    assert (moved[0] - moved[1]).abs().max() < 1 / min(size, other) + rounding
    mirrored = [crop_numbers(each, 1, torch.arange(500), 0)[:, 2] for each in (ours, theirs)]
    assert torch.equal(*mirrored)
