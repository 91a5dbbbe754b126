"""Loopy belief propagation with pairwise not-equal factors: logits [batch, *symbols, K], label [batch]."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from emnesy_gpu.backends import kernels_for
from emnesy_gpu.ops.registry import loopy_results, register
from emnesy_gpu.ops.validity import given_label, raise_for_status

Beliefs = tuple[Tensor, Tensor, Tensor, Tensor, Tensor]


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
    kernels = kernels_for("not_equal", logits.device)
    symbols = logits.flatten(1, -2).contiguous()
    valid, log_valid, status, sweeps, change = kernels.belief_propagation(
        symbols, label.contiguous(), neighbours, reverse, order, list(phases), iterations, damping, tolerance, maximise
    )
    if check:
        raise_for_status(status, logits, label)
    marginals, log_evidence, status = given_label(symbols, label, valid, log_valid, status)
    return marginals.view(logits.shape), log_evidence, status, sweeps, change


def _belief_propagation_fake(
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
    return loopy_results(logits)


register(
    "not_equal_belief_propagation(Tensor logits, Tensor label, Tensor neighbours, Tensor reverse, Tensor order,"
    " int[] phases, int iterations, float damping, float tolerance, bool maximise, bool check)"
    " -> (Tensor, Tensor, Tensor, Tensor, Tensor)",
    _belief_propagation,
    _belief_propagation_fake,
)
