"""Takes messages of three or four addends past a position whose tables are in scratch memory, a thread for each row.

As row_marginals.py, for sums whose tables would not fit in registers. The probabilities S(w) of the last addend are kept
less the digit of the label, so that all other threads find an entry at the same place: they store S at places of their
own, and read the results of the last addend there. Then R(digit + w) is the convolution of d_3 with S, or S itself. The
sum w + digit of the right half has the posterior R(digit + w) sum_c alpha(c) K(w + c) with K(y) = sum_c' beta(c')
L(base c' - y), as the sum u of the left half with R in place of L, and y from 0 on.
"""

import triton
import triton.language as tl

from emnesy_gpu.kernels import carry_chain_config
from emnesy_gpu.kernels.gpu.carry_chain.messages import Message, scaled, tolerance, underflow
from emnesy_gpu.kernels.gpu.carry_chain.row_tables import keep, keep_symbol, kept, rest_of_blocks
from emnesy_gpu.kernels.gpu.carry_chain.row_weights import (
    convolve_kept,
    keep_probabilities,
    kept_products,
    repeated,
    replaced,
    selected,
)
from emnesy_gpu.kernels.gpu.carry_chain.symbol_tiles import store_symbols

AT_ONCE = tl.constexpr(carry_chain_config.AT_ONCE)
_place = triton.constexpr_function(carry_chain_config.marginal_entry)


@triton.constexpr_function
def _digit_place(j, addends, base):
    """Where the first of the kept probabilities of addend j is."""
    return _place("last" if j >= addends - 1 else ("first", "second", "third")[j], addends, base)


@triton.constexpr_function
def _zero_place(j, addends, base):
    """Where the probability of the value 0 of addend j is, for the digit 0 of the label."""
    return _digit_place(j, addends, base) + (base - 1 if j >= addends - 1 else 0)


@triton.jit
def _digit_count(j: tl.constexpr, rows, ADDENDS: tl.constexpr):
    """How many there are: of the last addend with the zeros around that stand for all digits of the label."""
    return rows.base if j < ADDENDS - 1 else 2 * rows.base - 1


@triton.jit
def _tabulate(rows, i, digit, n_digits, SIZES: tl.constexpr):
    """Leaves the probabilities of digits and of the sums of both halves; NaN if the logits of a symbol are no prior."""
    ADDENDS: tl.constexpr = SIZES.ADDENDS
    BASE: tl.constexpr = SIZES.BASE
    LAST: tl.constexpr = _place("last", ADDENDS, BASE)
    for w in range(2 * rows.base - 1):
        tl.store(rows.scratch + (LAST + w) * rows.scratch.shape[0], tl.zeros(digit.shape, SIZES.COMPUTE))
    for j in tl.static_range(ADDENDS):
        less = digit if j == ADDENDS - 1 else tl.zeros_like(digit)
        keep_symbol(rows, j, i, n_digits, _zero_place(j, ADDENDS, BASE) - less, SIZES)
        keep_probabilities(rows, _zero_place(j, ADDENDS, BASE) - less)
    SECOND: tl.constexpr = _place("second", ADDENDS, BASE)
    FIRST: tl.constexpr = _place("first", ADDENDS, BASE)
    convolve_kept(rows, FIRST, SECOND, _place("left", ADDENDS, BASE), 2 * rows.base - 1)
    if ADDENDS == 4:
        THIRD: tl.constexpr = _place("third", ADDENDS, BASE)
        convolve_kept(rows, THIRD, LAST, _place("right", ADDENDS, BASE), 3 * rows.base - 2)


@triton.jit
def _transfers_to(rows, out, SIZES: tl.constexpr):
    """T[c, out] by c."""
    ADDENDS: tl.constexpr = SIZES.ADDENDS
    BASE: tl.constexpr = SIZES.BASE
    LEFT: tl.constexpr = _place("left", ADDENDS, BASE)
    START: tl.constexpr = _place("right", ADDENDS, BASE) + BASE - ADDENDS
    ascending = kept_products(rows.scratch, LEFT, START + BASE * out, 2 * rows.base - 1, ADDENDS, False)
    transfers = ()
    for c in tl.static_range(ADDENDS):
        transfers = transfers + (ascending[ADDENDS - 1 - c],)
    return transfers


@triton.jit
def _inner(values, weights):
    total = values[0] * weights[0]
    for c in tl.static_range(1, len(values)):
        total = tl.fma(values[c], weights[c], total)
    return total


@triton.jit
def forwards_kept(message, rows, i, digit, n_digits, SIZES: tl.constexpr):
    """The message out of position i, not scaled yet, from that into it."""
    _tabulate(rows, i, digit, n_digits, SIZES)
    weights = message.weights
    missed = message.missed
    for out in range(SIZES.ADDENDS):
        transfers = _transfers_to(rows, out, SIZES)
        weights = replaced(weights, out, _inner(message.weights, transfers))
        missed = replaced(missed, out, _inner(message.missed, transfers) + underflow(SIZES.COMPUTE))
    return Message(weights, missed)


@triton.jit
def _backwards(message, rows, SIZES: tl.constexpr):
    """The message into a position, not scaled yet, from that out of it."""
    ADDENDS: tl.constexpr = SIZES.ADDENDS
    nothing = tl.zeros_like(message.weights[0])
    weights = repeated(nothing, ADDENDS)
    missed = repeated(nothing + underflow(SIZES.COMPUTE), ADDENDS)
    for out in range(ADDENDS):
        transfers = _transfers_to(rows, out, SIZES)
        own = selected(message.weights, out, 0, 1, ADDENDS)
        own_missed = selected(message.missed, out, 0, 1, ADDENDS)
        more = ()
        more_missed = ()
        for c in tl.static_range(ADDENDS):
            more = more + (tl.fma(own, transfers[c], weights[c]),)
            more_missed = more_missed + (tl.fma(own_missed, transfers[c], missed[c]),)
        weights = more
        missed = more_missed
    return Message(weights, missed)


@triton.jit
def _weigh_half(rows, alpha, beta, table, length, FIRST: tl.constexpr, SIZES: tl.constexpr):
    """Leaves sum_c alpha(c) K(u + c) for `length` sums u from FIRST on; table: where the 0 of the other half is."""
    ADDENDS: tl.constexpr = SIZES.ADDENDS
    BASE: tl.constexpr = SIZES.BASE
    LAST: tl.constexpr = AT_ONCE + ADDENDS - 2
    OTHER: tl.constexpr = _place("other", ADDENDS, BASE)
    for start in range(0, length, AT_ONCE):
        after = repeated(tl.zeros_like(alpha[0]), LAST + 1)
        for out in tl.static_range(ADDENDS):
            window = kept(rows.scratch, table + (BASE * out - FIRST - LAST) - start, LAST + 1)
            more = ()
            for y in tl.static_range(LAST + 1):
                more = more + (tl.fma(beta[out], window[LAST - y], after[y]),)
            after = more
        factors = ()
        for u in tl.static_range(AT_ONCE):
            total = alpha[0] * after[u]
            for c in tl.static_range(1, ADDENDS):
                total = tl.fma(alpha[c], after[u + c], total)
            factors = factors + (total,)
        keep(rows.scratch, factors, OTHER + start)


@triton.jit
def _share_out(rows, J: tl.constexpr, ADDENDS: tl.constexpr, BASE: tl.constexpr):
    """Leaves the probabilities of addend J times what its values are weighted with, and returns the sum."""
    OTHER: tl.constexpr = _place("other", ADDENDS, BASE)
    own_shares: tl.constexpr = _place("shares", ADDENDS, BASE)
    own: tl.constexpr = _digit_place(J, ADDENDS, BASE)
    partner: tl.constexpr = _digit_place(J ^ 1, ADDENDS, BASE)
    scratch = rows.scratch
    total = tl.zeros(scratch.shape, scratch.dtype.element_ty)
    for start in range(0, _digit_count(J, rows, ADDENDS), AT_ONCE):
        if J ^ 1 < ADDENDS:
            weights = kept_products(scratch, partner, OTHER + start, _digit_count(J ^ 1, rows, ADDENDS), AT_ONCE, True)
        else:
            weights = kept(scratch, OTHER + start, AT_ONCE)
        probabilities = kept(scratch, own + start, AT_ONCE)
        shares = ()
        for v in tl.static_range(AT_ONCE):
            share = probabilities[v] * weights[v]
            total += share
            shares = shares + (share,)
        keep(scratch, shares, own_shares + start)
    return total


@triton.jit
def _write_part(out, rows, own, shares, by, gradient_scale, GRADIENT: tl.constexpr, COUNT: tl.constexpr):
    """Stores COUNT results, whose probabilities and shares start at these places of each row."""
    results = scaled(kept(rows.scratch, shares, COUNT), by)
    if GRADIENT:
        priors = kept(rows.scratch, own, COUNT)
        gradient = ()
        for v in tl.static_range(COUNT):
            gradient = gradient + ((priors[v] - results[v]) * gradient_scale,)
        results = gradient
    store_symbols(out, results, rows.present, COUNT)


@triton.jit
def _write_symbol(
    rows, j: tl.constexpr, i, digit, n_digits, gradient_scale, GRADIENT: tl.constexpr, SIZES: tl.constexpr
):
    """Stores the results of addend j from the weights of the sums of its half; returns what they were divided by."""
    ADDENDS: tl.constexpr = SIZES.ADDENDS
    BASE: tl.constexpr = SIZES.BASE
    SHARES: tl.constexpr = _place("shares", ADDENDS, BASE)
    OWN: tl.constexpr = _digit_place(j, ADDENDS, BASE)
    REST: tl.constexpr = rest_of_blocks(BASE)
    total = _share_out(rows, j, ADDENDS, BASE)
    first = tl.zeros_like(digit) if j < ADDENDS - 1 else BASE - 1 - digit
    own = OWN + first
    shares = SHARES + first
    out = rows.digits + (j * n_digits + i) * BASE
    by = 1.0 / total
    for v in range(0, rows.base - REST, AT_ONCE):
        _write_part(out + v, rows, own + v, shares + v, by, gradient_scale, GRADIENT, AT_ONCE)
    if REST > 0:
        v = BASE - REST
        _write_part(out + v, rows, own + v, shares + v, by, gradient_scale, GRADIENT, REST)
    return total


@triton.jit
def backwards_kept(
    message, alpha, rows, i, digit, n_digits, gradient_scale, GRADIENT: tl.constexpr, SIZES: tl.constexpr
):
    """Stores the results of position i; alpha: the weights of the carries into it, message: that out of it.

    Returns the message into it, not scaled yet, and where nothing that counts is missing from the results.
    """
    ADDENDS: tl.constexpr = SIZES.ADDENDS
    BASE: tl.constexpr = SIZES.BASE
    LEFT: tl.constexpr = _place("left", ADDENDS, BASE)
    RIGHT: tl.constexpr = _place("right", ADDENDS, BASE) + BASE - 1
    LEAST: tl.constexpr = underflow(SIZES.COMPUTE) / tolerance(SIZES.COMPUTE)
    _tabulate(rows, i, digit, n_digits, SIZES)
    served = tl.full(digit.shape, True, tl.int1)
    for j in tl.static_range(ADDENDS):
        if j == 0:
            _weigh_half(rows, alpha, message.weights, RIGHT, 2 * rows.base - 1, 0, SIZES)
        if j == 2:
            _weigh_half(rows, alpha, message.weights, LEFT, (ADDENDS - 1) * (rows.base - 1) + 1, 1 - BASE, SIZES)
        total = _write_symbol(rows, j, i, digit, n_digits, gradient_scale, GRADIENT, SIZES)
        served &= total >= LEAST
    return _backwards(message, rows, SIZES), served
