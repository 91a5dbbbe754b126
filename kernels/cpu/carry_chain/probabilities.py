"""Sum-product on the carry chain in float32 probabilities, with a bound of its own error.

The formulas and the notation of ``wide_exponents``; rows of the batch lie in lanes, numbers in the rows of one scratch
array (``Layout``). Numbers below m = 2^-126 count as zero, so paths that matter may be missed when a label
contradicts confident logits. A bound of what was missed is carried along with the messages, and rows where it
is not negligible are handed back (``RECOMPUTE``) to be computed by ``wide_exponents``.

Numbers are added, never subtracted, before the last step. So what a lost number takes along is at most m times the sum
of all that it is multiplied by, which is 1 for distributions and messages. f_j lacks at most (base + 1) m more than
f_{j+1}, m for its values and base m for its products, and a transfer, with one more product, (2 + (k - 1)(base + 1)) m.
The products of a step, and of the bound itself, lose 2 k m. All of that is at most 4 k base m, see ``step_forward``.
What beta loses at n positions, and the weights and products of the position at hand, is at most twice
4 n k base m / (alpha T beta) of a marginal: ``conclude`` asks for less than TOLERANCE in place of each bound.
"""

from __future__ import annotations

import math
from functools import cache
from typing import NamedTuple

import numpy as np

from emnesy_gpu.kernels.cpu.carry_chain.convolutions import SUMS_AT_A_TIME, convolve, correlate, inner_product
from emnesy_gpu.kernels.cpu.carry_chain.digit_sums import digits_between, n_sums, transfer_row
from emnesy_gpu.kernels.cpu.carry_chain.rows import carry_out
from emnesy_gpu.kernels.cpu.common.compile import kernel, lane_function
from emnesy_gpu.kernels.cpu.common.lane_scratch import kept_lanes
from emnesy_gpu.kernels.cpu.common.lanes import (
    exp_nonpositive,
    exponent_of,
    filled,
    load,
    maximum,
    minimum,
    multiply_add,
    power_of_two,
    store,
    where_equal,
    where_less,
)
from emnesy_gpu.kernels.cpu.common.large_logits import any_beyond
from emnesy_gpu.kernels.cpu.common.layout import consecutive_rows
from emnesy_gpu.kernels.cpu.common.pointers import address_of, matrix_at, numbers_at
from emnesy_gpu.kernels.cpu.common.records import Record, record_of, record_reader
from emnesy_gpu.kernels.cpu.common.row_driver import RECOMPUTE, Combination, Results
from emnesy_gpu.kernels.cpu.common.subnormals import flush_subnormals, subnormals_as_before
from emnesy_gpu.kernels.cpu.common.transpose import TILE, prefetch_columns, read_columns, write_columns
from emnesy_gpu.kernels.status import POSSIBLE

LOG_2 = math.log(2.0)
SMALLEST_NORMAL = 2.0**-126

TOLERANCE = 1e-6
"""The share of the evidence that may be missing from a row."""

POSITIONS_AT_A_TIME = TILE
"""Positions that are transposed together: their columns fill whole tiles whatever the base."""


class Layout(NamedTuple):
    """Sizes of the problem, and the first rows of what the scratch array holds.

    From row 0 on it holds exponentials of the logits, later marginals, [n_addends, n_digits, base] with each addend
    padded to whole tiles.
    """

    n_addends: int
    n_digits: int
    base: int
    addend: int  # rows per addend
    table: int  # rows per table: a pmf or weights of sums of digits
    scales: int  # [n_digits, n_addends]: one over the sums of the exponentials
    digits: int  # [n_digits]: digits of the label
    alpha: int  # [n_digits + 1, n_addends]: message over the carry into position i at index i + 1
    transfers: int  # [n_digits, n_addends, n_addends]
    pmfs: int  # f_j of one position for j < n_addends - 1, a table each
    padded: int  # a table with SUMS_AT_A_TIME rows of zeros before and behind it
    weights: int  # g_j, a table each
    terms: int  # a table
    beta: int  # [2, n_addends]: message over the carry out of a position, and the next one
    products: int  # [n_addends, n_addends]
    missed: int  # [2, n_addends]: a bound of what alpha lacks, and the next one
    results: int  # [3]
    total: int


@cache
def layout(k: int, n: int, base: int) -> Layout:
    """Rows of the scratch array for k addends of n digits."""
    addend, table = -(-n * base // TILE) * TILE, k * base + SUMS_AT_A_TIME
    sizes = {
        "scales": n * k,
        "digits": n,
        "alpha": (n + 1) * k,
        "transfers": n * k * k,
        "pmfs": (k - 1) * table,
        "padded": table + 2 * SUMS_AT_A_TIME,
        "weights": k * table,
        "terms": table,
        "beta": 2 * k,
        "products": k * k,
        "missed": 2 * k,
        "results": 3,
    }
    return Layout(k, n, base, addend, table, **consecutive_rows(sizes, k * addend))


@cache
def layout_record(k: int, n: int, base: int) -> Record:
    """The same for kernels."""
    return record_of(layout(k, n, base))


layout_at = record_reader(Layout)


def run(combination: Combination, logits: np.ndarray, label: np.ndarray, results: Results) -> int:
    """The combination of posterior and prior, and the log evidence of every row; how many rows are left.

    status becomes POSSIBLE, or RECOMPUTE where neither the other results nor the status are known. Logits and
    marginals: float32 [batch, n_addends, n_digits, base].
    """
    addresses = [address_of(array) for array in (logits, label, *results)]
    batch, places = len(logits), layout_record(*logits.shape[1:])
    work = kept_lanes(places.fields.total, batch)
    return sum_product(*addresses, batch, *combination, label.shape[1], math.inf, places.address, work)


@lane_function
def exponentiate(work, first, size):
    """exp of the logits less the largest one, in place; returns one over their sum."""
    largest = load(work, first)
    for row in range(first + 1, first + size):
        largest = maximum(load(work, row), largest)
    total = filled(work, 0.0)
    for row in range(first, first + size):
        value = exp_nonpositive(load(work, row) - largest)
        total += value
        store(work, row, value)
    return 1.0 / total


@lane_function
def symbol(at, j, i):
    """First row of digit j of position i."""
    return j * at.addend + i * at.base


@lane_function
def suffix_pmf(at, j, i):
    """First row of f_j of position i; that of the last addend is its own distribution."""
    return symbol(at, j, i) if j == at.n_addends - 1 else at.pmfs + j * at.table


@lane_function
def suffix_pmfs(work, at, i, first):
    """f_j of position i for first <= j < k - 1, not normalised."""
    base, padded = at.base, at.padded + SUMS_AT_A_TIME
    for j in range(at.n_addends - 2, first - 1, -1):
        size = n_sums(at.n_addends - j - 1, base)
        after = suffix_pmf(at, j + 1, i)
        for row in range(size):
            store(work, padded + row, load(work, after + row))
        for row in range(size, size + SUMS_AT_A_TIME):
            store(work, padded + row, 0.0)
        convolve(work, suffix_pmf(at, j, i), symbol(at, j, i), base, padded, size)


@lane_function
def pick_transfer(work, at, i, digit):
    """T[c, c'] = f_0(digit + base c' - c), normalised."""
    k, base = at.n_addends, at.base
    scale = load(work, at.scales + i * k)
    for j in range(1, k):
        scale *= load(work, at.scales + i * k + j)
    for c in range(k):
        for c_out in range(k):
            value = filled(work, 0.0)
            offset, first, last = digits_between(c, c_out, k, base)
            for s in range(first, last):
                value = where_equal(digit, s, load(work, at.pmfs + s + offset), value)
            store(work, transfer_row(at, i, c, c_out), value * scale)


@lane_function
def step_forward(work, at, i):
    """alpha(c') = sum over c of alpha(c) T[c, c'], scaled to sum 1; returns what it summed to.

    Every transfer and product lacks at most a few times the smallest normal number, of the weight that alpha has and
    of the weight that it lacks itself.
    """
    k, missed = at.n_addends, at.missed
    alpha, transfer = at.alpha + i * k, transfer_row(at, i, 0, 0)
    lacking = filled(work, 1.0)
    for c in range(k):
        lacking += load(work, missed + c)
    lacking *= 4.0 * k * at.base * SMALLEST_NORMAL
    total = filled(work, 0.0)
    for c in range(k):
        value = inner_product(work, alpha + k, 1, transfer + c, k, k)
        total += value
        store(work, alpha + c, value)
        store(work, missed + k + c, inner_product(work, missed, 1, transfer + c, k, k) + lacking)
    scale = 1.0 / maximum(total, SMALLEST_NORMAL)
    for c in range(k):
        store(work, alpha + c, load(work, alpha + c) * scale)
        store(work, missed + c, load(work, missed + k + c) * scale)
    return total


@lane_function
def step_backward(work, at, i):
    """The next beta(c) = sum over c' of T[c, c'] beta(c'), scaled to sum 1; returns alpha T beta."""
    k, alpha = at.n_addends, at.alpha + (i + 1) * at.n_addends
    total, evidence = filled(work, 0.0), filled(work, 0.0)
    for c in range(k):
        value = inner_product(work, transfer_row(at, i, c, 0), 1, at.beta, 1, k)
        total += value
        evidence = multiply_add(load(work, alpha + c), value, evidence)
        store(work, at.beta + k + c, value)
    scale = 1.0 / maximum(total, SMALLEST_NORMAL)
    for c in range(k):
        store(work, at.beta + k + c, load(work, at.beta + k + c) * scale)
    return evidence


@lane_function
def sum_weights(work, at, i):
    """g_0(u) = sum of alpha(c) beta(c') over the carries with u = digit + base c' - c."""
    k, base = at.n_addends, at.base
    alpha, digit = at.alpha + (i + 1) * k, load(work, at.digits + i)
    for c in range(k):
        for c_out in range(k):
            store(work, at.products + c * k + c_out, load(work, alpha + c) * load(work, at.beta + c_out))
    for u in range(n_sums(k, base)):
        total = filled(work, 0.0)
        for c_out in range(k):
            for c in range(k):
                s = u - base * c_out + c
                if 0 <= s < base:
                    total += where_equal(digit, s, load(work, at.products + c * k + c_out), 0.0)
        store(work, at.weights + u, total)


@lane_function
def write_marginals(work, at, i, scale, combination):
    """The combination of posterior and prior of position i, in place of its exponentials.

    scale: the factor of the combination over alpha T beta of the position.
    """
    k, base = at.n_addends, at.base
    for j in range(k):
        scale *= load(work, at.scales + i * k + j)
    for j in range(k):
        values, rest = symbol(at, j, i), at.weights + j * at.table
        if j < k - 1:
            size = n_sums(k - j - 1, base)
            correlate(work, at.terms, base, rest, suffix_pmf(at, j + 1, i), size)
            correlate(work, rest + at.table, size, rest, values, base)
            rest = at.terms
        prior_scale = load(work, at.scales + i * k + j) * (-combination.prior_share * combination.factor)
        for v in range(base):
            ratio = multiply_add(load(work, rest + v), scale, prior_scale)
            store(work, values + v, load(work, values + v) * ratio)


@lane_function
def prefetch_positions(matrix, at, row, start, part, parts, to_write):
    """One of several parts of the positions that are transposed together from ``start`` on."""
    columns = (min(at.n_digits, start + POSITIONS_AT_A_TIME) - start) * at.base
    for j in range(at.n_addends):
        column = (j * at.n_digits + start) * at.base
        prefetch_columns(matrix, row, len(matrix) - 1, column, columns, part, parts, to_write)


@lane_function
def forward(work, at, logits, label, first, last):
    """Everything up to alpha, least significant digit first.

    Returns the product of the scales of alpha as mantissa and exponent.
    """
    k, n, base = at.n_addends, at.n_digits, at.base
    for c in range(k):
        store(work, at.alpha + n * k + c, 1.0 if c == 0 else 0.0)
        store(work, at.missed + c, 0.0)
    product, exponent = filled(work, 1.0), filled(work, 0.0)
    last_start = (n - 1) // POSITIONS_AT_A_TIME * POSITIONS_AT_A_TIME
    for start in range(last_start, -1, -POSITIONS_AT_A_TIME):
        end = min(n, start + POSITIONS_AT_A_TIME)
        for j in range(k):
            column, columns = (j * n + start) * base, (end - start) * base
            read_columns(logits, first, last - 1, column, columns, work, symbol(at, j, start))
        for i in range(end - 1, start - 1, -1):
            if start > 0:
                prefetch_positions(logits, at, first, start - POSITIONS_AT_A_TIME, i - start, end - start, False)
            else:
                prefetch_positions(logits, at, first + work.shape[1], last_start, i, end, False)
            for j in range(k):
                store(work, at.scales + i * k + j, exponentiate(work, symbol(at, j, i), base))
            suffix_pmfs(work, at, i, 0)
            for lane in range(work.shape[1]):
                work[at.digits + i, lane] = label[min(first + lane, last - 1), label.shape[1] - n + i]
            pick_transfer(work, at, i, load(work, at.digits + i))
            product, shift = normalised(product * step_forward(work, at, i))
            exponent += shift
    return product, exponent


@lane_function
def normalised(product):
    """Mantissa in [1, 2) and exponent."""
    shift = exponent_of(product)
    return product * power_of_two(shift * -1.0), shift


@lane_function
def backward(work, at, marginals, first, last, combination):
    """Marginals, most significant digit first; returns the smallest alpha T beta met."""
    k, n, base = at.n_addends, at.n_digits, at.base
    smallest = filled(work, 1.0)
    for start in range(0, n, POSITIONS_AT_A_TIME):
        end = min(n, start + POSITIONS_AT_A_TIME)
        for i in range(start, end):
            prefetch_positions(marginals, at, first, start, i - start, end - start, True)
            suffix_pmfs(work, at, i, 1)
            sum_weights(work, at, i)
            evidence = step_backward(work, at, i)
            smallest = minimum(evidence, smallest)
            scale = combination.factor / maximum(evidence, SMALLEST_NORMAL)
            write_marginals(work, at, i, scale, combination)
            for c in range(k):
                store(work, at.beta + c, load(work, at.beta + k + c))
        for j in range(k):
            column, columns = (j * n + start) * base, (end - start) * base
            write_columns(marginals, first, last - 1, column, columns, work, symbol(at, j, start))
    return smallest


@lane_function
def meet_label(work, at, label, first, last):
    """The message from the label over the top carry; returns alpha beta, and what it lacks at most."""
    k = at.n_addends
    for lane in range(work.shape[1]):
        work[at.results, lane] = carry_out(label[min(first + lane, last - 1)], at.n_digits, at.base)
    carry = load(work, at.results)
    for c in range(k):
        store(work, at.beta + c, where_equal(carry, c, 1.0, 0.0))
    return inner_product(work, at.alpha, 1, at.beta, 1, k), inner_product(work, at.missed, 1, at.beta, 1, k)


@lane_function
def write_evidence(work, at, span, log_evidence, status):
    """Log evidence and status of the lanes from the rows of results; returns how many are left."""
    left = 0
    for lane in range(span[1] - span[0]):
        if work[at.results + 2, lane] == 1.0:
            status[span[0] + lane] = POSSIBLE
            evidence = math.log(work[at.results, lane]) + work[at.results + 1, lane] * LOG_2
            log_evidence[span[0] + lane] = evidence
        else:
            status[span[0] + lane] = RECOMPUTE
            left += 1
    return left


@lane_function
def conclude(work, at, met, product, exponent, smallest):
    """The rows of results: evidence as mantissa and exponent, and 1 where not much can be missing from it."""
    found, lacking = met
    certain = where_less(lacking, found * TOLERANCE, 1.0, 0.0)
    least = 4.0 * at.n_digits * at.n_addends * at.base * SMALLEST_NORMAL
    certain = where_less(least, smallest * TOLERANCE, certain, 0.0)
    store(work, at.results, product * found)
    store(work, at.results + 1, exponent)
    store(work, at.results + 2, certain)


@kernel
def sum_product(
    logits, label, marginals, log_evidence, status, batch, prior_share, factor, label_digits, largest, places, work
):
    """As many rows at a time as work has lanes; returns how many are left to recompute.

    places: the address of a Layout. Nothing is computed, and all rows are left, where a finite logit lies beyond
    +-largest.
    """
    single = np.float32(0)
    at = layout_at(places, single)
    columns = at.n_addends * at.n_digits * at.base
    combination, left = Combination(prior_share, factor), 0
    if largest < np.inf and any_beyond(numbers_at(logits, batch * columns, single), np.float32(largest)):
        return batch
    logits, label = matrix_at(logits, batch, columns, single), matrix_at(label, batch, label_digits, np.int64(0))
    marginals = matrix_at(marginals, batch, columns, single)
    log_evidence, status = numbers_at(log_evidence, batch, single), numbers_at(status, batch, np.uint8(0))
    for row in range(at.padded, at.padded + SUMS_AT_A_TIME):
        store(work, row, 0.0)
    before = flush_subnormals()
    for first in range(0, batch, work.shape[1]):
        span = first, min(first + work.shape[1], batch)
        product, exponent = forward(work, at, logits, label, *span)
        met = meet_label(work, at, label, *span)
        smallest = backward(work, at, marginals, *span, combination)
        conclude(work, at, met, product, exponent, smallest)
        left += write_evidence(work, at, span, log_evidence, status)
    subnormals_as_before(before)
    return left
