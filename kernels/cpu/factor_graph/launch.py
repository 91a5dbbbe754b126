"""Loopy belief propagation on factor graphs, on CPU tensors: the launch function.

Signature and meaning are those of ``reference.factor_graph``. Rows are independent, and have the same bits in any batch
and with any number of threads.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import numpy as np
from torch import Tensor

from emnesy_gpu.kernels.cpu.automaton.graph import FLOAT32, FLOAT64
from emnesy_gpu.kernels.cpu.common.belief_propagation import Beliefs, Options, new_options, propagate
from emnesy_gpu.kernels.cpu.common.row_driver import Method, PropagationResults
from emnesy_gpu.kernels.cpu.factor_graph.waves import waves
from emnesy_gpu.kernels.factor_graph_tables import FLOODING, RESIDUAL

MESSAGE_COST = 0.5
"""Rough nanoseconds of an entry of a message in a sweep."""

MOST_ROWS = 12
"""A row with its factors in lanes takes about a twelfth of what a block of rows takes, if factors fill the lanes."""

ONE_LANE_COST = 20.0
"""The same where a row is alone in its lanes, and its factors are chosen."""


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
    n_edges = len(tables[5])
    cost = (
        (ONE_LANE_COST if schedule == RESIDUAL else MESSAGE_COST) * (iterations + 2) * (n_edges + 1) * logits.shape[2]
    )
    return propagate(methods, options, logits, label, cost)


def _in_probabilities(
    schedule: str,
    tables: Sequence[Tensor],
    options: Options,
    logits: np.ndarray,
    label: np.ndarray,
    results: PropagationResults,
) -> int:
    """Sum-product with rows in the lanes, or for few rows with their factors, which gives the same bits."""
    from emnesy_gpu.kernels.cpu.factor_graph import factors_in_lanes, probabilities

    if len(logits) <= MOST_ROWS:
        found = waves(tables, schedule, FLOAT32 if logits.dtype == np.float32 else FLOAT64)
        if found is not None and len(logits) <= max(1.0, MOST_ROWS * found.share_of_lanes):
            return factors_in_lanes.run(found, tables, options, logits, label, results)
    return probabilities.run(tables, options, logits, label, results, schedule == FLOODING)
