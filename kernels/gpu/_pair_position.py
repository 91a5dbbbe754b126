"""One position of two addends: pair terms, carry transfer matrix, posterior of its two digits; all in registers.

For the sum digit s and carry-in c the digit pairs are (a, (s - c - a) mod BASE). With q reflected, r[j] = q[(s - j) mod
BASE], their log2 probabilities are p[a] + r[a] for c = 0 (carry out when a > s) and p[a] + r[a + 1] for c = 1 (carry out
when a >= s).
"""

import triton
import triton.language as tl

from ._log2_semiring import ZERO, log2, normalise
from ._symbols import reflect, relative_log2


@triton.jit
def pair_terms(p_logits, q_logits, digit, COMPUTE: tl.constexpr, BASE: tl.constexpr):
    """The 2 BASE terms (carry-in 0, then 1) relative to the largest p and q, and both softmax sums."""
    p, p_total = relative_log2(p_logits, COMPUTE, BASE)
    q, q_total = relative_log2(q_logits, COMPUTE, BASE)
    r = reflect(q, digit, BASE)
    terms = ()
    for a in tl.static_range(BASE):
        terms = terms + (p[a] + r[a],)
    for a in tl.static_range(BASE):
        terms = terms + (p[a] + r[(a + 1) % BASE],)
    return terms, p_total, q_total


@triton.jit
def _split_sum(terms, digit, CARRY: tl.constexpr, BASE: tl.constexpr):
    """log2 of the summed terms of one carry-in, without and with carry out."""
    stay_high = tl.full(digit.shape, ZERO, terms[0].dtype)
    carry_high = stay_high
    for a in tl.static_range(BASE):
        term = terms[a + CARRY * BASE]
        stays = a + CARRY <= digit
        stay_high = tl.where(stays, tl.maximum(stay_high, term), stay_high)
        carry_high = tl.where(stays, carry_high, tl.maximum(carry_high, term))
    stay = tl.zeros_like(stay_high)
    carry = stay
    for a in tl.static_range(BASE):
        stays = a + CARRY <= digit
        weight = tl.exp2(terms[a + CARRY * BASE] - tl.where(stays, stay_high, carry_high))
        stay += tl.where(stays, weight, 0.0)
        carry += tl.where(stays, 0.0, weight)
    return stay_high + log2(stay), carry_high + log2(carry)


@triton.jit
def transfer_matrix(terms, p_total, q_total, digit, active, BASE: tl.constexpr):
    """The normalised matrix T[carry-in, carry-out] of a position; the identity where not active."""
    t00, t01 = _split_sum(terms, digit, 0, BASE)
    t10, t11 = _split_sum(terms, digit, 1, BASE)
    t00, t01, t10, t11, scale = normalise(t00, t01, t10, t11, -log2(p_total * q_total))
    return (
        tl.where(active, t00, 0.0),
        tl.where(active, t01, ZERO),
        tl.where(active, t10, ZERO),
        tl.where(active, t11, 0.0),
        tl.where(active, scale, 0.0),
    )


@triton.jit
def digit_weights(terms, digit, matrix, alpha0, alpha1, beta0, beta1, possible, BASE: tl.constexpr):
    """Unnormalised posteriors of a and b (that of b reflected) and their sum, given the messages; 0 if impossible."""
    t00, t01, t10, t11, scale = matrix
    high = tl.maximum(
        tl.maximum(alpha0 + t00 + beta0, alpha0 + t01 + beta1), tl.maximum(alpha1 + t10 + beta0, alpha1 + t11 + beta1)
    )
    # No evidence, no largest term: a shift by ZERO keeps the weights finite.
    alpha0 = tl.where(possible, alpha0 - high, ZERO)
    alpha1 = tl.where(possible, alpha1 - high, ZERO)
    total = tl.zeros_like(high)
    a_weights = ()
    b_weights = ()
    for a in tl.static_range(BASE):
        weight0 = tl.exp2(terms[a] + tl.where(a <= digit, alpha0 + beta0, alpha0 + beta1))
        weight1 = tl.exp2(terms[a + BASE] + tl.where(a < digit, alpha1 + beta0, alpha1 + beta1))
        total += weight0 + weight1
        a_weights = a_weights + (weight0 + weight1,)
        if a == 0:
            first = weight0
        else:
            b_weights = b_weights + (weight0 + previous,)
        previous = weight1
    return a_weights, (first + previous,) + b_weights, total
