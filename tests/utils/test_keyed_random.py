"""Keyed random numbers: the published bits, uniform, independent of each other and of how they are asked for."""

from __future__ import annotations

import pytest
import torch

from hf_icckd.utils.keyed_random import STREAM_CROP, STREAM_FLIP, permutation, philox4x32, random_words, uniform

IDS = torch.arange(20_000)


@pytest.mark.parametrize(
    ("counter", "key", "expected"),
    [
        ((0, 0, 0, 0), (0, 0), "6627e8d5 e169c58d bc57ac4c 9b00dbd8"),
        ((0xFFFFFFFF,) * 4, (0xFFFFFFFF,) * 2, "408f276d 41c83b0e a20bc7c6 6d5451fd"),
        (
            (0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344),
            (0xA4093822, 0x299F31D0),
            "d16cfe09 94fdcceb 5001e420 24126ea1",
        ),
    ],
)
def test_philox_has_the_known_answers_of_random123(counter, key, expected):
    words = philox4x32([torch.tensor([word]) for word in counter], key)
    assert " ".join(f"{word.item():08x}" for word in words) == expected


def test_every_word_is_uniform():
    numbers = uniform(1, 2, IDS, 0, STREAM_CROP)
    assert numbers.min() >= 0
    assert numbers.max() < 1
    for column in numbers.T:
        counts = torch.histc(column, 64, 0, 1)
        chi_square = ((counts - len(IDS) / 64) ** 2 / (len(IDS) / 64)).sum()
        assert 30 < chi_square < 110  # 63 degrees of freedom: outside once in 5,000


def test_neighbouring_keys_are_not_correlated():
    base = uniform(3, 4, IDS, 0, STREAM_CROP)
    others = {
        "next sample": uniform(3, 4, IDS + 1, 0, STREAM_CROP),
        "next epoch": uniform(3, 5, IDS, 0, STREAM_CROP),
        "next seed": uniform(4, 4, IDS, 0, STREAM_CROP),
        "next view": uniform(3, 4, IDS, 1, STREAM_CROP),
        "next stream": uniform(3, 4, IDS, 0, STREAM_FLIP),
        "far sample": uniform(3, 4, IDS + 2**40, 0, STREAM_CROP),
        "next word": base.roll(1, dims=1),
    }
    for name, other in others.items():
        for word in range(4):
            correlation = torch.corrcoef(torch.stack([base[:, word], other[:, word]]))[0, 1]
            assert abs(correlation) < 5 / len(IDS) ** 0.5, name


def test_view_and_stream_have_their_own_bits():
    keys = [random_words(0, 0, torch.arange(4), view, stream) for view in range(4) for stream in range(4)]
    assert len({tuple(words.flatten().tolist()) for words in keys}) == 16


def test_the_batch_does_not_matter():
    words = random_words(7, 1, IDS[:100], 1, STREAM_CROP)
    order = torch.randperm(100, generator=torch.Generator().manual_seed(0))
    assert torch.equal(random_words(7, 1, order, 1, STREAM_CROP), words[order])
    assert torch.equal(random_words(7, 1, torch.tensor([41]), 1, STREAM_CROP)[0], words[41])
    assert random_words(7, 1, IDS[:0], 1, STREAM_CROP).shape == (0, 4)


def test_both_halves_of_a_seed_count():
    seeds = [0, 1, 2**32, 2**63, 2**64 - 1]
    assert len({tuple(random_words(seed, 0, IDS[:2], 0, 0).flatten().tolist()) for seed in seeds}) == len(seeds)


def test_a_permutation_is_one_and_another_in_each_epoch():
    orders = [permutation(seed, epoch, 997) for seed in range(3) for epoch in range(3)]
    for order in orders:
        assert torch.equal(order.sort().values, torch.arange(997))
    for index, order in enumerate(orders):
        for other in orders[index + 1 :]:
            assert (order == other).sum() < 12  # one is expected by chance
    assert torch.equal(permutation(2, 1, 997), orders[7])
    assert permutation(0, 0, 0).tolist() == []
    assert permutation(0, 0, 1).tolist() == [0]


def test_every_place_of_a_permutation_is_as_likely():
    places = torch.stack([permutation(0, epoch, 5) for epoch in range(2000)])
    counts = torch.stack([(places == value).sum(dim=0) for value in range(5)]).double()
    assert ((counts - 400) ** 2 / 400).sum() < 45  # 16 degrees of freedom: above once in 7,000
