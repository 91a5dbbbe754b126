"""Annealed Gibbs chains on all-different groups: logits [batch, *symbols, K], label [batch] (1 valid, 0 not)."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from emnesy_gpu import checks
from emnesy_gpu.backends import kernels_for
from emnesy_gpu.inference.annealing import (
    annealed_evidence,
    annealed_factors,
    annealing_sweeps,
    mean_conditionals,
    relative_prior,
)
from emnesy_gpu.inference.given_label import given_label
from emnesy_gpu.kernels.status import POSSIBLE
from emnesy_gpu.ops.registry import operator
from emnesy_gpu.ops.results import ChainResults, chain_results


@operator(chain_results)
def gibbs_marginals(
    logits: Tensor,
    label: Tensor,
    memberships: Tensor,
    neighbours: Tensor,
    n_groups: int,
    most_conflicts: int,
    chains: int,
    sweeps: int,
    penalty: float,
    seed: int,
    first_row: int,
    check: bool,
) -> ChainResults:
    """Posterior by annealed chains that count the equal members of groups: see ``em.Gibbs``.

    memberships: int32 [N, D], the groups of each symbol, padded with -1.
    neighbours: int32 [N, E], the symbols that must differ from each symbol, padded with -1.
    most_conflicts: the largest number of conflicts of one symbol.
    """
    symbols = logits.flatten(1, -2).contiguous()
    status = checks.row_status(symbols, label, 2)
    if check:
        checks.raise_for_validity(status, logits, label)
    factors = annealed_factors(sweeps, annealing_sweeps(sweeps), penalty, most_conflicts, logits.device)
    kernels = kernels_for("gibbs", logits.device)
    sums, conflicts, final = kernels.run(
        relative_prior(symbols), factors, memberships, n_groups, chains, sweeps - sweeps // 2, seed, first_row
    )
    valid = mean_conditionals(sums, logits)
    broken = status > POSSIBLE
    if broken.device.type != "cpu" or bool(broken.any()):
        valid = torch.where(broken[:, None, None], torch.softmax(symbols.to(valid.dtype), -1), valid)
    log_valid = annealed_evidence(conflicts, penalty, sweeps)
    log_valid = torch.where(status == POSSIBLE, log_valid, -math.inf).to(valid.dtype)
    marginals, log_evidence, status = given_label(symbols, label.contiguous(), neighbours, valid, log_valid, status)
    return marginals.view(logits.shape), log_evidence, status, (final == 0).to(valid.dtype).mean(1)
