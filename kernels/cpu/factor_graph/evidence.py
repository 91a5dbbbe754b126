"""The Bethe evidence and the beliefs of a block of rows, from their messages: see ``reference.factor_graph``."""

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
from emnesy_gpu.kernels.cpu.factor_graph.messages import (
    chain_forward,
    find_cavity,
    multiply_table,
    parity_forward,
    size_of,
)
from emnesy_gpu.kernels.cpu.factor_graph.products import EVERY, Run, multiply_run, row_of_message
from emnesy_gpu.kernels.factor_graph_tables import PAIR, PARITY


@inlined
def edge_sum(work, g, way, edge, row, smallest):
    """Sum of cavity times message of an edge, and the smallest sum so far."""
    size, message = size_of(g, edge), way.source + edge * g.n_values
    total = filled(work, 0.0)
    for v in range(size):
        total = multiply_add(load(work, row + v), load(work, message + v), total)
    return total, minimum(total, smallest)


@inlined
def renormalised(mantissa, exponent, tiny):
    """The same number with a mantissa in [1, 2)."""
    shift = exponent_of(maximum(mantissa, tiny))
    return mantissa * power_of_two(shift * -1.0), exponent + shift


@inlined
def pair_terms(work, at, g, way, f):
    """Z_f / (Z_if Z_jf) of a factor of two symbols, and the smallest sum."""
    k, edge = g.n_values, item(g.numbers, g.first + f)
    smallest, weight = filled(work, 1.0), filled(work, 1.0)
    for side in range(2):
        row = at.cavities + side * k
        find_cavity(work, at, g, way, edge + side, row)
        total, smallest = edge_sum(work, g, way, edge + side, row, smallest)
        weight *= 1.0 / maximum(total, way.tiny)
    first, second = size_of(g, edge), size_of(g, edge + 1)
    table = g.pairs + item(g.numbers, g.which + f) * k * k, k, 1
    multiply_table(work, g, table, (first, second), at.cavities + k, at.fresh)
    total = filled(work, 0.0)
    for v in range(first):
        total = multiply_add(load(work, at.fresh + v), load(work, at.cavities + v), total)
    return total * weight, minimum(total, smallest)


@table_function
def factor_terms(work, at, g, c, way, f):
    """Z_f over the product of Z_if, as mantissa and exponent, and the smallest sum."""
    exponent = filled(work, 0.0)
    kind = item(g.numbers, g.kind + f)
    if kind <= PAIR:  # also PAIR_OF_BITS
        weight, smallest = pair_terms(work, at, g, way, f)
        return weight, exponent, smallest
    edge, arity = item(g.numbers, g.first + f), item(g.numbers, g.first + f + 1) - item(g.numbers, g.first + f)
    width = 2 if kind == PARITY else g.n_values
    if kind == PARITY:
        smallest = parity_forward(work, at, g, way, f)
        weight = load(work, at.fresh + 2 * arity + item(g.numbers, g.which + f))
    else:
        smallest, weight, exponent = chain_forward(work, at, g, c, way, f)
    smallest = minimum(weight, smallest)
    for j in range(arity):
        total, smallest = edge_sum(work, g, way, edge + j, at.cavities + j * width, smallest)
        weight, exponent = renormalised(weight / maximum(total, way.tiny), exponent, way.tiny)
    return weight, exponent, smallest


@table_function
def find_belief(work, at, g, way, i):
    """The beliefs of one symbol; returns Z_i as mantissa and exponent."""
    k, size = g.n_values, item(g.numbers, g.size + i)
    row, begin, end = (
        at.beliefs + i * k,
        item(g.numbers, g.incident_first + i),
        item(g.numbers, g.incident_first + i + 1),
    )
    total, exponent = filled(work, 0.0), filled(work, 0.0)
    for v in range(size):
        q = load(work, at.priors + i * k + v)
        total += q
        store(work, row + v, q)
    for start in range(begin, end, g.run):
        run = Run(start, min(start + g.run, end), EVERY, way.source)
        total, shift = multiply_run(work, g, run, row_of_message, (row, size), way.tiny)
        exponent += shift
    scale = 1.0 / maximum(total, way.tiny)
    for v in range(size):
        store(work, row + v, load(work, row + v) * scale)
    for v in range(size, k):
        store(work, row + v, 0.0)
    return total, exponent
