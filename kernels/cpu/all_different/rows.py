"""What the all-different kernels of either arithmetic share: rows of the batch into and out of lanes."""

from __future__ import annotations

from emnesy_gpu.kernels.cpu.all_different.graph import NEGLIGIBLE
from emnesy_gpu.kernels.cpu.common.compile import lane_function

# Rows of lanes that are filled together, so that they stay in the nearest cache.
CHUNK = 16


@lane_function
def row_of(work, rows, first, lane):
    """Lanes to spare repeat the last row."""
    return rows.chosen[min(first + lane, len(rows.chosen) - 1)]


@lane_function
def read_logits(work, at, rows, first):
    columns = at.n_variables * at.n_values
    for chunk in range(0, columns, CHUNK):
        for lane in range(work.shape[1]):
            row = row_of(work, rows, first, lane)
            for column in range(chunk, min(chunk + CHUNK, columns)):
                work[at.priors + column, lane] = rows.logits[row, column]


@lane_function
def write_marginals(work, at, rows, first):
    columns = at.n_variables * at.n_values
    for chunk in range(0, columns, CHUNK):
        for lane in range(min(work.shape[1], len(rows.chosen) - first)):
            row = rows.chosen[first + lane]
            for column in range(chunk, min(chunk + CHUNK, columns)):
                rows.marginals[row, column] = work[at.priors + column, lane]


@lane_function
def any_lane(work, row):
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
    for lane in range(work.shape[1]):
        negligible = rows.label[row_of(work, rows, first, lane)] == 0 and work[at.bound, lane] < NEGLIGIBLE
        if negligible and work[at.good, lane] > 0.0:
            work[at.active, lane] = work[at.wanted, lane] = 0.0
