"""Computes posterior and EM gradient of three or four addends, a thread for each row: sum-product over the carries.

The first two addends of a position are the left half, the others the right one: a thread tabulates the probabilities L
and R of their sums in registers, and R shifted by the digit of the label. Then T[c, c'] = sum_u L(u) R(digit + base c' -
c - u) takes messages over carries from position to position. With the messages alpha and beta, the sum u of the left
half has the posterior L(u) sum_c alpha(c) K(u + c), where K(y) = sum_c' beta(c') R(digit + base c' - y); the sum of the
right half likewise. This is for small bases; general.py has the others, and rows that probabilities do not serve.

Messages are scaled, and carry along what underflow has taken from them, as in general_linear.py.
"""

from typing import Any, NamedTuple

import triton
import triton.language as tl

from emnesy_gpu.kernels.gpu.carry_chain.general import Results, with_logarithms
from emnesy_gpu.kernels.gpu.carry_chain.general_linear import Message, tolerance, underflow
from emnesy_gpu.kernels.gpu.carry_chain.label import checked_digit, top_carry
from emnesy_gpu.kernels.gpu.carry_chain.row_tables import Rows, Sizes, load_position, shifted
from emnesy_gpu.kernels.gpu.carry_chain.row_weights import carried, convolved, selected, sum_of, weights_of
from emnesy_gpu.kernels.gpu.carry_chain.sum_tables import Options, Samples
from emnesy_gpu.kernels.gpu.carry_chain.symbol_tiles import store_symbols
from emnesy_gpu.kernels.gpu.common.log2_semiring import LN_2, log2
from emnesy_gpu.kernels.gpu.common.status import POSSIBLE


class Halves(NamedTuple):
    """The probabilities of a position, tuples of tensors [ROWS, 1]."""

    digits: Any  # of every addend, by value
    left: Any  # of the sums of the first two addends
    right: Any  # of the sums of the others


@triton.jit
def _scaled(values, by):
    """Every entry of a tuple times a factor."""
    scaled = ()
    for v in tl.static_range(len(values)):
        scaled = scaled + (values[v] * by,)
    return scaled


@triton.jit
def _halves(rows, i, n_digits, SIZES: tl.constexpr):
    """NaN if the logits of a symbol are no prior."""
    symbols = load_position(rows, i, n_digits, SIZES)
    digits = ()
    for j in tl.static_range(SIZES.ADDENDS):
        weights, total = weights_of(symbols[j], SIZES.BASE)
        digits = digits + (_scaled(weights, 1.0 / total),)
    left = convolved(digits[1], digits[0])
    right = digits[2] if SIZES.ADDENDS == 3 else convolved(digits[3], digits[2])
    return Halves(digits, left, right)


@triton.jit
def _window(table, digit, BASE: tl.constexpr):
    """table(digit + w) for w from 1 - BASE on, as far as it may have entries."""
    return shifted(table, digit, tl.zeros(digit.shape, table[0].dtype), 1 - BASE, len(table) + BASE - 1, BASE)


@triton.jit
def _transfers(left, window, SIZES: tl.constexpr):
    """T[c, c'] at c' * ADDENDS + c; window: that of R."""
    transfers = ()
    for out in tl.static_range(SIZES.ADDENDS):
        for c in tl.static_range(SIZES.ADDENDS):
            transfers = transfers + (sum_of(left, window, (out + 1) * SIZES.BASE - c - 1),)
    return transfers


@triton.jit
def _other_half(alpha, beta, window, LENGTH: tl.constexpr, SIZES: tl.constexpr):
    """What LENGTH sums of a half are weighted with: sum_c alpha(c) K(u + c); window: that of the other half."""
    ADDENDS: tl.constexpr = SIZES.ADDENDS
    after = ()
    for y in tl.static_range(LENGTH + ADDENDS - 1):
        total = tl.zeros_like(beta[0])
        for out in tl.static_range(ADDENDS):
            if ((out + 1) * SIZES.BASE - 1 >= y) & ((out + 1) * SIZES.BASE - 1 - y < len(window)):
                total = tl.fma(beta[out], window[(out + 1) * SIZES.BASE - 1 - y], total)
        after = after + (total,)
    factors = ()
    for u in tl.static_range(LENGTH):
        total = alpha[0] * after[u]
        for c in tl.static_range(1, ADDENDS):
            total = tl.fma(alpha[c], after[u + c], total)
        factors = factors + (total,)
    return factors


@triton.jit
def _stash(out, c, i, n_digits, BASE: tl.constexpr):
    """Where the weight of the carry c into a position is kept in the output."""
    return out + (c // BASE * n_digits + i) * BASE + c % BASE


@triton.jit
def _carried_on(message, transfers, OUT: tl.constexpr, IN: tl.constexpr, ADDENDS: tl.constexpr):
    """The message on the other side of a position, not scaled yet."""
    weights = carried(message.weights, transfers, OUT, IN, ADDENDS)
    missed = carried(message.missed, transfers, OUT, IN, ADDENDS)
    more = ()
    for c in tl.static_range(ADDENDS):
        more = more + (missed[c] + underflow(weights[0].dtype),)
    return Message(weights, more)


@triton.jit
def _start(carry, ADDENDS: tl.constexpr, COMPUTE: tl.constexpr):
    """The message that has this carry [ROWS, 1]."""
    weights = ()
    missed = ()
    for c in tl.static_range(ADDENDS):
        weights = weights + (tl.where(carry == c, 1.0, 0.0).to(COMPUTE),)
        missed = missed + (tl.zeros(carry.shape, COMPUTE),)
    return Message(weights, missed)


@triton.jit
def _forward(rows, top, n_digits, SIZES: tl.constexpr):
    """Leaves the message into every position in the output.

    Returns the log2 evidence of the carry top and whether nothing that counts is missing from it.
    """
    ADDENDS: tl.constexpr = SIZES.ADDENDS
    alpha = _start(top * 0, ADDENDS, SIZES.COMPUTE)
    scale = tl.zeros(top.shape, SIZES.COMPUTE)
    code = tl.full(top.shape, POSSIBLE, tl.int32)
    for back in range(n_digits):
        i = n_digits - 1 - back
        for c in tl.static_range(ADDENDS):
            tl.store(_stash(rows.digits, c, i, n_digits, SIZES.BASE), alpha.weights[c], mask=rows.present)
        digit, digit_code = checked_digit(rows.label + i, rows.present, SIZES.BASE)
        code = tl.maximum(code, digit_code)
        halves = _halves(rows, i, n_digits, SIZES)
        transfers = _transfers(halves.left, _window(halves.right, digit, SIZES.BASE), SIZES)
        after = _carried_on(alpha, transfers, ADDENDS, 1, ADDENDS)
        total = after.weights[0]
        for c in tl.static_range(1, ADDENDS):
            total += after.weights[c]
        alpha = Message(_scaled(after.weights, 1.0 / total), _scaled(after.missed, 1.0 / total))
        scale += log2(total)
    chance = selected(alpha.weights, top, 0, 1, ADDENDS)
    missed = selected(alpha.missed, top, 0, 1, ADDENDS)
    served = (code == POSSIBLE) & (top < ADDENDS) & (chance > 0.0) & (missed <= tolerance(SIZES.COMPUTE) * chance)
    return scale + log2(chance), served


@triton.jit
def _write_symbol(rows, place, probabilities, weights, gradient_scale, GRADIENT: tl.constexpr):
    """Stores the results of a symbol with these weights of its values, and returns their sum."""
    BASE: tl.constexpr = len(probabilities)
    shares = ()
    total = tl.zeros_like(probabilities[0])
    for v in tl.static_range(BASE):
        share = probabilities[v] * weights[v]
        total += share
        shares = shares + (share,)
    results = _scaled(shares, 1.0 / total)
    if GRADIENT:
        gradient = ()
        for v in tl.static_range(BASE):
            gradient = gradient + ((probabilities[v] - results[v]) * gradient_scale,)
        results = gradient
    store_symbols(rows.digits + place * BASE, results, rows.present, BASE)
    return total


@triton.jit
def _beside(weights, probabilities, BASE: tl.constexpr):
    """The weights of the values of an addend, from those of sums with another and the probabilities of that one."""
    own = ()
    for v in tl.static_range(BASE):
        total = probabilities[0] * weights[v]
        for other in tl.static_range(1, BASE):
            total = tl.fma(probabilities[other], weights[v + other], total)
        own = own + (total,)
    return own


@triton.jit
def _write_half(rows, place, first, second, weights, n_digits, gradient_scale, GRADIENT: tl.constexpr):
    """Stores the results of two addends whose sums have these weights; returns the smaller evidence divided by."""
    BASE: tl.constexpr = len(first)
    total = _write_symbol(rows, place, first, _beside(weights, second, BASE), gradient_scale, GRADIENT)
    other = _write_symbol(rows, place + n_digits, second, _beside(weights, first, BASE), gradient_scale, GRADIENT)
    return tl.where(total >= other, other, total)


@triton.jit
def _backward(rows, top, n_digits, gradient_scale, SIZES: tl.constexpr, GRADIENT: tl.constexpr):
    """Overwrites the messages in the output with the results; returns whether nothing that counts is missing."""
    ADDENDS: tl.constexpr = SIZES.ADDENDS
    BASE: tl.constexpr = SIZES.BASE
    beta = _start(top, ADDENDS, SIZES.COMPUTE)
    served = tl.full(top.shape, True, tl.int1)
    for i in range(n_digits):
        # The messages may have been stored by other threads. Barriers of the logits order these loads before results.
        tl.debug_barrier()
        alpha = ()
        for c in tl.static_range(ADDENDS):
            alpha = alpha + (tl.load(_stash(rows.digits, c, i, n_digits, BASE), mask=rows.present, other=0.0),)
        digit, _ = checked_digit(rows.label + i, rows.present, BASE)
        halves = _halves(rows, i, n_digits, SIZES)
        digits = halves.digits
        window = _window(halves.right, digit, BASE)
        transfers = _transfers(halves.left, window, SIZES)
        weights = _other_half(alpha, beta.weights, window, len(halves.left), SIZES)
        total = _write_half(rows, i, digits[0], digits[1], weights, n_digits, gradient_scale, GRADIENT)
        window = _window(halves.left, digit, BASE)
        weights = _other_half(alpha, beta.weights, window, len(halves.right), SIZES)
        place = 2 * n_digits + i
        if ADDENDS == 3:
            other = _write_symbol(rows, place, digits[2], weights, gradient_scale, GRADIENT)
        else:
            other = _write_half(rows, place, digits[2], digits[3], weights, n_digits, gradient_scale, GRADIENT)
        least = underflow(SIZES.COMPUTE) / tolerance(SIZES.COMPUTE)
        served &= (total >= least) & (other >= least)
        before = _carried_on(beta, transfers, 1, ADDENDS, ADDENDS)
        high = before.weights[0]
        for c in tl.static_range(1, ADDENDS):
            high = tl.maximum(high, before.weights[c])
        beta = Message(_scaled(before.weights, 1.0 / high), _scaled(before.missed, 1.0 / high))
    return served & (beta.missed[0] <= tolerance(SIZES.COMPUTE) * beta.weights[0])


@triton.jit(do_not_specialize=["batch", "n_digits", "base"])
def row_marginals_kernel(
    logits_ptr, label_ptr, out_ptr, evidence_ptr, status_ptr, batch, n_digits, base, scale_high, scale_low,
    ADDENDS: tl.constexpr, BASE: tl.constexpr, N_EXTRA: tl.constexpr, WIDTH: tl.constexpr, SUMS: tl.constexpr,
    ROWS: tl.constexpr, GRADIENT: tl.constexpr,
):  # fmt: skip
    """ROWS rows of the batch; positions forwards, then backwards. base: BASE, for loops that are seldom taken.

    Grid (ceil(batch / ROWS),). logits and out [batch, ADDENDS, n_digits, BASE].
    """
    COMPUTE: tl.constexpr = evidence_ptr.dtype.element_ty
    SIZES: tl.constexpr = Sizes(ADDENDS, BASE, COMPUTE, False)
    OPTIONS: tl.constexpr = Options(ADDENDS, SUMS, WIDTH, COMPUTE)
    first = tl.program_id(0).to(tl.int64) * ROWS
    row = first + tl.arange(0, ROWS)[:, None]
    present = row < batch
    size = ADDENDS * n_digits * BASE
    label = label_ptr + row * (N_EXTRA + n_digits)
    rows = Rows(logits_ptr + row * size, label + N_EXTRA, out_ptr + row * size, present, None)
    gradient_scale = tl.zeros((1, 1), COMPUTE) + scale_high + scale_low
    top, code = top_carry(label, present, N_EXTRA, BASE)
    evidence, served = _forward(rows, top, n_digits, SIZES)
    served &= _backward(rows, top, n_digits, gradient_scale, SIZES, GRADIENT) & (code == POSSIBLE) & present
    tl.store(evidence_ptr + row, evidence * LN_2, mask=served)
    tl.store(status_ptr + row, tl.full(row.shape, POSSIBLE, tl.uint8), mask=served)
    unserved = tl.where(present & (served == 0), row, -1)
    if tl.max(unserved) >= 0:
        tl.debug_barrier()
        sums = tl.arange(0, SUMS)[None, :]
        value = tl.arange(0, WIDTH)[None, :]
        for r in range(ROWS):
            index = first + r
            if tl.max((unserved == index).to(tl.int32)) > 0:
                own = index + tl.zeros((1, 1), tl.int64)
                some = own >= 0
                own_label = label_ptr + own * (N_EXTRA + n_digits)
                own_top, own_code = top_carry(own_label, some, N_EXTRA, base)
                samples = Samples(
                    logits_ptr + own * size, own_label + N_EXTRA, some, n_digits, base, n_digits * base, sums, value
                )
                results = Results(out_ptr + own * size, evidence_ptr + own, status_ptr + own)
                with_logarithms(samples, own_top, own_code, results, gradient_scale, OPTIONS, GRADIENT)
