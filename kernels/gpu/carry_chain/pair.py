"""Computes posterior and EM gradient of two addends: the carry chain as a position-parallel scan of 2 x 2 matrices.

A chain longer than one tile takes two launches: pair_chunk_kernel multiplies the matrices of every chunk, pair_kernel
then finds its messages from the products of the other chunks. The logits are read twice.
"""

from typing import NamedTuple

import triton
import triton.language as tl

from emnesy_gpu.kernels.gpu.carry_chain.label import final_status, top_carry
from emnesy_gpu.kernels.gpu.carry_chain.pair_messages import Messages
from emnesy_gpu.kernels.gpu.carry_chain.pair_position import read_position, write_position
from emnesy_gpu.kernels.gpu.carry_chain.pair_scan import chain_messages, chain_product, in_place
from emnesy_gpu.kernels.gpu.carry_chain.symbol_tiles import load_symbols, store_symbols
from emnesy_gpu.kernels.gpu.common.log2_semiring import LEAST_LOG2, LN_2, ZERO, from_log_ratio, vector_times_matrix
from emnesy_gpu.kernels.gpu.common.status import INVALID_LABEL

# Values per chunk in the scratch of pair_chunk_kernel: the matrix (4), its scale, the status code.
CHUNK_VALUES = tl.constexpr(6)


class Options(NamedTuple):
    """Types and sizes known at compile time."""

    COMPUTE: tl.constexpr
    BASE: tl.constexpr
    N_EXTRA: tl.constexpr  # leading digits of the label
    PINNED: tl.constexpr  # whether logits keep the layout of one tile


@triton.jit
def _pinned(logits, BASE: tl.constexpr):
    """The logits of both addends in the layout of a tile: Triton 3.6 else carries those of the loads on to all else."""
    pinned = ()
    for i in tl.static_range(2 * BASE):
        pinned = pinned + (in_place(logits[i]),)
    return pinned


@triton.jit
def _read_tile(logits_ptr, label_ptr, sample, present, index, n_digits, OPTIONS: tl.constexpr):
    """Positions index [1, P] (most significant is 0, negative ones are padding) of samples [S, 1]: tensors [S, P]."""
    BASE: tl.constexpr = OPTIONS.BASE
    active = present & (index >= 0)
    offset = (sample * 2 * n_digits + index) * BASE
    label = tl.load(label_ptr + sample * (OPTIONS.N_EXTRA + n_digits) + OPTIONS.N_EXTRA + index, mask=active, other=0)
    logits = load_symbols(logits_ptr + offset, active, OPTIONS.COMPUTE, BASE)
    logits = logits + load_symbols(logits_ptr + n_digits * BASE + offset, active, OPTIONS.COMPUTE, BASE)
    if OPTIONS.PINNED:
        logits = _pinned(logits, BASE)
        return active, offset, read_position(in_place(active.to(tl.int32)) != 0, in_place(label), logits)
    else:
        return active, offset, read_position(active, label, logits)


@triton.jit
def _chunk(chunks_ptr, row, chunk, n_chunks, shape: tl.constexpr):
    """Matrix and scale of one chunk as tensors of this shape, and its status code."""
    values = chunks_ptr + (row * n_chunks + chunk) * CHUNK_VALUES + tl.zeros(shape, tl.int32)
    m00, m01, m10, m11 = tl.load(values), tl.load(values + 1), tl.load(values + 2), tl.load(values + 3)
    return m00, m01, m10, m11, tl.load(values + 4), tl.load(values + 5)


@triton.jit
def _outer_chunks(chunks_ptr, row, chunk, n_chunks, ends):
    """Messages [1, 1] into and out of a chunk, the log2 scale they lost, and the worst status of the other chunks.

    ends: the messages into and out of the whole chain.
    """
    start0, start1, end0, end1 = ends
    scale = tl.zeros_like(start0)
    code = tl.zeros_like(start0)
    for other in range(chunk):
        m00, m01, m10, m11, m_scale, m_code = _chunk(chunks_ptr, row, other, n_chunks, start0.shape)
        start0, start1, shift = vector_times_matrix(start0, start1, m00, m01, m10, m11)
        scale += shift + m_scale
        code = tl.maximum(code, m_code)
    for step in range(n_chunks - 1 - chunk):
        m00, m01, m10, m11, m_scale, m_code = _chunk(chunks_ptr, row, n_chunks - 1 - step, n_chunks, start0.shape)
        end0, end1, shift = vector_times_matrix(end0, end1, m00, m10, m01, m11)
        scale += shift + m_scale
        code = tl.maximum(code, m_code)
    return Messages(start0, start1, end0, end1), scale, code.to(tl.int32)


@triton.jit(do_not_specialize=["n_digits"])
def pair_chunk_kernel(
    logits_ptr, label_ptr, chunks_ptr, n_digits,
    BASE: tl.constexpr, N_EXTRA: tl.constexpr, PINNED: tl.constexpr, LANES: tl.constexpr, RUN: tl.constexpr,
):  # fmt: skip
    """Product of the transfer matrices of one chunk of LANES * RUN positions of one sample.

    Grid (batch, n_chunks), chunk 0 least significant. chunks [batch, n_chunks, CHUNK_VALUES].
    """
    COMPUTE: tl.constexpr = chunks_ptr.dtype.element_ty
    OPTIONS: tl.constexpr = Options(COMPUTE, BASE, N_EXTRA, PINNED)
    row = tl.program_id(0).to(tl.int64)
    chunk = tl.program_id(1)
    sample = tl.zeros((1, 1), tl.int32)
    index = n_digits - 1 - chunk * (LANES * RUN) - tl.arange(0, LANES * RUN)[None, :]
    active, offset, position = _read_tile(
        logits_ptr + row * (2 * n_digits * BASE),
        label_ptr + row * (N_EXTRA + n_digits),
        sample,
        sample == 0,
        index,
        n_digits,
        OPTIONS,
    )
    m00, m01, m10, m11, scale = chain_product(position.matrix, LANES, RUN)
    scale += tl.sum(position.scale, 1, keep_dims=True)
    first = tl.arange(0, LANES)[None, :] == 0
    values = chunks_ptr + (row * tl.num_programs(1) + chunk) * CHUNK_VALUES + tl.zeros((1, LANES), tl.int32)
    tl.store(values, m00, mask=first)
    tl.store(values + 1, m01, mask=first)
    tl.store(values + 2, m10, mask=first)
    tl.store(values + 3, m11, mask=first)
    tl.store(values + 4, scale, mask=first)
    code = tl.max(position.code, 1, keep_dims=True).to(COMPUTE)
    tl.store(values + 5, code + tl.zeros((1, LANES), COMPUTE), mask=first)


@triton.jit(do_not_specialize=["batch", "n_digits"])
def pair_kernel(
    logits_ptr, label_ptr, chunks_ptr, out_ptr, evidence_ptr, status_ptr, batch, n_digits, scale_high, scale_low,
    BASE: tl.constexpr, N_EXTRA: tl.constexpr, PINNED: tl.constexpr, SAMPLES: tl.constexpr, LANES: tl.constexpr,
    RUN: tl.constexpr, GRADIENT: tl.constexpr, CHUNKED: tl.constexpr,
):  # fmt: skip
    """SAMPLES tiles of LANES * RUN positions: whole samples (memory is read once), or if CHUNKED one chunk of a sample.

    Grid (ceil(batch / SAMPLES), n_chunks), chunk 0 least significant.
    logits and out [batch, 2, n_digits, BASE], label [batch, N_EXTRA + n_digits], chunks as pair_chunk_kernel left them.
    """
    COMPUTE: tl.constexpr = evidence_ptr.dtype.element_ty
    OPTIONS: tl.constexpr = Options(COMPUTE, BASE, N_EXTRA, PINNED)
    first = tl.program_id(0).to(tl.int64) * SAMPLES
    label_ptr += first * (N_EXTRA + n_digits)
    sample = tl.arange(0, SAMPLES)[:, None]
    present = first + sample < batch
    chunk = tl.program_id(1)
    index = n_digits - 1 - chunk * (LANES * RUN) - tl.arange(0, LANES * RUN)[None, :]
    active, offset, position = _read_tile(
        logits_ptr + first * (2 * n_digits * BASE), label_ptr, sample, present, index, n_digits, OPTIONS
    )

    top, code = top_carry(label_ptr + sample * (N_EXTRA + n_digits), present, N_EXTRA, BASE)
    start0 = tl.zeros((SAMPLES, 1), COMPUTE)
    start1 = start0 + ZERO
    end0, end1 = from_log_ratio(tl.where(top == 0, ZERO, -ZERO).to(COMPUTE))
    ends = Messages(start0, start1, end0, end1)
    scale = start0
    if CHUNKED:
        ends, scale, other_code = _outer_chunks(chunks_ptr, first, chunk, tl.num_programs(1), ends)
        code = tl.maximum(code, other_code)
    alpha, beta, evidence = chain_messages(position.matrix, ends, LANES, RUN)
    evidence += scale + tl.sum(position.scale, 1, keep_dims=True)
    code = tl.max(tl.maximum(code, position.code), 1, keep_dims=True)
    possible = (evidence > LEAST_LOG2) & (top < 2) & (code != INVALID_LABEL)
    code = final_status(code, possible)
    if chunk == 0:
        tl.store(evidence_ptr + first + sample, tl.where(possible, evidence * LN_2, float("-inf")), mask=present)
        tl.store(status_ptr + first + sample, code.to(tl.uint8), mask=present)

    zero = tl.zeros((SAMPLES, 1), COMPUTE)
    gradient_scale = zero + scale_high + scale_low
    posterior_scale = tl.where(possible, -gradient_scale if GRADIENT else zero + 1.0, zero)
    prior_scale = tl.where(possible, gradient_scale if GRADIENT else zero, zero if GRADIENT else zero + 1.0)
    symbols = write_position(position, alpha, beta, possible, posterior_scale, prior_scale)
    out_ptr += first * (2 * n_digits * BASE)
    store_symbols(out_ptr + offset, symbols[:BASE], active, BASE)
    store_symbols(out_ptr + n_digits * BASE + offset, symbols[BASE:], active, BASE)
