"""Sum-product on deterministic automata of up to four states: ``linear`` with messages that stay in registers.

A position is the matrix A_i(s, t) of what the values that lead from s to t have together, and a message is multiplied
by it: alpha_i = alpha_{i-1} A_i and beta_{i-1} = A_i beta_i. E_i is the sum of alpha_{i-1}(s) beta_{i-1}(s). Every
RESCALE positions a message is scaled to [1, 2), both between the same two positions. So alpha_{i-1} times beta_i is
less than four times the growth over RESCALE positions, which takes the place of G^2 in the bound of ``linear``.
"""

from __future__ import annotations

from functools import cache
from typing import NamedTuple

import numpy as np

from emnesy_gpu.kernels.cpu.automaton.graph import Graph, graph_at
from emnesy_gpu.kernels.cpu.automaton.linear import (
    Job,
    Plan,
    block_size,
    guard,
    read_seen,
    scale_of,
    sum_classes,
    write_rows,
)
from emnesy_gpu.kernels.cpu.automaton.messages import (
    dot,
    gathered_dot,
    largest_of,
    load_message,
    multiplied,
    store_message,
    sum_of,
    times,
)
from emnesy_gpu.kernels.cpu.common.compile import inlined, kernel, table_function
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
from emnesy_gpu.kernels.cpu.common.records import record_of, record_reader
from emnesy_gpu.kernels.cpu.common.softmax_lanes import exponentiate
from emnesy_gpu.kernels.cpu.common.subnormals import flush_subnormals, subnormals_as_before
from emnesy_gpu.kernels.cpu.common.transpose import TILE, prefetch_share, read_columns, write_columns

RESCALE = 4
"""Positions; a power of two."""


class Layout(NamedTuple):
    """Sizes of the problem, and the first rows of what the scratch array holds."""

    n: int
    k: int
    block: int  # positions
    size: int  # P
    rows: int  # rows of a position in sums; 0 where the exponentials of its values serve
    values: int  # [block, K]: exponentials of the logits, later marginals
    sums: int  # [block, rows]: see FewTables
    totals: int  # [block]: sums of the exponentials
    alpha: int  # [block, P]
    starts: int  # [n_blocks, P]
    beta: int  # [P + 1], the last row 0
    seen: int  # [P]
    results: int  # [3]
    total: int


@cache
def layout(n: int, k: int, n_classes: int, n_sets: int, size: int, own_rows: bool, sparse: bool) -> Layout:
    rows = n_classes + n_sets + sparse if own_rows or sparse else 0
    block = block_size(n, k + rows + 1 + size)
    sizes = {
        "values": -(-block * k // TILE) * TILE,
        "sums": block * rows,
        "totals": block,
        "alpha": block * size,
        "starts": -(-n // block) * size,
        "beta": size + 1,
        "seen": size,
        "results": 3,
    }
    first, total = {}, 0
    for name, some in sizes.items():
        first[name] = total
        total += some
    return Layout(n, k, block, size, rows, **first, total=total)


def plan(g: Graph) -> Plan:
    at = layout(g.n, g.n_values, g.n_classes, g.n_sets, g.few, not g.one_class_each, g.sparse)
    return Plan(sum_product, record_of(g), record_of(at), at.total, guard(g, g.growth**RESCALE, True))


layout_at = record_reader(Layout)


@inlined
def sum_sets(work, at, g, j, layer):
    """The rows of sets of classes of position j of a block, from those of its classes."""
    rows = at.sums + j * at.rows
    first = g.set_first + layer * (g.n_sets + 1)
    for some in range(g.n_sets):
        total = filled(work, 0.0)
        for c in range(item(g.numbers, first + some), item(g.numbers, first + some + 1)):
            total += load(work, rows + item(g.numbers, g.set_classes + c))
        store(work, rows + g.n_classes + some, total)


@table_function
def find_block(work, at, g, logits, rows, span):
    """The exponentials, their sums and the rows of the positions of a block."""
    for j in range(span[1] - span[0]):
        if at.block == at.n:
            prefetch_share(logits, rows[0] + work.shape[1], work.shape[1] * at.k, j, False)
        values, layer = at.values + j * at.k, item(g.numbers, g.layer + span[0] + j)
        store(work, at.totals + j, exponentiate(work, values, at.k))
        if at.rows > 0:
            sum_classes(work, g, layer, values, at.sums + j * at.rows)
            sum_sets(work, at, g, j, layer)
            if g.sparse:
                store(work, at.sums + j * at.rows + at.rows - 1, 0.0)


@inlined
def first_row(at, j):
    return at.values + j * at.k if at.rows == 0 else at.sums + j * at.rows


@table_function
def forward_block(work, at, g, label_rows, rows, span, job, message, product, exponent):
    """alpha before every position of the block; returns alpha after it.

    Also the product of the sums of exponentials, and the exponent of all that was taken off both.
    """
    for i in range(span[0], span[1]):
        j, layer = i - span[0], item(g.numbers, g.layer + i)
        product *= load(work, at.totals + j)
        store_message(work, at.alpha + j * at.size, message)
        table = g.step + layer * at.size * at.size
        message = multiplied(work, first_row(at, j), g.numbers, table, message, (1, at.size))
        entry = item(g.numbers, g.entry + i)
        if entry >= 0:
            read_seen(work, at, g, label_rows, rows, entry)
            message = times(message, load_message(work, at.seen, message))
        if i % RESCALE == RESCALE - 1:
            shift, scale = scale_of(sum_of(message), job)
            message = times(message, scale)
            exponent += shift
            shift = exponent_of(product)
            product *= power_of_two(shift * -1.0)
            exponent -= shift
    return message, product, exponent


@inlined
def write_values(work, at, g, j, layer, alpha, ratio, job):
    """(posterior - prior_share * prior) * factor of position j of a block, in place of its exponentials."""
    prior, values = filled(work, 0.0), at.values + j * at.k
    if job.prior_share != 0.0:
        prior = -job.prior_share * job.factor / load(work, at.totals + j)
    follow = g.follow + layer * g.n_classes * at.size
    if g.one_class_each:
        for v in range(at.k):
            c = item(g.numbers, g.classes + layer * at.k + v)
            rest = gathered_dot(work, at.beta, g.numbers, follow + c * at.size, alpha)
            store(work, values + v, load(work, values + v) * multiply_add(rest, ratio, prior))
        return
    first, order = g.class_first + layer * (g.n_classes + 1), g.class_values + layer * at.k
    for c in range(g.n_classes):
        rest = gathered_dot(work, at.beta, g.numbers, follow + c * at.size, alpha)
        share = multiply_add(rest, ratio, prior)
        for v in range(item(g.numbers, first + c), item(g.numbers, first + c + 1)):
            row = values + item(g.numbers, order + v)
            store(work, row, load(work, row) * share)
    for v in range(item(g.numbers, first + g.n_classes), at.k):
        row = values + item(g.numbers, order + v)
        store(work, row, load(work, row) * prior)


@table_function
def backward_block(work, at, g, label_rows, rows, span, job, beta, smallest, marginals):
    """Marginals of the positions of a block; returns beta before them, and the smallest E_i so far."""
    for i in range(span[1] - 1, span[0] - 1, -1):
        j, layer = i - span[0], item(g.numbers, g.layer + i)
        entry = item(g.numbers, g.entry + i)
        if at.block == at.n:
            prefetch_share(marginals, rows[0], work.shape[1] * at.k, j, True)
        if entry >= 0:
            # The last position of a block was the last that its way forwards has read.
            if i + 1 < span[1]:
                read_seen(work, at, g, label_rows, rows, entry)
            beta = times(beta, load_message(work, at.seen, beta))
        store_message(work, at.beta, beta)
        table = g.step + layer * at.size * at.size
        beta = multiplied(work, first_row(at, j), g.numbers, table, beta, (at.size, 1))
        alpha = load_message(work, at.alpha + j * at.size, beta)
        evidence = dot(alpha, beta)
        smallest = minimum(evidence, smallest)
        write_values(work, at, g, j, layer, alpha, job.factor / maximum(evidence, job.smallest_normal), job)
        if i % RESCALE == 0:
            _, scale = scale_of(largest_of(beta), job)
            beta = times(beta, scale)
    return beta, smallest


@inlined
def run_rows(work, at, g, logits, marginals, label_rows, rows, job, message):
    """Rows of one vector of lanes; the message is as long as those of the automaton. Fills the rows of results."""
    for s in range(at.size):
        store(work, at.starts + s, g.weights[g.start + s] if s < g.n_states else 0.0)
        store(work, at.beta + s, 1.0 if s < g.n_states else 0.0)
        store(work, at.seen + s, 0.0)
    store(work, at.beta + at.size, 0.0)
    message, beta = load_message(work, at.starts, message), load_message(work, at.beta, message)
    product, exponent, smallest = filled(work, 1.0), filled(work, 0.0), filled(work, 1.0)
    last_block = (at.n - 1) // at.block
    # Up to the last block, and back: the blocks before it are computed again.
    for phase in range(2 * last_block + 1):
        b = min(phase, 2 * last_block - phase)
        span, start = (b * at.block, min(at.n, (b + 1) * at.block)), at.starts + b * at.size
        columns = (span[1] - span[0]) * at.k
        read_columns(logits, rows[0], rows[1] - 1, span[0] * at.k, columns, work, at.values)
        if phase <= last_block:
            store_message(work, start, message)
        find_block(work, at, g, logits, rows, span)
        state = load_message(work, start, message), product, exponent
        state = forward_block(work, at, g, label_rows, rows, span, job, *state)
        if phase <= last_block:
            message, product, exponent = state
        if phase >= last_block:
            beta, smallest = backward_block(work, at, g, label_rows, rows, span, job, beta, smallest, marginals)
            write_columns(marginals, rows[0], rows[1] - 1, span[0] * at.k, columns, work, at.values)
    store(work, at.results, sum_of(message) / product)
    store(work, at.results + 1, exponent)
    store(work, at.results + 2, smallest)


@kernel
def sum_product(logits, marginals, log_evidence, status, label_rows, graph, places, work, job):
    """As many rows at a time as work has lanes. graph, places: addresses of records; job: a Job without names."""
    batch, like = len(label_rows), work[0, 0]
    g, at, job = graph_at(graph, like), layout_at(places, like), Job(*job)
    logits, marginals = matrix_at(logits, batch, at.n * at.k, like), matrix_at(marginals, batch, at.n * at.k, like)
    log_evidence, status = numbers_at(log_evidence, batch, like), numbers_at(status, batch, np.uint8(0))
    left, one, before = 0, filled(work, 0.0), flush_subnormals()
    for first in range(0, batch, work.shape[1]):
        rows = first, min(first + work.shape[1], batch)
        if at.size == 2:
            run_rows(work, at, g, logits, marginals, label_rows, rows, job, (one, one))
        else:
            run_rows(work, at, g, logits, marginals, label_rows, rows, job, (one, one, one, one))
        left += write_rows(work, at, g, rows, label_rows, log_evidence, status, job.guard)
    subnormals_as_before(before)
    return left


# All arrays belong to the caller: to count references to them would cost more than a small automaton does.
sum_product.targetoptions["_nrt"] = False
