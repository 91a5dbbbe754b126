"""One position of two addends: softmax, carry transfer matrix, posterior of its two digits; all in registers.

For the sum digit s and carry-in c the pairs are (a, (s - c - a) mod BASE). With q reflected, r[j] = q[(s - j) mod BASE],
they are p[a] r[a] for c = 0 (carry out when a > s) and p[a] r[a + 1] for c = 1 (carry out when a >= s).
"""

import triton
import triton.language as tl

from ._log2_semiring import ZERO, normalise
from ._symbols import load_symbols, reflect, softmax_log2


@triton.jit
def _split_sum(p, r, digit, SHIFT: tl.constexpr, BASE: tl.constexpr):
    """log2 of the sums over a of 2**(p[a] + r[a + SHIFT]) without and with carry out."""
    stay_high = tl.full(p[0].shape, ZERO, p[0].dtype)
    carry_high = stay_high
    for a in tl.static_range(BASE):
        term = p[a] + r[(a + SHIFT) % BASE]
        stays = a + SHIFT <= digit
        stay_high = tl.where(stays, tl.maximum(stay_high, term), stay_high)
        carry_high = tl.where(stays, carry_high, tl.maximum(carry_high, term))
    stay = tl.zeros_like(stay_high)
    carry = stay
    for a in tl.static_range(BASE):
        term = p[a] + r[(a + SHIFT) % BASE]
        stays = a + SHIFT <= digit
        weight = tl.exp2(term - tl.where(stays, stay_high, carry_high))
        stay += tl.where(stays, weight, 0.0)
        carry += tl.where(stays, 0.0, weight)
    # An empty sum is log2(0) = -inf: back to the finite zero.
    return tl.maximum(stay_high + tl.log2(stay), ZERO), tl.maximum(carry_high + tl.log2(carry), ZERO)


@triton.jit
def read_position(p_pointers, q_pointers, label_pointers, active, COMPUTE: tl.constexpr, BASE: tl.constexpr,
                  PAIRED: tl.constexpr):  # fmt: skip
    """Loads positions.

    Returns p, reflected q (log2, largest 0), their softmax sums, the sum digit, and the status code 0, 2 or 3.
    """
    label = tl.load(label_pointers, mask=active, other=0)
    in_range = (label >= 0) & (label < BASE)
    digit = tl.where(in_range, label, 0).to(tl.int32)
    p, p_total = softmax_log2(load_symbols(p_pointers, active, BASE, PAIRED), COMPUTE, BASE)
    q, q_total = softmax_log2(load_symbols(q_pointers, active, BASE, PAIRED), COMPUTE, BASE)
    both = p_total + q_total
    code = tl.where(both == both, 0, 2)
    code = tl.where(in_range, code, 3)
    return p, reflect(q, digit, BASE), p_total, q_total, digit, code


@triton.jit
def transfer_matrix(p, r, p_total, q_total, digit, active, BASE: tl.constexpr):
    """The normalised matrix T[carry-in, carry-out] of a position; the identity where not active."""
    t00, t01 = _split_sum(p, r, digit, 0, BASE)
    t10, t11 = _split_sum(p, r, digit, 1, BASE)
    t00, t01, t10, t11, scale = normalise(t00, t01, t10, t11, -tl.log2(p_total) - tl.log2(q_total))
    return (
        tl.where(active, t00, 0.0),
        tl.where(active, t01, ZERO),
        tl.where(active, t10, ZERO),
        tl.where(active, t11, 0.0),
        tl.where(active, scale, 0.0),
    )


@triton.jit
def digit_posteriors(p, r, digit, alpha0, alpha1, t00, t01, t10, t11, beta0, beta1, BASE: tl.constexpr):
    """P(a) and P(b) given carry-in message alpha and carry-out message beta; P(b) in the order of r."""
    high = tl.maximum(
        tl.maximum(alpha0 + t00 + beta0, alpha0 + t01 + beta1), tl.maximum(alpha1 + t10 + beta0, alpha1 + t11 + beta1)
    )
    alpha0 -= high
    alpha1 -= high
    total = tl.zeros_like(high)
    without_carry = ()
    with_carry = ()
    for a in tl.static_range(BASE):
        u0 = tl.exp2(p[a] + r[a] + tl.where(a <= digit, alpha0 + beta0, alpha0 + beta1))
        u1 = tl.exp2(p[a] + r[(a + 1) % BASE] + tl.where(a < digit, alpha1 + beta0, alpha1 + beta1))
        total += u0 + u1
        without_carry = without_carry + (u0,)
        with_carry = with_carry + (u1,)
    norm = 1.0 / total
    a_posterior = ()
    b_posterior = ()
    for a in tl.static_range(BASE):
        a_posterior = a_posterior + ((without_carry[a] + with_carry[a]) * norm,)
        b_posterior = b_posterior + ((without_carry[a] + with_carry[(a + BASE - 1) % BASE]) * norm,)
    return a_posterior, b_posterior
