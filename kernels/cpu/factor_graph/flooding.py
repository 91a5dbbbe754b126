"""Flooding sweeps around symbols with many neighbours, rows of the batch in lanes.

A symbol i of degree d has messages m_1 .. m_d, in the order of its edges, and sends on the products of all but one:

    n_j = b_j a_j,   b_1 = prior, b_{j+1} = b_j m_j,   a_d = 1, a_{j-1} = a_j m_j

Both are scaled to a largest entry in [1, 2) after every RUN / 2 messages, so that no more than RUN messages are
multiplied before a product is scaled. The message of the pair at edge j follows at once: it depends on n_j alone. For
factors of other kinds n_j waits in the place of the message that such a factor sends back.
"""

from __future__ import annotations

from emnesy_gpu.kernels.cpu.common.compile import inlined, table_function
from emnesy_gpu.kernels.cpu.common.flat_tables import item
from emnesy_gpu.kernels.cpu.common.lanes import (
    exponent_of,
    filled,
    load,
    maximum,
    minimum,
    multiply_add,
    power_of_two,
    store,
)
from emnesy_gpu.kernels.cpu.factor_graph.graph import PAIR_OF_BITS
from emnesy_gpu.kernels.cpu.factor_graph.messages import multiply_table, write_bits, write_message
from emnesy_gpu.kernels.cpu.factor_graph.products import scaled_bits
from emnesy_gpu.kernels.factor_graph_tables import PAIR


@table_function
def flood_pairs(work, at, g, way, shares):
    """All messages of pairs, from way.source into way.target; returns the largest change and the smallest sum.

    n of other edges, where symbols have more than RUN, goes into way.target too: see ``multiply_others``.
    """
    change, smallest = filled(work, 0.0), filled(work, 1.0)
    for i in range(g.n):
        if g.bits:
            step, least = send_bits_on(work, at, g, way, i, shares, True)
        else:
            step, least = send_on(work, at, g, way, i, shares, True)
        change, smallest = maximum(step, change), minimum(least, smallest)
    return change, smallest


@table_function
def find_cavities(work, at, g, way):
    """n of all edges of symbols with more than RUN, into way.target."""
    shares = filled(work, 0.0), filled(work, 0.0)
    for i in range(g.n):
        if has_many(g, i):
            if g.bits:
                send_bits_on(work, at, g, way, i, shares, False)
            else:
                send_on(work, at, g, way, i, shares, False)


@inlined
def has_many(g, i):
    """Whether a symbol has more than RUN neighbours."""
    return item(g.numbers, g.incident_first + i + 1) - item(g.numbers, g.incident_first + i) > g.run


@inlined
def pair_at(g, edge):
    """Of the factor of an edge: whether it is a pair, its table, and the side that the edge is on."""
    f = item(g.numbers, g.owner + edge)
    is_pair = item(g.numbers, g.kind + f) == (PAIR_OF_BITS if g.bits else PAIR)
    return is_pair, g.pairs + item(g.numbers, g.which + f) * g.n_values**2, edge - item(g.numbers, g.first + f)


@inlined
def send_bits_on(work, at, g, way, i, shares, sends):
    """``send_on`` from one of symbols of two values."""
    begin, end = item(g.numbers, g.incident_first + i), item(g.numbers, g.incident_first + i + 1)
    change, smallest, each = filled(work, 0.0), filled(work, 1.0), max(1, g.run // 2)
    zero, one = filled(work, 1.0), filled(work, 1.0)
    for j in range(end - 1, begin - 1, -1):
        store(work, at.behind + 2 * (j - begin), zero)
        store(work, at.behind + 2 * (j - begin) + 1, one)
        message = way.source + 2 * item(g.numbers, g.incident + j)
        zero, one = zero * load(work, message), one * load(work, message + 1)
        if (end - j) % each == 0:
            zero, one = scaled_bits(zero, one, way.tiny)
    zero, one = load(work, at.priors + 2 * i), load(work, at.priors + 2 * i + 1)
    for j in range(begin, end):
        edge = item(g.numbers, g.incident + j)
        is_pair, table, side = pair_at(g, edge)
        n_zero = zero * load(work, at.behind + 2 * (j - begin))
        n_one = one * load(work, at.behind + 2 * (j - begin) + 1)
        if not (sends and is_pair):
            if end - begin > g.run:
                n_zero, n_one = scaled_bits(n_zero, n_one, way.tiny)
                store(work, way.target + 2 * edge, n_zero)
                store(work, way.target + 2 * edge + 1, n_one)
        else:
            w_01, w_10 = g.weights[table + 2 - side], g.weights[table + 1 + side]  # by the other symbol first
            bits = (
                multiply_add(n_one, w_01, n_zero * g.weights[table]),
                multiply_add(n_one, g.weights[table + 3], n_zero * w_10),
            )
            total = bits[0] + bits[1]
            scale = shares[0] * 2.0 / maximum(total, way.tiny)
            step = write_bits(work, way, 2 * (edge + 1 - 2 * side), bits, (scale, shares[1]))
            change, smallest = maximum(step, change), minimum(total, smallest)
        message = way.source + 2 * edge
        zero, one = zero * load(work, message), one * load(work, message + 1)
        if (j - begin + 1) % each == 0:
            zero, one = scaled_bits(zero, one, way.tiny)
    return change, smallest


@inlined
def scale_product(work, row, size, tiny):
    """The rows of a product by a power of two, so that its largest entry is in [1, 2)."""
    largest = filled(work, 0.0)
    for v in range(size):
        largest = maximum(load(work, row + v), largest)
    scale = power_of_two(exponent_of(maximum(largest, tiny)) * -1.0)
    for v in range(size):
        store(work, row + v, load(work, row + v) * scale)


@inlined
def multiply_rows(work, left, right, product, size):
    """product = left * right."""
    for v in range(size):
        store(work, product + v, load(work, left + v) * load(work, right + v))


@table_function
def send_on(work, at, g, way, i, shares, sends):
    """The messages that pairs send on from one symbol, if they do, and n of other edges; change and smallest sum."""
    k, size, each = g.n_values, item(g.numbers, g.size + i), max(1, g.run // 2)
    begin, end = item(g.numbers, g.incident_first + i), item(g.numbers, g.incident_first + i + 1)
    change, smallest, cavity, before = filled(work, 0.0), filled(work, 1.0), at.cavities, at.cavities + k
    for v in range(size):
        store(work, at.behind + (end - 1 - begin) * k + v, 1.0)
    for j in range(end - 1, begin, -1):
        row = at.behind + (j - begin) * k
        multiply_rows(work, row, way.source + item(g.numbers, g.incident + j) * k, row - k, size)
        if (end - j) % each == 0:
            scale_product(work, row - k, size, way.tiny)
    for v in range(size):
        store(work, before + v, load(work, at.priors + i * k + v))
    for j in range(begin, end):
        edge = item(g.numbers, g.incident + j)
        is_pair, table, side = pair_at(g, edge)
        if not (sends and is_pair):
            if end - begin > g.run:
                multiply_rows(work, before, at.behind + (j - begin) * k, way.target + edge * k, size)
                scale_product(work, way.target + edge * k, size, way.tiny)
        else:
            multiply_rows(work, before, at.behind + (j - begin) * k, cavity, size)
            other = edge + 1 - 2 * side
            other_size = item(g.numbers, g.size + item(g.numbers, g.variable + other))
            along, across = (1, k) if side == 0 else (k, 1)
            total = multiply_table(work, g, (table, along, across), (other_size, size), cavity, at.fresh)
            scale = shares[0] * other_size / maximum(total, way.tiny)
            step = write_message(work, way, other * k, at.fresh, other_size, (scale, shares[1]))
            change, smallest = maximum(step, change), minimum(total, smallest)
        multiply_rows(work, before, way.source + edge * k, before, size)
        if (j - begin + 1) % each == 0:
            scale_product(work, before, size, way.tiny)
    return change, smallest
