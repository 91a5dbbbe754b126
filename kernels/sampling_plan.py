"""What the passes over weighted samples are, on every back end, and the arithmetic of their weights."""

from __future__ import annotations

import math
from typing import NamedTuple

WORD_BITS = 31
"""Bits of a random word that decide a draw; the thresholds fit into int32."""

ONE = (1 << 24) - 1
"""The largest integer weight. A block of 256 samples adds up to less than 2^32."""

HEADROOM = 8.0 * math.log(2.0)
"""Distance of the best log weight from the reference of integer weights at which 16 of their 24 bits are left."""

LARGEST_GAIN = 600.0
"""Log of the largest weight of a changed sample relative to the best sample as drawn; below overflow of float64."""

SHARPNESS_EXPONENTS, BISECTIONS = (-10.0, 20.0), 25
"""Base-2 logarithms of the least and the largest sharpness tried, and halvings of that range: to 1e-6."""

TINY = 1e-300
"""A positive number that makes 0 / 0 a 0."""


class Plan(NamedTuple):
    """The passes over the samples. pilot: samples from which the best weight is guessed; 0 for none."""

    n_samples: int
    pilot: int
    sharpness: float
    target_ess: float
