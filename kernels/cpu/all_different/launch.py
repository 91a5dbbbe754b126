"""Loopy belief propagation with all-different factors, on CPU tensors: the launch function.

Signature and meaning are those of ``reference.all_different``. Rows are independent, and have the same bits in any
batch and with any number of threads.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import numpy as np
import torch
from torch import Tensor

from emnesy_gpu.kernels.cpu.all_different import probabilities
from emnesy_gpu.kernels.cpu.all_different.graph import Plan, plan_of
from emnesy_gpu.kernels.cpu.common.belief_propagation import Beliefs, Options, new_options, propagate
from emnesy_gpu.kernels.cpu.common.lanes import FLOAT32_LANES
from emnesy_gpu.kernels.cpu.common.parallel import LARGEST_RANGE
from emnesy_gpu.kernels.cpu.common.propagation_calls import on_arrays, on_few_rows
from emnesy_gpu.kernels.cpu.common.row_driver import Method, PropagationResults

LARGEST_N_VALUES = 16
"""The sums over subsets of values take 2^K steps and 2^K * 64 bytes."""


def belief_propagation(
    logits: Tensor,
    label: Tensor,
    groups: Tensor,
    phases: Sequence[int],
    iterations: int,
    damping: float,
    tolerance: float,
    maximise: bool,
) -> Beliefs:
    """Marginals [like logits], log evidence [batch], status [batch], sweeps [batch] and change [batch]."""
    from emnesy_gpu.kernels.cpu.all_different import wide_exponents

    plan, options = _plan_of(logits, groups, phases), new_options(iterations, damping, tolerance, maximise)
    in_probabilities = partial(_in_probabilities, plan, options)
    methods = [
        Method(np.float32, in_probabilities),
        Method(np.float64, in_probabilities),
        Method(np.float64, partial(wide_exponents.run, plan, options)),
    ]
    return propagate(methods, options, logits, label, row_cost(plan, iterations))


def few_beliefs(
    logits: Tensor,
    label: Tensor,
    graph: tuple[Tensor, Sequence[int]],
    limit: float,
    iterations: int,
    damping: float,
    tolerance: float,
) -> tuple[Tensor, ...] | None:
    """Sum-product on few float32 rows [batch, *symbols, K] by the shortest way: see ``on_few_rows``.

    None where there is much to do, or where a row has label 0, no posterior, little evidence or a logit beyond
    +-LARGEST_LOGIT. graph: the groups and their phases.
    """
    batch = logits.shape[0]
    if logits.dtype is not torch.float32 or not 0 < batch <= FLOAT32_LANES or 0 in label.tolist():
        return None
    plan = _plan_of(logits, *graph)
    if batch * row_cost(plan, iterations) > LARGEST_RANGE:
        return None
    call = probabilities.call_of(plan, np.float32, False, batch)
    return on_few_rows(call, logits, label, limit, iterations, damping, tolerance)


def row_cost(plan: Plan, iterations: int) -> float:
    """Rough nanoseconds."""
    return 0.15 * (iterations + 1) * len(plan.graph.sizes) * plan.at.n_values * 2**plan.at.n_values


def _plan_of(logits: Tensor, groups: Tensor, phases: Sequence[int]) -> Plan:
    n_values = logits.shape[-1]
    if n_values > LARGEST_N_VALUES:
        raise ValueError(
            f'all-different factors take at most {LARGEST_N_VALUES} values, got {n_values}: use factors="pairwise"'
        )
    return plan_of(groups.numpy(), phases, logits.shape[1:-1].numel(), n_values)


def _in_probabilities(
    plan: Plan, options: Options, logits: np.ndarray, label: np.ndarray, results: PropagationResults
) -> int:
    call = probabilities.call_of(plan, logits.dtype.type, options.maximise, len(logits))
    return on_arrays(call, options, logits, label, results)
