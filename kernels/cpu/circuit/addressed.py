"""The posterior of few rows by the shortest way: ``linear`` for codes of labels, with all arguments by addresses."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numba import types
from torch import Tensor

from emnesy_gpu.kernels.circuit_tables import CircuitTables
from emnesy_gpu.kernels.cpu.circuit.linear import guard, sum_product, table
from emnesy_gpu.kernels.cpu.circuit.program import (
    LANES_COST,
    MOST_BYTES,
    ROW_BYTES,
    Program,
    kept_circuits,
    row_cost,
    tape,
)
from emnesy_gpu.kernels.cpu.common.compile import kernel
from emnesy_gpu.kernels.cpu.common.few_rows import Call
from emnesy_gpu.kernels.cpu.common.parallel import most_of_one_range
from emnesy_gpu.kernels.cpu.common.pointers import numbers_at
from emnesy_gpu.kernels.cpu.common.records import record_of, record_reader
from emnesy_gpu.kernels.cpu.label_rows import codes_of, known_rows, scratch_rows
from emnesy_gpu.kernels.status import POSSIBLE


def call_of(tables: Sequence[Tensor], tape_rows: int, wide: bool) -> Call:
    """How few rows of a circuit are computed; kept with its tables."""
    found: Call = kept_circuits.get(tables, (Call, tape_rows, wide), lambda: _call_of(tables, tape_rows, wide))
    return found


def _call_of(tables: Sequence[Tensor], tape_rows: int, wide: bool) -> Call:
    p, codes = tape(tables, tape_rows), codes_of(CircuitTables(*tables).codes)
    record, lanes = record_of(p), np.float64 if wide else np.float32

    def work(batch: int) -> np.ndarray:
        return table(p.rows + scratch_rows(codes, batch), lanes, batch)

    most_rows = most_of_one_range(row_cost(p, LANES_COST)) if p.rows * ROW_BYTES <= MOST_BYTES else 0
    return Call(posterior, most_rows, (*codes, record.address, guard(p, lanes)), work, record)


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
    """How many rows are left; all of them where a label is unknown, a logit is too large or a row is not possible."""
    single = np.float32(0)
    p = program_at(program, single)
    rows, known = known_rows(work, p.rows, logits, label, batch, p.n * p.n_values, (codes, n_entries, n_columns))
    if not known:
        return batch
    job = smallest, prior_share, factor
    left = sum_product(logits, marginals, log_evidence, status, rows, single, p, work, job)
    for code in numbers_at(status, batch, np.uint8(0)):
        left += code != POSSIBLE
    return left


# All arrays belong to the caller: to count references to them would cost more than a small circuit does.
posterior.targetoptions["_nrt"] = False
