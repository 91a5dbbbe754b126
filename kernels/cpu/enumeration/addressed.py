"""The posterior of few rows by the shortest way: ``circuit`` with arguments by their addresses."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from torch import Tensor

from emnesy_gpu.kernels.cpu.common.compile import kernel, lane_function
from emnesy_gpu.kernels.cpu.common.flat_tables import joined
from emnesy_gpu.kernels.cpu.common.lanes import as_lanes, kept_doubles
from emnesy_gpu.kernels.cpu.common.large_logits import any_beyond
from emnesy_gpu.kernels.cpu.common.pointers import numbers_at
from emnesy_gpu.kernels.cpu.common.row_driver import Combination
from emnesy_gpu.kernels.cpu.common.symbol_rows import row_status
from emnesy_gpu.kernels.cpu.enumeration.circuit import (
    Circuit,
    infer,
    kept_circuit,
    write_row,
)
from emnesy_gpu.kernels.status import POSSIBLE

ROWS_OF_ONE_LANE = 2
"""More rows take less time in all lanes together."""


class Flat(NamedTuple):
    """A circuit whose tables lie one after the other: few arguments cost a call least."""

    sizes: tuple[int, ...]  # leaves, inner and whole products
    smallest_evidence: float
    numbers: np.ndarray


def flat(assignments: Tensor, n_values: int) -> Flat:
    """The circuit of a list of assignments, kept with it."""

    def make(circuit: Circuit) -> Flat:
        tables = {name: getattr(circuit, name) for name in ("inner", "whole", "uses", "parent", "sibling")}
        sizes = circuit.n_leaves, len(circuit.inner), len(circuit.whole)
        return Flat(sizes, circuit.smallest_evidence, joined(tables, np.int64)[0])

    found: Flat = kept_circuit(assignments, n_values, Flat, make)
    return found


def run_at(
    addresses: list[int], shape: tuple[int, int, int], circuit: Flat, largest: float, *combination: float
) -> int:
    """Posterior or gradient, log evidence and status of rows by their addresses; 0, or how many rows are left.

    All rows are left where one has label 0, no posterior, too little evidence or a finite logit beyond +-largest.
    shape: of the logits.
    """
    work = kept_doubles(2 * (circuit.sizes[0] + 1 + circuit.sizes[1]) + 3, shape[0] <= ROWS_OF_ONE_LANE)
    return posterior(*addresses, *shape, largest, *combination, *circuit, work)


@lane_function
def rows_of(sizes):
    """Rows of values, for the sizes of a circuit."""
    return sizes[0] + 1 + sizes[1]


@lane_function
def circuit_at(sizes, smallest_evidence, numbers):
    """The tables of a circuit that lie one after the other."""
    n_leaves, n_inner, n_whole = sizes
    whole = 2 * n_inner
    uses = whole + 2 * n_whole
    parent = uses + n_leaves + n_inner + 2
    sibling = parent + 2 * (n_inner + n_whole)
    return Circuit(
        n_leaves,
        numbers[:whole].reshape(-1, 2),
        numbers[whole:uses].reshape(-1, 2),
        numbers[uses:parent],
        numbers[parent:sibling],
        numbers[sibling:],
        smallest_evidence,
    )


@kernel
def posterior(
    logits,
    label,
    marginals,
    log_evidence,
    status,
    batch,
    n,
    k,
    largest,
    prior_share,
    factor,
    sizes,
    smallest,
    numbers,
    work,
):
    """A lane of work for each row."""
    single, circuit, combination = np.float32(0), circuit_at(sizes, smallest, numbers), Combination(prior_share, factor)
    if any_beyond(numbers_at(logits, batch * n * k, single), np.float32(largest)):
        return batch
    logits = numbers_at(logits, batch * n * k, single).reshape(batch, n, k)
    marginals = numbers_at(marginals, batch * n * k, single).reshape(batch, n, k)
    label, log_evidence = numbers_at(label, batch, np.int64(0)), numbers_at(log_evidence, batch, single)
    status, rows = numbers_at(status, batch, np.uint8(0)), rows_of(sizes)
    values, derivatives = as_lanes(work[:rows]), as_lanes(work[rows : 2 * rows])
    evidence = as_lanes(work[2 * rows : 2 * rows + 3])
    for start in range(0, batch, values.shape[1]):
        infer(circuit, combination, logits, start, values, derivatives, evidence)
        for row in range(start, min(start + values.shape[1], batch)):
            possible = row_status(logits[row], label[row]) == POSSIBLE and label[row] == 1
            if not (possible and evidence[2, row - start] >= smallest):
                return batch
            log_evidence[row] = write_row(values, evidence, row - start, marginals[row])
            status[row] = POSSIBLE
    return 0
