"""Messages of one factor in probabilities, rows of the batch in lanes.

Notation of ``reference.factor_graph``. Messages from factors have sum k_i, so that one that says nothing is 1 and a
product of many neither grows nor shrinks. Nothing is subtracted; sums alone are divided by. A product or a sum that is
too small for the float type is lost, which is negligible next to others: every function keeps the smallest of the sums
that it divides by, and a row in which it is too small is computed again with a wider range.
"""

from __future__ import annotations

from typing import NamedTuple

from emnesy_gpu.kernels.cpu.automaton.linear import scale_rows, sum_classes
from emnesy_gpu.kernels.cpu.automaton.steps import Place, step_backward, step_forward
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
from emnesy_gpu.kernels.cpu.factor_graph.products import multiply_other_bits, multiply_others, renew_products
from emnesy_gpu.kernels.factor_graph_tables import PAIR, PARITY

TILE = 4
"""Values of a message that are summed at once: a cavity is loaded once for all of them."""


class Way(NamedTuple):
    """Where messages are read and written: the first rows of two tables [E, K], which may be one."""

    source: int
    target: int
    tiny: float  # the smallest normal number


@inlined
def find_cavity(work, at, g, way, edge, row):
    """n of one edge into rows from ``row`` on, 0 for values that do not exist; not normalised. Returns its sum."""
    i, k = item(g.numbers, g.variable + edge), g.n_values
    size, prior = item(g.numbers, g.size + i), at.priors + i * k
    begin, end = item(g.numbers, g.incident_first + i), item(g.numbers, g.incident_first + i + 1)
    total = filled(work, 0.0)
    if end - begin <= g.run:
        for v in range(size):
            q = load(work, prior + v)
            for j in range(begin, end):
                other = item(g.numbers, g.incident + j)
                if other != edge:
                    q *= load(work, way.source + other * k + v)
            total += q
            store(work, row + v, q)
        return total
    return multiply_others(work, at, g, way, edge, row)


@inlined
def find_normalised(work, at, g, way, edge, row):
    """n of one edge with sum 1; returns the sum that it had. Values that do not exist have 0."""
    total = find_cavity(work, at, g, way, edge, row)
    size = size_of(g, edge)
    scale_rows(work, row, row, size, 1.0 / maximum(total, way.tiny))
    for v in range(size, g.n_values):
        store(work, row + v, 0.0)
    return total


@inlined
def size_of(g, edge):
    """How many values the symbol of an edge has."""
    return item(g.numbers, g.size + item(g.numbers, g.variable + edge))


@inlined
def write_message(work, way, message, row, size, shares):
    """The damped message from numbers, times the first share; returns its largest change, as a probability.

    message: the number of its first entry in the tables of messages.
    """
    change = filled(work, 0.0)
    for v in range(size):
        old = load(work, way.source + message + v)
        new = multiply_add(load(work, row + v), shares[0], old * shares[1])
        change = maximum(maximum(new - old, old - new), change)
        store(work, way.target + message + v, new)
    return change * (1.0 / size)


@inlined
def send_pair(work, at, g, way, f, shares):
    """Both messages of a factor of two symbols; returns the largest change and the smallest sum."""
    k, edge = g.n_values, item(g.numbers, g.first + f)
    size, other_size = size_of(g, edge), size_of(g, edge + 1)
    table, change, smallest = g.pairs + item(g.numbers, g.which + f) * k * k, filled(work, 0.0), filled(work, 1.0)
    for side in range(2):
        find_cavity(work, at, g, way, edge + side, at.cavities + side * k)
    total = multiply_table(work, g, (table, k, 1), (size, other_size), at.cavities + k, at.fresh)
    smallest = minimum(total, smallest)
    scale = shares[0] * size / maximum(total, way.tiny)
    change = write_message(work, way, edge * k, at.fresh, size, (scale, shares[1]))
    total = multiply_table(work, g, (table, 1, k), (other_size, size), at.cavities, at.fresh)
    smallest = minimum(total, smallest)
    scale = shares[0] * other_size / maximum(total, way.tiny)
    return maximum(write_message(work, way, (edge + 1) * k, at.fresh, other_size, (scale, shares[1])), change), smallest


@inlined
def multiply_table(work, g, table, sizes, cavity, row):
    """row + v: sum over u of w(v, u) n(u); returns the sum. table: its first entry, and its strides along v and u."""
    (first, along, across), w = table, g.weights
    total, whole = filled(work, 0.0), sizes[0] // TILE * TILE
    for v in range(0, whole, TILE):
        a = b = c = d = filled(work, 0.0)
        for u in range(sizes[1]):
            n, entry = load(work, cavity + u), first + v * along + u * across
            a, b = multiply_add(n, w[entry], a), multiply_add(n, w[entry + along], b)
            c, d = multiply_add(n, w[entry + 2 * along], c), multiply_add(n, w[entry + 3 * along], d)
        total = total + a + b + c + d
        store(work, row + v, a)
        store(work, row + v + 1, b)
        store(work, row + v + 2, c)
        store(work, row + v + 3, d)
    for v in range(whole, sizes[0]):
        value = filled(work, 0.0)
        for u in range(sizes[1]):
            value = multiply_add(load(work, cavity + u), w[first + v * along + u * across], value)
        total += value
        store(work, row + v, value)
    return total


@inlined
def find_bits(work, at, g, way, edge):
    """n of one edge of a symbol of two values, not normalised."""
    i, k = item(g.numbers, g.variable + edge), g.n_values
    begin, end = item(g.numbers, g.incident_first + i), item(g.numbers, g.incident_first + i + 1)
    if end - begin > g.run:
        return multiply_other_bits(work, at, g, way, edge)
    zero, one = load(work, at.priors + i * k), load(work, at.priors + i * k + 1)
    for j in range(begin, end):
        other = item(g.numbers, g.incident + j)
        if other != edge:
            zero *= load(work, way.source + other * k)
            one *= load(work, way.source + other * k + 1)
    return zero, one


@inlined
def write_bits(work, way, message, bits, shares):
    """The damped message of a symbol of two values from two numbers, times the first share; returns its change."""
    old_zero, old_one = load(work, way.source + message), load(work, way.source + message + 1)
    zero = multiply_add(bits[0], shares[0], old_zero * shares[1])
    one = multiply_add(bits[1], shares[0], old_one * shares[1])
    store(work, way.target + message, zero)
    store(work, way.target + message + 1, one)
    change = maximum(maximum(zero - old_zero, old_zero - zero), maximum(one - old_one, old_one - one))
    return change * 0.5


@inlined
def send_pair_of_bits(work, at, g, way, f, shares):
    """``send_pair`` where all symbols have two values: everything stays in registers."""
    edge, table = item(g.numbers, g.first + f), g.pairs + 4 * item(g.numbers, g.which + f)
    zero, one = find_bits(work, at, g, way, edge)
    other_zero, other_one = find_bits(work, at, g, way, edge + 1)
    w_00, w_01, w_10, w_11 = g.weights[table], g.weights[table + 1], g.weights[table + 2], g.weights[table + 3]
    bits = multiply_add(other_one, w_01, other_zero * w_00), multiply_add(other_one, w_11, other_zero * w_10)
    other = multiply_add(one, w_10, zero * w_00), multiply_add(one, w_11, zero * w_01)
    total, other_total = bits[0] + bits[1], other[0] + other[1]
    scale = shares[0] * 2.0 / maximum(total, way.tiny)
    other_scale = shares[0] * 2.0 / maximum(other_total, way.tiny)
    change = write_bits(work, way, 2 * edge, bits, (scale, shares[1]))
    other_change = write_bits(work, way, 2 * edge + 2, other, (other_scale, shares[1]))
    return maximum(change, other_change), minimum(total, other_total)


@inlined
def parity_forward(work, at, g, way, f):
    """Rows of ``fresh``: the probability that the first j members have an even and an odd sum; n in ``cavities``.

    Returns the smallest sum of a cavity.
    """
    edge, arity = item(g.numbers, g.first + f), item(g.numbers, g.first + f + 1) - item(g.numbers, g.first + f)
    even, odd, smallest = filled(work, 1.0), filled(work, 0.0), filled(work, 1.0)
    for j in range(arity):
        zero, one = find_bits(work, at, g, way, edge + j)
        total = zero + one
        smallest = minimum(total, smallest)
        scale = 1.0 / maximum(total, way.tiny)
        zero, one = zero * scale, one * scale
        store(work, at.cavities + 2 * j, zero)
        store(work, at.cavities + 2 * j + 1, one)
        store(work, at.fresh + 2 * j, even)
        store(work, at.fresh + 2 * j + 1, odd)
        even, odd = turn(even, odd, zero, one)
    store(work, at.fresh + 2 * arity, even)
    store(work, at.fresh + 2 * arity + 1, odd)
    return smallest


@inlined
def turn(even, odd, zero, one):
    """Even and odd sums after one more member."""
    return multiply_add(odd, one, even * zero), multiply_add(even, one, odd * zero)


@inlined
def send_parity(work, at, g, way, f, shares):
    """All messages of a parity, without a difference that could cancel; returns the largest change and smallest sum.

    They have sum 1 as they are: so have the cavities, and each sum of two members.
    """
    smallest = parity_forward(work, at, g, way, f)
    edge, arity = item(g.numbers, g.first + f), item(g.numbers, g.first + f + 1) - item(g.numbers, g.first + f)
    wanted, scale = item(g.numbers, g.which + f), shares[0] * 2.0
    even, odd, change = filled(work, 1.0 - wanted), filled(work, 1.0 * wanted), filled(work, 0.0)
    for j in range(arity - 1, -1, -1):
        bits = turn(load(work, at.fresh + 2 * j), load(work, at.fresh + 2 * j + 1), even, odd)
        change = maximum(write_bits(work, way, (edge + j) * g.n_values, bits, (scale, shares[1])), change)
        even, odd = turn(even, odd, load(work, at.cavities + 2 * j), load(work, at.cavities + 2 * j + 1))
    return change, smallest


@inlined
def place_of(at, g, c, f, j):
    """Member j of a chain, for the steps of the automaton; see ``Place``."""
    states, layer = c.n_states + 1, item(c.numbers, c.layer + item(g.numbers, g.which + f) + j)
    priors = at.cavities + j * g.n_values if c.one_class_each else at.sums + j * c.n_classes
    return Place(
        layer,
        item(c.numbers, c.before + layer),
        item(c.numbers, c.after + layer),
        item(c.numbers, c.layer_classes + layer),
        at.alpha + j * states,
        at.alpha + (j + 1) * states,
        at.beta,
        at.beta + states,
        priors,
        at.rest,
    )


@table_function
def chain_forward(work, at, g, c, way, f):
    """alpha before every member, with a sum in [1, 2); returns the smallest sum, and that of alpha at the end as
    mantissa and exponent.
    """
    edge, arity = item(g.numbers, g.first + f), item(g.numbers, g.first + f + 1) - item(g.numbers, g.first + f)
    total, exponent, smallest = filled(work, 1.0), filled(work, 0.0), filled(work, 1.0)
    store(work, at.alpha, 1.0)
    for j in range(arity):
        row, place = at.cavities + j * g.n_values, place_of(at, g, c, f, j)
        smallest = minimum(find_normalised(work, at, g, way, edge + j, row), smallest)
        if not c.one_class_each:
            sum_classes(work, c, place.layer, row, place.priors)
        total = step_forward(work, c, place, 1.0)
        smallest = minimum(total, smallest)
        shift = exponent_of(maximum(total, way.tiny))
        scale = power_of_two(shift * -1.0)
        scale_rows(work, place.alpha_after, place.alpha_after, place.after, scale)
        store(work, place.alpha_after + c.n_states, 0.0)
        total *= scale
        exponent += shift
    return smallest, total, exponent


@table_function
def send_chain(work, at, g, c, way, f, shares):
    """All messages of a chain; returns the largest change and the smallest sum."""
    smallest, _, _ = chain_forward(work, at, g, c, way, f)
    edge, arity = item(g.numbers, g.first + f), item(g.numbers, g.first + f + 1) - item(g.numbers, g.first + f)
    store(work, at.beta, 1.0)
    change = filled(work, 0.0)
    for j in range(arity - 1, -1, -1):
        place = place_of(at, g, c, f, j)
        largest = step_backward(work, c, place, 1.0)
        size, row, total = size_of(g, edge + j), at.cavities + j * g.n_values, filled(work, 0.0)
        for v in range(size):
            # The cavity has been read: its rows take the message, before it is scaled.
            rest = load(work, at.rest + item(c.numbers, c.classes + place.layer * c.n_values + v))
            total += rest
            store(work, row + v, rest)
        smallest = minimum(total, smallest)
        scale = shares[0] * size / maximum(total, way.tiny)
        message = (edge + j) * g.n_values
        change = maximum(write_message(work, way, message, row, size, (scale, shares[1])), change)
        scale = power_of_two(exponent_of(maximum(largest, way.tiny)) * -1.0)
        scale_rows(work, place.beta_before, place.beta, place.before, scale)
    return change, smallest


@inlined
def send(work, at, g, c, way, f, shares):
    """All messages of a factor of any kind; returns the largest change and the smallest sum."""
    kind = item(g.numbers, g.kind + f)
    if kind == PAIR_OF_BITS:
        step, least = send_pair_of_bits(work, at, g, way, f, shares)
    elif kind == PAIR:
        step, least = send_pair(work, at, g, way, f, shares)
    elif kind == PARITY:
        step, least = send_parity(work, at, g, way, f, shares)
    else:
        step, least = send_chain(work, at, g, c, way, f, shares)
    if g.n_products > 0 and way.source == way.target:
        for edge in range(item(g.numbers, g.first + f), item(g.numbers, g.first + f + 1)):
            renew_products(work, at, g, way, edge)
    return step, least
