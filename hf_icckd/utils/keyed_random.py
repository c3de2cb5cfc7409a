"""Random numbers from a key instead of a state: the same bits on any device, in any batch, in any order.

A number is a pure function of `(seed, epoch, sample id, view, stream)`. So a training run draws the same numbers
whatever its workers, batches, interruptions and number of processes.

Reference:
    Salmon, Moraes, Dror, Shaw: Parallel Random Numbers: As Easy as 1, 2, 3. SC 2011 (Philox-4x32-10).
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import torch
from torch import Tensor

_MULTIPLIERS = (0xD2511F53, 0xCD9E8D57)
_WEYL = (0x9E3779B9, 0xBB67AE85)
_MASK = 0xFFFFFFFF
_ROUNDS = 10

# One stream per use, so that no two decisions share their bits.
STREAM_ORDER, STREAM_CROP, STREAM_FLIP, STREAM_COLOR, STREAM_TRIVIAL, STREAM_ERASE, STREAM_FILL = range(7)
STREAM_PAIR, STREAM_MIX, STREAM_BOX = range(7, 10)
STREAM_DRAW, STREAM_REMAINDER = range(10, 12)
STREAM_POLICY = 256  # the first of several: a policy has one for each of its decisions


def _multiply(multiplier: int, word: Tensor) -> tuple[Tensor, Tensor]:
    """Return the high and low 32 bits of a 32 x 32 bit product; no int64 overflows on the way."""
    low_half = word * (multiplier & 0xFFFF)
    high_half = word * (multiplier >> 16)
    high = (high_half + (low_half >> 16)) >> 16
    low = (((high_half & 0xFFFF) << 16) + low_half) & _MASK
    return high, low


def philox4x32(counter: Sequence[Tensor], key: tuple[int, int]) -> list[Tensor]:
    """Philox-4x32 with ten rounds.

    Args:
        counter: Four int64 tensors of equal shape with values below 2**32.
        key: Two integers below 2**32.

    Returns:
        Four int64 tensors of that shape, each uniform on 0 to 2**32 - 1.
    """
    c0, c1, c2, c3 = counter
    k0, k1 = key
    for _ in range(_ROUNDS):
        high0, low0 = _multiply(_MULTIPLIERS[0], c0)
        high1, low1 = _multiply(_MULTIPLIERS[1], c2)
        c0, c1, c2, c3 = high1 ^ c1 ^ k0, low1, high0 ^ c3 ^ k1, low0
        k0, k1 = (k0 + _WEYL[0]) & _MASK, (k1 + _WEYL[1]) & _MASK
    return [c0, c1, c2, c3]


def random_words(seed: int, epoch: int, sample_ids: Tensor, view: int, stream: int) -> Tensor:
    """Four random 32-bit words per sample.

    Args:
        seed: Seed of the run, below 2**64.
        epoch: Epoch, below 2**32.
        sample_ids: (N,) int64, below 2**63.
        view: Index of the view, below 2**16.
        stream: What the numbers are for (a `STREAM_` constant), below 2**16.

    Returns:
        (N, 4) int64, each uniform on 0 to 2**32 - 1, on the device of `sample_ids`.
    """
    counter = [
        sample_ids & _MASK,
        sample_ids >> 32,
        torch.full_like(sample_ids, epoch),
        torch.full_like(sample_ids, (view << 16) | stream),
    ]
    return torch.stack(philox4x32(counter, (seed & _MASK, (seed >> 32) & _MASK)), dim=1)


def uniform(seed: int, epoch: int, sample_ids: Tensor, view: int, stream: int) -> Tensor:
    """Four float64 numbers in [0, 1) per sample, (N, 4); see `random_words`."""
    return random_words(seed, epoch, sample_ids, view, stream).double() / 2**32


def permutation(seed: int, epoch: int, size: int, stream: int = STREAM_ORDER) -> Tensor:
    """(size,) int64 permutation for an epoch: samples sorted by a keyed 62-bit number each."""
    words = random_words(seed, epoch, torch.arange(size), 0, stream)
    return torch.argsort((words[:, 0] << 30) ^ (words[:, 1] >> 2), stable=True)


def generator_seed(seed: int, *key: int) -> int:
    """Seed below 2**63 for a generator with a state: torch's own in a step of a process, a data set's for an image."""
    digest = hashlib.blake2b(" ".join(map(str, (seed, *key))).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little") >> 1
