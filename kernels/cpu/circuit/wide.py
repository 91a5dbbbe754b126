"""Sum-product on a circuit for logits of any size: float64 with exponents of unlimited range, rows in lanes.

Every number is a pair as in ``wide_numbers``: the range of log space without its logarithms. The terms of a sum are
aligned to their largest exponent, so that only what is less than 2^-1022 of a sum is lost, and the evidence is zero
exactly where no assignment of positive probability has the label. Notation of ``reference.circuit``.
"""

from __future__ import annotations

import math

import numpy as np

from emnesy_gpu.kernels.cpu.circuit.leaves import SYMBOLS
from emnesy_gpu.kernels.cpu.circuit.linear import Predictions, two_tables
from emnesy_gpu.kernels.cpu.circuit.program import Program, term_at
from emnesy_gpu.kernels.cpu.common.compile import inlined, kernel
from emnesy_gpu.kernels.cpu.common.flat_tables import item
from emnesy_gpu.kernels.cpu.common.lanes import (
    exponent_of,
    filled,
    load,
    maximum,
    multiply_add,
    power_of_two,
    store,
)
from emnesy_gpu.kernels.cpu.common.row_driver import Combination, Results
from emnesy_gpu.kernels.cpu.common.transpose import read_columns, write_columns
from emnesy_gpu.kernels.cpu.common.wide_numbers import (
    LOG_2,
    SMALLEST_EXPONENT,
    ZERO_EXPONENT,
    Pairs,
    exponential,
    get,
    plain,
    put,
)
from emnesy_gpu.kernels.status import IMPOSSIBLE, POSSIBLE


def run(p: Program, combination: Combination, logits: np.ndarray, rows: np.ndarray, out: Results) -> int:
    """Marginals combined with the prior, log evidence and status of valid rows; leaves none."""
    flat = logits.reshape(len(logits), -1)
    sum_product(flat, rows, out.marginals.reshape(flat.shape), out.log_evidence, out.status, p, pairs(p), combination)
    return 0


def run_prediction(p: Program, logits: np.ndarray, rows: np.ndarray, out: Predictions) -> int:
    """log p of every leaf of the label, and status; leaves no row."""
    predict_rows(logits.reshape(len(logits), -1), rows, out.log_p, out.status, p, pairs(p))
    return 0


def pairs(p: Program) -> Pairs:
    """Uninitialised, for all rows of the table."""
    return Pairs(*two_tables(p))


@inlined
def read_leaves(table, p, logits, label_rows, span):
    """Probabilities of all leaves; the constant; and zeros."""
    checks = filled(table.mantissa, 0.0)
    for first in range(0, p.n, SYMBOLS):
        last = min(first + SYMBOLS, p.n)
        start, stop = first * p.n_values, last * p.n_values
        read_columns(logits, span[0], span[1] - 1, start, stop - start, table.mantissa, start)
        for row in range(start, stop, p.n_values):
            checks += softmax(table, row, p.n_values)
    store(table.mantissa, p.checks, checks)
    read_label(table, p, label_rows, span)
    put(table, p.one, 1.0, 0.0)
    put(table, p.zero, 0.0, ZERO_EXPONENT)


@inlined
def softmax(table, first, size):
    """Pairs in place of logits, which lie in the mantissas; what it returns is not a number where they are no prior."""
    largest = load(table.mantissa, first)
    for row in range(first + 1, first + size):
        largest = maximum(load(table.mantissa, row), largest)
    total = filled(table.mantissa, 0.0)
    for row in range(first, first + size):
        m, e = exponential(load(table.mantissa, row) - largest)
        put(table, row, m, e)
        total += plain(m, e)
    scale = 1.0 / total
    for row in range(first, first + size):
        store(table.mantissa, row, load(table.mantissa, row) * scale)
    return total


@inlined
def read_label(table, p, label_rows, span):
    for entry in range(p.n_entries):
        first, last = item(p.numbers, p.given + entry), item(p.numbers, p.given + entry + 1)
        for row in range(first, last):
            for lane in range(table.mantissa.shape[1]):
                given = label_rows[min(span[0] + lane, span[1] - 1), entry]
                possible = given <= 0 or first + given - 1 == row
                table.mantissa[row, lane] = 1.0 if possible else 0.0
                table.exponent[row, lane] = 0.0 if possible else ZERO_EXPONENT


@inlined
def sum_of_products(table, p, e, size):
    """The sum of the terms from e on, its mantissa in [1, 2) or 0."""
    left, right = term_at(p.terms, e)
    top = load(table.exponent, left) + load(table.exponent, right)
    total = load(table.mantissa, left) * load(table.mantissa, right)
    if size > 1:
        for j in range(e + 1, e + size):
            left, right = term_at(p.terms, j)
            top = maximum(load(table.exponent, left) + load(table.exponent, right), top)
        total = filled(table.mantissa, 0.0)
        for j in range(e, e + size):
            left, right = term_at(p.terms, j)
            exponent = load(table.exponent, left) + load(table.exponent, right) - top
            factor = load(table.mantissa, right) * power_of_two(maximum(exponent, SMALLEST_EXPONENT))
            total = multiply_add(load(table.mantissa, left), factor, total)
    shift = exponent_of(total)
    # Zero keeps its exponent: products of zeros would make it grow without end.
    return total * power_of_two(shift * -1.0), maximum(top + shift, ZERO_EXPONENT)


@inlined
def play(table, p):
    """All instructions of a program."""
    i, e = p.out, 0
    for run in range(p.runs, p.runs + 2 * p.n_runs, 2):
        last, size = i + item(p.numbers, run), item(p.numbers, run + 1)
        while i < last:
            m, exponent = sum_of_products(table, p, e, size)
            put(table, item(p.numbers, i), m, exponent)
            i, e = i + 1, e + size


@inlined
def share_of_evidence(table, p, row):
    """p D / Z of a leaf."""
    m, e = get(table, row)
    derivative, more = get(table, item(p.numbers, p.derivatives + row))
    evidence, less = get(table, p.root)
    return plain(m * derivative / evidence, e + more - less)


@inlined
def write_marginals(table, p, marginals, span, combination):
    """(posterior - prior_share * prior) * factor of all symbols."""
    for first in range(0, p.n, SYMBOLS):
        last = min(first + SYMBOLS, p.n)
        for i in range(first, last):
            rows = range(i * p.n_values, (i + 1) * p.n_values)
            rest = filled(table.mantissa, 0.0)
            if item(p.numbers, p.mentioned + i) == 0:
                rest = filled(table.mantissa, 1.0)
                for row in rows:
                    rest -= share_of_evidence(table, p, row)
                rest = maximum(rest, 0.0)
            for row in rows:
                m, e = get(table, row)
                value = share_of_evidence(table, p, row) + (rest - combination.prior_share) * plain(m, e)
                store(table.mantissa, row, value * combination.factor)
        start = first * p.n_values
        write_columns(marginals, span[0], span[1] - 1, start, (last - first) * p.n_values, table.mantissa, start)


@inlined
def logarithm(table, row, lane):
    """-inf for zero."""
    m = table.mantissa[row, lane]
    return math.log(m) + LOG_2 * table.exponent[row, lane] if m > 0.0 else -np.inf


@kernel
def sum_product(logits, label_rows, marginals, log_evidence, status, p, table, combination):
    """As many rows at a time as there are lanes; the marginals of impossible rows are not numbers."""
    lanes = table.mantissa.shape[1]
    for first in range(0, len(logits), lanes):
        span = first, min(first + lanes, len(logits))
        read_leaves(table, p, logits, label_rows, span)
        play(table, p)
        write_marginals(table, p, marginals, span, combination)
        for row in range(span[0], span[1]):
            log_evidence[row] = logarithm(table, p.root, row - span[0])
            status[row] = POSSIBLE if log_evidence[row] > -np.inf else IMPOSSIBLE


@kernel
def predict_rows(logits, label_rows, log_p, status, p, table):
    """log p of the leaves of the label; the tape is that of a prediction."""
    lanes, first_leaf = table.mantissa.shape[1], p.n * p.n_values
    for first in range(0, len(logits), lanes):
        span = first, min(first + lanes, len(logits))
        read_leaves(table, p, logits, label_rows, span)
        play(table, p)
        for row in range(span[0], span[1]):
            lane = row - span[0]
            for leaf in range(first_leaf, p.one):
                log_p[row, leaf - first_leaf] = logarithm(table, item(p.numbers, p.derivatives + leaf), lane)
            status[row] = POSSIBLE if table.mantissa[p.root, lane] > 0.0 else IMPOSSIBLE


for _kernel in (sum_product, predict_rows):
    _kernel.targetoptions["_nrt"] = False
