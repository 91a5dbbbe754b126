"""Runs annealed Gibbs chains on CPU tensors; the contract is in ``emnesy_gpu.reference.gibbs``."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from emnesy_gpu.kernels.cpu.common.compile import kernel
from emnesy_gpu.kernels.cpu.common.parallel import for_rows
from emnesy_gpu.kernels.cpu.common.row_driver import result_dtype
from emnesy_gpu.kernels.cpu.gibbs.chains import LANES, empty_workspace, half_of, named_chains, packing
from emnesy_gpu.kernels.cpu.gibbs.rows import Results, posterior_in

NANOSECONDS_PER_LOGIT, NANOSECONDS_PER_VALUE = 10.0, 1.5
"""Rough ones: of the prior, and of a draw."""


def posterior(
    logits: Tensor,
    label: Tensor,
    factors: Tensor,
    memberships: Tensor,
    n_groups: int,
    chains: int,
    recorded: int,
    seed: int,
    first_row: int,
    step: float,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Marginals, log evidence, share of chains without a conflict, status: all steps of the reference in one kernel."""
    batch, n, k = logits.shape
    dtype = result_dtype(logits)
    taken = logits.detach() if logits.dtype in (torch.float32, torch.float64) else logits.detach().float()
    symbols, labels = taken.numpy(), label.numpy()
    packed = tuple(packing(k, factors.shape[1] - 1 + memberships.shape[1]))
    # Plain tuples: telling the type of a named one takes longer.
    settings = (
        factors.numpy(),
        memberships.numpy(),
        n_groups,
        packed,
        chains,
        recorded,
        step,
        np.uint64(seed),
        first_row,
    )
    results = np.empty((batch, n, k), dtype), np.empty(batch, dtype), np.empty(batch, dtype), np.empty(batch, np.uint8)
    on_rows = posterior_few_rows if batch * chains <= LANES // 2 else posterior_rows

    def work(first: int, last: int) -> None:
        on_rows(symbols, labels, settings, results, first, last)

    cost = NANOSECONDS_PER_LOGIT * n * k + len(factors) * chains * n * k * NANOSECONDS_PER_VALUE
    for_rows(work, batch, max(1, LANES // chains), cost)
    marginals, log_evidence, satisfied, status = map(torch.from_numpy, results)
    return marginals, log_evidence, satisfied, status


@kernel
def posterior_rows(logits, label, chains, results, first, last):
    """See ``posterior_in``; chains and results are Chains and Results without names."""
    _, n, k = logits.shape
    named = named_chains(chains)
    posterior_in(logits, label, named, Results(*results), first, last, empty_workspace(n, k, named))


@kernel
def posterior_few_rows(logits, label, chains, results, first, last):
    """The same for chains that fit in half the lanes."""
    _, n, k = logits.shape
    named = named_chains(chains)
    posterior_in(logits, label, named, Results(*results), first, last, half_of(empty_workspace(n, k, named)))
