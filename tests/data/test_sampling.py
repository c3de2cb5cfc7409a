"""Batches: every image once an epoch, the same ones in a step whatever the number of processes; cuts and subsets."""

from __future__ import annotations

import accelerate
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from hf_icckd.data.loading import make_loader
from hf_icckd.data.resident import ResidentImages
from hf_icckd.data.sampling import (
    BatchKey,
    KeyedBatchSampler,
    balanced_subset,
    rank_within_class,
    stratified_split,
)
from hf_icckd.utils import distributed

QUICK = settings(max_examples=60, deadline=None)
LABELS = st.lists(st.integers(0, 6), min_size=1, max_size=60).map(np.array)


@pytest.fixture
def epoch_of(monkeypatch):
    """Makes the batches of one epoch, as lists of ranks, for a pretended number of processes."""

    def make(num_samples: int, global_batch: int, world: int, seed: int | None = 0, epoch: int = 0):
        ranks = []
        for rank in range(world):
            monkeypatch.setattr(distributed, "world_size", lambda: world)
            monkeypatch.setattr(distributed, "rank", lambda rank=rank: rank)
            sampler = KeyedBatchSampler(num_samples, global_batch // world, seed)
            sampler.set_epoch(epoch)
            batches = list(sampler)
            assert len(sampler) == len(batches)
            ranks.append(batches)
        assert len({len(batches) for batches in ranks}) == 1
        return list(zip(*ranks, strict=True))

    return make


def joined(step: tuple[BatchKey, ...]) -> list[int]:
    return torch.cat([key.indices for key in step]).tolist()


@pytest.mark.parametrize("world", [1, 2, 3, 4])
@pytest.mark.parametrize("num_samples", [24, 25, 29, 35, 36, 100])
@pytest.mark.parametrize("seed", [0, None])
def test_every_sample_comes_once_in_even_slices(epoch_of, num_samples, world, seed):
    steps = epoch_of(num_samples, 12, world, seed)
    seen = [row for step in steps for row in joined(step)]
    assert len(set(seen)) == len(seen)
    dropped = num_samples - len(seen)
    assert dropped == (num_samples % 12 if seed is not None and num_samples % 12 < max(2, world) else 0)
    for step in steps:
        sizes = [len(key.indices) for key in step]
        assert sum(sizes) == step[0].global_rows
        assert sizes == distributed.even_split(step[0].global_rows, world)
        assert seed is None or min(sizes) >= 1
    if seed is None:
        assert seen == list(range(num_samples))


@pytest.mark.parametrize("world", [2, 3, 4])
def test_a_step_takes_the_same_images_with_any_number_of_processes(epoch_of, world):
    alone, together = epoch_of(53, 12, 1, 5, 2), epoch_of(53, 12, world, 5, 2)
    assert [joined(step) for step in alone] == [joined(step) for step in together]
    assert {key.epoch for step in together for key in step} == {2}


def test_a_small_remainder_is_dropped_in_training_and_leaves_an_empty_slice_in_evaluation(epoch_of):
    assert [sum(len(key.indices) for key in step) for step in epoch_of(26, 12, 4)] == [12, 12]
    last = epoch_of(26, 12, 4, seed=None)[-1]
    assert [key.indices.tolist() for key in last] == [[24], [25], [], []]
    images = ResidentImages(torch.zeros(26, 3, 4, 4, dtype=torch.uint8), torch.zeros(26, dtype=torch.long))
    assert images.__getitems__(last[3])["pixel_values"].shape == (0, 1, 3, 4, 4)


def test_another_epoch_and_another_seed_have_another_order(epoch_of):
    orders = [joined(epoch_of(40, 40, 1, seed, epoch)[0]) for seed, epoch in ((0, 0), (0, 1), (1, 0))]
    assert len(set(map(tuple, orders))) == 3


def test_changing_the_epoch_does_not_disturb_a_running_one():
    sampler = KeyedBatchSampler(20, 5, seed=0)
    expected = [key.indices.tolist() for key in sampler]
    running = iter(sampler)
    first = next(running)
    sampler.set_epoch(3)
    assert [key.indices.tolist() for key in (first, *running)] == expected


def test_impossible_sizes_are_refused(epoch_of):
    with pytest.raises(ValueError, match="batch size is 0, expected at least 1"):
        KeyedBatchSampler(10, 0)
    with pytest.raises(ValueError, match="2 training images for 3 processes, expected"):
        epoch_of(2, 12, 3)
    with pytest.raises(ValueError, match="1 training images for 1 processes, expected one for each and at least two"):
        epoch_of(1, 12, 1)


def test_skipped_batches_leave_the_later_ones_as_they_were():
    images = torch.arange(50, dtype=torch.uint8)[:, None, None, None].expand(50, 3, 4, 4)
    loader = make_loader(ResidentImages(images, torch.arange(50)), KeyedBatchSampler(50, 8, seed=3))
    loader.batch_sampler.set_epoch(1)
    batches = list(loader)
    assert [len(batch["labels"]) for batch in batches] == [8] * 6 + [2]
    skipped = list(accelerate.skip_first_batches(loader, 4))
    assert len(skipped) == 3
    for batch, other in zip(batches[4:], skipped, strict=True):
        assert torch.equal(batch["sample_ids"], other["sample_ids"])
        assert torch.equal(batch["pixel_values"], other["pixel_values"])


def test_helpers_of_one_process():
    rows = torch.ones(3, 2, requires_grad=True)
    assert not distributed.gather_rows(rows, 3).requires_grad
    assert distributed.gather_rows_with_gradient(rows, 3).requires_grad
    assert distributed.local_share(3, 3) == 1
    with pytest.raises(ValueError, match="holds 3 rows, expected 4 of a global batch of 4"):
        distributed.gather_rows(rows, 4)


@QUICK
@given(total=st.integers(0, 200), parts=st.integers(1, 9))
def test_even_split(total, parts):
    sizes = distributed.even_split(total, parts)
    assert len(sizes) == parts
    assert sum(sizes) == total
    assert sizes == sorted(sizes, reverse=True)
    assert sizes[0] - sizes[-1] <= 1


@QUICK
@given(labels=LABELS)
def test_rank_within_class(labels):
    assert rank_within_class(labels).tolist() == [(labels[:i] == label).sum() for i, label in enumerate(labels)]


@QUICK
@given(labels=LABELS, fraction=st.floats(0.01, 0.99), seed=st.integers(0, 3))
def test_a_stratified_split_takes_its_share_of_every_class(labels, fraction, seed):
    keep, cut = stratified_split(labels, fraction, seed)
    assert sorted([*keep, *cut]) == list(range(len(labels)))
    assert (np.diff(keep) > 0).all()
    assert (np.diff(cut) > 0).all()
    for label in np.unique(labels):
        count, taken = (labels == label).sum(), (labels[cut] == label).sum()
        assert taken < count
        assert taken >= (count > 1)
        assert abs(taken - count * fraction) <= 1
    again = stratified_split(labels, fraction, seed)
    assert np.array_equal(again[0], keep)


def test_another_seed_makes_another_split():
    labels = np.repeat(np.arange(4), 25)
    assert not np.array_equal(stratified_split(labels, 0.2, 0)[1], stratified_split(labels, 0.2, 1)[1])


@QUICK
@given(labels=LABELS, size=st.integers(1, 70))
def test_a_balanced_subset_is_balanced(labels, size):
    rows = balanced_subset(labels, size)
    assert len(set(rows)) == len(rows) == min(size, len(labels))
    assert (np.diff(rows) > 0).all()
    total, taken = np.bincount(labels), np.bincount(labels[rows], minlength=labels.max() + 1)
    # A class may lag behind the most frequent one by more than one image only when it has no more.
    assert ((taken >= taken.max() - 1) | (taken == total)).all()
