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
def exponentiate_four(table, first):
    """The same for four logits that stay in registers."""
    logit_0, logit_1, logit_2, logit_3 = (
        load(table, first),
        load(table, first + 1),
        load(table, first + 2),
        load(table, first + 3),
    )
    largest = maximum(logit_3, maximum(logit_2, maximum(logit_1, logit_0)))
    value_0, value_1 = exp_nonpositive(logit_0 - largest), exp_nonpositive(logit_1 - largest)
    value_2, value_3 = exp_nonpositive(logit_2 - largest), exp_nonpositive(logit_3 - largest)
    store(table, first, value_0)
    store(table, first + 1, value_1)
    store(table, first + 2, value_2)
    store(table, first + 3, value_3)
    return (value_0 + value_2) + (value_1 + value_3)


@inlined
def exponentiate(table, first, size):
    """exp of the logits less the largest one, in place; returns their sum."""
    if size == 2:
        return exponentiate_two(table, first)
    if size == 4:
        return exponentiate_four(table, first)
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
