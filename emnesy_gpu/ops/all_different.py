"""Loopy belief propagation with all-different factors: logits [batch, *symbols, K], label [batch] (1 valid, 0 not)."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from emnesy_gpu import checks
from emnesy_gpu.backends import backend_for, kernels_for
from emnesy_gpu.inference.given_label import map_given_label
from emnesy_gpu.inference.row_parts import in_parts, rows_of_a_part
from emnesy_gpu.ops.loopy import loopy_posterior
from emnesy_gpu.ops.registry import operator
from emnesy_gpu.ops.results import LoopyResults, MapResults, loopy_results, map_results
from emnesy_gpu.reference.decimation import cost_of_decimation, decimate


@operator(loopy_results)
def all_different_belief_propagation(
    logits: Tensor,
    label: Tensor,
    neighbours: Tensor,
    groups: Tensor,
    phases: Sequence[int],
    iterations: int,
    damping: float,
    tolerance: float,
    maximise: bool,
    check: bool,
) -> LoopyResults:
    """Beliefs by messages of the groups: see ``emnesy_gpu.reference.all_different.belief_propagation``.

    neighbours: int32 [N, D], the variables that must differ from each variable, padded with -1.
    """
    graph, settings = (groups, list(phases)), (iterations, damping, tolerance, maximise)
    return loopy_posterior("all_different", logits, label, neighbours, graph, settings, check)


@operator(map_results)
def all_different_map(
    logits: Tensor, label: Tensor, groups: Tensor, phases: Sequence[int], pairs: Tensor, check: bool
) -> MapResults:
    """The most probable assignment by max-product belief propagation and decimation; exact given label 0.

    pairs: int64 [2, P], variables that must differ.
    """
    kernels = kernels_for("all_different", logits.device)
    symbols, label = logits.flatten(1, -2).contiguous(), label.contiguous()
    on_gpu, graph = backend_for(logits.device) == "triton", (groups, list(phases))

    def some_rows(first: int, last: int) -> tuple[Tensor, ...]:
        some = symbols[first:last], label[first:last]
        z, status = kernels.decimate(*some, *graph) if on_gpu else decimate(kernels.belief_propagation, *some, graph)
        return map_given_label(*some, pairs, z, status)

    z, log_joint, status, valid = in_parts(some_rows, symbols, rows_of_a_part(symbols), cost_of_decimation(symbols))
    if check:
        checks.raise_for_validity(status, logits, label)
    return z.view(logits.shape[:-1]), log_joint, status, valid
