"""Exponentials of the logits of one symbol, rows of the batch in lanes; large logits count as LARGEST_LOGIT.

Where the largest logit of a symbol is none of the large ones, exp of each of these less that one is 0 either way. So a
look at the largest one, which is at hand, is enough.
"""

from __future__ import annotations

from emnesy_gpu.kernels.cpu.common.compile import inlined
from emnesy_gpu.kernels.cpu.common.lanes import (
    any_lane_beyond,
    exp_nonpositive,
    filled,
    load,
    maximum,
    store,
    where_equal,
    where_less,
)
from emnesy_gpu.kernels.logits import LARGEST_LOGIT

NEARLY_LARGEST = 0.999 * LARGEST_LOGIT
"""From here on -LARGEST_LOGIT may be so near that its exponential is not 0."""


@inlined
def bound(table, first, size):
    """Finite logits beyond +-LARGEST_LOGIT become that."""
    for row in range(first, first + size):
        logit = load(table, row)
        low = where_less(logit, -LARGEST_LOGIT, where_equal(logit, float("-inf"), logit, -LARGEST_LOGIT), logit)
        store(table, row, where_less(LARGEST_LOGIT, low, where_equal(low, float("inf"), low, LARGEST_LOGIT), low))


@inlined
def two_exponentials(table, first):
    """Both logits, and exp of the smaller one less the larger one: not a number where the two are no prior."""
    left, right = load(table, first), load(table, first + 1)
    largest = maximum(left, right)
    if any_lane_beyond(largest, NEARLY_LARGEST):
        bound(table, first, 2)
        left, right = load(table, first), load(table, first + 1)
        largest = maximum(left, right)
    # One of the two differences is 0, unless the logits are no prior.
    return left, right, exp_nonpositive((left - largest) + (right - largest))


@inlined
def exponentiate_two(table, first):
    """The same for two logits, with the same bits by one exponential: that of the larger one is 1."""
    left, right, smaller = two_exponentials(table, first)
    store(table, first, where_less(left, right, smaller, 1.0))
    store(table, first + 1, where_less(left, right, 1.0, smaller))
    return smaller + 1.0


@inlined
def load_four(table, first):
    return load(table, first), load(table, first + 1), load(table, first + 2), load(table, first + 3)


@inlined
def largest_of(table, first, size):
    largest = load(table, first)
    for row in range(first + 1, first + size):
        largest = maximum(load(table, row), largest)
    return largest


@inlined
def exponentiate_four(table, first):
    """The same for four logits that stay in registers."""
    logit_0, logit_1, logit_2, logit_3 = load_four(table, first)
    largest = maximum(logit_3, maximum(logit_2, maximum(logit_1, logit_0)))
    if any_lane_beyond(largest, NEARLY_LARGEST):
        bound(table, first, 4)
        logit_0, logit_1, logit_2, logit_3 = load_four(table, first)
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
    largest = largest_of(table, first, size)
    if any_lane_beyond(largest, NEARLY_LARGEST):
        bound(table, first, size)
        largest = largest_of(table, first, size)
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
