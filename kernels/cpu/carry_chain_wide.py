"""Sum-product on the carry chain for logits of any size: float64 with exponents of unlimited range.

Every quantity is a pair (mantissa, exponent) that stands for mantissa * 2^exponent, and the terms of a sum are
aligned to their largest exponent: the range of log space without its logarithms. Samples lie in lanes, numbers
in rows of two scratch arrays with the same layout. Notation of ``reference.carry_chain``, with addends from 0:
f_j = p_j * f_{j+1} is the pmf of d_j + ... + d_{k-1}, and g_0(u) the weight that the chain gives to a digit sum
u. Marginals are derivatives of sum_u g_0(u) f_0(u), taken backwards through the convolutions:
p(d_j = v | label) ~ p_j(v) sum_r g_j(v + r) f_{j+1}(r),  g_{j+1}(r) = sum_v g_j(v + r) p_j(v).
"""

from __future__ import annotations

import math

import numpy as np
from numba import njit

from emnesy_gpu.kernels.cpu.carry_chain_rows import IMPOSSIBLE, POSSIBLE, carry_out, row_status
from emnesy_gpu.kernels.cpu.lanes import (
    FLOAT64_LANES,
    LOG2_E,
    exp_mantissa,
    exponent_of,
    filled,
    lane_function,
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

# The exponent of zero: far below that of any product of probabilities, yet finite: differences stay numbers.
ZERO_EXPONENT = -(2.0**60)
# Logits this far below the largest one of their symbol count as -inf.
HARD_ZERO = -1e12
SMALLEST_EXPONENT = -1022.0
LOG_2 = math.log(2.0)


def run(logits, label, rows, first, last, marginals, log_evidence, status, prior_share, factor) -> None:
    """(posterior - prior_share * prior) * factor, log evidence and status of rows[first:last].

    logits and marginals [batch, n_addends, n_digits, base], label [batch, n_label_digits]: NumPy arrays.
    """
    _, k, n, base = logits.shape
    shifted = scratch(k * n * base, np.float64)
    pairs = chain_row(k, base) + (n + 1) * k + n * k * k + k * k + 2 * k + 2
    sum_product(
        logits, label, rows, first, last, marginals, log_evidence, status, prior_share, factor,
        shifted, scratch(pairs, np.float64), scratch(pairs, np.float64),
    )  # fmt: skip


@njit(cache=True)
def chain_row(k, base):
    """First row behind the tables of one position: p_j at j base, then f_j, g_j and the terms of a marginal."""
    return (2 * k + 1) * k * base + base


@lane_function
def suffix_row(k, base, j):
    return j * base if j == k - 1 else (1 + j) * k * base


@lane_function
def weight_row(k, base, j):
    return (1 + k + j) * k * base


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
def exponentiate(mantissa, exponent, out, shifted, first, size):
    """Rows from out on = exp of the shifted logits in rows from first on."""
    for v in range(size):
        x = load(shifted, first + v)
        whole = nearest_integer(x * LOG2_E)
        store(mantissa, out + v, where_less(x, HARD_ZERO, 0.0, exp_mantissa(x, whole)))
        store(exponent, out + v, where_less(x, HARD_ZERO, ZERO_EXPONENT, whole))


@lane_function
def prior_total(mantissa, exponent, first, size):
    """Sum of exp(shifted logits), between 1 and size."""
    total = filled(mantissa, 0.0)
    for v in range(first, first + size):
        scale = power_of_two(maximum(load(exponent, v), SMALLEST_EXPONENT))
        total = multiply_add(load(mantissa, v), scale, total)
    return total


@lane_function
def read_position(mantissa, exponent, shifted, i, k, n, base, first_pmf):
    """p_j of position i, and the pmfs f_j for j >= first_pmf."""
    for j in range(k):
        exponentiate(mantissa, exponent, j * base, shifted, (j * n + i) * base, base)
    for j in range(k - 2, first_pmf - 1, -1):
        size = (k - j - 1) * (base - 1) + 1
        after = suffix_row(k, base, j + 1)
        convolve(mantissa, exponent, suffix_row(k, base, j), j * base, base, after, size)


@lane_function
def pick_transfer(mantissa, exponent, out, digit, k, base):
    """T[c, c'] = f_0(digit + base c' - c) in row out + c k + c'."""
    pmf = suffix_row(k, base, 0)
    for c in range(k):
        for c_out in range(k):
            m, e = filled(mantissa, 0.0), filled(exponent, ZERO_EXPONENT)
            for s in range(base):
                u = s + base * c_out - c
                if 0 <= u <= k * (base - 1):
                    m = where_equal(digit, s, load(mantissa, pmf + u), m)
                    e = where_equal(digit, s, load(exponent, pmf + u), e)
            store(mantissa, out + c * k + c_out, m)
            store(exponent, out + c * k + c_out, e)


@lane_function
def sum_weights(mantissa, exponent, products, digit, k, base):
    """g_0(u) = sum of alpha(c) beta(c') over the carries with u = digit + base c' - c."""
    out = weight_row(k, base, 0)
    for u in range(k * (base - 1) + 1):
        m, e = filled(mantissa, 0.0), filled(exponent, ZERO_EXPONENT)
        for c in range(k):
            for c_out in range(k):
                s = u - base * c_out + c
                if 0 <= s < base:
                    row = products + c * k + c_out
                    other = where_equal(digit, s, load(exponent, row), ZERO_EXPONENT)
                    top = maximum(other, e)
                    m = m * power_of_two(maximum(e - top, SMALLEST_EXPONENT))
                    scale = power_of_two(maximum(other - top, SMALLEST_EXPONENT))
                    m = multiply_add(where_equal(digit, s, load(mantissa, row), 0.0), scale, m)
                    e = top
        store(mantissa, out + u, m)
        store(exponent, out + u, e)


@lane_function
def write_marginals(mantissa, exponent, shifted, possible, i, k, n, base, prior_share, factor):
    """(posterior - prior_share * prior) * factor of position i, in place of its shifted logits."""
    terms = chain_row(k, base) - base
    for j in range(k):
        weights = weight_row(k, base, j)
        rest = weights
        if j < k - 1:
            size = (k - j - 1) * (base - 1) + 1
            rest = terms
            correlate(mantissa, exponent, terms, base, weights, suffix_row(k, base, j + 1), size)
            correlate(mantissa, exponent, weight_row(k, base, j + 1), size, weights, j * base, base)
        for v in range(base):
            inner_product(mantissa, exponent, terms + v, rest + v, 1, j * base + v, 1, 1)
        normalise(mantissa, exponent, terms, base)
        posterior_scale = 1.0 / prior_total(mantissa, exponent, terms, base)
        prior_scale = 1.0 / prior_total(mantissa, exponent, j * base, base)
        for v in range(base):
            prior_power = power_of_two(maximum(load(exponent, j * base + v), SMALLEST_EXPONENT))
            prior = load(mantissa, j * base + v) * prior_power * prior_scale
            power = power_of_two(maximum(load(exponent, terms + v), SMALLEST_EXPONENT))
            posterior = load(mantissa, terms + v) * power * posterior_scale
            posterior = where_less(0.0, possible, posterior, prior)
            store(shifted, (j * n + i) * base + v, (posterior - prior * prior_share) * factor)


@lane_function
def read_rows(logits, rows, count, shifted):
    """Logits less the largest one of their symbol, transposed: [symbol and value, lane]."""
    _, k, n, base = logits.shape
    for lane in range(shifted.shape[1]):
        row = rows[min(lane, count - 1)]
        for j in range(k):
            for i in range(n):
                values = logits[row, j, i]
                largest = np.float64(values[0])
                for v in range(1, base):
                    largest = max(largest, np.float64(values[v]))
                for v in range(base):
                    shifted[(j * n + i) * base + v, lane] = np.float64(values[v]) - largest


@lane_function
def write_rows(values, rows, count, marginals):
    _, k, n, base = marginals.shape
    for lane in range(count):
        for j in range(k):
            for i in range(n):
                for v in range(base):
                    marginals[rows[lane], j, i, v] = values[(j * n + i) * base + v, lane]


@lane_function
def read_digits(mantissa, row, label, rows, count, column):
    for lane in range(mantissa.shape[1]):
        mantissa[row, lane] = label[rows[min(lane, count - 1)], column]
    return load(mantissa, row)


@lane_function
def forward(mantissa, exponent, shifted, label, rows, count, k, n, base, alpha, transfers, log_scale):
    """alpha of the carry into position i in row alpha + (i + 1) k, T of position i in row transfers + i k^2.

    Adds the exponents taken off alpha, less those of the softmax denominators, to row log_scale.
    """
    extra = label.shape[1] - n
    taken_off = filled(exponent, 0.0)
    denominator = filled(mantissa, 1.0)
    for c in range(k):
        store(mantissa, alpha + n * k + c, 1.0 if c == 0 else 0.0)
        store(exponent, alpha + n * k + c, 0.0 if c == 0 else ZERO_EXPONENT)
    for i in range(n - 1, -1, -1):
        read_position(mantissa, exponent, shifted, i, k, n, base, 0)
        for j in range(k):
            denominator *= prior_total(mantissa, exponent, j * base, base)
        shift = exponent_of(denominator)
        denominator *= power_of_two(shift * -1.0)
        taken_off -= shift
        digit = read_digits(mantissa, log_scale, label, rows, count, extra + i)
        transfer = transfers + i * k * k
        pick_transfer(mantissa, exponent, transfer, digit, k, base)
        for c_out in range(k):
            inner_product(mantissa, exponent, alpha + i * k + c_out, alpha + (i + 1) * k, 1, transfer + c_out, k, k)
        taken_off += normalise(mantissa, exponent, alpha + i * k, k)
    store(mantissa, log_scale, 1.0 / denominator)
    store(exponent, log_scale, taken_off)


@lane_function
def start_backward(mantissa, exponent, beta, carry, k):
    for c in range(k):
        store(mantissa, beta + c, where_equal(carry, c, 1.0, 0.0))
        store(exponent, beta + c, where_equal(carry, c, 0.0, ZERO_EXPONENT))


@lane_function
def backward(
    mantissa, exponent, shifted, label, rows, count, possible, k, n, base, alpha, transfers, beta, prior_share, factor
):
    """Marginals of every position, from the most significant one down; beta starts at the carry out of it."""
    extra = label.shape[1] - n
    products = beta + 2 * k
    for i in range(n):
        read_position(mantissa, exponent, shifted, i, k, n, base, 1)
        digit = read_digits(mantissa, products, label, rows, count, extra + i)
        for c in range(k):
            for c_out in range(k):
                inner_product(
                    mantissa, exponent, products + c * k + c_out, alpha + (i + 1) * k + c, 1, beta + c_out, 1, 1
                )
        sum_weights(mantissa, exponent, products, digit, k, base)
        write_marginals(mantissa, exponent, shifted, possible, i, k, n, base, prior_share, factor)
        for c in range(k):
            transfer = transfers + (i * k + c) * k
            inner_product(mantissa, exponent, beta + k + c, transfer, 1, beta, 1, k)
        normalise(mantissa, exponent, beta + k, k)
        for c in range(k):
            store(mantissa, beta + c, load(mantissa, beta + k + c))
            store(exponent, beta + c, load(exponent, beta + k + c))


@njit(nogil=True, cache=True, error_model="numpy")
def sum_product(
    logits, label, rows, first, last, marginals, log_evidence, status, prior_share, factor, shifted, mantissa, exponent
):
    """All rows of rows[first:last], FLOAT64_LANES at a time."""
    _, k, n, base = logits.shape
    alpha = chain_row(k, base)
    transfers = alpha + (n + 1) * k
    beta = transfers + n * k * k
    evidence = beta + 2 * k + k * k
    scale = evidence + 1
    for start in range(first, last, FLOAT64_LANES):
        count = min(FLOAT64_LANES, last - start)
        block = rows[start : start + count]
        read_rows(logits, block, count, shifted)
        forward(mantissa, exponent, shifted, label, block, count, k, n, base, alpha, transfers, scale)
        for lane in range(FLOAT64_LANES):
            mantissa[evidence, lane] = carry_out(label[block[min(lane, count - 1)]], n, base)
        start_backward(mantissa, exponent, beta, load(mantissa, evidence), k)
        inner_product(mantissa, exponent, evidence, alpha, 1, beta, 1, k)
        possible = load(mantissa, evidence)
        backward(
            mantissa, exponent, shifted, label, block, count, possible, k, n, base, alpha, transfers, beta,
            prior_share, factor,
        )  # fmt: skip
        write_rows(shifted, block, count, marginals)
        for lane in range(count):
            row = block[lane]
            status[row] = row_status(logits[row], label[row], base)
            log_evidence[row] = -np.inf
            if status[row] == POSSIBLE and not mantissa[evidence, lane] > 0.0:
                status[row] = IMPOSSIBLE
            if status[row] == POSSIBLE:
                power = exponent[evidence, lane] + exponent[scale, lane]
                log_evidence[row] = (
                    math.log(mantissa[evidence, lane] * mantissa[scale, lane]) + power * LOG_2
                )
