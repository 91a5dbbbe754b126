"""Computes one position of two addends: softmax, carry transfer matrix, and the posterior of its two digits.

For the sum digit s and carry-in c the digit pairs are (a, (s - c - a) mod BASE). With q reflected, r[j] = q[(s - j) mod
BASE], their log2 probabilities are p[a] + r[a] for c = 0 (carry out when a > s) and p[a] + r[a + 1] for c = 1 (carry
out when a >= s). All functions are elementwise: a tensor has any shape, and a symbol is a tuple of BASE tensors.
"""

from typing import NamedTuple

import triton
import triton.language as tl

from emnesy_gpu.kernels.gpu.carry_chain.pair_messages import Matrix, Messages, largest_path
from emnesy_gpu.kernels.gpu.common.log2_semiring import LOG2_E, ZERO, exp2, from_log_ratio, log2
from emnesy_gpu.kernels.gpu.common.status import INVALID_LABEL, INVALID_LOGITS, POSSIBLE

# Products lost to underflow (2 ** -126) change a larger sum by less than its last bit.
SMALLEST_SUM = tl.constexpr(2.0**-96)


class Position(NamedTuple):
    """What one position contributes; the identity matrix where there is none."""

    matrix: object  # Matrix, without the scale
    scale: object  # log2 of the probability that both softmaxes lack
    code: object  # status
    digit: object  # of the sum
    p: object  # tuple of BASE log2 weights
    r: object  # the same of the second symbol, reflected


@triton.jit
def _relative_log2(logits, BASE: tl.constexpr):
    """Log2 probabilities relative to the largest; NaN among them if a logit is NaN or +inf, or all are -inf."""
    high = logits[0]
    for a in tl.static_range(1, BASE):
        high = tl.maximum(high, logits[a])
    relative = ()
    for a in tl.static_range(BASE):
        # Subtract first: scaling large logits before the difference would round away its low bits.
        relative = relative + ((logits[a] - high) * LOG2_E,)
    return relative


@triton.jit
def _powers_of_two(exponents, BASE: tl.constexpr):
    """2 ** exponents and their sum."""
    powers = ()
    total = 0.0
    for a in tl.static_range(BASE):
        powers = powers + (exp2(exponents[a]),)
        total += powers[a]
    return powers, total


@triton.jit
def _reflect(values, digit, BASE: tl.constexpr):
    """values[(digit - j) mod BASE] for j = 0 .. BASE - 1: a barrel shifter, its own inverse."""
    rotated = ()
    for j in tl.static_range(BASE):
        rotated = rotated + (values[(BASE - j) % BASE],)
    for bit in tl.static_range(5):
        if (1 << bit) < BASE:
            shift = (digit & (1 << bit)) != 0
            step = ()
            for j in tl.static_range(BASE):
                step = step + (tl.where(shift, rotated[(j + BASE - (1 << bit)) % BASE], rotated[j]),)
            rotated = step
    return rotated


@triton.jit
def _linear_sums(p, r, digit, BASE: tl.constexpr):
    """The sums of the pairs p[a] r[a + carry-in] for the four combinations of carry-in and carry-out."""
    s00 = 0.0
    s01 = 0.0
    s10 = 0.0
    s11 = p[BASE - 1] * r[0]
    for a in tl.static_range(BASE):
        stays = tl.where(a <= digit, r[a], 0.0)
        carries = tl.where(a <= digit, 0.0, r[a])
        s00 += p[a] * stays
        s01 += p[a] * carries
        if a > 0:
            s10 += p[a - 1] * stays
            s11 += p[a - 1] * carries
    return s00, s01, s10, s11


@triton.jit
def _split_sum(p, r, digit, CARRY: tl.constexpr, BASE: tl.constexpr):
    """log2 of the summed pairs of one carry-in, without and with carry out."""
    stay_high = ZERO
    carry_high = ZERO
    for a in tl.static_range(BASE):
        term = p[a] + r[(a + CARRY) % BASE]
        stays = a + CARRY <= digit
        stay_high = tl.where(stays, tl.maximum(stay_high, term), stay_high)
        carry_high = tl.where(stays, carry_high, tl.maximum(carry_high, term))
    stay = 0.0
    carry = 0.0
    for a in tl.static_range(BASE):
        stays = a + CARRY <= digit
        weight = exp2(p[a] + r[(a + CARRY) % BASE] - tl.where(stays, stay_high, carry_high))
        stay += tl.where(stays, weight, 0.0)
        carry += tl.where(stays, 0.0, weight)
    return stay_high + log2(stay), carry_high + log2(carry)


@triton.jit
def _log2_sums(p, r, p_powers, r_powers, digit, BASE: tl.constexpr):
    """log2 of the four sums of pairs; as sums of logs where the products of one that is not empty could underflow."""
    s00, s01, s10, s11 = _linear_sums(p_powers, r_powers, digit, BASE)
    no_carry = digit == BASE - 1
    no_stay = digit == 0
    low = tl.minimum(tl.minimum(s00, s11), tl.minimum(tl.where(no_carry, s00, s01), tl.where(no_stay, s00, s10)))
    safe = low >= SMALLEST_SUM
    t00 = log2(s00)
    t01 = tl.where(no_carry, ZERO, log2(s01))
    t10 = tl.where(no_stay, ZERO, log2(s10))
    t11 = log2(s11)
    if tl.min(tl.min(safe.to(tl.int32), 1), 0) == 0:
        u00, u01 = _split_sum(p, r, digit, 0, BASE)
        u10, u11 = _split_sum(p, r, digit, 1, BASE)
        # Per position, so that no other row decides how a row is rounded.
        t00 = tl.where(safe, t00, u00)
        t01 = tl.where(safe, t01, u01)
        t10 = tl.where(safe, t10, u10)
        t11 = tl.where(safe, t11, u11)
    return t00, t01, t10, t11


@triton.jit
def read_position(active, label, logits):
    """The Position of a label digit (0 is used where it is none) and of both symbols' logits, 2 * BASE tensors."""
    BASE: tl.constexpr = len(logits) // 2
    in_range = (label >= 0) & (label < BASE)
    digit = tl.where(in_range, label, 0).to(tl.int32)
    p = _relative_log2(logits[:BASE], BASE)
    r = _reflect(_relative_log2(logits[BASE:], BASE), digit, BASE)
    p_powers, p_total = _powers_of_two(p, BASE)
    r_powers, r_total = _powers_of_two(r, BASE)
    both = p_total * r_total
    code = tl.where(in_range, tl.where(both == both, POSSIBLE, INVALID_LOGITS), INVALID_LABEL)
    t00, t01, t10, t11 = _log2_sums(p, r, p_powers, r_powers, digit, BASE)
    matrix = Matrix(
        tl.where(active, t00, 0.0),
        tl.where(active, t01, ZERO),
        tl.where(active, t10, ZERO),
        tl.where(active, t11, 0.0),
    )
    return Position(matrix, tl.where(active, -log2(both), 0.0), code, digit, p, r)


@triton.jit
def _mix(relative, prior_scale, weights, posterior_scale, kept, BASE: tl.constexpr):
    """softmax * prior_scale + weights * posterior_scale, the first alone unless these are kept."""
    powers, total = _powers_of_two(relative, BASE)
    prior_scale = prior_scale / total
    values = ()
    for a in tl.static_range(BASE):
        values = values + (powers[a] * prior_scale + tl.where(kept, weights[a], 0.0) * posterior_scale,)
    return values


@triton.jit
def write_position(position, alpha, beta, possible, posterior_scale, prior_scale):
    """posterior * posterior_scale + softmax * prior_scale of both digits; alpha, beta: log2 ratios of messages."""
    p = position.p
    r = position.r
    digit = position.digit
    BASE: tl.constexpr = len(p)
    alpha0, alpha1 = from_log_ratio(alpha)
    beta0, beta1 = from_log_ratio(beta)
    high = largest_path(Messages(alpha0, alpha1, beta0, beta1), position.matrix)
    # Without evidence there is no largest term: a shift by ZERO keeps the weights finite.
    alpha0 = tl.where(possible, alpha0 - high, ZERO)
    alpha1 = tl.where(possible, alpha1 - high, ZERO)
    total = 0.0
    p_weights = ()
    r_weights = ()
    for a in tl.static_range(BASE):
        weight0 = exp2(tl.where(a <= digit, alpha0 + beta0, alpha0 + beta1) + p[a] + r[a])
        weight1 = exp2(tl.where(a < digit, alpha1 + beta0, alpha1 + beta1) + p[a] + r[(a + 1) % BASE])
        p_weights = p_weights + (weight0 + weight1,)
        total += p_weights[a]
        if a == 0:
            first = weight0
        else:
            r_weights = r_weights + (weight0 + previous,)
        previous = weight1
    r_weights = (first + previous,) + r_weights
    # float32 has no digits for differences of logarithms near 1e8: such a position keeps its prior.
    kept = possible & (total > 0.0) & (total < float("inf"))
    prior_scale = tl.where(kept, prior_scale, prior_scale + posterior_scale)
    posterior_scale = posterior_scale / tl.where(kept, total, 1.0)
    p_values = _mix(p, prior_scale, p_weights, posterior_scale, kept, BASE)
    return p_values + _reflect(_mix(r, prior_scale, r_weights, posterior_scale, kept, BASE), digit, BASE)
