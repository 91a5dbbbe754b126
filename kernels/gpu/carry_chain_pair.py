"""Posterior and EM gradient of two addends: the carry chain as a position-parallel scan of 2 x 2 matrices."""

import triton
import triton.language as tl

from ._elementwise import map_elementwise
from ._log2_semiring import LN_2, POSSIBLE, ZERO, from_log_ratio
from ._pair_position import read_position, write_position
from ._pair_scan import chain_messages
from ._symbols import load_symbols, store_symbols


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
    label = tl.load(label_ptr + sample * (N_EXTRA + n_digits) + N_EXTRA + index, mask=active, other=0)
    logits = load_symbols(logits_ptr + offset, active, COMPUTE, BASE, PAIRED)
    logits = logits + load_symbols(logits_ptr + n_digits * BASE + offset, active, COMPUTE, BASE, PAIRED)
    position = map_elementwise(read_position, active, label, *logits)

    start0 = tl.zeros((SAMPLES, 1), COMPUTE)
    end0, end1 = from_log_ratio(tl.where(top == 0, ZERO, -ZERO).to(COMPUTE))
    alpha, beta, evidence = chain_messages(*position[:5], start0, start0 + ZERO, end0, end1, LANES, RUN)
    code = tl.max(tl.maximum(top_code, position[5]), 1, keep_dims=True)
    possible = (evidence > POSSIBLE) & (top < 2) & (code != 3)
    code = tl.maximum(code, tl.where(possible, 0, 1))
    tl.store(evidence_ptr + first + sample, tl.where(possible, evidence * LN_2, float("-inf")), mask=present)
    tl.store(status_ptr + first + sample, code.to(tl.uint8), mask=present)

    scale = (scale_high.to(COMPUTE) + scale_low.to(COMPUTE)) if GRADIENT else 1.0
    posterior_scale = tl.where(possible, -scale if GRADIENT else 1.0, 0.0).to(COMPUTE)
    prior_scale = tl.where(possible, scale if GRADIENT else 0.0, 0.0 if GRADIENT else 1.0).to(COMPUTE)
    symbols = map_elementwise(
        write_position, possible, posterior_scale, prior_scale, alpha, beta, *position[:4], *position[6:]
    )  # fmt: skip
    store_symbols(out_ptr + offset, symbols[:BASE], active, BASE, PAIRED)
    store_symbols(out_ptr + n_digits * BASE + offset, symbols[BASE:], active, BASE, PAIRED)
