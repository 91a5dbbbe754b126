"""Loopy belief propagation on factor graphs, on CPU tensors: the launch function.

Signature and meaning are those of ``reference.factor_graph``. Rows are independent, and have the same bits in any batch
and with any number of threads.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import numpy as np
from torch import Tensor

from emnesy_gpu.kernels.cpu.common.belief_propagation import Beliefs, new_options, propagate
from emnesy_gpu.kernels.cpu.common.row_driver import Method
from emnesy_gpu.kernels.factor_graph_tables import FLOODING, RESIDUAL, held

MESSAGE_COST = 0.5
"""Rough nanoseconds of an entry of a message in a sweep."""

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
    from emnesy_gpu.kernels.cpu.factor_graph import log_space, probabilities, residual

    options = new_options(iterations, damping, tolerance, maximise)
    methods = [Method(np.float64, partial(log_space.run, tables, options, schedule))]
    if not maximise:
        run = residual.run if schedule == RESIDUAL else partial(probabilities.run, flooding=schedule == FLOODING)
        in_probabilities = partial(run, tables, options)
        methods = [Method(np.float32, in_probabilities), Method(np.float64, in_probabilities), *methods]
    n_edges = len(tables[5])
    cost = (
        (ONE_LANE_COST if schedule == RESIDUAL else MESSAGE_COST) * (iterations + 2) * (n_edges + 1) * logits.shape[2]
    )
    return propagate(methods, options, logits, held(label), cost)
