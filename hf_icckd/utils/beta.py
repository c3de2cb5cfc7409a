"""Numbers from a symmetric Beta distribution, with the same bits on every machine.

Powers and logarithms of floating point differ in their last bit between processors and versions of libraries. Those of
`decimal` are rounded correctly everywhere, so a table of quantiles is computed with them. What follows are single
operations in float64, which IEEE 754 defines to the bit.
"""

from __future__ import annotations

import functools
from decimal import Context, Decimal, localcontext

import torch
from torch import Tensor

_BITS = 10  # the table has 2**10 steps of equal probability
_PRECISE = Context(prec=24, Emin=-999_999, Emax=999_999)
_ENOUGH = Decimal("1e-20")


def beta_numbers(words: Tensor, alpha: float) -> Tensor:
    """Turn random words into numbers that follow Beta(alpha, alpha).

    Every 1024th quantile is exact; between two of them the numbers are uniform.

    Args:
        words: (N,) int64, uniform on 0 to 2**32 - 1, on the CPU.
        alpha: Both parameters of the distribution, 0.01 to 10.

    Returns:
        (N,) float64 from 0 to 1.

    Example:
        >>> beta_numbers(torch.tensor([0, 2**30, 2**31]), alpha=1.0).tolist()
        [0.0, 0.25, 0.5]
    """
    table, shift = torch.tensor(_quantiles(alpha), dtype=torch.float64), 32 - _BITS
    step, within = words >> shift, (words & ((1 << shift) - 1)).double() / (1 << shift)
    return table[step] + (table[step + 1] - table[step]) * within


@functools.cache
def _quantiles(alpha: float) -> tuple[float, ...]:
    """Quantiles of Beta(alpha, alpha) in 2**10 steps of equal probability, ends included.

    Newton's method on the logarithm of the distribution function over that of x, where it is concave: from the
    quantile before it approaches the next one from below.
    """
    half = 1 << (_BITS - 1)
    with localcontext(_PRECISE):
        a = Decimal(alpha)
        middle = _log_integral(Decimal("0.5"), a)[0]
        # The first guess takes the distribution function for a power of x.
        log_x = ((Decimal(1) / half).ln() + middle + a.ln()) / a
        lower = [0.0]
        for step in range(1, half):
            target = (Decimal(step) / half).ln() + middle
            while True:
                value, slope = _log_integral(log_x.exp(), a)
                change = (target - value) / slope
                log_x += change
                if abs(change) < _ENOUGH:
                    break
            lower.append(float(log_x.exp()))
    return (*lower, 0.5, *(1 - value for value in reversed(lower)))


def _log_integral(x: Decimal, a: Decimal) -> tuple[Decimal, Decimal]:
    """Logarithm of the incomplete Beta function B(x; a, a), and its slope over log x; x is at most 0.5.

    Reference:
        Abramowitz, Stegun: Handbook of Mathematical Functions, 26.5.4: a series of positive terms.
    """
    total, term, n = Decimal(1), Decimal(1), 0
    while term > _ENOUGH * total:
        term *= x * (2 * a + n) / (a + 1 + n)
        total += term
        n += 1
    log_x, log_rest = x.ln(), (1 - x).ln()
    return a * (log_x + log_rest) - a.ln() + total.ln(), a / ((1 - x) * total)
