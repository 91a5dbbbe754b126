"""Sum-product on pairs for few rows: one row after the other, with factors that share no variable in the lanes.

Each factor takes the steps of ``messages.send_pair`` in the same order, and each symbol those of ``probabilities``, so
that a row has the same bits as in a large batch. Results of symbols and factors are multiplied one after the other.
"""

from __future__ import annotations

import math
from functools import partial

import numpy as np

from emnesy_gpu.kernels.cpu.common.compile import inlined, kernel, lane_function, table_function
from emnesy_gpu.kernels.cpu.common.flat_tables import item
from emnesy_gpu.kernels.cpu.common.gathers import gather_pair, read, read_pair, write, write_pair
from emnesy_gpu.kernels.cpu.common.lane_scratch import kept_lanes, scratch
from emnesy_gpu.kernels.cpu.common.lanes import (
    FLOAT32_LANES,
    FLOAT64_LANES,
    exponent_of,
    filled,
    load,
    maximum,
    minimum,
    multiply_add,
    power_of_two,
    store,
)
from emnesy_gpu.kernels.cpu.common.pointers import numbers_at
from emnesy_gpu.kernels.cpu.common.propagation_calls import Call, any_larger, rows_at
from emnesy_gpu.kernels.cpu.common.records import Record
from emnesy_gpu.kernels.cpu.common.row_driver import RECOMPUTE
from emnesy_gpu.kernels.cpu.common.softmax_lanes import exponentiate
from emnesy_gpu.kernels.cpu.common.transpose import read_columns, write_columns
from emnesy_gpu.kernels.cpu.factor_graph.bits_in_lanes import send_bits
from emnesy_gpu.kernels.cpu.factor_graph.labels import row_status
from emnesy_gpu.kernels.cpu.factor_graph.messages import TILE, Way
from emnesy_gpu.kernels.cpu.factor_graph.probabilities import LIMITS, LOG_2, refuse, write_numbers
from emnesy_gpu.kernels.cpu.factor_graph.waves import NOTHING, RECIPROCALS, SIZES, TABLES, WIDTH, waves_at
from emnesy_gpu.kernels.status import POSSIBLE

STEPS = 16
"""Mantissas in [1, 2) that are multiplied before the product is scaled."""


def call_of(waves: Record, single: bool) -> Call:
    """The call for the waves of a graph in a float type."""
    size = waves.fields.total
    work = partial(kept_lanes, -(-size // FLOAT32_LANES), 1)
    if not single:
        work = partial(scratch, -(-size // FLOAT64_LANES), np.float64)
    return Call(propagate, (*LIMITS[single], waves.address), work, waves)


@inlined
def find_cavities(numbers, lanes, w, source, group, side):
    """n of one side of all factors of a group, not normalised."""
    edge, k = group * 2 + side, w.even
    cavity = w.cavity + edge * w.degree * WIDTH
    others = item(w.numbers, w.others + edge)
    for v in range(0, k, 2):
        x, y = read_pair(lanes, numbers, w.read + (edge * k + v) * WIDTH)
        for j in range(others):
            m = gather_pair(lanes, numbers, source + v * WIDTH, w.numbers, cavity + j * WIDTH)
            x *= m[0]
            y *= m[1]
        store(lanes, side * k + v, x)
        store(lanes, side * k + v + 1, y)


@inlined
def weight_of_all(lanes, w, entry):
    """A weight of the one table that all factors of a group have."""
    return w.weights[w.tables + entry]


@inlined
def weight_of_each(lanes, w, entry):
    """A weight of the table of each factor of a group."""
    return read(lanes, w.weights, entry * WIDTH)


@inlined
def multiply_tables(lanes, w, group, side):
    """Sums of weight and cavity for each value of one side, in rows from 2 K on; returns their sum."""
    table = item(w.numbers, w.table + group)
    if table != NOTHING:
        return multiply(lanes, w, table, side, weight_of_all)
    return multiply(lanes, w, item(w.numbers, w.weight + group) // WIDTH + TABLES, side, weight_of_each)


@inlined
def multiply(lanes, w, table, side, weight_of):
    """``multiply_tables`` from the first entry of a table; weight_of: what finds the weights of an entry."""
    k, row, cavity = w.n_values, 2 * w.even, (1 - side) * w.even
    along, across = (k, 1) if side == 0 else (1, k)
    total, whole = filled(lanes, 0.0), k // TILE * TILE
    for v in range(0, whole, TILE):
        a = b = c = d = filled(lanes, 0.0)
        for u in range(k):
            n, entry = load(lanes, cavity + u), table + v * along + u * across
            a = multiply_add(n, weight_of(lanes, w, entry), a)
            b = multiply_add(n, weight_of(lanes, w, entry + along), b)
            c = multiply_add(n, weight_of(lanes, w, entry + 2 * along), c)
            d = multiply_add(n, weight_of(lanes, w, entry + 3 * along), d)
        total = total + a + b + c + d
        store(lanes, row + v, a)
        store(lanes, row + v + 1, b)
        store(lanes, row + v + 2, c)
        store(lanes, row + v + 3, d)
    for v in range(whole, k):
        value = filled(lanes, 0.0)
        for u in range(k):
            value = multiply_add(load(lanes, cavity + u), weight_of(lanes, w, table + v * along + u * across), value)
        total += value
        store(lanes, row + v, value)
    return total


@inlined
def send(numbers, lanes, w, way, group, side, shares):
    """Messages to one side of all factors of a group; returns their changes and their sums."""
    k, weight = w.even, item(w.numbers, w.weight + group)
    message = (group * 2 + side) * k * WIDTH
    total, change = multiply_tables(lanes, w, group, side), filled(lanes, 0.0)
    scale = shares[0] * read(lanes, w.weights, weight + (SIZES + side) * WIDTH) / maximum(total, way.tiny)
    for v in range(0, k, 2):
        old_x, old_y = read_pair(lanes, numbers, way.source + message + v * WIDTH)
        x = multiply_add(load(lanes, 2 * k + v), scale, old_x * shares[1])
        y = multiply_add(load(lanes, 2 * k + v + 1), scale, old_y * shares[1])
        change = maximum(maximum(x - old_x, old_x - x), change)
        change = maximum(maximum(y - old_y, old_y - y), change)
        write_pair(numbers, way.target + message + v * WIDTH, x, y)
    return change * read(lanes, w.weights, weight + (RECIPROCALS + side) * WIDTH), total


@table_function
def sweep(numbers, lanes, w, way, damping):
    """One update of all factors; returns the largest change and the smallest sum."""
    change, smallest = filled(lanes, 0.0), filled(lanes, 1.0)
    shares = filled(lanes, 1.0 - damping), filled(lanes, damping)
    for step in range(w.n_steps):
        group = item(w.numbers, w.steps + step)
        if w.bits:
            of_group, total = send_bits(numbers, lanes, w, way, group, shares)
            change, smallest = maximum(of_group, change), minimum(total, smallest)
            continue
        find_cavities(numbers, lanes, w, way.source, group, 0)
        find_cavities(numbers, lanes, w, way.source, group, 1)
        for side in range(2):
            of_side, total = send(numbers, lanes, w, way, group, side, shares)
            change, smallest = maximum(of_side, change), minimum(total, smallest)
    return extremes(lanes, change, smallest)


@inlined
def extremes(lanes, large, small):
    """The largest of some lanes, and the smallest of others."""
    store(lanes, 0, large)
    store(lanes, 1, small)
    largest, smallest = lanes[0, 0], lanes[1, 0]
    for lane in range(1, WIDTH):
        largest, smallest = max(lanes[0, lane], largest), min(lanes[1, lane], smallest)
    return largest, smallest


@table_function
def load_priors(logits, numbers, lanes, w, tiny):
    """Priors of the symbols of one row [n, K], and their sums as terms; returns the smallest prior of a symbol."""
    k, smallest = w.n_values, filled(lanes, 1.0)
    for block in range(w.n_blocks):
        first = block * w.even * WIDTH
        read_columns(logits, block * WIDTH, w.n - 1, 0, k, lanes, 0)
        mantissa, exponent = parted(exponentiate(lanes, 0, k), tiny)
        write(numbers, w.mantissas + w.n_factors + block * WIDTH, mantissa)
        write(numbers, w.exponents + w.n_factors + block * WIDTH, exponent)
        largest = filled(lanes, 0.0)
        for v in range(0, w.even, 2):
            unary_x, unary_y = read_pair(lanes, w.weights, w.unary + first + v * WIDTH)
            x, y = load(lanes, v) * unary_x, load(lanes, v + 1) * unary_y
            largest = maximum(y, maximum(x, largest))
            write_pair(numbers, w.priors + first + v * WIDTH, x, y)
        smallest = minimum(largest, smallest)
    for edge in range(2 * w.n_groups):
        for v in range(0, w.even, 2):
            x, y = gather_pair(lanes, numbers, w.priors + v * WIDTH, w.numbers, w.prior + edge * WIDTH)
            write_pair(numbers, w.read + (edge * w.even + v) * WIDTH, x, y)
    return extremes(lanes, smallest, smallest)[1]


@inlined
def parted(value, tiny):
    """Mantissas in [1, 2) and exponents."""
    exponent = exponent_of(maximum(value, tiny))
    return value * power_of_two(exponent * -1.0), exponent


@table_function
def find_terms(numbers, lanes, w, way):
    """Z_f / (Z_if Z_jf) of every factor, as ``evidence.pair_terms``; returns the smallest sum."""
    k, smallest = w.even, filled(lanes, 1.0)
    for group in range(w.n_groups):
        weight = filled(lanes, 1.0)
        for side in range(2):
            find_cavities(numbers, lanes, w, way.source, group, side)
            message, total = way.source + (group * 2 + side) * k * WIDTH, filled(lanes, 0.0)
            for v in range(0, k, 2):
                m = read_pair(lanes, numbers, message + v * WIDTH)
                total = multiply_add(load(lanes, side * k + v), m[0], total)
                total = multiply_add(load(lanes, side * k + v + 1), m[1], total)
            smallest = minimum(total, smallest)
            weight *= 1.0 / maximum(total, way.tiny)
        multiply_tables(lanes, w, group, 0)
        total = filled(lanes, 0.0)
        for v in range(k):
            total = multiply_add(load(lanes, 2 * k + v), load(lanes, v), total)
        smallest = minimum(total, smallest)
        mantissa, exponent = parted(total * weight, way.tiny)
        store(lanes, 0, mantissa)
        store(lanes, 1, exponent)
        for lane in range(WIDTH):
            factor = item(w.numbers, w.factor + group * WIDTH + lane)
            numbers[w.mantissas + factor], numbers[w.exponents + factor] = (
                lanes[0, lane],
                lanes[1, lane],
            )
    return extremes(lanes, smallest, smallest)[1]


@inlined
def find_block(numbers, lanes, w, way, block):
    """Beliefs of a block of symbols in rows from 0 on, as ``evidence.find_belief``; returns their sums Z_i in parts."""
    k, belief = w.even, w.belief + block * w.degree * WIDTH
    total, largest = filled(lanes, 0.0), filled(lanes, 0.0)
    for v in range(0, k, 2):
        x, y = read_pair(lanes, numbers, w.priors + (block * k + v) * WIDTH)
        for j in range(item(w.numbers, w.around + block)):
            m = gather_pair(lanes, numbers, way.source + v * WIDTH, w.numbers, belief + j * WIDTH)
            x *= m[0]
            y *= m[1]
        largest = maximum(y, maximum(x, largest))
        store(lanes, v, x)
        store(lanes, v + 1, y)
    connected = read(lanes, w.weights, w.connected + block * WIDTH)
    shift = exponent_of(maximum(largest, way.tiny)) * connected
    scale = power_of_two(shift * -1.0)
    for v in range(k):
        q = load(lanes, v) * scale
        total += q
        store(lanes, v, q)
    scale = 1.0 / maximum(total, way.tiny)
    for v in range(k):
        store(lanes, v, load(lanes, v) * scale)
    return total, shift


@table_function
def find_beliefs(marginals, numbers, lanes, w, way):
    """Beliefs of the symbols of one row [n, K], and their sums as terms; returns the smallest sum."""
    smallest, symbols = filled(lanes, 1.0), w.n_factors
    for block in range(w.n_blocks):
        total, shift = find_block(numbers, lanes, w, way, block)
        write_columns(marginals, block * WIDTH, w.n - 1, 0, w.n_values, lanes, 0)
        smallest = minimum(total, smallest)
        mantissa, exponent = parted(total, way.tiny)
        write(numbers, w.mantissas + symbols + block * WIDTH, mantissa)
        write(numbers, w.exponents + symbols + block * WIDTH, exponent + shift)
    return extremes(lanes, smallest, smallest)[1]


@lane_function
def product(numbers, w, first, last):
    """The product of some terms, one after the other, as a mantissa in [1, 2) and an exponent.

    A scaled product is rounded as the product is, so that it need not be scaled after every term.
    """
    mantissa, exponent = numbers.dtype.type(1.0), 0.0
    for start in range(first, last, STEPS):
        for term in range(start, min(start + STEPS, last)):
            mantissa *= numbers[w.mantissas + term]
            exponent += numbers[w.exponents + term]
        half, shift = math.frexp(mantissa)
        mantissa, exponent = numbers.dtype.type(2.0) * half, exponent + (shift - 1)
    return mantissa, exponent


@table_function
def start_messages(numbers, w, first):
    """Messages that say nothing; entries for values that do not exist are 0, as what a table sends there."""
    for entry in range(first, first + w.n_messages):
        numbers[entry] = 1.0
    for j in range(w.n_absent):
        numbers[first + item(w.numbers, w.absent + j)] = 0.0


@table_function
def conclude(results, row, space, w, way, found):
    """Write the results of one row, or hand it back.

    found: the product of the sums of the priors, in parts; sweeps, the last change, and the smallest sum so far; and
    the smallest one that is allowed.
    """
    (numbers, lanes), (prior, sweeps, change, smallest, least) = space, found
    smallest = min(find_terms(numbers, lanes, w, way), smallest)
    smallest = min(find_beliefs(results.marginals[row], numbers, lanes, w, way), smallest)
    if not smallest >= least:
        results.status[row] = RECOMPUTE
        return
    mantissa, exponent = product(numbers, w, 0, w.n_factors + w.n)
    log_mantissa, shift = math.frexp(mantissa / prior[0])
    exponent += (shift - 1) - prior[1]
    log_evidence = math.log(np.float64(2.0 * log_mantissa)) + LOG_2 * exponent + w.log_scale
    write_numbers(results, row, POSSIBLE, (log_evidence, sweeps, change))


@table_function
def infer(logits, results, row, space, w, settings):
    """The results of one row [n, K], unless nobody waits for them any more."""
    (numbers, lanes), (iterations, damping, tolerance, tiny, least, stopped) = space, settings
    smallest = load_priors(logits, numbers, lanes, w, tiny)
    prior = product(numbers, w, w.n_factors, w.n_factors + w.n)
    way = Way(w.messages, w.renewed, tiny)
    start_messages(numbers, w, way.source)
    start_messages(numbers, w, way.target)
    sweeps, change, going = 0, smallest * 0.0, True
    while sweeps < iterations and going:
        change, smallest_of_sweep = sweep(numbers, lanes, w, way, damping)
        smallest, sweeps = min(smallest_of_sweep, smallest), sweeps + 1
        going = not change < tolerance
        way = Way(way.target, way.source, tiny)
        if stopped[0]:
            return
    conclude(results, row, space, w, way, (prior, sweeps, change, smallest, least))


@kernel
def propagate(
    logits,
    label,
    marginals,
    log_evidence,
    status,
    sweeps,
    change,
    stopped,
    batch,
    iterations,
    damping,
    tolerance,
    largest,
    tiny,
    least,
    waves,
    lanes,
):
    """All rows of the batch: see ``Call``."""
    number, left = lanes.dtype.type, 0
    w = waves_at(waves, number(0))
    numbers, shape = numbers_at(lanes.ctypes.data, w.total, number(0)), (batch, w.n, w.n_values)
    addresses = logits, label, marginals, log_evidence, status, sweeps, change, stopped
    if any_larger(addresses, shape, number(largest)):
        return batch
    logits, label, results, stopped = rows_at(addresses, shape, number(0))
    settings = iterations, damping, number(tolerance), number(tiny), number(least), stopped
    for v in range(w.even):
        store(lanes, 2 * w.even + v, 0.0)
    for row in range(batch):
        code = row_status(logits[row], label[row])
        if code == POSSIBLE:
            infer(logits[row], results, row, (numbers, lanes), w, settings)
        else:
            refuse(logits, results, row, code)
        if stopped[0]:
            return batch
        left += results.status[row] != POSSIBLE
    return left


# All arrays belong to the caller: to count references to them would cost more than a small graph does.
propagate.targetoptions["_nrt"] = False
