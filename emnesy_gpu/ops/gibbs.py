"""Annealed Gibbs chains on all-different groups: logits [batch, *symbols, K], label [batch] (1 valid, 0 not)."""

from __future__ import annotations

from torch import Tensor

from emnesy_gpu import checks
from emnesy_gpu.backends import kernels_for
from emnesy_gpu.inference.annealing import annealed_factors, annealing_sweeps
from emnesy_gpu.inference.given_label import given_label
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
    symbols, label = logits.flatten(1, -2).contiguous(), label.contiguous()
    annealing = annealing_sweeps(sweeps)
    factors, step = annealed_factors(sweeps, annealing, penalty, most_conflicts, logits.device), penalty / annealing
    chosen = factors, memberships, n_groups, chains, sweeps - sweeps // 2, seed, first_row
    kernels = kernels_for("gibbs", logits.device)
    valid, log_valid, satisfied, status = kernels.posterior(symbols, label, *chosen, step)
    if check:
        checks.raise_for_validity(status, logits, label)
    marginals, log_evidence, status = given_label(symbols, label, neighbours, valid, log_valid, status)
    return marginals.view(logits.shape), log_evidence, status, satisfied
