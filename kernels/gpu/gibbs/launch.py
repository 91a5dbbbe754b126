"""Launches annealed Gibbs chains on a GPU; contracts as in emnesy_gpu.reference.gibbs.

Floating-point operations are not contracted, so that the chains are those of every other back end.
"""

from __future__ import annotations

import torch

from emnesy_gpu.kernels import launch_config
from emnesy_gpu.kernels.gpu.common.launch_options import rounded_twice
from emnesy_gpu.kernels.gpu.common.scalars import signed
from emnesy_gpu.kernels.gpu.gibbs.kernels import run_kernel


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
    annealing = torch.zeros(batch, chains, dtype=torch.int64, device=prior.device)
    final = torch.zeros_like(annealing)
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
