"""Computes in the log2 semiring (log2-sum-exp2, +) on scalars and on 2 x 2 matrices with a separate scale.

A matrix is five values (m00, m01, m10, m11, scale): entry (i, j) stands for 2 ** (mij + scale), and the largest mij is
0, so that long products lose no bits to their own magnitude. ZERO is finite: differences of two zeros must not be NaN.
A logarithm that is not above LEAST_LOG2 stands for zero: it is far below those of all positive numbers, and far enough
above ZERO that what finite terms add to a zero does not lift it there.
"""

import triton
import triton.language as tl

ZERO = tl.constexpr(-1.0e30)
LEAST_LOG2 = tl.constexpr(-5.0e29)
LOG2_E = tl.constexpr(1.4426950408889634)
LN_2 = tl.constexpr(0.6931471805599453)


@triton.jit
def exp2(x):
    """2**x for x up to about 1000; NaN stays NaN.

    In float64 the Taylor series about the nearest integer, within 2e-16: the library function branches.
    """
    if x.dtype == tl.float64:
        finite = tl.where(x < -1022.0, -1022.0, x)
        whole = tl.floor(finite + 0.5)
        z = (finite - whole) * LN_2
        series = 1.0 + z * (1.0 / 13)
        for i in tl.static_range(12, 0, -1):
            series = 1.0 + z * series * (1.0 / i)
        power = ((whole.to(tl.int64) + 1023) << 52).to(tl.float64, bitcast=True)
        return tl.where(x < -1022.0, 0.0, series * power)
    else:
        return tl.exp2(x)


@triton.jit
def _reciprocal(x):
    """1 / x in float64 by two Newton steps from float32: a division would be a call that spills registers."""
    guess = (1.0 / x.to(tl.float32)).to(tl.float64)
    guess = guess * (2.0 - x * guess)
    return guess * (2.0 - x * guess)


@triton.jit
def log2_1p(t):
    """log2(1 + t) for t in [0, 1].

    In float32 a minimax polynomial, off by at most 1.8e-7: the library function is three times as long.
    In float64 the series of artanh about the nearer of 1 and 2.
    """
    if t.dtype == tl.float64:
        upper = t > 0.4142135623730951
        s = tl.where(upper, t - 1.0, t) * _reciprocal(tl.where(upper, t + 3.0, t + 2.0))
        square = s * s
        series = square * 0.0 + 1.0 / 23
        for i in tl.static_range(21, 0, -2):
            series = series * square + 1.0 / i
        return s * series * (2.0 * LOG2_E) + tl.where(upper, 1.0, 0.0)
    else:
        q = t * -0.009309153056971463 + 0.05205895950355889
        q = q * t - 0.13752128427244822
        q = q * t + 0.24186472388118366
        q = q * t - 0.34730106158802587
        q = q * t + 0.4786836932433698
        q = q * t - 0.721165805163002
        return t * (q * t + 1.4426898811427893)


@triton.jit
def log2(x):
    """log2(x) for x >= 1; 0 gives a finite number."""
    if x.dtype == tl.float64:
        bits = x.to(tl.int64, bitcast=True)
        mantissa = ((bits & 0xFFFFFFFFFFFFF) | 0x3FF0000000000000).to(tl.float64, bitcast=True)
        return ((bits - 0x3FF0000000000000) >> 52).to(tl.float64) + log2_1p(mantissa - 1.0)
    else:
        bits = x.to(tl.int32, bitcast=True)
        mantissa = ((bits & 0x7FFFFF) | 0x3F800000).to(tl.float32, bitcast=True)
        return ((bits >> 23) - 127).to(tl.float32) + log2_1p(mantissa - 1.0)


@triton.jit
def add(x, y):
    """log2(2**x + 2**y) for finite x and y."""
    high = tl.maximum(x, y)
    return high + log2_1p(exp2(tl.minimum(x, y) - high))


@triton.jit
def normalise(m00, m01, m10, m11, scale):
    """Moves the largest entry into the scale."""
    high = tl.maximum(tl.maximum(m00, m01), tl.maximum(m10, m11))
    return m00 - high, m01 - high, m10 - high, m11 - high, scale + high


@triton.jit
def compose(a00, a01, a10, a11, a_scale, b00, b01, b10, b11, b_scale):
    """The matrix product a b."""
    return normalise(
        add(a00 + b00, a01 + b10),
        add(a00 + b01, a01 + b11),
        add(a10 + b00, a11 + b10),
        add(a10 + b01, a11 + b11),
        a_scale + b_scale,
    )


@triton.jit
def compose_reversed(a00, a01, a10, a11, a_scale, b00, b01, b10, b11, b_scale):
    """The product b a: a reverse scan hands over the later factor first."""
    return compose(b00, b01, b10, b11, b_scale, a00, a01, a10, a11, a_scale)


@triton.jit
def vector_times_matrix(v0, v1, m00, m01, m10, m11):
    """The row vector v m, its larger entry moved to 0, and how far it was moved."""
    u0 = add(v0 + m00, v1 + m10)
    u1 = add(v0 + m01, v1 + m11)
    high = tl.maximum(u0, u1)
    return u0 - high, u1 - high, high


@triton.jit
def from_log_ratio(ratio):
    """The vector (v0, v1) with v1 - v0 = ratio and larger entry 0."""
    return tl.minimum(-ratio, 0.0), tl.minimum(ratio, 0.0)
