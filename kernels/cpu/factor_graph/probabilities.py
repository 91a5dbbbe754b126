"""Sum-product on a factor graph in probabilities of either float type, rows of the batch in lanes.

A lane holds a row until it has converged or has done its sweeps. Then its results are written, and it takes the next
row of the batch, so that slow rows do not hold up the others. All lanes do the same steps, so that a row has the same
bits wherever it stands. Rows in which a sum was so small that what the float type loses might matter (contradictory
evidence, or none left) are handed back, to be computed with a wider range. Subnormal numbers are lost.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import partial

import numpy as np
from torch import Tensor

from emnesy_gpu.kernels.cpu.automaton.graph import FLOAT32, FLOAT64
from emnesy_gpu.kernels.cpu.automaton.graph import graph_at as chains_at
from emnesy_gpu.kernels.cpu.common.belief_propagation import Options
from emnesy_gpu.kernels.cpu.common.compile import inlined, kernel, lane_function, table_function
from emnesy_gpu.kernels.cpu.common.flat_tables import item
from emnesy_gpu.kernels.cpu.common.lane_scratch import kept_scratch, scratch
from emnesy_gpu.kernels.cpu.common.lanes import filled, load, maximum, minimum, store, where_equal, where_less
from emnesy_gpu.kernels.cpu.common.pointers import numbers_at
from emnesy_gpu.kernels.cpu.common.propagation_calls import Call, any_larger, rows_at
from emnesy_gpu.kernels.cpu.common.records import record_of
from emnesy_gpu.kernels.cpu.common.row_driver import RECOMPUTE
from emnesy_gpu.kernels.cpu.common.softmax_lanes import exponentiate
from emnesy_gpu.kernels.cpu.common.symbol_rows import count_left, read_row, write_softmax
from emnesy_gpu.kernels.cpu.common.transpose import read_columns, write_columns
from emnesy_gpu.kernels.cpu.factor_graph.evidence import factor_terms, find_belief, renormalised
from emnesy_gpu.kernels.cpu.factor_graph.flooding import find_cavities, flood_pairs
from emnesy_gpu.kernels.cpu.factor_graph.graph import graph_at, graphs, layout, layout_at
from emnesy_gpu.kernels.cpu.factor_graph.labels import row_status
from emnesy_gpu.kernels.cpu.factor_graph.messages import Way, send
from emnesy_gpu.kernels.factor_graph_tables import FLOODING, PAIR, SERIAL
from emnesy_gpu.kernels.status import POSSIBLE

LOG_2 = math.log(2.0)
SMALLEST_SUM = {np.float32: 2.0**-40, np.float64: 2.0**-300}
"""What the float type loses would have to come back from more than two such sums in a row."""

LIMITS = {
    True: (float(np.finfo(np.float32).tiny), SMALLEST_SUM[np.float32]),
    False: (float(np.finfo(np.float64).tiny), SMALLEST_SUM[np.float64]),
}
"""Whether floats are float32 -> the smallest normal number, and the smallest sum of a row that is not handed back."""

FREE = -1
"""In place of the row of a lane that has none."""

PATIENCE = 3
"""One lane in so many may wait for others before results are written: that costs about a sweep."""

# Rows of counts.
ACTIVE, SWEEPS, CHANGE, SMALLEST, PRIOR_SUM, PRIOR_EXPONENT, LOADED, MANTISSA, EXPONENT = range(9)


def call_of(tables: Sequence[Tensor], single: bool, flooding: bool) -> Call:
    """The call for a graph in a float type; its tables live as long as the graph."""
    g, c = graphs(tables, FLOAT32 if single else FLOAT64)
    at = layout(g, c, FLOODING if flooding else SERIAL)
    records = [record_of(fields) for fields in (at, g, c)]
    work = partial(kept_scratch, at.total) if single else partial(scratch, at.total, np.float64)
    return Call(propagate, (*LIMITS[single], flooding, *(record.address for record in records)), work, records)


@table_function
def sweep(work, at, g, c, way, options, flooding):
    """One update of all factors."""
    active = load(work, at.counts + ACTIVE)
    shares = active * (1.0 - options.damping), where_equal(active, 1.0, options.damping, 1.0)
    change, smallest = filled(work, 0.0), filled(work, 1.0)
    order = g.flooding if flooding else g.order
    n_updates = g.n_factors if flooding else g.n_updates
    around = flooding and g.n_products > 0
    if around:
        change, smallest = flood_pairs(work, at, g, way, shares)
    for u in range(0 if around and g.paired else n_updates):
        f = item(g.numbers, order + u)
        if around and item(g.numbers, g.kind + f) <= PAIR:  # also PAIR_OF_BITS
            continue
        step, least = send(work, at, g, c, way, f, shares)
        change, smallest = maximum(step, change), minimum(least, smallest)
    end_sweep(work, at, options, change, smallest)


@inlined
def end_sweep(work, at, options, change, smallest):
    """Count a sweep of the active rows; those that have converged, or have done their sweeps, become inactive."""
    first = at.counts
    active = load(work, first + ACTIVE)
    sweeps = load(work, first + SWEEPS) + active
    store(work, first + SWEEPS, sweeps)
    store(work, first + CHANGE, where_equal(active, 1.0, change, load(work, first + CHANGE)))
    before = load(work, first + SMALLEST)
    store(work, first + SMALLEST, where_equal(active, 1.0, minimum(smallest, before), before))
    active = where_less(change, options.tolerance, 0.0, active)
    store(work, first + ACTIVE, where_less(sweeps, float(options.iterations), active, 0.0))


@table_function
def conclude(work, at, g, c, way):
    """Beliefs and evidence of all lanes, from the messages in way.source.

    Lanes that go on keep their smallest sum: it must not depend on when other lanes are done.
    """
    before = load(work, at.counts + SMALLEST)
    mantissa, exponent, smallest = filled(work, 1.0), filled(work, 0.0), before
    if g.n_products > 0 and way.source != way.target:
        find_cavities(work, at, g, way)
    for f in range(g.n_factors):
        weight, shift, least = factor_terms(work, at, g, c, way, f)
        mantissa, exponent = renormalised(mantissa * weight, exponent + shift, way.tiny)
        smallest = minimum(least, smallest)
    for i in range(g.n):
        total, shift = find_belief(work, at, g, way, i)
        mantissa, exponent = renormalised(mantissa * total, exponent + shift, way.tiny)
        smallest = minimum(total, smallest)
    mantissa, exponent = renormalised(mantissa / load(work, at.counts + PRIOR_SUM), exponent, way.tiny)
    store(work, at.counts + MANTISSA, mantissa)
    store(work, at.counts + EXPONENT, exponent - load(work, at.counts + PRIOR_EXPONENT))
    store(work, at.counts + SMALLEST, where_equal(load(work, at.counts + ACTIVE), 1.0, before, smallest))


@table_function
def set_up(work, at):
    """Lanes without a row, and the zeros that the steps of chains rely on."""
    for row in range(at.cavities):
        store(work, row, 1.0)
    for row in range(at.cavities, at.total):
        store(work, row, 0.0)
    store(work, at.counts + PRIOR_SUM, 1.0)


@inlined
def store_loaded(work, row, loaded, value):
    """Write a row of the lanes that have just been given logits."""
    store(work, row, where_equal(loaded, 1.0, value, load(work, row)))


@table_function
def load_priors(work, at, g, way, n_sweeps):
    """Priors and messages of the lanes that have just been given logits, in the place of beliefs."""
    loaded, k = load(work, at.counts + LOADED), g.n_values
    mantissa, exponent, smallest = filled(work, 1.0), filled(work, 0.0), filled(work, 1.0)
    for i in range(g.n):
        total = exponentiate(work, at.beliefs + i * k, k)
        mantissa, exponent = renormalised(mantissa * total, exponent, way.tiny)
        largest = filled(work, 0.0)
        for v in range(k):
            row = i * k + v
            value = load(work, at.beliefs + row) * g.weights[g.unary + row]
            largest = maximum(value, largest)
            store_loaded(work, at.priors + row, loaded, value)
        smallest = minimum(largest, smallest)
    for row in range(at.messages, at.cavities):
        store_loaded(work, row, loaded, 1.0)
    store_loaded(work, at.counts + ACTIVE, loaded, 1.0 if n_sweeps > 0 else 0.0)
    store_loaded(work, at.counts + SWEEPS, loaded, 0.0)
    store_loaded(work, at.counts + CHANGE, loaded, 0.0)
    store_loaded(work, at.counts + SMALLEST, loaded, smallest)
    store_loaded(work, at.counts + PRIOR_SUM, loaded, mantissa)
    store_loaded(work, at.counts + PRIOR_EXPONENT, loaded, exponent)
    store(work, at.counts + LOADED, 0.0)


@lane_function
def give_rows(logits, label, results, space, at, next_row):
    """Logits of further rows to the lanes that are free; rows without a posterior get their priors at once.

    Returns the row after the last one that was taken.
    """
    work, lane_rows = space
    beliefs, loaded = work[at.beliefs : at.messages], work[at.counts + LOADED]
    batch, n, k = logits.shape
    first, together = next_row, len(lane_rows) > 1
    for lane in range(len(lane_rows)):
        together &= lane_rows[lane] == FREE
        while lane_rows[lane] == FREE and next_row < batch:
            code = row_status(logits[next_row], label[next_row])
            if code == POSSIBLE:
                lane_rows[lane], loaded[lane] = next_row, 1.0
                together &= next_row == first + lane
            else:
                refuse(logits, results, next_row, code)
            next_row += 1
    if together and next_row > first:
        read_columns(logits.reshape(batch, n * k), first, next_row - 1, 0, n * k, beliefs, 0)
        return next_row
    for lane in range(len(lane_rows)):
        if loaded[lane] > 0.0:
            read_row(logits[lane_rows[lane]], beliefs, lane)
    return next_row


@lane_function
def refuse(logits, results, row, code):
    """Write the prior of a row without a posterior."""
    write_softmax(logits[row], results.marginals[row])
    write_numbers(results, row, code, (-np.inf, 0.0, 0.0))


@lane_function
def write_numbers(results, row, code, numbers):
    """Status, and log evidence, sweeps and change of one row."""
    results.status[row] = code
    results.log_evidence[row], results.sweeps[row], results.change[row] = numbers


@lane_function
def take_results(results, space, at, log_scale, floor):
    """Write the rows of all lanes that are not active, and free these lanes."""
    work, lane_rows = space
    counts = work[at.counts :]
    batch, n, k = results.marginals.shape
    marginals = results.marginals.reshape(batch, n * k)
    first, size, together = lane_rows[0], 0, len(lane_rows) > 1
    for lane in range(len(lane_rows)):
        together &= lane_rows[lane] in (FREE, first + lane) and not counts[ACTIVE, lane] > 0.0
        size += lane_rows[lane] != FREE
    together &= first != FREE and lane_rows[size - 1] == first + size - 1
    if together:
        write_columns(marginals, first, first + size - 1, 0, n * k, work, at.beliefs)
    for lane in range(len(lane_rows)):
        row = lane_rows[lane]
        if row == FREE or counts[ACTIVE, lane] > 0.0:
            continue
        lane_rows[lane] = FREE
        if not counts[SMALLEST, lane] >= floor:
            results.status[row] = RECOMPUTE
            continue
        for entry in range(0 if together else n * k):
            marginals[row, entry] = work[at.beliefs + entry, lane]
        log_evidence = math.log(np.float64(counts[MANTISSA, lane])) + LOG_2 * counts[EXPONENT, lane] + log_scale
        write_numbers(results, row, POSSIBLE, (log_evidence, counts[SWEEPS, lane], counts[CHANGE, lane]))


@lane_function
def count_lanes(lane_rows, active):
    """How many lanes are active, and how many have a row and are not."""
    n_active = n_waiting = 0
    for lane in range(len(lane_rows)):
        if lane_rows[lane] != FREE:
            n_active += active[lane] > 0.0
            n_waiting += not active[lane] > 0.0
    return n_active, n_waiting


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
    flooding,
    places,
    graph,
    chains,
    work,
):
    """All rows of the batch, in at.total rows of work: see ``Call``."""
    number = work.dtype.type
    at, g, c = layout_at(places, number(0)), graph_at(graph, number(0)), chains_at(chains, number(0))
    addresses, shape = (
        (logits, label, marginals, log_evidence, status, sweeps, change, stopped),
        (batch, g.n, g.n_values),
    )
    if any_larger(addresses, shape, number(largest)):
        return batch
    logits, label, results, stopped = rows_at(addresses, shape, number(0))
    options = Options(iterations, damping, tolerance, False, stopped)
    set_up(work, at)
    lane_rows = numbers_at(work[at.lane_rows :].ctypes.data, work.shape[1], np.int64(0))
    lane_rows[:] = FREE
    space = work, lane_rows
    way = Way(at.messages, at.renewed if flooding else at.messages, tiny)
    next_row = 0
    while True:
        n_active, n_waiting = count_lanes(lane_rows, work[at.counts + ACTIVE])
        if n_active == 0 or (next_row < batch and n_waiting * PATIENCE >= len(lane_rows)):
            if n_waiting > 0:
                conclude(work, at, g, c, way)
                take_results(results, space, at, g.log_scale + c.log_scale, least)
            if n_active == 0 and next_row == batch:
                return count_left(results.status)
            next_row = give_rows(logits, label, results, space, at, next_row)
            load_priors(work, at, g, way, iterations)
            continue
        sweep(work, at, g, c, way, options, flooding)
        if stopped[0]:
            return batch
        way = Way(way.target, way.source, tiny)


# All arrays belong to the caller: to count references to them would cost more than a sweep of a small graph does.
propagate.targetoptions["_nrt"] = False
