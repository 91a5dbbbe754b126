"""Loopy belief propagation with all-different factors: logits [batch, *symbols, K], label [batch] (1 valid, 0 not)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from emnesy_gpu.backends import kernels_for
from emnesy_gpu.inference.decimation import decimate
from emnesy_gpu.inference.given_label import POSSIBLE, Beliefs, loopy_posterior, map_given_label, raise_for_status
from emnesy_gpu.ops.registry import loopy_results, map_results, register, result_dtype


def _belief_propagation(
    logits: Tensor,
    label: Tensor,
    groups: Tensor,
    phases: Sequence[int],
    iterations: int,
    damping: float,
    tolerance: float,
    maximise: bool,
    check: bool,
) -> Beliefs:
    graph, settings = (groups, list(phases)), (iterations, damping, tolerance, maximise)
    return loopy_posterior("all_different", logits, label, graph, settings, check)


def _belief_propagation_fake(logits: Tensor, *_others: object) -> Beliefs:
    return loopy_results(logits)


def _map(
    logits: Tensor, label: Tensor, groups: Tensor, phases: Sequence[int], pairs: Tensor, check: bool
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    kernels = kernels_for("all_different", logits.device)
    symbols = logits.flatten(1, -2).contiguous()
    z, status = decimate(kernels, symbols, label.contiguous(), groups, list(phases))
    if check:
        raise_for_status(status, logits, label)
    log_prior = torch.log_softmax(symbols.to(result_dtype(logits)), -1)
    log_joint = log_prior.gather(-1, z[..., None]).flatten(1).sum(1)
    log_joint = log_joint.masked_fill(status != POSSIBLE, float("-inf"))
    z, log_joint, status = map_given_label(symbols, label, pairs, z, log_joint, status)
    holds = (z[:, pairs[0]] != z[:, pairs[1]]).all(1)
    return z.view(logits.shape[:-1]), log_joint, status, (holds == label) & (status == POSSIBLE)


def _map_fake(
    logits: Tensor, label: Tensor, groups: Tensor, phases: Sequence[int], pairs: Tensor, check: bool
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    return map_results(logits)


register(
    "all_different_belief_propagation(Tensor logits, Tensor label, Tensor groups, int[] phases, int iterations,"
    " float damping, float tolerance, bool maximise, bool check) -> (Tensor, Tensor, Tensor, Tensor, Tensor)",
    _belief_propagation,
    _belief_propagation_fake,
)
register(
    "all_different_map(Tensor logits, Tensor label, Tensor groups, int[] phases, Tensor pairs, bool check)"
    " -> (Tensor, Tensor, Tensor, Tensor)",
    _map,
    _map_fake,
)
