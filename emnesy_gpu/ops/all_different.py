"""Loopy belief propagation with all-different factors: logits [batch, *symbols, K], label [batch] (1 valid, 0 not)."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from emnesy_gpu import checks
from emnesy_gpu.backends import backend_for, kernels_for
from emnesy_gpu.inference.given_label import map_given_label
from emnesy_gpu.ops.loopy import loopy_posterior
from emnesy_gpu.ops.registry import operator
from emnesy_gpu.ops.results import LoopyResults, MapResults, loopy_results, map_results
from emnesy_gpu.reference.decimation import decimate


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
    symbols = logits.flatten(1, -2).contiguous()
    label, graph = label.contiguous(), (groups, list(phases))
    if backend_for(logits.device) == "triton":
        z, status = kernels.decimate(symbols, label, *graph)
    else:
        z, status = decimate(kernels.belief_propagation, symbols, label, graph)
    if check:
        checks.raise_for_validity(status, logits, label)
    z, log_joint, status, valid = map_given_label(symbols, label, pairs, z, status)
    return z.view(logits.shape[:-1]), log_joint, status, valid
