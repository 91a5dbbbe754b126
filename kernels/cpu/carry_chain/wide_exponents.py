"""Sum-product on the carry chain for logits of any size: float64 with exponents of unlimited range.

Every quantity is a pair as in ``wide_numbers``, and the terms of a sum are aligned to their largest exponent. Exponents
are whole numbers of at most about 2^42 for each factor of a product (LARGEST_LOGIT): float64 has them exactly. Rows of
the batch lie in lanes, numbers in rows of two scratch arrays of one ``Layout``. Notation of ``reference.carry_chain``,
with addends from 0: f_j = p_j * f_{j+1} is the pmf of d_j + ... + d_{k-1}, and g_0(u) the weight that the chain gives
to a digit sum u. Marginals are derivatives of sum_u g_0(u) f_0(u), taken backwards through the convolutions:
p(d_j = v | label) ~ p_j(v) sum_r g_j(v + r) f_{j+1}(r),  g_{j+1}(r) = sum_v g_j(v + r) p_j(v).

All mantissas but zeros lie about 1. So a subnormal number is a term next to one of about 1, or a result below 2^-1022,
and counts as zero.
"""

from __future__ import annotations

import math
from functools import cache
from typing import NamedTuple

import numpy as np

from emnesy_gpu.kernels.cpu.carry_chain.digit_sums import digits_between, n_sums, transfer_row
from emnesy_gpu.kernels.cpu.carry_chain.rows import carry_out, row_status
from emnesy_gpu.kernels.cpu.common.compile import kernel, lane_function
from emnesy_gpu.kernels.cpu.common.lane_scratch import scratch
from emnesy_gpu.kernels.cpu.common.lanes import (
    FLOAT64_LANES,
    exponent_of,
    filled,
    load,
    maximum,
    multiply_add,
    power_of_two,
    store,
    where_equal,
    where_less,
)
from emnesy_gpu.kernels.cpu.common.layout import consecutive_rows
from emnesy_gpu.kernels.cpu.common.row_driver import Combination, Results
from emnesy_gpu.kernels.cpu.common.subnormals import flush_subnormals, subnormals_as_before
from emnesy_gpu.kernels.cpu.common.wide_numbers import (
    LOG_2,
    SMALLEST_EXPONENT,
    ZERO_EXPONENT,
    Pairs,
    empty_pairs,
    exponential,
    get,
    plain,
    put,
)
from emnesy_gpu.kernels.status import IMPOSSIBLE, POSSIBLE


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
    """Rows of the scratch arrays for k addends of n digits."""
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
    return Layout(k, n, base, k * base, **consecutive_rows(sizes))


class Workspace(NamedTuple):
    """The scratch arrays of a block of rows."""

    shifted: np.ndarray  # [n_addends * n_digits * base, lanes]: logits less the largest of a symbol, later marginals
    pairs: Pairs  # rows as in Layout


def run(combination: Combination, logits: np.ndarray, label: np.ndarray, results: Results) -> int:
    """The combination of posterior and prior, log evidence and status of every row; leaves no row.

    Logits and marginals: float64 [batch, n_addends, n_digits, base].
    """
    at = layout(*logits.shape[1:])
    workspace = Workspace(scratch(logits[0].size, np.float64), empty_pairs(at.total))
    sum_product(logits, label, results, combination, at, workspace)
    return 0


@lane_function
def inner_product(pairs, out, left, left_step, right, right_step, size):
    """Row out = sum over i of row left + i left_step times row right + i right_step."""
    mantissa, exponent = pairs
    top = load(exponent, left) + load(exponent, right)
    for i in range(1, size):
        top = maximum(load(exponent, left + i * left_step) + load(exponent, right + i * right_step), top)
    total = filled(mantissa, 0.0)
    for i in range(size):
        a, b = left + i * left_step, right + i * right_step
        scale = power_of_two(maximum(load(exponent, a) + load(exponent, b) - top, SMALLEST_EXPONENT))
        total = multiply_add(load(mantissa, a) * load(mantissa, b), scale, total)
    put(pairs, out, total, top)


@lane_function
def convolve(pairs, out, left, left_size, right, right_size):
    """Row out + u = sum over v of row left + v times row right + u - v."""
    for u in range(left_size + right_size - 1):
        first, last = max(0, u - right_size + 1), min(u, left_size - 1)
        inner_product(pairs, out + u, left + first, 1, right + u - first, -1, last - first + 1)


@lane_function
def correlate(pairs, out, out_size, left, right, right_size):
    """Row out + u = sum over r of row left + u + r times row right + r, for u < out_size."""
    for u in range(out_size):
        inner_product(pairs, out + u, left + u, 1, right, 1, right_size)


@lane_function
def normalise(pairs, first, size):
    """Mantissas into [1, 2) and the largest exponent to 0; returns what was taken off the exponents."""
    mantissa, exponent = pairs
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
def plain_row(pairs, row):
    """The number in a row itself, for exponents <= 0."""
    m, e = get(pairs, row)
    return plain(m, e)


@lane_function
def total_of(pairs, first, size):
    """The sum of rows first .. first + size - 1, for exponents <= 0."""
    total = filled(pairs.mantissa, 0.0)
    for row in range(first, first + size):
        total += plain_row(pairs, row)
    return total


@lane_function
def suffix_pmf(at, j):
    """First row of f_j; that of the last addend is its prior."""
    return at.priors + j * at.base if j == at.n_addends - 1 else at.pmfs + j * at.table


@lane_function
def read_position(pairs, shifted, at, i, first_pmf):
    """Priors of position i, and f_j for j >= first_pmf."""
    k, n, base = at.n_addends, at.n_digits, at.base
    for j in range(k):
        for v in range(base):
            m, e = exponential(load(shifted, (j * n + i) * base + v))
            put(pairs, at.priors + j * base + v, m, e)
    for j in range(k - 2, first_pmf - 1, -1):
        size = n_sums(k - j - 1, base)
        after = suffix_pmf(at, j + 1)
        convolve(pairs, suffix_pmf(at, j), at.priors + j * base, base, after, size)


@lane_function
def pick_transfer(pairs, at, i):
    """T[c, c'] = f_0(digit + base c' - c)."""
    mantissa, exponent = pairs
    k, base, pmf, digit = at.n_addends, at.base, suffix_pmf(at, 0), load(mantissa, at.digits + i)
    for c in range(k):
        for c_out in range(k):
            m, e = filled(mantissa, 0.0), filled(exponent, ZERO_EXPONENT)
            offset, first, last = digits_between(c, c_out, k, base)
            for s in range(first, last):
                m = where_equal(digit, s, load(mantissa, pmf + s + offset), m)
                e = where_equal(digit, s, load(exponent, pmf + s + offset), e)
            put(pairs, transfer_row(at, i, c, c_out), m, e)


@lane_function
def sum_weights(pairs, at, i):
    """g_0(u) = sum of alpha(c) beta(c') over the carries with u = digit + base c' - c."""
    mantissa, exponent = pairs
    k, base = at.n_addends, at.base
    alpha, digit = at.alpha + (i + 1) * k, load(mantissa, at.digits + i)
    for c in range(k):
        for c_out in range(k):
            row = at.products + c * k + c_out
            inner_product(pairs, row, alpha + c, 1, at.beta + c_out, 1, 1)
    for u in range(n_sums(k, base)):
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
        put(pairs, at.weights + u, m, e)


@lane_function
def write_marginals(workspace, at, i, combination):
    """The combination of posterior and prior of position i, in place of its shifted logits."""
    shifted, pairs = workspace
    k, n, base = at.n_addends, at.n_digits, at.base
    possible = load(pairs.mantissa, at.evidence)
    for j in range(k):
        prior, weights = at.priors + j * base, at.weights + j * at.table
        rest = weights
        if j < k - 1:
            size = n_sums(k - j - 1, base)
            rest = at.terms
            correlate(pairs, at.terms, base, weights, suffix_pmf(at, j + 1), size)
            correlate(pairs, weights + at.table, size, weights, prior, base)
        for v in range(base):
            inner_product(pairs, at.terms + v, rest + v, 1, prior + v, 1, 1)
        normalise(pairs, at.terms, base)
        posterior_scale = 1.0 / total_of(pairs, at.terms, base)
        prior_scale = 1.0 / total_of(pairs, prior, base)
        for v in range(base):
            p = plain_row(pairs, prior + v) * prior_scale
            q = plain_row(pairs, at.terms + v) * posterior_scale
            q = where_less(0.0, possible, q, p)
            store(shifted, (j * n + i) * base + v, (q - p * combination.prior_share) * combination.factor)


@lane_function
def forward(workspace, at):
    """Transfers and alpha, least significant digit first, and the scale of the evidence."""
    shifted, pairs = workspace
    k, n, base = at.n_addends, at.n_digits, at.base
    for c in range(k):
        put(pairs, at.alpha + n * k + c, 1.0 if c == 0 else 0.0, 0.0 if c == 0 else ZERO_EXPONENT)
    denominator, taken_off = filled(pairs.mantissa, 1.0), filled(pairs.exponent, 0.0)
    for i in range(n - 1, -1, -1):
        read_position(pairs, shifted, at, i, 0)
        for j in range(k):
            denominator *= total_of(pairs, at.priors + j * base, base)
        shift = exponent_of(denominator)
        denominator *= power_of_two(shift * -1.0)
        pick_transfer(pairs, at, i)
        alpha, transfer = at.alpha + i * k, transfer_row(at, i, 0, 0)
        for c in range(k):
            inner_product(pairs, alpha + c, alpha + k, 1, transfer + c, k, k)
        taken_off += normalise(pairs, alpha, k) - shift
    put(pairs, at.scale, 1.0 / denominator, taken_off)


@lane_function
def backward(workspace, at, combination):
    """Marginals, most significant digit first."""
    shifted, pairs = workspace
    k, beta = at.n_addends, at.beta
    for i in range(at.n_digits):
        read_position(pairs, shifted, at, i, 1)
        sum_weights(pairs, at, i)
        write_marginals(workspace, at, i, combination)
        for c in range(k):
            inner_product(pairs, beta + k + c, transfer_row(at, i, c, 0), 1, beta, 1, k)
        normalise(pairs, beta + k, k)
        for c in range(k):
            m, e = get(pairs, beta + k + c)
            put(pairs, beta + c, m, e)


@lane_function
def infer(workspace, at, combination):
    """Evidence, and the combination of posterior and prior in place of the shifted logits."""
    pairs = workspace.pairs
    k, carry = at.n_addends, load(pairs.mantissa, at.digits + at.n_digits)
    forward(workspace, at)
    for c in range(k):
        put(pairs, at.beta + c, where_equal(carry, c, 1.0, 0.0), where_equal(carry, c, 0.0, ZERO_EXPONENT))
    inner_product(pairs, at.evidence, at.alpha, 1, at.beta, 1, k)
    backward(workspace, at, combination)


@lane_function
def read_row(logits, label, at, lane, workspace):
    """One row into one lane: logits less the largest one of their symbol, digits, and top carry."""
    shifted, mantissa = workspace.shifted, workspace.pairs.mantissa
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
    """One lane into the marginals [n_addends, n_digits, base] of one row."""
    k, n, base = marginals.shape
    for j in range(k):
        for i in range(n):
            for v in range(base):
                marginals[j, i, v] = values[(j * n + i) * base + v, lane]


@kernel
def sum_product(logits, label, results, combination, at, workspace):
    """FLOAT64_LANES rows at a time; lanes to spare repeat the last row."""
    marginals, log_evidence, status = results
    shifted, (mantissa, exponent) = workspace
    batch, before = len(logits), flush_subnormals()
    for start in range(0, batch, FLOAT64_LANES):
        for lane in range(FLOAT64_LANES):
            row = min(start + lane, batch - 1)
            read_row(logits[row], label[row], at, lane, workspace)
        infer(workspace, at, combination)
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
    subnormals_as_before(before)
