"""Finds the most probable digits given the label, a thread for each row: max-product over the carries in float64.

Position by position a thread tabulates h_j(r) = max_d l_j(d) + h_{j+1}(r - d), down to h_2, in registers, shifts the
table by the digit of the label, and finds the best digits for each carry out of and into the position. So this is for
few addends and small bases; map.py has the others, and says how ties are broken.
"""

from typing import Any, NamedTuple

import triton
import triton.language as tl

from emnesy_gpu.kernels.gpu.carry_chain.label import checked_digit, final_status, top_carry
from emnesy_gpu.kernels.gpu.carry_chain.map_scores import NEVER, Best, as_logarithm, better, normaliser, times
from emnesy_gpu.kernels.gpu.carry_chain.row_tables import Rows, Sizes, load_position, shifted
from emnesy_gpu.kernels.gpu.common.status import INVALID_LOGITS, POSSIBLE

CODE_BITS = tl.constexpr(16)  # of the carry into a position and its digits; an int64 has those of four carries out
CODE_MASK = tl.constexpr(0xFFFF)


class Table(NamedTuple):
    """Best scores of digits by their sum, and BASE times the codes of the digits, tuples of tensors."""

    scores: Any
    codes: Any


@triton.jit
def _wide(logits, BASE: tl.constexpr):
    """The logits of a symbol as float64."""
    values = ()
    for v in tl.static_range(BASE):
        values = values + (logits[v].to(tl.float64),)
    return values


@triton.jit
def _best_sum(scores, table, u, FIRST: tl.constexpr, LAST: tl.constexpr):
    """The best of the values from FIRST to LAST with the rest of the sum u in the table."""
    best = Best(scores[FIRST] + table.scores[u - FIRST].to(tl.float64), table.codes[u - FIRST] + FIRST)
    for v in tl.static_range(FIRST + 1, LAST + 1):
        best = better(best, scores[v] + table.scores[u - v].to(tl.float64), table.codes[u - v] + v)
    return best


@triton.jit
def _convolved(table, scores, BASE: tl.constexpr):
    """The table with one more addend before, whose values have these scores."""
    LENGTH: tl.constexpr = len(table.scores)
    sums = ()
    codes = ()
    for u in tl.static_range(LENGTH + BASE - 1):
        best = _best_sum(scores, table, u, max(0, u - LENGTH + 1), min(u, BASE - 1))
        sums = sums + (best.score,)
        codes = codes + (best.code * BASE,)
    return Table(sums, codes)


@triton.jit
def _carried(alpha, scores, window, OUT: tl.constexpr, SIZES: tl.constexpr):
    """The best score of a carry out, and the code of what it belongs to: carry in + ADDENDS (d_1 + BASE d_2 + ...).

    window: table[digit + u] for u from 2 - ADDENDS - BASE on.
    """
    ADDENDS: tl.constexpr = SIZES.ADDENDS
    BASE: tl.constexpr = SIZES.BASE
    for c in tl.static_range(ADDENDS):
        pair = _best_sum(scores, window, OUT * BASE - c + ADDENDS + BASE - 2, 0, BASE - 1)
        if c == 0:
            best = Best(alpha[0] + pair.score, pair.code * ADDENDS)
        else:
            best = better(best, alpha[c] + pair.score, pair.code * ADDENDS + c)
    return best


@triton.jit
def _step(alpha, symbols, digit, SIZES: tl.constexpr):
    """Best scores of the carries out of a position from those into it, and their codes in one int64."""
    ADDENDS: tl.constexpr = SIZES.ADDENDS
    BASE: tl.constexpr = SIZES.BASE
    nothing = digit * 0
    codes = ()
    for _ in tl.static_range(BASE):
        codes = codes + (nothing,)
    table = Table(symbols[ADDENDS - 1], codes)
    for j in tl.static_range(ADDENDS - 2, 0, -1):
        table = _convolved(table, _wide(symbols[j], BASE), BASE)
    LOW: tl.constexpr = 2 - ADDENDS - BASE
    COUNT: tl.constexpr = ADDENDS * BASE + ADDENDS - 1
    never = tl.full(digit.shape, NEVER, table.scores[0].dtype)
    window_scores = shifted(table.scores, digit, never, LOW, COUNT, BASE)
    window = Table(window_scores, shifted(table.codes, digit, nothing, LOW, COUNT, BASE))
    scores = _wide(symbols[0], BASE)
    after = ()
    chosen = tl.zeros(digit.shape, tl.int64)
    for out in tl.static_range(ADDENDS):
        best = _carried(alpha, scores, window, out, SIZES)
        after = after + (best.score,)
        chosen |= best.code.to(tl.int64) << (CODE_BITS * out)
    return after, chosen


@triton.jit
def _forward(rows, n_digits, SIZES: tl.constexpr):
    """Leaves the codes of the carries out of every position in the output, in the row of the first addend.

    Returns the best scores of the carries out of the top, the log normaliser of all symbols and the status.
    """
    alpha = (tl.zeros(rows.present.shape, tl.float64),)
    for _ in tl.static_range(1, SIZES.ADDENDS):
        alpha = alpha + (tl.full(rows.present.shape, NEVER, tl.float64),)
    highs = tl.zeros(rows.present.shape, tl.float64)
    product = tl.full(rows.present.shape, 1.0, tl.float64)
    exponent = tl.zeros(rows.present.shape, tl.int32)
    code = tl.full(rows.present.shape, POSSIBLE, tl.int32)
    for back in range(n_digits):
        i = n_digits - 1 - back
        digit, digit_code = checked_digit(rows.label + i, rows.present, SIZES.BASE)
        symbols = load_position(rows, i, n_digits, SIZES)
        totals = tl.full(rows.present.shape, 1.0, SIZES.COMPUTE)
        for j in tl.static_range(SIZES.ADDENDS):
            high, total = normaliser(symbols[j], SIZES.BASE)
            highs += high.to(tl.float64)
            totals *= total
        product, exponent = times(product, exponent, totals)
        code = tl.maximum(code, tl.maximum(digit_code, tl.where(totals == totals, POSSIBLE, INVALID_LOGITS)))
        alpha, codes = _step(alpha, symbols, digit, SIZES)
        tl.store(rows.digits + i, codes, mask=rows.present)
    return alpha, highs + as_logarithm(product, exponent), code


@triton.jit
def _follow(rows, carry, possible, n_digits, SIZES: tl.constexpr):
    """Overwrites the codes with the digits of the best path, from the carry out of the top position down."""
    for i in range(n_digits):
        codes = tl.load(rows.digits + i, mask=possible, other=0)
        tl.debug_barrier()
        digit, digit_code = checked_digit(rows.label + i, possible, SIZES.BASE)
        chosen = ((codes >> (carry * CODE_BITS)) & CODE_MASK).to(tl.int32)
        rest = digit + SIZES.BASE * carry
        carry = chosen % SIZES.ADDENDS
        chosen = chosen // SIZES.ADDENDS
        rest -= carry
        for j in tl.static_range(SIZES.ADDENDS - 1):
            tl.store(rows.digits + j * n_digits + i, (chosen % SIZES.BASE).to(tl.int64), mask=possible)
            rest -= chosen % SIZES.BASE
            chosen = chosen // SIZES.BASE
        tl.store(rows.digits + (SIZES.ADDENDS - 1) * n_digits + i, rest.to(tl.int64), mask=possible)


@triton.jit
def _most_probable_alone(rows, alone, n_digits, SIZES: tl.constexpr):
    """Leaves the smallest value of the largest logit of every symbol in the output of these rows."""
    for i in range(n_digits):
        symbols = load_position(rows, i, n_digits, SIZES)
        for j in tl.static_range(SIZES.ADDENDS):
            best = Best(symbols[j][0], tl.zeros(alone.shape, tl.int32))
            for v in tl.static_range(1, SIZES.BASE):
                best = better(best, symbols[j][v], v)
            tl.store(rows.digits + j * n_digits + i, best.code.to(tl.int64), mask=alone)


@triton.jit(do_not_specialize=["batch", "n_digits"])
def row_map_kernel(
    logits_ptr, label_ptr, digits_ptr, log_joint_ptr, status_ptr, batch, n_digits,
    ADDENDS: tl.constexpr, BASE: tl.constexpr, N_EXTRA: tl.constexpr, ROWS: tl.constexpr,
):  # fmt: skip
    """ROWS rows of the batch; positions forwards, then backwards along the paths.

    Grid (ceil(batch / ROWS),). logits [batch, ADDENDS, n_digits, BASE], digits int64 [batch, ADDENDS, n_digits].
    """
    SIZES: tl.constexpr = Sizes(ADDENDS, BASE, log_joint_ptr.dtype.element_ty)
    row = tl.program_id(0).to(tl.int64) * ROWS + tl.arange(0, ROWS)[:, None]
    present = row < batch
    label_ptr += row * (N_EXTRA + n_digits)
    logits_ptr += row * (ADDENDS * n_digits * BASE)
    rows = Rows(logits_ptr, label_ptr + N_EXTRA, digits_ptr + row * (ADDENDS * n_digits), present)
    carry, code = top_carry(label_ptr, present, N_EXTRA, BASE)
    last, log_total, chain_code = _forward(rows, n_digits, SIZES)
    code = tl.maximum(code, chain_code)
    score = last[0]
    for c in tl.static_range(1, ADDENDS):
        score = tl.where(carry == c, last[c], score)
    possible = (score > NEVER) & (carry < ADDENDS) & (code == POSSIBLE)
    tl.store(log_joint_ptr + row, tl.where(possible, score - log_total, NEVER).to(SIZES.COMPUTE), mask=present)
    tl.store(status_ptr + row, final_status(code, possible).to(tl.uint8), mask=present)
    tl.debug_barrier()
    _follow(rows, carry, present & possible, n_digits, SIZES)
    alone = present & ~possible
    if tl.max(alone.to(tl.int32)) > 0:
        _most_probable_alone(rows, alone, n_digits, SIZES)
