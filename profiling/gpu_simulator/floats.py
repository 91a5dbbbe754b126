"""IEEE arithmetic that numpy lacks: fused multiply-add, directed rounding, flush to zero, PTX minimum and maximum.

f32 results are correctly rounded: the float64 sum is nudged to odd wherever a second rounding could go wrong. f64
fused multiply-add uses error-free transformations (Dekker's product, Knuth's sum, rounding to odd after Boldo and
Melquiond); it is exact short of overflow or underflow of an intermediate product, where it falls back to a*b+c.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

_F32_TINY = float(np.finfo(np.float32).tiny)
_SPLITTER = 134217729.0  # 2**27 + 1
_MANTISSA = np.int64((1 << 52) - 1)
_LOW_29_BITS, _HALF_ULP_OF_F32 = np.int64(0x1FFFFFFF), np.int64(0x10000000)


def flush(values: np.ndarray) -> np.ndarray:
    """Subnormal float32 to zero of the same sign."""
    subnormal = np.abs(values) < np.float32(_F32_TINY)
    return np.where(subnormal, np.copysign(np.float32(0), values), values) if subnormal.any() else values


def flushing(function: Callable[..., np.ndarray]) -> Callable[..., np.ndarray]:
    """The .ftz variant of a float32 function."""
    return lambda *operands: flush(function(*(flush(operand) for operand in operands)))


def saturating(function: Callable[..., np.ndarray]) -> Callable[..., np.ndarray]:
    """The .sat variant: clamped to [0, 1], NaN to 0."""

    def saturated(*operands: np.ndarray) -> np.ndarray:
        values = function(*operands)
        return np.where(np.isnan(values), values.dtype.type(0), np.clip(values, 0, 1))

    return saturated


def two_sum(a: np.ndarray, b: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """a + b as rounded sum and exact error."""
    total = a + b
    virtual = total - a
    return total, (a - (total - virtual)) + (b - virtual)


def two_product(a: np.ndarray, b: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """a * b as rounded product and exact error."""
    product = a * b
    a_high, a_low = _split(a)
    b_high, b_low = _split(b)
    return product, ((a_high * b_high - product) + a_high * b_low + a_low * b_high) + a_low * b_low


def _split(a: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    scaled = a * _SPLITTER
    high = scaled - (scaled - a)
    return high, a - high


def round_to_odd(total: np.ndarray, error: np.ndarray) -> np.ndarray:
    """total + error to the neighbour with an odd last bit, unless it is exact."""
    raw = np.ascontiguousarray(total).view(np.int64)
    outward = np.where((error > 0) == (total > 0), np.int64(1), np.int64(-1))
    odd = np.where((error != 0) & (raw & 1 == 0) & (total != 0), raw + outward, raw).view(np.float64)
    return np.where(total == 0, error, odd)


def fma_f64(a: np.ndarray, b: np.ndarray, c: np.ndarray) -> np.ndarray:
    """a * b + c with one rounding.

    The sum is high + rest, where rest is rounded itself. That can only matter where rest falls on a rounding boundary
    of the sum, half or a quarter of a unit in the last place of high, which is a power of two.
    """
    product, product_error = two_product(a, b)
    low, low_error = two_sum(c, product_error)
    high, high_error = two_sum(product, low)
    rest = np.atleast_1d(low_error + high_error)
    on_boundary = (rest.view(np.int64) & _MANTISSA == 0) & (rest != 0)
    if on_boundary.any():
        errors = (np.broadcast_to(error, rest.shape)[on_boundary] for error in (low_error, high_error))
        rest[on_boundary] = round_to_odd(*two_sum(*errors))
    result = high + rest
    finite = np.isfinite(result)
    return result if finite.all() else np.where(finite, result, a * b + c)


def sum_to_f32(a: np.ndarray, b: np.ndarray, rounding: str = "rn") -> np.ndarray:
    """The exact sum of two float64 arrays, rounded once to float32 (rn, rz, rm = down, rp = up)."""
    total = np.atleast_1d(a + b)
    result = total.astype(np.float32)
    if rounding == "rn":
        raw = total.view(np.int64)
        doubtful = ((raw & _LOW_29_BITS) == _HALF_ULP_OF_F32) | (np.abs(total) < 2 * _F32_TINY)
        if doubtful.any():
            a, b = np.broadcast_to(a, total.shape)[doubtful], np.broadcast_to(b, total.shape)[doubtful]
            result[doubtful] = round_to_odd(*two_sum(a, b)).astype(np.float32)
        return result
    error = two_sum(a, b)[1]
    above = (result > total) | ((result == total) & (error < 0))
    below = (result < total) | ((result == total) & (error > 0))
    inward = above & (total > 0) | below & (total < 0)
    adjust = {"rm": above, "rp": below, "rz": inward}[rounding]
    toward = {"rm": -np.inf, "rp": np.inf, "rz": 0.0}[rounding]
    return np.where(adjust & np.isfinite(result), np.nextafter(result, np.float32(toward)), result)


def fma_f32(a: np.ndarray, b: np.ndarray, c: np.ndarray, rounding: str = "rn") -> np.ndarray:
    """a * b + c with one rounding; the product of two float32 is exact in float64."""
    return sum_to_f32(a.astype(np.float64) * b, c.astype(np.float64), rounding)


def minimum(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """PTX min: the number where one operand is NaN, and -0 below +0."""
    return np.where((a == 0) & (b == 0), np.where(np.signbit(a), a, b), np.fmin(a, b))


def maximum(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """PTX max: the number where one operand is NaN, and +0 above -0."""
    return np.where((a == 0) & (b == 0), np.where(np.signbit(a), b, a), np.fmax(a, b))


def reciprocal_seed(a: np.ndarray) -> np.ndarray:
    """rcp.approx.ftz.f64: the hardware returns a seed for Newton steps, with the low 32 bits clear."""
    raw = (1.0 / np.ascontiguousarray(a)).view(np.uint64)
    return (raw & np.uint64(0xFFFF_FFFF_0000_0000)).view(np.float64)


def through_f64(function: Callable[[np.ndarray], np.ndarray]) -> Callable[[np.ndarray], np.ndarray]:
    """An approximate f32 instruction, modelled as the exact value rounded to float32."""
    return lambda a: function(a.astype(np.float64)).astype(a.dtype)
