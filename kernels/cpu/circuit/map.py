"""The most probable symbols of a circuit given a label: max-plus in float64, up and back, rows in lanes.

Leaves are logits less the largest one of their symbol, so that a symbol that is not mentioned adds 0, its maximum. From
the root, the first term that reaches the value of its node is taken: no sum is rounded differently on the way back.
"""

from __future__ import annotations

import math

import numpy as np

from emnesy_gpu.kernels.cpu.circuit.leaves import SYMBOLS, read_label
from emnesy_gpu.kernels.cpu.circuit.linear import status_of
from emnesy_gpu.kernels.cpu.circuit.program import player, term_at
from emnesy_gpu.kernels.cpu.common.compile import inlined, kernel
from emnesy_gpu.kernels.cpu.common.flat_tables import item
from emnesy_gpu.kernels.cpu.common.lanes import (
    equal_lanes,
    exp_nonpositive,
    exponent_of,
    filled,
    load,
    maximum,
    power_of_two,
    store,
    where_equal,
    where_lanes,
    where_less,
)
from emnesy_gpu.kernels.cpu.common.transpose import read_columns, write_columns
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
        # Each total lies between 1 and the number of values: products of so few are far from the largest number.
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
    if size == 2:
        return shift_two(table, first)
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
def shift_two(table, first):
    """The same for two logits: one of the two scores is 0, and a single exponential is enough."""
    left, right = load(table, first), load(table, first + 1)
    largest = maximum(left, right)
    left, right = left - largest, right - largest
    store(table, first, left)
    store(table, first + 1, right)
    return 1.0 + exp_nonpositive(left + right)


@inlined
def score(table, p, e):
    left, right = term_at(p.terms, e)
    return load(table, left) + load(table, right)


@inlined
def better_score(table, p, e, best):
    return maximum(score(table, p, e), best)


play_maxima = player(score, better_score)


@inlined
def follow(table, reached, p):
    """Add to the lanes that need the root, in bits, those that need each row below it: chosen terms need their two."""
    for row in range(p.root):
        reached[row] = 0
    end, n_nodes = item(p.numbers, p.first + p.root - p.one), p.root - p.one
    for node in range(n_nodes - 1, -1, -1):
        row, e = p.one + 1 + node, item(p.numbers, p.first + node)
        here, last, end = reached[row], end - 1, e
        if here != 0:
            value = load(table, row)
            while e < last and here != 0:
                chosen = equal_lanes(score(table, p, e), value) & here
                need(reached, p, e, chosen)
                here, e = here ^ chosen, e + 1
            # What no other term reached, the last one does.
            need(reached, p, last, here)


@inlined
def need(reached, p, e, lanes):
    left, right = term_at(p.terms, e)
    reached[left] |= lanes
    reached[right] |= lanes


@inlined
def write_assignment(table, reached, p, assignment, span):
    """The chosen value of each symbol, else the smallest of the most probable ones; 0 where the logits are no prior.

    assignment: int64 [batch, n] as float64. The lanes hold bits of integers.
    """
    for first in range(0, p.n, SYMBOLS):
        last = min(first + SYMBOLS, p.n)
        for i in range(first, last):
            value = chosen_of_two(table, reached, 2 * i) if p.n_values == 2 else chosen(table, reached, p, i)
            # Its row belongs to this symbol or an earlier one.
            store(table, i, value)
        write_columns(assignment, span[0], span[1] - 1, first, last - first, table, first)


@inlined
def chosen(table, reached, p, i):
    """The value of one symbol, as the bits of an integer."""
    leaf, value, valid = i * p.n_values, filled(table, 0.0), filled(table, 0.0)
    for v in range(p.n_values - 1, -1, -1):
        below = load(table, leaf + v)
        value = where_equal(below, 0.0, np.int64(v).view(np.float64), value)
        valid += below
    value = where_equal(valid, valid, value, 0.0)
    for v in range(p.n_values):
        value = where_lanes(reached[leaf + v], np.int64(v).view(np.float64), value)
    return value


@inlined
def chosen_of_two(table, reached, leaf):
    """The same for a symbol of two values."""
    left, right = load(table, leaf), load(table, leaf + 1)
    second = np.int64(1).view(np.float64)
    # The smaller score of two is negative; where the logits are no prior none is.
    value = where_less(left, right, second, 0.0)
    return where_lanes(reached[leaf + 1], second, where_lanes(reached[leaf], 0.0, value))


@kernel
def map_rows(logits, label_rows, assignment, log_joint, status, p, table, reached):
    """logits [batch, n K], assignment int64 [batch, n] as float64; p: the nodes of a circuit.

    table: float64 lanes. reached: int64 [rows].
    """
    for first in range(0, len(logits), table.shape[1]):
        span = first, min(first + table.shape[1], len(logits))
        mantissa, exponent = read_leaves(table, p, logits, label_rows, span)
        play_maxima(table, p)
        store(table, p.zero, mantissa)
        store(table, p.spare, exponent)
        reached[p.root] = 0
        for row in range(span[0], span[1]):
            lane = row - span[0]
            code, best = status_of(table, p, label_rows, row, lane), table[p.root, lane]
            if code == POSSIBLE and best == -np.inf:
                code = IMPOSSIBLE
            status[row], log_joint[row] = code, -np.inf
            if code == POSSIBLE:
                log_joint[row] = best - math.log(table[p.zero, lane]) - LOG_2 * table[p.spare, lane]
                reached[p.root] |= 1 << lane
        follow(table, reached, p)
        write_assignment(table, reached, p, assignment, span)


map_rows.targetoptions["_nrt"] = False
