"""Posterior and EM gradient of two addends: the carry chain as a position-parallel scan of 2 x 2 matrices."""

import triton
import triton.language as tl

from ._log2_semiring import LN_2, POSSIBLE, ZERO, from_log_ratio
from ._pair_position import digit_weights, pair_terms, transfer_matrix
from ._pair_scan import chain_messages
from ._symbols import load_symbols, reflect, relative_log2, store_symbols


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
def _scaled(weights, factor, BASE: tl.constexpr):
    values = ()
    for a in tl.static_range(BASE):
        values = values + (weights[a] * factor,)
    return values


@triton.jit
def _store_prior(out_pointers, logits_pointers, active, COMPUTE: tl.constexpr, BASE: tl.constexpr,
                 PAIRED: tl.constexpr):  # fmt: skip
    logits = load_symbols(logits_pointers, active, BASE, PAIRED)
    relative, total = relative_log2(logits, COMPUTE, BASE)
    norm = 1.0 / total
    prior = ()
    for a in tl.static_range(BASE):
        prior = prior + (tl.exp2(relative[a]) * norm,)
    store_symbols(out_pointers, prior, active, BASE, PAIRED)


@triton.jit
def _store_gradient(out_pointers, logits_pointers, weights, factor, prior_factor, active, COMPUTE: tl.constexpr, BASE: tl.constexpr,
                    PAIRED: tl.constexpr):  # fmt: skip
    logits = load_symbols(logits_pointers, active, BASE, PAIRED)
    relative, total = relative_log2(logits, COMPUTE, BASE)
    prior_factor = prior_factor / total
    gradient = ()
    for a in tl.static_range(BASE):
        gradient = gradient + (tl.exp2(relative[a]) * prior_factor - weights[a] * factor,)
    store_symbols(out_pointers, gradient, active, BASE, PAIRED)


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
    label = tl.load(label_ptr + label_offset, mask=active, other=0)
    in_range = (label >= 0) & (label < BASE)
    digit = tl.where(in_range, label, 0).to(tl.int32)
    p_logits = load_symbols(logits_ptr + offset, active, BASE, PAIRED)
    q_logits = load_symbols(logits_ptr + n_digits * BASE + offset, active, BASE, PAIRED)
    terms, p_total, q_total = pair_terms(p_logits, q_logits, digit, COMPUTE, BASE)
    both = p_total + q_total
    code = tl.where(in_range, tl.where(both == both, 0, 2), 3)
    matrix = transfer_matrix(terms, p_total, q_total, digit, active, BASE)

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

    alpha0, alpha1 = from_log_ratio(alpha)
    beta0, beta1 = from_log_ratio(beta)
    p_weights, r_weights, total = digit_weights(
        terms, digit, matrix, alpha0, alpha1, beta0, beta1, possible, BASE
    )  # fmt: skip
    q_weights = reflect(r_weights, digit, BASE)
    if GRADIENT:
        scale = scale_high.to(COMPUTE) + scale_low.to(COMPUTE)
        prior_factor = tl.where(possible, scale, 0.0)
        factor = tl.where(possible, scale / total, 0.0)
        _store_gradient(out_ptr + offset, logits_ptr + offset, p_weights, factor, prior_factor, active, COMPUTE, BASE, PAIRED)
        offset += n_digits * BASE
        _store_gradient(out_ptr + offset, logits_ptr + offset, q_weights, factor, prior_factor, active, COMPUTE, BASE, PAIRED)
    else:
        norm = 1.0 / total
        changed = active & possible
        store_symbols(out_ptr + offset, _scaled(p_weights, norm, BASE), changed, BASE, PAIRED)
        store_symbols(out_ptr + n_digits * BASE + offset, _scaled(q_weights, norm, BASE), changed, BASE, PAIRED)
        if tl.sum(tl.where(present & (code != 0), 1, 0)) > 0:
            unchanged = active & (possible == 0)
            _store_prior(out_ptr + offset, logits_ptr + offset, unchanged, COMPUTE, BASE, PAIRED)
            offset += n_digits * BASE
            _store_prior(out_ptr + offset, logits_ptr + offset, unchanged, COMPUTE, BASE, PAIRED)
