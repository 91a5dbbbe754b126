"""Loopy belief propagation with pairwise not-equal factors: logits [batch, *symbols, K], label [batch]."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from emnesy_gpu.inference.given_label import Beliefs, loopy_posterior
from emnesy_gpu.ops.registry import loopy_results, register


def _belief_propagation(
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
) -> Beliefs:
    graph, settings = (neighbours, reverse, order, list(phases)), (iterations, damping, tolerance, maximise)
    return loopy_posterior("not_equal", logits, label, graph, settings, check)


def _belief_propagation_fake(logits: Tensor, *_others: object) -> Beliefs:
    return loopy_results(logits)


register(
    "not_equal_belief_propagation(Tensor logits, Tensor label, Tensor neighbours, Tensor reverse, Tensor order,"
    " int[] phases, int iterations, float damping, float tolerance, bool maximise, bool check)"
    " -> (Tensor, Tensor, Tensor, Tensor, Tensor)",
    _belief_propagation,
    _belief_propagation_fake,
)
