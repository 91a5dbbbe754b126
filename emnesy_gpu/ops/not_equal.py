"""Loopy belief propagation with pairwise not-equal factors: logits [batch, *symbols, K], label [batch]."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from emnesy_gpu.ops.loopy import loopy_posterior
from emnesy_gpu.ops.registry import operator
from emnesy_gpu.ops.results import LoopyResults, loopy_results


@operator(loopy_results)
def not_equal_belief_propagation(
    logits: Tensor,
    label: Tensor,
    neighbours: Tensor,
    reverse: Tensor,
    order: Tensor,
    phases: Sequence[int],
    iterations: int,
    damping: float,
    tolerance: float,
    maximise: bool,
    check: bool,
) -> LoopyResults:
    """Beliefs by messages between neighbours: see ``emnesy_gpu.reference.not_equal.belief_propagation``."""
    graph, settings = (neighbours, reverse, order, list(phases)), (iterations, damping, tolerance, maximise)
    return loopy_posterior("not_equal", logits, label, neighbours, graph, settings, check)
