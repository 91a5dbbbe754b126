"""Products of all messages to a symbol but one, where there are many: a tree of products of runs of RUN.

The products of the runs of a symbol lie one after the other, those of the runs of these behind them, and so on until
RUN or fewer are left. All are scaled to a largest entry in [1, 2): a message does not depend on the scale of a cavity.
"""

from __future__ import annotations

from emnesy_gpu.kernels.cpu.common.compile import inlined, table_function
from emnesy_gpu.kernels.cpu.common.flat_tables import item
from emnesy_gpu.kernels.cpu.common.lanes import exponent_of, filled, load, maximum, power_of_two, store

EVERY = -1
"""In place of the one that is left out of a product."""


@inlined
def scale_product(work, product, largest, tiny):
    """Scale a product, its first row and its values, by a power of two to a largest entry in [1, 2).

    Returns its sum, and the exponent that was taken off.
    """
    row, size = product
    exponent, total = exponent_of(maximum(largest, tiny)), filled(work, 0.0)
    scale = power_of_two(exponent * -1.0)
    for v in range(size):
        q = load(work, row + v) * scale
        total += q
        store(work, row + v, q)
    return total, exponent


@inlined
def multiply_run(work, g, way, span, edge, product):
    """Multiply some more messages, all but that of an edge, into a product, and scale it; see ``scale_product``."""
    largest, (row, size) = filled(work, 0.0), product
    for v in range(size):
        q = load(work, row + v)
        for j in range(span[0], span[1]):
            other = item(g.numbers, g.incident + j)
            if other != edge:
                q *= load(work, way.source + other * g.n_values + v)
        largest = maximum(q, largest)
        store(work, row + v, q)
    return scale_product(work, product, largest, way.tiny)


@inlined
def multiply_products(work, g, way, span, left_out, product):
    """The same with products, from one row on to another, and all but that in a certain row."""
    largest, (row, size) = filled(work, 0.0), product
    for v in range(size):
        q = load(work, row + v)
        for other in range(span[0], span[1], g.n_values):
            if other != left_out:
                q *= load(work, other + v)
        largest = maximum(q, largest)
        store(work, row + v, q)
    return scale_product(work, product, largest, way.tiny)


@table_function
def multiply_others(work, at, g, way, edge, row):
    """n of one edge of a symbol with many, in rows from ``row`` on, not normalised; returns its sum."""
    i, k, run = item(g.numbers, g.variable + edge), g.n_values, g.run
    size, begin, end = (
        item(g.numbers, g.size + i),
        item(g.numbers, g.incident_first + i),
        item(g.numbers, g.incident_first + i + 1),
    )
    for v in range(size):
        store(work, row + v, load(work, at.priors + i * k + v))
    number, count = item(g.numbers, g.position + edge), end - begin
    start = begin + number // run * run
    total, _ = multiply_run(work, g, way, (start, min(start + run, end)), edge, (row, size))
    first = at.products + item(g.numbers, g.products + i) * k
    while count > run:
        number, count = number // run, -(-count // run)
        start = number // run * run
        span = first + start * k, first + min(start + run, count) * k
        total, _ = multiply_products(work, g, way, span, first + number * k, (row, size))
        first += count * k
    return total


@inlined
def scaled_bits(zero, one, tiny):
    """The same for a symbol of two values, in registers."""
    scale = power_of_two(exponent_of(maximum(maximum(zero, one), tiny)) * -1.0)
    return zero * scale, one * scale


@inlined
def multiply_bits(work, g, way, span, edge, bits):
    """``multiply_run`` for the messages to a symbol of two values."""
    (zero, one), k = bits, g.n_values
    for j in range(span[0], span[1]):
        other = item(g.numbers, g.incident + j)
        if other != edge:
            zero *= load(work, way.source + other * k)
            one *= load(work, way.source + other * k + 1)
    return scaled_bits(zero, one, way.tiny)


@inlined
def multiply_products_of_bits(work, g, way, span, left_out, bits):
    """``multiply_products`` for a symbol of two values."""
    zero, one = bits
    for other in range(span[0], span[1], g.n_values):
        if other != left_out:
            zero *= load(work, other)
            one *= load(work, other + 1)
    return scaled_bits(zero, one, way.tiny)


@table_function
def multiply_other_bits(work, at, g, way, edge):
    """``multiply_others`` for a symbol of two values: n of both."""
    i, k, run = item(g.numbers, g.variable + edge), g.n_values, g.run
    begin, end = item(g.numbers, g.incident_first + i), item(g.numbers, g.incident_first + i + 1)
    number, count = item(g.numbers, g.position + edge), end - begin
    bits = load(work, at.priors + i * k), load(work, at.priors + i * k + 1)
    start = begin + number // run * run
    bits = multiply_bits(work, g, way, (start, min(start + run, end)), edge, bits)
    first = at.products + item(g.numbers, g.products + i) * k
    while count > run:
        number, count = number // run, -(-count // run)
        start = number // run * run
        span = first + start * k, first + min(start + run, count) * k
        bits = multiply_products_of_bits(work, g, way, span, first + number * k, bits)
        first += count * k
    return bits


@inlined
def renew_product(work, g, way, span, product):
    """The product of a run of messages."""
    row, size = product
    if size == 2:
        zero, one = multiply_bits(work, g, way, span, EVERY, (filled(work, 1.0), filled(work, 1.0)))
        store(work, row, zero)
        store(work, row + 1, one)
        return
    for v in range(size):
        store(work, row + v, 1.0)
    multiply_run(work, g, way, span, EVERY, product)


@inlined
def renew_product_of_products(work, g, way, span, product):
    """The product of a run of products."""
    row, size = product
    if size == 2:
        zero, one = multiply_products_of_bits(work, g, way, span, EVERY, (filled(work, 1.0), filled(work, 1.0)))
        store(work, row, zero)
        store(work, row + 1, one)
        return
    for v in range(size):
        store(work, row + v, 1.0)
    multiply_products(work, g, way, span, EVERY, product)


@table_function
def renew_products(work, at, g, way, edge):
    """The products of the runs that the message of an edge is part of, if its symbol has many."""
    i, k, run = item(g.numbers, g.variable + edge), g.n_values, g.run
    size, begin, end = (
        item(g.numbers, g.size + i),
        item(g.numbers, g.incident_first + i),
        item(g.numbers, g.incident_first + i + 1),
    )
    number, count, below = item(g.numbers, g.position + edge), end - begin, -1
    first = at.products + item(g.numbers, g.products + i) * k
    while count > run:
        start = number // run * run
        product, last = first + number // run * k, min(start + run, count)
        if below < 0:
            renew_product(work, g, way, (begin + start, begin + last), (product, size))
        else:
            renew_product_of_products(work, g, way, (below + start * k, below + last * k), (product, size))
        number, count, below = number // run, -(-count // run), first
        first += count * k


@table_function
def renew_all_products(work, at, g, way):
    """All products, in the order of the messages: the last one of a symbol completes its products of products."""
    for edge in range(g.n_edges):
        i = item(g.numbers, g.variable + edge)
        degree = item(g.numbers, g.incident_first + i + 1) - item(g.numbers, g.incident_first + i)
        if degree > g.run and item(g.numbers, g.position + edge) % g.run == 0:
            renew_products(work, at, g, way, edge)
