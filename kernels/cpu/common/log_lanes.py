"""Logarithms of float64 lanes: one of the library for each number takes as long as a small circuit."""

from __future__ import annotations

import math

from numba import types

from emnesy_gpu.kernels.cpu.common.compile import inlined
from emnesy_gpu.kernels.cpu.common.lanes import (
    LOG_2_PARTS,
    exponent_of,
    filled,
    multiply_add,
    power_of_two,
    where_less,
)

HIGH, LOW = LOG_2_PARTS[types.float64]
SQRT_2 = math.sqrt(2.0)
COEFFICIENTS = tuple(2.0 / (2 * k + 1) for k in range(9, -1, -1))
"""Of s, s^3, ... in log((1 + s) / (1 - s)), the last one first: for |s| up to 0.172 no more counts."""


@inlined
def logarithm(like, x):
    """log(x) of positive normal numbers below 2^1023, within some roundings also near 1; like: an array of them."""
    exponent = exponent_of(x)
    mantissa = x * power_of_two(exponent * -1.0)
    # Between the roots of 1/2 and 2, so that nothing cancels near 1.
    shift = where_less(mantissa, SQRT_2, 0.0, 1.0)
    mantissa, exponent = mantissa * (1.0 - 0.5 * shift), exponent + shift
    s = (mantissa - 1.0) / (mantissa + 1.0)
    square, total = s * s, filled(like, 0.0)
    for coefficient in COEFFICIENTS:
        total = multiply_add(total, square, coefficient)
    return multiply_add(exponent, HIGH, multiply_add(total, s, exponent * LOW))
