"""From logits to the rows of leaves, and from derivatives to marginals, rows of the batch in lanes.

``table`` [rows, lanes] is that of a ``Program``; ``span`` is the first row of the batch, and one past the last.
"""

from __future__ import annotations

from emnesy_gpu.kernels.cpu.common.compile import inlined
from emnesy_gpu.kernels.cpu.common.flat_tables import item
from emnesy_gpu.kernels.cpu.common.lanes import (
    filled,
    load,
    maximum,
    multiply_add,
    store,
    where_equal,
    where_less,
)
from emnesy_gpu.kernels.cpu.common.softmax_lanes import exponentiate, two_exponentials
from emnesy_gpu.kernels.cpu.common.transpose import read_columns, write_columns

SYMBOLS = 16
"""Symbols that are read or written together: their leaves are whole tiles, and stay in the first cache."""


@inlined
def read_leaves(table, p, logits, label_rows, span):
    """Probabilities of all leaves; the constant; and zeros."""
    checks = filled(table, 0.0)
    for first in range(0, p.n, SYMBOLS):
        last = min(first + SYMBOLS, p.n)
        start, stop = first * p.n_values, last * p.n_values
        read_columns(logits, span[0], span[1] - 1, start, stop - start, table, start)
        for row in range(start, stop, p.n_values):
            checks += softmax_of_two(table, row) if p.n_values == 2 else softmax(table, row, p.n_values)
    store(table, p.checks, checks)
    read_label(table, p, label_rows, span)
    store(table, p.one, 1.0)
    store(table, p.zero, 0.0)


@inlined
def softmax(table, first, size):
    """In place; what it returns is not a number where the logits are no prior."""
    total = exponentiate(table, first, size)
    scale = 1.0 / total
    for row in range(first, first + size):
        store(table, row, load(table, row) * scale)
    return total


@inlined
def softmax_of_two(table, first):
    """The same for a symbol of two values, by one exponential."""
    left, right, smaller = two_exponentials(table, first)
    scale = 1.0 / (1.0 + smaller)
    lesser = smaller * scale
    store(table, first, where_less(left, right, lesser, scale))
    store(table, first + 1, where_less(left, right, scale, lesser))
    return smaller


@inlined
def read_label(table, p, label_rows, span):
    """1 for the values that the label gives, and for all values of entries that it does not give; 0 for others."""
    for entry in range(p.n_entries):
        first, last = item(p.numbers, p.given + entry), item(p.numbers, p.given + entry + 1)
        for lane in range(table.shape[1]):
            table[p.spare, lane] = label_rows[min(span[0] + lane, span[1] - 1), entry]
        given = load(table, p.spare)
        others = where_less(0.0, given, 0.0, 1.0)
        for row in range(first, last):
            store(table, row, where_equal(given, row - first + 1, 1.0, others))


@inlined
def write_marginals(table, p, marginals, span, inverse, combination):
    """(posterior - prior_share * prior) * factor of all symbols; inverse: one over the evidence."""
    ratio, prior = inverse * combination.factor, filled(table, -combination.prior_share * combination.factor)
    for first in range(0, p.n, SYMBOLS):
        last = min(first + SYMBOLS, p.n)
        for i in range(first, last):
            share = prior
            if item(p.numbers, p.mentioned + i) == 0:
                share = multiply_add(unmentioned(table, p, i, inverse), combination.factor, prior)
            for row in range(i * p.n_values, (i + 1) * p.n_values):
                derivative = load(table, item(p.numbers, p.derivatives + row))
                store(table, row, load(table, row) * multiply_add(derivative, ratio, share))
        start = first * p.n_values
        write_columns(marginals, span[0], span[1] - 1, start, (last - first) * p.n_values, table, start)


@inlined
def unmentioned(table, p, i, inverse):
    """The share of the evidence whose parts do not mention a symbol."""
    rest = filled(table, 0.0)
    for row in range(i * p.n_values, (i + 1) * p.n_values):
        rest = multiply_add(load(table, row), load(table, item(p.numbers, p.derivatives + row)), rest)
    return maximum(1.0 - rest * inverse, 0.0)
