"""Loopy belief propagation with all-different factors: logits [batch, *symbols, K], label [batch] (1 valid, 0 not)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from emnesy_gpu import checks
from emnesy_gpu.backends import kernels_for
from emnesy_gpu.inference.decimation import decimate
from emnesy_gpu.inference.given_label import map_given_label
from emnesy_gpu.inference.results import result_dtype
from emnesy_gpu.kernels.status import POSSIBLE
from emnesy_gpu.ops.loopy import loopy_posterior
from emnesy_gpu.ops.registry import operator
from emnesy_gpu.ops.results import LoopyResults, MapResults, loopy_results, map_results


@operator(loopy_results)
def all_different_belief_propagation(
    logits: Tensor,
    label: Tensor,
    pairs: Tensor,
    groups: Tensor,
    phases: Sequence[int],
    iterations: int,
    damping: float,
    tolerance: float,
    maximise: bool,
    check: bool,
) -> LoopyResults:
    """Beliefs by messages of the groups: see ``emnesy_gpu.reference.all_different.belief_propagation``.

    pairs: int64 [2, P], variables that must differ.
    """
    graph, settings = (groups, list(phases)), (iterations, damping, tolerance, maximise)
    return loopy_posterior("all_different", logits, label, pairs, graph, settings, check)


@operator(map_results)
def all_different_map(
    logits: Tensor, label: Tensor, groups: Tensor, phases: Sequence[int], pairs: Tensor, check: bool
) -> MapResults:
    """The most probable assignment by max-product belief propagation and decimation; exact given label 0.

    pairs: int64 [2, P], variables that must differ.
    """
    kernels = kernels_for("all_different", logits.device)
    symbols = logits.flatten(1, -2).contiguous()
    z, status = decimate(kernels.belief_propagation, symbols, label.contiguous(), (groups, list(phases)))
    if check:
        checks.raise_for_validity(status, logits, label)
    log_prior = torch.log_softmax(symbols.to(result_dtype(logits)), -1)
    log_joint = log_prior.gather(-1, z[..., None]).flatten(1).sum(1)
    log_joint = log_joint.masked_fill(status != POSSIBLE, float("-inf"))
    z, log_joint, status = map_given_label(symbols, label, pairs, z, log_joint, status)
    holds = (z[:, pairs[0]] != z[:, pairs[1]]).all(1)
    return z.view(logits.shape[:-1]), log_joint, status, (holds == label) & (status == POSSIBLE)
