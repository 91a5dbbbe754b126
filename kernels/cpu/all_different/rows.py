"""What the all-different kernels of either arithmetic share: rows of the batch into and out of lanes."""

from __future__ import annotations

from emnesy_gpu.kernels.cpu.all_different.graph import NEGLIGIBLE, Rows
from emnesy_gpu.kernels.cpu.common.compile import lane_function

COLUMNS_AT_A_TIME = 16
"""Logits of a row that are copied before those of the next lane: the rows of lanes stay in the nearest cache."""


@lane_function
def rows_of(logits, label, results, order):
    """The rows of a batch in some order, of logits and marginals [batch, n_variables, n_values]."""
    batch, n, k = logits.shape
    flat, marginals = logits.reshape(batch, n * k), results.marginals.reshape(batch, n * k)
    others = results.log_evidence, results.status, results.sweeps, results.change
    return Rows(order, flat, label, marginals, *others)


@lane_function
def row_of(work, rows, first, lane):
    """Lanes to spare repeat the last row."""
    return rows.chosen[min(first + lane, len(rows.chosen) - 1)]


@lane_function
def read_logits(work, at, rows, first):
    """The logits of as many rows as there are lanes, from row ``first`` of those chosen, where the priors will be."""
    columns = at.n_variables * at.n_values
    for start in range(0, columns, COLUMNS_AT_A_TIME):
        for lane in range(work.shape[1]):
            row = row_of(work, rows, first, lane)
            for column in range(start, min(start + COLUMNS_AT_A_TIME, columns)):
                work[at.priors + column, lane] = rows.logits[row, column]


@lane_function
def write_marginals(work, at, rows, first):
    """The marginals of the same rows, which have taken the place of the priors."""
    columns = at.n_variables * at.n_values
    for start in range(0, columns, COLUMNS_AT_A_TIME):
        for lane in range(min(work.shape[1], len(rows.chosen) - first)):
            row = rows.chosen[first + lane]
            for column in range(start, min(start + COLUMNS_AT_A_TIME, columns)):
                rows.marginals[row, column] = work[at.priors + column, lane]


@lane_function
def any_lane(work, row):
    """Whether some lane of a row of work [rows, lanes] is positive."""
    return work[row].max() > 0.0


@lane_function
def free_placements(at, graph, g):
    """Ways to place the members that pad a factor."""
    product = 1.0
    for i in range(2, at.side - graph.sizes[g] + 1):
        product *= i
    return product


@lane_function
def stop_negligible(work, at, rows, first):
    """Rows with label 0 that are almost surely not valid keep their priors: nothing more is to be done for them."""
    for lane in range(work.shape[1]):
        negligible = rows.label[row_of(work, rows, first, lane)] == 0 and work[at.bound, lane] < NEGLIGIBLE
        if negligible and work[at.good, lane] > 0.0:
            work[at.active, lane] = work[at.wanted, lane] = 0.0
