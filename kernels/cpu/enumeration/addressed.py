"""The posterior of few rows by the shortest way: ``circuit`` with arguments by their addresses."""

from __future__ import annotations

import numpy as np
from numba import types
from torch import Tensor

from emnesy_gpu.kernels.cpu.common.compile import kernel
from emnesy_gpu.kernels.cpu.common.few_rows import Call
from emnesy_gpu.kernels.cpu.common.lane_scratch import kept_doubles
from emnesy_gpu.kernels.cpu.common.lanes import as_lanes
from emnesy_gpu.kernels.cpu.common.large_logits import any_beyond
from emnesy_gpu.kernels.cpu.common.parallel import most_of_one_range
from emnesy_gpu.kernels.cpu.common.pointers import numbers_at
from emnesy_gpu.kernels.cpu.common.records import record_of, record_reader
from emnesy_gpu.kernels.cpu.common.row_driver import Combination
from emnesy_gpu.kernels.cpu.common.symbol_rows import row_status
from emnesy_gpu.kernels.cpu.enumeration.circuit import (
    ASSIGNMENT_COST,
    Circuit,
    infer,
    kept_circuit,
    write_row,
)
from emnesy_gpu.kernels.logits import LARGEST_LOGIT
from emnesy_gpu.kernels.status import POSSIBLE

ROWS_OF_ONE_LANE = 2
"""More rows take less time in all lanes together."""


def call_of(assignments: Tensor, n_values: int) -> Call:
    """How few rows are computed for a list of assignments; kept with the list."""

    def make(circuit: Circuit) -> Call:
        record, most_rows = record_of(circuit), most_of_one_range(ASSIGNMENT_COST * assignments.numel())
        rows = 2 * (circuit.n_leaves + 1 + len(circuit.inner)) + 3  # values, derivatives and evidence

        def work(batch: int) -> np.ndarray:
            return kept_doubles(rows, batch <= ROWS_OF_ONE_LANE)

        return Call(posterior, most_rows, (record.address, n_values), work, record)

    found: Call = kept_circuit(assignments, n_values, Call, make)
    return found


circuit_at = record_reader(
    Circuit,
    inner=(types.int64, 2),
    whole=(types.int64, 2),
    uses=(types.int64, 1),
    parent=(types.int64, 1),
    sibling=(types.int64, 1),
)


@kernel
def posterior(logits, label, marginals, log_evidence, status, batch, prior_share, factor, circuit_address, k, work):
    """A lane of work for each row. All rows are left where one is not possible or has too little evidence."""
    single, combination = np.float32(0), Combination(prior_share, factor)
    circuit = circuit_at(circuit_address, single)
    n = circuit.n_leaves // k
    if any_beyond(numbers_at(logits, batch * n * k, single), np.float32(LARGEST_LOGIT)):
        return batch
    logits = numbers_at(logits, batch * n * k, single).reshape(batch, n, k)
    marginals = numbers_at(marginals, batch * n * k, single).reshape(batch, n, k)
    label, log_evidence = numbers_at(label, batch, np.int64(0)), numbers_at(log_evidence, batch, single)
    status, rows = numbers_at(status, batch, np.uint8(0)), circuit.n_leaves + 1 + len(circuit.inner)
    values, derivatives = as_lanes(work[:rows]), as_lanes(work[rows : 2 * rows])
    evidence = as_lanes(work[2 * rows : 2 * rows + 3])
    for start in range(0, batch, values.shape[1]):
        infer(circuit, combination, logits, start, values, derivatives, evidence)
        for row in range(start, min(start + values.shape[1], batch)):
            possible = row_status(logits[row], label[row]) == POSSIBLE and label[row] == 1
            if not (possible and evidence[2, row - start] >= circuit.smallest_evidence):
                return batch
            log_evidence[row] = write_row(values, evidence, row - start, marginals[row])
            status[row] = POSSIBLE
    return 0
