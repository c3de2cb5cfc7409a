"""Keyed numbers of a Beta distribution: exact quantiles, the right shape, the same bits for ever."""

from __future__ import annotations

import math
from fractions import Fraction

import pytest
import torch

from hf_icckd.utils.beta import beta_numbers

STEPS = torch.arange(1024) << 22  # words at which the quantiles are exact


def polynomial(alpha: int, x: float) -> float:
    """Distribution function of Beta(alpha, alpha) for whole alpha: a binomial probability, in exact fractions."""
    x, n = Fraction(x), 2 * alpha - 1
    return float(sum(math.comb(n, k) * x**k * (1 - x) ** (n - k) for k in range(alpha, n + 1)))


@pytest.mark.parametrize("alpha", [1, 2, 3, 8])
def test_quantiles_of_whole_parameters(alpha):
    found = beta_numbers(STEPS, alpha).tolist()
    assert [polynomial(alpha, value) for value in found] == pytest.approx([k / 1024 for k in range(1024)], abs=1e-14)


def test_quantiles_of_the_arcsine_distribution():
    expected = (math.pi / 2 * STEPS.double() / 2**32).sin().square()
    torch.testing.assert_close(beta_numbers(STEPS, 0.5), expected, rtol=1e-14, atol=0)


@pytest.mark.parametrize("alpha", [0.01, 0.1, 0.2, 0.8, 1.0, 2.5, 10.0])
def test_numbers_are_symmetric_and_have_the_variance(alpha):
    words = torch.arange(0, 2**32, 2**15 + 1)
    numbers = beta_numbers(words, alpha)
    assert numbers.min() >= 0 and numbers.max() <= 1 and (numbers.diff() >= 0).all()
    torch.testing.assert_close(numbers, 1 - beta_numbers(2**32 - 1 - words, alpha), rtol=0, atol=1e-6)
    assert numbers.mean().item() == pytest.approx(0.5, abs=1e-4)
    assert numbers.var().item() == pytest.approx(1 / (4 * (2 * alpha + 1)), rel=1e-2)


def test_their_bits_never_change():
    """The same on every machine: a run that mixes depends on them."""
    found = [number.hex() for number in beta_numbers(torch.tensor([7, 2**22, 3_000_000_000]), 0.2).tolist()]
    assert found == ["0x1.5aed892b3b2f8p-65", "0x1.8c7d2f0cd5ed2p-46", "0x1.e1a46e10b222cp-1"]
