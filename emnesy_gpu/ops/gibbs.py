"""Annealed Gibbs chains on all-different groups: logits [batch, *symbols, K], label [batch] (1 valid, 0 not)."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from emnesy_gpu import checks
from emnesy_gpu.backends import kernels_for
from emnesy_gpu.inference.annealing import annealed_factors, annealing_sweeps
from emnesy_gpu.inference.given_label import given_label
from emnesy_gpu.ops.registry import operator
from emnesy_gpu.ops.results import ChainResults, chain_results


@operator(
    chain_results,
    few_rows=lambda kernels, logits, label, memberships, neighbours, *numbers: _in_order(
        kernels.few_rows(logits, label, *_told(memberships, *numbers[:-1]))
    ),
)
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
    told = _told(memberships, n_groups, most_conflicts, chains, sweeps, penalty, seed, first_row)
    valid, log_valid, satisfied, status = kernels_for("gibbs", logits.device).posterior(symbols, label, *told)
    if check:
        checks.raise_for_validity(status, logits, label)
    marginals, log_evidence, status = given_label(symbols, label, neighbours, valid, log_valid, status)
    return marginals.view(logits.shape), log_evidence, status, satisfied


def _told(
    memberships: Tensor,
    n_groups: int,
    most_conflicts: int,
    chains: int,
    sweeps: int,
    penalty: float,
    seed: int,
    first_row: int,
) -> tuple[Any, ...]:
    """What kernels are told about the chains, from the arguments of the operator."""
    annealing = annealing_sweeps(sweeps)
    factors = annealed_factors(sweeps, annealing, penalty, most_conflicts, memberships.device)
    return factors, memberships, n_groups, chains, sweeps - sweeps // 2, seed, first_row, penalty / annealing


def _in_order(results: ChainResults | None) -> ChainResults | None:
    """The results of kernels as those of the operator."""
    if results is None:
        return None
    marginals, log_evidence, satisfied, status = results
    return marginals, log_evidence, status, satisfied
