"""Sum-product on the carry chain in float32 probabilities, with a proof of its own error.

The formulas and the notation of ``carry_chain_wide``; samples lie in lanes, numbers in the rows of one scratch
array. Probabilities below 2^-126 count as zero, so the evidence may miss paths that matter when a label
contradicts confident logits. An upper bound of what was missed is carried along with the messages, and rows
where it is not negligible are handed back (``RECOMPUTE``) to be computed by ``carry_chain_wide``.
"""

from __future__ import annotations

import math

import numpy as np
from numba import njit

from emnesy_gpu.kernels.cpu.carry_chain_rows import POSSIBLE, carry_out
from emnesy_gpu.kernels.cpu.lanes import (
    FLOAT32_LANES,
    LOG2_E,
    exp_mantissa,
    exponent_of,
    filled,
    lane_function,
    load,
    maximum,
    minimum,
    multiply_add,
    nearest_integer,
    power_of_two,
    scratch,
    store,
    where_equal,
    where_less,
)
from emnesy_gpu.kernels.cpu.transpose import TILE, read_columns, write_columns

RECOMPUTE = 255

LOG_2 = math.log(2.0)
SMALLEST_NORMAL = 2.0**-126
SMALLEST_LOGIT = -126 * LOG_2
# The share of the evidence that may be missing from a row.
TOLERANCE = 1e-6
# Positions whose logits are transposed together: columns fill whole tiles whatever the base.
CHUNK = TILE


def run(logits, label, first, last, marginals, log_evidence, status, prior_share, factor) -> int:
    """(posterior - prior_share * prior) * factor and log evidence of rows first .. last - 1.

    status becomes POSSIBLE, or RECOMPUTE where neither the other results nor the status are known; returns the
    number of those rows.
    """
    batch, k, n, base = logits.shape
    rows = k * symbol_rows(n, base) + (2 * k + 1) * k * base + base + (n + 1) * k + (n + 1) * k * k + 4 * k + 8
    return sum_product(
        logits.reshape(batch, k * n * base), label, first, last, marginals.reshape(batch, k * n * base),
        log_evidence, status, k, n, base, prior_share, factor, scratch(rows, np.float32),
    )  # fmt: skip


@njit(cache=True)
def symbol_rows(n, base):
    """Rows for the symbols of one addend: whole tiles."""
    return (n * base + TILE - 1) // TILE * TILE


@lane_function
def inner_product(work, left, left_step, right, right_step, size):
    """Sum over i of row left + i left_step times row right + i right_step."""
    total = load(work, left) * load(work, right)
    for i in range(1, size):
        total = multiply_add(load(work, left + i * left_step), load(work, right + i * right_step), total)
    return total


@lane_function
def convolve(work, out, left, left_size, right, right_size):
    for u in range(left_size + right_size - 1):
        first, last = max(0, u - right_size + 1), min(u, left_size - 1)
        store(work, out + u, inner_product(work, left + first, 1, right + u - first, -1, last - first + 1))


@lane_function
def correlate(work, out, out_size, left, right, right_size):
    for u in range(out_size):
        store(work, out + u, inner_product(work, left + u, 1, right, 1, right_size))


@lane_function
def softmax(work, first, size):
    """In place; values below the smallest normal number become 0."""
    largest = load(work, first)
    for row in range(first + 1, first + size):
        largest = maximum(load(work, row), largest)
    total = filled(work, 0.0)
    for row in range(first, first + size):
        x = load(work, row) - largest
        whole = nearest_integer(x * LOG2_E)
        value = exp_mantissa(x, whole) * power_of_two(whole)
        value = where_less(x, SMALLEST_LOGIT, 0.0, value)
        total += value
        store(work, row, value)
    scale = 1.0 / total
    for row in range(first, first + size):
        store(work, row, load(work, row) * scale)


@lane_function
def suffix_pmfs(work, tables, i, first, k, n, base):
    """f_j of position i for first <= j < k - 1, each in k base rows from tables + j k base on."""
    stride = symbol_rows(n, base)
    after = (k - 1) * stride + i * base
    for j in range(k - 2, first - 1, -1):
        size = (k - j - 1) * (base - 1) + 1
        convolve(work, tables + j * k * base, j * stride + i * base, base, after, size)
        after = tables + j * k * base


@lane_function
def pick_transfer(work, out, pmf, digit, k, base):
    """T[c, c'] = f_0(digit + base c' - c) in row out + c k + c'."""
    for c in range(k):
        for c_out in range(k):
            value = filled(work, 0.0)
            offset = base * c_out - c
            for s in range(max(0, -offset), min(base, k * (base - 1) + 1 - offset)):
                value = where_equal(digit, s, load(work, pmf + s + offset), value)
            store(work, out + c * k + c_out, value)


@lane_function
def sum_weights(work, out, products, digit, k, base):
    """g_0(u) = sum of alpha(c) beta(c') over the carries with u = digit + base c' - c."""
    for u in range(k * (base - 1) + 1):
        total = filled(work, 0.0)
        for c_out in range(k):
            for c in range(k):
                s = u - base * c_out + c
                if 0 <= s < base:
                    total += where_equal(digit, s, load(work, products + c * k + c_out), 0.0)
        store(work, out + u, total)


@lane_function
def step_forward(work, alpha_in, alpha_out, transfer, missed, k, base):
    """alpha(c') = sum over c of alpha(c) T[c, c'], scaled to sum 1; returns what it summed to.

    Rows missed .. missed + k - 1 bound what alpha lacks: every transfer may lack a few times the smallest
    normal number, of the weight that is there and of the weight that is not.
    """
    lacking = filled(work, 1.0)
    for c in range(k):
        lacking += load(work, missed + c)
    lacking *= 4.0 * k * base * SMALLEST_NORMAL
    total = filled(work, 0.0)
    for c_out in range(k):
        value = inner_product(work, alpha_in, 1, transfer + c_out, k, k)
        total += value
        store(work, alpha_out + c_out, value)
        store(work, missed + k + c_out, inner_product(work, missed, 1, transfer + c_out, k, k) + lacking)
    scale = 1.0 / maximum(total, SMALLEST_NORMAL)
    for c in range(k):
        store(work, alpha_out + c, load(work, alpha_out + c) * scale)
        store(work, missed + c, load(work, missed + k + c) * scale)
    return total


@lane_function
def step_backward(work, alpha, beta, transfer, k):
    """Rows beta + k on = sum over c' of T[c, c'] beta(c'), scaled to sum 1; returns alpha T beta."""
    total, evidence = filled(work, 0.0), filled(work, 0.0)
    for c in range(k):
        value = inner_product(work, transfer + c * k, 1, beta, 1, k)
        total += value
        evidence = multiply_add(load(work, alpha + c), value, evidence)
        store(work, beta + k + c, value)
    scale = 1.0 / maximum(total, SMALLEST_NORMAL)
    for c in range(k):
        store(work, beta + k + c, load(work, beta + k + c) * scale)
    return evidence


@lane_function
def write_marginals(work, tables, weights, terms, i, scale, k, n, base, prior_share, factor):
    """(posterior - prior_share * prior) * factor of position i, in place of its priors."""
    stride = symbol_rows(n, base)
    for j in range(k):
        prior = j * stride + i * base
        rest = weights + j * k * base
        if j < k - 1:
            size = (k - j - 1) * (base - 1) + 1
            after = (k - 1) * stride + i * base if j == k - 2 else tables + (j + 1) * k * base
            correlate(work, terms, base, rest, after, size)
            correlate(work, rest + k * base, size, rest, prior, base)
            rest = terms
        for v in range(base):
            p = load(work, prior + v)
            posterior = load(work, rest + v) * scale * p
            store(work, prior + v, (posterior - p * prior_share) * factor)


@lane_function
def read_digits(work, row, label, first, last, column):
    for lane in range(FLOAT32_LANES):
        work[row, lane] = label[min(first + lane, last - 1), column]
    return load(work, row)


@lane_function
def forward(work, matrix, label, first, last, k, n, base, tables, alpha, transfers, missed):
    """Priors, transfers and alpha (of the carry into position i in row alpha + (i + 1) k), least digit first.

    Returns the product of the scales of alpha as mantissa and exponent.
    """
    stride = symbol_rows(n, base)
    for c in range(k):
        store(work, alpha + n * k + c, 1.0 if c == 0 else 0.0)
        store(work, missed + c, 0.0)
    product, exponent = filled(work, 1.0), filled(work, 0.0)
    for chunk in range((n - 1) // CHUNK * CHUNK, -1, -CHUNK):
        end = min(n, chunk + CHUNK)
        for j in range(k):
            column, columns = (j * n + chunk) * base, (end - chunk) * base
            read_columns(matrix, first, last - 1, column, columns, work, j * stride + chunk * base)
        for i in range(end - 1, chunk - 1, -1):
            for j in range(k):
                softmax(work, j * stride + i * base, base)
            suffix_pmfs(work, tables, i, 0, k, n, base)
            digit = read_digits(work, tables - 1, label, first, last, label.shape[1] - n + i)
            transfer = transfers + i * k * k
            pick_transfer(work, transfer, tables, digit, k, base)
            alpha_out = alpha + i * k
            product *= step_forward(work, alpha_out + k, alpha_out, transfer, missed, k, base)
            shift = exponent_of(product)
            product *= power_of_two(shift * -1.0)
            exponent += shift
    return product, exponent


@lane_function
def backward(
    work, matrix, label, first, last, k, n, base, tables, alpha, transfers, beta, prior_share, factor
):
    """Marginals, most significant digit first; returns the smallest alpha T beta met."""
    stride = symbol_rows(n, base)
    products = beta + 2 * k
    weights = tables + k * k * base
    terms = weights + k * k * base
    smallest = filled(work, 1.0)
    for chunk in range(0, n, CHUNK):
        end = min(n, chunk + CHUNK)
        for i in range(chunk, end):
            suffix_pmfs(work, tables, i, 1, k, n, base)
            digit = read_digits(work, products, label, first, last, label.shape[1] - n + i)
            alpha_in = alpha + (i + 1) * k
            evidence = step_backward(work, alpha_in, beta, transfers + i * k * k, k)
            smallest = minimum(evidence, smallest)
            for c in range(k):
                for c_out in range(k):
                    store(work, products + c * k + c_out, load(work, alpha_in + c) * load(work, beta + c_out))
            sum_weights(work, weights, products, digit, k, base)
            scale = 1.0 / maximum(evidence, SMALLEST_NORMAL)
            write_marginals(work, tables, weights, terms, i, scale, k, n, base, prior_share, factor)
            for c in range(k):
                store(work, beta + c, load(work, beta + k + c))
        for j in range(k):
            column, columns = (j * n + chunk) * base, (end - chunk) * base
            write_columns(matrix, first, last - 1, column, columns, work, j * stride + chunk * base)
    return smallest


@njit(nogil=True, cache=True, error_model="numpy")
def sum_product(
    logits, label, first, last, marginals, log_evidence, status, k, n, base, prior_share, factor, work
):
    """Rows first .. last - 1, FLOAT32_LANES at a time; returns how many are left to recompute."""
    tables = k * symbol_rows(n, base) + 1
    alpha = tables + (2 * k + 1) * k * base
    transfers = alpha + (n + 1) * k
    beta = transfers + n * k * k
    missed = beta + 2 * k + k * k
    evidence = missed + 2 * k
    recompute = 0
    for start in range(first, last, FLOAT32_LANES):
        stop = min(start + FLOAT32_LANES, last)
        product, exponent = forward(
            work, logits, label, start, stop, k, n, base, tables, alpha, transfers, missed
        )
        for lane in range(FLOAT32_LANES):
            work[evidence, lane] = carry_out(label[min(start + lane, stop - 1)], n, base)
        carry = load(work, evidence)
        for c in range(k):
            store(work, beta + c, where_equal(carry, c, 1.0, 0.0))
        found = inner_product(work, alpha, 1, beta, 1, k)
        lacking = inner_product(work, missed, 1, beta, 1, k)
        smallest = backward(
            work, marginals, label, start, stop, k, n, base, tables, alpha, transfers, beta, prior_share, factor
        )
        certain = where_less(lacking, found * TOLERANCE, 1.0, 0.0)
        certain = where_less(4.0 * n * k * base * SMALLEST_NORMAL, smallest * TOLERANCE, certain, 0.0)
        store(work, evidence, product * found)
        store(work, evidence + 1, exponent)
        store(work, evidence + 2, certain)
        for lane in range(stop - start):
            row = start + lane
            if work[evidence + 2, lane] == 1.0:
                status[row] = POSSIBLE
                log_evidence[row] = math.log(work[evidence, lane]) + work[evidence + 1, lane] * LOG_2
            else:
                status[row] = RECOMPUTE
                recompute += 1
    return recompute
