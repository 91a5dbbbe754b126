"""Sum-product on the carry chain for logits of any size: float64 with exponents of unlimited range.

Every quantity is a pair (mantissa, exponent) that stands for mantissa * 2^exponent, and the terms of a sum are
aligned to their largest exponent: the range of log space without its logarithms. Samples lie in lanes, numbers
in rows of two scratch arrays of one ``Layout``. Notation of ``reference.carry_chain``, with addends from 0:
f_j = p_j * f_{j+1} is the pmf of d_j + ... + d_{k-1}, and g_0(u) the weight that the chain gives to a digit sum
u. Marginals are derivatives of sum_u g_0(u) f_0(u), taken backwards through the convolutions:
p(d_j = v | label) ~ p_j(v) sum_r g_j(v + r) f_{j+1}(r),  g_{j+1}(r) = sum_v g_j(v + r) p_j(v).
"""

from __future__ import annotations

import math
from functools import cache
from typing import NamedTuple

import numpy as np

from emnesy_gpu.kernels.cpu.carry_chain.rows import carry_out, row_status
from emnesy_gpu.kernels.cpu.common.compile import kernel, lane_function
from emnesy_gpu.kernels.cpu.common.lanes import (
    FLOAT64_LANES,
    LOG2_E,
    exp_mantissa,
    exponent_of,
    filled,
    load,
    maximum,
    multiply_add,
    nearest_integer,
    power_of_two,
    scratch,
    store,
    where_equal,
    where_less,
)
from emnesy_gpu.kernels.status import IMPOSSIBLE, POSSIBLE

# The exponent of zero: far below that of any product of probabilities, yet finite: differences stay numbers.
ZERO_EXPONENT = -(2.0**60)
# Logits this far below the largest one of their symbol count as -inf.
HARD_ZERO = -1e12
SMALLEST_EXPONENT = -1022.0
LOG_2 = math.log(2.0)


class Layout(NamedTuple):
    """Sizes of the problem, and the first rows of what the scratch arrays hold."""

    n_addends: int
    n_digits: int
    base: int
    table: int  # rows per table: a pmf or weights of sums of digits
    priors: int  # [n_addends, base] of one position, not normalised
    pmfs: int  # f_j of one position for j < n_addends - 1, a table each
    weights: int  # g_j, a table each
    terms: int  # [base]
    alpha: int  # [n_digits + 1, n_addends]: message over the carry into position i at index i + 1
    transfers: int  # [n_digits, n_addends, n_addends]
    beta: int  # [2, n_addends]: message over the carry out of a position, and the next one
    products: int  # [n_addends, n_addends]
    digits: int  # [n_digits + 1]: digits of the label, and the carry out of the top position
    scale: int  # what was taken off alpha, and the softmax denominators
    evidence: int
    total: int


@cache
def layout(k: int, n: int, base: int) -> Layout:
    sizes = {
        "priors": k * base,
        "pmfs": (k - 1) * k * base,
        "weights": k * k * base,
        "terms": base,
        "alpha": (n + 1) * k,
        "transfers": n * k * k,
        "beta": 2 * k,
        "products": k * k,
        "digits": n + 1,
        "scale": 1,
        "evidence": 1,
    }
    rows, total = {}, 0
    for name, size in sizes.items():
        rows[name] = total
        total += size
    return Layout(k, n, base, k * base, **rows, total=total)


def run(logits, label, marginals, log_evidence, status, prior_share, factor) -> None:
    """(posterior - prior_share * prior) * factor, log evidence and status of every row.

    NumPy arrays, logits and marginals float64 [batch, n_addends, n_digits, base].
    """
    _, k, n, base = logits.shape
    at = layout(k, n, base)
    scratches = [scratch(rows, np.float64) for rows in (k * n * base, at.total, at.total)]
    sum_product(logits, label, marginals, log_evidence, status, prior_share, factor, at, *scratches)


@lane_function
def inner_product(mantissa, exponent, out, left, left_step, right, right_step, size):
    """Row out = sum over i of row left + i left_step times row right + i right_step."""
    top = load(exponent, left) + load(exponent, right)
    for i in range(1, size):
        top = maximum(load(exponent, left + i * left_step) + load(exponent, right + i * right_step), top)
    total = filled(mantissa, 0.0)
    for i in range(size):
        a, b = left + i * left_step, right + i * right_step
        scale = power_of_two(maximum(load(exponent, a) + load(exponent, b) - top, SMALLEST_EXPONENT))
        total = multiply_add(load(mantissa, a) * load(mantissa, b), scale, total)
    store(mantissa, out, total)
    store(exponent, out, top)


@lane_function
def convolve(mantissa, exponent, out, left, left_size, right, right_size):
    for u in range(left_size + right_size - 1):
        first, last = max(0, u - right_size + 1), min(u, left_size - 1)
        inner_product(mantissa, exponent, out + u, left + first, 1, right + u - first, -1, last - first + 1)


@lane_function
def correlate(mantissa, exponent, out, out_size, left, right, right_size):
    for u in range(out_size):
        inner_product(mantissa, exponent, out + u, left + u, 1, right, 1, right_size)


@lane_function
def normalise(mantissa, exponent, first, size):
    """Mantissas into [1, 2) and the largest exponent to 0; returns what was taken off the exponents."""
    top = load(exponent, first) + ZERO_EXPONENT
    for row in range(first, first + size):
        shift = exponent_of(load(mantissa, row))
        store(mantissa, row, load(mantissa, row) * power_of_two(shift * -1.0))
        store(exponent, row, load(exponent, row) + shift)
        top = maximum(load(exponent, row), top)
    for row in range(first, first + size):
        store(exponent, row, load(exponent, row) - top)
    return top


@lane_function
def plain(mantissa, exponent, row):
    """The number itself, for exponents <= 0."""
    return load(mantissa, row) * power_of_two(maximum(load(exponent, row), SMALLEST_EXPONENT))


@lane_function
def total_of(mantissa, exponent, first, size):
    total = filled(mantissa, 0.0)
    for row in range(first, first + size):
        total += plain(mantissa, exponent, row)
    return total


@lane_function
def suffix_pmf(at, j):
    """First row of f_j; that of the last addend is its prior."""
    return at.priors + j * at.base if j == at.n_addends - 1 else at.pmfs + j * at.table


@lane_function
def read_position(mantissa, exponent, shifted, at, i, first_pmf):
    """Priors of position i, and f_j for j >= first_pmf."""
    k, n, base = at.n_addends, at.n_digits, at.base
    for j in range(k):
        for v in range(base):
            x, row = load(shifted, (j * n + i) * base + v), at.priors + j * base + v
            whole = nearest_integer(x * LOG2_E)
            store(mantissa, row, where_less(x, HARD_ZERO, 0.0, exp_mantissa(x, whole)))
            store(exponent, row, where_less(x, HARD_ZERO, ZERO_EXPONENT, whole))
    for j in range(k - 2, first_pmf - 1, -1):
        size = (k - j - 1) * (base - 1) + 1
        after = suffix_pmf(at, j + 1)
        convolve(mantissa, exponent, suffix_pmf(at, j), at.priors + j * base, base, after, size)


@lane_function
def pick_transfer(mantissa, exponent, at, i):
    """T[c, c'] = f_0(digit + base c' - c)."""
    k, base, pmf, digit = at.n_addends, at.base, suffix_pmf(at, 0), load(mantissa, at.digits + i)
    for c in range(k):
        for c_out in range(k):
            m, e = filled(mantissa, 0.0), filled(exponent, ZERO_EXPONENT)
            offset = base * c_out - c
            for s in range(max(0, -offset), min(base, k * (base - 1) + 1 - offset)):
                m = where_equal(digit, s, load(mantissa, pmf + s + offset), m)
                e = where_equal(digit, s, load(exponent, pmf + s + offset), e)
            store(mantissa, at.transfers + (i * k + c) * k + c_out, m)
            store(exponent, at.transfers + (i * k + c) * k + c_out, e)


@lane_function
def sum_weights(mantissa, exponent, at, i):
    """g_0(u) = sum of alpha(c) beta(c') over the carries with u = digit + base c' - c."""
    k, base, alpha, digit = (
        at.n_addends,
        at.base,
        at.alpha + (i + 1) * at.n_addends,
        load(mantissa, at.digits + i),
    )
    for c in range(k):
        for c_out in range(k):
            row = at.products + c * k + c_out
            inner_product(mantissa, exponent, row, alpha + c, 1, at.beta + c_out, 1, 1)
    for u in range(k * (base - 1) + 1):
        m, e = filled(mantissa, 0.0), filled(exponent, ZERO_EXPONENT)
        for c in range(k):
            for c_out in range(k):
                s, row = u - base * c_out + c, at.products + c * k + c_out
                if 0 <= s < base:
                    other = where_equal(digit, s, load(exponent, row), ZERO_EXPONENT)
                    top = maximum(other, e)
                    m *= power_of_two(maximum(e - top, SMALLEST_EXPONENT))
                    scale = power_of_two(maximum(other - top, SMALLEST_EXPONENT))
                    m = multiply_add(where_equal(digit, s, load(mantissa, row), 0.0), scale, m)
                    e = top
        store(mantissa, at.weights + u, m)
        store(exponent, at.weights + u, e)


@lane_function
def write_marginals(mantissa, exponent, shifted, at, i, prior_share, factor):
    """(posterior - prior_share * prior) * factor of position i, in place of its shifted logits."""
    k, n, base = at.n_addends, at.n_digits, at.base
    possible = load(mantissa, at.evidence)
    for j in range(k):
        prior, weights = at.priors + j * base, at.weights + j * at.table
        rest = weights
        if j < k - 1:
            size = (k - j - 1) * (base - 1) + 1
            rest = at.terms
            correlate(mantissa, exponent, at.terms, base, weights, suffix_pmf(at, j + 1), size)
            correlate(mantissa, exponent, weights + at.table, size, weights, prior, base)
        for v in range(base):
            inner_product(mantissa, exponent, at.terms + v, rest + v, 1, prior + v, 1, 1)
        normalise(mantissa, exponent, at.terms, base)
        posterior_scale = 1.0 / total_of(mantissa, exponent, at.terms, base)
        prior_scale = 1.0 / total_of(mantissa, exponent, prior, base)
        for v in range(base):
            p = plain(mantissa, exponent, prior + v) * prior_scale
            q = plain(mantissa, exponent, at.terms + v) * posterior_scale
            q = where_less(0.0, possible, q, p)
            store(shifted, (j * n + i) * base + v, (q - p * prior_share) * factor)


@lane_function
def forward(mantissa, exponent, shifted, at):
    """Transfers and alpha, least significant digit first, and the scale of the evidence."""
    k, n, base = at.n_addends, at.n_digits, at.base
    for c in range(k):
        store(mantissa, at.alpha + n * k + c, 1.0 if c == 0 else 0.0)
        store(exponent, at.alpha + n * k + c, 0.0 if c == 0 else ZERO_EXPONENT)
    denominator, taken_off = filled(mantissa, 1.0), filled(exponent, 0.0)
    for i in range(n - 1, -1, -1):
        read_position(mantissa, exponent, shifted, at, i, 0)
        for j in range(k):
            denominator *= total_of(mantissa, exponent, at.priors + j * base, base)
        shift = exponent_of(denominator)
        denominator *= power_of_two(shift * -1.0)
        pick_transfer(mantissa, exponent, at, i)
        alpha, transfer = at.alpha + i * k, at.transfers + i * k * k
        for c in range(k):
            inner_product(mantissa, exponent, alpha + c, alpha + k, 1, transfer + c, k, k)
        taken_off += normalise(mantissa, exponent, alpha, k) - shift
    store(mantissa, at.scale, 1.0 / denominator)
    store(exponent, at.scale, taken_off)


@lane_function
def backward(mantissa, exponent, shifted, at, prior_share, factor):
    """Marginals, most significant digit first."""
    k, beta = at.n_addends, at.beta
    for i in range(at.n_digits):
        read_position(mantissa, exponent, shifted, at, i, 1)
        sum_weights(mantissa, exponent, at, i)
        write_marginals(mantissa, exponent, shifted, at, i, prior_share, factor)
        for c in range(k):
            transfer = at.transfers + (i * k + c) * k
            inner_product(mantissa, exponent, beta + k + c, transfer, 1, beta, 1, k)
        normalise(mantissa, exponent, beta + k, k)
        for c in range(k):
            store(mantissa, beta + c, load(mantissa, beta + k + c))
            store(exponent, beta + c, load(exponent, beta + k + c))


@lane_function
def infer(mantissa, exponent, shifted, at, prior_share, factor):
    k, carry = at.n_addends, load(mantissa, at.digits + at.n_digits)
    forward(mantissa, exponent, shifted, at)
    for c in range(k):
        store(mantissa, at.beta + c, where_equal(carry, c, 1.0, 0.0))
        store(exponent, at.beta + c, where_equal(carry, c, 0.0, ZERO_EXPONENT))
    inner_product(mantissa, exponent, at.evidence, at.alpha, 1, at.beta, 1, k)
    backward(mantissa, exponent, shifted, at, prior_share, factor)


@lane_function
def read_row(logits, label, at, lane, shifted, mantissa):
    """One row into one lane: logits less the largest one of their symbol, digits, and top carry."""
    k, n, base = logits.shape
    for j in range(k):
        for i in range(n):
            largest = logits[j, i, 0]
            for v in range(1, base):
                largest = max(largest, logits[j, i, v])
            for v in range(base):
                shifted[(j * n + i) * base + v, lane] = logits[j, i, v] - largest
    for i in range(n):
        mantissa[at.digits + i, lane] = label[len(label) - n + i]
    mantissa[at.digits + n, lane] = carry_out(label, n, base)


@lane_function
def write_row(values, lane, marginals):
    k, n, base = marginals.shape
    for j in range(k):
        for i in range(n):
            for v in range(base):
                marginals[j, i, v] = values[(j * n + i) * base + v, lane]


@kernel
def sum_product(logits, label, marginals, log_evidence, status, prior_share, factor, at, shifted, mantissa, exponent):
    """FLOAT64_LANES rows at a time; lanes to spare repeat the last row."""
    batch = len(logits)
    for start in range(0, batch, FLOAT64_LANES):
        for lane in range(FLOAT64_LANES):
            row = min(start + lane, batch - 1)
            read_row(logits[row], label[row], at, lane, shifted, mantissa)
        infer(mantissa, exponent, shifted, at, prior_share, factor)
        for row in range(start, min(start + FLOAT64_LANES, batch)):
            lane = row - start
            write_row(shifted, lane, marginals[row])
            code = row_status(logits[row], label[row], at.base)
            log_evidence[row] = -np.inf
            if code == POSSIBLE and not mantissa[at.evidence, lane] > 0.0:
                code = IMPOSSIBLE
            if code == POSSIBLE:
                power = exponent[at.evidence, lane] + exponent[at.scale, lane]
                factored = mantissa[at.evidence, lane] * mantissa[at.scale, lane]
                log_evidence[row] = math.log(factored) + power * LOG_2
            status[row] = code
