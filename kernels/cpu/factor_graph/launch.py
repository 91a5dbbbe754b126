"""Loopy belief propagation on factor graphs, on CPU tensors: the launch function.

Signature and meaning are those of ``reference.factor_graph``. Rows are independent, and have the same bits in any batch
and with any number of threads.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import numpy as np
import torch
from torch import Tensor

from emnesy_gpu.kernels.cpu.automaton.graph import FLOAT32, FLOAT64
from emnesy_gpu.kernels.cpu.common.belief_propagation import Beliefs, Options, new_options, propagate
from emnesy_gpu.kernels.cpu.common.lanes import FLOAT32_LANES
from emnesy_gpu.kernels.cpu.common.parallel import LARGEST_RANGE
from emnesy_gpu.kernels.cpu.common.row_driver import Method, PropagationResults
from emnesy_gpu.kernels.cpu.factor_graph import factors_in_lanes, probabilities
from emnesy_gpu.kernels.cpu.factor_graph.rows_at import addresses_of_tensors
from emnesy_gpu.kernels.cpu.factor_graph.waves import MOST_ROWS, waves
from emnesy_gpu.kernels.factor_graph_tables import FLOODING, RESIDUAL, FactorGraphTables
from emnesy_gpu.kernels.logits import LARGEST_LOGIT

MESSAGE_COST = 0.5
"""Rough nanoseconds of an entry of a message in a sweep."""

ONE_LANE_COST = 20.0
"""The same where a row is alone in its lanes, and its factors are chosen."""


VARIABLE = FactorGraphTables._fields.index("variable")


def belief_propagation(
    logits: Tensor,
    label: Tensor,
    tables: Sequence[Tensor],
    iterations: int,
    damping: float,
    schedule: str,
    tolerance: float,
    maximise: bool,
) -> Beliefs:
    """Marginals [like logits], log evidence [batch], status [batch], sweeps [batch] and change [batch]."""
    from emnesy_gpu.kernels.cpu.factor_graph import log_space, residual

    options = new_options(iterations, damping, tolerance, maximise)
    methods = [Method(np.float64, partial(log_space.run, tables, options, schedule))]
    if not maximise:
        run = residual.run if schedule == RESIDUAL else partial(_in_probabilities, schedule)
        in_probabilities = partial(run, tables, options)
        methods = [Method(np.float32, in_probabilities), Method(np.float64, in_probabilities), *methods]
    return propagate(methods, options, logits, label, _cost(tables, logits.shape[2], iterations, schedule))


def few_rows(
    logits: Tensor,
    label: Tensor,
    tables: Sequence[Tensor],
    iterations: int,
    damping: float,
    schedule: str,
    tolerance: float,
    maximise: bool,
) -> Beliefs | None:
    """The same for up to FLOAT32_LANES float32 rows by the shortest way.

    None where there are more rows or much to do, or where a row has no posterior, little evidence or a logit beyond
    +-LARGEST_LOGIT.
    """
    batch = logits.shape[0]
    if maximise or schedule == RESIDUAL or not 0 < batch <= FLOAT32_LANES or logits.dtype is not torch.float32:
        return None
    if batch * _cost(tables, logits.shape[-1], iterations, schedule) > LARGEST_RANGE:
        return None
    logits, label = logits.contiguous(), label.contiguous()
    status, sweeps = torch.from_numpy(np.empty(batch, np.uint8)), torch.from_numpy(np.empty(batch, np.int32))
    results = torch.empty_like(logits), logits.new_empty(batch), status, sweeps, logits.new_empty(batch)
    addresses = addresses_of_tensors(logits, label, *results)
    numbers = iterations, float(damping), float(tolerance), LARGEST_LOGIT
    found = waves(tables, schedule, FLOAT32) if batch <= MOST_ROWS else None
    if found is not None and batch <= found.most_rows:
        left = factors_in_lanes.run_at(found, addresses, batch, True, numbers)
    else:
        left = probabilities.run_at(tables, addresses, batch, True, numbers, schedule == FLOODING)
    return None if left else results


def _cost(tables: Sequence[Tensor], n_values: int, iterations: int, schedule: str) -> float:
    """Rough nanoseconds of a row."""
    cost = ONE_LANE_COST if schedule == RESIDUAL else MESSAGE_COST
    return cost * (iterations + 2) * (tables[VARIABLE].shape[0] + 1) * n_values


def _in_probabilities(
    schedule: str,
    tables: Sequence[Tensor],
    options: Options,
    logits: np.ndarray,
    label: np.ndarray,
    results: PropagationResults,
) -> int:
    """Sum-product with rows in the lanes, or for few rows with their factors, which gives the same bits."""
    if len(logits) <= MOST_ROWS:
        found = waves(tables, schedule, FLOAT32 if logits.dtype == np.float32 else FLOAT64)
        if found is not None and len(logits) <= found.most_rows:
            return factors_in_lanes.run(found, options, logits, label, results)
    return probabilities.run(tables, options, logits, label, results, schedule == FLOODING)
