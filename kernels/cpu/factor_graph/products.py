"""Products of all messages to a symbol but one, where there are many: a tree of products of runs of RUN.

The products of the runs of a symbol lie one after the other, those of the runs of these behind them, and so on until
RUN or fewer are left. All are scaled to a largest entry in [1, 2): a message does not depend on the scale of a cavity.

Serial sweeps renew a few of them with each message. Flooding sweeps have none: see ``flooding``.
"""

from __future__ import annotations

from typing import NamedTuple

from emnesy_gpu.kernels.cpu.common.compile import inlined, table_function
from emnesy_gpu.kernels.cpu.common.flat_tables import item
from emnesy_gpu.kernels.cpu.common.lanes import exponent_of, filled, load, maximum, power_of_two, store

EVERY = -1
"""In place of the one that is left out of a product."""


class Run(NamedTuple):
    """Factors of a product: messages of a symbol, or products of runs of them."""

    begin: int
    end: int
    left_out: int  # a number from begin on, or EVERY
    first: int  # the row of the first of all messages, or of the products of one level


@inlined
def row_of_message(g, first, number):
    """Where a message to a symbol begins, by its number in ``incident``."""
    return first + item(g.numbers, g.incident + number) * g.n_values


@inlined
def row_of_product(g, first, number):
    """Where a product of a run begins, by its number among those of its symbol on one level."""
    return first + number * g.n_values


@inlined
def scaled_bits(zero, one, tiny):
    """Both by a power of two, so that the larger one is in [1, 2)."""
    scale = power_of_two(exponent_of(maximum(maximum(zero, one), tiny)) * -1.0)
    return zero * scale, one * scale


@inlined
def multiply_run(work, g, run, row_of, product, tiny):
    """Multiply a run into a product, its first row and its values, and scale it to a largest entry in [1, 2).

    row_of: what finds the rows of messages, or of products. Returns the sum of the product, and the exponent that was
    taken off.
    """
    largest, total, (row, size) = filled(work, 0.0), filled(work, 0.0), product
    for v in range(size):
        q = load(work, row + v)
        for number in range(run.begin, run.end):
            if number != run.left_out:
                q *= load(work, row_of(g, run.first, number) + v)
        largest = maximum(q, largest)
        store(work, row + v, q)
    exponent = exponent_of(maximum(largest, tiny))
    scale = power_of_two(exponent * -1.0)
    for v in range(size):
        q = load(work, row + v) * scale
        total += q
        store(work, row + v, q)
    return total, exponent


@inlined
def multiply_bits(work, g, run, row_of, bits, tiny):
    """The same for a symbol of two values, in registers: returns both."""
    zero, one = bits
    for number in range(run.begin, run.end):
        if number != run.left_out:
            row = row_of(g, run.first, number)
            zero *= load(work, row)
            one *= load(work, row + 1)
    return scaled_bits(zero, one, tiny)


@table_function
def multiply_others(work, at, g, way, edge, row):
    """n of one edge of a symbol with many, in rows from ``row`` on, not normalised; returns its sum.

    With flooding it waits in way.target.
    """
    i, k = item(g.numbers, g.variable + edge), g.n_values
    size, begin, end = (
        item(g.numbers, g.size + i),
        item(g.numbers, g.incident_first + i),
        item(g.numbers, g.incident_first + i + 1),
    )
    if way.source != way.target:
        total = filled(work, 0.0)
        for v in range(size):
            q = load(work, way.target + edge * k + v)
            total += q
            store(work, row + v, q)
        return total
    for v in range(size):
        store(work, row + v, load(work, at.priors + i * k + v))
    number, count = item(g.numbers, g.position + edge), end - begin
    run = messages_around(g, way, (begin, count), number, begin + number)
    total, _ = multiply_run(work, g, run, row_of_message, (row, size), way.tiny)
    first = at.products + item(g.numbers, g.products + i) * k
    while count > g.run:
        number, count = number // g.run, -(-count // g.run)
        run = products_around(g, first, count, number, number)
        total, _ = multiply_run(work, g, run, row_of_product, (row, size), way.tiny)
        first += count * k
    return total


@inlined
def messages_around(g, way, around, number, left_out):
    """The run of messages that one of them is in. around: where those of its symbol begin, and how many there are."""
    start = number // g.run * g.run
    return Run(around[0] + start, around[0] + min(start + g.run, around[1]), left_out, way.source)


@inlined
def products_around(g, first, count, number, left_out):
    """The run of products that one of ``count`` is in, which lie from the row ``first`` on."""
    start = number // g.run * g.run
    return Run(start, min(start + g.run, count), left_out, first)


@table_function
def multiply_other_bits(work, at, g, way, edge):
    """``multiply_others`` for a symbol of two values: n of both."""
    i, k = item(g.numbers, g.variable + edge), g.n_values
    if way.source != way.target:
        return load(work, way.target + edge * k), load(work, way.target + edge * k + 1)
    begin, end = item(g.numbers, g.incident_first + i), item(g.numbers, g.incident_first + i + 1)
    number, count = item(g.numbers, g.position + edge), end - begin
    bits = load(work, at.priors + i * k), load(work, at.priors + i * k + 1)
    run = messages_around(g, way, (begin, count), number, begin + number)
    bits = multiply_bits(work, g, run, row_of_message, bits, way.tiny)
    first = at.products + item(g.numbers, g.products + i) * k
    while count > g.run:
        number, count = number // g.run, -(-count // g.run)
        run = products_around(g, first, count, number, number)
        bits = multiply_bits(work, g, run, row_of_product, bits, way.tiny)
        first += count * k
    return bits


@inlined
def renew_product(work, g, run, row_of, product, tiny):
    """The product of a run."""
    row, size = product
    if size == 2:
        zero, one = multiply_bits(work, g, run, row_of, (filled(work, 1.0), filled(work, 1.0)), tiny)
        store(work, row, zero)
        store(work, row + 1, one)
        return
    for v in range(size):
        store(work, row + v, 1.0)
    multiply_run(work, g, run, row_of, product, tiny)


@table_function
def renew_products(work, at, g, way, edge):
    """The products of the runs that the message of an edge is part of, if its symbol has many."""
    i, k = item(g.numbers, g.variable + edge), g.n_values
    size, begin, end = (
        item(g.numbers, g.size + i),
        item(g.numbers, g.incident_first + i),
        item(g.numbers, g.incident_first + i + 1),
    )
    number, count, below = item(g.numbers, g.position + edge), end - begin, -1
    first = at.products + item(g.numbers, g.products + i) * k
    while count > g.run:
        product = first + number // g.run * k, size
        if below < 0:
            run = messages_around(g, way, (begin, count), number, EVERY)
            renew_product(work, g, run, row_of_message, product, way.tiny)
        else:
            run = products_around(g, below, count, number, EVERY)
            renew_product(work, g, run, row_of_product, product, way.tiny)
        number, count, below = number // g.run, -(-count // g.run), first
        first += count * k
