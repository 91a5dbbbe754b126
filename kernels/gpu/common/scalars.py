"""Makes Python numbers scalar arguments of a kernel."""

from __future__ import annotations

import struct


def signed(seed: int) -> int:
    """The low 64 bits of the seed as an int64."""
    return (seed + (1 << 63)) % (1 << 64) - (1 << 63)


def high_and_low(number: float) -> tuple[float, float]:
    """As the sum of two float32: a scalar argument has no more bits."""
    (high,) = struct.unpack("f", struct.pack("f", number))
    return high, number - high
