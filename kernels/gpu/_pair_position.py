"""One position of two addends, as functions of scalars: softmax, carry transfer matrix, posterior of its two digits.

For the sum digit s and carry-in c the digit pairs are (a, (s - c - a) mod BASE). With q reflected, r[j] = q[(s - j) mod
BASE], their log2 probabilities are p[a] + r[a] for c = 0 (carry out when a > s) and p[a] + r[a + 1] for c = 1 (carry out
when a >= s).
"""

import triton
import triton.language as tl

from ._log2_semiring import LOG2_E, ZERO, exp2, from_log_ratio, log2


@triton.jit
def _relative_log2(logits, BASE: tl.constexpr):
    """Log2 probabilities relative to the largest, and the sum of their exponentials.

    The sum is NaN exactly when a logit is NaN or +inf, or all are -inf.
    """
    high = logits[0]
    for a in tl.static_range(1, BASE):
        high = tl.maximum(high, logits[a])
    relative = ()
    total = 0.0
    for a in tl.static_range(BASE):
        # Subtract first: scaling large logits before the difference would round away its low bits.
        value = (logits[a] - high) * LOG2_E
        total += exp2(value)
        relative = relative + (value,)
    return relative, total


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
def read_position(active, label, logits):
    """Matrix T[carry-in, carry-out] (4), log2 scale, status code, sum digit, p and r (BASE each) from both symbols' logits.

    The identity matrix where not active. Code 3: label is no digit (0 is used), 2: a softmax does not exist, else 0.
    """
    BASE: tl.constexpr = len(logits) // 2
    in_range = (label >= 0) & (label < BASE)
    digit = tl.where(in_range, label, 0).to(tl.int32)
    p, p_total = _relative_log2(logits[:BASE], BASE)
    q, q_total = _relative_log2(logits[BASE:], BASE)
    both = p_total * q_total
    code = tl.where(in_range, tl.where(both == both, 0, 2), 3)
    r = _reflect(q, digit, BASE)
    t00, t01 = _split_sum(p, r, digit, 0, BASE)
    t10, t11 = _split_sum(p, r, digit, 1, BASE)
    matrix = (
        tl.where(active, t00, 0.0),
        tl.where(active, t01, ZERO),
        tl.where(active, t10, ZERO),
        tl.where(active, t11, 0.0),
    )
    return matrix + (tl.where(active, -log2(both), 0.0), code, digit) + p + r


@triton.jit
def _mix(relative, prior_scale, weights, posterior_scale, BASE: tl.constexpr):
    """softmax * prior_scale + weights * posterior_scale."""
    total = 0.0
    softmax = ()
    for a in tl.static_range(BASE):
        softmax = softmax + (exp2(relative[a]),)
        total += softmax[a]
    prior_scale = prior_scale / total
    values = ()
    for a in tl.static_range(BASE):
        values = values + (softmax[a] * prior_scale + weights[a] * posterior_scale,)
    return values


@triton.jit
def write_position(possible, posterior_scale, prior_scale, alpha, beta, t00, t01, t10, t11, digit, symbols):
    """posterior * posterior_scale + softmax * prior_scale of both digits, from the messages and read_position's values."""
    BASE: tl.constexpr = len(symbols) // 2
    p = symbols[:BASE]
    r = symbols[BASE:]
    alpha0, alpha1 = from_log_ratio(alpha)
    beta0, beta1 = from_log_ratio(beta)
    high = tl.maximum(
        tl.maximum(alpha0 + t00 + beta0, alpha0 + t01 + beta1), tl.maximum(alpha1 + t10 + beta0, alpha1 + t11 + beta1)
    )
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
    posterior_scale = posterior_scale / tl.where(possible, total, 1.0)
    p_values = _mix(p, prior_scale, p_weights, posterior_scale, BASE)
    return p_values + _reflect(_mix(r, prior_scale, r_weights, posterior_scale, BASE), digit, BASE)
