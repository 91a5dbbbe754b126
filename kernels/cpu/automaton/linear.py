"""Sum-product on an automaton in probabilities, rows of the batch in lanes, with a bound of its own error.

Notation of ``reference.automaton``. q_i are the priors in units of their largest value. A step multiplies the sum of
alpha, or the largest beta, by at most G (``growth``); the next one takes it back to [1, 2) first, by a power of two,
which waits for no sum of its own step. E_i = sum over edges of alpha_{i-1}(s) w q_i(c) o_i(t) beta_i(t).

Numbers below the smallest normal one, m, count as zero, and nothing is subtracted. So E_i misses at most m times what
a lost number is multiplied by. That is less than 4 G^2 for a prior, a weight or an emission: the sum of alpha and all
of beta are below 2 G before they are scaled. It is less than 2 G for a product of an edge, and 2 G^2 for one that is
scaled already and for a message that is scaled or multiplied by an emission. With e edges at all positions together and
K values in a class at most, the evidence misses at most 32 e K G^2 m / min E_i of itself, and so does a marginal. Rows
for which that is above TOLERANCE are handed back (``RECOMPUTE``). Positions are taken in blocks: alpha is kept at their
starts alone, and computed again block by block on the way back.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import cache
from typing import NamedTuple

import numpy as np

from emnesy_gpu.kernels.cpu.automaton.graph import Graph, graph_at
from emnesy_gpu.kernels.cpu.automaton.steps import Place, step_backward, step_forward
from emnesy_gpu.kernels.cpu.common.compile import inlined, kernel
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
from emnesy_gpu.kernels.cpu.common.pointers import matrix_at, numbers_at
from emnesy_gpu.kernels.cpu.common.records import Record, record_of, record_reader
from emnesy_gpu.kernels.cpu.common.softmax_lanes import exponentiate
from emnesy_gpu.kernels.cpu.common.subnormals import flush_subnormals, subnormals_as_before
from emnesy_gpu.kernels.cpu.common.transpose import TILE, read_columns, write_columns
from emnesy_gpu.kernels.status import POSSIBLE

RECOMPUTE = 255
LOG_2 = math.log(2.0)
SMALLEST_NORMAL = float(np.finfo(np.float64).tiny), float(np.finfo(np.float32).tiny)
"""Of float64 and of float32."""

TOLERANCE = 1e-6
"""The share of the evidence that may be missing from a row."""

WHOLE_ROWS = 1 << 15
"""Rows of 128 bytes, 4 MiB, up to which all positions are one block: it costs less to keep messages than to repeat."""

SCRATCH_ROWS = 6144
"""Rows that a block may take where there are several: the second cache of a core holds them."""


class Layout(NamedTuple):
    """Sizes of the problem, and the first rows of what the scratch array holds."""

    n: int
    k: int
    block: int  # positions
    states: int  # rows of a message: S + 1, the last one 0
    values: int  # [block, K]: exponentials of the logits, later marginals
    sums: int  # [block, C]: exponentials of each class
    totals: int  # [block]: sums of the exponentials
    alpha: int  # [block + 1, states]
    starts: int  # [n_blocks, states]
    beta: int  # [2, states]
    seen: int  # [states]
    rest: int  # [C + 1], the last one 0
    results: int  # [3]
    total: int


class Job(NamedTuple):
    """What a call asks for: (posterior - prior_share * prior) * factor; and the limits of the arithmetic."""

    prior_share: float
    factor: float
    smallest_normal: float
    guard: float  # the smallest E_i that a row may have


def block_size(n: int, rows: int) -> int:
    """Positions of a block, for so many rows of scratch for each."""
    if n * rows <= WHOLE_ROWS:
        return n
    # At least about sqrt(n) positions, so that neither the starts nor the block grow with n.
    return min(n, max(16, SCRATCH_ROWS // rows // 16 * 16, math.isqrt(n)))


@cache
def layout(n: int, k: int, n_classes: int, n_states: int, one_class_each: bool) -> Layout:
    states, sums = n_states + 1, 0 if one_class_each else n_classes
    block = block_size(n, k + sums + 1 + states)
    sizes = {
        "values": -(-block * k // TILE) * TILE,
        "sums": block * sums,
        "totals": block,
        "alpha": (block + 1) * states,
        "starts": -(-n // block) * states,
        "beta": 2 * states,
        "seen": states,
        "rest": n_classes + 1,
        "results": 3,
    }
    first, total = {}, 0
    for name, size in sizes.items():
        first[name] = total
        total += size
    return Layout(n, k, block, states, **first, total=total)


class Plan(NamedTuple):
    """What every call on an automaton needs, by addresses."""

    kernel: Callable[..., int]
    graph: Record
    layout: Record
    rows: int  # of scratch
    guard: float  # the smallest E_i that a row may have


def plan(g: Graph, single: bool) -> Plan:
    """single: whether floats are float32."""
    at = layout(g.n, g.n_values, g.n_classes, g.n_states, g.one_class_each)
    return Plan(sum_product, record_of(g), record_of(at), at.total, guard(g, g.growth**2, single))


def guard(g: Graph, growth: float, single: bool) -> float:
    """The smallest E_i that a row may have; growth: the most of what messages of two steps grow by, G^2."""
    return 32.0 * g.n_edges * g.n_values * growth * SMALLEST_NORMAL[single] / TOLERANCE


layout_at = record_reader(Layout)


@inlined
def sum_classes(work, g, layer, values, sums):
    first, order = g.class_first + layer * (g.n_classes + 1), g.class_values + layer * g.n_values
    for c in range(g.n_classes):
        total = filled(work, 0.0)
        for v in range(item(g.numbers, first + c), item(g.numbers, first + c + 1)):
            total += load(work, values + item(g.numbers, order + v))
        store(work, sums + c, total)


@inlined
def priors_row(at, g, j):
    """First row of the priors of the classes of position j of a block."""
    return at.values + j * at.k if g.one_class_each else at.sums + j * g.n_classes


@inlined
def find_priors(work, at, g, i, j):
    """Exponentials of the logits of position i, position j of its block, and sums over classes; returns that of all."""
    values = at.values + j * at.k
    total = exponentiate(work, values, at.k)
    store(work, at.totals + j, total)
    if not g.one_class_each:
        sum_classes(work, g, item(g.numbers, g.layer + i), values, priors_row(at, g, j))
    return total


@inlined
def place_of(at, g, i, j, alpha, alpha_after):
    layer = item(g.numbers, g.layer + i)
    before, after, classes = (
        item(g.numbers, g.before + layer),
        item(g.numbers, g.after + layer),
        item(g.numbers, g.layer_classes + layer),
    )
    beta, beta_before = at.beta + (i & 1) * at.states, at.beta + (~i & 1) * at.states
    priors = priors_row(at, g, j)
    return Place(layer, before, after, classes, alpha, alpha_after, beta, beta_before, priors, at.rest)


@inlined
def read_seen(work, at, g, label_rows, rows, entry):
    """What the label says of every state, for an entry of it."""
    for lane in range(work.shape[1]):
        row = min(rows[0] + lane, rows[1] - 1)
        first = (entry * g.n_labels + label_rows[row, entry]) * g.n_states
        for s in range(g.n_states):
            work[at.seen + s, lane] = g.weights[g.emissions + first + s]


@inlined
def multiply_by_seen(work, at, message, size):
    """In place; returns the sum."""
    total = filled(work, 0.0)
    for s in range(size):
        value = load(work, message + s) * load(work, at.seen + s)
        total += value
        store(work, message + s, value)
    return total


@inlined
def scale_rows(work, source, target, size, scale):
    for s in range(size):
        store(work, target + s, load(work, source + s) * scale)


@inlined
def copy_rows(work, source, target, size):
    for s in range(size):
        store(work, target + s, load(work, source + s))


@inlined
def scale_of(total, job):
    """Exponent of a sum or a largest value, and the power of two that takes it off.

    Less than ``guard`` counts as ``guard``: such a row is handed back, and no product with a prior is to overflow.
    """
    exponent = exponent_of(maximum(total, job.guard))
    return exponent, power_of_two(exponent * -1.0)


@inlined
def forward_block(work, at, g, label_rows, rows, span, keep, job):
    """alpha after every position of the block, or in turns in the first two places where it is not kept; and priors.

    Returns the last sum of alpha, the product of the sums of the exponentials, and the exponent of all that was taken
    off both.
    """
    product, exponent, total = filled(work, 1.0), filled(work, 0.0), filled(work, 1.0)
    for i in range(span[0], span[1]):
        j = i - span[0]
        product *= find_priors(work, at, g, i, j)
        here, there = (j, j + 1) if keep else (j & 1, ~j & 1)
        place = place_of(at, g, i, j, at.alpha + here * at.states, at.alpha + there * at.states)
        shift, scale = scale_of(total, job)
        exponent += shift
        total = step_forward(work, g, place, scale)
        entry = item(g.numbers, g.entry + i)
        if entry >= 0:
            read_seen(work, at, g, label_rows, rows, entry)
            total = multiply_by_seen(work, at, place.alpha_after, place.after)
        store(work, place.alpha_after + at.states - 1, 0.0)
        shift = exponent_of(product)
        product *= power_of_two(shift * -1.0)
        exponent -= shift
    return total, product, exponent


@inlined
def write_values(work, at, g, place, j, evidence, job):
    """(posterior - prior_share * prior) * factor of one position, in place of its exponentials."""
    ratio = job.factor / maximum(evidence, job.smallest_normal)
    prior = filled(work, 0.0)
    if job.prior_share != 0.0:
        prior = -job.prior_share * job.factor / load(work, at.totals + j)
    classes, values = place.layer * g.n_values, at.values + j * at.k
    for v in range(at.k):
        rest = load(work, at.rest + item(g.numbers, g.classes + classes + v))
        store(work, values + v, load(work, values + v) * multiply_add(rest, ratio, prior))


@inlined
def backward_block(work, at, g, label_rows, rows, span, largest, smallest, job):
    """Marginals of the positions of a block; returns the largest beta before them, and the smallest E_i so far."""
    for i in range(span[1] - 1, span[0] - 1, -1):
        j = i - span[0]
        place = place_of(at, g, i, j, at.alpha + j * at.states, at.alpha + (j + 1) * at.states)
        entry = item(g.numbers, g.entry + i)
        if entry >= 0:
            # The last position of a block was the last that its way forwards has read.
            if i + 1 < span[1]:
                read_seen(work, at, g, label_rows, rows, entry)
            multiply_by_seen(work, at, place.beta, place.after)
        _, scale = scale_of(largest, job)
        largest = step_backward(work, g, place, scale)
        evidence = filled(work, 0.0)
        for c in range(place.classes):
            evidence = multiply_add(load(work, place.priors + c), load(work, at.rest + c), evidence)
        smallest = minimum(evidence, smallest)
        write_values(work, at, g, place, j, evidence, job)
    return largest, smallest


@inlined
def set_up(work, at, g):
    last_beta = at.beta + (at.n - 1 & 1) * at.states
    for s in range(at.states - 1):
        store(work, at.alpha + s, g.weights[g.start + s])
        store(work, last_beta + s, 1.0)
    for message in (at.alpha, at.alpha + at.states, at.beta, at.beta + at.states):
        store(work, message + at.states - 1, 0.0)
    store(work, at.rest + g.n_classes, 0.0)


@inlined
def write_rows(work, at, g, rows, label_rows, log_evidence, status, guard):
    """Log evidence and status of the lanes from the rows of results; returns how many are left."""
    left = 0
    for row in range(rows[0], rows[1]):
        lane = row - rows[0]
        # NaN among the logits goes through to the mantissa, and is not larger than 0.
        good = work[at.results + 2, lane] > guard and work[at.results, lane] > 0.0
        status[row] = POSSIBLE if good else RECOMPUTE
        left += not good
        total = math.log(np.float64(work[at.results, lane])) + LOG_2 * work[at.results + 1, lane] + g.log_scale
        for entry in range(label_rows.shape[1]):
            total += g.log_emission[entry, label_rows[row, entry]]
        log_evidence[row] = total
    return left


@kernel
def sum_product(logits, marginals, log_evidence, status, label_rows, graph, places, work, job):
    """As many rows at a time as work has lanes. graph, places: addresses of records; job: a Job without names."""
    batch, like = len(label_rows), work[0, 0]
    g, at, job = graph_at(graph, like), layout_at(places, like), Job(*job)
    logits, marginals = matrix_at(logits, batch, at.n * at.k, like), matrix_at(marginals, batch, at.n * at.k, like)
    log_evidence, status = numbers_at(log_evidence, batch, like), numbers_at(status, batch, np.uint8(0))
    left, last_block, before = 0, (at.n - 1) // at.block, flush_subnormals()
    for first in range(0, len(logits), work.shape[1]):
        rows = first, min(first + work.shape[1], len(logits))
        set_up(work, at, g)
        divisor, exponent = filled(work, 1.0), filled(work, 0.0)
        largest = smallest = filled(work, 1.0)
        # Up to the last block, and back: the blocks before it are computed again.
        for phase in range(2 * last_block + 1):
            b = min(phase, 2 * last_block - phase)
            span, start = (b * at.block, min(at.n, (b + 1) * at.block)), at.starts + b * at.states
            columns = (span[1] - span[0]) * at.k
            if phase <= last_block:
                copy_rows(work, at.alpha, start, at.states)
            else:
                copy_rows(work, start, at.alpha, at.states)
            read_columns(logits, rows[0], rows[1] - 1, span[0] * at.k, columns, work, at.values)
            total, product, more = forward_block(work, at, g, label_rows, rows, span, phase >= last_block, job)
            if phase <= last_block:
                divisor *= product
                shift = exponent_of(divisor)
                divisor *= power_of_two(shift * -1.0)
                exponent += more - shift
            if phase == last_block:
                store(work, at.results, total / divisor)
            if phase < last_block:
                shift, scale = scale_of(total, job)
                exponent += shift
                scale_rows(work, at.alpha + (span[1] - span[0] & 1) * at.states, at.alpha, at.states, scale)
                continue
            largest, smallest = backward_block(work, at, g, label_rows, rows, span, largest, smallest, job)
            write_columns(marginals, rows[0], rows[1] - 1, span[0] * at.k, columns, work, at.values)
        store(work, at.results + 1, exponent)
        store(work, at.results + 2, smallest)
        left += write_rows(work, at, g, rows, label_rows, log_evidence, status, job.guard)
    subnormals_as_before(before)
    return left


# All arrays belong to the caller: to count references to them would cost more than a small automaton does.
sum_product.targetoptions["_nrt"] = False
