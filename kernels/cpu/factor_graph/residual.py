"""Sum-product by the residual schedule: a row after the other in one lane, as every row has an order of its own.

See ``reference.residual``. A tree of maxima over the residuals of all factors says which one is next.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from torch import Tensor

from emnesy_gpu.kernels.cpu.automaton.graph import FLOAT32, FLOAT64
from emnesy_gpu.kernels.cpu.common.belief_propagation import Options
from emnesy_gpu.kernels.cpu.common.compile import kernel, lane_function, table_function
from emnesy_gpu.kernels.cpu.common.flat_tables import item
from emnesy_gpu.kernels.cpu.common.lanes import as_lanes, filled, maximum, minimum
from emnesy_gpu.kernels.cpu.common.row_driver import RECOMPUTE, PropagationResults
from emnesy_gpu.kernels.cpu.factor_graph.graph import graphs, layout
from emnesy_gpu.kernels.cpu.factor_graph.messages import Way, send, size_of
from emnesy_gpu.kernels.cpu.factor_graph.probabilities import (
    ACTIVE,
    FREE,
    SMALLEST_SUM,
    SWEEPS,
    conclude,
    end_sweep,
    give_rows,
    load_priors,
    set_up,
    take_results,
)
from emnesy_gpu.kernels.factor_graph_tables import RESIDUAL


def run(
    tables: Sequence[Tensor], options: Options, logits: np.ndarray, label: np.ndarray, results: PropagationResults
) -> int:
    """Belief propagation in the dtype of the logits [batch, n, K]; see ``probabilities.run``."""
    dtype = logits.dtype.type
    g, c = graphs(tables, FLOAT32 if dtype is np.float32 else FLOAT64)
    at = layout(g, c, RESIDUAL)
    space = np.empty(at.total, dtype), np.full(1, FREE)
    queue = new_tree(g.n_factors), np.empty(g.arity)
    limits = float(np.finfo(dtype).tiny), SMALLEST_SUM[dtype]
    propagate(logits, label, results, (at, g, c), (options, limits), space, queue)
    return int(np.count_nonzero(results.status == RECOMPUTE))


def new_tree(n_factors: int) -> np.ndarray:
    """Residuals of 0: leaves in the second half, and at 1 <= i the larger one of 2 i and 2 i + 1."""
    return np.zeros(2 << max(0, n_factors - 1).bit_length())


@lane_function
def put(tree, factor, residual):
    """Change the residual of a factor."""
    node = len(tree) // 2 + factor
    tree[node] = residual
    while node > 1:
        node //= 2
        tree[node] = max(tree[2 * node], tree[2 * node + 1])


@lane_function
def next_factor(tree):
    """The factor with the largest residual, the first one of equals."""
    node = 1
    while node < len(tree) // 2:
        node = 2 * node + (tree[2 * node + 1] > tree[2 * node])
    return node - len(tree) // 2


@table_function
def pass_on(g, tree, steps, f, damping):
    """Add the changes [arity] of the messages of a factor to the residuals of all others that read them."""
    first, largest = item(g.numbers, g.first + f), 0.0
    for edge in range(first, item(g.numbers, g.first + f + 1)):
        i, step = item(g.numbers, g.variable + edge), steps[edge - first]
        largest = max(largest, step)
        for j in range(item(g.numbers, g.incident_first + i), item(g.numbers, g.incident_first + i + 1)):
            other = item(g.numbers, g.owner + item(g.numbers, g.incident + j))
            if other != f and step > 0.0:
                put(tree, other, tree[len(tree) // 2 + other] + step)
    put(tree, f, damping / (1.0 - damping) * largest)


@table_function
def keep_messages(work, at, g, f):
    """Copy the messages of a factor."""
    first = item(g.numbers, g.first + f) * g.n_values
    for entry in range(first, item(g.numbers, g.first + f + 1) * g.n_values):
        work[at.before + entry - first, 0] = work[at.messages + entry, 0]


@table_function
def find_steps(work, at, g, f, steps):
    """The largest change of a probability in each message of a factor."""
    first = item(g.numbers, g.first + f)
    for edge in range(first, item(g.numbers, g.first + f + 1)):
        before, now = at.before + (edge - first) * g.n_values, at.messages + edge * g.n_values
        size, step = size_of(g, edge), 0.0
        for v in range(size):
            step = max(step, abs(np.float64(work[now + v, 0]) - np.float64(work[before + v, 0])))
        steps[edge - first] = step / size


@table_function
def sweep(work, at, g, c, way, options, queue):
    """As many renewals as a serial sweep has; the first sweep is one."""
    tree, steps = queue
    change, smallest = filled(work, 0.0), filled(work, 1.0)
    shares = filled(work, 1.0 - options.damping), filled(work, options.damping)
    serial = work[at.counts + SWEEPS, 0] == 0.0
    for u in range(g.n_updates):
        f = item(g.numbers, g.order + u) if serial else next_factor(tree)
        keep_messages(work, at, g, f)
        step, least = send(work, at, g, c, way, f, shares)
        change, smallest = maximum(step, change), minimum(least, smallest)
        find_steps(work, at, g, f, steps)
        pass_on(g, tree, steps, f, options.damping)
    end_sweep(work, at, options, maximum(change, tree[1]), smallest)


@kernel
def propagate(logits, label, results, model, settings, space, queue):
    """All rows of the batch, in at.total numbers of work: see ``run``."""
    (at, g, c), (options, limits), (numbers, lane_rows) = model, settings, space
    work = as_lanes(numbers)
    set_up(work, at)
    way = Way(at.messages, at.messages, limits[0])
    next_row = 0
    while True:
        next_row = give_rows(logits, label, results, (work, lane_rows), at, next_row)
        if lane_rows[0] == FREE:
            return
        load_priors(work, at, g, way, options.iterations)
        queue[0][:] = 0.0
        while work[at.counts + ACTIVE, 0] > 0.0:
            sweep(work, at, g, c, way, options, queue)
            if options.stopped[0]:
                return
        conclude(work, at, g, c, way)
        take_results(results, (work, lane_rows), at, g.log_scale + c.log_scale, limits[1])
