"""The most probable symbols of a circuit given a label: max-plus in float64, rows in lanes, then a walk for each row.

Leaves are logits less the largest one of their symbol, so that a symbol that is not mentioned adds 0, its maximum. From
the root, the first term that reaches the value of its node is taken: no sum is rounded differently on the way back.
"""

from __future__ import annotations

import math

import numpy as np

from emnesy_gpu.kernels.cpu.circuit.leaves import SYMBOLS, read_label
from emnesy_gpu.kernels.cpu.circuit.linear import status_of
from emnesy_gpu.kernels.cpu.circuit.program import term_at
from emnesy_gpu.kernels.cpu.circuit.walk import new_stack, terms_of, walker
from emnesy_gpu.kernels.cpu.common.compile import inlined, kernel, lane_function
from emnesy_gpu.kernels.cpu.common.flat_tables import item
from emnesy_gpu.kernels.cpu.common.lanes import (
    exp_nonpositive,
    exponent_of,
    filled,
    load,
    maximum,
    power_of_two,
    store,
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
    total = filled(table, 0.0)
    for row in range(first, first + size):
        score = load(table, row) - largest
        store(table, row, score)
        total += exp_nonpositive(score)
    return total


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
def best_value(table, p, i, lane):
    """The smallest of the most probable values of a symbol; 0 where its logits are no prior."""
    best = p.n_values
    for v in range(p.n_values - 1, -1, -1):
        score = table[i * p.n_values + v, lane]
        if not score <= 0.0:
            return 0
        if score == 0.0:
            best = v
    return best


@lane_function
def first_best(p, row, place):
    """The first term that reaches the value of a node; place: table and lane."""
    table, lane = place
    e, last = terms_of(p, row)
    while e < last - 1:
        left, right = term_at(p.terms, e)
        if table[left, lane] + table[right, lane] == table[row, lane]:
            return e
        e += 1
    return e


walk = walker(first_best)


@kernel
def map_rows(logits, label_rows, assignment, log_joint, status, p, table):
    """logits [batch, n K], assignment int64 [batch, n]; p: the nodes of a circuit, table: float64 lanes."""
    stack = new_stack(p)
    for first in range(0, len(logits), table.shape[1]):
        span = first, min(first + table.shape[1], len(logits))
        mantissa, exponent = read_leaves(table, p, logits, label_rows, span)
        play_maxima(table, p)
        store(table, p.zero, mantissa)
        store(table, p.spare, exponent)
        for row in range(span[0], span[1]):
            lane = row - span[0]
            code, best = status_of(table, p, label_rows, row, lane), table[p.root, lane]
            if code == POSSIBLE and best == -np.inf:
                code = IMPOSSIBLE
            for i in range(p.n):
                if code != POSSIBLE or item(p.numbers, p.mentioned + i) == 0:
                    assignment[row, i] = best_value(table, p, i, lane)
            status[row], log_joint[row] = code, -np.inf
            if code == POSSIBLE:
                log_joint[row] = best - math.log(table[p.zero, lane]) - LOG_2 * table[p.spare, lane]
                walk(p, (table, lane), assignment[row], stack)
