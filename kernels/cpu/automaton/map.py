"""The most probable symbols of an automaton given its label: max-product in float64 logarithms, one row at a time.

beta_{i-1}(s) = max over edges (s, c, t) of max P_i(c) w o_i(t) beta_i(t), where logits stand for log p: in float64 they
add up without rounding, so that assignments of equal probability tie exactly, in every back end. Walking from the first
position to the last, the smallest value of those that lead to the maximum is taken, and then the smallest state.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from torch import Tensor

from emnesy_gpu.kernels.automaton_tables import AutomatonTables
from emnesy_gpu.kernels.cpu.automaton.addressed import possible_rows
from emnesy_gpu.kernels.cpu.automaton.graph import LOG_COST, LOGARITHMS, graph, graph_at, row_cost
from emnesy_gpu.kernels.cpu.automaton.log_space import (
    filter_backwards,
    filter_block,
    log_seen,
    new_filter,
    read_scores,
)
from emnesy_gpu.kernels.cpu.automaton.screen import are_priors, find_possible_labels
from emnesy_gpu.kernels.cpu.common.compile import kernel, lane_function
from emnesy_gpu.kernels.cpu.common.few_rows import Call, new_assignment
from emnesy_gpu.kernels.cpu.common.flat_tables import item
from emnesy_gpu.kernels.cpu.common.lane_scratch import kept_doubles
from emnesy_gpu.kernels.cpu.common.lanes import FLOAT64_LANES
from emnesy_gpu.kernels.cpu.common.large_logits import any_beyond
from emnesy_gpu.kernels.cpu.common.parallel import most_of_one_range
from emnesy_gpu.kernels.cpu.common.pointers import matrix_at, numbers_at
from emnesy_gpu.kernels.cpu.common.priors import largest_logit, log_sum
from emnesy_gpu.kernels.cpu.common.records import record_of
from emnesy_gpu.kernels.cpu.common.symbol_rows import count_left
from emnesy_gpu.kernels.cpu.label_rows import codes_of, scratch_rows
from emnesy_gpu.kernels.logits import LARGEST_LOGIT
from emnesy_gpu.kernels.status import IMPOSSIBLE, POSSIBLE


@lane_function
def best_step(g, label_row, i, state, f, beta):
    """Value and next state of the best way on; f.priors are those of position i, beta follows it."""
    layer = item(g.numbers, g.layer + i)
    first = layer * (g.n_states + 1) + state
    best, value, target = -np.inf, 0, 0
    for v in range(g.n_values):
        c = item(g.numbers, g.classes + layer * g.n_values + v)
        for e in range(item(g.numbers, g.out_first + first), item(g.numbers, g.out_first + first + 1)):
            if item(g.numbers, g.out_class + e) == c:
                t = item(g.numbers, g.out_target + e)
                score = f.priors[v] + (g.weights[g.out_weight + e] + (log_seen(g, label_row, i, t) + beta[t]))
                if score > best:
                    best, value, target = score, v, t
    return value, target


@lane_function
def walk(logits, label_row, g, f, state, assignment):
    for b in range(len(f.ends)):
        if b > 0:
            filter_block(logits, label_row, g, b, f, True)
        start = b * f.block
        for i in range(start, min(g.n, start + f.block)):
            read_scores(logits[i], f.priors)
            assignment[i], state = best_step(g, label_row, i, state, f, f.betas[i + 1 - start])


@lane_function
def log_normaliser(logits):
    """The sum of log sum exp(logits) over all positions."""
    total = 0.0
    for i in range(len(logits)):
        largest = largest_logit(logits[i])
        total += largest + log_sum(logits[i], largest)
    return total


@kernel
def map_rows(logits, label_rows, assignment, log_joint, status, g):
    """logits float64 [batch, n, K], the status of the screen; g has logarithms."""
    f = new_filter(g)
    for row in range(len(logits)):
        log_joint[row] = -np.inf
        if status[row] == POSSIBLE:
            filter_backwards(logits[row], label_rows[row], g, f, True)
            # In float64 as the logits, of which the sum may exceed what is left of it by far.
            best, state = -np.inf, 0
            for s in range(g.n_states):
                if g.weights[g.start + s] + f.betas[0, s] > best:
                    best, state = g.weights[g.start + s] + f.betas[0, s], s
            if best == -np.inf:
                status[row] = IMPOSSIBLE
        if status[row] == POSSIBLE:
            log_joint[row] = best + (g.log_scale - log_normaliser(logits[row]))
            walk(logits[row], label_rows[row], g, f, state, assignment[row])
            continue
        for i in range(g.n):
            read_scores(logits[row, i], f.priors)
            assignment[row, i] = np.argmax(f.priors)


def map_call_of(tables: Sequence[Tensor]) -> Call:
    """How the most probable symbols of few rows are found."""
    g, codes = graph(tables, LOGARITHMS), codes_of(AutomatonTables(*tables).codes)
    if codes.n_entries <= 1:
        find_possible_labels(g, codes.n_entries)
    record = record_of(g)

    def work(batch: int) -> np.ndarray:
        return kept_doubles(-(-batch * g.n * g.n_values // FLOAT64_LANES) + scratch_rows(codes, batch), one_lane=False)

    most_rows = most_of_one_range(row_cost(g, LOG_COST))
    return Call(map_few_rows, most_rows, (*codes, record.address), work, record, new_assignment)


@kernel
def map_few_rows(logits, label, assignment, log_joint, status, batch, codes, n_entries, n_columns, graph_address, work):
    """``map_rows`` of few float32 rows by their addresses, in float64 scratch. Returns how many rows are left."""
    single, g = np.float32(0), graph_at(graph_address, work[0, 0])
    n_logits = batch * g.n * g.n_values
    first = (n_logits + work.shape[1] - 1) // work.shape[1]
    rows, good, _ = possible_rows(work, first, label, batch, (codes, n_entries, n_columns), graph_address)
    if not good or any_beyond(numbers_at(logits, n_logits, single), np.float32(LARGEST_LOGIT)):
        return batch
    values = numbers_at(work.ctypes.data, n_logits, 0.0)
    values[:] = numbers_at(logits, n_logits, single)
    values, status = values.reshape(batch, g.n, g.n_values), numbers_at(status, batch, np.uint8(0))
    for row in range(batch):
        if not are_priors(values[row]):
            return batch
        status[row] = POSSIBLE
    assignment, log_joint = matrix_at(assignment, batch, g.n, np.int64(0)), numbers_at(log_joint, batch, single)
    map_rows(values, rows, assignment, log_joint, status, g)
    return count_left(status)
