"""Few rows by the shortest way: ``linear`` and ``map`` for codes of labels, with all arguments by addresses."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import numpy as np
from numba import types
from torch import Tensor

from emnesy_gpu.kernels.circuit_tables import CircuitTables
from emnesy_gpu.kernels.cpu.circuit.linear import guard, sum_product, table
from emnesy_gpu.kernels.cpu.circuit.map import WORK_ROWS, map_rows
from emnesy_gpu.kernels.cpu.circuit.program import (
    LANES_COST,
    MAP_COST,
    MOST_BYTES,
    NODES,
    ROW_BYTES,
    Program,
    kept_circuits,
    nodes,
    row_cost,
    tape,
)
from emnesy_gpu.kernels.cpu.common.compile import kernel
from emnesy_gpu.kernels.cpu.common.few_rows import Call, new_assignment
from emnesy_gpu.kernels.cpu.common.lane_scratch import kept_lanes, kept_scratch
from emnesy_gpu.kernels.cpu.common.lanes import FLOAT64_LANES
from emnesy_gpu.kernels.cpu.common.parallel import most_of_one_range
from emnesy_gpu.kernels.cpu.common.pointers import matrix_at, numbers_at
from emnesy_gpu.kernels.cpu.common.records import record_of, record_reader
from emnesy_gpu.kernels.cpu.common.symbol_rows import count_left
from emnesy_gpu.kernels.cpu.label_rows import codes_of, known_rows, label_rows_at, scratch_rows


def call_of(tables: Sequence[Tensor], tape_rows: int, wide: bool) -> Call:
    """How few rows of a circuit are computed; kept with its tables."""
    found: Call = kept_circuits.get(tables, (Call, tape_rows, wide), lambda: _call_of(tables, tape_rows, wide))
    return found


def _call_of(tables: Sequence[Tensor], tape_rows: int, wide: bool) -> Call:
    p, codes = tape(tables, tape_rows), codes_of(CircuitTables(*tables).codes)
    record, lanes, most_rows = record_of(p), np.float64 if wide else np.float32, _most_rows(p, LANES_COST)
    # As many rows for every batch: to ask for the number takes a fiftieth of a call.
    rows = p.rows + scratch_rows(codes, most_rows)
    work = partial(table, rows, lanes) if wide else partial(kept_lanes, rows)
    return Call(posterior, most_rows, (*codes, record.address, guard(p, lanes)), work, record)


def map_call_of(tables: Sequence[Tensor]) -> Call:
    """How the most probable symbols of few rows are found; kept with the tables."""
    found: Call = kept_circuits.get(tables, (Call, NODES), lambda: _map_call_of(tables))
    return found


def _map_call_of(tables: Sequence[Tensor]) -> Call:
    p, codes = nodes(tables), codes_of(CircuitTables(*tables).codes)
    record, reached = record_of(p), p.rows + WORK_ROWS
    label_rows = reached + -(-p.rows // FLOAT64_LANES)

    def work(batch: int) -> np.ndarray:
        return kept_scratch(label_rows + scratch_rows(codes, batch))

    arguments = *codes, record.address, reached, label_rows
    return Call(most_probable, _most_rows(p, MAP_COST), arguments, work, record, new_assignment)


def _most_rows(p: Program, costs: tuple[float, float]) -> int:
    return most_of_one_range(row_cost(p, costs)) if p.rows * ROW_BYTES <= MOST_BYTES else 0


program_at = record_reader(Program, numbers=(types.int32, 1), terms=(types.int64, 1))


@kernel
def posterior(
    logits,
    label,
    marginals,
    log_evidence,
    status,
    batch,
    prior_share,
    factor,
    codes,
    n_entries,
    n_columns,
    program,
    smallest,
    work,
):
    """How many rows are left; all of them where a label is unknown or a row is not possible."""
    single = np.float32(0)
    p = program_at(program, single)
    rows, known = label_rows_at(work, p.rows, label, batch, (codes, n_entries, n_columns))
    if not known:
        return batch
    job = smallest, prior_share, factor
    left = sum_product(logits, marginals, log_evidence, status, rows, single, p, work, job)
    return left + count_left(numbers_at(status, batch, np.uint8(0)))


@kernel
def most_probable(
    logits,
    label,
    assignment,
    log_joint,
    status,
    batch,
    codes,
    n_entries,
    n_columns,
    program,
    first_reached,
    first_label,
    work,
):
    """The same of the most probable symbols, by ``map``; all also where a logit is too large.

    first_reached, first_label: the rows of scratch where its bits and the rows of the labels begin.
    """
    single = np.float32(0)
    p = program_at(program, single)
    n_logits = p.n * p.n_values
    rows, known = known_rows(work, first_label, logits, label, batch, n_logits, (codes, n_entries, n_columns))
    if not known:
        return batch
    logits, log_joint = matrix_at(logits, batch, n_logits, single), numbers_at(log_joint, batch, single)
    assignment, status = matrix_at(assignment, batch, p.n, np.int64(0)), numbers_at(status, batch, np.uint8(0))
    reached = numbers_at(work.ctypes.data + ROW_BYTES * first_reached, p.rows, np.int64(0))
    map_rows(logits, rows, assignment, log_joint, status, p, work, reached)
    return count_left(status)


# All arrays belong to the caller: to count references to them would cost more than a small circuit does.
for _kernel in (posterior, most_probable):
    _kernel.targetoptions["_nrt"] = False
