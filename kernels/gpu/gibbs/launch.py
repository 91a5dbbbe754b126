"""Launches annealed Gibbs chains on a GPU; contracts as in emnesy_gpu.reference.gibbs.

Floating-point operations are not contracted, so that the chains are those of every other back end.
"""

from __future__ import annotations

import torch

from emnesy_gpu.kernels import launch_config
from emnesy_gpu.kernels.gpu.common.launch_options import rounded_twice
from emnesy_gpu.kernels.gpu.common.results import float_dtype
from emnesy_gpu.kernels.gpu.common.scalars import high_and_low, signed
from emnesy_gpu.kernels.gpu.gibbs.kernels import run_kernel
from emnesy_gpu.kernels.gpu.gibbs.rows import prior_kernel, results_kernel


def posterior(
    logits: torch.Tensor,
    label: torch.Tensor,
    factors: torch.Tensor,
    memberships: torch.Tensor,
    n_groups: int,
    chains: int,
    recorded: int,
    seed: int,
    first_row: int,
    step: float,
) -> tuple[torch.Tensor | None, ...]:
    """Marginals, log evidence, share of chains without a conflict, and status, by three kernels."""
    start, status = prior(logits, label)
    sums = run(start, factors, memberships, n_groups, chains, recorded, seed, first_row)
    return *results(logits, *sums, step, status), status


def prior(logits: torch.Tensor, label: torch.Tensor | None) -> tuple[torch.Tensor, torch.Tensor | None]:
    """The relative prior float32 [batch, n, K], and the status uint8 [batch] where there are labels."""
    batch, n, k = logits.shape
    result = torch.empty_like(logits, dtype=torch.float32, memory_format=torch.contiguous_format)
    status = None if label is None else logits.new_empty(batch, dtype=torch.uint8)
    tile, width = launch_config.symbol_tile(k)
    if batch > 0:
        with torch.cuda.device_of(logits):
            prior_kernel[(batch,)](
                logits.contiguous(), result if label is None else label, result, result if status is None else status,
                n, k, LABELLED=label is not None, TILE=tile, WIDTH=width, **rounded_twice(4, limit_registers=True),
            )  # fmt: skip
    return result, status


def results(
    logits: torch.Tensor,
    sums: torch.Tensor,
    annealing: torch.Tensor,
    final: torch.Tensor,
    step: float,
    status: torch.Tensor | None,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Marginals [batch, n, K]; log evidence and the share of chains that end without a conflict [batch]."""
    batch, n, k = logits.shape
    dtype = float_dtype(logits)
    marginals = torch.empty_like(logits, dtype=dtype, memory_format=torch.contiguous_format)
    log_evidence, satisfied = logits.new_empty(2, batch, dtype=dtype)
    tile, width = launch_config.symbol_tile(k)
    if batch > 0:
        with torch.cuda.device_of(logits):
            results_kernel[(batch,)](
                logits.contiguous(), sums, annealing, final, final if status is None else status, marginals,
                log_evidence, satisfied, n, k, annealing.shape[1], *high_and_low(step), LABELLED=status is not None,
                BLOCK=launch_config.GIBBS_CHAINS, TILE=tile, WIDTH=width, **rounded_twice(4, limit_registers=True),
            )  # fmt: skip
    return marginals, log_evidence, satisfied


def run(
    prior: torch.Tensor,
    factors: torch.Tensor,
    memberships: torch.Tensor,
    n_groups: int,
    chains: int,
    recorded: int,
    seed: int,
    first_row: int,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Marginals [batch, n, K]; conflicts of every chain [batch, chains], int64: summed over annealing, and final."""
    batch, n, k = prior.shape
    marginals = torch.zeros_like(prior)
    annealing, final = prior.new_empty(2, batch, chains, dtype=torch.int64)
    config = launch_config.gibbs(batch, chains, n, k, n_groups)
    scratch = torch.empty(config.programs * config.scratch, dtype=torch.int8, device=prior.device)
    if batch > 0:
        with torch.cuda.device_of(prior):
            run_kernel[(config.programs,)](
                prior, factors, memberships, marginals, annealing, final, scratch, batch, n, n_groups, chains,
                len(factors) - 1, recorded, factors.shape[1], config.scratch, signed(seed), first_row, K=k,
                DEGREE=memberships.shape[1], ROWS=config.rows, CHAINS=config.chains, **rounded_twice(1),
            )  # fmt: skip
    return marginals / (chains * recorded), annealing, final
