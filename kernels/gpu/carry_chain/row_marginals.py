"""Computes posterior and EM gradient of three or four addends, a thread for each row: sum-product over the carries.

The first two addends of a position are the left half, the others the right one: a thread tabulates the probabilities L
and R of their sums in registers, and R shifted by the digit of the label. Then T[c, c'] = sum_u L(u) R(digit + base c' -
c - u) takes messages over carries from position to position. With the messages alpha and beta, the sum u of the left
half has the posterior L(u) sum_c alpha(c) K(u + c), where K(y) = sum_c' beta(c') R(digit + base c' - y); the sum of the
right half likewise. This is for small bases; kept_marginals.py has the positions of others, whose tables are in scratch
memory, and general.py the rows that probabilities do not serve.

Messages are scaled, to the sum 1 (alpha) or the largest entry 1 (beta), and carry along what underflow has taken.
"""

from typing import Any, NamedTuple

import triton
import triton.language as tl

from emnesy_gpu.kernels.gpu.carry_chain.general import Results, with_logarithms
from emnesy_gpu.kernels.gpu.carry_chain.kept_marginals import backwards_kept, forwards_kept
from emnesy_gpu.kernels.gpu.carry_chain.label import checked_digit, top_carry
from emnesy_gpu.kernels.gpu.carry_chain.messages import Message, scaled, tolerance, underflow
from emnesy_gpu.kernels.gpu.carry_chain.row_tables import (
    Rows,
    Sizes,
    keep_everywhere,
    load_position,
    scratch_of,
    shifted,
)
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
def _halves(rows, i, n_digits, SIZES: tl.constexpr):
    """NaN if the logits of a symbol are no prior."""
    symbols = load_position(rows, i, n_digits, SIZES)
    digits = ()
    for j in tl.static_range(SIZES.ADDENDS):
        weights, total = weights_of(symbols[j], SIZES.BASE)
        digits = digits + (scaled(weights, 1.0 / total),)
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
def _forwards(message, rows, i, digit, n_digits, SIZES: tl.constexpr):
    """The message out of position i, not scaled yet, from that into it."""
    halves = _halves(rows, i, n_digits, SIZES)
    transfers = _transfers(halves.left, _window(halves.right, digit, SIZES.BASE), SIZES)
    return _carried_on(message, transfers, SIZES.ADDENDS, 1, SIZES.ADDENDS)


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
        if SIZES.KEPT:
            after = forwards_kept(alpha, rows, i, digit, n_digits, SIZES)
        else:
            after = _forwards(alpha, rows, i, digit, n_digits, SIZES)
        total = after.weights[0]
        for c in tl.static_range(1, ADDENDS):
            total += after.weights[c]
        alpha = Message(scaled(after.weights, 1.0 / total), scaled(after.missed, 1.0 / total))
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
    results = scaled(shares, 1.0 / total)
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
def _backwards(message, alpha, rows, i, digit, n_digits, gradient_scale, GRADIENT: tl.constexpr, SIZES: tl.constexpr):
    """Stores the results of position i; alpha: the weights of the carries into it, message: that out of it.

    Returns the message into it, not scaled yet, and where nothing that counts is missing from the results.
    """
    ADDENDS: tl.constexpr = SIZES.ADDENDS
    BASE: tl.constexpr = SIZES.BASE
    halves = _halves(rows, i, n_digits, SIZES)
    digits = halves.digits
    window = _window(halves.right, digit, BASE)
    transfers = _transfers(halves.left, window, SIZES)
    weights = _other_half(alpha, message.weights, window, len(halves.left), SIZES)
    total = _write_half(rows, i, digits[0], digits[1], weights, n_digits, gradient_scale, GRADIENT)
    window = _window(halves.left, digit, BASE)
    weights = _other_half(alpha, message.weights, window, len(halves.right), SIZES)
    place = 2 * n_digits + i
    if ADDENDS == 3:
        other = _write_symbol(rows, place, digits[2], weights, gradient_scale, GRADIENT)
    else:
        other = _write_half(rows, place, digits[2], digits[3], weights, n_digits, gradient_scale, GRADIENT)
    least = underflow(SIZES.COMPUTE) / tolerance(SIZES.COMPUTE)
    return _carried_on(message, transfers, 1, ADDENDS, ADDENDS), (total >= least) & (other >= least)


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
        if SIZES.KEPT:
            before, enough = backwards_kept(beta, alpha, rows, i, digit, n_digits, gradient_scale, GRADIENT, SIZES)
        else:
            before, enough = _backwards(beta, alpha, rows, i, digit, n_digits, gradient_scale, GRADIENT, SIZES)
        served &= enough
        high = before.weights[0]
        for c in tl.static_range(1, ADDENDS):
            high = tl.maximum(high, before.weights[c])
        beta = Message(scaled(before.weights, 1.0 / high), scaled(before.missed, 1.0 / high))
    return served & (beta.missed[0] <= tolerance(SIZES.COMPUTE) * beta.weights[0])


class Launch(NamedTuple):
    """The arguments of a launch."""

    logits: Any  # [batch, ADDENDS, n_digits, BASE]
    label: Any  # int64 [batch, N_EXTRA + n_digits]
    out: Any  # as the logits
    evidence: Any  # [batch]
    status: Any  # uint8 [batch]
    scratch: Any  # pointers [ROWS, 1] to [entries, ROWS] of the program
    batch: Any
    n_digits: Any
    base: Any  # BASE, for loops that are seldom taken
    gradient_scale: Any  # [1, 1]


@triton.jit
def _compute_unserved(launch, unserved, first, N_EXTRA: tl.constexpr, OPTIONS: tl.constexpr, GRADIENT: tl.constexpr):
    """The results of the rows of a block that are not -1, by all threads."""
    ROWS: tl.constexpr = unserved.shape[0]
    n_digits = launch.n_digits
    size = OPTIONS.ADDENDS * n_digits * launch.base
    tl.debug_barrier()
    sums = tl.arange(0, OPTIONS.SUMS)[None, :]
    value = tl.arange(0, OPTIONS.WIDTH)[None, :]
    for r in tl.range(ROWS, disable_licm=True):
        index = first + r
        if tl.max((unserved == index).to(tl.int32)) > 0:
            own = index + tl.zeros((1, 1), tl.int64)
            some = own >= 0
            label = launch.label + own * (N_EXTRA + n_digits)
            top, code = top_carry(label, some, N_EXTRA, launch.base)
            samples = Samples(
                launch.logits + own * size, label + N_EXTRA, some, n_digits, launch.base, n_digits * launch.base, sums,
                value,
            )  # fmt: skip
            results = Results(launch.out + own * size, launch.evidence + own, launch.status + own)
            with_logarithms(samples, top, code, results, launch.gradient_scale, OPTIONS, GRADIENT)


@triton.jit
def _compute_block(
    block, launch, N_EXTRA: tl.constexpr, OPTIONS: tl.constexpr, SIZES: tl.constexpr, GRADIENT: tl.constexpr
):
    """The results of a block of rows; positions forwards, then backwards."""
    ROWS: tl.constexpr = launch.scratch.shape[0]
    n_digits = launch.n_digits
    first = tl.zeros((), tl.int64) + block * ROWS
    row = first + tl.arange(0, ROWS)[:, None]
    present = row < launch.batch
    size = SIZES.ADDENDS * n_digits * SIZES.BASE
    label = launch.label + row * (N_EXTRA + n_digits)
    rows = Rows(
        launch.logits + row * size, label + N_EXTRA, launch.out + row * size, present, launch.scratch, launch.base
    )
    top, code = top_carry(label, present, N_EXTRA, SIZES.BASE)
    evidence, served = _forward(rows, top, n_digits, SIZES)
    served &= _backward(rows, top, n_digits, launch.gradient_scale, SIZES, GRADIENT) & (code == POSSIBLE) & present
    tl.store(launch.evidence + row, evidence * LN_2, mask=served)
    tl.store(launch.status + row, tl.full(row.shape, POSSIBLE, tl.uint8), mask=served)
    unserved = tl.where(present & (served == 0), row, -1)
    if tl.max(unserved) >= 0:
        _compute_unserved(launch, unserved, first, N_EXTRA, OPTIONS, GRADIENT)


@triton.jit(do_not_specialize=["batch", "n_digits", "base"])
def row_marginals_kernel(
    logits_ptr, label_ptr, out_ptr, evidence_ptr, status_ptr, scratch_ptr, batch, n_digits, base, scale_high, scale_low,
    ADDENDS: tl.constexpr, BASE: tl.constexpr, N_EXTRA: tl.constexpr, WIDTH: tl.constexpr, SUMS: tl.constexpr,
    ROWS: tl.constexpr, ENTRIES: tl.constexpr, GRADIENT: tl.constexpr,
):  # fmt: skip
    """Programs share blocks of ROWS rows. base: BASE, for loops that are seldom taken.

    ENTRIES: of the scratch memory of a row, 0 if tables are in registers: then a program has one block. Grid
    (programs,). logits and out [batch, ADDENDS, n_digits, BASE].
    """
    COMPUTE: tl.constexpr = evidence_ptr.dtype.element_ty
    SIZES: tl.constexpr = Sizes(ADDENDS, BASE, COMPUTE, ENTRIES > 0, ENTRIES > 0)
    OPTIONS: tl.constexpr = Options(ADDENDS, SUMS, WIDTH, COMPUTE)
    gradient_scale = tl.zeros((1, 1), COMPUTE) + scale_high + scale_low
    scratch = scratch_of(scratch_ptr, ENTRIES, ROWS)
    launch = Launch(
        logits_ptr, label_ptr, out_ptr, evidence_ptr, status_ptr, scratch, batch, n_digits, base, gradient_scale
    )
    if ENTRIES > 0:
        for block in tl.range(tl.program_id(0), tl.cdiv(batch, ROWS), tl.num_programs(0), disable_licm=True):
            keep_everywhere(scratch, 0.0, ENTRIES)
            _compute_block(block, launch, N_EXTRA, OPTIONS, SIZES, GRADIENT)
    else:  # without a loop, whose variables would spill registers
        _compute_block(tl.program_id(0), launch, N_EXTRA, OPTIONS, SIZES, GRADIENT)
