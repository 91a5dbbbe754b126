"""Loopy belief propagation on factor graphs, on CPU tensors: the launch function.

Signature and meaning are those of ``reference.factor_graph``. Rows are independent, and have the same bits in any batch
and with any number of threads.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from emnesy_gpu.kernels.cpu.automaton.graph import FLOAT32, FLOAT64
from emnesy_gpu.kernels.cpu.common.belief_propagation import Beliefs, Options, new_options, propagate
from emnesy_gpu.kernels.cpu.common.flat_tables import KeptTables
from emnesy_gpu.kernels.cpu.common.lanes import FLOAT32_LANES
from emnesy_gpu.kernels.cpu.common.parallel import LARGEST_RANGE
from emnesy_gpu.kernels.cpu.common.propagation_calls import Call, on_arrays, on_few_rows
from emnesy_gpu.kernels.cpu.common.row_driver import Method, PropagationResults
from emnesy_gpu.kernels.cpu.factor_graph import factors_in_lanes, probabilities
from emnesy_gpu.kernels.cpu.factor_graph.waves import MOST_ROWS, waves
from emnesy_gpu.kernels.factor_graph_tables import FLOODING, RESIDUAL, FactorGraphTables

MESSAGE_COST = 0.5
"""Rough nanoseconds of an entry of a message in a sweep."""

ONE_LANE_COST = 20.0
"""The same where a row is alone in its lanes, and its factors are chosen."""


VARIABLE, UNARY = (FactorGraphTables._fields.index(name) for name in ("variable", "unary"))


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
    """The same for few float32 rows by the shortest way; None where ``few_beliefs`` has none."""
    call = None if maximise else call_of_few_rows(tables, schedule, len(logits))
    found = None if call is None else few_beliefs(call, logits, label, 0.0, iterations, damping, tolerance)
    if found is None:
        return None
    marginals, log_evidence, _, sweeps, change, _ = found
    return marginals, log_evidence, torch.zeros(len(logits), dtype=torch.uint8), sweeps, change


class FewRows(NamedTuple):
    """How rows of a number are computed by a schedule. cost: rough nanoseconds of a sweep of them all."""

    call: Call
    cost: float


def call_of_few_rows(tables: Sequence[Tensor], schedule: str, batch: int) -> FewRows | None:
    """None for more than FLOAT32_LANES rows, and by residuals."""
    if schedule == RESIDUAL or not 0 < batch <= FLOAT32_LANES:
        return None
    n_values = tables[UNARY].shape[1]
    return FewRows(_call_of(tables, schedule, batch, True), batch * _cost(tables, n_values, -1, schedule))


def few_beliefs(
    few: FewRows, logits: Tensor, label: Tensor, limit: float, *numbers: float
) -> tuple[Tensor, ...] | None:
    """Marginals [like logits], log evidence, possible, sweeps, change, and whether it is below a limit, all [batch].

    numbers: sweeps, damping and tolerance. None for other logits than float32, where there is much to do, or where a
    row has no posterior, little evidence or a logit beyond +-LARGEST_LOGIT.
    """
    if logits.dtype is not torch.float32 or few.cost * (numbers[0] + 2) > LARGEST_RANGE:
        return None
    return on_few_rows(few.call, logits, label, limit, *numbers)


def _cost(tables: Sequence[Tensor], n_values: int, iterations: int, schedule: str) -> float:
    """Rough nanoseconds of a row."""
    cost = ONE_LANE_COST if schedule == RESIDUAL else MESSAGE_COST
    return cost * (iterations + 2) * (tables[VARIABLE].shape[0] + 1) * n_values


_calls = KeptTables(watched=(1, 7))


def _call_of(tables: Sequence[Tensor], schedule: str, batch: int, single: bool) -> Call:
    """Sum-product with rows in the lanes, or for few rows with their factors, which gives the same bits."""
    found = waves(tables, schedule, FLOAT32 if single else FLOAT64) if batch <= MOST_ROWS else None
    if found is not None and batch <= found.fields.most_rows:
        return _calls.get(tables, (schedule, single, "factors"), lambda: factors_in_lanes.call_of(found, single))
    flooding = schedule == FLOODING
    return _calls.get(tables, (schedule, single), lambda: probabilities.call_of(tables, single, flooding))


def _in_probabilities(
    schedule: str,
    tables: Sequence[Tensor],
    options: Options,
    logits: np.ndarray,
    label: np.ndarray,
    results: PropagationResults,
) -> int:
    call = _call_of(tables, schedule, len(logits), logits.dtype == np.float32)
    return on_arrays(call, options, logits, label, results)
