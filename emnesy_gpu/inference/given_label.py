"""The posterior given the label of each row, from the posterior given that all constraints hold (label 1)."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from emnesy_gpu.backends import small_kernels_for
from emnesy_gpu.checks import FEW_ROWS
from emnesy_gpu.inference.results import Marginals, per_row


def surely_valid(label: Tensor) -> bool:
    """Whether no row has label 0; False where the answer would synchronise a GPU."""
    if not label.is_cpu:
        return False
    if label.numel() > FEW_ROWS:
        return int(label.count_nonzero()) == label.shape[0]
    return 0 not in label.tolist()


def given_label(
    logits: Tensor, label: Tensor, neighbours: Tensor, valid: Tensor, log_valid: Tensor, status: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Marginals, log evidence and status given the label: see ``emnesy_gpu.reference.given_label``."""
    results = valid, log_valid, status
    if not surely_valid(label):
        results = small_kernels_for("given_label", label.device).given_label(logits, label, neighbours, results)
    return results


def given_one_of(parts: Sequence[Marginals], logits: Tensor) -> Marginals:
    """The posterior given that one of some events has happened, which exclude each other, from those given each.

    It is their mean, weighted by their evidence: nothing cancels. Without a possible event it is the prior.
    """
    total = logits.new_full(logits.shape[:1], -math.inf)
    if parts:
        total = torch.logsumexp(torch.stack([part.log_evidence for part in parts]), 0)
    possible = total > -math.inf
    mean = torch.where(per_row(possible, logits), 0.0, torch.softmax(logits, -1))
    for part in parts:
        share = torch.where(possible, part.log_evidence - total, -math.inf).exp()
        mean += per_row(share, logits) * part.marginals
    return Marginals(mean, total, possible)


def map_given_label(
    logits: Tensor, label: Tensor, pairs: Tensor, z: Tensor, status: Tensor, log_joint: Tensor | None = None
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """The most probable assignment, its log joint, status and whether it has the label, given the label.

    z, status, log_joint: those given label 1, which are used up. log_joint: computed if it is None; -inf where the
    status is not POSSIBLE.
    """
    kernels, arguments = small_kernels_for("given_label", label.device), (logits, label.contiguous(), pairs)
    results: tuple[Tensor, Tensor, Tensor, Tensor] = kernels.map_given_label(*arguments, z, status, log_joint)
    return results
