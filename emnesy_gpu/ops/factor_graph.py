"""Belief propagation on factor graphs: logits [batch, *symbols, K], label [batch] (1 or -1, all factors hold).

tables: ``emnesy_gpu.kernels.factor_graph_tables.Compiled`` as a list.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from torch import Tensor

from emnesy_gpu import checks
from emnesy_gpu.backends import backend_for, kernels_for
from emnesy_gpu.inference.row_parts import in_parts, rows_of_a_part
from emnesy_gpu.kernels.status import IMPOSSIBLE, INVALID_LABEL
from emnesy_gpu.ops.registry import operator
from emnesy_gpu.ops.results import LoopyResults, MapResults, loopy_results, map_results
from emnesy_gpu.reference.decimation import cost_of_decimation
from emnesy_gpu.reference.factor_graph import log_joint, search


@operator(loopy_results, few_rows=lambda kernels, *arguments: kernels.few_rows(*arguments[:-1]))
def factor_graph_belief_propagation(
    logits: Tensor,
    label: Tensor,
    tables: Sequence[Tensor],
    iterations: int,
    damping: float,
    schedule: str,
    tolerance: float,
    maximise: bool,
    check: bool,
) -> LoopyResults:
    """Beliefs by messages of the factors: see ``emnesy_gpu.reference.factor_graph.belief_propagation``."""
    kernels, symbols = kernels_for("factor_graph", logits.device), logits.flatten(1, -2).contiguous()
    settings = iterations, damping, schedule, tolerance, maximise
    marginals, *others = kernels.belief_propagation(symbols, label.contiguous(), list(tables), *settings)
    if check:
        _raise_for_status(others[1], logits, label)
    return marginals.view(logits.shape), *others


@operator(map_results)
def factor_graph_map(logits: Tensor, label: Tensor, tables: Sequence[Tensor], check: bool) -> MapResults:
    """A most probable assignment by max-product belief propagation and decimation."""
    kernels, symbols = kernels_for("factor_graph", logits.device), logits.flatten(1, -2).contiguous()
    find, weigh = (
        partial(search, launch=kernels.belief_propagation),
        partial(log_joint, launch=kernels.belief_propagation),
    )
    if backend_for(logits.device) == "triton":
        find, weigh = kernels.search, kernels.log_joint

    def some_rows(first: int, last: int) -> tuple[Tensor, ...]:
        some = symbols[first:last]
        z, status = find(some, label[first:last].contiguous(), list(tables))
        joint, valid = weigh(some, z, status, list(tables))
        return z, joint, status, valid

    z, joint, status, valid = in_parts(some_rows, symbols, rows_of_a_part(symbols), cost_of_decimation(symbols))
    if check:
        _raise_for_status(status, logits, label)
    return z.view(logits.shape[:-1]), joint, status, valid


def _raise_for_status(status: Tensor, logits: Tensor, label: Tensor) -> None:
    highest = checks.highest(status)
    if highest == INVALID_LABEL:
        row = int((status == INVALID_LABEL).nonzero()[0])
        raise ValueError(f"label[{row}] must be 1 (all factors hold), or -1 (not given), got {int(label[row])}")
    if highest > IMPOSSIBLE:
        checks.raise_for_validity(status, logits, label)
