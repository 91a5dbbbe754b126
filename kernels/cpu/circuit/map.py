"""The most probable symbols of a circuit given a label: max-plus, up and back, rows in lanes.

Leaves are logits less the largest one of their symbol, so that a symbol that is not mentioned adds 0, its maximum. From
the root, the first term that reaches the value of its node is taken: no sum is rounded differently on the way back.

float32 logits are added in float32. All scores are at most 0, so that no sum cancels: with a rounding of at most u for
the leaf and for each of the D levels, a score misses its true value by a share of at most (D + 1) u. A choice is sure
where all other terms of a node are less than the best by more than two such shares, or where all sums are exact because
they are 0: then float64 takes the same term. What is not sure on the way of a row is computed again in float64.
"""

from __future__ import annotations

import numpy as np

from emnesy_gpu.kernels.cpu.circuit.leaves import SYMBOLS, read_label
from emnesy_gpu.kernels.cpu.circuit.linear import status_of
from emnesy_gpu.kernels.cpu.circuit.program import player, term_at
from emnesy_gpu.kernels.cpu.common.compile import inlined, kernel, table_function
from emnesy_gpu.kernels.cpu.common.flat_tables import item
from emnesy_gpu.kernels.cpu.common.lanes import (
    FLOAT64_LANES,
    at_least_lanes,
    exp_for_single,
    exp_nonpositive,
    exponent_of,
    filled,
    load,
    load_doubles,
    maximum,
    multiply_add,
    power_of_two,
    store,
    where_equal,
    where_lanes,
    where_less,
)
from emnesy_gpu.kernels.cpu.common.log_lanes import logarithm
from emnesy_gpu.kernels.cpu.common.pointers import matrix_at
from emnesy_gpu.kernels.cpu.common.transpose import TILE, read_columns, write_columns
from emnesy_gpu.kernels.cpu.common.wide_numbers import LOG_2
from emnesy_gpu.kernels.status import IMPOSSIBLE, POSSIBLE

SUMS = 3
"""Rows of float64 for FLOAT64_LANES: the product of the sums of exponentials, its exponent, and the chosen scores."""

WORK_ROWS = TILE + 2 * SUMS
"""What the table has beyond the rows of its program: values of some symbols, and sums."""

ROUNDING = 2.0**-24
"""u of float32."""

EVERY_LANE = -1


@inlined
def read_leaves(table, doubles, p, logits, label_rows, span):
    """Scores of all leaves and of the constant, and the products over the symbols of their sums of exponentials."""
    checks = filled(table, 0.0)
    for part in range(table.shape[1] // FLOAT64_LANES):
        start_sums(doubles, p.rows + TILE + part * SUMS)
    for first in range(0, p.n, SYMBOLS):
        last = min(first + SYMBOLS, p.n)
        start, stop = first * p.n_values, last * p.n_values
        read_columns(logits, span[0], span[1] - 1, start, stop - start, table, start)
        for i in range(first, last):
            total = shift_to_largest(table, i * p.n_values, p.n_values)
            store(table, p.rows + i - first, total)
            checks += total
        for part in range(table.shape[1] // FLOAT64_LANES):
            multiply_totals(table, doubles, p, first, last, part)
    store(table, p.checks, checks)
    read_label(table, p, label_rows, span)
    for row in range(p.n * p.n_values, p.one):
        store(table, row, where_less(load(table, row), 1.0, -np.inf, 0.0))
    store(table, p.one, 0.0)


@inlined
def start_sums(doubles, sums):
    store(doubles, sums, 1.0)
    store(doubles, sums + 1, 0.0)
    store(doubles, sums + 2, 0.0)


@inlined
def shift_to_largest(table, first, size):
    """Logits less the largest one, in place; returns their sum, which is not a number where they are no prior."""
    if size == 2:
        return shift_two(table, first)
    largest = load(table, first)
    for row in range(first + 1, first + size):
        largest = maximum(load(table, row), largest)
    total = filled(table, 0.0)
    for row in range(first, first + size):
        score = load(table, row) - largest
        store(table, row, score)
        total += score
    return total


@inlined
def shift_two(table, first):
    """The same for two logits."""
    left, right = load(table, first), load(table, first + 1)
    largest = maximum(left, right)
    left, right = left - largest, right - largest
    store(table, first, left)
    store(table, first + 1, right)
    return left + right


@inlined
def multiply_totals(table, doubles, p, first, last, part):
    """The product so far times the sums of exponentials of some symbols, in float64.

    Each sum lies between 1 and the number of values: products of so few are far from the largest number. One of two
    scores is 0: a single exponential, that of their sum, is enough.
    """
    sums = p.rows + TILE + part * SUMS
    mantissa = load(doubles, sums)
    for i in range(first, last):
        if p.n_values == 2:
            smaller = exp_of(table, load_doubles(table, p.rows + i - first, part))
            mantissa = multiply_add(mantissa, smaller, mantissa)
        else:
            mantissa *= total_of(table, doubles, i * p.n_values, p.n_values, part)
    shift = exponent_of(mantissa)
    store(doubles, sums, mantissa * power_of_two(shift * -1.0))
    store(doubles, sums + 1, load(doubles, sums + 1) + shift)


@inlined
def total_of(table, doubles, first, size, part):
    total = filled(doubles, 0.0)
    for row in range(first, first + size):
        total += exp_of(table, load_doubles(table, row, part))
    return total


@inlined
def exp_of(table, scores):
    """As exact as the results are: the log of a sum misses its value by no larger share than the exponentials do."""
    return exp_for_single(scores) if table.itemsize == 4 else exp_nonpositive(scores)


@inlined
def score(table, p, e):
    left, right = term_at(p.terms, e)
    return load(table, left) + load(table, right)


@inlined
def better_score(table, p, e, best):
    return maximum(score(table, p, e), best)


play_maxima = player(score, better_score)


@inlined
def write_status(table, p, label_rows, status, span):
    """Status of the lanes; returns those that are possible, in bits."""
    possible = 0
    for row in range(span[0], span[1]):
        lane = row - span[0]
        code = status_of(table, p, label_rows, row, lane)
        if code == POSSIBLE and table[p.root, lane] == -np.inf:
            code = IMPOSSIBLE
        if code == POSSIBLE:
            possible |= 1 << lane
        status[row] = code
    return possible


@inlined
def follow(table, reached, p, possible, slack):
    """The lanes that need each row, in bits: chosen terms need their two. Returns the lanes with a choice in doubt.

    slack: by how much of itself a value may miss that of another term; 0 takes the first that reaches it.
    """
    for row in range(p.root):
        reached[row] = 0
    reached[p.root] = possible
    end, doubt = item(p.numbers, p.first + p.root - p.one), 0
    for node in range(p.root - p.one - 1, -1, -1):
        e = item(p.numbers, p.first + node)
        here = reached[p.one + 1 + node]
        if here != 0:
            doubt |= choose(table, reached, p, (e, end), here, (load(table, p.one + 1 + node) * (1.0 + slack), slack))
        end = e
    return doubt if slack > 0.0 else 0


@inlined
def choose(table, reached, p, terms, here, limit):
    """Give the lanes of a node to the first term that is near its value; returns those that another term is near too.

    Where the value is 0 the first term that is 0 has it: such sums are exact.
    """
    if terms[1] - terms[0] == 1:
        need(reached, p, terms[0], here)
        return 0
    missing, doubt = here, 0
    for e in range(terms[0], terms[1]):
        total = score(table, p, e)
        near = at_least_lanes(total, limit[0]) & here
        if near & ~missing != 0:
            doubt |= near & ~missing & ~at_least_lanes(total, 0.0)
        need(reached, p, e, near & missing)
        missing &= ~near
        if missing == 0 and limit[1] == 0.0:
            break
    return doubt


@inlined
def need(reached, p, e, lanes):
    left, right = term_at(p.terms, e)
    reached[left] |= lanes
    reached[right] |= lanes


@inlined
def write_assignment(table, doubles, reached, p, assignment, span):
    """The chosen value of each symbol, else the smallest of the most probable ones; 0 where the logits are no prior.

    Adds the scores of the values to the sums.
    """
    for first in range(0, p.n, SYMBOLS):
        last = min(first + SYMBOLS, p.n)
        for i in range(first, last):
            leaf = i * p.n_values
            value, best = chosen_of_two(table, reached, leaf) if p.n_values == 2 else chosen(table, reached, p, leaf)
            store(table, p.rows + i - first, value)
            store(table, leaf, best)
        write_columns(assignment, span[0], span[1] - 1, first, last - first, table, p.rows)
        for part in range(table.shape[1] // FLOAT64_LANES):
            sums = p.rows + TILE + part * SUMS
            total = load(doubles, sums + 2)
            for i in range(first, last):
                total += load_doubles(table, i * p.n_values, part)
            store(doubles, sums + 2, total)


@inlined
def chosen(table, reached, p, leaf):
    """The value of one symbol and its score."""
    value, valid, best = filled(table, 0.0), filled(table, 0.0), filled(table, 0.0)
    for v in range(p.n_values - 1, -1, -1):
        below = load(table, leaf + v)
        value = where_equal(below, 0.0, v, value)
        valid += below
    value = where_equal(valid, valid, value, 0.0)
    for v in range(p.n_values):
        value = where_lanes(reached[leaf + v], v, value)
        best = where_lanes(reached[leaf + v], load(table, leaf + v), best)
    return value, best


@inlined
def chosen_of_two(table, reached, leaf):
    """The same for a symbol of two values."""
    left, right = load(table, leaf), load(table, leaf + 1)
    # The smaller score of two is negative; where the logits are no prior none is.
    value = where_lanes(reached[leaf + 1], 1.0, where_lanes(reached[leaf], 0.0, where_less(left, right, 1.0, 0.0)))
    best = where_lanes(reached[leaf + 1], right, where_lanes(reached[leaf], left, filled(table, 0.0)))
    return value, best


@inlined
def write_log_joint(doubles, p, log_joint, status, span, wanted):
    """The log of the prior of the chosen values, of the lanes that are set in wanted."""
    for start in range(span[0], span[1], FLOAT64_LANES):
        sums = p.rows + TILE + (start - span[0]) // FLOAT64_LANES * SUMS
        log_total = multiply_add(load(doubles, sums + 1), LOG_2, logarithm(doubles, load(doubles, sums)))
        store(doubles, sums, load(doubles, sums + 2) - log_total)
        for row in range(start, min(start + FLOAT64_LANES, span[1])):
            if wanted >> (row - span[0]) & 1:
                log_joint[row] = doubles[sums, row - start] if status[row] == POSSIBLE else -np.inf


@table_function
def map_lanes(logits, results, label_rows, p, work, span, slack, wanted):
    """As many rows as there are lanes; the logs of their priors only of wanted ones. Returns the lanes in doubt."""
    (assignment, log_joint, status), (table, doubles, reached) = results, work
    read_leaves(table, doubles, p, logits, label_rows, span)
    play_maxima(table, p)
    possible = write_status(table, p, label_rows, status, span)
    doubt = follow(table, reached, p, possible, slack)
    write_assignment(table, doubles, reached, p, assignment, span)
    write_log_joint(doubles, p, log_joint, status, span, wanted)
    return doubt


@kernel
def map_rows(logits, label_rows, assignment, log_joint, status, p, table, reached):
    """logits [batch, n K], assignment int64 [batch, n]; p: the nodes of a circuit.

    table: lanes of the type of the logits, WORK_ROWS more than p has. reached: int64 [rows].
    """
    results, doubles = (assignment, log_joint, status), matrix_at(table.ctypes.data, len(table), FLOAT64_LANES, 0.0)
    # As small as float32 allows to tell, and more than two times the shares of D + 1 and of this product.
    share = (p.depth + 3) * ROUNDING
    slack = 2.0 * share / (1.0 - share) if table.itemsize == 4 else 0.0
    for first in range(0, len(logits), table.shape[1]):
        span = first, min(first + table.shape[1], len(logits))
        doubt = map_lanes(logits, results, label_rows, p, (table, doubles, reached), span, slack, EVERY_LANE)
        for start in range(span[0], span[1], FLOAT64_LANES):
            # Other lanes get the values that they have.
            some = doubt >> (start - first) & (1 << FLOAT64_LANES) - 1
            if some != 0:
                part = start, min(start + FLOAT64_LANES, span[1])
                map_lanes(logits, results, label_rows, p, (doubles, doubles, reached), part, 0.0, some)


for _kernel in (map_lanes, map_rows):
    _kernel.targetoptions["_nrt"] = False
