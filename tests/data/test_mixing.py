"""mixup and CutMix: timm's pixels and labels for the same draws, the same for any batch, worker, process and size."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from timm.data import mixup as reference

from hf_icckd import Augmentation, ImagePipeline
from hf_icckd.data import mixing
from hf_icckd.data.loading import make_loader
from hf_icckd.data.mixing import (
    WHOLE,
    Mix,
    MixedImages,
    boxes_of,
    draw_mix,
    mix_images,
    partners_of,
    shares_of,
)
from hf_icckd.data.plain import as_training_batches
from hf_icckd.data.sampling import BatchKey, KeyedBatchSampler, side_by_side
from hf_icckd.data.stored_image import StoredImage
from hf_icckd.losses import cross_entropy, targets_of
from hf_icckd.options.data import TrainingDataArguments
from hf_icckd.utils import distributed
from tests.data.test_framed import spec_of
from tests.data.test_pipeline import data_of, noise

BOTH = Augmentation(mixup=0.4, cutmix=1.0, seed=3)


@pytest.fixture(scope="module")
def small():
    """Nineteen images of 16 x 16 in two classes."""
    return data_of([noise(16, 16, seed) for seed in range(19)])


@pytest.fixture(scope="module")
def large():
    """Nine images above the bound of small ones."""
    return data_of([noise(100 + 9 * seed, 120 - 3 * seed, seed) for seed in range(9)])


def training_set(data, augmentation=BOTH, views: int = 1, **options) -> MixedImages:
    return ImagePipeline(data, augmentation, **options).dataset("train", training=True, num_views=views)


def batch_of(dataset, rows, epoch=0):
    return dataset.__getitems__(BatchKey(epoch, torch.tensor(rows, dtype=torch.int64), len(rows)))


# Against timm


class Draws:
    """Stands in for NumPy's generator in timm, so that it takes these shares and these centres."""

    def __init__(self, shares, cut, centres):
        self.shares, self.cut, self.places = shares, cut, iter(centres)

    def rand(self, count):
        # First which pairs are cut, then which are mixed at all: all of them.
        values, self.cut = self.cut, np.ones(count, dtype=bool)
        return np.where(values, 0.0, 0.9)

    def beta(self, *_, size):
        return self.shares

    def randint(self, low, high, size=None):
        return next(self.places)


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("size", [(17, 17), (32, 24)])
def test_pixels_and_labels_are_those_of_timm(monkeypatch, smoothing, size):
    pairs, generator = 40, torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (2 * pairs, 3, *size), dtype=torch.uint8, generator=generator)
    labels = torch.randint(0, 5, (2 * pairs,), generator=generator)
    share = torch.randint(0, WHOLE, (pairs,), generator=generator)
    share[:2] = torch.tensor([WHOLE // 2, WHOLE // 4])  # a blend of these ends in halves
    cut = torch.arange(pairs) % 3 == 0
    centre = torch.randint(0, 2**32, (pairs, 2), generator=generator)
    pixels = (centre * torch.tensor(size) >> 32)[cut].flatten().tolist()  # top and left of each box in turn

    collate = reference.FastCollateMixup(1.0, 1.0, mode="pair", label_smoothing=smoothing, num_classes=5)
    monkeypatch.setattr(reference.np, "random", Draws(share.numpy() / WHOLE, cut.numpy(), pixels))
    theirs, targets = collate(
        [(image.numpy().copy(), label) for image, label in zip(images, labels.tolist(), strict=True)]
    )

    # timm's pairs are the first and the last, the second and the last but one, ...
    mix = Mix(*(torch.cat([each, each.flip(0)]) for each in (share, cut, centre)))
    ours = mix_images(images[:, None], images.flip(0)[:, None], mix)[:, 0]
    assert torch.equal(ours, theirs)
    batch = {"labels": labels, "mixed_labels": labels.flip(0), "mix": shares_of(mix, *size)}
    logits = torch.randn(2 * pairs, 5, generator=generator)
    expected = -(targets * logits.log_softmax(dim=1)).sum(dim=1).mean()  # timm.loss.SoftTargetCrossEntropy
    found = cross_entropy(logits, targets_of(batch, logits), smoothing)
    assert found.item() == pytest.approx(expected.item(), abs=1e-6)


def test_boxes_have_one_place_at_every_size():
    count = 500
    rows, partners = torch.arange(0, 2 * count, 2), torch.arange(1, 2 * count, 2)
    mix = draw_mix(Augmentation(cutmix=1.0), 0, rows, partners)
    boxes = {size: boxes_of(mix, size, size).double() / size for size in (32, 224)}
    assert (boxes[32] - boxes[224]).abs().max() <= 2 / 32
    shares = {size: shares_of(mix, size, size) for size in (32, 224)}
    assert (shares[32] - shares[224]).abs().max() < 0.1
    assert (shares[224] >= mix.share / WHOLE - 1e-6).all()  # what is cut off at a border stays


# What is drawn


@pytest.mark.parametrize("size", [2, 3, 10, 31])
def test_partners_are_mutual(size):
    partners = partners_of(0, 4, size)
    assert torch.equal(partners[partners], torch.arange(size))
    assert (partners == torch.arange(size)).sum() == size % 2
    assert size < 10 or not torch.equal(partners, partners_of(0, 5, size))
    assert size < 10 or not torch.equal(partners, partners_of(1, 4, size))


def test_pairs_stand_side_by_side_in_a_shuffled_order():
    partners, order = partners_of(0, 0, 31), torch.randperm(31, generator=torch.Generator().manual_seed(0))
    placed = side_by_side(order, partners)
    assert torch.equal(placed.sort().values, torch.arange(31))
    first, second = placed[:30].view(-1, 2).unbind(1)
    assert torch.equal(partners[first], second) and partners[placed[30]] == placed[30]
    assert torch.equal(first[:1], order[:1])  # pairs come where the earlier of their rows stood
    firsts = [row for row in order.tolist() if row in set(first.tolist())]
    assert firsts == first.tolist()


def test_probabilities_and_shares_are_those_asked_for():
    count = 20_000
    rows, partners = torch.arange(0, 2 * count, 2), torch.arange(1, 2 * count, 2)

    def drawn(**options):
        mix = draw_mix(Augmentation(**options), 0, rows, partners)
        return mix, (mix.share.double() / WHOLE)

    mix, share = drawn(mixup=0.4, cutmix=2.0, mixup_switch_prob=0.3, mixup_prob=0.8)
    mixed = share != 1
    assert mixed.double().mean().item() == pytest.approx(0.8, abs=0.02)
    assert mix.cut.double().mean().item() == pytest.approx(0.3, abs=0.02)
    assert share[mixed & mix.cut].var().item() == pytest.approx(1 / 20, abs=2e-3)
    assert share[mixed & ~mix.cut].var().item() == pytest.approx(1 / 7.2, abs=5e-3)
    assert not drawn(mixup=0.4)[0].cut.any()
    assert drawn(cutmix=0.4)[0].cut.all()
    assert drawn(mixup=1.0, cutmix=1.0, mixup_switch_prob=1.0)[0].cut.all()
    assert not drawn(mixup=1.0, cutmix=1.0, mixup_switch_prob=0.0)[0].cut.any()
    other = draw_mix(Augmentation(mixup=0.4), 0, partners, rows)  # the other rows of the same pairs
    assert all(torch.equal(*pair) for pair in zip(other, drawn(mixup=0.4)[0], strict=True))
    alone = draw_mix(BOTH, 0, rows, rows)
    assert (alone.share == WHOLE).all()


# Batches


@pytest.mark.parametrize("where", ["resident", "decoded", "large"])
@pytest.mark.parametrize("views", [1, 2])
def test_a_batch_is_the_mix_of_augmented_images(small, large, where, views):
    data = large if where == "large" else small
    options = {"default_size": 24} | ({"resident_max_bytes": 0} if where == "decoded" else {})
    mixed = training_set(data, BOTH, views, **options)
    assert isinstance(mixed, MixedImages) and mixed.mixes and mixed.resident == (where == "resident")
    rows = [6, 1, 4, 0, 3, 8]
    partners = partners_of(BOTH.seed, 2, len(mixed))[rows]
    batch = batch_of(mixed, rows, epoch=2)
    plain = [batch_of(mixed.dataset, each, epoch=2) for each in (rows, partners.tolist())]
    mix = draw_mix(BOTH, 2, torch.tensor(rows), partners)
    expected = mix_images(plain[0]["pixel_values"], plain[1]["pixel_values"], mix)
    assert torch.equal(batch["pixel_values"], expected)
    assert not torch.equal(expected, plain[0]["pixel_values"])
    assert torch.equal(batch["labels"], plain[0]["labels"]) and torch.equal(batch["mixed_labels"], plain[1]["labels"])
    assert torch.equal(batch["mix"], shares_of(mix, *expected.shape[-2:])) and batch["mix"].dtype == torch.float32
    assert (batch["sample_ids"].tolist(), batch["global_rows"]) == (rows, len(rows))
    flat = batch["pixel_values"].flatten(0, 1)
    assert (
        flat.is_contiguous(memory_format=torch.channels_last) and flat.data_ptr() == batch["pixel_values"].data_ptr()
    )
    assert batch_of(mixed, [])["mix"].shape == (0,)


@pytest.mark.parametrize("where", ["resident", "large"])
def test_workers_and_other_batches_do_not_matter(small, large, where):
    mixed = training_set(large if where == "large" else small, default_size=24)
    whole = batch_of(mixed, list(range(len(mixed))), epoch=1)
    seen = []
    for workers, size in ((0, 4), (2, 4), (0, 3)):
        sampler = mixed.batch_sampler(size, seed=workers + size)
        sampler.set_epoch(1)
        for batch in make_loader(mixed, sampler, workers):
            ids = batch["sample_ids"]
            for name in ("pixel_values", "labels", "mixed_labels", "mix"):
                assert torch.equal(batch[name], whole[name][ids]), name
            seen.append(len(ids))
    assert sum(seen) >= 3 * (len(mixed) - 1)


def test_processes_share_the_batches_of_one(small, monkeypatch):
    mixed = training_set(small)
    one = [mixed.__getitems__(key) for key in mixed.batch_sampler(8, seed=0)]
    parts = []
    monkeypatch.setattr(distributed, "world_size", lambda: 2)
    for rank in range(2):
        monkeypatch.setattr(distributed, "rank", lambda rank=rank: rank)
        parts.append([mixed.__getitems__(key) for key in mixed.batch_sampler(4, seed=0)])
    assert len(one) == len(parts[0]) == len(parts[1]) == 3
    for whole, first, second in zip(one, *parts, strict=True):
        for name in ("pixel_values", "mixed_labels", "mix", "sample_ids"):
            assert torch.equal(whole[name], torch.cat([first[name], second[name]])), name


@pytest.mark.parametrize("size", [4, 3])
def test_nothing_is_decoded_twice(large, monkeypatch, size):
    """But the partner of the row that an odd batch cuts off."""
    read = []
    original = StoredImage.whole
    monkeypatch.setattr(StoredImage, "whole", lambda image: read.append(image.what) or original(image))
    mixed = training_set(large, default_size=24).with_teacher(spec_of(32))
    keys = list(mixed.batch_sampler(size, seed=0))
    for key in keys:
        assert "teacher_pixel_values" in mixed.__getitems__(key)
    rows = sum(len(key.indices) for key in keys)
    assert len(set(read)) == rows and len(read) == rows + (0 if size == 4 else 2)


@pytest.mark.parametrize("where", ["small", "large"])
def test_the_teacher_sees_the_same_mix(request, where):
    data, size, other = request.getfixturevalue(where), *((16, 8) if where == "small" else (24, 48))
    mixed = training_set(data, image_size=size)
    pair = mixed.with_teacher(spec_of(other))
    rows = [5, 0, 3, 1]
    batch, own = batch_of(pair, rows), batch_of(mixed.for_classifier(spec_of(other)), rows)
    assert torch.equal(batch["teacher_pixel_values"], own["pixel_values"])
    assert torch.equal(batch["pixel_values"], batch_of(mixed, rows)["pixel_values"])
    assert torch.equal(batch["mix"], batch_of(mixed, rows)["mix"])
    assert mixed.with_teacher(spec_of(size)) is mixed and mixed.for_classifier(spec_of(size)) is mixed


def test_evaluation_is_never_mixed(small):
    pipeline = ImagePipeline(small, BOTH)
    assert not pipeline.dataset("train").mixes and not pipeline.dataset("test").mixes
    keys = training_set(small).batch_sampler(5)
    assert torch.cat([key.indices for key in keys]).tolist() == list(range(19))


def test_plain_data_sets_can_be_mixed(small):
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(256, (10, 3, 9, 9), dtype=torch.uint8, generator=generator)
    plain = as_training_batches(torch.utils.data.TensorDataset(images, torch.arange(10) % 2), ["a", "b"], seed=0)
    mixed = MixedImages(plain, Augmentation(mixup=1.0))
    batch = batch_of(mixed, [3, 7, 1])
    partners = partners_of(0, 0, 10)[[3, 7, 1]]
    mix = draw_mix(mixed.augmentation, 0, torch.tensor([3, 7, 1]), partners)
    assert torch.equal(batch["pixel_values"], mix_images(images[[3, 7, 1], None], images[partners, None], mix))


def test_the_same_bits_on_any_device(device):
    images = torch.randint(0, 256, (40, 2, 3, 15, 15), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    mix = draw_mix(BOTH, 0, torch.arange(40), torch.arange(40).flip(0))
    there = images.to(device)
    assert torch.equal(mix_images(there, there.flip(0), mix).cpu(), mix_images(images, images.flip(0), mix))


# Options


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"mixup": -1}, "mixup is -1, expected 0, for none, or a parameter of Beta from 0.01 to 10"),
        ({"cutmix": 11}, "cutmix is 11, expected 0"),
        ({"mixup": 0.2, "mixup_prob": 0}, "mixup_prob is 0, expected a number above 0 and at most 1"),
        ({"mixup": 0.2, "cutmix": 1, "mixup_switch_prob": 2}, "mixup_switch_prob is 2, expected a number at least 0"),
        ({"mixup_prob": 0.5}, "mixup_prob is 0.5 but nothing is mixed, expected --mixup or --cutmix with it"),
        ({"mixup": 0.2, "mixup_switch_prob": 0.3}, "but mixup is 0.2 and cutmix 0.0; give both"),
    ],
)
def test_options_out_of_range(options, message):
    for make in (Augmentation, TrainingDataArguments):
        with pytest.raises(ValueError, match=message):
            make(**options)


def test_nothing_is_mixed_without_augmentation():
    with pytest.raises(ValueError, match=r"augmentation is 'none' but mixup is 0\.2: nothing would be augmented"):
        TrainingDataArguments(augmentation="none", mixup=0.2)


def test_a_run_that_does_not_mix_keeps_its_record_and_its_order():
    assert BOTH.recorded() == {
        "crop_padding": None, "min_crop_scale": 0.35, "horizontal_flip": None, "seed": 3, "color_jitter": 0.0,
        "trivial_augment": False, "random_erasing": 0.0, "mixup": 0.4, "cutmix": 1.0,
    }  # fmt: skip
    assert "mixup" not in Augmentation(aa="v0").recorded() and Augmentation(aa="v0").recorded()["aa"] == "v0"
    keys = KeyedBatchSampler(6, 6, seed=0)
    assert next(iter(keys)).indices.tolist() == mixing.permutation(0, 0, 6).tolist()
