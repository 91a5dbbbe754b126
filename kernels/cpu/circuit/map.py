"""The most probable symbols of a circuit given a label: max-plus in float64, up and back, rows in lanes.

Leaves are logits less the largest one of their symbol, so that a symbol that is not mentioned adds 0, its maximum. From
the root, the first term that reaches the value of its node is taken: no sum is rounded differently on the way back.
"""

from __future__ import annotations

import math

import numpy as np

from emnesy_gpu.kernels.cpu.circuit.leaves import SYMBOLS, read_label
from emnesy_gpu.kernels.cpu.circuit.linear import status_of
from emnesy_gpu.kernels.cpu.circuit.program import term_at
from emnesy_gpu.kernels.cpu.common.compile import inlined, kernel
from emnesy_gpu.kernels.cpu.common.flat_tables import item
from emnesy_gpu.kernels.cpu.common.lanes import (
    any_positive,
    exp_nonpositive,
    exponent_of,
    filled,
    load,
    maximum,
    power_of_two,
    store,
    where_equal,
    where_less,
)
from emnesy_gpu.kernels.cpu.common.transpose import read_columns
from emnesy_gpu.kernels.cpu.common.wide_numbers import LOG_2
from emnesy_gpu.kernels.status import IMPOSSIBLE, POSSIBLE


@inlined
def read_leaves(table, p, logits, label_rows, span):
    """Scores of all leaves and of the constant. Returns the product over the symbols of their sums of exponentials.

    That is a mantissa and an exponent.
    """
    checks, mantissa, exponent = filled(table, 0.0), filled(table, 1.0), filled(table, 0.0)
    for first in range(0, p.n, SYMBOLS):
        last = min(first + SYMBOLS, p.n)
        start, stop = first * p.n_values, last * p.n_values
        read_columns(logits, span[0], span[1] - 1, start, stop - start, table, start)
        for row in range(start, stop, p.n_values):
            total = shift_to_largest(table, row, p.n_values)
            checks += total
            mantissa *= total
            shift = exponent_of(mantissa)
            mantissa *= power_of_two(shift * -1.0)
            exponent += shift
    store(table, p.checks, checks)
    read_label(table, p, label_rows, span)
    for row in range(p.n * p.n_values, p.one):
        store(table, row, where_less(load(table, row), 1.0, -np.inf, 0.0))
    store(table, p.one, 0.0)
    return mantissa, exponent


@inlined
def shift_to_largest(table, first, size):
    """Logits less the largest one, in place; returns the sum of their exponentials."""
    largest = load(table, first)
    for row in range(first + 1, first + size):
        largest = maximum(load(table, row), largest)
    total, scores = filled(table, 0.0), filled(table, 0.0)
    for row in range(first, first + size):
        score = load(table, row) - largest
        store(table, row, score)
        if size == 2:
            scores += score
        else:
            total += exp_nonpositive(score)
    # Of two scores one is 0: a single exponential is enough.
    return 1.0 + exp_nonpositive(scores) if size == 2 else total


@inlined
def play_maxima(table, p):
    """Values of all nodes: the largest sum of the two rows of a term."""
    i, e = p.out, 0
    for run in range(p.runs, p.runs + 2 * p.n_runs, 2):
        last, size = i + item(p.numbers, run), item(p.numbers, run + 1)
        while i < last:
            left, right = term_at(p.terms, e)
            best, end = load(table, left) + load(table, right), e + size
            e += 1
            while e < end:
                left, right = term_at(p.terms, e)
                best = maximum(load(table, left) + load(table, right), best)
                e += 1
            store(table, item(p.numbers, i), best)
            i += 1


@inlined
def follow(table, reached, p):
    """Mark the rows below the root that the chosen terms need, positive in the lanes that need them."""
    for row in range(p.root):
        store(reached, row, 0.0)
    last, n_nodes = item(p.numbers, p.first + p.root - p.one), p.root - p.one
    for node in range(n_nodes - 1, -1, -1):
        row, first = p.one + 1 + node, item(p.numbers, p.first + node)
        here = load(reached, row)
        if any_positive(here):
            value = load(table, row)
            for e in range(first, last):
                left, right = term_at(p.terms, e)
                hit = where_equal(load(table, left) + load(table, right), value, here, 0.0)
                here -= hit
                store(reached, left, maximum(load(reached, left), hit))
                store(reached, right, maximum(load(reached, right), hit))
        last = first


@inlined
def values_of_symbols(table, reached, p):
    """The value of symbol i in row i of the table: the chosen one, else the smallest of the most probable ones.

    It is 0 where the logits of a symbol are no prior.
    """
    for i in range(p.n):
        first = i * p.n_values
        value, valid = filled(table, 0.0), filled(table, 0.0)
        for v in range(p.n_values - 1, -1, -1):
            score = load(table, first + v)
            value = where_equal(score, 0.0, v, value)
            valid += score
        value = where_equal(valid, valid, value, 0.0)
        for v in range(p.n_values):
            value = where_less(0.0, load(reached, first + v), v, value)
        store(table, i, value)


@kernel
def map_rows(logits, label_rows, assignment, log_joint, status, p, table, reached):
    """logits [batch, n K], assignment int64 [batch, n]; p: the nodes of a circuit; table, reached: float64 lanes."""
    for first in range(0, len(logits), table.shape[1]):
        span = first, min(first + table.shape[1], len(logits))
        mantissa, exponent = read_leaves(table, p, logits, label_rows, span)
        play_maxima(table, p)
        store(table, p.zero, mantissa)
        store(table, p.spare, exponent)
        store(reached, p.root, 0.0)
        for row in range(span[0], span[1]):
            lane = row - span[0]
            code, best = status_of(table, p, label_rows, row, lane), table[p.root, lane]
            if code == POSSIBLE and best == -np.inf:
                code = IMPOSSIBLE
            status[row], log_joint[row] = code, -np.inf
            if code == POSSIBLE:
                log_joint[row] = best - math.log(table[p.zero, lane]) - LOG_2 * table[p.spare, lane]
                reached[p.root, lane] = 1.0
        follow(table, reached, p)
        values_of_symbols(table, reached, p)
        for row in range(span[0], span[1]):
            for i in range(p.n):
                assignment[row, i] = np.int64(table[i, row - span[0]])


map_rows.targetoptions["_nrt"] = False
