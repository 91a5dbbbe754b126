"""Finds the most probable digits given the label: max-product over the carries in float64, a warp for each row.

h_j(r) = max_d l_j(d) + h_{j+1}(r - d) takes the place of convolutions, and every maximum keeps its argument: a code of
the carry-in and the digits but the last. Ties go to the smallest carry-in, then to the smallest d_1, d_2, ... of the
position nearest the top.

This is for sums that are too large for row_map.py. symbol_lanes.py says which lane of a tile [1, SUMS] has what.
"""

import triton
import triton.language as tl

from emnesy_gpu.kernels.gpu.carry_chain.label import checked_digit, final_status, top_carry
from emnesy_gpu.kernels.gpu.carry_chain.linear_sums import at, places
from emnesy_gpu.kernels.gpu.carry_chain.map_scores import NEVER, Best, as_logarithm, better, normaliser, times
from emnesy_gpu.kernels.gpu.carry_chain.symbol_lanes import Row, Sizes, from_lane, load_position, over_values
from emnesy_gpu.kernels.gpu.carry_chain.symbol_tiles import load_symbols
from emnesy_gpu.kernels.gpu.common.status import INVALID_LOGITS, POSSIBLE
from emnesy_gpu.kernels.launch_config import WARP as WARP_SIZE

WARP = tl.constexpr(WARP_SIZE)


@triton.jit
def _log_normaliser(row, COMPUTE: tl.constexpr, SIZES: tl.constexpr):
    """The log normaliser of all symbols, and the status of their logits; a lane has a symbol."""
    n_symbols = SIZES.ADDENDS * row.n_digits
    highs = tl.zeros((1, WARP), tl.float64)
    product = tl.full((1, WARP), 1.0, tl.float64)
    exponent = tl.zeros((1, WARP), tl.int32)
    valid = tl.full((1, WARP), True, tl.int1)
    for start in range(0, n_symbols, WARP):
        symbol = start + tl.arange(0, WARP)[None, :]
        inside = symbol < n_symbols
        high, total = normaliser(
            load_symbols(row.logits + symbol * SIZES.BASE, inside, COMPUTE, SIZES.BASE), SIZES.BASE
        )
        highs += tl.where(inside, high, 0.0).to(tl.float64)
        product, exponent = times(product, exponent, tl.where(inside, total, 1.0))
        valid &= total == total
    code = tl.where(tl.min(valid.to(tl.int32)) > 0, POSSIBLE, INVALID_LOGITS)
    return tl.sum(highs + as_logarithm(product, exponent)), code


@triton.jit
def _suffix(scores, SIZES: tl.constexpr):
    """h_2, with the digits d_2, ..., d_{k-1} as its codes."""
    lane = places(scores)
    last = from_lane(scores, (SIZES.ADDENDS - 1) * SIZES.BASE + lane)
    last = tl.where(lane < SIZES.BASE, last, NEVER)
    code = tl.zeros(scores.shape, tl.int32)
    for j in tl.static_range(SIZES.ADDENDS - 2, 0, -1):
        best = Best(tl.full(scores.shape, NEVER, tl.float64), tl.zeros(scores.shape, tl.int32))
        for v in tl.static_range(SIZES.BASE):
            best = better(best, at(scores, j * SIZES.BASE + v).to(tl.float64) + last.to(tl.float64), v)
            last = from_lane(last, lane - 1)
        code = best.code + SIZES.BASE * from_lane(code, lane - best.code)
        last = best.score
    return last.to(tl.float64), code


@triton.jit
def _step(alpha, scores, digit, SIZES: tl.constexpr):
    """Best scores of the carries out of a position, each in the first lane of its own, from those into it."""
    lane = places(scores)
    PARTS: tl.constexpr = SIZES.PARTS
    VALUES: tl.constexpr = (SIZES.BASE + PARTS - 1) // PARTS
    carry_out = lane // (SIZES.ADDENDS * PARTS)
    carry_in = lane // PARTS % SIZES.ADDENDS
    total = digit + SIZES.BASE * carry_out - carry_in
    table, code = _suffix(scores, SIZES)
    best = Best(tl.full(scores.shape, NEVER, tl.float64), tl.zeros(scores.shape, tl.int32))
    for s in tl.static_range(VALUES):
        v = lane % PARTS * VALUES + s
        score = from_lane(scores, v).to(tl.float64) + from_lane(table, total - v)
        best = better(best, tl.where(v < SIZES.BASE, score, NEVER), v)
    for bit in tl.static_range(6):
        if (1 << bit) < PARTS:
            best = better(best, from_lane(best.score, lane + (1 << bit)), from_lane(best.code, lane + (1 << bit)))
    code = best.code + SIZES.BASE * from_lane(code, total - best.code)
    score = best.score + from_lane(alpha, carry_in * (SIZES.ADDENDS * PARTS))
    code = carry_in + SIZES.ADDENDS * code
    best = Best(score, code)
    for c in tl.static_range(1, SIZES.ADDENDS):
        best = better(best, from_lane(score, lane + c * PARTS), from_lane(code, lane + c * PARTS))
    return best


@triton.jit
def _forward(row, SUMS: tl.constexpr, SIZES: tl.constexpr):
    """Leaves the code of every carry out of every position in the output, in the row of the addend of that number.

    Returns the best scores of the carries out of the top, and the status of the label.
    """
    lane = tl.arange(0, SUMS)[None, :]
    OWN: tl.constexpr = SIZES.ADDENDS * SIZES.PARTS
    alpha = tl.where(lane == 0, 0.0, NEVER).to(tl.float64)
    code = POSSIBLE
    for back in range(row.n_digits):
        i = row.n_digits - 1 - back
        scores = load_position(row, i, SUMS, SIZES)
        digit, digit_code = checked_digit(row.label + i, True, SIZES.BASE)
        code = tl.maximum(code, digit_code)
        alpha, chosen = _step(alpha, scores, digit, SIZES)
        stored = (lane % OWN == 0) & (lane < SIZES.ADDENDS * OWN)
        tl.store(row.digits + lane // OWN * row.n_digits + i, chosen.to(tl.int64), mask=stored)
    return alpha, code


@triton.jit
def _follow(row, carry, SIZES: tl.constexpr):
    """Moves the codes of the best path, from the carry out of the top position down, to the first addend's row."""
    tl.debug_barrier()
    for i in range(row.n_digits):
        code = tl.load(row.digits + carry * row.n_digits + i)
        tl.debug_barrier()
        tl.store(row.digits + i, code)
        carry = code.to(tl.int32) % SIZES.ADDENDS


@triton.jit
def _decode(row, top, SUMS: tl.constexpr, SIZES: tl.constexpr):
    """Overwrites these codes with the digits; a lane has a position. top: the carry out of the first."""
    tl.debug_barrier()
    n_blocks = tl.cdiv(row.n_digits, SUMS)
    for back in range(n_blocks):
        i = (n_blocks - 1 - back) * SUMS + tl.arange(0, SUMS)[None, :]
        inside = i < row.n_digits
        chosen = tl.load(row.digits + i, mask=inside, other=0).to(tl.int32)
        before = tl.load(row.digits + i - 1, mask=inside & (i > 0), other=0).to(tl.int32)
        # Other threads overwrite what was loaded here.
        tl.debug_barrier()
        carry_out = tl.where(i > 0, before % SIZES.ADDENDS, top)
        digit, code = checked_digit(row.label + i, inside, SIZES.BASE)
        rest = digit + SIZES.BASE * carry_out - chosen % SIZES.ADDENDS
        chosen = chosen // SIZES.ADDENDS
        for j in tl.static_range(SIZES.ADDENDS - 1):
            tl.store(row.digits + j * row.n_digits + i, (chosen % SIZES.BASE).to(tl.int64), mask=inside)
            rest -= chosen % SIZES.BASE
            chosen = chosen // SIZES.BASE
        tl.store(row.digits + (SIZES.ADDENDS - 1) * row.n_digits + i, rest.to(tl.int64), mask=inside)


@triton.jit
def _most_probable_alone(row, SUMS: tl.constexpr, SIZES: tl.constexpr):
    """Leaves the smallest value of the largest logit of every symbol in the output."""
    lane = tl.arange(0, SUMS)[None, :]
    symbol = lane // SIZES.BASE
    value = lane - symbol * SIZES.BASE
    stored = (value == 0) & (symbol < SIZES.ADDENDS)
    tl.debug_barrier()
    for i in range(row.n_digits):
        scores = load_position(row, i, SUMS, SIZES)
        best = scores == over_values(scores, True, SIZES.BASE)
        first = -over_values(tl.where(best, -value, 1 - SIZES.BASE), True, SIZES.BASE)
        tl.store(row.digits + symbol * row.n_digits + i, first.to(tl.int64), mask=stored)


@triton.jit(do_not_specialize=["n_digits"])
def map_kernel(
    logits_ptr, label_ptr, digits_ptr, log_joint_ptr, status_ptr, n_digits,
    ADDENDS: tl.constexpr, BASE: tl.constexpr, N_EXTRA: tl.constexpr, SUMS: tl.constexpr, PARTS: tl.constexpr,
):  # fmt: skip
    """A row of the batch; positions forwards, then backwards along the path.

    Grid (batch,). logits [batch, ADDENDS, n_digits, BASE], digits int64 [batch, ADDENDS, n_digits].
    """
    SIZES: tl.constexpr = Sizes(ADDENDS, BASE, PARTS)
    index = tl.program_id(0).to(tl.int64)
    digits_ptr += index * (ADDENDS * n_digits)
    logits_ptr += index * (ADDENDS * n_digits * BASE)
    label_ptr += index * (N_EXTRA + n_digits)
    row = Row(logits_ptr, label_ptr + N_EXTRA, digits_ptr, n_digits)
    carry, code = top_carry(label_ptr, True, N_EXTRA, BASE)
    last, chain_code = _forward(row, SUMS, SIZES)
    log_total, logits_code = _log_normaliser(row, log_joint_ptr.dtype.element_ty, SIZES)
    code = tl.maximum(code, tl.maximum(chain_code, logits_code))
    own = tl.arange(0, SUMS)[None, :] == carry * (ADDENDS * PARTS)
    score = tl.max(tl.where(own, last, NEVER))
    possible = (score > NEVER) & (carry < ADDENDS) & (code == POSSIBLE)
    log_joint = tl.where(possible, score - log_total, NEVER)
    tl.store(log_joint_ptr + index, log_joint.to(log_joint_ptr.dtype.element_ty))
    tl.store(status_ptr + index, final_status(code, possible).to(tl.uint8))
    if possible:
        _follow(row, carry, SIZES)
        _decode(row, carry, SUMS, SIZES)
    else:
        _most_probable_alone(row, SUMS, SIZES)
