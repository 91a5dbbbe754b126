"""Posterior and EM gradient of two addends: the carry chain as a position-parallel scan of 2 x 2 matrices."""

import triton
import triton.language as tl

from ._log2_semiring import LN_2, POSSIBLE, ZERO, from_log_ratio
from ._pair_position import digit_posteriors, read_position, transfer_matrix
from ._pair_scan import chain_messages
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
          BASE: tl.constexpr, PAIRED: tl.constexpr):  # fmt: skip
    """Stores the posterior, or (softmax - posterior) * scale; impossible labels leave the prior as it is."""
    norm = 1.0 / total
    values = ()
    for a in tl.static_range(BASE):
        prior = tl.exp2(log2_probability[a]) * norm
        value = tl.where(possible, posterior[a], prior)
        if GRADIENT:
            value = (prior - value) * scale
        values = values + (value,)
    store_symbols(out_pointers, values, active, BASE, PAIRED)


@triton.jit(do_not_specialize=["batch", "n_digits"])
def pair_kernel(
    logits_ptr, label_ptr, out_ptr, evidence_ptr, status_ptr, batch, n_digits, scale_high, scale_low,
    BASE: tl.constexpr, N_EXTRA: tl.constexpr, SAMPLES: tl.constexpr, LANES: tl.constexpr, RUN: tl.constexpr,
    GRADIENT: tl.constexpr, PAIRED: tl.constexpr,
):  # fmt: skip
    """SAMPLES whole samples, a tile of LANES * RUN positions each, one pass over memory.

    Grid (ceil(batch / SAMPLES),). logits and out [batch, 2, n_digits, BASE], label [batch, N_EXTRA + n_digits].
    """
    COMPUTE: tl.constexpr = evidence_ptr.dtype.element_ty
    first = tl.program_id(0).to(tl.int64) * SAMPLES
    logits_ptr += first * (2 * n_digits * BASE)
    out_ptr += first * (2 * n_digits * BASE)
    label_ptr += first * (N_EXTRA + n_digits)
    sample = tl.arange(0, SAMPLES)[:, None]
    present = first + sample < batch
    top, top_code = _top_carry(label_ptr + sample * (N_EXTRA + n_digits), present, N_EXTRA, BASE)

    index = n_digits - 1 - tl.arange(0, LANES * RUN)[None, :]
    active = present & (index >= 0)
    offset = (sample * 2 * n_digits + index) * BASE
    label_offset = sample * (N_EXTRA + n_digits) + N_EXTRA + index
    p, r, p_total, q_total, digit, code = read_position(
        logits_ptr + offset, logits_ptr + n_digits * BASE + offset, label_ptr + label_offset, active,
        COMPUTE, BASE, PAIRED,
    )  # fmt: skip
    matrix = transfer_matrix(p, r, p_total, q_total, digit, active, BASE)

    start0 = tl.zeros((SAMPLES, 1), COMPUTE)
    end0, end1 = from_log_ratio(tl.where(top == 0, ZERO, -ZERO).to(COMPUTE))
    alpha, beta, evidence = chain_messages(matrix, start0, start0 + ZERO, end0, end1, LANES, RUN)
    lane = tl.arange(0, LANES)[None, :]
    evidence = tl.sum(tl.where(lane == 0, evidence, 0.0), 1, keep_dims=True)
    code = tl.maximum(top_code, tl.max(code, 1, keep_dims=True))
    possible = (evidence > POSSIBLE) & (top < 2) & (code != 3)
    code = tl.maximum(code, tl.where(possible, 0, 1))
    tl.store(evidence_ptr + first + sample, tl.where(possible, evidence * LN_2, float("-inf")), mask=present)
    tl.store(status_ptr + first + sample, code.to(tl.uint8), mask=present)

    t00, t01, t10, t11, t_scale = matrix
    alpha0, alpha1 = from_log_ratio(alpha)
    beta0, beta1 = from_log_ratio(beta)
    p_posterior, r_posterior = digit_posteriors(
        p, r, digit, alpha0, alpha1, t00, t01, t10, t11, beta0, beta1, BASE
    )  # fmt: skip
    scale = scale_high.to(COMPUTE) + scale_low.to(COMPUTE)
    _emit(out_ptr + offset, p_posterior, p, p_total, possible, active, scale, GRADIENT, BASE, PAIRED)
    _emit(
        out_ptr + n_digits * BASE + offset, reflect(r_posterior, digit, BASE), reflect(r, digit, BASE), q_total,
        possible, active, scale, GRADIENT, BASE, PAIRED,
    )  # fmt: skip
