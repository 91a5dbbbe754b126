"""Numbers of unlimited range in lanes: pairs (mantissa, exponent) that stand for mantissa * 2^exponent, both float64.

That is the range of log space without its logarithms. Zero has mantissa 0 and exponent ZERO_EXPONENT.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from emnesy_gpu.kernels.cpu.common.compile import lane_function
from emnesy_gpu.kernels.cpu.common.lane_scratch import scratch
from emnesy_gpu.kernels.cpu.common.lanes import (
    LOG2_E,
    exp_mantissa,
    load,
    maximum,
    nearest_integer,
    power_of_two,
    store,
    where_less,
)
from emnesy_gpu.kernels.logits import LARGEST_LOGIT

ZERO_EXPONENT = -(2.0**60)
"""The exponent of zero: far below that of any product of probabilities, yet finite: differences stay numbers."""

HARD_ZERO = -4 * LARGEST_LOGIT
"""Less than the difference of two finite logits: only -inf is as low."""

SMALLEST_EXPONENT = -1022.0
"""The smallest exponent of a normal float64: what is scaled by less is negligible next to a number about 1."""

LOG_2 = math.log(2.0)


class Pairs(NamedTuple):
    """Numbers in the rows of two scratch arrays [rows, lanes]; what does not need a wide range has no exponent."""

    mantissa: np.ndarray
    exponent: np.ndarray


def empty_pairs(rows: int) -> Pairs:
    """Uninitialised numbers."""
    return Pairs(scratch(rows, np.float64), scratch(rows, np.float64))


@lane_function
def get(pairs, row):
    """Mantissa and exponent of one row."""
    return load(pairs.mantissa, row), load(pairs.exponent, row)


@lane_function
def put(pairs, row, m, e):
    """Write mantissa and exponent, lanes or one number for all of them, into one row."""
    store(pairs.mantissa, row, m)
    store(pairs.exponent, row, e)


@lane_function
def plain(m, e):
    """The number itself, for exponents <= 0."""
    return m * power_of_two(maximum(e, SMALLEST_EXPONENT))


@lane_function
def exponential(x):
    """exp(x) for x <= 0, with a mantissa about 1."""
    e = nearest_integer(x * LOG2_E)
    return where_less(x, HARD_ZERO, 0.0, exp_mantissa(x, e)), where_less(x, HARD_ZERO, ZERO_EXPONENT, e)
