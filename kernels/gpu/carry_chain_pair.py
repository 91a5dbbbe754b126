"""Posterior and EM gradient of two addends: the carry chain as a position-parallel scan of 2 x 2 matrices."""

import triton
import triton.language as tl

from ._elementwise import map_elementwise
from ._log2_semiring import LN_2, POSSIBLE, ZERO, from_log_ratio
from ._pair_position import read_position, write_position
from ._pair_scan import chain_messages
from ._symbols import load_rows, store_rows


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
    GRADIENT: tl.constexpr,
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

    lane = tl.arange(0, LANES)[None, :, None]
    index = n_digits - 1 - (lane * RUN + tl.arange(0, RUN)[None, None, :])
    active = present[:, :, None] & (index >= 0)
    offset = (sample[:, :, None] * 2 * n_digits + index) * BASE
    label_offset = sample[:, :, None] * (N_EXTRA + n_digits) + N_EXTRA + index
    p_rows = load_rows(logits_ptr + offset, active, BASE)
    q_rows = load_rows(logits_ptr + n_digits * BASE + offset, active, BASE)
    labels = load_rows(label_ptr + label_offset, active, 1)
    code = top_code
    matrices = ()
    positions = ()
    for e in tl.static_range(RUN):
        run_active = present & (n_digits - 1 - e >= tl.arange(0, LANES)[None, :] * RUN)
        position = map_elementwise(read_position, run_active, labels[e][0], *p_rows[e], *q_rows[e])
        code = tl.maximum(code, position[5])
        matrices = matrices + position[:5]
        positions = positions + (position,)

    start0 = tl.zeros((SAMPLES, 1), COMPUTE)
    end0, end1 = from_log_ratio(tl.where(top == 0, ZERO, -ZERO).to(COMPUTE))
    messages, evidence = chain_messages(matrices, start0, start0 + ZERO, end0, end1, LANES)
    code = tl.max(code, 1, keep_dims=True)
    possible = (evidence > POSSIBLE) & (top < 2) & (code != 3)
    code = tl.maximum(code, tl.where(possible, 0, 1))
    tl.store(evidence_ptr + first + sample, tl.where(possible, evidence * LN_2, float("-inf")), mask=present)
    tl.store(status_ptr + first + sample, code.to(tl.uint8), mask=present)

    scale = (scale_high.to(COMPUTE) + scale_low.to(COMPUTE)) if GRADIENT else 1.0
    posterior_scale = tl.where(possible, -scale if GRADIENT else 1.0, 0.0).to(COMPUTE)
    prior_scale = tl.where(possible, scale if GRADIENT else 0.0, 0.0 if GRADIENT else 1.0).to(COMPUTE)
    p_out = ()
    q_out = ()
    for e in tl.static_range(RUN):
        position = positions[e]
        row = map_elementwise(
            write_position, possible, posterior_scale, prior_scale, messages[e], messages[RUN + e], *position[:4],
            *position[6:],
        )  # fmt: skip
        p_out = p_out + (row[:BASE],)
        q_out = q_out + (row[BASE:],)
    store_rows(out_ptr + offset, p_out, active, BASE)
    store_rows(out_ptr + n_digits * BASE + offset, q_out, active, BASE)
