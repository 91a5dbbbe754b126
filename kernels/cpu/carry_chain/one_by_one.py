"""The arithmetic of ``probabilities`` for one row after the other, with two addends: the same bits in less time.

A row has one digit of the label at each position, so that four sums of digits matter of 2 base - 1, those with
u = digit + base c' - c. Products with all others are exactly 0 in lanes, and are left out here. Numbers lie in the rows
of the scratch of one lane; those of different values are neighbours, and fill vectors where they do not depend on each
other.
"""

from __future__ import annotations

import numpy as np

from emnesy_gpu.kernels.cpu.carry_chain.digit_sums import transfer_row
from emnesy_gpu.kernels.cpu.carry_chain.probabilities import (
    SMALLEST_NORMAL,
    conclude,
    layout_at,
    meet_label,
    normalised,
    step_backward,
    step_forward,
    symbol,
    write_evidence,
)
from emnesy_gpu.kernels.cpu.common.compile import kernel, lane_function
from emnesy_gpu.kernels.cpu.common.lanes import (
    FLOAT32_LANES,
    as_lanes,
    exp_nonpositive,
    filled,
    load,
    maximum,
    minimum,
    multiply_add,
    store,
)
from emnesy_gpu.kernels.cpu.common.large_logits import any_beyond
from emnesy_gpu.kernels.cpu.common.pointers import matrix_at, numbers_at
from emnesy_gpu.kernels.cpu.common.row_driver import Combination
from emnesy_gpu.kernels.cpu.common.subnormals import flush_subnormals, subnormals_as_before

ADDENDS = 2

MOST_ROWS = 3
"""More rows take less time in lanes."""


@lane_function
def exponentiate(work, vectors, at, logits):
    """exp of the logits less the largest one of their symbol, and one over the sums of these."""
    k, n, base = at.n_addends, at.n_digits, at.base
    for j in range(k):
        for i in range(n):
            source, target = (j * n + i) * base, symbol(at, j, i)
            largest = logits[source]
            for v in range(1, base):
                largest = max(largest, logits[source + v])
            for v in range(base):
                work[target + v, 0] = logits[source + v] - largest
    for row in range(len(vectors)):
        store(vectors, row, exp_nonpositive(load(vectors, row)))
    for j in range(k):
        for i in range(n):
            first, total = symbol(at, j, i), filled(work, 0.0)
            for row in range(first, first + base):
                total += load(work, row)
            store(work, at.scales + i * k + j, 1.0 / total)


@lane_function
def pick_transfer(work, at, i, digit):
    """T[c, c'] = sum over a of f(a) f'(u - a) for u = digit + base c' - c, from the largest a downwards; normalised."""
    base, left, right = at.base, symbol(at, 0, i), symbol(at, 1, i)
    scale = load(work, at.scales + i * ADDENDS) * load(work, at.scales + i * ADDENDS + 1)
    for c in range(ADDENDS):
        for c_out in range(ADDENDS):
            u, value = digit + base * c_out - c, filled(work, 0.0)
            for a in range(min(base - 1, u), max(0, u - base + 1) - 1, -1):
                value = multiply_add(load(work, right + u - a), load(work, left + a), value)
            store(work, transfer_row(at, i, c, c_out), value * scale)


@lane_function
def weigh(work, at, i, digit, values, out):
    """Row out + v = sum over u of g(u) values(u - v), from the smallest u upwards: g(u) = alpha(c) beta(c')."""
    base, alpha = at.base, at.alpha + (i + 1) * ADDENDS
    for v in range(base):
        store(work, out + v, 0.0)
    for c_out in range(ADDENDS):
        for c in range(ADDENDS - 1, -1, -1):
            u, weight = digit + base * c_out - c, load(work, alpha + c) * load(work, at.beta + c_out)
            for v in range(max(0, u - base + 1), min(base - 1, u) + 1):
                store(work, out + v, multiply_add(weight, load(work, values + u - v), load(work, out + v)))


@lane_function
def write_marginals(work, at, i, digit, scale, combination):
    """The combination of posterior and prior of position i, in place of its exponentials."""
    for j in range(ADDENDS):
        scale *= load(work, at.scales + i * ADDENDS + j)
        weigh(work, at, i, digit, symbol(at, 1 - j, i), at.weights + j * at.table)
    for j in range(ADDENDS):
        values, rest = symbol(at, j, i), at.weights + j * at.table
        prior_scale = load(work, at.scales + i * ADDENDS + j) * (-combination.prior_share * combination.factor)
        for v in range(at.base):
            ratio = multiply_add(load(work, rest + v), scale, prior_scale)
            store(work, values + v, load(work, values + v) * ratio)


@lane_function
def forward(work, at, digits):
    """Everything up to alpha, least significant digit first; returns the product of its scales."""
    for c in range(ADDENDS):
        store(work, at.alpha + at.n_digits * ADDENDS + c, 1.0 if c == 0 else 0.0)
        store(work, at.missed + c, 0.0)
    product, exponent = filled(work, 1.0), filled(work, 0.0)
    for i in range(at.n_digits - 1, -1, -1):
        pick_transfer(work, at, i, digits[i])
        product, shift = normalised(product * step_forward(work, at, i))
        exponent += shift
    return product, exponent


@lane_function
def backward(work, at, digits, combination):
    """Marginals, most significant digit first; returns the smallest alpha T beta met."""
    smallest = filled(work, 1.0)
    for i in range(at.n_digits):
        evidence = step_backward(work, at, i)
        smallest = minimum(evidence, smallest)
        write_marginals(work, at, i, digits[i], combination.factor / maximum(evidence, SMALLEST_NORMAL), combination)
        for c in range(ADDENDS):
            store(work, at.beta + c, load(work, at.beta + ADDENDS + c))
    return smallest


@lane_function
def infer_row(work, vectors, at, logits, label, row, log_evidence, status, combination):
    """Log evidence and status of a row, and the other results in the scratch; whether it is not left."""
    digits = label[row, label.shape[1] - at.n_digits :]
    for digit in digits:
        if digit < 0 or digit >= at.base:
            return False
    exponentiate(work, vectors, at, logits[row])
    product, exponent = forward(work, at, digits)
    met = meet_label(work, at, label, row, row + 1)
    conclude(work, at, met, product, exponent, backward(work, at, digits, combination))
    return write_evidence(work, at, (row, row + 1), log_evidence, status) == 0


@kernel
def rows_one_by_one(
    logits, label, marginals, log_evidence, status, batch, prior_share, factor, label_digits, largest, places, numbers
):
    """``probabilities.sum_product`` for rows of two addends; all of them are left where one is."""
    single = np.float32(0)
    at = layout_at(places, single)
    columns = at.n_addends * at.n_digits * at.base
    work, combination = as_lanes(numbers), Combination(prior_share, factor)
    vectors = numbers[: at.n_addends * at.addend].reshape(-1, FLOAT32_LANES)
    logits, label = matrix_at(logits, batch, columns, single), matrix_at(label, batch, label_digits, np.int64(0))
    marginals = matrix_at(marginals, batch, columns, single)
    log_evidence, status = numbers_at(log_evidence, batch, single), numbers_at(status, batch, np.uint8(0))
    row, good, before = 0, True, flush_subnormals()
    while good and row < batch:
        good = not any_beyond(logits[row], np.float32(largest))
        good = good and infer_row(work, vectors, at, logits, label, row, log_evidence, status, combination)
        for j in range(ADDENDS if good else 0):
            width = at.n_digits * at.base
            for column in range(width):
                marginals[row, j * width + column] = work[j * at.addend + column, 0]
        row += 1
    subnormals_as_before(before)
    return 0 if good else batch
