"""Posterior and EM gradient of two addends: the carry chain as a position-parallel scan of 2 x 2 matrices."""

import triton
import triton.language as tl

from ._log2_semiring import (
    LN_2,
    POSSIBLE,
    ZERO,
    compose,
    compose_reversed,
    from_log_ratio,
    vector_times_matrix,
)
from ._pair_position import digit_posteriors, read_position, transfer_matrix
from ._symbols import reflect, store_symbols


@triton.jit
def _top_carry(pointers, active, N_EXTRA: tl.constexpr, BASE: tl.constexpr):
    """The value of the N_EXTRA leading label digits, and 3 where one of them is no digit, else 0."""
    carry = tl.zeros(active.shape, tl.int64)
    code = tl.zeros(active.shape, tl.int32)
    for i in tl.static_range(N_EXTRA):
        label = tl.load(pointers + i, mask=active, other=0)
        in_range = (label >= 0) & (label < BASE)
        carry = carry * BASE + tl.where(in_range, label, 0)
        code = tl.where(in_range, code, 3)
    return carry, code


@triton.jit
def _emit(out_pointers, posterior, log2_probability, total, possible, active, scale, GRADIENT: tl.constexpr,
          BASE: tl.constexpr):  # fmt: skip
    """Stores the posterior, or (softmax - posterior) * scale; the prior stands in for the posterior of nothing."""
    norm = 1.0 / total
    values = ()
    for a in tl.static_range(BASE):
        prior = tl.exp2(log2_probability[a]) * norm
        value = tl.where(possible, posterior[a], prior)
        if GRADIENT:
            value = (prior - value) * scale
        values = values + (value,)
    store_symbols(out_pointers, values, active, BASE)


@triton.jit(do_not_specialize=["batch", "n_digits"])
def pair_kernel(
    logits_ptr, label_ptr, out_ptr, evidence_ptr, status_ptr, batch, n_digits, scale_high, scale_low,
    BASE: tl.constexpr, N_EXTRA: tl.constexpr, SAMPLES: tl.constexpr, LANES: tl.constexpr, PER_LANE: tl.constexpr, GRADIENT: tl.constexpr,
):  # fmt: skip
    """SAMPLES whole samples: LANES threads a sample, PER_LANE consecutive positions a thread, one pass over memory.

    Grid (ceil(batch / SAMPLES),). logits and out [batch, 2, n_digits, BASE], label [batch, N_EXTRA + n_digits].
    """
    COMPUTE: tl.constexpr = evidence_ptr.dtype.element_ty
    first = tl.program_id(0).to(tl.int64) * SAMPLES
    logits_ptr += first * (2 * n_digits * BASE)
    out_ptr += first * (2 * n_digits * BASE)
    label_ptr += first * (N_EXTRA + n_digits)
    sample = tl.arange(0, SAMPLES)[:, None]
    lane = tl.arange(0, LANES)[None, :]
    present = (first + sample < batch) & (lane >= 0)
    scale = scale_high.to(COMPUTE) + scale_low.to(COMPUTE)

    top, code = _top_carry(label_ptr + sample * (N_EXTRA + n_digits) + lane * 0, present, N_EXTRA, BASE)
    positions = ()
    matrices = ()
    actives = ()
    for e in tl.static_range(PER_LANE):
        index = n_digits - 1 - (lane * PER_LANE + e)
        active = present & (index >= 0)
        offset = (sample * 2 * n_digits + index) * BASE
        position = read_position(
            logits_ptr + offset, logits_ptr + n_digits * BASE + offset,
            label_ptr + sample * (N_EXTRA + n_digits) + N_EXTRA + index, active, COMPUTE, BASE,
        )  # fmt: skip
        p, r, p_total, q_total, digit, position_code = position
        matrix = transfer_matrix(p, r, p_total, q_total, digit, active, BASE)
        code = tl.maximum(code, position_code)
        if e == 0:
            product = matrix
        else:
            m00, m01, m10, m11, log_scale = product
            t00, t01, t10, t11, t_scale = matrix
            product = compose(m00, m01, m10, m11, log_scale, t00, t01, t10, t11, t_scale)
        positions = positions + (position,)
        matrices = matrices + (matrix,)
        actives = actives + (active,)

    if LANES > 1:
        forward = tl.associative_scan(product, 1, compose)
        backward = tl.associative_scan(product, 1, compose_reversed, reverse=True)
        f00, f01, f10, f11, f_scale = forward
        b00, b01, b10, b11, b_scale = backward
        code = tl.max(code, 1, keep_dims=True)
        before = tl.broadcast_to(tl.maximum(lane - 1, 0), (SAMPLES, LANES))
        after = tl.broadcast_to(tl.minimum(lane + 1, LANES - 1), (SAMPLES, LANES))
        alpha0, alpha1 = from_log_ratio(tl.where(lane == 0, ZERO, tl.gather(f01 - f00, before, 1)))
        end = tl.where(top == 0, ZERO, -ZERO)
        ratio = tl.where(top == 0, b10 - b00, b11 - b01)
        beta0, beta1 = from_log_ratio(tl.where(lane == LANES - 1, end, tl.gather(ratio, after, 1)))
        evidence = tl.where(top == 0, b00, b01) + b_scale
        evidence = tl.sum(tl.where(lane == 0, evidence, 0.0), 1, keep_dims=True)
    else:
        m00, m01, m10, m11, log_scale = product
        alpha0, alpha1 = from_log_ratio(tl.full((SAMPLES, LANES), ZERO, COMPUTE))
        beta0, beta1 = from_log_ratio(tl.where(top == 0, ZERO, -ZERO).to(COMPUTE))
        evidence = tl.where(top == 0, m00, m01) + log_scale
    possible = (evidence > POSSIBLE) & (top < 2) & (code != 3)
    code = tl.maximum(code, tl.where(possible, 0, 1))
    row = first + sample + lane * 0
    writes = present & (lane == 0)
    tl.store(evidence_ptr + row, tl.where(possible, evidence * LN_2, float("-inf")), mask=writes)
    tl.store(status_ptr + row, code.to(tl.uint8), mask=writes)

    betas = ((beta0, beta1),)
    for e in tl.static_range(PER_LANE - 1):
        t00, t01, t10, t11, t_scale = matrices[PER_LANE - 1 - e]
        beta0, beta1 = vector_times_matrix(beta0, beta1, t00, t10, t01, t11)
        betas = ((beta0, beta1),) + betas
    for e in tl.static_range(PER_LANE):
        p, r, p_total, q_total, digit, position_code = positions[e]
        t00, t01, t10, t11, t_scale = matrices[e]
        beta0, beta1 = betas[e]
        a_posterior, b_posterior = digit_posteriors(
            p, r, digit, alpha0, alpha1, t00, t01, t10, t11, beta0, beta1, BASE
        )  # fmt: skip
        index = n_digits - 1 - (lane * PER_LANE + e)
        offset = (sample * 2 * n_digits + index) * BASE
        _emit(out_ptr + offset, a_posterior, p, p_total, possible, actives[e], scale, GRADIENT, BASE)
        _emit(out_ptr + n_digits * BASE + offset, reflect(b_posterior, digit, BASE), reflect(r, digit, BASE), q_total, possible, actives[e], scale, GRADIENT, BASE)
        if e + 1 < PER_LANE:
            alpha0, alpha1 = vector_times_matrix(alpha0, alpha1, t00, t01, t10, t11)
