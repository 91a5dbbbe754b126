"""Exponentials of the logits of one symbol, rows of the batch in lanes."""

from __future__ import annotations

from emnesy_gpu.kernels.cpu.common.compile import inlined
from emnesy_gpu.kernels.cpu.common.lanes import exp_nonpositive, filled, load, maximum, store, where_less


@inlined
def exp_of_smaller(left, right):
    """exp of the smaller logit less the larger one; not a number where the two are no prior."""
    largest = maximum(left, right)
    # One of the two differences is 0, unless the logits are no prior.
    return exp_nonpositive((left - largest) + (right - largest))


@inlined
def exponentiate_two(table, first):
    """The same for two logits, with the same bits by one exponential: that of the larger one is 1."""
    left, right = load(table, first), load(table, first + 1)
    smaller = exp_of_smaller(left, right)
    store(table, first, where_less(left, right, smaller, 1.0))
    store(table, first + 1, where_less(left, right, 1.0, smaller))
    return smaller + 1.0


@inlined
def exponentiate(table, first, size):
    """exp of the logits less the largest one, in place; returns their sum."""
    if size == 2:
        return exponentiate_two(table, first)
    largest = load(table, first)
    for row in range(first + 1, first + size):
        largest = maximum(load(table, row), largest)
    # Two at a time: the polynomial is one long chain of dependent operations.
    total, other_total, row = filled(table, 0.0), filled(table, 0.0), first
    while row + 2 <= first + size:
        value = exp_nonpositive(load(table, row) - largest)
        other = exp_nonpositive(load(table, row + 1) - largest)
        total += value
        other_total += other
        store(table, row, value)
        store(table, row + 1, other)
        row += 2
    if row < first + size:
        value = exp_nonpositive(load(table, row) - largest)
        total += value
        store(table, row, value)
    return total + other_total
