"""Balanced epochs: exact counts, keyed draws, other pixels for each repetition, any worker and number of processes."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from datasets import ClassLabel, Dataset, Features, Image

from hf_icckd import Augmentation, ImageData, ImagePipeline, Sampling, load_image_data
from hf_icckd.data.loading import make_loader
from hf_icckd.data.mixing import MixedImages, partners_of
from hf_icckd.data.plain import as_training_batches
from hf_icckd.data.resampling import ResampledImages, class_draws, class_shares, places_of
from hf_icckd.data.sampling import BatchKey
from hf_icckd.options.data import TrainingDataArguments
from hf_icckd.utils import distributed
from tests.data.test_framed import spec_of
from tests.data.test_pipeline import encoded, noise

BALANCED = Sampling("balanced", seed=3)
ALL = Augmentation(color_jitter=0.4, trivial_augment=True, random_erasing=0.5, horizontal_flip=True, seed=3)


def uneven(size: int, images=(14, 3)) -> ImageData:
    """So many images of classes a and b, each another one; those of the classes alternate as long as they can."""
    labels = [label for number in range(max(images)) for label, count in enumerate(images) if number < count]
    features = Features({"image": Image(decode=False), "label": ClassLabel(names=["a", "b"])})
    cells = [{"bytes": encoded(noise(size, size, seed)), "path": None} for seed in range(len(labels))]
    split = Dataset.from_dict({"image": cells, "label": labels}, features=features)
    return ImageData("test", ["a", "b"], split, split.select(range(4)))


@pytest.fixture(scope="module")
def small() -> ImageData:
    return uneven(16)


@pytest.fixture(scope="module")
def large() -> ImageData:
    return uneven(110)


def training_set(data, augmentation=ALL, sampling=BALANCED, views: int = 1, **options):
    pipeline = ImagePipeline(data, augmentation, sampling=sampling, **options)
    return pipeline.dataset("train", training=True, num_views=views)


def batch_of(dataset, places, epoch=0):
    return dataset.__getitems__(BatchKey(epoch, torch.tensor(places, dtype=torch.int64), len(places)))


# Which images


@pytest.mark.parametrize("kind", ["balanced", "square_root"])
def test_draws_add_up_to_an_epoch_and_keep_to_the_shares(kind):
    generator = np.random.default_rng(0)
    for case in range(60):
        images = generator.integers(0, 300, generator.integers(1, 40)).tolist()
        images[0] += 1
        draws = class_draws(images, Sampling(kind, case), epoch=case)
        assert sum(draws) == sum(images)
        for count, drawn, share in zip(images, draws, class_shares(images, kind), strict=True):
            assert abs(drawn - share * sum(images)) < 1 and (count or not drawn)
        if kind == "balanced":
            assert max(draws) - min(drawn for drawn, count in zip(draws, images, strict=True) if count) <= 1


def test_what_does_not_divide_goes_to_other_classes_in_turn():
    draws = [class_draws([9, 1, 1], BALANCED, epoch) for epoch in range(30)]
    assert {tuple(sorted(each)) for each in draws} == {(3, 4, 4)}
    assert len({tuple(each) for each in draws}) == 3


@pytest.mark.parametrize("kind", ["balanced", "square_root"])
@pytest.mark.parametrize("epoch", [0, 7])
def test_images_of_a_class_are_shown_equally_often(kind, epoch):
    labels = torch.tensor([0, 1, 1, 2, 4] + [1] * 40 + [0, 2] * 9)
    rows, repeats = places_of(labels, Sampling(kind, 5), epoch)
    assert len(rows) == len(labels) and torch.equal(rows, rows.sort().values)
    draws = class_draws(labels.bincount().tolist(), Sampling(kind, 5), epoch)
    assert labels[rows].bincount(minlength=5).tolist() == draws
    times = rows.bincount(minlength=len(labels))
    for label in labels.unique():
        assert times[labels == label].max() - times[labels == label].min() <= 1
    for row in rows.unique():
        assert repeats[rows == row].tolist() == list(range(int(times[row])))


def test_places_are_a_function_of_seed_and_epoch():
    labels = torch.tensor([0] * 50 + [1] * 5)
    assert torch.equal(places_of(labels, BALANCED, 4)[0], places_of(labels, BALANCED, 4)[0])
    others = [places_of(labels, Sampling("balanced", seed), epoch)[0] for seed, epoch in ((3, 5), (4, 4), (3, 4))]
    assert len({tuple(each.tolist()) for each in others}) == 3
    # Over the epochs every image of the large class has its turn.
    seen = torch.cat([places_of(labels, BALANCED, epoch)[0] for epoch in range(40)]).bincount(minlength=55)[:50]
    assert seen.sum() == pytest.approx(40 * 27.5, abs=20) and seen.min() >= 10


def test_equal_classes_are_shown_once_each():
    labels = torch.tensor([0, 1, 2] * 7)
    for kind in ("balanced", "square_root"):
        rows, repeats = places_of(labels, Sampling(kind), 0)
        assert torch.equal(rows, torch.arange(21)) and not repeats.any()


# Which pixels


@pytest.mark.parametrize("where", ["resident", "decoded", "large"])
@pytest.mark.parametrize("views", [1, 2])
def test_a_repeated_image_is_changed_in_another_way(small, large, where, views):
    options = {"default_size": 24} | ({"resident_max_bytes": 0} if where == "decoded" else {})
    data = large if where == "large" else small
    sampled = training_set(data, views=views, **options)
    assert sampled.resampled and sampled.resident == (where == "resident")
    batch = batch_of(sampled, list(range(17)), epoch=2)
    rows, repeats = places_of(sampled.class_labels(), BALANCED, 2)
    assert torch.equal(batch["sample_ids"], rows) and torch.equal(batch["labels"], sampled.class_labels()[rows])
    plain = batch_of(training_set(data, sampling=None, views=views, **options), rows.tolist(), epoch=2)
    first = repeats == 0
    assert torch.equal(batch["pixel_values"][first], plain["pixel_values"][first])
    seen = {pixels.numpy().tobytes() for pixels in batch["pixel_values"]}
    assert len(seen) == 17 and (~first).sum() >= 5
    alone = batch_of(sampled, [16, 3, 16], epoch=2)
    assert torch.equal(alone["pixel_values"], batch["pixel_values"][[16, 3, 16]])


@pytest.mark.parametrize("where", ["small", "large"])
def test_workers_and_other_batches_do_not_matter(request, where):
    sampled = training_set(request.getfixturevalue(where), default_size=24)
    whole = batch_of(sampled, list(range(17)), epoch=1)
    for workers, size in ((0, 4), (2, 4), (0, 5)):
        sampler = sampled.batch_sampler(size, seed=1)
        sampler.set_epoch(1)
        keys = list(sampler)
        for key, batch in zip(keys, make_loader(sampled, sampler, workers), strict=True):
            for name in ("pixel_values", "labels", "sample_ids"):
                assert torch.equal(batch[name], whole[name][key.indices]), name


def test_processes_share_the_batches_of_one(small, monkeypatch):
    sampled = training_set(small, dataclasses.replace(ALL, mixup=0.4))
    one = [sampled.__getitems__(key) for key in sampled.batch_sampler(8, seed=0)]
    parts = []
    monkeypatch.setattr(distributed, "world_size", lambda: 2)
    for rank in range(2):
        monkeypatch.setattr(distributed, "rank", lambda rank=rank: rank)
        parts.append([sampled.__getitems__(key) for key in sampled.batch_sampler(4, seed=0)])
    for whole, first, second in zip(one, *parts, strict=True):
        for name in ("pixel_values", "labels", "mixed_labels", "sample_ids"):
            assert torch.equal(whole[name], torch.cat([first[name], second[name]])), name


@pytest.mark.parametrize("where", ["small", "large"])
def test_the_teacher_sees_the_same_places(request, where):
    data, size, other = request.getfixturevalue(where), *((16, 8) if where == "small" else (24, 48))
    sampled = training_set(data, image_size=size)
    pair, places = sampled.with_teacher(spec_of(other)), [16, 0, 11, 15]
    batch, own = batch_of(pair, places), batch_of(sampled.for_classifier(spec_of(other)), places)
    assert torch.equal(batch["teacher_pixel_values"], own["pixel_values"])
    assert torch.equal(batch["pixel_values"], batch_of(sampled, places)["pixel_values"])
    assert torch.equal(pair.class_labels(), sampled.class_labels()) and pair.framed
    assert sampled.with_teacher(spec_of(size)) is sampled


def test_mixed_images_are_mixed_among_what_is_shown(small):
    mixing = dataclasses.replace(ALL, mixup=0.4)
    mixed = training_set(small, mixing)
    assert isinstance(mixed, MixedImages) and mixed.resampled and mixed.mixes
    batch, whole = batch_of(mixed, list(range(17)), epoch=1), batch_of(mixed.dataset, list(range(17)), epoch=1)
    partners = partners_of(mixing.seed, 1, 17)
    assert torch.equal(batch["mixed_labels"], whole["labels"][partners])
    assert batch["mixed_labels"].bincount().tolist() in ([8, 9], [9, 8])
    assert torch.equal(mixed.class_labels(), mixed.dataset.class_labels())


def test_only_training_images_are_sampled(small):
    pipeline = ImagePipeline(small, sampling=BALANCED)
    assert not pipeline.dataset("train").resampled and not pipeline.dataset("test").resampled
    unchanged = training_set(small, augmentation=None)
    batch = batch_of(unchanged, list(range(17)))
    assert batch["labels"].bincount().tolist() in ([8, 9], [9, 8])
    assert ImagePipeline(small, None).constant and not ImagePipeline(small, None, sampling=BALANCED).constant


# What is refused


def test_kinds_and_options():
    with pytest.raises(ValueError, match="sampling is 'even', expected balanced or square_root"):
        Sampling("even")
    assert TrainingDataArguments().chosen_sampling(3) is None
    assert TrainingDataArguments(sampling="square_root").chosen_sampling(3) == Sampling("square_root", 3)
    chosen = TrainingDataArguments(sampling="balanced", augmentation_seed=8, augmentation="none").chosen_sampling(3)
    assert chosen == Sampling("balanced", 8)


def test_classes_must_be_known(monkeypatch):
    images = torch.zeros(4, 3, 9, 9, dtype=torch.uint8)
    plain = as_training_batches(torch.utils.data.TensorDataset(images, torch.arange(4) % 2), ["a", "b"], seed=0)
    with pytest.raises(ValueError, match="sampling is 'balanced', but no image has a class that is known before"):
        ResampledImages(plain, BALANCED)
    monkeypatch.setattr(type(plain), "class_labels", lambda self: torch.tensor([0, 1, -1, 1]))
    with pytest.raises(ValueError, match="but not every image has a class"):
        ResampledImages(plain, BALANCED)
    data = load_image_data("digits", max_train_samples=20, max_eval_samples=20)
    monkeypatch.setattr(type(data), "streamed", property(lambda self: True))
    with pytest.raises(ValueError, match="sampling is 'balanced', expected all with streaming"):
        ImagePipeline(data, sampling=BALANCED)
